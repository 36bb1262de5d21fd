//! What to do about a refusal.

use std::collections::BTreeMap;

use serde::Deserialize;
use waypost_sdk::Span;
use waypost_sdk::prelude::*;

use crate::kind::Kind;

/// What to do: at most one of `wait`, `curve`, `hold`, `reroute`, `give-up` and `proceed`, and beside it
/// maybe `slow` and `give-up-after`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Action {
    /// Try again after this time.
    pub wait: Option<Span>,
    /// Try again by a curve.
    pub curve: Option<String>,
    /// Keep until an operator releases it; the text is the reason.
    pub hold: Option<String>,
    /// Try again at once by another route.
    pub reroute: Option<Reroute>,
    /// Bounce.
    pub give_up: bool,
    /// As the relay planned.
    pub proceed: bool,
    /// Bounce once so many tries were made.
    pub give_up_after: Option<u32>,
    /// Go easy on the lane.
    pub slow: Option<Slow>,
}

/// Another route.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Reroute {
    /// By a hop of the configuration; otherwise by the recipient's exchangers.
    #[serde(default)]
    pub named: Option<String>,
    /// From another pool of source addresses.
    #[serde(default)]
    pub source: Option<String>,
    /// In another lane.
    #[serde(default)]
    pub lane: Option<String>,
}

/// Advice about the lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Slow {
    /// No attempt for this long.
    #[serde(default)]
    pub pause: Option<Span>,
    /// At most so many attempts at once.
    #[serde(default)]
    pub max_concurrent: Option<u32>,
    /// How long the advice stands.
    #[serde(rename = "for")]
    pub valid: Span,
}

/// Waits between tries, by name. The last one repeats.
pub(crate) type Curves = BTreeMap<String, Vec<Span>>;

/// The curves that come with the plugin.
pub(crate) fn curves() -> Curves {
    let curve = |name: &str, waits: &[u64]| {
        let minutes = |m: &u64| Span(std::time::Duration::from_secs(m * 60));
        (name.to_owned(), waits.iter().map(minutes).collect())
    };
    [
        curve("greylist", &[5, 10, 15, 30, 60, 120]),
        curve("short", &[5, 10, 20, 40, 60]),
        curve("rate", &[15, 30, 60, 120, 240]),
        curve("block", &[60, 120, 240, 480]),
        curve("full", &[60, 240, 480, 720]),
        curve("policy", &[30, 60, 120, 240]),
        curve("system", &[10, 20, 40, 60, 120]),
    ]
    .into()
}

/// What to do about each kind, unless a rule or the configuration says otherwise.
pub(crate) fn usual(kind: Kind) -> Action {
    let curve = |name: &str| Action { curve: Some(name.to_owned()), ..Action::default() };
    let until = |name: &str, tries: u32| Action { give_up_after: Some(tries), ..curve(name) };
    let minutes = |m: u64| Span(std::time::Duration::from_secs(m * 60));
    let one_at_a_time =
        |m: u64| Some(Slow { pause: None, max_concurrent: Some(1), valid: minutes(m) });
    let pause = |m: u64| {
        Some(Slow { pause: Some(minutes(m)), max_concurrent: Some(1), valid: minutes(2 * m) })
    };
    match kind {
        Kind::RateLimit => Action { slow: one_at_a_time(30), ..curve("rate") },
        Kind::ConnectionLimit => Action { slow: one_at_a_time(60), ..curve("short") },
        Kind::Reputation => Action { slow: one_at_a_time(90), ..curve("block") },
        Kind::BlockList => Action { slow: pause(120), ..curve("block") },
        Kind::Greylist => curve("greylist"),
        Kind::MailboxFull => until("full", 8),
        Kind::UserUnknown | Kind::Inactive | Kind::BadDomain | Kind::RelayDenied => {
            until("policy", 3)
        }
        Kind::Authentication | Kind::Policy => until("policy", 6),
        Kind::Spam | Kind::Content => until("policy", 4),
        Kind::Size | Kind::Loop => until("policy", 2),
        Kind::TooManyRecipients => {
            Action { wait: Some(Span(std::time::Duration::from_secs(30))), ..Action::default() }
        }
        Kind::Tls | Kind::Protocol | Kind::System => curve("system"),
    }
}

impl Action {
    /// Complains, with the key.
    pub(crate) fn check(&self, curves: &Curves) -> Result<(), (&'static str, String)> {
        let decisions = [
            ("wait", self.wait.is_some()),
            ("curve", self.curve.is_some()),
            ("hold", self.hold.is_some()),
            ("reroute", self.reroute.is_some()),
            ("give-up", self.give_up),
            ("proceed", self.proceed),
        ];
        let said: Vec<&str> =
            decisions.iter().filter(|(_, said)| *said).map(|(key, _)| *key).collect();
        match said[..] {
            [] if self.slow.is_none() && self.give_up_after.is_none() => {
                return Err(("", "it does nothing; say `wait`, `curve`, `hold`, `reroute`, `give-up`, `proceed`, `slow` or `give-up-after`".into()));
            }
            [first, second, ..] => {
                return Err((
                    second,
                    format!("there is `{first}` already, and only one can be done"),
                ));
            }
            _ => {}
        }
        if let Some(name) = self.curve.as_ref().filter(|name| !curves.contains_key(*name)) {
            let names: Vec<&str> = curves.keys().map(String::as_str).collect();
            return Err(("curve", format!("`{name}` is no curve; there are {}", names.join(", "))));
        }
        if self.give_up_after == Some(0) {
            return Err(("give-up-after", "at least one try is made; say `give-up`".into()));
        }
        let empty = Reroute { named: None, source: None, lane: None };
        if self.reroute.as_ref() == Some(&empty) {
            return Err(("reroute", "say `named`, `source` or `lane`".into()));
        }
        let legal = |c: u8| matches!(c, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-');
        let is_name = |name: &&String| (1..=64).contains(&name.len()) && name.bytes().all(legal);
        let names = self.reroute.iter().flat_map(|r| [&r.named, &r.source, &r.lane]).flatten();
        if let Some(bad) = names.into_iter().find(|name| !is_name(name)) {
            return Err((
                "reroute",
                format!("`{bad}` is no name; names are of a-z, 0-9, `.`, `_` and `-`"),
            ));
        }
        let day = 24 * 3600;
        match &self.slow {
            Some(slow) if slow.pause.is_none() && slow.max_concurrent.is_none() => {
                Err(("slow", "say `pause` or `max-concurrent`".into()))
            }
            Some(slow) if slow.max_concurrent == Some(0) => {
                Err(("slow.max-concurrent", "say `pause` to make no attempt".into()))
            }
            Some(slow) if slow.valid.seconds() == 0 || slow.valid.seconds() > day => {
                Err(("slow.for", "between one second and a day".into()))
            }
            Some(slow) if slow.pause.is_some_and(|pause| pause.seconds() > day) => {
                Err(("slow.pause", "at most a day".into()))
            }
            _ => Ok(()),
        }
    }

    /// How long to wait before the next try, when this action says so.
    pub(crate) fn delay(&self, curves: &Curves, attempts: u32) -> Option<Span> {
        let step = |waits: &Vec<Span>| {
            let at = (attempts.max(1) as usize - 1).min(waits.len().checked_sub(1)?);
            waits.get(at).copied()
        };
        self.wait.or_else(|| self.curve.as_ref().and_then(|name| curves.get(name)).and_then(step))
    }

    /// True when so many tries are enough.
    pub(crate) fn gives_up(&self, attempts: u32) -> bool {
        self.give_up || self.give_up_after.is_some_and(|most| attempts >= most)
    }
}

impl Reroute {
    pub(crate) fn route(&self) -> Route {
        Route {
            hops: self.named.iter().cloned().map(Hop::Named).collect(),
            source: self.source.clone(),
            lane: self.lane.clone(),
            ..Route::default()
        }
    }
}

impl Slow {
    pub(crate) fn advice(&self, lane: &str) -> LaneAdvice {
        LaneAdvice {
            lane: lane.to_owned(),
            pause_s: self.pause.map(Span::seconds),
            max_concurrent: self.max_concurrent,
            valid_s: self.valid.seconds(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Action, curves, usual};
    use crate::kind::Kind;

    #[test]
    fn what_is_usual_makes_sense() {
        for kind in Kind::ALL {
            usual(kind).check(&curves()).unwrap();
        }
    }

    #[test]
    fn the_last_wait_of_a_curve_repeats() {
        let greylist = usual(Kind::Greylist);
        let minutes = |attempts| greylist.delay(&curves(), attempts).unwrap().seconds() / 60;
        assert_eq!([0, 1, 2, 6, 99].map(minutes), [5, 5, 10, 120, 120]);
        assert!(Action { proceed: true, ..Action::default() }.delay(&curves(), 1).is_none());
    }
}
