//! A message's bytes while they may still change: header fields, and the body behind the blank line.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Arc;

use bytes::{BufMut as _, Bytes, BytesMut};
use waypost_identity::BodyHash;
use waypost_mail::header::{MAX_HEADER, header_len};
use waypost_mail::{Body, HeaderBlock, IncomingFile, Rope, Text};
use waypost_smtp::Reply;

/// How much of a body is looked at in one go; what is smaller keeps nobody waiting.
const PIECE: usize = 256 * 1024;

/// Header and body. The bytes that were received stay where they are until they are committed.
#[derive(Debug)]
pub(crate) struct Content {
    pub(crate) text: Text,
    /// What the text's body lies in, for as long as it is that body unchanged.
    received: Option<Body>,
}

const HEADER_TOO_LONG: Reply = Reply::fixed(552, (5, 3, 4), "Message header too long");

impl Content {
    /// A message in memory.
    pub(crate) fn new(header: HeaderBlock, body: Bytes) -> Content {
        let received = Some(Body::Memory(body.clone()));
        Content { text: Text { header, body: Rope::from(body) }, received }
    }

    /// Finds the header. A message that does not begin with a field has none.
    pub(crate) async fn read(body: Body) -> Result<Content, Reply> {
        match body {
            Body::Memory(bytes) => {
                let start = &bytes[..bytes.len().min(MAX_HEADER + 4)];
                let Split { header, body } = split(start, bytes.len() as u64)?;
                let block = HeaderBlock::parse(bytes.slice(..header));
                Ok(Content::new(block, bytes.slice(body..)))
            }
            Body::File { file, offset, len } => {
                let opened = File::open(file.path()).map_err(|error| unreadable(&error))?;
                let source: Arc<dyn waypost_mail::Source> = Arc::new(opened);
                let whole = Rope::stored(source.clone(), offset, len);
                let start = read(whole, |rope| rope.read_at(0, MAX_HEADER + 4)).await?;
                let Split { header, body } = split(&start, len)?;
                let block = HeaderBlock::parse(start.slice(..header));
                let (offset, len) = (offset + body as u64, len - body as u64);
                let text = Text { header: block, body: Rope::stored(source, offset, len) };
                Ok(Content { text, received: Some(Body::File { file, offset, len }) })
            }
        }
    }

    /// Octets of header, blank line and body.
    pub(crate) fn len(&self) -> u64 {
        self.text.len()
    }

    /// Puts whole fields in front.
    pub(crate) fn put_on_top(&mut self, fields: &[u8]) {
        self.edit(|header| header.with_top(fields));
    }

    /// Changes the header by value.
    pub(crate) fn edit(&mut self, change: impl FnOnce(HeaderBlock) -> HeaderBlock) {
        let empty = HeaderBlock::parse(Bytes::new());
        self.text.header = change(std::mem::replace(&mut self.text.header, empty));
    }

    /// What policy made of it; `spliced` when the body is another one.
    pub(crate) fn replace(&mut self, text: Text, spliced: bool) {
        self.text = text;
        if spliced {
            self.received = None;
        }
    }

    /// True when any octet is over 127.
    pub(crate) async fn is_eight_bit(&self) -> Result<bool, Reply> {
        if self.text.header.is_eight_bit() {
            return Ok(true);
        }
        read(self.text.body.clone(), |body| {
            for chunk in body.chunks(PIECE) {
                if !chunk?.is_ascii() {
                    return Ok(true);
                }
            }
            Ok(false)
        })
        .await
    }

    /// The hash of the body that signatures carry.
    pub(crate) async fn body_hash(&self) -> Result<BodyHash, Reply> {
        read(self.text.body.clone(), |body| BodyHash::of(body.chunks(PIECE))).await
    }

    /// Header fields with the blank line, and the body: in memory up to `memory_limit`, a larger one that
    /// policy changed in a new file of `directory`.
    pub(crate) async fn into_parts(
        self,
        memory_limit: usize,
        directory: &Path,
    ) -> Result<(Bytes, Body), Reply> {
        let mut header = BytesMut::with_capacity(self.text.header.as_bytes().len() + 2);
        header.extend_from_slice(self.text.header.as_bytes());
        header.put_slice(b"\r\n");
        if let Some(body) = self.received {
            return Ok((header.freeze(), body));
        }
        let body = self.text.body;
        let body = if body.len() <= memory_limit as u64 {
            let len = body.len() as usize;
            Body::Memory(read(body, move |body| body.read_at(0, len)).await?)
        } else {
            let path = directory.join(format!("{:032x}", rand::random::<u128>()));
            let len = body.len();
            let file = read(body, move |body| write(body, path)).await?;
            Body::File { file, offset: 0, len }
        };
        Ok((header.freeze(), body))
    }
}

fn write(body: &Rope, path: std::path::PathBuf) -> io::Result<IncomingFile> {
    let mut file = File::create_new(&path)?;
    let incoming = IncomingFile::new(path);
    for chunk in body.chunks(PIECE) {
        file.write_all(&chunk?)?;
    }
    Ok(incoming)
}

/// Works on a body, off the executor's threads where that may take a while.
async fn read<T: Send + 'static>(
    body: Rope,
    work: impl FnOnce(&Rope) -> io::Result<T> + Send + 'static,
) -> Result<T, Reply> {
    let done = if body.len() <= PIECE as u64 {
        work(&body)
    } else {
        let done = tokio::task::spawn_blocking(move || work(&body)).await;
        done.unwrap_or_else(|failed| Err(io::Error::other(failed)))
    };
    done.map_err(|error| unreadable(&error))
}

/// How long the header is, and where the body begins.
struct Split {
    header: usize,
    body: usize,
}

/// `start` is the beginning of a message of `len` octets, with room for the largest header.
fn split(start: &[u8], len: u64) -> Result<Split, Reply> {
    if start.starts_with(b"\r\n") {
        return Ok(Split { header: 0, body: 2 });
    }
    if !begins_with_field(start) {
        return Ok(Split { header: 0, body: 0 });
    }
    match header_len(start) {
        Some(header) if header <= MAX_HEADER => Ok(Split { header, body: header + 2 }),
        None if (start.len() as u64) == len && start.len() <= MAX_HEADER => {
            Ok(Split { header: start.len(), body: start.len() })
        }
        _ => Err(HEADER_TOO_LONG),
    }
}

fn begins_with_field(start: &[u8]) -> bool {
    let line = start.split(|b| *b == b'\r').next().unwrap_or_default();
    let Some(colon) = memchr::memchr(b':', line) else { return false };
    let name = line[..colon].trim_ascii_end();
    !name.is_empty() && name.iter().all(|b| (33..=126).contains(b))
}

fn unreadable(error: &io::Error) -> Reply {
    tracing::error!(%error, "a body that is being received cannot be read or written; check the disk");
    Reply::LOCAL_ERROR
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn parts(text: &'static str) -> (String, String) {
        let content = Content::read(Body::Memory(Bytes::from_static(text.as_bytes()))).await;
        let (header, body) =
            content.unwrap().into_parts(1000, "/nonexistent".as_ref()).await.unwrap();
        let Body::Memory(body) = body else { panic!("moved to a file") };
        (String::from_utf8(header.to_vec()).unwrap(), String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn every_message_gets_a_blank_line_and_loses_no_byte() {
        assert_eq!(parts("A: b\r\n\r\nx\r\n").await, ("A: b\r\n\r\n".into(), "x\r\n".into()));
        assert_eq!(parts("\r\nx\r\n").await, ("\r\n".into(), "x\r\n".into()));
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

    #[tokio::test]
    async fn a_large_body_that_was_changed_is_written_anew() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("received");
        let received = [&b"A: b\r\n\r\n"[..], &vec![0xfe; 300_000], b"\r\n"].concat();
        std::fs::write(&path, &received).unwrap();
        let file = IncomingFile::new(path);
        let body = Body::File { file, offset: 0, len: received.len() as u64 };
        let mut content = Content::read(body).await.unwrap();
        assert!(content.is_eight_bit().await.unwrap());
        let mut text = content.text.clone();
        text.body.splice(1, 1, Bytes::from_static(b"--")).unwrap();
        content.replace(text, true);
        let (header, body) = content.into_parts(1000, directory.path()).await.unwrap();
        assert_eq!(header, "A: b\r\n\r\n");
        let Body::File { file, offset: 0, len } = body else { panic!("not in a file") };
        let written = std::fs::read(file.path()).unwrap();
        assert_eq!(written.len() as u64, len);
        let wanted = [&b"\xfe--"[..], &vec![0xfe; 299_998], b"\r\n"].concat();
        assert!(written == wanted);
    }
}
