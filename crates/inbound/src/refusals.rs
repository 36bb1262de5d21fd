//! The refusals of one session: all are counted, and each kind is logged once.

use tracing::info;
use waypost_smtp::server::Refusal;
use waypost_smtp::{Code, Enhanced, Reply};

use crate::metrics::Metrics;
use crate::session::TOO_OLD;

/// Kinds of refusals that one session may bring into the log.
const KINDS: usize = 16;

/// What was said about one session.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    told: Vec<(Code, Option<Enhanced>)>,
}

impl Refusals {
    /// Counts what was refused since the last time, and logs what is new.
    pub(crate) fn tell(&mut self, refusals: Vec<Refusal>, listener: &str, metrics: &Metrics) {
        for Refusal { reply, times } in refusals {
            metrics.refusals(listener, reason(&reply), times);
            let kind = (reply.code, reply.enhanced);
            if self.told.len() < KINDS && !self.told.contains(&kind) {
                self.told.push(kind);
                info!(%reply, times, "refused; more of the same in this session is only counted");
            }
        }
    }
}

/// The limit or rule that a reply of ours stands for; for all others, its code.
fn reason(reply: &Reply) -> String {
    const NAMES: [(Reply, &str); 22] = [
        (Reply::TOO_MANY_ERRORS, "errors"),
        (Reply::TOO_MANY_COMMANDS, "commands"),
        (Reply::TOO_MANY_MESSAGES, "messages-per-session"),
        (Reply::TOO_MANY_RECIPIENTS, "recipients"),
        (Reply::MESSAGE_TOO_BIG, "message-size"),
        (Reply::TOO_MANY_FIELDS, "header-fields"),
        (Reply::LINE_TOO_LONG, "command-line"),
        (Reply::TEXT_LINE_TOO_LONG, "long-lines"),
        (Reply::BARE_LINE_ENDING, "bare-line-ending"),
        (Reply::NUL_IN_MESSAGE, "nul"),
        (Reply::BAD_LINE, "bad-line"),
        (Reply::OUT_OF_TURN, "out-of-turn"),
        (Reply::ROUTING_LOOP, "hops"),
        (Reply::IDLE_TIMEOUT, "idle"),
        (Reply::TOO_SLOW, "minimum-rate"),
        (TOO_OLD, "session-time"),
        (Reply::TOO_BUSY, "sessions"),
        (Reply::TOO_MANY_IN_TIME, "message-rate"),
        (Reply::INSUFFICIENT_STORAGE, "storage"),
        (Reply::INSUFFICIENT_MEMORY, "memory"),
        (Reply::QUEUE_FULL, "queue"),
        (Reply::RELAY_DENIED, "relay-denied"),
    ];
    let name = NAMES.into_iter().find_map(|(known, name)| (known == *reply).then_some(name));
    name.map_or_else(|| reply.code.get().to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_have_names_and_the_rest_has_codes() {
        assert_eq!(reason(&Reply::TOO_SLOW), "minimum-rate");
        assert_eq!(reason(&Reply::OUT_OF_TURN), "out-of-turn");
        assert_eq!(reason(&Reply::fixed(550, (5, 1, 1), "policy")), "550");
    }

    #[test]
    fn all_are_counted() {
        let metrics = Metrics::default();
        let mut refusals = Refusals::default();
        for code in 400..440 {
            let reply = Reply::fixed(code, (4, 0, 0), "x");
            refusals.tell(vec![Refusal { reply, times: 3 }], "relay", &metrics);
        }
        assert_eq!(refusals.told.len(), KINDS);
        assert_eq!(metrics.refused_for("relay", "439"), 3);
    }
}
