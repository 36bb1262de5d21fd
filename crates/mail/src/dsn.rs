//! Notices about a message's fate (RFC 3461, RFC 3464, RFC 6533).
//!
//! A [`StatusNotice`] is what the sender of a message is told of its recipients: words for a person,
//! the same for a program, and the message it is about, or its header.

mod advice;
mod part;

use bytes::Bytes;
use waypost_smtp::{Enhanced, Mailbox, Reply, Return};

pub use self::advice::advice;
use self::advice::advice_about;
use self::part::{Part, Transport, has_mail_lines};
use crate::header::field;
use crate::{Entry, HeaderBlock, RecipientEntry, Timestamp, Why};

/// Most octets of the original header that a notice returns.
pub const MAX_RETURNED_HEADER: usize = 64 * 1024;
/// Most octets of a message that a notice usually returns whole.
pub const MAX_RETURNED: u64 = 1024 * 1024;
/// Longest line of the part for persons, in octets, where words allow it.
const TEXT_WIDTH: usize = 76;

/// What the sender of a message is told.
#[derive(Debug, Clone, Copy)]
pub struct StatusNotice<'a> {
    /// The message.
    pub entry: &'a Entry,
    /// About whom. Not empty.
    pub reports: &'a [Report],
    /// Our host name.
    pub reporting_mta: &'a str,
    /// The present moment.
    pub now: Timestamp,
    /// The header of the message, as it is stored; at most [`MAX_RETURNED_HEADER`] octets of it
    /// are returned.
    pub original_header: &'a [u8],
    /// The whole message, where it is to be returned ([`StatusNotice::returns_all`]).
    pub original: Option<&'a [u8]>,
}

/// What is told of one recipient.
#[derive(Debug, Clone)]
pub struct Report {
    /// The recipient.
    pub recipient: RecipientEntry,
    /// What became of it.
    pub action: Action,
}

/// What became of a recipient (RFC 3464 §2.3.3).
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// It failed for good.
    Failed(Why),
    /// It takes long; inside is why the last attempt failed.
    Delayed(Option<Why>),
    /// A next hop put it into the mailbox.
    Delivered {
        /// Who.
        hop: String,
        /// What it said.
        reply: Reply,
    },
    /// A next hop took it that will tell nothing more.
    Relayed {
        /// Who.
        hop: String,
        /// What it said.
        reply: Reply,
    },
}

impl Action {
    /// What the notice says of the recipient (RFC 3464 §2.3.3).
    pub fn word(&self) -> &'static str {
        match self {
            Action::Failed(_) => "failed",
            Action::Delayed(_) => "delayed",
            Action::Delivered { .. } => "delivered",
            Action::Relayed { .. } => "relayed",
        }
    }

    fn why(&self) -> Option<&Why> {
        match self {
            Action::Failed(why) | Action::Delayed(Some(why)) => Some(why),
            Action::Delayed(None) | Action::Delivered { .. } | Action::Relayed { .. } => None,
        }
    }

    /// RFC 3463 §3; 2.1.9 is for mail that went to who does not tell (RFC 3886 §3.3.4).
    fn status(&self) -> String {
        match self {
            // What is not permanent may still be given up: a failure is of class 5.
            Action::Failed(why) => {
                let status = why.status();
                format!("5.{}.{}", status.1, status.2)
            }
            // What is permanent may still be put off by policy: a delay is of class 4.
            Action::Delayed(Some(why)) => {
                let status = why.status();
                format!("4.{}.{}", status.1, status.2)
            }
            Action::Delayed(None) => "4.4.7".to_owned(),
            Action::Delivered { reply, .. } => match reply.enhanced {
                Some(Enhanced(2, subject, detail)) => format!("2.{subject}.{detail}"),
                _ => "2.0.0".to_owned(),
            },
            Action::Relayed { .. } => "2.1.9".to_owned(),
        }
    }
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

impl StatusNotice<'_> {
    /// True when the sender wants the whole message back, and it can be had: it failed and has at most
    /// `most` octets (RFC 3461 §4.3). A message that requires TLS is never returned whole (RFC 8689 §5).
    pub fn returns_all(entry: &Entry, reports: &[Report], most: u64) -> bool {
        wants_all(entry, reports) && !entry.terms.require_tls && entry.size <= most
    }

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
        add("Subject", self.subject());
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

    /// By what is worst.
    fn subject(&self) -> &'static str {
        let has = |word: &str| self.reports.iter().any(|report| report.action.word() == word);
        match () {
            () if has("failed") => "Your message could not be delivered",
            () if has("delayed") => "Your message is delayed",
            () if has("delivered") => "Your message was delivered",
            () => "Your message was passed on",
        }
    }

    fn for_persons(&self) -> String {
        let Entry { id, received, .. } = self.entry;
        let mut text = String::new();
        paragraph(&mut text, "", &format!("This is the mail relay {}.", self.reporting_mta));
        let received = received.rfc5322();
        let chapters = [
            (
                "failed",
                "could not be delivered to the recipients below. It will not be tried again for them.",
            ),
            (
                "delayed",
                "could not be delivered yet to the recipients below. It is still being tried; there is no need to send it again.",
            ),
            ("delivered", "was delivered to the recipients below."),
            (
                "relayed",
                "was passed on for the recipients below, to systems that tell nothing of what becomes of it.",
            ),
        ];
        for (word, what) in chapters {
            let reports: Vec<_> =
                self.reports.iter().filter(|report| report.action.word() == word).collect();
            if reports.is_empty() {
                continue;
            }
            paragraph(&mut text, "", &format!("Your message, received on {received}, {what}"));
            for report in reports {
                text.push_str(&format!("<{}>\r\n", report.recipient.recipient.mailbox));
                for line in self.told(&report.action) {
                    paragraph(&mut text, "    ", &line);
                }
            }
        }
        if let Some(why) = self.why_not_whole() {
            let what =
                "You asked for the whole message back if it fails, but only its header follows:";
            paragraph(&mut text, "", &format!("{what} {why}."));
        }
        paragraph(
            &mut text,
            "",
            &format!("If you ask your postmaster for help, name the message: {id}."),
        );
        text
    }

    /// What a person is told of one recipient.
    fn told(&self, action: &Action) -> Vec<String> {
        match action {
            Action::Failed(why) => {
                vec![format!("What happened: {why}"), format!("What to do: {}", advice_about(why))]
            }
            Action::Delayed(why) => {
                let until = format!("It is tried until {}.", self.entry.expires.rfc5322());
                let last = why.as_ref().map(|why| format!("What happened last: {why}"));
                last.into_iter().chain([until]).collect()
            }
            Action::Delivered { hop, reply } | Action::Relayed { hop, reply } => {
                vec![format!("{hop} said: {reply}")]
            }
        }
    }

    /// message/delivery-status (RFC 3464 §2.1), or its internationalized form (RFC 6533 §4) when
    /// an address needs it.
    fn for_programs(&self) -> Part {
        let mut status = Vec::new();
        if let Some(envid) = &self.entry.terms.envid {
            status.extend(field("Original-Envelope-Id", envid));
        }
        status.extend(field("Reporting-MTA", &format!("dns; {}", self.reporting_mta)));
        status.extend(field("Arrival-Date", &self.entry.received.rfc5322()));
        for report in self.reports {
            status.extend_from_slice(b"\r\n");
            self.recipient_fields(report, &mut status);
        }
        let is_global = |report: &Report| {
            let recipient = &report.recipient.recipient;
            let original = recipient.original.as_ref();
            !recipient.mailbox.is_ascii() || original.is_some_and(|o| !o.address.is_ascii())
        };
        if self.reports.iter().any(is_global) {
            return Part::text("message/global-delivery-status", "Delivery report", status);
        }
        // Here a remote reply is the only thing that could be beyond ASCII, and may not be.
        let ascii = status.into_iter().filter(|b| !is_continuation(*b));
        let status = ascii.map(|b| if b.is_ascii() { b } else { b'?' }).collect();
        Part::text("message/delivery-status", "Delivery report", status)
    }

    /// RFC 3464 §2.3
    fn recipient_fields(&self, report: &Report, status: &mut Vec<u8>) {
        let Report { recipient, action } = report;
        let mailbox = &recipient.recipient.mailbox;
        let mut add = |name: &str, value: &str| status.extend(field(name, value));
        if let Some(original) = &recipient.recipient.original {
            add("Original-Recipient", &original.to_string());
        }
        let kind = if mailbox.is_ascii() { "rfc822" } else { "utf-8" };
        add("Final-Recipient", &format!("{kind}; {mailbox}"));
        add("Action", action.word());
        add("Status", &action.status());
        let hop = match action {
            Action::Delivered { hop, .. } | Action::Relayed { hop, .. } => Some(hop.as_str()),
            _ => action.why().and_then(Why::hop),
        };
        if let Some(hop) = hop {
            add("Remote-MTA", &format!("dns; {}", host_of(hop)));
        }
        match (action, action.why(), action.why().and_then(Why::reply)) {
            (Action::Delivered { reply, .. } | Action::Relayed { reply, .. }, ..)
            | (_, _, Some(reply)) => {
                add("Diagnostic-Code", &format!("smtp; {reply}"));
            }
            (_, Some(why), None) => add("Diagnostic-Code", &format!("x-waypost; {why}")),
            (_, None, None) => {}
        }
        add("Last-Attempt-Date", &self.now.rfc5322());
        if let Action::Delayed(_) = action {
            add("Will-Retry-Until", &self.entry.expires.rfc5322());
        }
    }

    fn original(&self) -> Part {
        self.whole().unwrap_or_else(|| self.header_alone())
    }

    /// The whole message. What is not of lines of 7-bit text is returned as message/global, which may
    /// be encoded where message/rfc822 may not (RFC 6532 §3.7), so that the notice passes everywhere.
    fn whole(&self) -> Option<Part> {
        let content = self.original?;
        let plain = content.is_ascii() && has_mail_lines(content);
        if !plain && std::str::from_utf8(self.original_header).is_err() {
            return None;
        }
        let content_type = if plain { "message/rfc822" } else { "message/global" };
        Some(Part { content_type, description: "Your message", content: content.to_vec() })
    }

    /// Why less comes back than was asked for, if so.
    fn why_not_whole(&self) -> Option<&'static str> {
        if !wants_all(self.entry, self.reports) || self.whole().is_some() {
            return None;
        }
        Some(match self.original {
            _ if self.entry.terms.require_tls => "it may only travel encrypted",
            None => "it is larger than what is returned here",
            Some(_) => "it has characters in its header that cannot be told",
        })
    }

    fn header_alone(&self) -> Part {
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

/// True when the sender asked for the whole message if it fails, and it did.
fn wants_all(entry: &Entry, reports: &[Report]) -> bool {
    let failed = |report: &Report| matches!(report.action, Action::Failed(_));
    entry.terms.ret == Some(Return::Full) && reports.iter().any(failed)
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

#[cfg(test)]
mod tests;
