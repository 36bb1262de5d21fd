//! Limits on what policy attaches to sessions, messages and recipients.

use waypost_mail::Attr;

/// The most attributes that policy may set on a session, a message or a recipient.
pub const MAX_ATTRS: usize = 64;
/// The most octets these may have together.
pub const MAX_ATTR_BYTES: usize = 8 * 1024;

/// True when each attribute is legal and all together are within the limits.
pub fn are_legal(attrs: &[Attr]) -> bool {
    let octets: usize = attrs.iter().map(|attr| attr.name.len() + attr.value.len()).sum();
    attrs.len() <= MAX_ATTRS && octets <= MAX_ATTR_BYTES && attrs.iter().all(Attr::is_legal)
}
