//! Proving to a next hop who we are (RFC 4954).

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::scram::Scram;
use super::{ProtocolError, SessionFailure};
use crate::Extensions;

/// Longest user name and longest password, in octets.
const MAX_SECRET: usize = 1024;

/// A shorter password is found in many a text where nobody repeated it.
const LONG_ENOUGH: usize = 4;

/// A user name and a password for a next hop. Its `Debug` does not show the password.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    user: String,
    password: String,
}

/// Why a text can be no user name or password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CredentialsError {
    /// One of them is empty.
    #[error("user name and password must not be empty")]
    Empty,
    /// One of them has a NUL, which separates the two in AUTH PLAIN (RFC 4616 §2).
    #[error("user name and password must not contain NUL")]
    Nul,
    /// One of them is over 1024 octets.
    #[error("user name and password have at most 1024 octets each")]
    TooLong,
}

impl Credentials {
    /// Takes a user name and a password that AUTH can carry.
    pub fn new(
        user: impl Into<String>,
        password: impl Into<String>,
    ) -> Result<Credentials, CredentialsError> {
        let (user, password) = (user.into(), password.into());
        for secret in [&user, &password] {
            if secret.is_empty() {
                return Err(CredentialsError::Empty);
            }
            if secret.contains('\0') {
                return Err(CredentialsError::Nul);
            }
            if secret.len() > MAX_SECRET {
                return Err(CredentialsError::TooLong);
            }
        }
        Ok(Credentials { user, password })
    }

    /// The user name.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// True when a reply repeats them, as those of servers do that do not know AUTH and say what they do not
    /// know.
    pub(super) fn are_in(&self, text: &str) -> bool {
        let Credentials { user, password } = self;
        let plain = password.len() >= LONG_ENOUGH && text.contains(password.as_str());
        let encoded = [format!("\0{user}\0{password}"), password.clone()];
        plain || encoded.iter().any(|secret| text.contains(&BASE64.encode(secret)))
    }

    pub(super) fn password(&self) -> &str {
        &self.password
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("user", &self.user).finish_non_exhaustive()
    }
}

/// One run of AUTH, from the command to the last challenge.
#[derive(Debug)]
pub(super) enum Exchange {
    /// The next challenge is not allowed: everything has been said.
    Said,
    LoginUser,
    LoginPassword,
    ScramFirst(Scram),
    ScramFinal(Scram),
}

impl Exchange {
    /// Picks the best mechanism that is offered and allowed; returns the AUTH command too.
    /// `may_reveal` says whether the password itself may go over this connection.
    pub(super) fn begin(
        extensions: &Extensions,
        credentials: &Credentials,
        may_reveal: bool,
        nonce: &[u8],
    ) -> Result<(Exchange, String), SessionFailure> {
        let Credentials { user, password } = credentials;
        if extensions.auth.is_empty() {
            return Err(SessionFailure::AuthNotOffered);
        }
        if extensions.offers_auth("SCRAM-SHA-256") {
            let scram = Scram::new(user, nonce);
            let command = format!("AUTH SCRAM-SHA-256 {}", BASE64.encode(scram.first()));
            return Ok((Exchange::ScramFirst(scram), command));
        }
        let (plain, login) = (extensions.offers_auth("PLAIN"), extensions.offers_auth("LOGIN"));
        if !plain && !login {
            return Err(SessionFailure::NoCommonMechanism { offered: extensions.auth.clone() });
        }
        if !may_reveal {
            return Err(SessionFailure::AuthNeedsTls);
        }
        if plain {
            let response = BASE64.encode(format!("\0{user}\0{password}"));
            return Ok((Exchange::Said, format!("AUTH PLAIN {response}")));
        }
        Ok((Exchange::LoginUser, "AUTH LOGIN".to_owned()))
    }

    /// The answer to a 334, as a line for the wire.
    pub(super) fn answer(
        &mut self,
        challenge: &str,
        credentials: &Credentials,
    ) -> Result<String, SessionFailure> {
        let (next, response) = match std::mem::replace(self, Exchange::Said) {
            Exchange::Said => return Err(ProtocolError::BadChallenge.into()),
            // What a server asks for is said in words nobody specified; the order is fixed.
            Exchange::LoginUser => (Exchange::LoginPassword, credentials.user.clone()),
            Exchange::LoginPassword => (Exchange::Said, credentials.password.clone()),
            Exchange::ScramFirst(mut scram) => {
                let response = scram.answer(&decoded(challenge)?, credentials)?;
                (Exchange::ScramFinal(scram), response)
            }
            Exchange::ScramFinal(scram) => {
                if !scram.is_proven_by(&decoded(challenge)?) {
                    return Err(SessionFailure::ServerUnproven);
                }
                (Exchange::Said, String::new())
            }
        };
        *self = next;
        Ok(BASE64.encode(response))
    }

    /// The server said 235. False when it skipped its part of the exchange.
    pub(super) fn is_complete(&self) -> bool {
        matches!(self, Exchange::Said)
    }
}

fn decoded(challenge: &str) -> Result<String, ProtocolError> {
    let octets = BASE64.decode(challenge.trim()).map_err(|_| ProtocolError::BadChallenge)?;
    String::from_utf8(octets).map_err(|_| ProtocolError::BadChallenge)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_hides_the_password() {
        let credentials = Credentials::new("relay", "geheim").unwrap();
        assert_eq!(format!("{credentials:?}"), "Credentials { user: \"relay\", .. }");
    }

    #[test]
    fn what_auth_cannot_carry_is_refused() {
        assert_eq!(Credentials::new("", "x"), Err(CredentialsError::Empty));
        assert_eq!(Credentials::new("x", "a\0b"), Err(CredentialsError::Nul));
        assert_eq!(Credentials::new("x".repeat(1025), "x"), Err(CredentialsError::TooLong));
    }
}
