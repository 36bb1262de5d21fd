//! A text under the text: at the end of the first part in plain text, and before `</body>` of the first
//! in HTML, each in the part's own encoding. Signed and encrypted parts are left alone.

use waypost_sdk::message::Part;
use waypost_sdk::prelude::*;
use waypost_sdk::types::Splice;

use crate::config::{self, When};
use crate::encode;

/// Parts in base 64 are read and written as a whole, up to this size.
const LARGEST: u64 = 2 * 1024 * 1024;

/// RFC 5322 §2.1.1 allows 998; encodings and entities may lengthen a line.
const LONGEST_LINE: usize = 900;

/// A text under the text, made ready.
#[derive(Debug)]
pub(crate) struct Footer {
    name: String,
    text: String,
    ascii: Option<String>,
    /// ASCII alone, so that it fits any character set.
    html: String,
    when: When,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Plain,
    Html,
}

impl Footer {
    pub(crate) fn of(config: &config::Footer) -> Result<Footer, (&'static str, String)> {
        if config.name.is_empty() {
            return Err(("name", "a footer needs a name, which operators see".to_owned()));
        }
        if config.text.trim().is_empty() {
            return Err(("text", "it is empty".to_owned()));
        }
        if config.ascii.as_ref().is_some_and(|text| !text.is_ascii()) {
            return Err(("ascii", "it is not ASCII".to_owned()));
        }
        let html = match &config.html {
            Some(html) => entities(&with_crlf(html)),
            None => entities(&format!("<p>{}</p>", escaped(&with_crlf(&config.text)))),
        };
        let text = with_crlf(&config.text);
        let ascii = config.ascii.as_deref().map(with_crlf);
        for (key, lines) in [("text", &text), ("html", &html)] {
            if lines.lines().any(|line| line.len() > LONGEST_LINE) {
                return Err((key, format!("a line has more than {LONGEST_LINE} octets")));
            }
        }
        Ok(Footer { name: config.name.clone(), text, ascii, html, when: config.when.clone() })
    }

    pub(crate) fn concerns(&self, asked: &Asked<'_>) -> bool {
        self.when.holds(asked)
    }

    pub(crate) fn apply(&self, mut outcome: MessageOutcome) -> MessageOutcome {
        let parts = message::parts();
        if parts.first().is_some_and(|root| root.media_type == "multipart/report") {
            return self.left(outcome, "a notice gets no footer");
        }
        let mut splices: Vec<Splice> = Vec::new();
        let mut told = false;
        for (form, media_type) in [(Form::Plain, "text/plain"), (Form::Html, "text/html")] {
            let mut fitting = parts.iter().filter(|part| is_text(part, media_type, &parts));
            let Some(part) = fitting.next() else { continue };
            match self.splice(form, part) {
                Ok(splice) => splices.push(splice),
                Err(why) => {
                    outcome = self.left(outcome, &format!("{media_type}: {why}"));
                    told = true;
                }
            }
        }
        if splices.is_empty() && !told {
            let closed = parts.iter().any(|part| is_closed(&part.media_type));
            let why = if closed { "it is signed or encrypted" } else { "it has no text" };
            return self.left(outcome, why);
        }
        splices.sort_by_key(|splice| splice.offset);
        for splice in splices {
            outcome = outcome
                .edit(MessageEdit::SpliceBody(splice))
                .because("footer", "put under the text")
                .by_rule(&self.name);
        }
        outcome
    }

    fn left(&self, outcome: MessageOutcome, why: &str) -> MessageOutcome {
        outcome.because("no-footer", why).by_rule(&self.name)
    }

    fn splice(&self, form: Form, part: &Part) -> Result<Splice, String> {
        let encoding = part.encoding.to_ascii_lowercase();
        let octets = match form {
            Form::Plain => self.carried(part, &encoding)?,
            Form::Html => ascii_only(&self.html, part)?,
        };
        match encoding.as_str() {
            "7bit" | "8bit" | "" => Ok(as_is(form, part, octets)),
            "quoted-printable" => Ok(quoted_printable(form, part, &octets)),
            "base64" => base64(form, part, &octets),
            other => Err(format!("nothing is put into the encoding {other}")),
        }
    }

    /// The text in the part's character set.
    fn carried(&self, part: &Part, encoding: &str) -> Result<Vec<u8>, String> {
        let charset = charset(part);
        let eight_bit = !matches!(encoding, "7bit" | "");
        if !self.text.is_ascii() && eight_bit {
            let coded = match charset.as_str() {
                "utf-8" | "utf8" => Some(self.text.clone().into_bytes()),
                "iso-8859-1" | "latin1" | "windows-1252" => latin1(&self.text),
                _ => None,
            };
            if let Some(octets) = coded {
                return Ok(octets);
            }
        }
        let text = if self.text.is_ascii() { Some(&self.text) } else { self.ascii.as_ref() };
        let text = text.ok_or_else(|| {
            format!("{charset} in {encoding} cannot carry it, and there is no `ascii`")
        })?;
        ascii_only(text, part)
    }
}

/// The first part of this type that is the message's own text.
fn is_text(part: &Part, media_type: &str, parts: &[Part]) -> bool {
    if part.media_type != media_type || part.file_name.is_some() {
        return false;
    }
    let mut above = part.parent;
    // The host limits parts to 1000; a circle would be its mistake, and must not be ours.
    for _ in 0..parts.len() {
        let Some(parent) = above.and_then(|index| parts.iter().find(|p| p.index == index)) else {
            return true;
        };
        if is_closed(&parent.media_type) || parent.media_type.starts_with("message/") {
            return false;
        }
        above = parent.parent;
    }
    false
}

/// Another octet would break it.
fn is_closed(media_type: &str) -> bool {
    matches!(
        media_type,
        "multipart/signed"
            | "multipart/encrypted"
            | "application/pkcs7-mime"
            | "application/x-pkcs7-mime"
    )
}

fn as_is(form: Form, part: &Part, octets: Vec<u8>) -> Splice {
    match body_end(form, part) {
        Some(offset) => insert(offset, [b"\r\n", &octets[..], b"\r\n"].concat()),
        None => {
            let (before, after) = around(part, false);
            insert(part.offset + part.size, [before, &octets, after].concat())
        }
    }
}

fn quoted_printable(form: Form, part: &Part, octets: &[u8]) -> Splice {
    let coded = encode::quoted_printable(octets);
    match body_end(form, part) {
        // Soft line breaks: the lines around it stay short.
        Some(offset) => insert(offset, [b"=\r\n", &coded[..], b"=\r\n"].concat()),
        None => {
            let (before, after) = around(part, true);
            insert(part.offset + part.size, [before, &coded, after].concat())
        }
    }
}

fn base64(form: Form, part: &Part, octets: &[u8]) -> Result<Splice, String> {
    if part.size > LARGEST {
        return Err("it is too large to be coded anew".to_owned());
    }
    let coded = message::body_range(part.offset, part.size);
    let mut plain = encode::base64_decoded(&coded).ok_or("it is no base 64")?;
    let end = if form == Form::Html { rfind_body_end(&plain) } else { None };
    match end {
        Some(at) => drop(plain.splice(at..at, octets.iter().copied())),
        None => {
            if !plain.is_empty() && !plain.ends_with(b"\n") {
                plain.extend_from_slice(b"\r\n");
            }
            plain.extend_from_slice(octets);
            plain.extend_from_slice(b"\r\n");
        }
    }
    let mut lines = encode::base64_lines(&plain).into_bytes();
    if coded.ends_with(b"\n") {
        lines.extend_from_slice(b"\r\n");
    }
    Ok(Splice { offset: part.offset, remove: part.size, insert: lines })
}

fn insert(offset: u64, octets: Vec<u8>) -> Splice {
    Splice { offset, remove: 0, insert: octets }
}

/// Line ends around what is put at the end of a part. The one before a boundary belongs to the boundary
/// (RFC 2046 §5.1.1), and whether the part includes it is not relied upon.
fn around(part: &Part, quoted: bool) -> (&'static [u8], &'static [u8]) {
    let end = part.offset + part.size;
    let tail = message::body_range(end - part.size.min(3), part.size.min(3));
    let before: &[u8] = match () {
        () if tail.is_empty() => b"",
        // A soft line break is no line end.
        () if quoted && tail.ends_with(b"=\r\n") => b"\r\n",
        () if quoted && tail.ends_with(b"=") => b"\r\n\r\n",
        () if tail.ends_with(b"\n") => b"",
        () => b"\r\n",
    };
    let after: &[u8] = if message::body_range(end, 2) == b"\r\n" { b"" } else { b"\r\n" };
    (before, after)
}

/// Where the last `</body` of a part in HTML stands, in the message's body.
fn body_end(form: Form, part: &Part) -> Option<u64> {
    if form == Form::Plain {
        return None;
    }
    let end = part.offset + part.size;
    let last = |needle: &[u8]| {
        let next =
            |from: u64| message::find(needle, from).filter(|at| at + needle.len() as u64 <= end);
        // More than a few would be a text about HTML.
        std::iter::successors(next(part.offset), |at| next(at + 1)).take(16).last()
    };
    [&b"</body>"[..], b"</BODY>", b"</Body>"].into_iter().filter_map(last).max()
}

fn rfind_body_end(html: &[u8]) -> Option<usize> {
    html.windows(7).rposition(|window| window.eq_ignore_ascii_case(b"</body>"))
}

fn charset(part: &Part) -> String {
    part.charset.as_deref().unwrap_or("us-ascii").to_ascii_lowercase()
}

/// ASCII stands for itself in nearly all character sets.
fn ascii_only(text: &str, part: &Part) -> Result<Vec<u8>, String> {
    let charset = charset(part);
    let other = ["utf-16", "utf-32", "utf16", "utf32", "utf-7", "iso-10646", "ucs-", "hz-"];
    match other.iter().any(|start| charset.starts_with(start)) {
        true => Err(format!("nothing is put into the character set {charset}")),
        false => Ok(text.as_bytes().to_vec()),
    }
}

fn latin1(text: &str) -> Option<Vec<u8>> {
    let octet = |c: char| match c {
        '\0'..='\x7f' | '\u{a0}'..='\u{ff}' => u8::try_from(u32::from(c)).ok(),
        _ => None,
    };
    text.chars().map(octet).collect()
}

/// Lines that end with CRLF, without one at the end.
fn with_crlf(text: &str) -> String {
    text.lines().collect::<Vec<_>>().join("\r\n")
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace("\r\n", "<br>\r\n")
}

fn entities(html: &str) -> String {
    let mut text = String::with_capacity(html.len());
    for c in html.chars() {
        if c.is_ascii() {
            text.push(c);
        } else {
            text.push_str(&format!("&#{};", u32::from(c)));
        }
    }
    text
}
