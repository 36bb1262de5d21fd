//! Who vouches for a message: DKIM signatures (RFC 6376) by keys with names, and what the signatures
//! and policies of others are worth ([`verify`], told in the field of [`results`]).
//!
//! A [`Keyring`] holds the [`SigningKey`]s of the configuration. [`Keyring::sign`] turns each
//! [`SignRequest`](waypost_mail::SignRequest) into a whole `DKIM-Signature` field; the body has been
//! hashed before, once for all of them, as it went by ([`BodyHasher`]). [`keygen`] makes keys and
//! the DNS records that publish them.
//!
//! [`Verp`] makes senders of single copies that nobody else can make, and knows them again when mail comes
//! back to them.
//!
//! # What is mail-auth's and what is ours
//!
//! Keys, signatures and hashes are mail-auth's (over aws-lc-rs). The text that is signed is made
//! here, because mail-auth 0.13.3
//!
//! * keeps lines of white space alone at the end of a relaxed body, where RFC 6376 §3.4.4 wants
//!   them gone: other verifiers would find the body altered;
//! * drops form feeds and bare CR from relaxed header fields, which RFC 6376 §3.4.2 keeps;
//! * cannot take a body hash that is known already, so each signature would read the body again;
//! * cannot list a field once more than it occurs when it does occur (oversigning);
//! * takes the time from the system, not from the caller.
//!
//! What remains is small: two canonical forms (`body`, `header`), which fields are signed
//! (`selection`), and how the field is written (`field`). dkimpy, Mail::DKIM and mail-auth's own
//! verifier read the results in `tests/`.
//!
//! Always `c=relaxed/relaxed`; `i=` and `l=` are never written: the one says nothing that `d=`
//! does not, the other lets anybody append to the message (RFC 6376 §8.2).

#![forbid(unsafe_code)]

mod body;
mod copy;
mod error;
mod field;
mod header;
mod key;
pub mod keygen;
mod keyring;
mod metrics;
mod name;
pub mod results;
mod seal;
mod selection;
pub mod verify;
mod verp;
mod vouched;

pub use body::{BodyHash, BodyHasher};
pub use copy::{CopyError, CopyRequest, CopySigner};
pub use error::{Blame, NameError, SignError};
pub use key::{KeyError, KeyFile, KeyProblem, PublicKey, SigningKey};
pub use keyring::Keyring;
pub use metrics::Metrics;
pub use seal::{SealError, SealRequest};
pub use selection::{OVERSIGNED, RECOMMENDED, UNSIGNABLE};
pub use verp::{Named, NotOurs, Origin, Verp};
pub use vouched::{OwnSet, Vouched};
