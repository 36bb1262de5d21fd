//! A slow look at what was written long ago. A start reads the digests of finished segments and not the segments
//! themselves, so that damage in one would stay unknown until somebody wants what is there.

use std::time::Duration;

use tokio::time::Instant;

use crate::segment::{self, Health, Item, Scan};
use crate::writer::Writer;

/// Octets looked at in a second.
const STEP: u64 = 2 * 1024 * 1024;
/// Between two looks at the whole log.
const REST: Duration = Duration::from_secs(24 * 3600);

/// Where the look has come to.
#[derive(Debug, Default)]
pub(crate) struct Scrub {
    /// The last segment that was begun.
    number: u32,
    scan: Option<Scan>,
    /// When all of the log had been looked at.
    ended: Option<Instant>,
}

impl Writer {
    /// Looks at some more. What is damaged is told and counted, nothing is changed: a message is held when its
    /// turn comes, and `spool repair` mends the rest.
    pub(crate) fn scrub(&mut self) {
        let mut scrub = std::mem::take(&mut self.tidying.scrub);
        if scrub.ended.is_none_or(|ended| ended.elapsed() >= REST) {
            self.scrub_some(&mut scrub);
        }
        self.tidying.scrub = scrub;
    }

    fn scrub_some(&mut self, scrub: &mut Scrub) {
        let mut scan = match scrub
            .scan
            .take()
            .map_or_else(|| self.next_scan(scrub), |s| Ok(Some(s)))
        {
            Ok(Some(scan)) => scan,
            Ok(None) => {
                *scrub = Scrub { ended: Some(Instant::now()), ..Scrub::default() };
                return;
            }
            Err(error) => {
                let segment = scrub.number;
                return tracing::warn!(segment, %error, "a segment of the log cannot be looked at now");
            }
        };
        let mut looked = 0;
        while looked < STEP {
            match scan.next() {
                Ok(Some(item)) => looked += self.look_at(&item),
                Ok(None) => return,
                Err(error) => {
                    let segment = scrub.number;
                    tracing::warn!(segment, %error, "a segment of the log cannot be looked at now");
                    return;
                }
            }
        }
        scrub.scan = Some(scan);
    }

    /// A scan of the next finished segment; absent after the last.
    fn next_scan(&self, scrub: &mut Scrub) -> std::io::Result<Option<Scan>> {
        let Some(number) = self.log.finished_after(scrub.number) else { return Ok(None) };
        scrub.number = number;
        let file = self.shared.disk.open(&segment::file_of(&self.shared.log_dir, number))?;
        Scan::new(file, number, self.log.seal(), true).map(Some)
    }

    /// Answers how many octets it takes.
    fn look_at(&mut self, item: &Item) -> u64 {
        let (at, len, message) = match item {
            Item::Record { place, header, health, .. } => {
                (place.at, place.len, (*health != Health::Sound).then_some(header.id.0))
            }
            Item::Gap { from, len } => (*from, *len, Some(0)),
        };
        self.shared.metrics.scrubbed.inc_by(len);
        if let Some(message) = message {
            let (segment, offset) = (at.segment, at.offset);
            self.shared.metrics.damaged.inc();
            self.log.mark_damaged(segment);
            tracing::error!(
                segment, offset, len, message = %waypost_mail::MessageId(message),
                "the log is damaged: stop the relay and run `waypost spool check`"
            );
        }
        len
    }
}
