//! Notices about a message's fate (RFC 3461, RFC 3464, RFC 6533).
//!
//! A [`FailureNotice`] is what the sender of a message is told when recipients of it failed: words
//! for a person, the same for a program, and the header of the message it is about.

use bytes::Bytes;
use waypost_smtp::Mailbox;

use crate::header::field;
use crate::{Entry, HeaderBlock, RecipientEntry, Timestamp, Why};

/// Most octets of the original header that a notice returns.
pub const MAX_RETURNED_HEADER: usize = 64 * 1024;
/// Longest line of the part for persons, in octets, where words allow it.
const TEXT_WIDTH: usize = 76;

/// Recipients of a message that failed for good.
#[derive(Debug, Clone, Copy)]
pub struct FailureNotice<'a> {
    /// The message they are recipients of.
    pub entry: &'a Entry,
    /// Who failed, and why. Not empty.
    pub failed: &'a [(RecipientEntry, Why)],
    /// Our host name.
    pub reporting_mta: &'a str,
    /// The present moment.
    pub now: Timestamp,
    /// The header of the message, as it is stored; at most [`MAX_RETURNED_HEADER`] octets of it
    /// are returned.
    pub original_header: &'a [u8],
}

/// A notice as a message: a multipart/report (RFC 6522).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// Whom it goes to. Its own sender is the null path (RFC 3464 §2).
    pub to: Mailbox,
    /// The header fields, each with its CRLF, without the blank line.
    pub header: Bytes,
    /// The blank line and the body.
    pub body: Bytes,
}

impl FailureNotice<'_> {
    /// The notice; absent when the message came from the null sender, to whom nothing is ever
    /// returned (RFC 5321 §4.5.5).
    ///
    /// Lines end with CRLF and stay below 998 octets. All octets are below 128 unless the sender's
    /// own address is internationalized.
    pub fn compose(&self) -> Option<Notice> {
        let to = self.entry.sender.mailbox()?;
        let transport = if to.is_ascii() { Transport::SevenBit } else { Transport::EightBit };
        let parts = [
            Part::text("text/plain", "Notification", self.for_persons().into_bytes()),
            self.for_programs(),
            self.original(),
        ];
        let boundary = self.boundary(&parts);
        let mut body = b"\r\nThis is a MIME-encapsulated message.\r\n".to_vec();
        for part in parts {
            body.extend_from_slice(format!("\r\n--{boundary}\r\n").as_bytes());
            part.write(transport, &mut body);
        }
        body.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
        let header = self.header(to, &boundary).into();
        Some(Notice { to: to.clone(), header, body: body.into() })
    }

    fn header(&self, to: &Mailbox, boundary: &str) -> Vec<u8> {
        let mta = self.reporting_mta;
        let (id, Timestamp(now)) = (self.entry.id, self.now);
        let mut header = Vec::with_capacity(1024);
        let mut add = |name: &str, value: &str| header.extend(field(name, value));
        add("From", &format!("Mail Delivery System <MAILER-DAEMON@{mta}>"));
        add("To", &format!("<{to}>"));
        add("Subject", "Your message could not be delivered");
        add("Date", &self.now.rfc5322());
        add("Message-ID", &format!("<{id}.{now}.notice@{mta}>"));
        if let Some(original) = self.original_message_id() {
            // RFC 3834 §3.1.5
            add("In-Reply-To", &original);
            add("References", &original);
        }
        add("Auto-Submitted", "auto-replied");
        add("MIME-Version", "1.0");
        let report = "multipart/report; report-type=delivery-status";
        add("Content-Type", &format!("{report}; boundary=\"{boundary}\""));
        header
    }

    fn original_message_id(&self) -> Option<String> {
        let header = HeaderBlock::parse(Bytes::copy_from_slice(self.returned_header()));
        let id = header.first("message-id")?;
        let legal = id.len() <= 250
            && id.starts_with('<')
            && id.ends_with('>')
            && id.bytes().all(|b| b.is_ascii_graphic());
        legal.then_some(id)
    }

    fn for_persons(&self) -> String {
        let Entry { id, received, .. } = self.entry;
        let mut text = String::new();
        paragraph(&mut text, "", &format!("This is the mail relay {}.", self.reporting_mta));
        paragraph(
            &mut text,
            "",
            &format!(
                "Your message, received on {}, could not be delivered to the recipients below. \
                 It will not be tried again for them.",
                received.rfc5322()
            ),
        );
        for (recipient, why) in self.failed {
            text.push_str(&format!("<{}>\r\n", recipient.recipient.mailbox));
            paragraph(&mut text, "    ", &format!("What happened: {why}"));
            paragraph(&mut text, "    ", &format!("What to do: {}", advice(why)));
        }
        paragraph(
            &mut text,
            "",
            &format!("If you ask your postmaster for help, name the message: {id}."),
        );
        text
    }

    /// message/delivery-status (RFC 3464 §2.1), or its internationalized form (RFC 6533 §4) when
    /// an address needs it.
    fn for_programs(&self) -> Part {
        let mut status = field("Reporting-MTA", &format!("dns; {}", self.reporting_mta));
        status.extend(field("Arrival-Date", &self.entry.received.rfc5322()));
        for (recipient, why) in self.failed {
            status.extend_from_slice(b"\r\n");
            self.recipient_fields(&recipient.recipient.mailbox, why, &mut status);
        }
        let global = self.failed.iter().any(|(r, _)| !r.recipient.mailbox.is_ascii());
        if global {
            return Part::text("message/global-delivery-status", "Delivery report", status);
        }
        // Here a remote reply is the only thing that could be beyond ASCII, and may not be.
        let ascii = status.into_iter().filter(|b| !is_continuation(*b));
        let status = ascii.map(|b| if b.is_ascii() { b } else { b'?' }).collect();
        Part::text("message/delivery-status", "Delivery report", status)
    }

    /// RFC 3464 §2.3
    fn recipient_fields(&self, mailbox: &Mailbox, why: &Why, status: &mut Vec<u8>) {
        let mut add = |name: &str, value: &str| status.extend(field(name, value));
        let kind = if mailbox.is_ascii() { "rfc822" } else { "utf-8" };
        add("Final-Recipient", &format!("{kind}; {mailbox}"));
        add("Action", "failed");
        add("Status", &why.status().to_string());
        if let Some(hop) = why.hop() {
            add("Remote-MTA", &format!("dns; {}", host_of(hop)));
        }
        match why.reply() {
            Some(reply) => add("Diagnostic-Code", &format!("smtp; {reply}")),
            None => add("Diagnostic-Code", &format!("x-waypost; {why}")),
        }
        add("Last-Attempt-Date", &self.now.rfc5322());
    }

    fn original(&self) -> Part {
        let header = self.returned_header();
        let is_global = self.entry.smtputf8 && std::str::from_utf8(header).is_ok();
        let content_type = if is_global { "message/global-headers" } else { "text/rfc822-headers" };
        Part { content_type, description: "Header of your message", content: header.to_vec() }
    }

    /// The original header, cut after a whole line.
    fn returned_header(&self) -> &[u8] {
        let header = self.original_header;
        let Some(start) = header.get(..MAX_RETURNED_HEADER) else { return header };
        &start[..memchr::memrchr(b'\n', start).map_or(0, |end| end + 1)]
    }

    /// A line that no part contains. A stranger wrote parts of them, so it is not left to chance.
    fn boundary(&self, parts: &[Part]) -> String {
        let mut boundary = format!("=_notice_{}_{}", self.entry.id, self.now.0);
        while parts.iter().any(|p| memchr::memmem::find(&p.content, boundary.as_bytes()).is_some())
        {
            boundary.push('x');
        }
        boundary
    }
}

/// What the way of the notice can carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Transport {
    SevenBit,
    EightBit,
}

/// One part of the report.
struct Part {
    content_type: &'static str,
    description: &'static str,
    content: Vec<u8>,
}

impl Part {
    fn text(content_type: &'static str, description: &'static str, content: Vec<u8>) -> Part {
        Part { content_type, description, content }
    }

    fn write(&self, transport: Transport, out: &mut Vec<u8>) {
        let ascii = self.content.is_ascii();
        let charset = match self.content_type {
            "text/plain" if ascii => "; charset=us-ascii",
            "text/plain" => "; charset=utf-8",
            _ => "",
        };
        let as_is = has_mail_lines(&self.content) && (ascii || transport == Transport::EightBit);
        let encoding = match (as_is, ascii) {
            (true, true) => "7bit",
            (true, false) => "8bit",
            (false, _) => "quoted-printable",
        };
        out.extend(field("Content-Type", &format!("{}{charset}", self.content_type)));
        out.extend(field("Content-Description", self.description));
        out.extend(field("Content-Transfer-Encoding", encoding));
        out.extend_from_slice(b"\r\n");
        if as_is {
            out.extend_from_slice(&self.content);
        } else {
            quoted_printable(&self.content, out);
        }
    }
}

/// True when lines end with CRLF, there is no other CR or LF, and none has over 998 octets.
fn has_mail_lines(content: &[u8]) -> bool {
    content.split_inclusive(|b| *b == b'\n').all(|line| {
        let text = line.strip_suffix(b"\r\n").unwrap_or(line);
        text.len() <= 998 && !text.iter().any(|b| matches!(b, b'\r' | b'\n' | 0))
    })
}

/// RFC 2045 §6.7
fn quoted_printable(content: &[u8], out: &mut Vec<u8>) {
    const WIDTH: usize = 75;
    for line in content.split_inclusive(|b| *b == b'\n') {
        let (text, ended) = match line.strip_suffix(b"\r\n") {
            Some(text) => (text, true),
            None => (line, false),
        };
        let mut column = 0;
        for (at, byte) in text.iter().enumerate() {
            let last = at + 1 == text.len();
            let plain = matches!(byte, b'!'..=b'<' | b'>'..=b'~')
                || (matches!(byte, b' ' | b'\t') && !last);
            let width = if plain { 1 } else { 3 };
            if column + width > WIDTH {
                out.extend_from_slice(b"=\r\n");
                column = 0;
            }
            if plain {
                out.push(*byte);
            } else {
                out.extend_from_slice(format!("={byte:02X}").as_bytes());
            }
            column += width;
        }
        if ended {
            out.extend_from_slice(b"\r\n");
        }
    }
}

/// `host[address]:port` without what follows the name; an address alone stays in its brackets.
fn host_of(hop: &str) -> &str {
    match hop.find('[') {
        Some(0) => hop.find(']').map_or(hop, |end| &hop[..=end]),
        Some(at) => &hop[..at],
        None => hop,
    }
}

fn is_continuation(byte: u8) -> bool {
    byte & 0b1100_0000 == 0b1000_0000
}

/// Words in lines of [`TEXT_WIDTH`], the second and further ones indented a bit more, then an
/// empty line.
fn paragraph(text: &mut String, indent: &str, words: &str) {
    let mut line = indent.to_owned();
    let mut fresh = true;
    for word in words.split(|c: char| c.is_control() || c == ' ').filter(|w| !w.is_empty()) {
        for piece in pieces(word) {
            if !fresh && line.len() + 1 + piece.len() > TEXT_WIDTH {
                text.push_str(&line);
                text.push_str("\r\n");
                line = indent.to_owned();
                fresh = true;
            }
            if !fresh {
                line.push(' ');
            }
            line.push_str(piece);
            fresh = false;
        }
    }
    text.push_str(&line);
    text.push_str("\r\n\r\n");
}

/// Cuts a word that no line of a message can hold.
fn pieces(word: &str) -> impl Iterator<Item = &str> {
    let mut rest = word;
    std::iter::from_fn(move || {
        let (piece, tail) = rest.split_at(rest.floor_char_boundary(rest.len().min(800)));
        rest = tail;
        (!piece.is_empty()).then_some(piece)
    })
}

/// What a sender can do about a failure.
fn advice(why: &Why) -> &'static str {
    match why {
        Why::NoSuchDomain(_) | Why::NullMx(_) => {
            "check the part of the address behind the @ for mistakes; no mail can be sent to it \
             as it is written."
        }
        Why::Loop(_) | Why::NoAddress(_) => {
            "tell the recipient by other means that the mail set-up of their domain is faulty."
        }
        Why::NeedsEightBit(_) | Why::NeedsSmtputf8(_) => {
            "send it again without accented letters in addresses and header fields, as an \
             attachment if need be; the recipient's server is an old one."
        }
        Why::TooBig(_) => "send less at once, or a link to a place where it can be fetched.",
        Why::Expired(_) => {
            "try again later; if it is urgent, reach the recipient by other means, their mail \
             server could not be used for a long time."
        }
        Why::Policy(_) | Why::Operator(_) => "ask your postmaster.",
        Why::Refused { .. } => refusal_advice(why),
        _ => "try again later, and ask your postmaster if that does not help.",
    }
}

/// By the subject of the enhanced status (RFC 3463 §3).
fn refusal_advice(why: &Why) -> &'static str {
    match (why.status().1, why.status().2) {
        (1, 7 | 8) => "check your own address: the recipient's server does not accept it.",
        (1, _) => "check the address for mistakes, and ask the recipient for their present one.",
        (2, 2) => "try again later; the recipient's mailbox is full.",
        (2 | 3, 3 | 4) => "send less at once, or a link to a place where it can be fetched.",
        (7, _) => {
            "the recipient's server refuses it for reasons of its own, named above; ask the \
             recipient by other means to let your mail in, or ask your postmaster."
        }
        _ => "read what the recipient's server said; it refused the message for good.",
    }
}

#[cfg(test)]
mod tests;
