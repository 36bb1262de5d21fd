//! The MIME structure of a message, by mail-parser as in the host.

use mail_parser::{MessageParser, MessagePart, MimeHeaders, PartType};

use super::text::Text;
use crate::bindings::imports::waypost::policy::message::Part;

pub(super) fn parts(text: &Text) -> Vec<Part> {
    let octets = text.octets();
    let head = text.head().len() + 2;
    let Some(message) = MessageParser::default().parse(&octets) else { return Vec::new() };
    let parent_of = |child: usize| {
        message.parts.iter().position(|part| match &part.body {
            PartType::Multipart(children) => children.iter().any(|&id| id as usize == child),
            _ => false,
        })
    };
    let part = |(index, part): (usize, &MessagePart<'_>)| {
        let kind = part.content_type();
        Part {
            index: index as u32,
            parent: parent_of(index).map(|parent| parent as u32),
            media_type: kind.map_or_else(
                || "text/plain".to_owned(),
                |kind| {
                    format!("{}/{}", kind.ctype(), kind.subtype().unwrap_or("plain"))
                        .to_ascii_lowercase()
                },
            ),
            charset: kind.and_then(|kind| kind.attribute("charset")).map(str::to_owned),
            encoding: part
                .content_transfer_encoding()
                .map_or_else(|| "7bit".to_owned(), |name| name.trim().to_ascii_lowercase()),
            file_name: part.attachment_name().map(str::to_owned),
            offset: (part.offset_body as usize).saturating_sub(head) as u64,
            size: u64::from(part.offset_end.saturating_sub(part.offset_body)),
        }
    };
    message.parts.iter().enumerate().map(part).collect()
}

pub(super) fn decoded(text: &Text, index: u32) -> Vec<u8> {
    let octets = text.octets();
    let Some(message) = MessageParser::default().parse(&octets) else { return Vec::new() };
    message.parts.get(index as usize).map(|part| part.contents().to_vec()).unwrap_or_default()
}
