//! Small named facts that policy attaches to sessions, messages and recipients.

use serde::{Deserialize, Serialize};

/// One name and value. Names are lower-case ASCII `[a-z0-9._/-]` of at most 64 octets, values at
/// most 4 KiB; whoever takes attributes from policy checks that with [`Attr::is_legal`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attr {
    /// What it is called, `plugin/key` where policy set it.
    pub name: String,
    /// What it says. An empty value removes the attribute.
    pub value: String,
}

impl Attr {
    /// True when name and value are within the limits.
    pub fn is_legal(&self) -> bool {
        let legal = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._/-".contains(&b);
        (1..=64).contains(&self.name.len())
            && self.name.bytes().all(legal)
            && self.value.len() <= 4096
    }

    /// Sets `self` in `attrs`: replaces the one of the same name, removes it when the value is empty.
    pub fn set(self, attrs: &mut Vec<Attr>) {
        attrs.retain(|attr| attr.name != self.name);
        if !self.value.is_empty() {
            attrs.push(self);
        }
    }
}
