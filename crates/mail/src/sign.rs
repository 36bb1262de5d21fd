//! What is asked for when a message is to be signed.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A DKIM signature that is wanted (RFC 6376). It names its key; the key itself is elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SignRequest {
    /// `d=`.
    pub domain: String,
    /// `s=`.
    pub selector: String,
    /// Name of the key in the configuration.
    pub key: String,
    /// Fields to sign; empty for the recommended set.
    pub headers: Vec<String>,
    /// Fields to sign once more than they occur.
    pub oversign: Vec<String>,
    /// Lifetime, written to `x=`.
    pub expire_after: Option<Duration>,
}
