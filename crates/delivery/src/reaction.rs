//! What follows from what a failure means: keyed by for how long and whom it is about.

use std::time::Duration;

use waypost_mail::{Category, Diagnosis, Disposition, Scope};

/// How soon another host, or the same one, is tried again that has no time just now.
const SOON: Duration = Duration::from_secs(120);
/// Tries that may be made so soon.
const SOON_TRIES: u32 = 3;

/// What follows for a recipient that is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reaction {
    /// By the retry curve.
    Curve,
    /// In two minutes at the latest: the host is busy, and nothing is wrong with the message.
    Soon,
    /// The curve, but not before this time has passed.
    NotBefore(Duration),
    /// The way rests, for this message and all others that take it; the attempt does not count.
    Rest,
}

/// What follows when it is tried again, after `tries` attempts; the rule that read the reply may know how
/// long to wait.
pub(crate) fn reaction(diagnosis: Diagnosis, wait: Option<Duration>, tries: u32) -> Reaction {
    match (diagnosis.disposition, diagnosis.scope) {
        _ if slows_others(diagnosis) => Reaction::Rest,
        _ if wait.is_some() => wait.map_or(Reaction::Curve, Reaction::NotBefore),
        (Disposition::Transient, Scope::Host)
            if diagnosis.category == Category::Busy && tries < SOON_TRIES =>
        {
            Reaction::Soon
        }
        _ => Reaction::Curve,
    }
}

/// True when other mail that takes the same way would be refused as well, because it is too much.
pub(crate) fn slows_others(diagnosis: Diagnosis) -> bool {
    let whose =
        matches!(diagnosis.scope, Scope::Source | Scope::Provider | Scope::Host | Scope::Relay);
    diagnosis.disposition == Disposition::RateLimit && whose
}

/// What follows, in words.
pub fn consequence(diagnosis: Diagnosis, wait: Option<Duration>) -> String {
    let minutes = |wait: Duration| wait.as_secs().div_ceil(60);
    if diagnosis.is_permanent() {
        let end = match diagnosis.condemns_recipient() {
            true => "it bounces, and the address may go on the suppression list",
            false => "it bounces",
        };
        return end.to_owned();
    }
    let what = match reaction(diagnosis, wait, 0) {
        Reaction::Rest => format!(
            "our address sends nothing to this provider for {} minutes, longer each time; the attempt does not count",
            wait.map_or(5, minutes)
        ),
        Reaction::Soon => "the next host is tried, then again within 2 minutes".to_owned(),
        Reaction::NotBefore(wait) => {
            format!(
                "it is tried again by the retry curve, not before {} minutes have passed",
                minutes(wait)
            )
        }
        Reaction::Curve => "it is tried again by the retry curve".to_owned(),
    };
    match diagnosis.disposition {
        Disposition::LocalFault => format!("{what}, and the log has an error for the operator"),
        _ => what,
    }
}

impl Reaction {
    /// The wait in the place of the one that the curve says. [`Reaction::Rest`] has a moment of its own.
    pub(crate) fn wait(self, curve: Duration) -> Duration {
        match self {
            Reaction::Curve | Reaction::Rest => curve,
            Reaction::Soon => curve.min(SOON),
            Reaction::NotBefore(wait) => curve.max(wait),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_meaning_has_its_consequence() {
        use Disposition::{LocalFault, RateLimit, Transient};
        let hour = Duration::from_secs(3600);
        for (disposition, category, expected) in [
            (Transient, Category::Greylisted, Reaction::Curve),
            (Transient, Category::Busy, Reaction::Soon),
            (Transient, Category::TlsNeeded, Reaction::Curve),
            (RateLimit, Category::RateLimited, Reaction::Rest),
            (RateLimit, Category::Connections, Reaction::Rest),
            (LocalFault, Category::AuthNeeded, Reaction::Curve),
        ] {
            let diagnosis = Diagnosis::new(disposition, category);
            assert_eq!(reaction(diagnosis, None, 0), expected, "{diagnosis}");
        }
        let busy = Diagnosis::new(Transient, Category::Busy);
        assert_eq!(reaction(busy, None, SOON_TRIES), Reaction::Curve);
        assert_eq!(reaction(busy, Some(hour), 0), Reaction::NotBefore(hour));
        let mailbox = Diagnosis::new(RateLimit, Category::RateLimited).about(Scope::Mailbox);
        assert_eq!(reaction(mailbox, None, 0), Reaction::Curve, "others may go on");
        assert_eq!(Reaction::Soon.wait(hour), SOON);
        assert_eq!(Reaction::NotBefore(hour).wait(SOON), hour);
    }
}
