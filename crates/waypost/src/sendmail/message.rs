//! The message as it is given, and what it takes to be one.

use std::io::Read;

use bytes::Bytes;
use mail_builder::headers::Header as _;
use mail_builder::headers::address::Address;
use waypost_mail::{AddressList, HeaderBlock};

use super::exit::{Exit, Failure};

/// The largest message read, in octets; the relay's own limit is told by the relay.
const MAX_MESSAGE: u64 = 256 << 20;

/// Header and body, all lines ended by CRLF.
#[derive(Debug)]
pub(super) struct Outgoing {
    header: HeaderBlock,
    body: Vec<u8>,
}

impl Outgoing {
    /// Reads to the end, or unless `dots_are_text` to a line with a dot alone.
    pub(super) fn read(input: impl Read, dots_are_text: bool) -> Result<Outgoing, Failure> {
        let mut text = Vec::new();
        let read = input.take(MAX_MESSAGE + 1).read_to_end(&mut text);
        read.map_err(|error| {
            Failure::new(Exit::IoError, format!("cannot read the message: {error}"))
        })?;
        if text.len() as u64 > MAX_MESSAGE {
            let words = format!("the message has more than {} MiB", MAX_MESSAGE >> 20);
            return Err(Failure::new(Exit::DataError, words));
        }
        Ok(Outgoing::parse(&text, dots_are_text))
    }

    fn parse(text: &[u8], dots_are_text: bool) -> Outgoing {
        let (mut header, mut body, mut in_header) = (Vec::new(), Vec::new(), true);
        for (number, line) in lines(text).enumerate() {
            if line == b"." && !dots_are_text {
                break;
            }
            if in_header {
                match header_line(line, header.is_empty()) {
                    // As a mailbox file has it in front of each message.
                    _ if number == 0 && line.starts_with(b"From ") => continue,
                    true => {
                        header.extend_from_slice(line);
                        header.extend_from_slice(b"\r\n");
                        continue;
                    }
                    false => in_header = false,
                }
                if line.is_empty() {
                    continue;
                }
            }
            body.extend_from_slice(line);
            body.extend_from_slice(b"\r\n");
        }
        Outgoing { header: HeaderBlock::parse(Bytes::from(header)), body }
    }

    /// The recipients that the header names, and what of it is no address. Once a message was resent,
    /// those it was resent to (RFC 5322 §3.6.6).
    pub(super) fn recipients(&self) -> (Vec<String>, Vec<String>) {
        const RESENT: [&str; 3] = ["Resent-To", "Resent-Cc", "Resent-Bcc"];
        let resent = RESENT.iter().any(|name| self.header.count_named(name) > 0);
        let names = if resent { RESENT } else { ["To", "Cc", "Bcc"] };
        let (mut found, mut broken) = (Vec::new(), Vec::new());
        for field in self.header.views() {
            if names.iter().any(|name| name.eq_ignore_ascii_case(field.name)) {
                let value = field.unfolded();
                let all = AddressList::find(&value);
                found.extend(all.found.into_iter().map(|place| value[place].to_owned()));
                broken.extend(all.broken.into_iter().map(|place| value[place].to_owned()));
            }
        }
        (found, broken)
    }

    /// Says who it is from, where it does not say so itself. Date and Message-ID come from the relay.
    pub(super) fn complete(&mut self, author: &str, full_name: Option<String>) {
        if self.header.count_named("From") > 0 {
            return;
        }
        let mut field = b"From: ".to_vec();
        let address = Address::new_address(full_name, author);
        address.write_header(&mut field, "From: ".len());
        self.header = self.header.clone().with_top(&field);
    }

    /// The octets of the whole.
    pub(super) fn octets(&self) -> Vec<u8> {
        [self.header.as_bytes().as_ref(), b"\r\n", &self.body].concat()
    }

    /// A field has octets beyond ASCII.
    pub(super) fn has_wide_header(&self) -> bool {
        self.header.is_eight_bit()
    }
}

/// The lines, whether they end with LF or CRLF; a CR elsewhere ends one too, as none may be sent.
fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let end = rest.iter().position(|octet| matches!(octet, b'\r' | b'\n'));
        let (line, behind) = match end {
            None => (rest, rest.len()),
            Some(at) => (&rest[..at], at + if rest[at..].starts_with(b"\r\n") { 2 } else { 1 }),
        };
        rest = &rest[behind..];
        Some(line)
    })
}

/// A field, or more of one.
fn header_line(line: &[u8], first: bool) -> bool {
    if line.starts_with(b" ") || line.starts_with(b"\t") {
        return !first;
    }
    let name = line.split(|octet| *octet == b':').next().unwrap_or_default().trim_ascii_end();
    let named = !name.is_empty() && name.len() < line.len();
    named && name.iter().all(u8::is_ascii_graphic)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(outgoing: &Outgoing) -> String {
        String::from_utf8(outgoing.octets()).unwrap()
    }

    #[test]
    fn lines_dots_and_mailbox_lines() {
        let whole = |given: &str, dots| text(&Outgoing::parse(given.as_bytes(), dots));
        assert_eq!(whole("A: b\n c\n\nx\n.\ny", true), "A: b\r\n c\r\n\r\nx\r\n.\r\ny\r\n");
        assert_eq!(whole("A: b\n\nx\n.\ny", false), "A: b\r\n\r\nx\r\n");
        assert_eq!(whole("From a@b Thu Jan  1\nA: b\r\n\r\nx", true), "A: b\r\n\r\nx\r\n");
        assert_eq!(whole("no header: at all\n", true), "\r\nno header: at all\r\n");
        assert_eq!(whole("A: b\nno header\n", true), "A: b\r\n\r\nno header\r\n");
        assert_eq!(whole("", true), "\r\n");
    }

    #[test]
    fn recipients_are_those_of_the_header() {
        let of = |given: &str| Outgoing::parse(given.as_bytes(), true).recipients();
        let (found, broken) =
            of("To: a@b.example,\n root\nBcc: c@d.example\nCc: no such thing\n\n");
        assert_eq!(found, ["a@b.example", "root", "c@d.example"]);
        assert_eq!(broken, ["no such thing"]);
        assert_eq!(of("To: a@b.example\nResent-To: c@d.example\n").0, ["c@d.example"]);
    }

    #[test]
    fn who_it_is_from_is_added_where_it_is_missing() {
        let from = |given: &str, name: Option<&str>| {
            let mut outgoing = Outgoing::parse(given.as_bytes(), true);
            outgoing.complete("root", name.map(str::to_owned));
            text(&outgoing).lines().next().unwrap().to_owned()
        };
        assert_eq!(from("hello\n", None), "From: <root>");
        assert_eq!(from("X: y\n\n", Some("Cron Daemon")), "From: \"Cron Daemon\" <root>");
        assert!(from("", Some("Jürgen")).starts_with("From: =?utf-8?"));
        assert_eq!(from("from: a\n", Some("B")), "from: a");
    }
}
