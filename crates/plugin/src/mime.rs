//! The MIME structure of a message, for guests that carry no parser of their own.

use std::io;
use std::sync::Mutex;

use bytes::Bytes;
use mail_parser::{Encoding, Message, MessageParser, MessagePart, MimeHeaders, PartType};
use waypost_mail::Text;

/// Messages over this size have only their outermost part.
const MAX_PARSED: u64 = 32 * 1024 * 1024;
/// Most parts that are told.
const MAX_PARTS: usize = 1000;
/// Parsing less than this does not keep others waiting.
pub(crate) const SMALL: u64 = 256 * 1024;

/// One part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) parent: Option<u32>,
    pub(crate) media_type: String,
    pub(crate) charset: Option<String>,
    pub(crate) encoding: String,
    pub(crate) file_name: Option<String>,
    /// Within the message body.
    pub(crate) offset: u64,
    pub(crate) size: u64,
}

/// All parts of a message, and the message they lie in.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) all: Vec<Part>,
    raw: Bytes,
    /// The part that was decoded last: reading it window by window decodes it once.
    decoded: Mutex<Option<(u32, Bytes)>>,
}

impl Parts {
    /// Reads the structure. Blocking.
    pub(crate) fn of(text: &Text) -> io::Result<Parts> {
        if text.len() > MAX_PARSED {
            let whole = Part {
                parent: None,
                media_type: "application/octet-stream".to_owned(),
                charset: None,
                encoding: "7bit".to_owned(),
                file_name: None,
                offset: 0,
                size: text.body.len(),
            };
            return Ok(Parts { all: vec![whole], raw: Bytes::new(), decoded: Mutex::default() });
        }
        let mut raw = Vec::with_capacity(text.len() as usize);
        raw.extend_from_slice(text.header.as_bytes());
        raw.extend_from_slice(b"\r\n");
        let body_at = raw.len() as u64;
        for chunk in text.body.chunks(SMALL as usize) {
            raw.extend_from_slice(&chunk?);
        }
        let all = match MessageParser::default().parse(&raw) {
            Some(message) => describe(&message, body_at, text.body.len()),
            None => Vec::new(),
        };
        Ok(Parts { all, raw: raw.into(), decoded: Mutex::default() })
    }

    /// The content of a part without its transfer encoding and, for text, as UTF-8. Blocking.
    pub(crate) fn decoded(&self, index: u32) -> Bytes {
        let mut last = self.decoded.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match &*last {
            Some((known, content)) if *known == index => content.clone(),
            _ => {
                let content = self.decode(index);
                *last = Some((index, content.clone()));
                content
            }
        }
    }

    fn decode(&self, index: u32) -> Bytes {
        let message = MessageParser::default().parse(&self.raw[..]);
        let part = message.as_ref().and_then(|message| message.parts.get(index as usize));
        match part.map(|part| &part.body) {
            Some(PartType::Text(text) | PartType::Html(text)) => {
                Bytes::copy_from_slice(text.as_bytes())
            }
            Some(PartType::Binary(octets) | PartType::InlineBinary(octets)) => {
                Bytes::copy_from_slice(octets)
            }
            Some(PartType::Message(inner)) => Bytes::copy_from_slice(inner.raw_message()),
            Some(PartType::Multipart(_)) | None => Bytes::new(),
        }
    }
}

fn describe(message: &Message<'_>, body_at: u64, body_len: u64) -> Vec<Part> {
    let mut parents = vec![None; message.parts.len()];
    for (index, part) in message.parts.iter().enumerate() {
        if let PartType::Multipart(children) = &part.body {
            for child in children {
                if let Some(parent) = parents.get_mut(*child as usize) {
                    *parent = Some(index as u32);
                }
            }
        }
    }
    let parts = message.parts.iter().zip(parents).take(MAX_PARTS);
    parts.map(|(part, parent)| describe_one(part, parent, body_at, body_len)).collect()
}

fn describe_one(part: &MessagePart<'_>, parent: Option<u32>, body_at: u64, body_len: u64) -> Part {
    let content_type = part.content_type();
    let media_type = match content_type {
        Some(content) => {
            let subtype = content.subtype().unwrap_or("plain");
            format!("{}/{subtype}", content.ctype()).to_ascii_lowercase()
        }
        None => "text/plain".to_owned(),
    };
    let charset = content_type.and_then(|content| content.attribute("charset"));
    let encoding = match part.encoding {
        Encoding::QuotedPrintable => "quoted-printable".to_owned(),
        Encoding::Base64 => "base64".to_owned(),
        Encoding::None => {
            let named = part.content_transfer_encoding().unwrap_or("7bit");
            named.trim().to_ascii_lowercase()
        }
    };
    let offset = u64::from(part.offset_body).saturating_sub(body_at).min(body_len);
    let end = u64::from(part.offset_end).saturating_sub(body_at).min(body_len);
    Part {
        parent,
        media_type,
        charset: charset.map(str::to_ascii_lowercase),
        encoding,
        file_name: part.attachment_name().map(str::to_owned),
        offset,
        size: end.saturating_sub(offset),
    }
}

#[cfg(test)]
mod tests {
    use waypost_mail::{HeaderBlock, Rope};

    use super::*;

    #[test]
    fn tells_where_parts_lie_and_what_they_say() {
        let header = "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n";
        let body = "--b\r\nContent-Type: text/plain; charset=ISO-8859-1\r\n\
                    Content-Transfer-Encoding: quoted-printable\r\n\r\ngr=FC=DFe\r\n\
                    --b\r\nContent-Type: image/png; name=\"a.png\"\r\n\
                    Content-Transfer-Encoding: base64\r\n\r\nAAEC\r\n--b--\r\n";
        let text = Text {
            header: HeaderBlock::parse(Bytes::from_static(header.as_bytes())),
            body: Rope::from(Bytes::from_static(body.as_bytes())),
        };
        let parts = Parts::of(&text).unwrap();
        let kinds: Vec<_> = parts.all.iter().map(|p| (p.media_type.as_str(), p.parent)).collect();
        assert_eq!(
            kinds,
            [("multipart/mixed", None), ("text/plain", Some(0)), ("image/png", Some(0))]
        );
        assert_eq!(parts.decoded(1), "grüße");
        assert_eq!(parts.decoded(2), &[0, 1, 2][..]);
        let plain = &parts.all[1];
        assert_eq!(plain.encoding, "quoted-printable");
        let raw = &body.as_bytes()[plain.offset as usize..(plain.offset + plain.size) as usize];
        assert_eq!(raw.trim_ascii_end(), b"gr=FC=DFe");
        assert_eq!(parts.all[2].file_name.as_deref(), Some("a.png"));
        assert!(parts.decoded(99).is_empty());
    }
}
