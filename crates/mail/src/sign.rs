//! What a message is to be signed with.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// One DKIM signature that somebody wants on a message (RFC 6376). It names the key and never
/// holds it, so that it can be kept with the message and be asked for by policy.
///
/// What is legal in it is judged where it is carried out, by `waypost-identity`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignRequest {
    /// The domain that vouches (`d=`); U-labels are signed as A-labels.
    pub domain: String,
    /// Under which `<selector>._domainkey.<domain>` verifiers find the public key (`s=`).
    pub selector: String,
    /// The name of the signing key in the configuration. Its kind decides the algorithm (`a=`).
    pub key: String,
    /// Names of the fields to sign, in the order of `h=`; of each, every occurrence is signed. Empty
    /// means the recommended set. `From` is signed whether it is listed or not.
    pub headers: Vec<String>,
    /// Names of fields that nobody may add: each is listed once more than it occurs (RFC 6376
    /// §8.15). They are signed, too. When `headers` is empty as well, this means the recommended
    /// set; with a list of `headers` it means none.
    pub oversign: Vec<String>,
    /// For how long verifiers may accept the signature (`x=`), in whole seconds and at least one;
    /// without it, for as long as the public key is published.
    pub expire_after: Option<Duration>,
}
