//! Why a message is not signed, and who can mend it.

/// Who has to act.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// Who asked for the signature: the configuration or policy. Every message will fail.
    Request,
    /// The message. Another one may do.
    Message,
    /// This machine. Another attempt may do.
    Machine,
}

/// Why there is no signature.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    /// The key of the request is not in the ring.
    #[error("there is no signing key named {0:?}; define it, or name one that is defined")]
    NoSuchKey(String),
    /// Domain or selector are none.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A listed field has no legal name (RFC 5322 §2.2).
    #[error("{0:?} is no name of a header field; list names alone, without the colon")]
    NoField(String),
    /// A listed field is one of [`UNSIGNABLE`](crate::UNSIGNABLE).
    #[error("{0} fields change on the way and would break the signature; leave them out")]
    Unsignable(String),
    /// The signature would expire the moment it is made.
    #[error("a signature cannot expire within its first second; give it days")]
    Expired,
    /// The message has no `From` or several (RFC 5322 §3.6, RFC 6376 §8.15).
    #[error("the message has {0} From fields, and only one with exactly one can be vouched for")]
    From(usize),
    /// The message has more fields of the listed names than can be signed.
    #[error("the message has {0} fields to sign, and 500 is the limit")]
    TooManyFields(usize),
    /// The cryptography failed.
    #[error("the key {key:?} could not sign: {error}; make a new key if this lasts")]
    Crypto {
        /// Which key.
        key: String,
        /// What the library said.
        error: String,
    },
}

impl SignError {
    /// Who has to act.
    pub fn blame(&self) -> Blame {
        match self {
            SignError::NoSuchKey(_)
            | SignError::Name(_)
            | SignError::NoField(_)
            | SignError::Unsignable(_)
            | SignError::Expired => Blame::Request,
            SignError::From(_) | SignError::TooManyFields(_) => Blame::Message,
            SignError::Crypto { .. } => Blame::Machine,
        }
    }
}

/// Why no public key can be found under a selector and a domain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// No domain name.
    #[error("{0:?} is no domain to sign for; write it like example.org")]
    Domain(String),
    /// No selector (RFC 6376 §3.1).
    #[error("{0:?} is no selector; use letters, digits and hyphens, and dots between labels")]
    Selector(String),
    /// Both together are longer than DNS allows (RFC 1035 §2.3.4).
    #[error("the name {0} is longer than the 253 octets of DNS; choose a shorter selector")]
    TooLong(String),
}
