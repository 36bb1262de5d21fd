//! AUTH: policy's own users first, then the users file.

use tracing::{debug, info};
use waypost_hooks::{AuthDecision, Credentials};
use waypost_smtp::Reply;
use waypost_smtp::server::Answer;

use super::Decider;
use crate::LoginResult;
use crate::sasl::{Exchange, Turn};

/// How much of a name that failed to log in goes to the log, in characters.
const LOGGED_NAME: usize = 64;
/// Passwords of one address (or one IPv6 /64) that are checked or wait for that at once.
const CHECKS_OF_ONE_ADDRESS: usize = 8;

impl Decider {
    pub(super) async fn auth(&mut self, mechanism: String, initial: Option<Vec<u8>>) -> Answer {
        let Some(exchange) = Exchange::new(mechanism.clone()) else {
            return Answer::Reply(Reply::PARAMETER_NOT_IMPLEMENTED);
        };
        let turn = exchange.begin(initial, &self.current.logins);
        self.turn(mechanism, turn).await
    }

    pub(super) async fn auth_response(&mut self, response: Vec<u8>) -> Answer {
        let Some(exchange) = self.exchange.take() else {
            return Answer::Reply(Reply::BAD_SEQUENCE);
        };
        let mechanism = exchange.mechanism.clone();
        let turn = exchange.next(response, &self.current.logins);
        self.turn(mechanism, turn).await
    }

    async fn turn(&mut self, mechanism: String, turn: Turn) -> Answer {
        match turn {
            Turn::Challenge(exchange, challenge) => {
                self.exchange = Some(exchange);
                Answer::Challenge(challenge)
            }
            Turn::Check(credentials) => self.check(credentials).await,
            Turn::Granted(user) => self.granted(&mechanism, user),
            Turn::Denied(claimed) => self.denied(&mechanism, &claimed, Reply::BAD_CREDENTIALS),
            Turn::Malformed => {
                self.house.metrics.login(&mechanism, "malformed");
                Answer::Reply(Reply::BAD_ARGUMENTS)
            }
        }
    }

    /// The peer revealed a password.
    async fn check(&mut self, given: Credentials) -> Answer {
        let mechanism = given.mechanism.as_str();
        match self.house.rooms.hooks.on_auth(&self.facts, &given).await {
            Ok(AuthDecision::Allow(identity)) => return self.granted(mechanism, identity),
            Ok(AuthDecision::Deny(refusal)) => {
                return self.denied(mechanism, &given.authcid, refusal.reply().clone());
            }
            Ok(AuthDecision::Proceed) => {}
            Err(fault) => {
                self.fault("auth", &fault.to_string());
                self.house.metrics.login(mechanism, "fault");
                return Answer::Reply(Reply::AUTH_UNAVAILABLE);
            }
        }
        let peer = self.facts.client.ip();
        // One address that guesses must not keep everybody else waiting.
        let Ok(_place) = self.house.checks.enter(peer, usize::MAX, CHECKS_OF_ONE_ADDRESS) else {
            return self.busy(mechanism);
        };
        let current = self.current.clone();
        let logins = &current.logins;
        let authzid = given.authzid.as_deref();
        match logins.check(authzid, &given.authcid, &given.password).await {
            LoginResult::Granted(user) => self.granted(mechanism, user),
            LoginResult::Denied => self.denied(mechanism, &given.authcid, Reply::BAD_CREDENTIALS),
            LoginResult::Busy => self.busy(mechanism),
        }
    }

    fn busy(&self, mechanism: &str) -> Answer {
        self.house.metrics.login(mechanism, "busy");
        info!("too many logins at once, one is put off");
        Answer::Reply(Reply::AUTH_UNAVAILABLE)
    }

    fn granted(&mut self, mechanism: &str, user: String) -> Answer {
        self.house.metrics.login(mechanism, "granted");
        debug!(user, mechanism, "logged in");
        self.facts.identity = Some(user);
        self.facts.may_relay = true;
        Answer::Authenticated
    }

    fn denied(&self, mechanism: &str, claimed: &str, reply: Reply) -> Answer {
        self.house.metrics.login(mechanism, "denied");
        let user: String = claimed.chars().take(LOGGED_NAME).collect();
        info!(user = %user.escape_debug(), mechanism, client = %self.facts.client, "login failed");
        Answer::Reply(reply)
    }
}
