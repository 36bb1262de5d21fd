//! Makes a copy of a message that a next hop can take which lacks 8BITMIME (RFC 6152), BINARYMIME
//! (RFC 3030) or SMTPUTF8 (RFC 6531). What a reader decodes from the copy is what it would have decoded
//! from the message.
//!
//! Nothing here does I/O, and no body is ever in memory. A message goes by twice: a [`Survey`] looks at
//! its parts and decides what each needs, which makes a [`Plan`] or says why there is none
//! ([`Unfit`]); a [`Rewrite`] follows the plan. Both are given the same body in pieces, cut anywhere.
//!
//! # What is changed, and what is not
//!
//! * Single parts (text, images, …) that the [`Target`] cannot carry are encoded: text as
//!   quoted-printable, others, and text that gets smaller that way, as base64 (RFC 2045 §6). A bare CR or
//!   LF and a NUL are kept by that as what they are.
//! * Multiparts and enclosed messages are only ever labelled `7bit`, `8bit` or `binary` (RFC 2045
//!   §6.4): the parts in them are encoded, however deep.
//! * Header fields become ASCII: encoded words where words may stand (RFC 2047 §5), A-labels in
//!   domains, encoded parameters (RFC 2231) and addresses of the web (RFC 3987 §3.1). A field that has none
//!   of these ways, such as an address whose local part is not ASCII, has no ASCII form: the message is
//!   unfit. Trace fields are no reason for that: what they say is put into comments.
//! * A multipart in which there is no delimiter is not followed: readers show what it holds.
//! * What `multipart/signed` encloses is never touched (RFC 1847 §2.1), nor is `message/partial`
//!   (RFC 2046 §5.2.2.1).
//! * Whatever was ASCII in lines already stays as it is, octet by octet.

#![forbid(unsafe_code)]

mod ascii;
mod clean;
mod encode;
mod media;
mod parameters;
mod pieces;
mod rewrite;
mod survey;
mod walk;
mod words;
mod writer;

pub use ascii::ascii_fields;
pub use rewrite::Rewrite;
pub use survey::{Plan, Survey};

use waypost_smtp::BodyType;

/// Longest line of a message without its CRLF, in octets (RFC 5322 §2.1.1).
pub const MAX_LINE: usize = 998;
/// Multiparts and enclosed messages within each other that are followed.
pub const MAX_DEPTH: usize = 50;
/// Parts of a message that are followed, enclosed messages and their parts included.
pub const MAX_PARTS: usize = 10_000;
/// Octets of the header of a part.
pub const MAX_PART_HEADER: usize = 64 * 1024;

/// What a copy is to be like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// The most that its body may be: with `BinaryMime` bodies stay as they are.
    pub body: BodyType,
    /// Header fields must be ASCII though the body need not be. A body of 7 bits means it, too.
    pub ascii_header: bool,
}

impl Target {
    /// True when header fields are written in ASCII.
    pub fn wants_ascii_header(self) -> bool {
        self.ascii_header || self.body == BodyType::SevenBit
    }
}

/// Why there is no copy that says the same.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// A part that would have to be encoded is covered by a signature within the message (RFC 1847).
    #[error("a part that is signed by its author would have to be changed")]
    Signed,
    /// A multipart or a piece of a message holds what it may not, and may not be encoded (RFC 2045
    /// §6.4).
    #[error("a part of type {0} holds octets that it may not, and may not be encoded")]
    Composite(String),
    /// A part says that it is encoded, and is not.
    #[error("a part says that it is encoded in {0}, but it is not")]
    Mislabelled(String),
    /// A header field has no form in ASCII.
    #[error("the header field {0} cannot be written in ASCII")]
    Field(String),
    /// The structure of the message is beyond what is followed.
    #[error("its structure cannot be followed: {0}")]
    Structure(&'static str),
}

impl Unfit {
    /// True when it is a field of a header that stands in the way.
    pub fn is_about_header(&self) -> bool {
        matches!(self, Unfit::Field(_))
    }
}
