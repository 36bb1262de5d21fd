//! AUTH by a token: whoever issued it says whose it is.

use tracing::{info, warn};
use waypost_smtp::Reply;
use waypost_smtp::server::Answer;

use super::Decider;
use super::auth::CHECKS_OF_ONE_ADDRESS;
use crate::mechanism::Mechanism;
use crate::sasl::Exchange;
use crate::token::{Bearer, BearerKind, Refused, TokenResult, refusal};

impl Decider {
    pub(super) async fn token(
        &mut self,
        mechanism: Mechanism,
        kind: BearerKind,
        bearer: Bearer,
    ) -> Answer {
        let name = mechanism.name();
        let claimed = bearer.claimed.clone().unwrap_or_default();
        if let Err(answer) = self.await_turn(name, &claimed).await {
            return answer;
        }
        let (peer, now) = (self.facts.client.ip(), self.house.rooms.clock.now());
        let Ok(_place) = self.house.checks.enter(peer, usize::MAX, CHECKS_OF_ONE_ADDRESS) else {
            return self.busy(name);
        };
        let current = self.current.clone();
        let Some(tokens) = &current.tokens else {
            return Answer::Reply(Reply::PARAMETER_NOT_IMPLEMENTED);
        };
        match tokens.check(&bearer.token, bearer.claimed.as_deref(), now).await {
            TokenResult::Granted(user) => self.granted(name, &claimed, user),
            TokenResult::Unavailable(why) => {
                self.house.metrics.login(name, "unavailable");
                warn!(why, "a token cannot be checked, the login is put off");
                Answer::Reply(Reply::AUTH_UNAVAILABLE)
            }
            TokenResult::Refused(why) => {
                info!(%why, client = %self.facts.client, "token refused");
                let challenge = refusal(kind, why.status(), &tokens.scope());
                self.told_why(mechanism, &claimed, why, challenge).await
            }
        }
    }

    /// RFC 7628 §3.2.2: the reason is a challenge, and the reply comes when the peer has heard it.
    async fn told_why(
        &mut self,
        mechanism: Mechanism,
        claimed: &str,
        why: Refused,
        challenge: Vec<u8>,
    ) -> Answer {
        // Whoever has a token that was good once, or is good elsewhere, is not guessing.
        let reply = if why.is_a_guess() { Reply::BAD_CREDENTIALS } else { Reply::AUTH_UNAVAILABLE };
        match self.denied(mechanism.name(), claimed, reply).await {
            Answer::Reply(_) => {
                self.exchange = Some(Exchange::over(mechanism));
                Answer::Challenge(challenge)
            }
            shut_out => shut_out,
        }
    }
}
