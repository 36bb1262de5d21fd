//! The bytes of a message in the log, verified before the first of them is given out.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use crc32c::{crc32c, crc32c_append};
use waypost_mail::MessageId;

use crate::disk::{Disk, DiskFile};
use crate::log::Readers;
use crate::record::{self, BodyPlace, HEADER_LEN, Header, MessageMeta, TRAILER_LEN};
use crate::segment::{Place, is_unreadable};
use crate::{Content, SpoolError};

/// Bodies up to this size stand in the log itself.
pub(crate) const LARGE: u64 = 8 * 1024 * 1024;
/// Records up to this size are read at once.
const AT_ONCE: u64 = 512 * 1024;
const PIECE: usize = 256 * 1024;

/// A message's record, read and verified.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) meta: MessageMeta,
    file: Arc<dyn DiskFile>,
    /// Where header and body begin in the segment, and how long they are.
    start: u64,
    len: u64,
    memory: Option<Bytes>,
}

/// Why a record could not be read.
#[derive(Debug)]
pub(crate) enum Unreadable {
    /// The segment is gone, which a reader can meet when its message moves.
    Gone,
    /// What is there is not what was written; the envelope may have survived.
    Damaged(String, Option<Box<MessageMeta>>),
    /// The system could not read now, for want of descriptors or memory: nothing is known of the
    /// record, and nothing may be concluded.
    NotNow(String),
}

impl From<io::Error> for Unreadable {
    fn from(error: io::Error) -> Unreadable {
        match error.kind() {
            io::ErrorKind::NotFound => Unreadable::Gone,
            io::ErrorKind::UnexpectedEof => Unreadable::Damaged(error.to_string(), None),
            _ if is_unreadable(&error) => Unreadable::Damaged(error.to_string(), None),
            _ => Unreadable::NotNow(error.to_string()),
        }
    }
}

impl Stored {
    /// The message `id` at `place`: its own record, or the one of the settlement that caused it.
    pub(crate) fn read(
        readers: &Readers,
        seal: u64,
        id: MessageId,
        place: Place,
    ) -> Result<Stored, Unreadable> {
        let damaged = |why: &str| Unreadable::Damaged(why.to_owned(), None);
        let file = readers.file(place.at.segment)?;
        let at = u64::from(place.at.offset);
        let first = place.len.min(AT_ONCE) as usize;
        let mut bytes = vec![0; first];
        file.read_exact_at(&mut bytes, at)?;
        let header = Header::parse(&bytes, seal).ok_or_else(|| damaged("no record is there"))?;
        if header.record_len() != place.len {
            return Err(damaged("another record is there"));
        }
        let meta_end = HEADER_LEN + header.meta_len as usize;
        if bytes.len() < meta_end {
            bytes.resize(meta_end, 0);
            file.read_exact_at(&mut bytes, at)?;
        }
        let meta_part = &bytes[HEADER_LEN..meta_end];
        if crc32c(meta_part) != header.meta_crc {
            return Err(damaged("the checksum of its envelope is wrong"));
        }
        let meta = header
            .message_in(meta_part)
            .filter(|meta| meta.entry.id == id)
            .ok_or_else(|| damaged("another message is there"))?;
        let start = at + meta_end as u64;
        let len = u64::from(header.payload_len - header.meta_len);
        let whole = bytes.len() as u64 == place.len;
        let memory = whole.then(|| Bytes::from(bytes));
        let memory = memory.map(|bytes| bytes.slice(meta_end..meta_end + len as usize));
        let crc = match &memory {
            Some(content) => crc32c_append(header.meta_crc, content),
            None => checksum(&*file, start, len, header.meta_crc)?,
        };
        let mut trailer = [0; TRAILER_LEN];
        file.read_exact_at(&mut trailer, start + len)?;
        if crc != record::trailer(&trailer) {
            let why = "the checksum of its content is wrong".to_owned();
            return Err(Unreadable::Damaged(why, Some(Box::new(meta))));
        }
        Ok(Stored { meta, file, start, len, memory })
    }

    /// The octets in the record, to write them into another.
    pub(crate) fn octets(&self) -> Result<Bytes, Unreadable> {
        if let Some(bytes) = &self.memory {
            return Ok(bytes.clone());
        }
        let mut bytes = vec![0; self.len as usize];
        self.file.read_exact_at(&mut bytes, self.start)?;
        Ok(Bytes::from(bytes))
    }

    /// The message's bytes, with a large body verified too.
    pub(crate) fn into_content(
        self,
        disk: &dyn Disk,
        bodies: &Path,
    ) -> Result<LogContent, Unreadable> {
        let damaged = |why: String| Unreadable::Damaged(why, None);
        let id = self.meta.entry.id;
        let body = match self.meta.body {
            BodyPlace::Inline => None,
            BodyPlace::Lost(why) => return Err(damaged(why)),
            BodyPlace::File { offset, len, crc } => {
                let text = |error: io::Error| match Unreadable::from(error) {
                    Unreadable::Gone => damaged("its body file is gone".to_owned()),
                    Unreadable::Damaged(why, _) => damaged(format!("its body file: {why}")),
                    not_now => not_now,
                };
                let file = disk.open(&body_file(bodies, id)).map_err(text)?;
                if checksum(&*file, offset, len, 0).map_err(text)? != crc {
                    return Err(damaged("the checksum of its body file is wrong".to_owned()));
                }
                Some(Part { file, start: offset, len })
            }
        };
        let head = Part { file: self.file, start: self.start, len: self.len };
        Ok(LogContent { id, head, memory: self.memory, body })
    }
}

/// The file of a large body.
pub(crate) fn body_file(bodies: &Path, id: MessageId) -> PathBuf {
    bodies.join(id.to_string())
}

/// crc32c of a part of a file, continuing from `crc`.
pub(crate) fn checksum(file: &dyn DiskFile, start: u64, len: u64, mut crc: u32) -> io::Result<u32> {
    let mut piece = vec![0; PIECE.min(len as usize)];
    let mut done = 0;
    while done < len {
        let count = piece.len().min((len - done) as usize);
        file.read_exact_at(&mut piece[..count], start + done)?;
        crc = crc32c_append(crc, &piece[..count]);
        done += count as u64;
    }
    Ok(crc)
}

/// Header and body of one message.
#[derive(Debug)]
pub(crate) struct LogContent {
    id: MessageId,
    head: Part,
    memory: Option<Bytes>,
    body: Option<Part>,
}

#[derive(Debug)]
struct Part {
    file: Arc<dyn DiskFile>,
    start: u64,
    len: u64,
}

impl Part {
    fn read(&self, offset: u64, max: usize) -> io::Result<Bytes> {
        let count = (self.len.saturating_sub(offset)).min(max as u64) as usize;
        let mut bytes = vec![0; count];
        self.file.read_exact_at(&mut bytes, self.start + offset)?;
        Ok(Bytes::from(bytes))
    }
}

impl Content for LogContent {
    fn len(&self) -> u64 {
        self.head.len + self.body.as_ref().map_or(0, |body| body.len)
    }

    fn read_at(&self, offset: u64, max: usize) -> Result<Bytes, SpoolError> {
        let read = match (&self.memory, &self.body) {
            (Some(memory), _) if offset < self.head.len => {
                let start = offset as usize;
                Ok(memory.slice(start..memory.len().min(start.saturating_add(max))))
            }
            (None, _) if offset < self.head.len => self.head.read(offset, max),
            (_, Some(body)) => body.read(offset - self.head.len, max),
            (_, None) => Ok(Bytes::new()),
        };
        read.map_err(|error| SpoolError::Damaged(self.id, error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use nix::errno::Errno;

    use super::*;

    #[test]
    fn only_what_was_read_is_called_damaged() {
        let kind = |errno: Errno| Unreadable::from(io::Error::from_raw_os_error(errno as i32));
        for passing in [Errno::EMFILE, Errno::ENFILE, Errno::ENOMEM, Errno::EINTR] {
            assert!(matches!(kind(passing), Unreadable::NotNow(_)), "{passing}");
        }
        assert!(matches!(kind(Errno::EIO), Unreadable::Damaged(..)));
        assert!(matches!(kind(Errno::ENOENT), Unreadable::Gone));
        let short = io::Error::from(io::ErrorKind::UnexpectedEof);
        assert!(matches!(Unreadable::from(short), Unreadable::Damaged(..)));
    }
}
