//! Asking for a signature.

use std::time::Duration;

use crate::types::SignRequest;

impl SignRequest {
    /// A signature of this domain and selector by the key of this name in the configuration. The
    /// host chooses the fields.
    pub fn new(
        domain: impl Into<String>,
        selector: impl Into<String>,
        key: impl Into<String>,
    ) -> SignRequest {
        SignRequest {
            domain: domain.into(),
            selector: selector.into(),
            key: key.into(),
            headers: Vec::new(),
            oversign: Vec::new(),
            expire_after_s: None,
        }
    }

    /// Fields to sign.
    pub fn headers<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> SignRequest {
        self.headers = names.into_iter().map(Into::into).collect();
        self
    }

    /// Fields to sign once more than they occur, so that another one breaks the signature.
    pub fn oversign<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> SignRequest {
        self.oversign = names.into_iter().map(Into::into).collect();
        self
    }

    /// The signature's lifetime, in whole seconds.
    pub fn expire_after(mut self, lifetime: Duration) -> SignRequest {
        self.expire_after_s = Some(u32::try_from(lifetime.as_secs()).unwrap_or(u32::MAX));
        self
    }
}
