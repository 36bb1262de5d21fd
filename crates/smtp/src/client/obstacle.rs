//! What a next hop cannot take.

use crate::{BodyType, Enhanced, Extensions};

/// Why a message may not be sent to a next hop as it is. It must not be sent wrong: bounce it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Obstacle {
    /// The body has octets over 127 and the next hop lacks 8BITMIME (RFC 6152 §3).
    #[error("the message has 8-bit content and the next hop does not offer 8BITMIME")]
    EightBit,
    /// An address or a header field is internationalized and the next hop lacks SMTPUTF8
    /// (RFC 6531 §3.2).
    #[error("the message is internationalized and the next hop does not offer SMTPUTF8")]
    Smtputf8,
    /// The body may be any octets and the next hop lacks BINARYMIME or CHUNKING (RFC 3030 §3).
    #[error("the message has binary content and the next hop does not offer BINARYMIME")]
    Binary,
    /// The message must not go where TLS is not required of it (RFC 8689 §4.2.1).
    #[error("the message requires TLS and the next hop does not offer REQUIRETLS")]
    RequireTls,
    /// The message is to come back when it is late, and the next hop would not know when that is
    /// (RFC 2852 §4.1).
    #[error("the message has a deadline and the next hop cannot promise to keep it (DELIVERBY)")]
    DeliverBy,
    /// The message is larger than the next hop says it takes (RFC 1870 §6).
    #[error("the message has {size} octets and the next hop takes at most {limit}")]
    TooBig {
        /// Octets of the message.
        size: u64,
        /// Octets the next hop takes.
        limit: u64,
    },
}

impl Obstacle {
    /// The status for a notice (RFC 3463 §3, RFC 6531 §3.5, RFC 8689 §4.2.1).
    pub const fn enhanced(self) -> Enhanced {
        match self {
            Obstacle::EightBit | Obstacle::Binary => Enhanced(5, 6, 3),
            Obstacle::RequireTls => Enhanced(5, 7, 30),
            Obstacle::DeliverBy => Enhanced(5, 3, 3),
            Obstacle::Smtputf8 => Enhanced(5, 6, 7),
            Obstacle::TooBig { .. } => Enhanced(5, 3, 4),
        }
    }
}

/// What stands between a message and a next hop that offers `extensions`. `size` is in octets;
/// `smtputf8_needed` is about addresses and header fields alike.
pub fn obstacle(
    extensions: &Extensions,
    body_type_needed: BodyType,
    smtputf8_needed: bool,
    size: u64,
) -> Option<Obstacle> {
    if smtputf8_needed && !extensions.smtputf8 {
        return Some(Obstacle::Smtputf8);
    }
    match body_type_needed {
        BodyType::EightBitMime if !extensions.eight_bit_mime => return Some(Obstacle::EightBit),
        BodyType::BinaryMime if !(extensions.binary_mime && extensions.chunking) => {
            return Some(Obstacle::Binary);
        }
        _ => {}
    }
    let limit = extensions.size.filter(|limit| size > *limit)?;
    Some(Obstacle::TooBig { size, limit })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_lack_has_its_status() {
        let none = Extensions::none();
        let all = Extensions {
            eight_bit_mime: true,
            smtputf8: true,
            size: Some(100),
            ..Extensions::none()
        };
        let eight = BodyType::EightBitMime;
        let status = |e: &Extensions, body, utf8, size| {
            obstacle(e, body, utf8, size).map(|o| o.enhanced().to_string())
        };
        assert_eq!(status(&none, eight, false, 1).as_deref(), Some("5.6.3"));
        assert_eq!(status(&none, eight, true, 1).as_deref(), Some("5.6.7"));
        assert_eq!(status(&all, eight, true, 101).as_deref(), Some("5.3.4"));
        assert_eq!(status(&all, eight, true, 100), None);
        assert_eq!(status(&none, BodyType::SevenBit, false, u64::MAX), None);
        let half = Extensions { binary_mime: true, ..all.clone() };
        let binary = BodyType::BinaryMime;
        assert_eq!(status(&half, binary, false, 1).as_deref(), Some("5.6.3"));
        assert_eq!(status(&Extensions { chunking: true, ..half }, binary, false, 1), None);
    }
}
