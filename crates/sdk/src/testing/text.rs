//! A message as header fields and body, and what edits make of it.

use crate::types::{Header, HeaderPlace, MessageEdit, NewHeader, Splice};

/// A message with lines that end with CRLF.
#[derive(Debug, Clone, Default)]
pub(super) struct Text {
    /// Fields as they are, line ends included.
    fields: Vec<Vec<u8>>,
    pub(super) body: Vec<u8>,
}

impl Text {
    pub(super) fn parse(text: &[u8]) -> Text {
        let text = with_crlf(text);
        let (head, body) = match find(&text, b"\r\n\r\n") {
            _ if text.starts_with(b"\r\n") => (&text[..0], &text[2..]),
            Some(at) => (&text[..at + 2], &text[at + 4..]),
            None => (&text[..], &text[text.len()..]),
        };
        let mut fields: Vec<Vec<u8>> = Vec::new();
        for line in head.split_inclusive(|&c| c == b'\n') {
            match fields.last_mut() {
                Some(field) if line.starts_with(b" ") || line.starts_with(b"\t") => {
                    field.extend_from_slice(line);
                }
                _ => fields.push(line.to_vec()),
            }
        }
        Text { fields, body: body.to_vec() }
    }

    pub(super) fn size(&self) -> u64 {
        (self.head().len() + 2 + self.body.len()) as u64
    }

    pub(super) fn head(&self) -> Vec<u8> {
        self.fields.concat()
    }

    pub(super) fn octets(&self) -> Vec<u8> {
        [&self.head(), &b"\r\n"[..], &self.body].concat()
    }

    pub(super) fn headers(&self) -> Vec<Header> {
        (0..).zip(&self.fields).map(|(id, field)| header(id, field)).collect()
    }

    pub(super) fn raw(&self, id: u32) -> Option<Vec<u8>> {
        self.fields.get(id as usize).cloned()
    }
}

/// The message after these edits, as the host applies them: header edits in order, splices against the
/// body as it was. Edits of the envelope, signatures and metadata change no octet.
pub fn edited(message: impl AsRef<[u8]>, edits: &[MessageEdit]) -> Vec<u8> {
    let text = Text::parse(message.as_ref());
    let mut fields: Vec<(Option<u32>, Vec<u8>)> =
        (0..).zip(text.fields.clone()).map(|(id, field)| (Some(id), field)).collect();
    let mut splices: Vec<&Splice> = Vec::new();
    for edit in edits {
        match edit {
            MessageEdit::AddHeader(new) => match new.place {
                HeaderPlace::Top => fields.insert(0, (None, written(new))),
                HeaderPlace::Bottom => fields.push((None, written(new))),
            },
            MessageEdit::ChangeHeader(change) => {
                for (_, field) in fields.iter_mut().filter(|(id, _)| *id == Some(change.id)) {
                    let name = name_of(field);
                    *field = written(&NewHeader::top(name, change.value.clone()));
                }
            }
            MessageEdit::RemoveHeader(gone) => fields.retain(|(id, _)| *id != Some(*gone)),
            MessageEdit::RemoveHeadersNamed(name) => {
                fields.retain(|(_, field)| !name_of(field).eq_ignore_ascii_case(name));
            }
            MessageEdit::SpliceBody(splice) => splices.push(splice),
            MessageEdit::SetSender(_)
            | MessageEdit::AddRecipient(_)
            | MessageEdit::RemoveRecipient(_)
            | MessageEdit::Sign(_)
            | MessageEdit::SetMeta(_) => {}
        }
    }
    let body = spliced(&text.body, &splices);
    let fields = fields.into_iter().map(|(_, field)| field).collect();
    Text { fields, body }.octets()
}

/// # Panics
/// When splices overlap, go backwards or leave the body: the host would refuse the answer.
fn spliced(body: &[u8], splices: &[&Splice]) -> Vec<u8> {
    let mut octets = Vec::new();
    let mut at = 0;
    for splice in splices {
        let (from, to) = (splice.offset as usize, (splice.offset + splice.remove) as usize);
        assert!(at <= from && to <= body.len(), "splices must rise and lie within the body");
        octets.extend_from_slice(&body[at..from]);
        octets.extend_from_slice(&splice.insert);
        at = to;
    }
    octets.extend_from_slice(&body[at..]);
    octets
}

fn written(new: &NewHeader) -> Vec<u8> {
    format!("{}: {}\r\n", new.name, new.value).into_bytes()
}

fn header(id: u32, field: &[u8]) -> Header {
    let name = name_of(field);
    let value = match field.iter().position(|&c| c == b':') {
        Some(colon) => &field[colon + 1..],
        None => field,
    };
    let unfolded: Vec<u8> = value.iter().copied().filter(|c| !b"\r\n".contains(c)).collect();
    let text = String::from_utf8_lossy(&unfolded);
    let lossy = matches!(text, std::borrow::Cow::Owned(_));
    Header { id, name, value: text.trim().to_owned(), lossy }
}

fn name_of(field: &[u8]) -> String {
    let colon = field.iter().position(|&c| c == b':').unwrap_or(0);
    String::from_utf8_lossy(&field[..colon]).trim_end().to_owned()
}

fn with_crlf(text: &[u8]) -> Vec<u8> {
    let mut octets = Vec::with_capacity(text.len());
    for &c in text {
        if c == b'\n' && octets.last() != Some(&b'\r') {
            octets.push(b'\r');
        }
        octets.push(c);
    }
    octets
}

pub(super) fn find(text: &[u8], needle: &[u8]) -> Option<usize> {
    text.windows(needle.len().max(1)).position(|window| window == needle)
}
