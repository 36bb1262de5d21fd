//! What is said between AUTH and its reply (RFC 4954 §4), mechanism by mechanism.

use waypost_hooks::Credentials;

use crate::Logins;
use crate::scram::{ClientFirst, ScramServer};

/// An exchange that waits for the peer's next response.
#[derive(Debug)]
pub(crate) struct Exchange {
    pub(crate) mechanism: String,
    state: State,
}

#[derive(Debug)]
enum State {
    Plain,
    LoginName,
    LoginPassword { name: String },
    ScramFirst,
    ScramFinal { server: Box<ScramServer>, claimed: String, user: Option<String> },
    ScramDone { user: String },
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
    /// It did not prove to be who it claims.
    Denied(String),
    /// It does not keep to the mechanism.
    Malformed,
}

impl Exchange {
    /// An exchange by a mechanism that was offered.
    pub(crate) fn new(mechanism: String) -> Option<Exchange> {
        let state = match mechanism.as_str() {
            "PLAIN" => State::Plain,
            "LOGIN" => State::LoginName,
            "SCRAM-SHA-256" => State::ScramFirst,
            _ => return None,
        };
        Some(Exchange { mechanism, state })
    }

    /// AUTH itself. The client speaks first in every mechanism but LOGIN; when it brought no
    /// initial response, an empty challenge asks for it.
    pub(crate) fn begin(self, initial: Option<Vec<u8>>, logins: &Logins) -> Turn {
        match (initial, &self.state) {
            (Some(initial), _) => self.next(initial, logins),
            (None, State::LoginName) => Turn::Challenge(self, b"Username:".to_vec()),
            (None, _) => Turn::Challenge(self, Vec::new()),
        }
    }

    /// The peer's next response.
    pub(crate) fn next(self, response: Vec<u8>, logins: &Logins) -> Turn {
        let Exchange { mechanism, state } = self;
        let turn = match state {
            State::Plain => plain(mechanism, response),
            State::LoginName => login_name(mechanism, response),
            State::LoginPassword { name } => login_password(mechanism, name, response),
            State::ScramFirst => scram_first(mechanism, &response, logins),
            State::ScramFinal { server, claimed, user } => {
                Some(scram_final(mechanism, *server, claimed, user, &response))
            }
            // After our last message the client has nothing more to say.
            State::ScramDone { user } => response.is_empty().then_some(Turn::Granted(user)),
        };
        turn.unwrap_or(Turn::Malformed)
    }
}

/// `authzid NUL authcid NUL password` (RFC 4616 §2).
fn plain(mechanism: String, response: Vec<u8>) -> Option<Turn> {
    let text = String::from_utf8(response).ok()?;
    let mut parts = text.split('\0');
    let (authzid, authcid, password) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    Some(Turn::Check(Credentials {
        mechanism,
        authzid: Some(authzid).filter(|id| !id.is_empty()).map(str::to_owned),
        authcid: authcid.to_owned(),
        password: password.to_owned(),
    }))
}

fn login_name(mechanism: String, response: Vec<u8>) -> Option<Turn> {
    let name = String::from_utf8(response).ok()?;
    let exchange = Exchange { mechanism, state: State::LoginPassword { name } };
    Some(Turn::Challenge(exchange, b"Password:".to_vec()))
}

fn login_password(mechanism: String, authcid: String, response: Vec<u8>) -> Option<Turn> {
    let password = String::from_utf8(response).ok()?;
    Some(Turn::Check(Credentials { mechanism, authzid: None, authcid, password }))
}

fn scram_first(mechanism: String, response: &[u8], logins: &Logins) -> Option<Turn> {
    let first = ClientFirst::parse(response).ok()?;
    let (server, user) = logins.scram(&first);
    let challenge = server.first().as_bytes().to_vec();
    let state = State::ScramFinal { server: Box::new(server), claimed: first.authcid, user };
    Some(Turn::Challenge(Exchange { mechanism, state }, challenge))
}

fn scram_final(
    mechanism: String,
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
