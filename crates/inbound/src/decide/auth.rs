//! AUTH: policy's own users first, then the users file.

use tokio::time::{Instant, sleep};
use tracing::{debug, info, warn};
use waypost_hooks::{AuthDecision, Credentials};
use waypost_mail::Protocol;
use waypost_smtp::server::Answer;
use waypost_smtp::{Reply, Severity};

use super::Decider;
use crate::LoginResult;
use crate::mechanism::Mechanism;
use crate::sasl::{Exchange, Grounds, Turn};
use crate::server::BANNED;
use crate::users::prepare_name;

/// How much of a name that failed to log in goes to the log, in characters.
const LOGGED_NAME: usize = 64;
/// Passwords of one address (or one IPv6 /64) that are checked or wait for that at once.
pub(super) const CHECKS_OF_ONE_ADDRESS: usize = 8;
/// 535 5.7.8
const DOWNGRADED: Reply =
    Reply::fixed(535, (5, 7, 8), "Channel binding is offered here, use a mechanism with -PLUS");

impl Decider {
    pub(super) async fn auth(&mut self, mechanism: String, initial: Option<Vec<u8>>) -> Answer {
        if let Err(answer) = self.not_shut_out() {
            return answer;
        }
        let Some(mechanism) = Mechanism::named(&mechanism) else {
            return Answer::Reply(Reply::PARAMETER_NOT_IMPLEMENTED);
        };
        let turn = Exchange::new(mechanism).begin(initial, self.grounds());
        self.turn(mechanism, turn).await
    }

    pub(super) async fn auth_response(&mut self, response: Vec<u8>) -> Answer {
        let Some(exchange) = self.exchange.take() else {
            return Answer::Reply(Reply::BAD_SEQUENCE);
        };
        let mechanism = exchange.mechanism;
        let turn = exchange.next(response, self.grounds());
        self.turn(mechanism, turn).await
    }

    fn grounds(&self) -> Grounds<'_> {
        let shown = self.facts.tls.as_ref().and_then(|tls| tls.certificate.as_deref());
        let owners = &self.current.settings.auth.certificates;
        Grounds {
            logins: &self.current.logins,
            channel: self.binding.as_ref(),
            certified: shown.and_then(|shown| owners.user_of(shown)),
        }
    }

    async fn turn(&mut self, mechanism: Mechanism, turn: Turn) -> Answer {
        let name = mechanism.name();
        match turn {
            Turn::Challenge(exchange, challenge) => {
                if let Some(claimed) = exchange.claimed()
                    && let Err(answer) = self.await_turn(name, claimed).await
                {
                    return answer;
                }
                self.exchange = Some(exchange);
                Answer::Challenge(challenge)
            }
            Turn::Check(credentials) => self.check(credentials).await,
            Turn::Granted(user) => self.granted(name, &user.clone(), user),
            Turn::Denied(claimed) => self.denied(name, &claimed, Reply::BAD_CREDENTIALS).await,
            Turn::Token(kind, bearer) => self.token(mechanism, kind, bearer).await,
            Turn::Over => Answer::Reply(Reply::BAD_CREDENTIALS),
            Turn::Downgraded(claimed) => self.downgraded(name, &claimed),
            Turn::Malformed => {
                self.house.metrics.login(name, "malformed");
                Answer::Reply(Reply::BAD_ARGUMENTS)
            }
        }
    }

    /// The peer revealed a password.
    async fn check(&mut self, given: Credentials) -> Answer {
        let mechanism = given.mechanism.as_str();
        if let Err(answer) = self.await_turn(mechanism, &given.authcid).await {
            return answer;
        }
        match self.house.rooms.hooks.on_auth(&self.facts, &given).await {
            Ok(AuthDecision::Allow(identity)) => {
                return self.granted(mechanism, &given.authcid, identity);
            }
            Ok(AuthDecision::Deny(refusal)) => {
                return self.denied(mechanism, &given.authcid, refusal.reply().clone()).await;
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
            LoginResult::Granted(user) => self.granted(mechanism, &given.authcid, user),
            LoginResult::Denied => {
                self.denied(mechanism, &given.authcid, Reply::BAD_CREDENTIALS).await
            }
            LoginResult::Busy => self.busy(mechanism),
        }
    }

    pub(super) fn busy(&self, mechanism: &str) -> Answer {
        self.house.metrics.login(mechanism, "busy");
        info!("too many logins at once, one is put off");
        Answer::Reply(Reply::AUTH_UNAVAILABLE)
    }

    /// Refuses a peer whose address is shut out.
    pub(super) fn not_shut_out(&self) -> Result<(), Answer> {
        let peer = self.facts.client.ip();
        // Whom the system knows does not answer for others on this machine.
        let known = self.facts.protocol == Protocol::Local;
        if known || !self.house.shuts_out(peer, &self.current.settings) {
            return Ok(());
        }
        self.house.metrics.refused(&self.facts.listener, "banned");
        Err(Answer::Disconnect(BANNED))
    }

    /// Waits for as long as failed logins of this user from there make the next one wait.
    pub(super) async fn await_turn(&self, mechanism: &str, claimed: &str) -> Result<(), Answer> {
        let (peer, name) = (self.facts.client.ip(), prepare_name(claimed).unwrap_or_default());
        let rules = &self.current.settings.auth.failures;
        let wait = self.house.failures.wait(peer, &name, rules, Instant::now());
        let wait = wait.ok_or_else(|| self.busy(mechanism))?;
        if !wait.is_zero() {
            self.house.metrics.logins_delayed.inc();
            sleep(wait).await;
        }
        // While this one waited, others may have gone too far.
        self.not_shut_out()
    }

    pub(super) fn granted(&mut self, mechanism: &str, claimed: &str, user: String) -> Answer {
        let name = prepare_name(claimed).unwrap_or_default();
        self.house.failures.succeeded(self.facts.client.ip(), &name);
        self.house.metrics.login(mechanism, "granted");
        debug!(user, mechanism, "logged in");
        self.facts.identity = Some(user);
        self.logged_in = true;
        self.facts.may_relay = true;
        Answer::Authenticated
    }

    pub(super) async fn denied(&self, mechanism: &str, claimed: &str, reply: Reply) -> Answer {
        self.house.metrics.login(mechanism, "denied");
        info!(user = shown(claimed), mechanism, client = %self.facts.client, "login failed");
        // What policy puts off is no guess.
        if reply.severity() != Severity::Permanent || !self.goes_too_far(claimed) {
            return Answer::Reply(reply);
        }
        let how_long = self.current.settings.auth.failures.ban;
        let ban = self.house.rooms.bans.ban(self.facts.client.ip(), how_long).await;
        self.house.metrics.bans.inc();
        warn!(
            network = %ban.network, until = %ban.until,
            "too many logins failed, the address is shut out; `waypost ban lift` lets it in again"
        );
        Answer::Disconnect(BANNED)
    }

    /// Counts a failure. True when the peer is to be shut out.
    fn goes_too_far(&self, claimed: &str) -> bool {
        let (peer, name) = (self.facts.client.ip(), prepare_name(claimed).unwrap_or_default());
        let settings = &self.current.settings;
        let rules = &settings.auth.failures;
        let too_far = self.house.failures.failed(peer, &name, rules, Instant::now());
        // An address that is only a proxy's is not the guesser's.
        too_far && !self.anonymous && !settings.is_trusted(peer)
    }

    /// RFC 5802 §6: the client must not be let in, or who is between us has won.
    fn downgraded(&self, mechanism: &str, claimed: &str) -> Answer {
        self.house.metrics.login(mechanism, "downgraded");
        warn!(
            user = shown(claimed), mechanism, client = %self.facts.client,
            "login refused: the client can bind to the channel and did not see that we offer it; \
             somebody between us may have removed it"
        );
        Answer::Reply(DOWNGRADED)
    }
}

/// The beginning of a name that a stranger gave, for the log.
fn shown(claimed: &str) -> String {
    let name: String = claimed.chars().take(LOGGED_NAME).collect();
    name.escape_debug().to_string()
}
