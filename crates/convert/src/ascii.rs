//! Header fields that are not ASCII, written so that they are and mean the same.

use bytes::Bytes;
use waypost_mail::HeaderBlock;
use waypost_smtp::Domain;

use crate::Unfit;
use crate::media::{behind_comment, quoted};
use crate::words::{charset, encoded, parameter};

/// Where a line is folded when it can be (RFC 5322 §2.1.1).
const FOLD: usize = 76;

/// Fields in which words stand beside addresses.
const ADDRESSES: [&str; 16] = [
    "From",
    "Sender",
    "Reply-To",
    "To",
    "Cc",
    "Bcc",
    "Resent-From",
    "Resent-Sender",
    "Resent-Reply-To",
    "Resent-To",
    "Resent-Cc",
    "Resent-Bcc",
    "Return-Path",
    "Errors-To",
    "Disposition-Notification-To",
    "Return-Receipt-To",
];
/// Fields of words alone, or of words before an identifier.
const PHRASES: [&str; 2] = ["Keywords", "List-Id"];
/// Fields with parameters.
const PARAMETERS: [&str; 2] = ["Content-Type", "Content-Disposition"];
/// Fields in which only comments are free text.
const STRUCTURED: [&str; 30] = [
    "Received",
    "Date",
    "Resent-Date",
    "Message-ID",
    "Resent-Message-ID",
    "In-Reply-To",
    "References",
    "MIME-Version",
    "Content-Transfer-Encoding",
    "Content-ID",
    "Content-Location",
    "DKIM-Signature",
    "DomainKey-Signature",
    "ARC-Seal",
    "ARC-Message-Signature",
    "ARC-Authentication-Results",
    "DKIM2-Signature",
    "Message-Instance",
    "Authentication-Results",
    "Received-SPF",
    "List-Help",
    "List-Post",
    "List-Owner",
    "List-Subscribe",
    "List-Unsubscribe",
    "List-Archive",
    "List-Unsubscribe-Post",
    "Auto-Submitted",
    "MT-Priority",
    "TLS-Required",
];

/// These fields, CRLF included, with those that are not ASCII written in ASCII. Everything else stays
/// as it is.
///
/// # Errors
/// The first field that has no such form.
pub fn ascii_fields(fields: &[u8]) -> Result<Vec<u8>, Unfit> {
    if fields.is_ascii() {
        return Ok(fields.to_vec());
    }
    let block = HeaderBlock::parse(Bytes::copy_from_slice(fields));
    let mut out = Vec::with_capacity(fields.len() * 2);
    for field in block.views() {
        match field.raw.is_ascii() {
            true => out.extend_from_slice(field.raw),
            false => out.extend(ascii_field(field.name, field.value)?),
        }
    }
    Ok(out)
}

fn ascii_field(name: &str, raw: &[u8]) -> Result<Vec<u8>, Unfit> {
    let unfit =
        || Unfit::Field(if name.is_empty() { "(a line that is none)" } else { name }.to_owned());
    let is_in = |names: &[&str]| names.iter().any(|known| known.eq_ignore_ascii_case(name));
    let value = unfolded(raw);
    if name.is_empty() || value.iter().any(|octet| matches!(octet, b'\r' | b'\n' | 0)) {
        return Err(unfit());
    }
    let mut writer = Writer { charset: charset(&value), words: Vec::new() };
    let written = if is_in(&ADDRESSES) {
        writer.structured(&value, Bare::Address)
    } else if is_in(&PHRASES) {
        writer.structured(&value, Bare::Phrase)
    } else if name.eq_ignore_ascii_case("Received") {
        writer.structured(&without_for(&value), Bare::Token)
    } else if is_in(&STRUCTURED) {
        writer.structured(&value, Bare::Token)
    } else if is_in(&PARAMETERS) {
        return parameters(name, &value).ok_or_else(unfit);
    } else {
        writer.unstructured(&value);
        Some(())
    };
    written.ok_or_else(unfit)?;
    Ok(writer.fold(name))
}

/// The value without its folding and final line end.
fn unfolded(raw: &[u8]) -> Vec<u8> {
    let mut value = Vec::with_capacity(raw.len());
    for line in raw.split_inclusive(|octet| *octet == b'\n') {
        value.extend_from_slice(line.strip_suffix(b"\r\n").unwrap_or(line));
    }
    value.trim_ascii().to_vec()
}

/// A trace field without the clause that names the recipient, where that is not ASCII: who reads the
/// field learns of it elsewhere.
fn without_for(value: &[u8]) -> Vec<u8> {
    let words: Vec<&[u8]> = value.split(|octet| *octet == b' ').collect();
    let mut out: Vec<&[u8]> = Vec::new();
    let mut rest = words.into_iter().peekable();
    while let Some(word) = rest.next() {
        let named = rest.peek().filter(|next| next.starts_with(b"<") && !next.is_ascii());
        match word.eq_ignore_ascii_case(b"for") && named.is_some() {
            true => {
                let named = rest.next().unwrap_or_default();
                out.extend(named.ends_with(b";").then_some(&b";"[..]));
            }
            false => out.push(word),
        }
    }
    out.join(&b' ')
}

/// What words outside comments and angle brackets are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bare {
    /// An address, or a name before one.
    Address,
    Phrase,
    /// Neither: they stand for nothing but themselves, or for a domain.
    Token,
}

/// A piece of a structured value.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Space,
    /// The inside of a comment.
    Comment(Vec<u8>),
    Quoted(Vec<u8>),
    /// The inside of angle brackets.
    Angle(Vec<u8>),
    Atom(Vec<u8>),
    /// One of `,;:`.
    Mark(u8),
}

fn pieces(mut rest: &[u8]) -> Vec<Piece> {
    let mut pieces = Vec::new();
    while let Some((&first, behind)) = rest.split_first() {
        match first {
            b' ' | b'\t' => {
                rest = rest.trim_ascii_start();
                pieces.push(Piece::Space);
            }
            b'(' => {
                let after = behind_comment(rest);
                let inside = &rest[1..rest.len() - after.len()];
                pieces.push(Piece::Comment(inside.strip_suffix(b")").unwrap_or(inside).to_vec()));
                rest = after;
            }
            b'"' => {
                let (text, after) = quoted(behind);
                pieces.push(Piece::Quoted(text));
                rest = after;
            }
            b'<' => {
                let end = behind.iter().position(|octet| *octet == b'>').unwrap_or(behind.len());
                pieces.push(Piece::Angle(behind[..end].to_vec()));
                rest = behind.get(end + 1..).unwrap_or_default();
            }
            b',' | b';' | b':' => {
                pieces.push(Piece::Mark(first));
                rest = behind;
            }
            _ => {
                let ends = |octet: &u8| b" \t(\"<,;:".contains(octet);
                let len = rest.iter().position(ends).unwrap_or(rest.len()).max(1);
                pieces.push(Piece::Atom(rest[..len].to_vec()));
                rest = &rest[len..];
            }
        }
    }
    pieces
}

/// A value in words, between which lines may be folded.
struct Writer {
    charset: &'static str,
    /// White space before a word, and the word.
    words: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Writer {
    /// Text in which encoded words may stand anywhere. From the first word that is not ASCII to the last
    /// one all is encoded, for white space between encoded words counts for nothing.
    fn unstructured(&mut self, value: &[u8]) {
        let words = spaced(value);
        let foreign = |word: &(Vec<u8>, Vec<u8>)| !word.1.is_ascii();
        let (first, last) = (words.iter().position(foreign), words.iter().rposition(foreign));
        let (Some(mut first), Some(mut last)) = (first, last) else {
            self.words.extend(words);
            return;
        };
        // Beside an encoded word that was there, the white space is lost, too.
        let is_coded = |word: &(Vec<u8>, Vec<u8>)| word.1.starts_with(b"=?");
        while first > 0 && is_coded(&words[first - 1]) {
            first -= 1;
        }
        while last + 1 < words.len() && is_coded(&words[last + 1]) {
            last += 1;
        }
        self.words.extend_from_slice(&words[..first]);
        let mut text = Vec::new();
        let mut before = words[first].0.clone();
        for (space, word) in &words[first..=last] {
            if !word.starts_with(b"=?") {
                text.extend_from_slice(space);
                text.extend_from_slice(word);
                continue;
            }
            if !text.is_empty() {
                text.extend_from_slice(space);
                self.flush_text(&mut before, &mut text);
            }
            self.words.push((space.clone(), word.clone()));
            before = b" ".to_vec();
        }
        self.flush_text(&mut before, &mut text);
        self.words.extend_from_slice(&words[last + 1..]);
    }

    /// Encodes what was gathered; the white space before the first of it stands outside.
    fn flush_text(&mut self, before: &mut Vec<u8>, text: &mut Vec<u8>) {
        let text = std::mem::take(text);
        let outside = self.words.last().is_none_or(|(_, word)| !word.starts_with(b"=?"));
        let text = if outside { text.trim_ascii_start() } else { &text[..] };
        self.encode(before, text);
        *before = b" ".to_vec();
    }

    fn encode(&mut self, before: &[u8], text: &[u8]) {
        let mut before = before.to_vec();
        for word in encoded(text, self.charset) {
            self.words.push((std::mem::replace(&mut before, b" ".to_vec()), word.into_bytes()));
        }
    }

    fn push(&mut self, space: bool, word: Vec<u8>) {
        let before = if space { b" ".to_vec() } else { Vec::new() };
        self.words.push((before, word));
    }

    /// A value of addresses, phrases or tokens. Nothing when a part of it has no form in ASCII.
    fn structured(&mut self, value: &[u8], bare: Bare) -> Option<()> {
        let pieces = pieces(value);
        let mut at = 0;
        while at < pieces.len() {
            let run = pieces[at..].iter().take_while(|piece| is_word(piece)).count();
            let (words, behind) = pieces[at..].split_at(run);
            self.run(words, behind.first(), bare)?;
            at += run;
            let Some(piece) = pieces.get(at) else { break };
            let space = at > 0 && pieces[at - 1] == Piece::Space;
            match piece {
                Piece::Mark(mark) => self.push(space, vec![*mark]),
                Piece::Angle(inside) => {
                    let address = match bare {
                        Bare::Token => token(inside)?,
                        Bare::Address | Bare::Phrase => address(inside)?,
                    };
                    self.push(space, [&b"<"[..], &address, b">"].concat());
                }
                _ => {}
            }
            at += 1;
        }
        Some(())
    }

    /// Words that stand together: a name when an angle bracket or a colon follows.
    fn run(&mut self, words: &[Piece], next: Option<&Piece>, bare: Bare) -> Option<()> {
        let is_name = match bare {
            Bare::Token => false,
            Bare::Phrase => true,
            Bare::Address => matches!(next, Some(Piece::Angle(_) | Piece::Mark(b':'))),
        };
        let foreign = |piece: &&Piece| match piece {
            Piece::Quoted(text) | Piece::Atom(text) => !text.is_ascii(),
            _ => false,
        };
        if is_name && words.iter().any(|piece| foreign(&piece)) {
            self.phrase(words);
            return Some(());
        }
        let mut space = false;
        for piece in words {
            match piece {
                Piece::Space => space = true,
                Piece::Comment(text) => self.comment(space, text),
                Piece::Quoted(text) if !text.is_ascii() => return None,
                Piece::Quoted(text) => self.push(space, quote(text)),
                Piece::Atom(text) if text.is_ascii() => self.push(space, text.clone()),
                Piece::Atom(text) => {
                    let word = if bare == Bare::Address { address(text) } else { token(text) };
                    self.push(space, word?);
                }
                Piece::Angle(_) | Piece::Mark(_) => {}
            }
            space &= *piece == Piece::Space;
        }
        Some(())
    }

    /// A name: all its words become encoded ones, comments stay beside it.
    fn phrase(&mut self, words: &[Piece]) {
        let begins_with_space = words.first() == Some(&Piece::Space);
        let mut text: Vec<u8> = Vec::new();
        let mut comments = Vec::new();
        let mut space = false;
        for piece in words {
            match piece {
                Piece::Space => space = true,
                Piece::Comment(inside) => comments.push(inside),
                Piece::Quoted(word) | Piece::Atom(word) => {
                    if space && !text.is_empty() {
                        text.push(b' ');
                    }
                    text.extend_from_slice(word);
                    space = false;
                }
                Piece::Angle(_) | Piece::Mark(_) => {}
            }
        }
        self.encode(if begins_with_space { b" " } else { b"" }, &text);
        for comment in comments {
            self.comment(true, comment);
        }
    }

    fn comment(&mut self, space: bool, inside: &[u8]) {
        if inside.is_ascii() {
            return self.push(space, [&b"("[..], inside, b")"].concat());
        }
        let words = encoded(inside, self.charset);
        let last = words.len().saturating_sub(1);
        for (index, word) in words.into_iter().enumerate() {
            let open = if index == 0 { "(" } else { "" };
            let close = if index == last { ")" } else { "" };
            self.push(space || index > 0, format!("{open}{word}{close}").into_bytes());
        }
    }

    /// The whole field, folded between its words.
    fn fold(self, name: &str) -> Vec<u8> {
        let mut out = format!("{name}:").into_bytes();
        let mut column = out.len();
        for (index, (space, word)) in self.words.iter().enumerate() {
            let space: &[u8] = if index == 0 { b" " } else { space };
            let is_full = column + space.len() + word.len() > FOLD;
            if is_full && !space.is_empty() {
                out.extend_from_slice(b"\r\n");
                column = 0;
            }
            out.extend_from_slice(space);
            out.extend_from_slice(word);
            column += space.len() + word.len();
        }
        out.extend_from_slice(b"\r\n");
        out
    }
}

fn is_word(piece: &Piece) -> bool {
    !matches!(piece, Piece::Angle(_) | Piece::Mark(_))
}

/// White space and words of unstructured text.
fn spaced(value: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut words = Vec::new();
    let mut rest = value;
    while !rest.is_empty() {
        let word = rest.trim_ascii_start();
        let space = &rest[..rest.len() - word.len()];
        let len = word.iter().position(u8::is_ascii_whitespace).unwrap_or(word.len());
        words.push((space.to_vec(), word[..len].to_vec()));
        rest = &word[len..];
    }
    words
}

/// An address with its domain in A-labels (RFC 5890 §2.3.2.1). Nothing when its local part is not ASCII.
fn address(text: &[u8]) -> Option<Vec<u8>> {
    if text.is_ascii() {
        return Some(text.to_vec());
    }
    let text = std::str::from_utf8(text).ok()?.trim();
    let (local, domain) = text.rsplit_once('@')?;
    let domain = Domain::parse(domain).ok()?;
    local.is_ascii().then(|| format!("{local}@{domain}").into_bytes())
}

/// A word that is a domain, in A-labels.
fn token(text: &[u8]) -> Option<Vec<u8>> {
    if text.is_ascii() {
        return Some(text.to_vec());
    }
    let domain = Domain::parse(std::str::from_utf8(text).ok()?).ok()?;
    Some(domain.to_string().into_bytes())
}

fn quote(text: &[u8]) -> Vec<u8> {
    let mut out = vec![b'"'];
    for octet in text {
        if matches!(octet, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(*octet);
    }
    out.push(b'"');
    out
}

/// A value with parameters, of which those that are not ASCII are encoded (RFC 2231 §4). Nothing when
/// something else is not ASCII.
fn parameters(name: &str, value: &[u8]) -> Option<Vec<u8>> {
    let mut sections = sections(value).into_iter();
    let first = sections.next().filter(|first| first.is_ascii())?;
    let mut out = format!("{name}: ").into_bytes();
    out.extend_from_slice(first.trim_ascii());
    for section in sections {
        let section = section.trim_ascii();
        if section.is_empty() {
            continue;
        }
        if section.is_ascii() {
            out.extend_from_slice(b";\r\n ");
            out.extend_from_slice(section);
            continue;
        }
        let equals = section.iter().position(|octet| *octet == b'=')?;
        let (key, value) = (section[..equals].trim_ascii(), section[equals + 1..].trim_ascii());
        let key =
            std::str::from_utf8(key).ok().filter(|key| key.is_ascii() && !key.contains('*'))?;
        let value = match value {
            [b'"', text @ ..] => quoted(text).0,
            plain => plain.to_vec(),
        };
        out.extend_from_slice(parameter(key, &value).as_bytes());
    }
    out.extend_from_slice(b"\r\n");
    Some(out)
}

/// What stands between semicolons outside quotes and comments.
fn sections(value: &[u8]) -> Vec<Vec<u8>> {
    let mut sections = vec![Vec::new()];
    let mut rest = value;
    while let Some((&first, behind)) = rest.split_first() {
        let taken = match first {
            b';' => {
                sections.push(Vec::new());
                rest = behind;
                continue;
            }
            b'(' => rest.len() - behind_comment(rest).len(),
            b'"' => rest.len() - quoted(behind).1.len(),
            _ => 1,
        };
        if let Some(last) = sections.last_mut() {
            last.extend_from_slice(&rest[..taken]);
        }
        rest = &rest[taken..];
    }
    sections
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ascii(field: &str) -> String {
        let made = ascii_fields(format!("{field}\r\n").as_bytes()).unwrap();
        assert!(made.is_ascii() && made.ends_with(b"\r\n"));
        let made = String::from_utf8(made).unwrap();
        assert!(made.lines().all(|line| line.len() <= 78 && !line.trim().is_empty()), "{made}");
        made.trim_end().to_owned()
    }

    fn unfit(field: &str) -> String {
        match ascii_fields(format!("A: b\r\n{field}\r\n").as_bytes()) {
            Err(Unfit::Field(name)) => name,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_ascii_stays_as_it_is() {
        let fields = "Subject:  two  spaces\r\n\tand a fold\r\nTo: a@b.example\r\n";
        let both = format!("{fields}X: \u{fc}\r\n");
        let made = ascii_fields(both.as_bytes()).unwrap();
        assert_eq!(made, format!("{fields}X: =?utf-8?q?=C3=BC?=\r\n").as_bytes());
    }

    #[test]
    fn unstructured_text_keeps_its_white_space() {
        assert_eq!(
            ascii("Subject: ganz  gr\u{fc}n ist es"),
            "Subject: ganz  =?utf-8?q?gr=C3=BCn?= ist es"
        );
        assert_eq!(ascii("Subject: \u{fc} a \u{fc}"), "Subject: =?utf-8?q?=C3=BC_a_=C3=BC?=");
        assert_eq!(
            ascii("Subject: =?utf-8?q?x?= \u{fc} =?utf-8?q?y?="),
            "Subject: =?utf-8?q?x?= =?utf-8?q?_=C3=BC_?= =?utf-8?q?y?="
        );
        let long = ascii(&format!("X-Long: {}", "w\u{fc}rde ".repeat(50)));
        assert!(long.contains("\r\n =?utf-8?q?"));
    }

    #[test]
    fn names_comments_and_domains_of_addresses() {
        assert_eq!(
            ascii("To: J\u{fc}rgen \"M. \u{fc}\" <j@b\u{fc}cher.example>, plain@x.example"),
            "To: =?utf-8?q?J=C3=BCrgen_M=2E_=C3=BC?= <j@xn--bcher-kva.example>,\r\n plain@x.example"
        );
        assert_eq!(
            ascii("Cc: Fr\u{fc}he: a@b.example, c@d.example (\u{fc}ber);"),
            "Cc: =?utf-8?q?Fr=C3=BChe?=: a@b.example, c@d.example (=?utf-8?q?=C3=BCber?=);"
        );
        assert_eq!(ascii("From: a@b\u{fc}cher.example"), "From: a@xn--bcher-kva.example");
        assert_eq!(unfit("From: J <j\u{fc}@b.example>"), "From");
        assert_eq!(unfit("Reply-To: j\u{fc}@b.example"), "Reply-To");
        assert_eq!(unfit("To: \"j\u{fc}\"@b.example"), "To");
    }

    #[test]
    fn other_fields() {
        assert_eq!(ascii("Keywords: gr\u{fc}n, blau"), "Keywords: =?utf-8?q?gr=C3=BCn?=, blau");
        assert_eq!(
            ascii("Received: from b\u{fc}cher.example (h\u{fc}) by x for <\u{fc}@y>; date"),
            "Received: from xn--bcher-kva.example (=?utf-8?q?h=C3=BC?=) by x ; date"
        );
        assert_eq!(
            ascii("Content-Disposition: attachment; filename=\"\u{fc}.pdf\"; size=3"),
            "Content-Disposition: attachment;\r\n filename*=utf-8''%C3%BC.pdf;\r\n size=3"
        );
        assert_eq!(unfit("Message-ID: <\u{fc}x@b.example>"), "Message-ID");
        assert_eq!(unfit("Content-Type: t\u{fc}/plain"), "Content-Type");
        assert_eq!(unfit("n\u{fc}nsense"), "(a line that is none)");
    }

    #[test]
    fn octets_of_no_known_meaning_are_kept_as_such() {
        let made = ascii_fields(b"Subject: gr\xfcn\r\n").unwrap();
        assert_eq!(made, b"Subject: =?unknown-8bit?q?gr=FCn?=\r\n");
    }
}
