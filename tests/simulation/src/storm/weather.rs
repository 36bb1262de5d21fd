//! Time, faults, crashes and starts.

use std::time::Duration;

use rand::Rng;
use waypost_mail::{Clock, Timestamp};

use super::Storm;
use crate::attempt::Mood;
use crate::book::{Law, Lawful, Standing, Violation, demand};
use crate::disk::Operation;
use crate::relay::Relay;
use crate::visit::DOMAINS;

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
        self.ground.clock.advance(by);
        tokio::time::advance(by).await;
    }

    /// Something changes that nobody here decides.
    pub(super) async fn change_weather(&mut self) -> Lawful {
        match self.random.random_range(0..26) {
            0..8 => {
                let at = self.random.random_range(0..DOMAINS.len());
                self.moods[at] = Mood::any(&mut self.random);
                self.story.tell(format_args!("{} is {:?}", DOMAINS[at], self.moods[at]));
            }
            8..10 => self.jump(),
            10..13 => {
                let used = self.ground.disk.used();
                let room = self.random.random_range(0..9000);
                self.story.tell(format_args!("{room} octets are left"));
                self.ground.disk.set_capacity(Some(used + room));
            }
            13..16 => self.ground.disk.set_capacity(None),
            16..18 => self.break_something(),
            18..22 => {
                let (after, effect) = (self.random.random_range(0..60), self.random.random());
                self.story.tell(format_args!("the power goes after {after} operations"));
                self.ground.disk.cut_power_after(after, effect);
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

    /// The clock is set, forward or back.
    fn jump(&mut self) {
        let now = self.ground.clock.now();
        let by = self.random.random_range(0..4 * 3_600_000);
        let set = match self.random.random() {
            true => Timestamp(now.0 + by),
            false => Timestamp(now.0 - by),
        };
        self.story.tell(format_args!("the clock jumps from {now} to {set}"));
        self.ground.clock.set(set);
    }

    /// An I/O error to come.
    fn break_something(&mut self) {
        let operation = match self.random.random_range(0..2) {
            0 => Operation::Write,
            _ => Operation::Sync,
        };
        let (after, forgets) = (self.random.random_range(0..20), self.random.random());
        self.story.tell(format_args!("{operation:?} fails after {after}"));
        self.sick = true;
        self.ground.disk.fail(operation, after, forgets);
    }

    /// The program ends, by itself or with the machine, and is started anew.
    pub(super) async fn restart(&mut self, power: bool) -> Lawful {
        self.end();
        self.restarts += 1;
        if power {
            self.ground.disk.lose_power(&mut self.random);
            self.sick = false;
        } else {
            self.ground.disk.outlive_program();
        }
        self.ground.place.crash(&mut self.random);
        match self.random.random_range(0..30) {
            0 => self.ground.place.delete(),
            1 => self.ground.place.damage(),
            _ => {}
        }
        if !self.calm && self.random.random_bool(0.2) {
            let (after, effect) = (self.random.random_range(0..50), self.random.random());
            self.ground.disk.cut_power_after(after, effect);
        }
        self.start().await
    }

    /// Nothing of the program is left, but for what it wrote.
    fn end(&mut self) {
        self.story.tell("the program ends");
        for visit in self.visits.drain(..) {
            if let Some((id, _)) = visit.accepting {
                self.book.stands(id, Standing::Doubtful);
            }
        }
        for settling in self.settlings.drain(..) {
            settling.notice.into_iter().for_each(|id| self.book.stands(id, Standing::Doubtful));
        }
        self.orders.clear();
        self.attempts.clear();
        self.book.crashed();
        self.relay = None;
    }

    /// Starts, as often as it takes.
    pub(super) async fn start(&mut self) -> Lawful {
        for _ in 0..20 {
            let started = Relay::start(&self.ground, self.random.random()).await;
            match started {
                Ok((relay, report)) if !self.ground.disk.is_off() => {
                    self.story.tell(format_args!(
                        "open: {} messages, {} requeued, {} removed, torn {}",
                        report.messages, report.requeued, report.removed, report.torn
                    ));
                    let harm = report.damaged + report.quarantined;
                    demand(Law::CrashesHarmNothing, harm == 0 || self.book.hurt, || {
                        format!("after a crash: {report:?}")
                    })?;
                    let adopted = self.ground.disk.observe(|| self.book.adopt(&*relay.spool));
                    self.checked = self.ground.place.version();
                    self.relay = Some(relay);
                    return adopted;
                }
                Ok(_) => {}
                Err(error) => {
                    let told = self.ground.disk.is_off() || self.sick || self.is_full();
                    let text = error.to_string();
                    self.story.tell(format_args!("it does not start: {text}"));
                    demand(Law::CrashesHarmNothing, told, || text)?;
                }
            }
            self.ground.disk.set_capacity(None);
            self.ground.disk.lose_power(&mut self.random);
            self.ground.place.crash(&mut self.random);
            self.sick = false;
        }
        let text = "it does not start after many tries".to_owned();
        Err(Violation { law: Law::CrashesHarmNothing, text })
    }

    fn is_full(&self) -> bool {
        self.ground.disk.is_limited()
    }
}
