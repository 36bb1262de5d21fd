//! A message's bytes while they may still change: header fields, and the body behind the blank line.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
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
    /// The body may hold any octets: it is not made of lines.
    pub(crate) binary: bool,
    /// What the text's body lies in.
    body: Body,
}

const HEADER_TOO_LONG: Reply = Reply::fixed(552, (5, 3, 4), "Message header too long");

impl Content {
    /// A message in memory.
    pub(crate) fn new(header: HeaderBlock, body: Bytes) -> Content {
        let text = Text { header, body: Rope::from(body.clone()) };
        Content { text, binary: false, body: Body::Memory(body) }
    }

    /// Finds the header. A message that does not begin with a field has none.
    pub(crate) async fn read(body: Body) -> Result<Content, Reply> {
        match body {
            Body::Memory(bytes) => {
                let start = &bytes[..bytes.len().min(MAX_HEADER + 4)];
                let Split { header, body } = split(start, bytes.len() as u64)?;
                let block = HeaderBlock::parse(whole_lines(bytes.slice(..header)));
                Ok(Content::new(block, bytes.slice(body..)))
            }
            Body::File { file, offset, len } => {
                let opened = File::open(file.path()).map_err(|error| unreadable(&error))?;
                let source: Arc<dyn waypost_mail::Source> = Arc::new(opened);
                let whole = Rope::stored(source.clone(), offset, len);
                let start = read(whole, |rope| rope.read_at(0, MAX_HEADER + 4)).await?;
                let Split { header, body } = split(&start, len)?;
                let block = HeaderBlock::parse(whole_lines(start.slice(..header)));
                let (offset, len) = (offset + body as u64, len - body as u64);
                let text = Text { header: block, body: Rope::stored(source, offset, len) };
                Ok(Content { text, binary: false, body: Body::File { file, offset, len } })
            }
        }
    }

    /// True when the header is of lines without NUL, which a binary message is not asked for as it
    /// comes in.
    pub(crate) fn has_clean_header(&self) -> bool {
        let header = self.text.header.as_bytes();
        header.split_inclusive(|octet| *octet == b'\n').all(|line| {
            let text = line.strip_suffix(b"\r\n");
            text.is_some_and(|text| !text.iter().any(|octet| matches!(octet, b'\r' | b'\n' | 0)))
        })
    }

    /// True when the message says `TLS-Required: No`, once (RFC 8689 §3).
    pub(crate) fn waives_tls(&self) -> bool {
        let header = &self.text.header;
        let value = header.first("TLS-Required");
        header.count_named("TLS-Required") == 1
            && value.is_some_and(|value| value.trim().eq_ignore_ascii_case("No"))
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

    /// Takes over what policy made of it. A body that it spliced is written anew before anything is
    /// hashed: what is signed are the octets that leave, and none leaves with a bare CR or LF.
    pub(crate) async fn replace(
        &mut self,
        text: Text,
        spliced: bool,
        place: &Place<'_>,
    ) -> Result<(), Reply> {
        self.text.header = text.header;
        if !spliced {
            return Ok(());
        }
        if text.body.len() <= place.memory_limit as u64 {
            let binary = self.binary;
            let body = Bytes::from(read(text.body, move |body| in_memory(body, binary)).await?);
            self.text.body = Rope::from(body.clone());
            self.body = Body::Memory(body);
        } else {
            let binary = self.binary;
            let path = place.directory.join(format!("{:032x}", rand::random::<u128>()));
            let Written { file, source, len } =
                read(text.body, move |body| in_file(body, path, binary)).await?;
            self.text.body = Rope::stored(source, 0, len);
            self.body = Body::File { file, offset: 0, len };
        }
        Ok(())
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

    /// Header fields with the blank line, and the body.
    pub(crate) fn into_parts(self) -> (Bytes, Body) {
        let mut header = BytesMut::with_capacity(self.text.header.as_bytes().len() + 2);
        header.extend_from_slice(self.text.header.as_bytes());
        header.put_slice(b"\r\n");
        (header.freeze(), self.body)
    }
}

/// Where a body goes that is written anew.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    /// Up to so many octets stay in memory.
    pub(crate) memory_limit: usize,
    /// Larger ones get a file here.
    pub(crate) directory: &'a Path,
}

/// A body in a new file.
struct Written {
    file: IncomingFile,
    source: Arc<File>,
    len: u64,
}

fn in_memory(body: &Rope, binary: bool) -> io::Result<Vec<u8>> {
    let mut lines = Lines { binary, after_cr: false };
    let mut out = Vec::with_capacity(body.len() as usize);
    for chunk in body.chunks(PIECE) {
        lines.write(&chunk?, &mut out);
    }
    lines.finish(&mut out);
    Ok(out)
}

fn in_file(body: &Rope, path: PathBuf, binary: bool) -> io::Result<Written> {
    let mut source = File::options().read(true).write(true).create_new(true).open(&path)?;
    let file = IncomingFile::new(path);
    let mut lines = Lines { binary, after_cr: false };
    let (mut out, mut len) = (Vec::with_capacity(PIECE + 1), 0);
    for chunk in body.chunks(PIECE) {
        lines.write(&chunk?, &mut out);
        source.write_all(&out)?;
        len += out.len() as u64;
        out.clear();
    }
    lines.finish(&mut out);
    source.write_all(&out)?;
    len += out.len() as u64;
    Ok(Written { file, source: Arc::new(source), len })
}

/// Makes every line end CRLF, as delivery would: a bare CR or LF counts as one.
#[derive(Debug, Default)]
struct Lines {
    /// There are no lines: every octet stays what it is.
    binary: bool,
    after_cr: bool,
}

impl Lines {
    fn write(&mut self, chunk: &[u8], out: &mut Vec<u8>) {
        if self.binary {
            return out.extend_from_slice(chunk);
        }
        for run in chunk.split_inclusive(|octet| matches!(octet, b'\r' | b'\n')) {
            match run {
                b"\n" if self.after_cr => out.push(b'\n'),
                _ => {
                    self.finish(out);
                    let (text, end) = run.split_at(run.len() - 1);
                    out.extend_from_slice(text);
                    out.extend_from_slice(if end == b"\n" { b"\r\n" } else { end });
                }
            }
            self.after_cr = run.ends_with(b"\r");
        }
    }

    fn finish(&mut self, out: &mut Vec<u8>) {
        if std::mem::take(&mut self.after_cr) {
            out.push(b'\n');
        }
    }
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

/// The header with its last line ended: a chunk may have left it open.
fn whole_lines(header: Bytes) -> Bytes {
    match header.is_empty() || header.ends_with(b"\r\n") {
        true => header,
        false => [header.strip_suffix(b"\r").unwrap_or(&header), b"\r\n"].concat().into(),
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
        let (header, body) = content.unwrap().into_parts();
        let Body::Memory(body) = body else { panic!("moved to a file") };
        (String::from_utf8(header.to_vec()).unwrap(), String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn every_message_gets_a_blank_line_and_loses_no_byte() {
        assert_eq!(parts("A: b\r\n\r\nx\r\n").await, ("A: b\r\n\r\n".into(), "x\r\n".into()));
        assert_eq!(parts("\r\nx\r\n").await, ("\r\n".into(), "x\r\n".into()));
        assert_eq!(parts("hello\r\nx\r\n").await, ("\r\n".into(), "hello\r\nx\r\n".into()));
        assert_eq!(parts("A: b\r\n").await, ("A: b\r\n\r\n".into(), String::new()));
        assert_eq!(parts("A: b").await, ("A: b\r\n\r\n".into(), String::new()));
        assert_eq!(parts("").await, ("\r\n".into(), String::new()));
    }

    #[tokio::test]
    async fn an_endless_header_is_refused() {
        let text = "X: y\r\n".repeat(MAX_HEADER / 6 + 10);
        let refused = Content::read(Body::Memory(text.into())).await;
        assert_eq!(refused.unwrap_err(), HEADER_TOO_LONG);
    }

    /// A message with a body of two megabytes in a file.
    async fn large(directory: &Path) -> Content {
        let path = directory.join("received");
        let received = [&b"A: b\r\n\r\n"[..], &vec![0xfe; 2_000_000], b"\r\n"].concat();
        std::fs::write(&path, &received).unwrap();
        let file = IncomingFile::new(path);
        let body = Body::File { file, offset: 0, len: received.len() as u64 };
        Content::read(body).await.unwrap()
    }

    #[tokio::test]
    async fn a_large_body_that_was_changed_is_written_anew() {
        let directory = tempfile::tempdir().unwrap();
        let place = Place { memory_limit: 1000, directory: directory.path() };
        let mut content = large(directory.path()).await;
        assert!(content.is_eight_bit().await.unwrap());
        let mut text = content.text.clone();
        text.body.splice(1, 1, Bytes::from_static(b"--")).unwrap();
        content.replace(text, true, &place).await.unwrap();
        let wanted = [&b"\xfe--"[..], &vec![0xfe; 1_999_998], b"\r\n"].concat();
        assert_eq!(content.len(), 6 + 2 + wanted.len() as u64);
        let hash = BodyHash::of([Ok(wanted.clone())]).unwrap();
        assert_eq!(content.body_hash().await.unwrap(), hash);
        let (header, body) = content.into_parts();
        assert_eq!(header, "A: b\r\n\r\n");
        let Body::File { file, offset: 0, len } = body else { panic!("not in a file") };
        let written = std::fs::read(file.path()).unwrap();
        assert_eq!(written.len() as u64, len);
        assert!(written == wanted);
        // The one that was received is gone, and this one goes with its owner.
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
        drop(file);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn a_large_body_that_becomes_small_moves_to_memory() {
        let directory = tempfile::tempdir().unwrap();
        let place = Place { memory_limit: 1000, directory: directory.path() };
        let mut content = large(directory.path()).await;
        let mut text = content.text.clone();
        text.body.splice(3, 1_999_990, Bytes::new()).unwrap();
        content.replace(text, true, &place).await.unwrap();
        let Body::Memory(body) = content.into_parts().1 else { panic!("in a file") };
        assert_eq!(body, [&[0xfe; 10][..], b"\r\n"].concat());
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn a_body_in_a_file_stays_there_when_only_the_header_changes() {
        let directory = tempfile::tempdir().unwrap();
        let place = Place { memory_limit: 1000, directory: directory.path() };
        let mut content = large(directory.path()).await;
        let mut text = content.text.clone();
        text.header = text.header.with_top(b"X: y\r\n");
        content.replace(text, false, &place).await.unwrap();
        let (header, body) = content.into_parts();
        assert_eq!(header, "X: y\r\nA: b\r\n\r\n");
        assert!(matches!(body, Body::File { offset: 8, len: 2_000_002, .. }), "{body:?}");
    }

    #[tokio::test]
    async fn a_binary_body_is_spliced_as_it_is_and_has_a_header_of_lines() {
        let place = Place { memory_limit: 1000, directory: "/nonexistent".as_ref() };
        let whole = Bytes::from_static(b"A: b\r\n\r\n\0\n\r\r\nx");
        let mut content = Content::read(Body::Memory(whole)).await.unwrap();
        content.binary = true;
        assert!(content.has_clean_header());
        let mut text = content.text.clone();
        text.body.splice(0, 1, Bytes::from_static(b"\xff\r")).unwrap();
        content.replace(text, true, &place).await.unwrap();
        let Body::Memory(body) = content.into_parts().1 else { panic!("in a file") };
        assert_eq!(&body[..], b"\xff\r\n\r\r\nx");
        for header in ["A: b\n\r\n\r\n", "A: b\rc\r\n\r\n", "A: b\0\r\n\r\n"] {
            let content = Content::read(Body::Memory(Bytes::from_static(header.as_bytes()))).await;
            assert!(!content.unwrap().has_clean_header(), "{header:?}");
        }
    }

    #[tokio::test]
    async fn who_waives_tls_says_so_once() {
        for (header, waived) in [
            ("TLS-Required: No\r\n\r\n", true),
            ("tls-required:  no \r\n\r\n", true),
            ("TLS-Required: Yes\r\n\r\n", false),
            ("TLS-Required: No\r\nTLS-Required: No\r\n\r\n", false),
            ("Subject: No\r\n\r\nTLS-Required: No\r\n", false),
        ] {
            let content = Content::read(Body::Memory(Bytes::from_static(header.as_bytes()))).await;
            assert_eq!(content.unwrap().waives_tls(), waived, "{header:?}");
        }
    }

    #[tokio::test]
    async fn where_nothing_can_be_written_the_message_is_put_off() {
        let directory = tempfile::tempdir().unwrap();
        let nowhere = directory.path().join("nowhere");
        let place = Place { memory_limit: 10, directory: &nowhere };
        let mut content = large(directory.path()).await;
        let text = content.text.clone();
        assert_eq!(content.replace(text, true, &place).await, Err(Reply::LOCAL_ERROR));
    }

    /// As delivery makes them, cut anywhere: else what is signed would not be what is sent.
    #[test]
    fn lines_end_as_they_leave() {
        for number in 0..4usize.pow(6) {
            let text: Vec<u8> = (0..6).map(|place| b"a.\r\n"[number >> (2 * place) & 3]).collect();
            for size in [1, 2, 6] {
                let (mut lines, mut out) = (Lines::default(), Vec::new());
                text.chunks(size).for_each(|chunk| lines.write(chunk, &mut out));
                lines.finish(&mut out);
                let wire = |text: &[u8]| {
                    let (mut stuffer, mut wire) = (waypost_smtp::Stuffer::new(), Vec::new());
                    stuffer.encode(text, &mut wire);
                    stuffer.finish(&mut wire);
                    wire
                };
                assert_eq!(wire(&out), wire(&text), "{}", text.escape_ascii());
                let bare = |at: usize| match out[at] {
                    b'\r' => out.get(at + 1) != Some(&b'\n'),
                    b'\n' => at == 0 || out[at - 1] != b'\r',
                    _ => false,
                };
                assert!(!(0..out.len()).any(bare), "{}", out.escape_ascii());
            }
        }
    }
}
