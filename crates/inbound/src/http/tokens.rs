//! Who submits, by a bearer token (RFC 6750) or by the word of the system. Tokens that are not known are
//! failed logins: they count against the address that shows them, as passwords do by SMTP.

use std::time::Duration;

use axum::http::{HeaderMap, StatusCode, header};
use tokio::time::Instant;
use tracing::{info, warn};

use super::Door;
use super::answer::Problem;

/// The mechanism in the metrics.
const BEARER: &str = "BEARER";

impl Door {
    /// # Errors
    /// 401 when nobody is known by what the request shows, 429 when it is too early to show it again or
    /// the address is shut out.
    pub(super) async fn authenticate(&self, headers: &HeaderMap) -> Result<String, Problem> {
        self.not_shut_out()?;
        let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = given.and_then(|given| {
            let (scheme, token) = given.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
        });
        match (given, token, &self.user) {
            (None, _, Some(user)) => Ok(user.clone()),
            (_, Some(token), _) => match self.visit.current.settings.http.tokens.user(token) {
                Some(user) => {
                    self.visit.house.metrics.login(BEARER, "granted");
                    Ok(user.to_owned())
                }
                None => Err(self.denied(token).await),
            },
            _ => Err(Problem::new(StatusCode::UNAUTHORIZED, "a bearer token is needed")),
        }
    }

    /// A user of this machine, whom the system knows, does not answer for the others on it.
    fn not_shut_out(&self) -> Result<(), Problem> {
        let (house, settings) = (&self.visit.house, &self.visit.current.settings);
        let peer = self.visit.peer.client.ip();
        if self.user.is_some() || !house.shuts_out(peer, settings) {
            return Ok(());
        }
        house.metrics.refused(&self.visit.listener.name, "banned");
        Err(shut_out(house.shut_out_for(peer).unwrap_or(settings.auth.failures.delay)))
    }

    /// A token is like a user's name here: who shows the same one again waits, longer each time, and
    /// nobody else behind the same address does. All of them count towards the ban.
    async fn denied(&self, token: &str) -> Problem {
        let (house, settings) = (&self.visit.house, &self.visit.current.settings);
        let rules = &settings.auth.failures;
        let (peer, now) = (self.visit.peer.client.ip(), Instant::now());
        let early = house.failures.early(peer, token, rules, now);
        if self.user.is_none() && !early.is_zero() {
            house.metrics.login(BEARER, "early");
            house.metrics.logins_delayed.inc();
            let detail =
                "this token was not known a short while ago, and it is too early to try it again";
            return Problem::new(StatusCode::TOO_MANY_REQUESTS, detail).retry_after(early);
        }
        house.metrics.login(BEARER, "denied");
        info!(client = %self.visit.peer.client, "a token is not known");
        let unknown = Problem::new(StatusCode::UNAUTHORIZED, "this token is not known");
        if self.user.is_some() {
            return unknown;
        }
        let too_far = house.failures.failed(peer, token, rules, now);
        // An address that is only a proxy's is not the guesser's.
        if !too_far || self.visit.anonymous || settings.is_trusted(peer) {
            return unknown.retry_after(house.failures.early(peer, token, rules, now));
        }
        let ban = house.rooms.bans.ban(peer, rules.ban).await;
        house.metrics.bans.inc();
        warn!(
            network = %ban.network, until = %ban.until,
            "too many tokens were not known, the address is shut out; `waypost ban lift` lets it in again"
        );
        shut_out(rules.ban)
    }
}

fn shut_out(how_long: Duration) -> Problem {
    let detail = "too many logins failed from your address, try again later";
    Problem::new(StatusCode::TOO_MANY_REQUESTS, detail).retry_after(how_long)
}
