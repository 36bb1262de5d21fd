//! When a plugin keeps failing at a stage it is not asked there for a while. Time comes in, no clock.

use std::collections::VecDeque;
use std::time::Duration;

use waypost_mail::Timestamp;

/// Faults in a row that open it; those that count half count one of two.
const IN_A_ROW: u32 = 10;
/// Share of faults among enough calls within a while that opens it.
const SHARE: f64 = 0.2;
const ENOUGH: usize = 50;
const WHILE: Duration = Duration::from_secs(30);
/// Most calls that are remembered.
const REMEMBERED: usize = 1000;
/// How long it stays open at first and at most.
const FIRST: Duration = Duration::from_secs(10);
const LONGEST: Duration = Duration::from_secs(300);

/// How much a call weighs that did not go well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Weight {
    /// The plugin said itself that it could not decide, or had no free instance.
    Half,
    /// Everything else.
    Whole,
}

/// One plugin at one stage.
#[derive(Debug, Default)]
pub(crate) struct Breaker {
    state: State,
    /// Halves of faults since the last call that went well.
    row: u32,
    recent: VecDeque<(Timestamp, f64)>,
    /// How often it opened without a good call in between.
    opened: u32,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Closed,
    Open {
        since: Timestamp,
        until: Timestamp,
    },
    /// One call is on its way to find out.
    Probing {
        since: Timestamp,
    },
}

/// May the plugin be asked?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leave {
    /// Yes.
    Ask,
    /// Yes, and what comes of it decides whether others may.
    Probe,
    /// No, not since then.
    Open(Timestamp),
}

impl Breaker {
    /// May the plugin be asked now? After a pause one call may.
    pub(crate) fn ask(&mut self, now: Timestamp) -> Leave {
        match self.state {
            State::Closed => Leave::Ask,
            State::Probing { since } => Leave::Open(since),
            State::Open { since, until } if now < until => Leave::Open(since),
            State::Open { since, .. } => {
                self.state = State::Probing { since };
                Leave::Probe
            }
        }
    }

    /// A call went well.
    pub(crate) fn went_well(&mut self, now: Timestamp) {
        (self.row, self.opened) = (0, 0);
        if self.state != State::Closed {
            self.state = State::Closed;
            self.recent.clear();
        }
        self.remember(now, 0.0);
    }

    /// A call failed. True when that opened the breaker.
    pub(crate) fn failed(&mut self, weight: Weight, now: Timestamp) -> bool {
        let (halves, share) = match weight {
            Weight::Half => (1, 0.5),
            Weight::Whole => (2, 1.0),
        };
        self.row += halves;
        self.remember(now, share);
        let opens = match self.state {
            State::Probing { .. } => true,
            State::Open { .. } => false,
            State::Closed => self.row >= IN_A_ROW || self.share_is_bad(),
        };
        if opens {
            let pause = FIRST.saturating_mul(1 << self.opened.min(5)).min(LONGEST);
            let since = match self.state {
                State::Probing { since } => since,
                _ => now,
            };
            self.opened += 1;
            self.state = State::Open { since, until: now.after(pause) };
        }
        opens
    }

    /// The probe was given up before it came to anything: another one may go.
    pub(crate) fn left(&mut self, now: Timestamp) {
        if let State::Probing { since } = self.state {
            self.state = State::Open { since, until: now };
        }
    }

    /// Since when the plugin is not asked.
    pub(crate) fn open_since(&self) -> Option<Timestamp> {
        match self.state {
            State::Closed => None,
            State::Open { since, .. } | State::Probing { since } => Some(since),
        }
    }

    fn remember(&mut self, now: Timestamp, fault: f64) {
        self.recent.push_back((now, fault));
        while let Some((then, _)) = self.recent.front()
            && (self.recent.len() > REMEMBERED || now.since(*then) > WHILE)
        {
            self.recent.pop_front();
        }
    }

    fn share_is_bad(&self) -> bool {
        let faults: f64 = self.recent.iter().map(|(_, fault)| fault).sum();
        self.recent.len() >= ENOUGH && faults >= SHARE * self.recent.len() as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_after_five_in_a_row_and_probes_with_longer_pauses() {
        let mut breaker = Breaker::default();
        for _ in 0..4 {
            assert!(!breaker.failed(Weight::Whole, Timestamp(0)));
        }
        assert!(breaker.failed(Weight::Whole, Timestamp(0)));
        assert_eq!(breaker.ask(Timestamp(9_999)), Leave::Open(Timestamp(0)));
        assert_eq!(breaker.ask(Timestamp(10_000)), Leave::Probe);
        assert_eq!(
            breaker.ask(Timestamp(10_000)),
            Leave::Open(Timestamp(0)),
            "one probe at a time"
        );
        assert!(breaker.failed(Weight::Whole, Timestamp(10_000)));
        assert_eq!(breaker.ask(Timestamp(29_999)), Leave::Open(Timestamp(0)));
        assert_eq!(breaker.ask(Timestamp(30_000)), Leave::Probe);
        breaker.left(Timestamp(30_000));
        assert_eq!(breaker.ask(Timestamp(30_000)), Leave::Probe);
        breaker.went_well(Timestamp(30_000));
        assert_eq!((breaker.ask(Timestamp(30_000)), breaker.open_since()), (Leave::Ask, None));
    }

    #[test]
    fn what_counts_half_needs_twice_as_many() {
        let mut breaker = Breaker::default();
        let opened = (0..10).position(|_| breaker.failed(Weight::Half, Timestamp(0)));
        assert_eq!(opened, Some(9));
    }

    #[test]
    fn opens_on_a_fifth_of_many() {
        let mut breaker = Breaker::default();
        let mut opened = None;
        for call in 0..60 {
            let now = Timestamp(call * 100);
            if call % 4 == 0 {
                opened = breaker.failed(Weight::Whole, now).then_some(call).or(opened);
            } else {
                breaker.went_well(now);
            }
            if opened.is_some() {
                break;
            }
        }
        assert_eq!(opened, Some(52));
        // The same share spread over a long time does not: too few calls within the while.
        let mut breaker = Breaker::default();
        for call in 0..60 {
            let now = Timestamp(call * 10_000);
            assert!(call % 4 != 0 || !breaker.failed(Weight::Whole, now));
            breaker.went_well(now);
        }
    }
}
