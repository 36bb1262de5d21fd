//! Spreads what would be due all at once: after a restart, and when operators let go of much mail.

use std::collections::HashMap;
use std::time::Duration;

use rand::Rng;
use waypost_mail::Timestamp;

/// Nothing is moved further than this.
const LONGEST: u64 = 15 * 60;
/// Destinations remembered; beyond that, those whose time is over are forgotten.
const MOST: usize = 10_000;

/// How much was made due for each destination of late.
#[derive(Debug)]
pub(crate) struct Pace {
    /// Recipients of one destination that may be due in one second.
    per_second: usize,
    crowds: HashMap<Box<str>, Crowd>,
    /// When those whose time is over were last forgotten.
    swept: Timestamp,
}

#[derive(Debug)]
struct Crowd {
    began: Timestamp,
    recipients: usize,
}

impl Pace {
    pub(crate) fn new(per_second: usize) -> Pace {
        Pace { per_second: per_second.max(1), crowds: HashMap::new(), swept: Timestamp(0) }
    }

    /// When one more recipient of this destination may be due that could be due now: the first ones at
    /// once, then so many a second, each at a random moment of its second.
    pub(crate) fn due(
        &mut self,
        destination: &str,
        now: Timestamp,
        random: &mut impl Rng,
    ) -> Timestamp {
        let place = self.crowd(destination, now);
        let second = place / self.per_second as u64 % LONGEST;
        if second == 0 {
            return now;
        }
        let jitter = random.random_range(0..1000);
        now.after(Duration::from_millis((second - 1) * 1000 + jitter))
    }

    /// How many came before it in the same crowd.
    fn crowd(&mut self, destination: &str, now: Timestamp) -> u64 {
        let per_second = self.per_second as u64;
        let over = |crowd: &Crowd| {
            let lasts = (crowd.recipients as u64 / per_second).min(LONGEST) + 1;
            crowd.began > now || now.since(crowd.began) >= Duration::from_secs(lasts)
        };
        // Not for each of many: a crowd lasts a second at least.
        if self.crowds.len() >= MOST && (now.since(self.swept).as_secs() > 0 || now < self.swept) {
            self.swept = now;
            self.crowds.retain(|_, crowd| !over(crowd));
        }
        if let Some(crowd) = self.crowds.get_mut(destination) {
            if over(crowd) {
                *crowd = Crowd { began: now, recipients: 0 };
            }
            crowd.recipients += 1;
            return crowd.recipients as u64 - 1;
        }
        if self.crowds.len() < MOST {
            self.crowds.insert(destination.into(), Crowd { began: now, recipients: 1 });
        }
        0
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    const NOW: Timestamp = Timestamp(1_000_000);

    #[test]
    fn a_crowd_comes_at_its_destination_s_pace_and_others_at_once() {
        let (mut pace, mut random) = (Pace::new(20), StdRng::seed_from_u64(1));
        let mut seconds = [0; 50];
        for _ in 0..1000 {
            let due = pace.due("a.example", NOW, &mut random);
            seconds[(due.since(NOW).as_millis() as usize).div_ceil(1000)] += 1;
        }
        assert_eq!(seconds[0], 20, "{seconds:?}");
        assert!(seconds[1..].iter().all(|count| (19..=21).contains(count)), "{seconds:?}");
        assert_eq!(pace.due("b.example", NOW, &mut random), NOW);
        let later = NOW.after(Duration::from_secs(60));
        assert_eq!(pace.due("a.example", later, &mut random), later, "the crowd is through");
    }

    #[test]
    fn nobody_waits_longer_than_a_quarter_of_an_hour() {
        let (mut pace, mut random) = (Pace::new(1), StdRng::seed_from_u64(1));
        let waits = (0..10_000).map(|_| pace.due("a", NOW, &mut random).since(NOW).as_secs());
        assert!(waits.max() < Some(LONGEST));
    }

    #[test]
    fn strangers_names_do_not_fill_memory() {
        let (mut pace, mut random) = (Pace::new(1), StdRng::seed_from_u64(1));
        for name in 0..3 * MOST {
            pace.due(&name.to_string(), NOW, &mut random);
        }
        assert_eq!(pace.crowds.len(), MOST);
    }
}
