//! What a next hop sends, cut into whole replies (RFC 5321 §4.2.1).

use crate::reply::{Code, Enhanced, Reply};

/// Longest line taken, in octets with its line ending. RFC 5321 §4.5.3.1.5 allows 512, practice
/// sends more.
pub const MAX_LINE: usize = 4096;
/// Most lines in one reply.
pub const MAX_LINES: usize = 128;
/// Longest reply, all its lines together, in octets.
pub const MAX_REPLY: usize = 64 * 1024;
/// Most octets that may wait unread: far more than the replies to one pipelined group.
pub const MAX_WAITING: usize = 1024 * 1024;

/// Octets of a bad line that an error keeps.
const MAX_QUOTED: usize = 80;

/// Why bytes from a next hop are no reply. Nothing that follows on the connection can be trusted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReplyError {
    /// A line does not begin with a code of 200 to 599 and a space, a hyphen or its end.
    #[error("the server sent {0:?}, which is no SMTP reply")]
    NotAReply(String),
    /// The lines of one reply carry different codes (RFC 5321 §4.2.1).
    #[error("the server began a reply with {first} and went on with {then}")]
    MixedCodes {
        /// The code of the first line.
        first: u16,
        /// The code that differs.
        then: u16,
    },
    /// A line is longer than [`MAX_LINE`].
    #[error("the server sent a reply line of more than {MAX_LINE} octets")]
    LineTooLong,
    /// A reply has more than [`MAX_LINES`] lines.
    #[error("the server sent a reply of more than {MAX_LINES} lines")]
    TooManyLines,
    /// A reply is longer than [`MAX_REPLY`].
    #[error("the server sent a reply of more than {MAX_REPLY} octets")]
    TooLong,
    /// More than [`MAX_WAITING`] octets arrived that nobody asked for.
    #[error("the server sent more than {MAX_WAITING} octets without being asked")]
    Flood,
}

/// Bytes in, whole replies out. The replies do not depend on how the bytes were cut.
///
/// Lines may end with a bare LF, a text that is no UTF-8 is read lossily, and control characters
/// in it become spaces. After an error every further call gives the same error.
#[derive(Debug, Default)]
pub struct ReplyParser {
    waiting: Vec<u8>,
    read: usize,
    partial: Option<Partial>,
    error: Option<ReplyError>,
}

/// The lines of a reply whose last line has not come yet.
#[derive(Debug)]
struct Partial {
    code: Code,
    enhanced: Option<Enhanced>,
    text: String,
    lines: usize,
    octets: usize,
}

impl ReplyParser {
    /// A parser at the start of a reply.
    pub fn new() -> ReplyParser {
        ReplyParser::default()
    }

    /// Bytes arrived. Read the replies with [`ReplyParser::pull`] after each push.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.waiting.len() - self.read + bytes.len() > MAX_WAITING {
            self.error.get_or_insert(ReplyError::Flood);
        }
        if self.error.is_some() {
            self.waiting = Vec::new();
            self.read = 0;
            return;
        }
        if self.read == self.waiting.len() {
            self.waiting.clear();
            self.read = 0;
        }
        self.waiting.extend_from_slice(bytes);
    }

    /// The next whole reply, or `None` when more bytes are needed for it.
    pub fn pull(&mut self) -> Result<Option<Reply>, ReplyError> {
        if let Some(error) = &self.error {
            return Err(error.clone());
        }
        let pulled = self.pull_lines();
        self.error = pulled.as_ref().err().cloned();
        pulled
    }

    /// True when no byte waits: neither a reply nor a part of one.
    pub fn is_empty(&self) -> bool {
        self.read == self.waiting.len() && self.partial.is_none()
    }

    fn pull_lines(&mut self) -> Result<Option<Reply>, ReplyError> {
        loop {
            let rest = &self.waiting[self.read..];
            let Some(end) = memchr::memchr(b'\n', rest) else {
                let too_long = rest.len() >= MAX_LINE;
                self.waiting.drain(..self.read);
                self.read = 0;
                return if too_long { Err(ReplyError::LineTooLong) } else { Ok(None) };
            };
            if end >= MAX_LINE {
                return Err(ReplyError::LineTooLong);
            }
            let line = Line::parse(&rest[..end])?;
            let last = line.last;
            let partial = match self.partial.take() {
                None => Partial::begin(&line),
                Some(partial) => partial.proceed(&line)?,
            };
            let partial = partial.count(end + 1)?;
            self.read += end + 1;
            if last {
                return Ok(Some(partial.finish()));
            }
            self.partial = Some(partial);
        }
    }
}

impl Partial {
    fn begin(line: &Line<'_>) -> Partial {
        let (enhanced, text) = line.split_enhanced();
        Partial { code: line.code, enhanced, text: text.to_owned(), lines: 0, octets: 0 }
    }

    fn proceed(mut self, line: &Line<'_>) -> Result<Partial, ReplyError> {
        if line.code != self.code {
            return Err(ReplyError::MixedCodes { first: self.code.get(), then: line.code.get() });
        }
        let text = match self.enhanced {
            Some(_) => line.split_enhanced().1,
            None => &line.text,
        };
        self.text.push('\n');
        self.text.push_str(text);
        Ok(self)
    }

    fn count(mut self, octets: usize) -> Result<Partial, ReplyError> {
        self.lines += 1;
        self.octets += octets;
        if self.lines > MAX_LINES {
            return Err(ReplyError::TooManyLines);
        }
        if self.octets > MAX_REPLY {
            return Err(ReplyError::TooLong);
        }
        Ok(self)
    }

    fn finish(self) -> Reply {
        Reply { code: self.code, enhanced: self.enhanced, text: "".into() }.with_text(self.text)
    }
}

/// One line of a reply: `250-text` or `250 text`.
struct Line<'a> {
    code: Code,
    last: bool,
    text: std::borrow::Cow<'a, str>,
}

impl<'a> Line<'a> {
    /// Reads a line without its LF.
    fn parse(line: &'a [u8]) -> Result<Line<'a>, ReplyError> {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let bad = || ReplyError::NotAReply(quoted(line));
        let digits = line.get(..3).filter(|d| d.iter().all(u8::is_ascii_digit)).ok_or_else(bad)?;
        let number = digits.iter().fold(0, |n, digit| n * 10 + u16::from(digit - b'0'));
        let code = Code::new(number).ok_or_else(bad)?;
        let last = match line.get(3) {
            None | Some(b' ') => true,
            Some(b'-') => false,
            Some(_) => return Err(bad()),
        };
        let text = String::from_utf8_lossy(line.get(4..).unwrap_or_default());
        Ok(Line { code, last, text })
    }

    /// The enhanced status and what follows it. One of another class than the code is text
    /// (RFC 2034 §4 has them agree).
    fn split_enhanced(&self) -> (Option<Enhanced>, &str) {
        match Enhanced::split(&self.text) {
            Some((enhanced, rest)) if u16::from(enhanced.0) == self.code.get() / 100 => {
                (Some(enhanced), rest)
            }
            _ => (None, &self.text),
        }
    }
}

/// A whole reply as a person writes it down: its lines, with or without CR, and nothing behind.
impl std::str::FromStr for Reply {
    type Err = ReplyError;
    fn from_str(text: &str) -> Result<Reply, ReplyError> {
        let mut parser = ReplyParser::new();
        for line in text.trim().lines() {
            parser.push(line.trim_start().as_bytes());
            parser.push(b"\n");
        }
        let whole = parser.pull()?.filter(|_| parser.is_empty());
        whole.ok_or_else(|| ReplyError::NotAReply(quoted(text.as_bytes())))
    }
}

/// The start of a line that is fit for a log.
fn quoted(line: &[u8]) -> String {
    let start = &line[..line.len().min(MAX_QUOTED)];
    String::from_utf8_lossy(start).chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(bytes: &[u8], chunk: usize) -> (Vec<Reply>, Option<ReplyError>) {
        let mut parser = ReplyParser::new();
        let mut replies = Vec::new();
        for piece in bytes.chunks(chunk) {
            parser.push(piece);
            loop {
                match parser.pull() {
                    Ok(Some(reply)) => replies.push(reply),
                    Ok(None) => break,
                    Err(error) => return (replies, Some(error)),
                }
            }
        }
        (replies, None)
    }

    /// The replies of `bytes`, which must be the same for every size of chunk.
    fn parsed(bytes: &[u8]) -> (Vec<Reply>, Option<ReplyError>) {
        let whole = all(bytes, bytes.len());
        for chunk in [1, 2, 3, 7, 100] {
            assert_eq!(all(bytes, chunk), whole, "in chunks of {chunk}");
        }
        whole
    }

    fn error(bytes: &[u8]) -> ReplyError {
        parsed(bytes).1.expect("an error")
    }

    #[test]
    fn pipelined_replies_come_out_one_by_one() {
        let (replies, error) =
            parsed(b"250 2.1.0 ok\r\n550-5.1.1 no\n550 5.1.1 such user\n354\r\n");
        assert_eq!(error, None);
        let shown: Vec<String> = replies.iter().map(Reply::to_string).collect();
        assert_eq!(shown, ["250 2.1.0 ok", "550 5.1.1 no such user", "354 "]);
        assert_eq!(replies[1].text, "no\nsuch user");
    }

    #[test]
    fn a_reply_is_read_as_people_write_it() {
        let reply: Reply = "550-5.1.1 no\n 550 5.1.1 such user".parse().unwrap();
        assert_eq!(reply.to_string(), "550 5.1.1 no such user");
        for wrong in ["", "hello", "550-open", "550 x\n250 y", "650 x"] {
            assert!(wrong.parse::<Reply>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_status_is_only_one_when_its_class_fits() {
        let (replies, _) = parsed(b"550 2.0.0 odd\r\n250-ok\r\n250 2.0.0 kept\r\n354 3.0.0 go\r\n");
        assert!(replies.iter().all(|reply| reply.enhanced.is_none()));
        assert_eq!(replies[0].text, "2.0.0 odd");
        assert_eq!(replies[1].text, "ok\n2.0.0 kept");
    }

    #[test]
    fn hostile_text_is_tamed() {
        let (replies, _) = parsed(b"250 a\xff\x1b[2J\0\rb\r\n");
        assert_eq!(replies[0].text, "a\u{fffd} [2J  b");
    }

    #[test]
    fn what_is_no_reply_is_an_error() {
        for bytes in
            ["\r\n", "25\r\n", "2500 x\r\n", "abc x\r\n", "150 x\r\n", "600 x\r\n", "250\tx\n"]
        {
            assert!(matches!(error(bytes.as_bytes()), ReplyError::NotAReply(_)), "{bytes:?}");
        }
        assert_eq!(error(b"HTTP/1.1 400\x07\r\n"), ReplyError::NotAReply("HTTP/1.1 400 ".into()));
        assert_eq!(error(b"250-a\r\n251 b\r\n"), ReplyError::MixedCodes { first: 250, then: 251 });
    }

    #[test]
    fn every_size_has_a_limit() {
        let line = |length: usize| format!("250 {}\r\n", "x".repeat(length - 6)).into_bytes();
        assert_eq!(parsed(&line(MAX_LINE)).1, None);
        assert_eq!(error(&line(MAX_LINE + 1)), ReplyError::LineTooLong);
        assert_eq!(error(&vec![b'2'; MAX_LINE]), ReplyError::LineTooLong);

        let lines = |count: usize| [b"250-x\r\n".repeat(count - 1), b"250 x\r\n".to_vec()].concat();
        assert_eq!(parsed(&lines(MAX_LINES)).1, None);
        assert_eq!(error(&lines(MAX_LINES + 1)), ReplyError::TooManyLines);

        let long = format!("250-{}\r\n", "x".repeat(1018)).into_bytes();
        assert_eq!(parsed(&[long.repeat(63), line(1024)].concat()).1, None);
        assert_eq!(error(&long.repeat(65)), ReplyError::TooLong);

        let mut parser = ReplyParser::new();
        parser.push(&vec![b'\n'; MAX_WAITING + 1]);
        assert_eq!(parser.pull(), Err(ReplyError::Flood));
        assert_eq!(parser.pull(), Err(ReplyError::Flood));
    }

    #[test]
    fn a_part_of_a_reply_is_not_nothing() {
        let mut parser = ReplyParser::new();
        assert!(parser.is_empty());
        parser.push(b"250-a\r\n");
        assert_eq!(parser.pull(), Ok(None));
        assert!(!parser.is_empty());
        parser.push(b"250 b\r\n");
        assert!(parser.pull().is_ok_and(|reply| reply.is_some()));
        assert!(parser.is_empty());
    }
}
