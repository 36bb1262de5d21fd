//! SMTP replies: ours, by name, and the next hop's, read whole (RFC 5321 §4.2, RFC 3463).

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

/// A three-digit reply code, 200 to 599.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Code(u16);

impl Code {
    /// The code, if it is one that RFC 5321 §4.2.1 knows a meaning for.
    pub const fn new(code: u16) -> Option<Code> {
        if code >= 200 && code <= 599 { Some(Code(code)) } else { None }
    }

    /// The number.
    pub const fn get(self) -> u16 {
        self.0
    }

    /// What the first digit says.
    pub const fn severity(self) -> Severity {
        match self.0 / 100 {
            2 => Severity::Positive,
            3 => Severity::Intermediate,
            4 => Severity::Transient,
            _ => Severity::Permanent,
        }
    }
}

/// The first digit of a reply (RFC 5321 §4.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Severity {
    /// 2xx: done.
    Positive,
    /// 3xx: go on.
    Intermediate,
    /// 4xx: not now.
    Transient,
    /// 5xx: not at all.
    Permanent,
}

/// An enhanced status code, `class.subject.detail` (RFC 3463 §2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Enhanced(pub u8, pub u16, pub u16);

impl Enhanced {
    /// Reads `5.1.1` at the start of a reply text; what follows it is returned too.
    pub fn split(text: &str) -> Option<(Enhanced, &str)> {
        let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
        let mut numbers = word.split('.');
        let mut next = |max_len: usize| {
            let part = numbers.next()?;
            let digits = part.len() <= max_len && part.bytes().all(|b| b.is_ascii_digit());
            if digits { part.parse::<u16>().ok() } else { None }
        };
        let (class, subject, detail) = (next(1)?, next(3)?, next(3)?);
        let legal = matches!(class, 2 | 4 | 5) && numbers.next().is_none();
        legal.then_some((Enhanced(class as u8, subject, detail), rest))
    }
}

impl fmt::Display for Enhanced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

/// A whole reply. Lines of the text are separated by LF; there is no CR and no code in it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Reply {
    /// The three digits.
    pub code: Code,
    /// The enhanced status, where there is one.
    pub enhanced: Option<Enhanced>,
    /// The text of all lines, without codes.
    pub text: Cow<'static, str>,
}

impl Reply {
    /// A reply of ours with a fixed text. `code` must be 200 to 599: checked when constants are
    /// evaluated, and clamped to 451 otherwise.
    pub const fn fixed(code: u16, enhanced: (u8, u16, u16), text: &'static str) -> Reply {
        let code = match Code::new(code) {
            Some(code) => code,
            None => Code(451),
        };
        let enhanced = Some(Enhanced(enhanced.0, enhanced.1, enhanced.2));
        Reply { code, enhanced, text: Cow::Borrowed(text) }
    }

    /// The same without an enhanced code, for the replies that carry none (greeting, EHLO, 354, 334).
    pub const fn plain(code: u16, text: &'static str) -> Reply {
        let code = match Code::new(code) {
            Some(code) => code,
            None => Code(451),
        };
        Reply { code, enhanced: None, text: Cow::Borrowed(text) }
    }

    /// This reply with another text.
    pub fn with_text(self, text: impl Into<String>) -> Reply {
        Reply { text: Cow::Owned(clean(&text.into())), ..self }
    }

    /// What the first digit says.
    pub fn severity(&self) -> Severity {
        self.code.severity()
    }

    /// True for 2xx.
    pub fn is_positive(&self) -> bool {
        self.severity() == Severity::Positive
    }

    /// The reply as bytes for the wire: every line has the code and the enhanced status
    /// (RFC 2034 §4), ends with CRLF and is cut so that it stays within 512 octets
    /// (RFC 5321 §4.5.3.1.5).
    pub fn write(&self, out: &mut Vec<u8>) {
        let mut lines = self.text.split('\n').peekable();
        while let Some(line) = lines.next() {
            let sep = if lines.peek().is_some() { '-' } else { ' ' };
            let head = match self.enhanced {
                Some(enhanced) => format!("{}{sep}{enhanced} ", self.code.0),
                None => format!("{}{sep}", self.code.0),
            };
            let room = 510 - head.len();
            out.extend_from_slice(head.as_bytes());
            out.extend_from_slice(cut(line, room).as_bytes());
            out.extend_from_slice(b"\r\n");
        }
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code.0)?;
        if let Some(enhanced) = self.enhanced {
            write!(f, " {enhanced}")?;
        }
        write!(f, " {}", self.text.replace('\n', " "))
    }
}

/// A reply that can only say "not now": 4xx by construction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransientReply(Reply);

/// A reply that can only say "not at all": 5xx by construction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PermanentReply(Reply);

macro_rules! reply_of_one_class {
    ($name:ident, $severity:expr, $digit:literal) => {
        impl $name {
            /// The reply, unless its code or its enhanced status is of another class.
            pub fn new(reply: Reply) -> Option<Self> {
                let enhanced_fits = reply.enhanced.is_none_or(|e| e.0 == $digit);
                (reply.severity() == $severity && enhanced_fits).then_some(Self(reply))
            }

            /// The reply inside.
            pub fn reply(&self) -> &Reply {
                &self.0
            }

            /// The reply inside, by value.
            pub fn into_reply(self) -> Reply {
                self.0
            }
        }
    };
}

reply_of_one_class!(TransientReply, Severity::Transient, 4);
reply_of_one_class!(PermanentReply, Severity::Permanent, 5);

impl TransientReply {
    /// "Try again later", for our own faults (RFC 3463 §3.4, X.3.0).
    pub const LOCAL_ERROR: TransientReply = TransientReply(Reply::LOCAL_ERROR);
}

/// Replies by name. The texts are ours; codes and enhanced codes are from RFC 5321 §4.2 and the
/// IANA registry of enhanced status codes.
impl Reply {
    /// 250 2.0.0
    pub const OK: Reply = Reply::fixed(250, (2, 0, 0), "OK");
    /// 250 2.1.0
    pub const SENDER_OK: Reply = Reply::fixed(250, (2, 1, 0), "Sender OK");
    /// 250 2.1.5
    pub const RECIPIENT_OK: Reply = Reply::fixed(250, (2, 1, 5), "Recipient OK");
    /// 354
    pub const START_DATA: Reply = Reply::plain(354, "Go ahead, end with <CRLF>.<CRLF>");
    /// 221 2.0.0
    pub const CLOSING: Reply = Reply::fixed(221, (2, 0, 0), "Closing, bye");
    /// 220 2.0.0
    pub const READY_FOR_TLS: Reply = Reply::fixed(220, (2, 0, 0), "Ready to start TLS");
    /// 235 2.7.0
    pub const AUTHENTICATED: Reply = Reply::fixed(235, (2, 7, 0), "Authentication succeeded");
    /// 252 2.1.5
    pub const CANNOT_VERIFY: Reply =
        Reply::fixed(252, (2, 1, 5), "Cannot verify, send a message to try");
    /// 421 4.3.2
    pub const SHUTTING_DOWN: Reply =
        Reply::fixed(421, (4, 3, 2), "Service shutting down, try again later");
    /// 421 4.4.2
    pub const IDLE_TIMEOUT: Reply = Reply::fixed(421, (4, 4, 2), "Waited too long, closing");
    /// 421 4.4.2
    pub const TOO_SLOW: Reply = Reply::fixed(421, (4, 4, 2), "Message comes too slowly, closing");
    /// 421 4.3.2
    pub const TOO_BUSY: Reply = Reply::fixed(421, (4, 3, 2), "Too many sessions, try again later");
    /// 421 4.7.0
    pub const TOO_MANY_ERRORS: Reply = Reply::fixed(421, (4, 7, 0), "Too many errors, closing");
    /// 421 4.7.0
    pub const TOO_MANY_COMMANDS: Reply =
        Reply::fixed(421, (4, 7, 0), "Too many commands without mail, closing");
    /// 421 4.7.0
    pub const TOO_MANY_MESSAGES: Reply =
        Reply::fixed(421, (4, 7, 0), "Enough messages for one session, closing");
    /// 421 4.3.0
    pub const INTERNAL_FAULT: Reply =
        Reply::fixed(421, (4, 3, 0), "Internal error, closing, try again later");
    /// 450 4.7.1
    pub const TOO_MANY_IN_TIME: Reply =
        Reply::fixed(450, (4, 7, 1), "Too many messages in too short a time, try again later");
    /// 451 4.3.0
    pub const LOCAL_ERROR: Reply = Reply::fixed(451, (4, 3, 0), "Local error, try again later");
    /// 452 4.3.1
    pub const INSUFFICIENT_STORAGE: Reply =
        Reply::fixed(452, (4, 3, 1), "Not enough storage, try again later");
    /// 452 4.3.1
    pub const INSUFFICIENT_MEMORY: Reply =
        Reply::fixed(452, (4, 3, 1), "Not enough memory, try again later");
    /// 452 4.3.1
    pub const QUEUE_FULL: Reply =
        Reply::fixed(452, (4, 3, 1), "Too much mail is waiting, try again later");
    /// 452 4.5.3
    pub const TOO_MANY_RECIPIENTS: Reply =
        Reply::fixed(452, (4, 5, 3), "Too many recipients, send the rest in another transaction");
    /// 454 4.7.0
    pub const AUTH_UNAVAILABLE: Reply =
        Reply::fixed(454, (4, 7, 0), "Temporary authentication failure, try again later");
    /// 454 4.7.0
    pub const TLS_UNAVAILABLE: Reply =
        Reply::fixed(454, (4, 7, 0), "TLS not available, try again later");
    /// 500 5.5.2
    pub const COMMAND_UNKNOWN: Reply = Reply::fixed(500, (5, 5, 2), "Command not recognized");
    /// 500 5.5.2
    pub const BAD_LINE: Reply =
        Reply::fixed(500, (5, 5, 2), "Bare CR, bare LF, NUL or broken UTF-8 in a command");
    /// 500 5.5.6
    pub const LINE_TOO_LONG: Reply = Reply::fixed(500, (5, 5, 6), "Line too long");
    /// 501 5.5.4
    pub const BAD_ARGUMENTS: Reply = Reply::fixed(501, (5, 5, 4), "Syntax error in arguments");
    /// 501 5.5.4
    pub const HOLD_TOO_LONG: Reply =
        Reply::fixed(501, (5, 5, 4), "Hold is longer than FUTURERELEASE allows");
    /// 501 5.5.4
    pub const DELIVER_BY_TOO_SOON: Reply =
        Reply::fixed(501, (5, 5, 4), "BY with R is sooner than DELIVERBY allows");
    /// 501 5.5.2
    pub const BAD_BASE64: Reply = Reply::fixed(501, (5, 5, 2), "Cannot decode base64");
    /// 501 5.1.7
    pub const BAD_SENDER_SYNTAX: Reply = Reply::fixed(501, (5, 1, 7), "Bad sender address syntax");
    /// 501 5.1.3
    pub const BAD_RECIPIENT_SYNTAX: Reply =
        Reply::fixed(501, (5, 1, 3), "Bad recipient address syntax");
    /// 501 5.7.0
    pub const AUTH_CANCELLED: Reply = Reply::fixed(501, (5, 7, 0), "Authentication cancelled");
    /// 502 5.5.1
    pub const NOT_IMPLEMENTED: Reply = Reply::fixed(502, (5, 5, 1), "Command not implemented");
    /// 503 5.5.1
    pub const BAD_SEQUENCE: Reply = Reply::fixed(503, (5, 5, 1), "Bad sequence of commands");
    /// 503 5.5.1
    pub const BINARY_NEEDS_BDAT: Reply =
        Reply::fixed(503, (5, 5, 1), "BODY=BINARYMIME comes by BDAT, not DATA");
    /// 504 5.5.4
    pub const PARAMETER_NOT_IMPLEMENTED: Reply =
        Reply::fixed(504, (5, 5, 4), "Parameter not implemented");
    /// 504 5.5.4
    pub const NO_SUCH_HELP: Reply =
        Reply::fixed(504, (5, 5, 4), "No help about that; HELP alone tells the commands");
    /// 530 5.7.0
    pub const STARTTLS_FIRST: Reply = Reply::fixed(530, (5, 7, 0), "Must issue STARTTLS first");
    /// 530 5.7.0
    pub const AUTH_REQUIRED: Reply = Reply::fixed(530, (5, 7, 0), "Authentication required");
    /// 535 5.7.8
    pub const BAD_CREDENTIALS: Reply =
        Reply::fixed(535, (5, 7, 8), "Authentication credentials invalid");
    /// 538 5.7.11
    pub const ENCRYPTION_NEEDED: Reply =
        Reply::fixed(538, (5, 7, 11), "Encryption required for this mechanism");
    /// 550 5.1.1
    pub const MAILBOX_UNAVAILABLE: Reply = Reply::fixed(550, (5, 1, 1), "No such mailbox");
    /// 550 5.6.7
    pub const NEEDS_SMTPUTF8: Reply =
        Reply::fixed(550, (5, 6, 7), "Internationalized address without SMTPUTF8");
    /// 550 5.7.1
    pub const RELAY_DENIED: Reply = Reply::fixed(550, (5, 7, 1), "Relaying denied");
    /// 552 5.3.4
    pub const MESSAGE_TOO_BIG: Reply = Reply::fixed(552, (5, 3, 4), "Message too big");
    /// 552 5.3.4
    pub const TOO_MANY_FIELDS: Reply = Reply::fixed(552, (5, 3, 4), "Too many header fields");
    /// 553 5.6.7
    pub const RECIPIENT_NEEDS_SMTPUTF8: Reply =
        Reply::fixed(553, (5, 6, 7), "Internationalized address without SMTPUTF8");
    /// 554 5.5.1
    pub const NO_VALID_RECIPIENTS: Reply = Reply::fixed(554, (5, 5, 1), "No valid recipients");
    /// 554 5.6.0
    pub const BARE_LINE_ENDING: Reply =
        Reply::fixed(554, (5, 6, 0), "Bare CR or LF in message, lines end with CRLF");
    /// 554 5.6.0
    pub const NUL_IN_MESSAGE: Reply = Reply::fixed(554, (5, 6, 0), "NUL octet in message");
    /// 554 5.6.0
    pub const TEXT_LINE_TOO_LONG: Reply =
        Reply::fixed(554, (5, 6, 0), "Line over 998 octets in message");
    /// 554 5.5.1
    pub const OUT_OF_TURN: Reply =
        Reply::fixed(554, (5, 5, 1), "Spoke before the reply that had to be awaited, closing");
    /// 554 5.4.6
    pub const ROUTING_LOOP: Reply = Reply::fixed(554, (5, 4, 6), "Too many hops, routing loop");
    /// 554 5.7.1
    pub const REFUSED_BY_POLICY: Reply = Reply::fixed(554, (5, 7, 1), "Refused by policy");
    /// 555 5.5.4
    pub const UNKNOWN_PARAMETER: Reply = Reply::fixed(555, (5, 5, 4), "Parameter not recognized");
}

/// Control characters other than LF become spaces: no text of ours can carry a second reply.
fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { ' ' } else { c }).collect()
}

fn cut(line: &str, room: usize) -> &str {
    if line.len() <= room {
        return line;
    }
    let mut end = room;
    while !line.is_char_boundary(end) {
        end -= 1;
    }
    &line[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(reply: &Reply) -> String {
        let mut out = Vec::new();
        reply.write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn every_line_carries_code_and_status() {
        let reply = Reply::OK.with_text("one\ntwo");
        assert_eq!(wire(&reply), "250-2.0.0 one\r\n250 2.0.0 two\r\n");
        assert_eq!(wire(&Reply::START_DATA), "354 Go ahead, end with <CRLF>.<CRLF>\r\n");
    }

    #[test]
    fn no_text_can_forge_a_second_reply() {
        let reply = Reply::OK.with_text("x\r\n250 forged\0");
        assert_eq!(wire(&reply), "250-2.0.0 x \r\n250 2.0.0 250 forged \r\n");
    }

    #[test]
    fn long_lines_stay_within_512_octets() {
        let reply = Reply::OK.with_text("ü".repeat(400));
        assert!(wire(&reply).len() <= 512);
    }

    #[test]
    fn a_class_cannot_be_wrong() {
        assert!(TransientReply::new(Reply::RELAY_DENIED).is_none());
        assert!(PermanentReply::new(Reply::LOCAL_ERROR).is_none());
        assert!(PermanentReply::new(Reply::fixed(550, (4, 1, 1), "x")).is_none());
        assert!(PermanentReply::new(Reply::RELAY_DENIED).is_some());
    }

    #[test]
    fn enhanced_codes_are_read_strictly() {
        assert_eq!(Enhanced::split("5.1.1 no"), Some((Enhanced(5, 1, 1), "no")));
        assert_eq!(Enhanced::split("4.7.650"), Some((Enhanced(4, 7, 650), "")));
        for text in ["3.1.1 x", "5.1 x", "5.1.1.1 x", "5.1.x y", "55.1.1 x", "", "5..1 x"] {
            assert_eq!(Enhanced::split(text), None, "{text}");
        }
    }
}
