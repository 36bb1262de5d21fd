//! What is said between AUTH and its reply (RFC 4954 §4), mechanism by mechanism.

use waypost_hooks::Credentials;

use crate::Logins;
use crate::mechanism::Mechanism;
use crate::scram::{Binding, ChannelBinding, ClientFirst, ScramError, ScramHash, ScramServer};
use crate::token::{Bearer, BearerKind};
use crate::users::prepare_name;

/// An exchange that waits for the peer's next response.
#[derive(Debug)]
pub(crate) struct Exchange {
    pub(crate) mechanism: Mechanism,
    state: State,
}

/// What an exchange is held against.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Grounds<'a> {
    pub(crate) logins: &'a Logins,
    /// The channel's value, where one was offered to bind to.
    pub(crate) channel: Option<&'a ChannelBinding>,
    /// Whose certificate the channel was made with.
    pub(crate) certified: Option<&'a str>,
}

#[derive(Debug)]
enum State {
    Plain,
    LoginName,
    LoginPassword {
        name: String,
    },
    ScramFirst {
        hash: ScramHash,
        plus: bool,
    },
    ScramFinal {
        server: Box<ScramServer>,
        claimed: String,
        user: Option<String>,
    },
    ScramDone {
        user: String,
    },
    External,
    Bearer(BearerKind),
    /// The peer was told why, and says that it has heard (RFC 7628 §3.2.3).
    Over,
}

/// What a response leads to.
#[derive(Debug)]
pub(crate) enum Turn {
    /// Say this and wait.
    Challenge(Exchange, Vec<u8>),
    /// The peer revealed a password: it is to be checked.
    Check(Credentials),
    /// The peer proved to be this user.
    Granted(String),
    /// The peer brought a token: it is to be checked.
    Token(BearerKind, Bearer),
    /// It did not prove to be who it claims.
    Denied(String),
    /// It did not, as it was told before.
    Over,
    /// This user's client did not see our offer of channel binding: somebody is between us.
    Downgraded(String),
    /// It does not keep to the mechanism.
    Malformed,
}

impl Exchange {
    /// An exchange by a mechanism that was offered.
    pub(crate) fn new(mechanism: Mechanism) -> Exchange {
        let state = match mechanism {
            Mechanism::Plain => State::Plain,
            Mechanism::Login => State::LoginName,
            Mechanism::Scram { hash, plus } => State::ScramFirst { hash, plus },
            Mechanism::External => State::External,
            Mechanism::Bearer(kind) => State::Bearer(kind),
        };
        Exchange { mechanism, state }
    }

    /// What is left of one whose peer was told why it is refused.
    pub(crate) fn over(mechanism: Mechanism) -> Exchange {
        Exchange { mechanism, state: State::Over }
    }

    /// Whom the peer claims to be, once it is about to prove it without a password.
    pub(crate) fn claimed(&self) -> Option<&str> {
        match &self.state {
            State::ScramFinal { claimed, .. } => Some(claimed),
            _ => None,
        }
    }

    /// AUTH itself. The client speaks first in every mechanism but LOGIN; when it brought no
    /// initial response, an empty challenge asks for it.
    pub(crate) fn begin(self, initial: Option<Vec<u8>>, grounds: Grounds<'_>) -> Turn {
        match (initial, &self.state) {
            (Some(initial), _) => self.next(initial, grounds),
            (None, State::LoginName) => Turn::Challenge(self, b"Username:".to_vec()),
            (None, _) => Turn::Challenge(self, Vec::new()),
        }
    }

    /// The peer's next response.
    pub(crate) fn next(self, response: Vec<u8>, grounds: Grounds<'_>) -> Turn {
        let Exchange { mechanism, state } = self;
        let turn = match state {
            State::Plain => plain(mechanism, response),
            State::LoginName => login_name(mechanism, response),
            State::LoginPassword { name } => login_password(mechanism, name, response),
            State::ScramFirst { hash, plus } => {
                scram_first(mechanism, (hash, plus), &response, grounds)
            }
            State::ScramFinal { server, claimed, user } => {
                Some(scram_final(mechanism, *server, claimed, user, &response))
            }
            State::External => external(&response, grounds),
            State::Bearer(kind) => {
                Bearer::parse(kind, &response).map(|bearer| Turn::Token(kind, bearer))
            }
            State::Over => Some(Turn::Over),
            // After our last message the client has nothing more to say.
            State::ScramDone { user } => response.is_empty().then_some(Turn::Granted(user)),
        };
        turn.unwrap_or(Turn::Malformed)
    }
}

/// The name to act as, or nothing (RFC 4422 App. A).
fn external(response: &[u8], grounds: Grounds<'_>) -> Option<Turn> {
    let (user, claimed) = (grounds.certified?, std::str::from_utf8(response).ok()?);
    let own = claimed.is_empty() || prepare_name(claimed).is_ok_and(|claimed| claimed == user);
    Some(if own { Turn::Granted(user.to_owned()) } else { Turn::Denied(claimed.to_owned()) })
}

/// `authzid NUL authcid NUL password` (RFC 4616 §2).
fn plain(mechanism: Mechanism, response: Vec<u8>) -> Option<Turn> {
    let text = String::from_utf8(response).ok()?;
    let mut parts = text.split('\0');
    let (authzid, authcid, password) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    Some(Turn::Check(Credentials {
        mechanism: mechanism.name().to_owned(),
        authzid: Some(authzid).filter(|id| !id.is_empty()).map(str::to_owned),
        authcid: authcid.to_owned(),
        password: password.to_owned(),
    }))
}

fn login_name(mechanism: Mechanism, response: Vec<u8>) -> Option<Turn> {
    let name = String::from_utf8(response).ok()?;
    let exchange = Exchange { mechanism, state: State::LoginPassword { name } };
    Some(Turn::Challenge(exchange, b"Password:".to_vec()))
}

fn login_password(mechanism: Mechanism, authcid: String, response: Vec<u8>) -> Option<Turn> {
    let password = String::from_utf8(response).ok()?;
    let mechanism = mechanism.name().to_owned();
    Some(Turn::Check(Credentials { mechanism, authzid: None, authcid, password }))
}

fn scram_first(
    mechanism: Mechanism,
    (hash, plus): (ScramHash, bool),
    response: &[u8],
    grounds: Grounds<'_>,
) -> Option<Turn> {
    let first = ClientFirst::parse(response).ok()?;
    // Where a channel can be bound to, the -PLUS of each SCRAM was offered with it.
    let demanded = match (plus, grounds.channel) {
        (true, channel) => Binding::To(channel?),
        (false, Some(_)) => Binding::Waived,
        (false, None) => Binding::Absent,
    };
    let (server, user) = match grounds.logins.scram(hash, &first, demanded) {
        Ok(begun) => begun,
        Err(ScramError::Downgrade) => return Some(Turn::Downgraded(first.authcid)),
        Err(_) => return None,
    };
    let challenge = server.first().as_bytes().to_vec();
    let state = State::ScramFinal { server: Box::new(server), claimed: first.authcid, user };
    Some(Turn::Challenge(Exchange { mechanism, state }, challenge))
}

fn scram_final(
    mechanism: Mechanism,
    server: ScramServer,
    claimed: String,
    user: Option<String>,
    response: &[u8],
) -> Turn {
    match (server.finish(response), user) {
        (Ok(last), Some(user)) => {
            let state = State::ScramDone { user };
            Turn::Challenge(Exchange { mechanism, state }, last.into_bytes())
        }
        _ => Turn::Denied(claimed),
    }
}
