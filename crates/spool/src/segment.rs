//! One file of the log: its header, and finding records in it, whatever happened to it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use crc32c::crc32c;
use memchr::memmem;
use serde::{Deserialize, Serialize};
use waypost_mail::Timestamp;

use crate::disk::{Disk, DiskFile};
use crate::record::{self, HEADER_LEN, Header, Kind, MARK_LEN, TRAILER_LEN};

/// Octets before a segment's first record.
pub(crate) const START: u64 = 64;

const MAGIC: [u8; 7] = *b"waypost";
/// The log's format: what segments are written in.
pub(crate) const FORMAT: u8 = 3;
/// The earliest format that is read.
const OLDEST: u8 = 2;
const WINDOW: usize = 256 * 1024;
/// What a disk reads or cannot read as one.
const SECTOR: usize = 4096;

/// Where a record begins: number of the segment, offset in it. Later ones are greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Position {
    pub(crate) segment: u32,
    pub(crate) offset: u32,
}

/// Where a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Place {
    pub(crate) at: Position,
    pub(crate) len: u64,
}

/// What the head of a segment says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) format: u8,
    pub(crate) number: u32,
    pub(crate) seal: u64,
    pub(crate) created: Timestamp,
    /// Highest message id when it was begun, so that ids rise even when all old mail is gone.
    pub(crate) highest: u64,
}

impl SegmentHeader {
    pub(crate) fn encode(&self) -> [u8; START as usize] {
        let mut bytes = [0; START as usize];
        bytes[..7].copy_from_slice(&MAGIC);
        bytes[7] = self.format;
        bytes[8..12].copy_from_slice(&self.number.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.seal.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.created.0.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.highest.to_le_bytes());
        let crc = crc32c(&bytes[..60]);
        bytes[60..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// The header at the start of `bytes`, absent when it is damaged. An error when another version
    /// wrote it, whose records must not be taken for damage.
    pub(crate) fn parse(bytes: &[u8]) -> io::Result<Option<SegmentHeader>> {
        let Some(bytes) = bytes.first_chunk::<{ START as usize }>() else { return Ok(None) };
        if bytes[..7] != MAGIC || record::trailer(&bytes[60..]) != crc32c(&bytes[..60]) {
            return Ok(None);
        }
        if !matches!(bytes[7], OLDEST..=FORMAT) {
            let why = format!(
                "the log has format {}, this program reads {OLDEST} to {FORMAT}: it was written by a later version, \
                 or by one that was never released",
                bytes[7]
            );
            return Err(io::Error::new(io::ErrorKind::Unsupported, why));
        }
        Ok(Self::parse_sound(bytes))
    }

    fn parse_sound(bytes: &[u8; START as usize]) -> Option<SegmentHeader> {
        let long = |at: usize| bytes[at..].first_chunk().map(|b| u64::from_le_bytes(*b));
        Some(SegmentHeader {
            format: bytes[7],
            number: record::trailer(&bytes[8..12]),
            seal: long(16)?,
            created: Timestamp(long(24)?),
            highest: long(32)?,
        })
    }
}

/// The file of segment `number` in the directory of the log.
pub(crate) fn file_of(log: &Path, number: u32) -> PathBuf {
    log.join(format!("{number:010}.log"))
}

/// Numbers of the segments in a directory, in order.
pub(crate) fn list(disk: &dyn Disk, log: &Path) -> io::Result<Vec<u32>> {
    let mut numbers = Vec::new();
    for name in disk.names(log)? {
        let number: Option<u32> =
            name.to_str().and_then(|n| n.strip_suffix(".log")).and_then(|n| n.parse().ok());
        numbers.extend(number);
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// True when a segment begins with the head that it should have.
pub(crate) fn has_head(file: &dyn DiskFile, number: u32) -> bool {
    let mut bytes = [0; START as usize];
    let read = file.read_exact_at(&mut bytes, 0).is_ok();
    let head = SegmentHeader::parse(&bytes);
    read && matches!(head, Ok(Some(head)) if head.number == number)
}

/// How well a record survived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Health {
    /// Nothing is wrong with what was looked at.
    Sound,
    /// The meta part can be read, what follows cannot.
    Content,
    /// Only the header can be read.
    Meta,
}

/// What a scan comes upon.
#[derive(Debug)]
pub(crate) enum Item {
    /// A record. `meta` is empty for messages unless payloads are verified.
    Record { place: Place, header: Header, meta: Bytes, health: Health },
    /// Octets that are no record.
    Gap { from: Position, len: u64 },
}

/// Reads a segment from its start. Payloads of messages are skipped unless `thorough`; everything
/// else is small and always verified.
#[derive(Debug)]
pub(crate) struct Scan {
    window: Window,
    number: u32,
    seal: u64,
    at: u64,
    thorough: bool,
}

impl Scan {
    pub(crate) fn new(
        file: Arc<dyn DiskFile>,
        number: u32,
        seal: u64,
        thorough: bool,
    ) -> io::Result<Scan> {
        Ok(Scan { window: Window::new(file)?, number, seal, at: START, thorough })
    }

    /// What comes next; absent at the end.
    pub(crate) fn next(&mut self) -> io::Result<Option<Item>> {
        if self.at >= self.window.len {
            return Ok(None);
        }
        match self.header_at(self.at)? {
            Some(header) => self.record(header).map(Some),
            None => self.gap().map(Some),
        }
    }

    fn header_at(&mut self, at: u64) -> io::Result<Option<Header>> {
        let len = self.window.len;
        let header = self.window.read(at, HEADER_LEN)?.and_then(|b| Header::parse(b, self.seal));
        Ok(header.filter(|header| at + header.record_len() <= len))
    }

    fn record(&mut self, header: Header) -> io::Result<Item> {
        let at = Position { segment: self.number, offset: self.at as u32 };
        let place = Place { at, len: header.record_len() };
        let start = self.at + HEADER_LEN as u64;
        self.at += place.len;
        if header.kind == Kind::Message && !self.thorough {
            return Ok(Item::Record { place, header, meta: Bytes::new(), health: Health::Sound });
        }
        let whole = header.payload_len as usize + TRAILER_LEN;
        let bytes = self.window.read(start, whole)?.unwrap_or_default();
        let (payload, crc) = bytes.split_at(bytes.len().saturating_sub(TRAILER_LEN));
        let meta = payload.get(..header.meta_len as usize).unwrap_or_default();
        let health = if crc32c(meta) != header.meta_crc {
            Health::Meta
        } else if crc32c(payload) != record::trailer(crc) {
            Health::Content
        } else {
            Health::Sound
        };
        Ok(Item::Record { place, header, meta: Bytes::copy_from_slice(meta), health })
    }

    /// From a place where no record begins to the next where one does.
    fn gap(&mut self) -> io::Result<Item> {
        let from = self.at;
        let mark = record::mark(self.seal);
        let mut at = from + 1;
        while at < self.window.len {
            let want = WINDOW.min((self.window.len - at) as usize);
            let bytes = self.window.read(at, want)?.unwrap_or_default();
            let found = memmem::find(bytes, &mark);
            match found {
                Some(found) => {
                    at += found as u64;
                    if self.header_at(at)?.is_some() {
                        break;
                    }
                    at += 1;
                }
                None if at + (want as u64) < self.window.len => at += (want - MARK_LEN + 1) as u64,
                None => at = self.window.len,
            }
        }
        self.at = at;
        let from = Position { segment: self.number, offset: from as u32 };
        Ok(Item::Gap { from, len: at - u64::from(from.offset) })
    }
}

/// Reads all of `bytes`, with zeros for what the disk cannot read any more: no record and no checksum is
/// made of zeros, so that what was there is found damaged and what is beside it is not.
pub(crate) fn read_around(file: &dyn DiskFile, bytes: &mut [u8], at: u64) -> io::Result<()> {
    match file.read_exact_at(bytes, at) {
        Err(error) if is_unreadable(&error) => {}
        read => return read,
    }
    // Begins where sectors do.
    let first = (SECTOR - at as usize % SECTOR).min(bytes.len());
    let (mut at, mut rest) = (at, bytes);
    let mut len = first;
    while !rest.is_empty() {
        let (sector, after) = rest.split_at_mut(len);
        match file.read_exact_at(sector, at) {
            Err(error) if is_unreadable(&error) => {
                tracing::error!(offset = at, "the disk cannot read a part of the log");
                sector.fill(0);
            }
            read => read?,
        }
        at += sector.len() as u64;
        len = SECTOR.min(after.len());
        rest = after;
    }
    Ok(())
}

/// The disk says that what is there cannot be read.
pub(crate) fn is_unreadable(error: &io::Error) -> bool {
    error.raw_os_error() == Some(nix::libc::EIO)
}

/// A piece of a file in memory that moves along.
#[derive(Debug)]
struct Window {
    file: Arc<dyn DiskFile>,
    len: u64,
    start: u64,
    bytes: Vec<u8>,
}

impl Window {
    fn new(file: Arc<dyn DiskFile>) -> io::Result<Window> {
        let len = file.len()?;
        // Offsets have 32 bits; no segment of ours comes near.
        let len = len.min(u64::from(u32::MAX));
        Ok(Window { file, len, start: 0, bytes: Vec::new() })
    }

    /// `count` octets from `at`; absent beyond the end of the file.
    fn read(&mut self, at: u64, count: usize) -> io::Result<Option<&[u8]>> {
        if at.checked_add(count as u64).is_none_or(|end| end > self.len) {
            return Ok(None);
        }
        let inside = at >= self.start && at + count as u64 <= self.start + self.bytes.len() as u64;
        if !inside {
            let take = (count.max(WINDOW) as u64).min(self.len - at) as usize;
            self.bytes.resize(take, 0);
            self.start = at;
            if let Err(error) = read_around(&*self.file, &mut self.bytes, at) {
                self.bytes.clear();
                return Err(error);
            }
        }
        let from = (at - self.start) as usize;
        Ok(self.bytes.get(from..from + count))
    }
}
