//! Time, faults, crashes and starts.

use std::time::Duration;

use rand::Rng;
use waypost_mail::{Clock, Timestamp};

use super::Storm;
use crate::book::{Law, Lawful, Violation, demand};
use crate::disk::{End, Operation};
use crate::hop::Deed;
use crate::net::{HOSTS, Mood};
use crate::relay::Relay;
use crate::visit::{DOMAINS, Visit};

/// A relay that did not run takes a jump of less for time that went by.
const SHORT_PAUSE: Duration = Duration::from_secs(3600);

impl Storm {
    /// Time goes by: mostly a little, sometimes as long as a retry waits.
    pub(super) async fn pass_time(&mut self) {
        let ms = match self.random.random_range(0..6) {
            0 => self.random.random_range(60_000..3_600_000),
            1 => self.random.random_range(1_000..60_000),
            _ => self.random.random_range(1..1_000),
        };
        self.move_clocks(Duration::from_millis(ms)).await;
    }

    pub(super) async fn move_clocks(&mut self, by: Duration) {
        self.story.tell(format_args!("{by:?} go by"));
        self.lived += by;
        self.ground.clock.advance(by);
        tokio::time::advance(by).await;
    }

    /// Something changes that nobody here decides.
    pub(super) async fn change_weather(&mut self) -> Lawful {
        match self.random.random_range(0..26) {
            0..8 => {
                let host = self.random.random_range(0..HOSTS);
                let mood = Mood::any(&mut self.random);
                self.ground.net.set_mood(host, mood);
                self.story.tell(format_args!("host {host} is {mood:?}"));
            }
            8 => self.advise(),
            9 => self.jump(),
            10..13 => {
                let used = self.ground.disk.used();
                let most = if self.random.random() { 1500 } else { 9000 };
                let room = self.random.random_range(0..most);
                self.story.tell(format_args!("{room} octets are left"));
                self.ground.disk.set_capacity(Some(used + room));
            }
            13..16 => self.ground.disk.set_capacity(None),
            16..18 => self.break_something(),
            18..22 => {
                let after = self.random.random_range(0..60);
                self.end_after(after);
            }
            22 => {
                self.story.tell("killed");
                return self.restart(self.sick).await;
            }
            _ => {
                if self.relay.as_ref().is_none_or(|relay| relay.spool.failure().is_some()) {
                    self.story.tell("the supervisor starts it anew");
                    return self.restart(self.sick).await;
                }
            }
        }
        Ok(())
    }

    /// Policy wants a destination to be treated with care.
    fn advise(&mut self) {
        let Some(relay) = &self.relay else { return };
        let domain = DOMAINS[self.random.random_range(0..DOMAINS.len())];
        let now = self.ground.clock.now();
        let time = Duration::from_secs(self.random.random_range(60..3600));
        if self.random.random() {
            self.story.tell(format_args!("{domain} is paused for {time:?}"));
            relay.queue.pause(domain, time, "by advice".to_owned());
        } else if relay.queue.metrics().waiting.get() > 0 {
            self.story.tell(format_args!("{domain} is limited for {time:?} from {now}"));
            relay.queue.limit(domain, 1, time);
        }
    }

    /// The power goes, or the program is killed, in the middle of something.
    fn end_after(&mut self, operations: u32) {
        let end = if self.random.random_bool(0.6) { End::OfMachine } else { End::OfProgram };
        self.story.tell(format_args!("{end:?} after {operations} operations"));
        let takes_effect = self.random.random();
        self.ground.disk.end_after(end, operations, takes_effect);
    }

    /// The clock is set, forward or back.
    fn jump(&mut self) {
        let now = self.ground.clock.now();
        let by = self.random.random_range(0..4 * 3_600_000);
        let set = match self.random.random() {
            true => Timestamp(now.0 + by),
            false => Timestamp(now.0 - by),
        };
        self.story.tell(format_args!("the clock jumps from {now} to {set}"));
        // And what came just after a fall that it was not told of, for something that came before.
        self.book.allow(set.since(now).min(SHORT_PAUSE) + now.since(set));
        self.ground.clock.set(set);
        self.begun.clear();
        self.is_clock_set = true;
        self.clock_sets += 1;
        self.book.clock_set();
    }

    /// An I/O error to come.
    fn break_something(&mut self) {
        let operation = match self.random.random_range(0..5) {
            0 | 1 => Operation::Write,
            2 | 3 => Operation::Sync,
            _ => Operation::Read,
        };
        // What cannot be read may be held, and its content lost.
        self.book.hurt |= operation == Operation::Read;
        let (after, forgets) = (self.random.random_range(0..20), self.random.random());
        self.story.tell(format_args!("{operation:?} fails after {after}"));
        self.sick = true;
        self.ground.disk.fail(operation, after, forgets);
    }

    /// The program ends, by itself or with the machine, and is started anew.
    pub(super) async fn restart(&mut self, power: bool) -> Lawful {
        self.end();
        self.restarts += 1;
        self.fall(power);
        match self.random.random_range(0..30) {
            0 => self.ground.place.delete(),
            1 => self.ground.place.damage(),
            _ => {}
        }
        if !self.calm && self.random.random_bool(0.2) {
            let after = self.random.random_range(0..50);
            self.end_after(after);
        }
        self.start().await
    }

    /// What is left on the disk and in the index.
    fn fall(&mut self, power: bool) {
        if power {
            self.ground.disk.lose_power(&mut self.random);
            self.sick = false;
        } else {
            self.ground.disk.outlive_program();
        }
        self.ground.place.crash(&mut self.random);
    }

    /// Nothing of the program is left, but for what it wrote.
    fn end(&mut self) {
        self.story.tell("the program ends");
        self.visits.iter_mut().for_each(Visit::cut_off);
        self.visits.clear();
        self.pending.clear();
        self.orphans.clear();
        for mut hop in std::mem::take(&mut self.hops) {
            if let Deed::Over(unheard) = hop.hang_up() {
                self.unheard(unheard);
            }
        }
        self.orders.clear();
        self.facts.crashed();
        self.begun.clear();
        self.attempts.clear();
        self.passages.clear();
        if let Some(relay) = &self.relay {
            relay.delivery.abandon();
        }
        self.book.crashed();
        if self.is_clock_set {
            // The next run may not know of it, and pulls in what would be due late.
            self.book.clock_set();
        }
        self.relay = None;
    }

    /// Starts, as often as it takes.
    pub(super) async fn start(&mut self) -> Lawful {
        for _ in 0..20 {
            let started = Relay::start(&self.ground, self.random.random()).await;
            match started {
                Ok((relay, report)) if self.ground.disk.ended().is_none() => {
                    self.story.tell(format_args!(
                        "open: {} messages, {} requeued, {} removed, torn {}",
                        report.messages, report.requeued, report.removed, report.torn
                    ));
                    let harm = report.damaged + report.quarantined;
                    demand(Law::CrashesHarmNothing, harm == 0 || self.book.hurt, || {
                        format!("after a crash: {report:?}")
                    })?;
                    let adopted = self.ground.disk.observe(|| self.book.adopt(&*relay.spool));
                    let facts = &mut self.facts;
                    self.ground.disk.observe(|| facts.check(&relay.spool, true))?;
                    self.checked = self.ground.place.version();
                    if self.calm {
                        relay.policy.calm_down();
                    }
                    self.relay = Some(relay);
                    return adopted;
                }
                Ok(_) => {}
                Err(error) => {
                    let ended = self.ground.disk.ended().is_some();
                    let told = ended || self.sick || self.is_full();
                    let text = error.to_string();
                    self.story.tell(format_args!("it does not start: {text}"));
                    demand(Law::CrashesHarmNothing, told, || text)?;
                }
            }
            self.ground.disk.set_capacity(None);
            self.fall(self.ground.disk.ended() != Some(End::OfProgram) || self.sick);
        }
        let text = "it does not start after many tries".to_owned();
        Err(Violation { law: Law::CrashesHarmNothing, text })
    }

    fn is_full(&self) -> bool {
        self.ground.disk.is_limited()
    }
}
