//! Changes on their way to the writer: encoded by whoever asks, so that the one thread that
//! writes has little left to do.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use crc32c::crc32c;
use tokio::sync::oneshot;
use waypost_mail::{Body, Entry, IncomingFile, MessageId, RecipientState, Timestamp, ledger};

use crate::content::{LARGE, body_file, checksum};
use crate::disk::Disk;
use crate::fault::{FaultPoint, Faults};
use crate::record::{BodyPlace, Fact, Kind, MessageMeta, Meta, Record, Settlement};
use crate::{Arrival, Change, Detours, SpoolError};

/// A change ready to be written, and who waits for it.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) work: Work,
    /// Present but while it is being written.
    pub(crate) record: Option<Record>,
    /// The file of the large body the record names; removed with this, unless it is kept.
    pub(crate) body: Option<IncomingFile>,
    pub(crate) answer: oneshot::Sender<Result<(), SpoolError>>,
}

impl Job {
    /// Answers that it cannot be. What it brought is gone before anybody hears of it.
    pub(crate) fn refuse(self, error: SpoolError) {
        drop(self.body);
        // Whoever asked may be gone.
        let _ = self.answer.send(Err(error));
    }
}

/// What a record changes.
#[derive(Debug)]
pub(crate) enum Work {
    /// A message arrives, with facts of the ledger; absent once it has.
    Accept(Option<Entry>, Vec<Fact>),
    Settle {
        id: MessageId,
        states: Vec<(u32, RecipientState)>,
        detours: Detours,
        notice: Option<Entry>,
    },
    Remove(MessageId),
    Keep(Fact),
}

/// A change in the form the writer takes.
pub(crate) type Encoded = (Work, Record, Option<IncomingFile>);

/// Makes records. Reads and moves files of large bodies: not for an async thread when
/// [`Encoder::is_quick`] says no.
#[derive(Debug, Clone)]
pub(crate) struct Encoder {
    pub(crate) seal: u64,
    pub(crate) now: Timestamp,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) bodies: PathBuf,
    pub(crate) faults: Faults,
}

impl Encoder {
    /// True when no file has to be read or moved.
    pub(crate) fn is_quick(change: &Change) -> bool {
        let quick = |arrival: &Arrival| match &arrival.body {
            Body::Memory(bytes) => bytes.len() as u64 <= LARGE,
            Body::File { .. } => false,
        };
        match change {
            Change::Accept(arrival) => quick(arrival),
            Change::Settle { notice, .. } => notice.as_deref().is_none_or(quick),
            Change::Administer { .. } | Change::Remove { .. } => true,
        }
    }

    /// Octets of a body that making the record reads from a file into memory.
    pub(crate) fn reads(change: &Change) -> u64 {
        let read = |arrival: &Arrival| match &arrival.body {
            Body::File { len, .. } if *len <= LARGE => *len,
            _ => 0,
        };
        match change {
            Change::Accept(arrival) => read(arrival),
            Change::Settle { notice, .. } => notice.as_deref().map_or(0, read),
            Change::Administer { .. } | Change::Remove { .. } => 0,
        }
    }

    /// The work and the record of a change.
    pub(crate) fn encode(&self, change: Change) -> Result<Encoded, SpoolError> {
        match change {
            Change::Accept(arrival) => self.accept(*arrival),
            Change::Settle { id, states, detours, notice } => {
                self.settle(Kind::Done, id, states, detours, notice)
            }
            Change::Administer { id, states } => {
                self.settle(Kind::State, id, states, Detours::default(), None)
            }
            Change::Remove { id } => {
                Ok((Work::Remove(id), Record::tomb(self.seal, id, self.now), None))
            }
        }
    }

    /// The facts stand in the message's own record, so that no torn write parts them from it, and in
    /// records of the ledger behind it, which are those that outlive it.
    fn accept(&self, mut arrival: Arrival) -> Result<Encoded, SpoolError> {
        let id = arrival.entry.id;
        let facts = std::mem::take(&mut arrival.facts);
        if facts.iter().any(ledger::Fact::is_too_long) {
            let why = "a fact that comes with it is too long for the ledger";
            return Err(SpoolError::Damaged(id, why.to_owned()));
        }
        let (meta, content, body) = self.place(arrival)?;
        if facts.is_empty() {
            let record = self.record(Kind::Message, id, &meta, content)?;
            return Ok((Work::Accept(Some(meta.entry), Vec::new()), record, body));
        }
        let all = (meta, facts.into_iter().map(Fact::from).collect::<Vec<_>>());
        let mut record = self.record(Kind::Message, id, &all, content)?;
        record.set_brings_facts();
        let (meta, facts) = all;
        Ok((Work::Accept(Some(meta.entry), facts), record, body))
    }

    fn settle(
        &self,
        kind: Kind,
        id: MessageId,
        states: Vec<(u32, RecipientState)>,
        detours: Detours,
        notice: Option<Box<Arrival>>,
    ) -> Result<Encoded, SpoolError> {
        let (notice, content, body) = match notice {
            Some(arrival) => {
                let (meta, content, body) = self.place(*arrival)?;
                (Some(meta), content, body)
            }
            None => (None, [Bytes::new(), Bytes::new()], None),
        };
        let meta = Settlement { states, detours, notice };
        let record = self.record(kind, id, &meta, content)?;
        let Settlement { states, detours, notice } = meta;
        let notice = notice.map(|meta| meta.entry);
        Ok((Work::Settle { id, states, detours, notice }, record, body))
    }

    /// The record of a fact of the ledger.
    pub(crate) fn fact(&self, fact: &Fact) -> Option<Record> {
        let nothing = [Bytes::new(), Bytes::new()];
        Record::new(self.seal, Kind::Ledger, MessageId(0), self.now, fact, nothing)
    }

    fn record<M: Meta>(
        &self,
        kind: Kind,
        id: MessageId,
        meta: &M,
        content: [Bytes; 2],
    ) -> Result<Record, SpoolError> {
        let record = Record::new(self.seal, kind, id, self.now, meta, content);
        record.ok_or_else(|| SpoolError::Damaged(id, "it is larger than a record can be".into()))
    }

    /// Decides where the body goes: into the record, or into a file of its own.
    fn place(
        &self,
        arrival: Arrival,
    ) -> Result<(MessageMeta, [Bytes; 2], Option<IncomingFile>), SpoolError> {
        let Arrival { entry, header, body, .. } = arrival;
        let id = entry.id;
        let failed = |error: io::Error| storage_error(&error, id);
        let inline = |bytes| (BodyPlace::Inline, bytes, None);
        let (place, bytes, file) = match body {
            Body::Memory(bytes) if bytes.len() as u64 <= LARGE => inline(bytes),
            Body::Memory(bytes) => self.write_body(id, &bytes).map_err(failed)?,
            Body::File { file, offset, len } if len <= LARGE => {
                inline(self.read_part(&file, offset, len).map_err(failed)?)
            }
            Body::File { file, offset, len } => {
                self.move_body(id, file, offset, len).map_err(failed)?
            }
        };
        Ok((MessageMeta { entry, body: place }, [header, bytes], file))
    }

    fn write_body(
        &self,
        id: MessageId,
        bytes: &Bytes,
    ) -> io::Result<(BodyPlace, Bytes, Option<IncomingFile>)> {
        let path = body_file(&self.bodies, id);
        let out = self.disk.create(&path, true)?;
        let file = IncomingFile::new(path);
        out.append_all(bytes)?;
        out.sync_all()?;
        self.disk.sync_dir(&self.bodies)?;
        self.faults.hit(FaultPoint::BodyMoved)?;
        let place = BodyPlace::File { offset: 0, len: bytes.len() as u64, crc: crc32c(bytes) };
        Ok((place, Bytes::new(), Some(file)))
    }

    fn move_body(
        &self,
        id: MessageId,
        file: IncomingFile,
        offset: u64,
        len: u64,
    ) -> io::Result<(BodyPlace, Bytes, Option<IncomingFile>)> {
        let open = self.disk.open(file.path())?;
        let crc = checksum(&*open, offset, len, 0)?;
        open.sync_all()?;
        let path = body_file(&self.bodies, id);
        // Unlike a rename this never takes the place of another message's body; the old name goes
        // with `file`.
        self.disk.link(file.path(), &path)?;
        let file = IncomingFile::new(path);
        self.disk.sync_dir(&self.bodies)?;
        self.faults.hit(FaultPoint::BodyMoved)?;
        Ok((BodyPlace::File { offset, len, crc }, Bytes::new(), Some(file)))
    }

    fn read_part(&self, file: &IncomingFile, offset: u64, len: u64) -> io::Result<Bytes> {
        let mut bytes = vec![0; len as usize];
        self.disk.open(file.path())?.read_exact_at(&mut bytes, offset)?;
        Ok(Bytes::from(bytes))
    }
}

/// A full disk refuses one message, and so do a lack of descriptors or memory, as nothing is
/// appended yet, and a file that is not as its owner says; anything else is a failure.
fn storage_error(error: &io::Error, id: MessageId) -> SpoolError {
    use io::ErrorKind::{AlreadyExists, NotFound, QuotaExceeded, StorageFull, UnexpectedEof};
    use nix::libc::{EMFILE, ENFILE, ENOMEM};
    if matches!(error.raw_os_error(), Some(EMFILE | ENFILE | ENOMEM)) {
        return SpoolError::NoSpace;
    }
    match error.kind() {
        StorageFull | QuotaExceeded => SpoolError::NoSpace,
        AlreadyExists | NotFound | UnexpectedEof => {
            SpoolError::Damaged(id, format!("keeping its body: {error}"))
        }
        _ => SpoolError::Failed(format!("keeping the body of {id}: {error}").into()),
    }
}
