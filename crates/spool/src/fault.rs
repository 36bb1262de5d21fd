//! Places where tests make the spool fail or end the process.

use std::fmt;
use std::io;
use std::sync::Arc;

/// A step of the one order in which everything is made durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FaultPoint {
    /// Before a full segment is followed by a new one.
    Roll,
    /// A full segment was followed, its digest is not written.
    Digest,
    /// Its digest is written and not synced.
    Digested,
    /// Before records are appended.
    Append,
    /// Records are appended and not synced.
    Appended,
    /// Before the log is synced.
    Sync,
    /// The log is synced, sled knows nothing.
    Synced,
    /// Readers see it, sled knows nothing, nobody has an answer.
    Applied,
    /// sled was given what came together since the last time, and is not flushed.
    Given,
    /// sled is flushed, as happens now and then.
    Flushed,
    /// Before a segment is removed.
    RemoveSegment,
    /// A large body stands under its final name, its record is not written.
    BodyMoved,
}

type Hook = dyn Fn(FaultPoint) -> io::Result<()> + Send + Sync;

/// What happens at the [`FaultPoint`]s: nothing, unless a test says otherwise.
#[derive(Clone, Default)]
pub struct Faults(Option<Arc<Hook>>);

impl Faults {
    /// Calls `hook` at every point; its error is treated as the disk's.
    pub fn new(hook: impl Fn(FaultPoint) -> io::Result<()> + Send + Sync + 'static) -> Faults {
        Faults(Some(Arc::new(hook)))
    }

    pub(crate) fn hit(&self, point: FaultPoint) -> io::Result<()> {
        self.0.as_ref().map_or(Ok(()), |hook| hook(point))
    }
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Faults(on)" } else { "Faults(none)" })
    }
}
