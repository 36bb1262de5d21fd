//! Loads that are more than mail of one kind for one place.

use clap::ValueEnum;
use serde::Serialize;

use super::crowd::Letter;
use super::places;
use super::setting::Duty;

/// One kind of load; twenty sessions, 4 KiB.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Workload {
    /// All mail to one domain: what the others are held against.
    Plain,
    /// Two hundred domains, over four addresses.
    Many,
    /// One recipient in twenty is put off once; the rate is that of the others.
    Deferrals,
    /// One message in forty goes where each takes half a second; the rate is that of the others.
    Slow,
    /// A thousand messages wait for a slow destination; how long single ones to another take.
    Fair,
    /// STARTTLS at the door and towards the sink.
    Secure,
    /// The same, and a DKIM signature.
    Signed,
    /// The sink is asked while the submitter waits: no message is stored.
    Through,
    /// As plain, while 100,000 messages wait for fifty domains that are down.
    Backlog,
}

/// The kind of messages whose arrival stops the clock.
pub(crate) const MEASURED: &str = "now";
/// The kind of those that may come when they like.
const OTHERS: &str = "whenever";

/// What a crowd is given.
pub(crate) struct Load {
    pub(crate) letters: Vec<Letter>,
    /// How many of them are [`MEASURED`].
    pub(crate) measured: usize,
}

impl Workload {
    pub(crate) const ALL: [Workload; 9] = [
        Workload::Plain,
        Workload::Many,
        Workload::Deferrals,
        Workload::Slow,
        Workload::Fair,
        Workload::Secure,
        Workload::Signed,
        Workload::Through,
        Workload::Backlog,
    ];

    pub(crate) fn title(self) -> &'static str {
        match self {
            Workload::Plain => "one destination",
            Workload::Many => "200 destinations",
            Workload::Deferrals => "5 % put off once: the others",
            Workload::Slow => "slow beside fast: the fast",
            Workload::Fair => "1,000 wait for a slow one",
            Workload::Secure => "TLS on both sides",
            Workload::Signed => "TLS on both sides, DKIM",
            Workload::Through => "cut-through",
            Workload::Backlog => "100,000 wait for the dead",
        }
    }

    pub(crate) fn duty(self) -> Duty {
        match self {
            Workload::Secure => Duty::Secure,
            Workload::Signed => Duty::Signed,
            Workload::Through => Duty::Through,
            _ => Duty::Places,
        }
    }

    /// Why this relay is not asked.
    pub(crate) fn excuse(self, relay: &str) -> Option<&'static str> {
        match (self, relay) {
            (_, "waypost") => None,
            (Workload::Backlog | Workload::Through, _) => Some("Waypost is held against itself"),
            (Workload::Secure | Workload::Signed, "opensmtpd") => {
                Some("Debian 12's build cannot be a server under TLS (OpenSMTPD's issue 1171)")
            }
            (Workload::Deferrals, "opensmtpd") => {
                Some("its first retry comes after minutes, and that cannot be set")
            }
            _ => None,
        }
    }

    /// What is sent while the clock runs.
    pub(crate) fn load(self, quick: bool) -> Load {
        let count = match (self, quick) {
            (Workload::Fair, true) => 200,
            (Workload::Fair, false) => 1000,
            (_, true) => 400,
            (_, false) => 4000,
        };
        let letters: Vec<Letter> = (0..count).map(|number| self.letter(number)).collect();
        let measured = letters.iter().filter(|letter| letter.kind == MEASURED).count();
        Load { letters, measured }
    }

    fn letter(self, number: usize) -> Letter {
        let plain = "to@sink.bench.example".to_owned();
        let (kind, to) = match self {
            Workload::Many => (MEASURED, places::one_of_many(number)),
            Workload::Deferrals if number % 20 == 7 => {
                (OTHERS, format!("later{number}@sink.bench.example"))
            }
            Workload::Slow if number % 40 == 7 => (OTHERS, places::slow().to_owned()),
            Workload::Fair => (OTHERS, places::slow().to_owned()),
            _ => (MEASURED, plain),
        };
        Letter { kind, number, to }
    }

    /// Just enough to wake every process of the relay.
    pub(crate) fn warm_up(self) -> Vec<Letter> {
        let to = |number| match self {
            Workload::Many => places::one_of_many(number),
            _ => "to@sink.bench.example".to_owned(),
        };
        (0..40).map(|number| Letter { kind: "warm", number, to: to(number) }).collect()
    }

    /// Messages that will wait as long as the relay lives.
    pub(crate) fn backlog(self, quick: bool) -> Vec<Letter> {
        let count = match self {
            Workload::Backlog if quick => 2_000,
            Workload::Backlog => 100_000,
            _ => 0,
        };
        (0..count).map(|number| Letter { kind: "dead", number, to: places::dead(number) }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_waits_for_the_right_ones() {
        let measured = |workload: Workload| {
            let load = workload.load(false);
            (load.letters.len(), load.measured)
        };
        assert_eq!(measured(Workload::Plain), (4000, 4000));
        assert_eq!(measured(Workload::Deferrals), (4000, 3800));
        assert_eq!(measured(Workload::Slow), (4000, 3900));
        assert_eq!(measured(Workload::Fair), (1000, 0));
        assert_eq!(Workload::Backlog.backlog(false).len(), 100_000);
        assert!(Workload::Plain.backlog(false).is_empty());
    }
}
