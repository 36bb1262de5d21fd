//! One record of the log: a header that can be found and trusted by itself, then a payload.
//!
//! ```text
//!  0  magic       4 octets, the same in every spool
//!  4  seal        8 random octets of this spool: mail cannot contain what looks like a record
//! 12  version, kind, 1 when it is the first of its group, 1 when facts follow the message's meta
//! 16  message id  8
//! 24  time        8, milliseconds since 1970
//! 32  meta length 4, the part of the payload that is postcard
//! 36  payload length 4
//! 40  crc32c of the meta part
//! 44  crc32c of octets 0 to 43
//! 48  payload: meta, then header and body of a message
//!  …  crc32c of the payload
//! ```
//!
//! Numbers are little-endian. A group is written and synced at once: when its first record is
//! written, everything before it is on the disk.

use bytes::Bytes;
use crc32c::{crc32c, crc32c_append};
use serde::{Deserialize, Serialize};
use waypost_mail::{Entry, MessageId, RecipientState, Timestamp, ledger};

use crate::digest::{Note, Says};
use crate::{Detours, legacy};

/// Octets of a record before its payload.
pub(crate) const HEADER_LEN: usize = 48;
/// Octets after its payload.
pub(crate) const TRAILER_LEN: usize = 4;
/// Magic and seal: what a scan looks for.
pub(crate) const MARK_LEN: usize = 12;
/// Largest payload written or believed.
pub(crate) const MAX_PAYLOAD: usize = 32 * 1024 * 1024;

const MAGIC: [u8; 4] = [0xd7, b'W', b'p', 0x1a];
/// What is written; records of version 1 are those of the log's format 2.
const VERSION: u8 = 2;

/// What a record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Kind {
    /// A message: [`MessageMeta`], header, body.
    Message = 1,
    /// New states by order of an operator or of policy: [`Settlement`].
    State = 2,
    /// New states by attempts, and the notice they cause: [`Settlement`], its header and body.
    Done = 3,
    /// The message is gone. No payload.
    Tomb = 4,
    /// A fact of the ledger: [`Fact`].
    Ledger = 5,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Kind> {
        [Kind::Message, Kind::State, Kind::Done, Kind::Tomb, Kind::Ledger]
            .into_iter()
            .find(|kind| *kind as u8 == byte)
    }
}

/// A header whose checksum was right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Header {
    version: u8,
    pub(crate) kind: Kind,
    /// Everything before it was synced when it was written.
    pub(crate) first: bool,
    /// Facts of the ledger follow the meta part of the message, within it.
    pub(crate) brings_facts: bool,
    pub(crate) id: MessageId,
    pub(crate) time: Timestamp,
    pub(crate) meta_len: u32,
    pub(crate) payload_len: u32,
    pub(crate) meta_crc: u32,
}

/// The meta part of a message.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct MessageMeta {
    pub(crate) entry: Entry,
    pub(crate) body: BodyPlace,
}

/// Where the octets after a message's header are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum BodyPlace {
    /// After the header in the record.
    Inline,
    /// In `bodies/<id>`.
    File { offset: u64, len: u64, crc: u32 },
    /// Nowhere any more, for this reason.
    Lost(String),
}

/// The meta part of STATE and DONE.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Settlement {
    pub(crate) states: Vec<(u32, RecipientState)>,
    pub(crate) detours: Detours,
    pub(crate) notice: Option<MessageMeta>,
}

/// The meta part of LEDGER; without a value the fact is forgotten.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Fact {
    pub(crate) key: String,
    pub(crate) value: Option<Bytes>,
    pub(crate) expires: Option<Timestamp>,
}

/// What a meta part says, as far as a start needs to know.
pub(crate) trait Meta: Serialize {
    fn says(&self) -> Says;
}

impl Meta for MessageMeta {
    fn says(&self) -> Says {
        Says::Message
    }
}

impl Meta for Settlement {
    fn says(&self) -> Says {
        Says::Change { notice: self.notice.as_ref().map(|notice| notice.entry.id) }
    }
}

impl Meta for Fact {
    fn says(&self) -> Says {
        let (kept, expires) = (self.value.is_some(), self.expires);
        Says::Fact { key: self.key.clone(), kept, expires }
    }
}

impl Meta for (MessageMeta, Vec<Fact>) {
    fn says(&self) -> Says {
        Says::Message
    }
}

impl From<ledger::Fact> for Fact {
    fn from(fact: ledger::Fact) -> Fact {
        Fact { key: fact.key, value: Some(fact.value), expires: fact.expires }
    }
}

/// A record ready to be written, in pieces so that bodies are not copied.
#[derive(Debug)]
pub(crate) struct Record {
    header: Header,
    says: Says,
    head: Vec<u8>,
    content: [Bytes; 2],
    crc: u32,
}

impl Record {
    /// A record of any kind. Absent when it would be larger than [`MAX_PAYLOAD`].
    pub(crate) fn new<M: Meta>(
        seal: u64,
        kind: Kind,
        id: MessageId,
        time: Timestamp,
        meta: &M,
        content: [Bytes; 2],
    ) -> Option<Record> {
        let head = postcard::to_extend(meta, vec![0; HEADER_LEN]).ok()?;
        let meta_part = head.get(HEADER_LEN..)?;
        let payload_len = meta_part.len() + content[0].len() + content[1].len();
        if payload_len > MAX_PAYLOAD {
            return None;
        }
        let meta_crc = crc32c(meta_part);
        let header = Header {
            version: VERSION,
            kind,
            first: false,
            brings_facts: false,
            id,
            time,
            meta_len: meta_part.len() as u32,
            payload_len: payload_len as u32,
            meta_crc,
        };
        let crc = crc32c_append(crc32c_append(meta_crc, &content[0]), &content[1]);
        let head = header.written_into(head, seal);
        Some(Record { header, says: meta.says(), head, content, crc })
    }

    /// A record that says that the message is gone.
    pub(crate) fn tomb(seal: u64, id: MessageId, time: Timestamp) -> Record {
        let kind = Kind::Tomb;
        let header = Header {
            version: VERSION,
            kind,
            first: false,
            brings_facts: false,
            id,
            time,
            meta_len: 0,
            payload_len: 0,
            meta_crc: 0,
        };
        let head = header.written_into(vec![0; HEADER_LEN], seal);
        Record { header, says: Says::Gone, head, content: [Bytes::new(), Bytes::new()], crc: 0 }
    }

    /// Says whether the record is the first of its group.
    pub(crate) fn set_first(&mut self, first: bool) {
        self.header.first = first;
        if let Some(header) = self.head.first_chunk_mut::<HEADER_LEN>() {
            header[14] = first.into();
            seal_header(header);
        }
    }

    /// Says that facts follow the meta of the message ([`Header::facts_in`]).
    pub(crate) fn set_brings_facts(&mut self) {
        self.header.brings_facts = true;
        if let Some(header) = self.head.first_chunk_mut::<HEADER_LEN>() {
            header[15] = 1;
            seal_header(header);
        }
    }

    /// Octets it takes in a segment.
    pub(crate) fn len(&self) -> u64 {
        let content = self.content[0].len() + self.content[1].len();
        (self.head.len() + content + TRAILER_LEN) as u64
    }

    /// Its header, and what a digest says of it at `offset`.
    pub(crate) fn noted(&self, offset: u32) -> (Header, Note) {
        let (id, len, says) = (self.header.id, self.len(), self.says.clone());
        (self.header, Note { offset, len, id, says })
    }

    /// Writes it out.
    pub(crate) fn write_to(&self, out: &mut impl std::io::Write) -> std::io::Result<()> {
        out.write_all(&self.head)?;
        out.write_all(&self.content[0])?;
        out.write_all(&self.content[1])?;
        out.write_all(&self.crc.to_le_bytes())
    }
}

impl Header {
    /// The header at the start of `bytes`, if there is one of this spool.
    pub(crate) fn parse(bytes: &[u8], seal: u64) -> Option<Header> {
        let header = bytes.first_chunk::<HEADER_LEN>()?;
        if header[..MARK_LEN] != mark(seal)
            || !matches!(header[12], 1 | VERSION)
            || number(header, 44) != crc32c(&header[..44])
        {
            return None;
        }
        let long = |at| u64::from(number(header, at)) | u64::from(number(header, at + 4)) << 32;
        let parsed = Header {
            version: header[12],
            kind: Kind::from_byte(header[13])?,
            first: header[14] != 0,
            brings_facts: header[15] != 0,
            id: MessageId(long(16)),
            time: Timestamp(long(24)),
            meta_len: number(header, 32),
            payload_len: number(header, 36),
            meta_crc: number(header, 40),
        };
        let sane =
            parsed.meta_len <= parsed.payload_len && parsed.payload_len as usize <= MAX_PAYLOAD;
        sane.then_some(parsed)
    }

    /// The message that the record brings: its own, or the notice that a settlement causes.
    pub(crate) fn message_in(&self, meta: &[u8]) -> Option<MessageMeta> {
        match self.kind {
            Kind::Message if self.version == 1 => legacy::message(meta),
            Kind::Message => postcard::from_bytes(meta).ok(),
            Kind::Done => self.settlement_in(meta)?.notice,
            Kind::State | Kind::Tomb | Kind::Ledger => None,
        }
    }

    /// The facts that became durable with a message.
    pub(crate) fn facts_in(&self, meta: &[u8]) -> Vec<Fact> {
        if self.kind != Kind::Message || !self.brings_facts {
            return Vec::new();
        }
        let read = postcard::take_from_bytes::<MessageMeta>(meta);
        read.and_then(|(_, rest)| postcard::from_bytes(rest)).unwrap_or_default()
    }

    /// What a record of STATE or DONE changes.
    pub(crate) fn settlement_in(&self, meta: &[u8]) -> Option<Settlement> {
        match self.kind {
            Kind::State | Kind::Done if self.version == 1 => legacy::settlement(meta),
            Kind::State | Kind::Done => postcard::from_bytes(meta).ok(),
            Kind::Message | Kind::Tomb | Kind::Ledger => None,
        }
    }

    /// Octets of the whole record.
    pub(crate) fn record_len(&self) -> u64 {
        (HEADER_LEN + TRAILER_LEN) as u64 + u64::from(self.payload_len)
    }

    fn written_into(&self, mut head: Vec<u8>, seal: u64) -> Vec<u8> {
        head[..MARK_LEN].copy_from_slice(&mark(seal));
        head[12..16].copy_from_slice(&[
            self.version,
            self.kind as u8,
            self.first.into(),
            self.brings_facts.into(),
        ]);
        head[16..24].copy_from_slice(&self.id.0.to_le_bytes());
        head[24..32].copy_from_slice(&self.time.0.to_le_bytes());
        head[32..36].copy_from_slice(&self.meta_len.to_le_bytes());
        head[36..40].copy_from_slice(&self.payload_len.to_le_bytes());
        head[40..44].copy_from_slice(&self.meta_crc.to_le_bytes());
        if let Some(header) = head.first_chunk_mut() {
            seal_header(header);
        }
        head
    }
}

/// Writes the header's checksum.
fn seal_header(header: &mut [u8; HEADER_LEN]) {
    let crc = crc32c(&header[..44]);
    header[44..].copy_from_slice(&crc.to_le_bytes());
}

/// Magic and seal.
pub(crate) fn mark(seal: u64) -> [u8; MARK_LEN] {
    let mut mark = [0; MARK_LEN];
    mark[..4].copy_from_slice(&MAGIC);
    mark[4..].copy_from_slice(&seal.to_le_bytes());
    mark
}

/// The seal of the record at the start of `bytes`, for a segment whose own header is damaged.
pub(crate) fn seal_of(bytes: &[u8]) -> Option<u64> {
    let seal = u64::from_le_bytes(*bytes.get(4..)?.first_chunk()?);
    Header::parse(bytes, seal).map(|_| seal)
}

/// The checksum that follows a payload.
pub(crate) fn trailer(bytes: &[u8]) -> u32 {
    bytes.first_chunk().map_or(0, |crc| u32::from_le_bytes(*crc))
}

fn number(bytes: &[u8; HEADER_LEN], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;

    fn sample() -> Vec<u8> {
        let entry = samples::entry(9, 2, 4);
        let meta = MessageMeta { entry, body: BodyPlace::Inline };
        let content = [Bytes::from_static(samples::HEADER), Bytes::from_static(b"body")];
        let record =
            Record::new(7, Kind::Message, MessageId(9), Timestamp(1), &meta, content).unwrap();
        let mut bytes = Vec::new();
        record.write_to(&mut bytes).unwrap();
        assert_eq!(bytes.len() as u64, record.len());
        bytes
    }

    #[test]
    fn a_record_reads_back() {
        let bytes = sample();
        let header = Header::parse(&bytes, 7).unwrap();
        assert_eq!((header.kind, header.id), (Kind::Message, MessageId(9)));
        assert_eq!(header.record_len(), bytes.len() as u64);
        let payload = &bytes[HEADER_LEN..bytes.len() - TRAILER_LEN];
        let meta: MessageMeta = postcard::from_bytes(&payload[..header.meta_len as usize]).unwrap();
        assert_eq!(meta.entry, samples::entry(9, 2, 4));
        assert_eq!(trailer(&bytes[bytes.len() - TRAILER_LEN..]), crc32c(payload));
        assert_eq!(seal_of(&bytes), Some(7));
        assert!(!header.first && header.facts_in(payload).is_empty());
    }

    #[test]
    fn facts_follow_a_message_that_reads_as_ever() {
        let meta = MessageMeta { entry: samples::entry(9, 2, 4), body: BodyPlace::Inline };
        let fact = Fact { key: "test/1".into(), value: Some("kept".into()), expires: None };
        let (id, nothing) = (MessageId(9), [Bytes::new(), Bytes::new()]);
        let all = (meta.clone(), vec![fact.clone()]);
        let mut record = Record::new(7, Kind::Message, id, Timestamp(1), &all, nothing).unwrap();
        record.set_brings_facts();
        record.set_first(true);
        let header = Header::parse(&record.head, 7).unwrap();
        let read = &record.head[HEADER_LEN..];
        assert_eq!(header.facts_in(read), [fact]);
        assert_eq!(header.message_in(read).unwrap().entry, meta.entry);
    }

    #[test]
    fn the_first_of_a_group_says_so() {
        let mut record = Record::tomb(7, MessageId(9), Timestamp(1));
        for first in [true, false] {
            record.set_first(first);
            assert_eq!(Header::parse(&record.head, 7).unwrap().first, first);
        }
    }

    #[test]
    fn no_flipped_bit_of_a_header_goes_unnoticed() {
        let bytes = sample();
        for bit in 0..HEADER_LEN * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Header::parse(&flipped, 7), None, "bit {bit}");
        }
        assert_eq!(Header::parse(&bytes, 8), None, "another spool's record");
        assert_eq!(Header::parse(&bytes[..HEADER_LEN - 1], 7), None);
    }
}
