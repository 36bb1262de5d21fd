//! A message's bytes while they may still change: the header in memory, the rest where it gathered.

use bytes::Bytes;
use tokio::io::AsyncReadExt;
use waypost_mail::header::{MAX_HEADER, header_len};
use waypost_mail::{Body, HeaderBlock};
use waypost_smtp::Reply;

/// How much of a file is looked at in one go.
const PIECE: usize = 256 * 1024;

/// Header, and behind it the blank line and the body.
#[derive(Debug)]
pub(crate) struct Content {
    pub(crate) header: HeaderBlock,
    pub(crate) rest: Body,
}

const HEADER_TOO_LONG: Reply = Reply::fixed(552, (5, 3, 4), "Message header too long");

impl Content {
    /// Finds the header. A message without a header gets an empty one; one that is all header, the
    /// blank line that it lacks.
    pub(crate) async fn read(body: Body) -> Result<Content, Reply> {
        let start = beginning(&body).await?;
        let len = if !begins_with_field(&start) {
            0
        } else {
            match header_len(&start) {
                Some(len) if len <= MAX_HEADER => len,
                None if (start.len() as u64) == body.len() && start.len() <= MAX_HEADER => {
                    start.len()
                }
                _ => return Err(HEADER_TOO_LONG),
            }
        };
        let mut header = start.slice(..len);
        let rest = skip(body, len as u64);
        if !start[len..].starts_with(b"\r\n") {
            header = [&header[..], b"\r\n"].concat().into();
        }
        Ok(Content { header: HeaderBlock::parse(header), rest })
    }

    /// Octets of header, blank line and body.
    pub(crate) fn len(&self) -> u64 {
        self.header.as_bytes().len() as u64 + self.rest.len()
    }

    /// Puts whole fields in front.
    pub(crate) fn put_on_top(&mut self, fields: &[u8]) {
        self.edit(|header| header.with_top(fields));
    }

    /// Changes the header by value.
    pub(crate) fn edit(&mut self, change: impl FnOnce(HeaderBlock) -> HeaderBlock) {
        let empty = HeaderBlock::parse(Bytes::new());
        self.header = change(std::mem::replace(&mut self.header, empty));
    }

    /// True when any octet is over 127.
    pub(crate) async fn is_eight_bit(&self) -> Result<bool, Reply> {
        if self.header.is_eight_bit() {
            return Ok(true);
        }
        match &self.rest {
            Body::Memory(bytes) => Ok(!bytes.is_ascii()),
            Body::File { file, offset, len } => file_is_eight_bit(file.path(), *offset, *len)
                .await
                .map_err(|error| unreadable(&error)),
        }
    }

    /// Header fields, and the blank line and body.
    pub(crate) fn into_parts(self) -> (Bytes, Body) {
        (self.header.as_bytes().clone(), self.rest)
    }
}

/// Enough of a body to hold the largest header and its end.
async fn beginning(body: &Body) -> Result<Bytes, Reply> {
    match body {
        Body::Memory(bytes) => Ok(bytes.slice(..bytes.len().min(MAX_HEADER + 4))),
        Body::File { file, offset, len } => {
            let wanted = (*len).min(MAX_HEADER as u64 + 4) as usize;
            let mut start = vec![0; wanted];
            read_exact(file.path(), *offset, &mut start).await.map_err(|e| unreadable(&e))?;
            Ok(start.into())
        }
    }
}

fn skip(body: Body, by: u64) -> Body {
    match body {
        Body::Memory(bytes) => Body::Memory(bytes.slice(by as usize..)),
        Body::File { file, offset, len } => Body::File { file, offset: offset + by, len: len - by },
    }
}

fn begins_with_field(start: &[u8]) -> bool {
    let line = start.split(|b| *b == b'\r').next().unwrap_or_default();
    let Some(colon) = memchr::memchr(b':', line) else { return false };
    let name = line[..colon].trim_ascii_end();
    !name.is_empty() && name.iter().all(|b| (33..=126).contains(b))
}

async fn read_exact(path: &std::path::Path, offset: u64, out: &mut [u8]) -> std::io::Result<()> {
    use tokio::io::AsyncSeekExt;
    let mut file = tokio::fs::File::open(path).await?;
    file.seek(std::io::SeekFrom::Start(offset)).await?;
    file.read_exact(out).await.map(drop)
}

async fn file_is_eight_bit(path: &std::path::Path, offset: u64, len: u64) -> std::io::Result<bool> {
    use tokio::io::AsyncSeekExt;
    let mut file = tokio::fs::File::open(path).await?;
    file.seek(std::io::SeekFrom::Start(offset)).await?;
    let mut left = file.take(len);
    let mut piece = vec![0; PIECE];
    loop {
        let read = left.read(&mut piece).await?;
        if read == 0 {
            return Ok(false);
        }
        if !piece[..read].is_ascii() {
            return Ok(true);
        }
    }
}

fn unreadable(error: &std::io::Error) -> Reply {
    tracing::error!(%error, "a body that is being received cannot be read back; check the disk");
    Reply::LOCAL_ERROR
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn parts(text: &'static str) -> (String, String) {
        let content = Content::read(Body::Memory(Bytes::from_static(text.as_bytes()))).await;
        let (header, body) = content.unwrap().into_parts();
        let Body::Memory(body) = body else { panic!("moved to a file") };
        (String::from_utf8(header.to_vec()).unwrap(), String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn every_message_gets_a_blank_line_and_loses_no_byte() {
        assert_eq!(parts("A: b\r\n\r\nx\r\n").await, ("A: b\r\n".into(), "\r\nx\r\n".into()));
        assert_eq!(parts("\r\nx\r\n").await, (String::new(), "\r\nx\r\n".into()));
        assert_eq!(parts("hello\r\nx\r\n").await, ("\r\n".into(), "hello\r\nx\r\n".into()));
        assert_eq!(parts("A: b\r\n").await, ("A: b\r\n\r\n".into(), String::new()));
        assert_eq!(parts("").await, ("\r\n".into(), String::new()));
    }

    #[tokio::test]
    async fn an_endless_header_is_refused() {
        let text = "X: y\r\n".repeat(MAX_HEADER / 6 + 10);
        let refused = Content::read(Body::Memory(text.into())).await;
        assert_eq!(refused.unwrap_err(), HEADER_TOO_LONG);
    }
}
