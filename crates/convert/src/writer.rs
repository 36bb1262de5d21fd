//! The value of a header field, written in ASCII.

use waypost_smtp::Domain;

use crate::pieces::{Piece, pieces, spaced};
use crate::words::encoded;

/// Where a line is folded when it can be (RFC 5322 §2.1.1).
const FOLD: usize = 76;

/// What words outside comments are, and what stands in angle brackets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bare {
    /// An address, or a name before one.
    Address,
    /// A name, and something like a domain in angle brackets.
    Phrase,
    /// An address of the web.
    Uri,
    /// What happened on the way.
    Trace,
    /// A name of something, that must stay the same.
    Identifier,
    /// None of these: they stand for nothing but themselves, or for a domain.
    Token,
}

/// A value in words, between which lines may be folded.
pub(crate) struct Writer {
    charset: &'static str,
    /// White space before a word, and the word.
    words: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Writer {
    /// Of a value whose octets over 127 are of this character set.
    pub(crate) fn new(charset: &'static str) -> Writer {
        Writer { charset, words: Vec::new() }
    }

    /// Text in which encoded words may stand anywhere. From the first word that is not ASCII to the last
    /// one all is encoded, for white space between encoded words counts for nothing.
    pub(crate) fn unstructured(&mut self, value: &[u8]) {
        let words = spaced(value);
        let foreign = |word: &(Vec<u8>, Vec<u8>)| !word.1.is_ascii();
        let (first, last) = (words.iter().position(foreign), words.iter().rposition(foreign));
        let (Some(mut first), Some(mut last)) = (first, last) else {
            self.words.extend(words);
            return;
        };
        // Beside an encoded word that was there, the white space is lost, too.
        while first > 0 && is_coded(&words[first - 1].1) {
            first -= 1;
        }
        while last + 1 < words.len() && is_coded(&words[last + 1].1) {
            last += 1;
        }
        self.words.extend_from_slice(&words[..first]);
        let mut text = Vec::new();
        let mut before = words[first].0.clone();
        for (space, word) in &words[first..=last] {
            if !is_coded(word) {
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
        let outside = self.words.last().is_none_or(|(_, word)| !is_coded(word));
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
    pub(crate) fn structured(&mut self, value: &[u8], bare: Bare) -> Option<()> {
        let mut pieces = pieces(value);
        if bare == Bare::Trace {
            drop_for(&mut pieces);
        }
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
                Piece::Angle(inside) => match plain(inside, bare) {
                    Some(inside) => self.push(space, [&b"<"[..], &inside, b">"].concat()),
                    None => self.told(inside, bare)?,
                },
                _ => {}
            }
            at += 1;
        }
        Some(())
    }

    /// Words that stand together: a name when an angle bracket or a colon follows.
    fn run(&mut self, words: &[Piece], next: Option<&Piece>, bare: Bare) -> Option<()> {
        let is_name = match bare {
            Bare::Phrase => true,
            Bare::Address => matches!(next, Some(Piece::Angle(_) | Piece::Mark(b':'))),
            Bare::Uri | Bare::Trace | Bare::Identifier | Bare::Token => false,
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
                Piece::Quoted(text) if !text.is_ascii() => self.told(text, bare)?,
                Piece::Quoted(text) => self.push(space, quote(text)),
                Piece::Atom(text) => match plain(text, bare) {
                    Some(word) => self.push(space, word),
                    None => self.told(text, bare)?,
                },
                Piece::Angle(_) | Piece::Mark(_) => {}
            }
            space &= *piece == Piece::Space;
        }
        Some(())
    }

    /// A word of a trace that has no form in ASCII is told in a comment, with what it is the value of.
    fn told(&mut self, word: &[u8], bare: Bare) -> Option<()> {
        if bare != Bare::Trace {
            return None;
        }
        let name = self.words.pop_if(|(_, before)| before.ends_with(b"="));
        let name = name.map(|(_, name)| name).unwrap_or_default();
        self.comment(true, &[&name, word].concat());
        Some(())
    }

    /// A name: all its words become encoded ones, but those that are; comments stay beside it.
    fn phrase(&mut self, words: &[Piece]) {
        let begins_with_space = words.first() == Some(&Piece::Space);
        let mut before = if begins_with_space { b" ".to_vec() } else { Vec::new() };
        let mut text: Vec<u8> = Vec::new();
        let mut comments = Vec::new();
        let (mut space, mut behind_coded) = (false, false);
        for piece in words {
            match piece {
                Piece::Space => space = true,
                Piece::Comment(inside) => comments.push(inside),
                Piece::Atom(word) if is_coded(word) => {
                    if !text.is_empty() {
                        text.extend(space.then_some(b' '));
                        self.encode(&before, &std::mem::take(&mut text));
                        before = b" ".to_vec();
                    }
                    self.words.push((std::mem::replace(&mut before, b" ".to_vec()), word.clone()));
                    (space, behind_coded) = (false, true);
                }
                Piece::Quoted(word) | Piece::Atom(word) => {
                    // Between encoded words, white space counts only where it is encoded.
                    if space && (behind_coded || !text.is_empty()) {
                        text.push(b' ');
                    }
                    text.extend_from_slice(word);
                    (space, behind_coded) = (false, false);
                }
                Piece::Angle(_) | Piece::Mark(_) => {}
            }
        }
        self.encode(&before, &text);
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
    pub(crate) fn fold(self, name: &str) -> Vec<u8> {
        let mut out = format!("{name}:").into_bytes();
        let mut column = out.len();
        let mut last: &[u8] = b"";
        for (index, (space, word)) in self.words.iter().enumerate() {
            let parted = index == 0 || (space.is_empty() && are_parted(last, word));
            let space: &[u8] = if parted { b" " } else { space };
            let is_full = column + space.len() + word.len() > FOLD;
            if is_full && !space.is_empty() {
                out.extend_from_slice(b"\r\n");
                column = 0;
            }
            out.extend_from_slice(space);
            out.extend_from_slice(word);
            column += space.len() + word.len();
            last = word;
        }
        out.extend_from_slice(b"\r\n");
        out
    }
}

/// The clause of a trace field that names the recipient, where that is not ASCII: who reads the field
/// learns of it elsewhere.
fn drop_for(pieces: &mut Vec<Piece>) {
    let is_for = |window: &[Piece]| match window {
        [Piece::Atom(word), Piece::Space, Piece::Angle(whom) | Piece::Atom(whom)] => {
            word.eq_ignore_ascii_case(b"for") && !whom.is_ascii()
        }
        _ => false,
    };
    if let Some(at) = pieces.windows(3).position(is_for) {
        pieces.drain(at..at + 3);
    }
}

fn is_word(piece: &Piece) -> bool {
    !matches!(piece, Piece::Angle(_) | Piece::Mark(_))
}

/// An encoded word, as far as it can be told from its ends.
fn is_coded(word: &[u8]) -> bool {
    word.len() > 6 && word.starts_with(b"=?") && word.ends_with(b"?=")
}

/// White space must stand between an encoded word and its neighbours (RFC 2047 §5); before a comment it
/// may, and there the line can be folded.
fn are_parted(last: &[u8], word: &[u8]) -> bool {
    is_coded(last) || is_coded(word) || word.starts_with(b"(=?")
}

/// A word in ASCII that is or ends in a name which has such a form.
fn plain(text: &[u8], bare: Bare) -> Option<Vec<u8>> {
    if text.is_ascii() {
        return Some(text.to_vec());
    }
    let text = std::str::from_utf8(text).ok()?;
    match bare {
        Bare::Address => address(text),
        Bare::Uri => uri(text),
        Bare::Phrase | Bare::Trace | Bare::Token => named(text),
        Bare::Identifier => None,
    }
}

/// An address with its domain in A-labels (RFC 5890 §2.3.2.1). Nothing when its local part is not ASCII.
fn address(text: &str) -> Option<Vec<u8>> {
    let (local, domain) = text.trim().rsplit_once('@')?;
    let domain = Domain::parse(domain).ok()?;
    local.is_ascii().then(|| format!("{local}@{domain}").into_bytes())
}

/// A domain in A-labels, alone or as the value or the end of it: `header.from=…`, `smtp.mailfrom=a@…`.
fn named(text: &str) -> Option<Vec<u8>> {
    let (before, domain) = text.split_at(text.rfind(['=', '@']).map_or(0, |at| at + 1));
    let domain = Domain::parse(domain).ok()?;
    before.is_ascii().then(|| format!("{before}{domain}").into_bytes())
}

/// An address of the web: its host in A-labels where it has one, everything else encoded by octets
/// (RFC 3987 §3.1).
fn uri(text: &str) -> Option<Vec<u8>> {
    use std::fmt::Write as _;
    let encoded = |text: &str| {
        text.bytes().fold(String::new(), |mut out, octet| {
            // Writing to a string cannot fail.
            let _ = match octet.is_ascii() {
                true => write!(out, "{}", char::from(octet)),
                false => write!(out, "%{octet:02X}"),
            };
            out
        })
    };
    let Some((scheme, rest)) = text.split_once("//") else { return Some(encoded(text).into()) };
    let (place, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let (user, place) = place.split_at(place.rfind('@').map_or(0, |at| at + 1));
    let (host, port) = place.split_at(place.rfind(':').unwrap_or(place.len()));
    let host = match host.is_ascii() {
        true => host.to_owned(),
        false => Domain::parse(host).ok()?.to_string(),
    };
    Some(format!("{scheme}//{}{host}{port}{}", encoded(user), encoded(path)).into())
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
