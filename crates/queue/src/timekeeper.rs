//! Jumps of the wall clock, told from time that passed.
//!
//! What waits carries moments of the wall clock, for they outlive the process. A clock that is set to
//! another time would make all of it overdue or expired at once, or due in years. So the wall clock is
//! held against time that runs evenly: a difference is a [`Jump`], and the moments of every message
//! that was there move with it. A start is held against the last moment an earlier run is known to
//! have seen: nobody can tell then whether the relay was off or the clock lies, so what lies between
//! does not count towards the time a message is tried.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::time::Instant;
use waypost_mail::{Entry, MessageId, RecipientState, Timestamp};
use waypost_smtp::ByMode;

use crate::Jumped;

/// A clock that is set by less is mended, not wrong.
pub(crate) const SMALL: Duration = Duration::from_secs(300);
/// A shorter time between two runs counts as time that passed.
const SHORT_PAUSE: Duration = Duration::from_secs(3600);
/// An arrival may be so long on its way into the spool while the clock jumps.
const ON_ITS_WAY: Duration = Duration::from_secs(3600);
/// What never was tried and is due later than this was asked to be: such a moment stays.
const SPREAD: Duration = Duration::from_secs(3600);
/// Jumps remembered; those that are more are added up.
const MOST: usize = 64;
const VERSION: u8 = 1;

/// The clock was set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Jump {
    /// The last message that was there before.
    pub(crate) last: MessageId,
    /// Milliseconds, forward or back.
    pub(crate) by: i64,
    /// The relay did not run meanwhile: it may be time that passed.
    pub(crate) off: bool,
}

/// By how many milliseconds the moments of a message have moved since it came.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Moved {
    /// By the clock.
    clock: i64,
    /// While the relay did not run.
    off: i64,
}

/// What is known of the clock.
#[derive(Debug, Default)]
pub(crate) struct Timekeeper {
    /// When it was last looked at, and what it said.
    seen: Option<(Instant, Timestamp)>,
    jumps: Vec<Jump>,
    /// How many there were, those included that do not matter any more.
    count: usize,
    /// The last of them happened between the runs.
    resumed: bool,
    /// The last jump of this run: when, and what the clock said before.
    recent: Option<(Jump, Instant, Timestamp)>,
    last: Option<Jumped>,
}

impl Timekeeper {
    /// What earlier runs left, looked at when the clock says `now` and `newest` is the last message
    /// there is. A jump between the runs is answered.
    pub(crate) fn resume(
        &mut self,
        kept: Option<Kept>,
        newest: MessageId,
        now: Timestamp,
        at: Instant,
    ) -> Option<Jump> {
        self.seen = Some((at, now));
        let Kept { last, jumps } = kept?;
        (self.count, self.jumps) = (jumps.len(), jumps);
        let by = difference(now, last);
        let most = if by < 0 { SMALL } else { SHORT_PAUSE };
        (by.unsigned_abs() > most.as_millis() as u64).then(|| {
            let jump = Jump { last: newest, by, off: by > 0 };
            self.note(jump, now);
            self.resumed = true;
            jump
        })
    }

    /// The clock says `now` at this moment of even time, when messages from `oldest` to `newest` are
    /// there. A jump since the last look is answered, with what the clock said before, and with the lie
    /// that it takes back: the relay began to run with it.
    pub(crate) fn look(
        &mut self,
        now: Timestamp,
        at: Instant,
        (oldest, newest): (Option<MessageId>, MessageId),
    ) -> Option<(Jump, Timestamp, Option<Jump>)> {
        let (seen, said) = self.seen.replace((at, now))?;
        let before = said.after(at.saturating_duration_since(seen));
        let by = difference(now, before);
        if by.unsigned_abs() <= SMALL.as_millis() as u64 {
            return None;
        }
        let jump = Jump { last: newest, by, off: false };
        self.recent = Some((jump, at, before));
        self.resumed = false;
        if self.jumps.len() >= MOST {
            self.jumps.retain(|jump| oldest.is_some_and(|oldest| oldest <= jump.last));
        }
        let lie = self.note(jump, now);
        Some((jump, before, lie))
    }

    /// How the moments of a message have moved.
    pub(crate) fn moved(&self, id: MessageId) -> Moved {
        let mut moved = Moved::default();
        for jump in self.jumps.iter().filter(|jump| id <= jump.last) {
            let sum = if jump.off { &mut moved.off } else { &mut moved.clock };
            *sum = sum.saturating_add(jump.by);
        }
        moved
    }

    /// Puts right a message that was received before the clock jumped a moment ago and arrives now.
    /// Afterwards `entry` is as it is meant now; what the spool is to keep of it is answered.
    pub(crate) fn arrive(&self, entry: &mut Entry, now: Timestamp, at: Instant) -> Entry {
        if let Some((jump, before)) = self.overtook(entry.received, now, at) {
            Moved { clock: jump.by, off: 0 }.apply(entry);
            for recipient in &mut entry.recipients {
                if let RecipientState::Waiting { due, tries, .. } = &mut recipient.state {
                    *due = jump.due(*due, *tries > 0, before, entry.expires);
                }
            }
        }
        let Moved { clock, off } = self.moved(entry.id);
        let mut stored = entry.clone();
        Moved { clock: clock.saturating_neg(), off: off.saturating_neg() }.apply(&mut stored);
        stored
    }

    /// A message that has arrived, as it is meant now; it set out after so many `jumps`.
    pub(crate) fn overtake(&self, entry: Arc<Entry>, jumps: usize, now: Timestamp) -> Arc<Entry> {
        let since = self.count.saturating_sub(jumps).min(self.jumps.len());
        let since = &self.jumps[self.jumps.len() - since..];
        if since.is_empty() {
            return entry;
        }
        let mut entry = Arc::unwrap_or_clone(entry);
        since.iter().for_each(|jump| Moved { clock: jump.by, off: 0 }.apply(&mut entry));
        for recipient in &mut entry.recipients {
            if let RecipientState::Waiting { due, .. } = &mut recipient.state
                && entry.terms.hold_until.is_none()
            {
                *due = now;
            }
        }
        Arc::new(entry)
    }

    /// What the clock said when it was last looked at.
    pub(crate) fn now(&self) -> Timestamp {
        self.seen.map(|(_, said)| said).unwrap_or_default()
    }

    /// The jump between the reception of a message and its arrival, if there was one.
    fn overtook(
        &self,
        received: Timestamp,
        now: Timestamp,
        at: Instant,
    ) -> Option<(Jump, Timestamp)> {
        let (jump, jumped, before) = self.recent?;
        let overtook = if jump.by > 0 { received <= before } else { received > now.after(SMALL) };
        (overtook && at.saturating_duration_since(jumped) < ON_ITS_WAY).then_some((jump, before))
    }

    /// When the clock has jumped since the message came, how far it fell since the last run, or zero: what
    /// the spool says of when it is due may be of another time.
    pub(crate) fn pull_in(&self, id: MessageId) -> Option<i64> {
        let last = self.jumps.iter().rfind(|jump| id <= jump.last)?;
        Some(if self.resumed { last.by.min(0) } else { 0 })
    }

    /// How often the clock jumped in this run, and in those before as far as it still mattered.
    pub(crate) fn jumps(&self) -> usize {
        self.count
    }

    /// The clock was set, as far as that matters: not only was the relay off.
    pub(crate) fn lied(&self) -> bool {
        self.jumps.iter().any(|jump| !jump.off)
    }

    /// The last jump.
    pub(crate) fn last(&self) -> Option<Jumped> {
        self.last
    }

    /// What the next run is to know. Jumps before the `oldest` message there is do not matter any more.
    pub(crate) fn kept(&self, oldest: Option<MessageId>, now: Timestamp) -> Kept {
        let matters = |jump: &&Jump| oldest.is_some_and(|oldest| oldest <= jump.last);
        Kept { last: now, jumps: self.jumps.iter().filter(matters).copied().collect() }
    }

    /// Answers the lie that this jump takes back.
    fn note(&mut self, jump: Jump, now: Timestamp) -> Option<Jump> {
        // What falls by as much as it was ahead at the start lied then: that time did not pass.
        let fall = jump.by.saturating_neg().saturating_add(SHORT_PAUSE.as_millis() as i64);
        let lie = |before: &&mut Jump| jump.by < 0 && before.off && before.by <= fall;
        let lie = self.jumps.iter_mut().rev().find(lie).map(|lie| {
            lie.off = false;
            *lie
        });
        self.last = Some(Jumped { at: now, milliseconds: jump.by });
        if self.jumps.len() >= MOST {
            self.merge_oldest();
        }
        self.jumps.push(jump);
        self.count += 1;
        lie
    }

    /// Makes one of the two oldest, which the fewest messages saw.
    fn merge_oldest(&mut self) {
        let first = self.jumps.remove(0);
        if let Some(second) = self.jumps.first_mut() {
            second.by = second.by.saturating_add(first.by);
            second.off &= first.off;
        }
    }
}

impl Moved {
    /// True when the clock says of the message what it said when that came.
    pub(crate) fn is_nothing(self) -> bool {
        self == Moved::default()
    }

    /// When a message came and when it expires, as is meant now.
    pub(crate) fn both(self, received: Timestamp, expires: Timestamp) -> (Timestamp, Timestamp) {
        let Moved { clock, off } = self;
        (moved(received, clock), moved(expires, clock.saturating_add(off)))
    }

    /// Gives a message as the spool has it the moments that are meant now. Until when its sender wants it
    /// held is a moment of the calendar and stays.
    pub(crate) fn apply(self, entry: &mut Entry) {
        (entry.received, entry.expires) = self.both(entry.received, entry.expires);
        if let Some(deadline) = &mut entry.terms.deliver_by {
            deadline.at = moved(deadline.at, self.clock);
            // Such a deadline passes while the relay is off, too (RFC 2852 §4).
            if deadline.mode == ByMode::Return {
                entry.expires = entry.expires.min(deadline.at);
            }
        }
    }

    /// When a recipient is due who was not tried yet, of a message as the spool has it: `received`, and by now
    /// it `expires`. What its sender asked for is a moment of the calendar, unless the clock lied when it was
    /// asked for.
    pub(crate) fn first_due(
        self,
        due: Timestamp,
        received: Timestamp,
        expires: Timestamp,
    ) -> Timestamp {
        let at_once = due <= received.after(SPREAD);
        if at_once || due > expires { moved(due, self.clock) } else { due }
    }

    /// The moment as the spool has it that is meant to be the message's last.
    pub(crate) fn stored(self, expires: Timestamp) -> Timestamp {
        moved(expires, self.clock.saturating_add(self.off).saturating_neg())
    }
}

impl Jump {
    /// When a recipient is due that was due then; `before` is what the clock said before, and by now the
    /// message `expires`. What its sender asked for stays, but not beyond its end: then the clock lied when
    /// that was asked for.
    pub(crate) fn due(
        self,
        due: Timestamp,
        tried: bool,
        before: Timestamp,
        expires: Timestamp,
    ) -> Timestamp {
        let asked = !tried && due > before.after(SPREAD) && due <= expires;
        if asked { due } else { moved(due, self.by) }
    }
}

/// What one run tells the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kept {
    last: Timestamp,
    jumps: Vec<Jump>,
}

impl Kept {
    pub(crate) fn to_bytes(&self) -> Bytes {
        let mut bytes = BytesMut::new();
        bytes.put_u8(VERSION);
        bytes.put_u64(self.last.0);
        for jump in &self.jumps {
            bytes.put_u64(jump.last.0);
            bytes.put_i64(jump.by);
            bytes.put_u8(jump.off.into());
        }
        bytes.freeze()
    }

    /// Nothing when it is not what was written.
    pub(crate) fn parse(mut bytes: Bytes) -> Option<Kept> {
        if bytes.try_get_u8().ok()? != VERSION {
            return None;
        }
        let last = Timestamp(bytes.try_get_u64().ok()?);
        let mut jumps = Vec::new();
        while bytes.has_remaining() {
            let last = MessageId(bytes.try_get_u64().ok()?);
            let by = bytes.try_get_i64().ok()?;
            jumps.push(Jump { last, by, off: bytes.try_get_u8().ok()? != 0 });
        }
        Some(Kept { last, jumps })
    }
}

/// A moment so many milliseconds later, or earlier. Never stays never.
pub(crate) fn moved(Timestamp(moment): Timestamp, by: i64) -> Timestamp {
    if moment == u64::MAX { Timestamp(moment) } else { Timestamp(moment.saturating_add_signed(by)) }
}

fn difference(Timestamp(now): Timestamp, Timestamp(before): Timestamp) -> i64 {
    i64::try_from(i128::from(now) - i128::from(before)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use waypost_mail::{Deadline, Terms};

    use super::*;
    use crate::samples;

    const START: Timestamp = Timestamp(1_000_000_000_000);
    const HOUR: i64 = 3_600_000;
    const YEARS: i64 = 10 * 365 * 24 * HOUR;

    fn keeper(at: Instant) -> Timekeeper {
        let mut keeper = Timekeeper::default();
        assert_eq!(keeper.resume(None, MessageId(0), START, at), None);
        keeper
    }

    fn upto(newest: u64) -> (Option<MessageId>, MessageId) {
        (Some(MessageId(1)), MessageId(newest))
    }

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn time_that_passes_is_no_jump_and_a_clock_that_is_mended_neither() {
        let at = Instant::now();
        let mut keeper = keeper(at);
        assert_eq!(keeper.look(START.after(seconds(86_400)), at + seconds(86_400), upto(1)), None);
        let mended = START.after(seconds(86_400 + 290));
        assert_eq!(keeper.look(mended, at + seconds(86_400), upto(1)), None);
        assert!(keeper.moved(MessageId(1)).is_nothing());
    }

    #[test]
    fn what_was_there_moves_with_the_clock_and_what_comes_later_does_not() {
        let at = Instant::now();
        let mut keeper = keeper(at);
        let jump = keeper.look(moved(START, YEARS), at + seconds(1), upto(7)).unwrap();
        assert_eq!((jump.0.by, jump.1), (YEARS - 1000, START.after(seconds(1))));
        let mut entry = samples::entry(7, "a.example", 1);
        let (received, expires) = (entry.received, entry.expires);
        keeper.moved(MessageId(7)).apply(&mut entry);
        assert_eq!(entry.expires.since(entry.received), expires.since(received));
        assert_eq!(entry.received, moved(received, YEARS - 1000));
        assert!(keeper.moved(MessageId(8)).is_nothing());
        keeper.look(START.after(seconds(2)), at + seconds(2), upto(9)).unwrap();
        assert!(keeper.moved(MessageId(7)).is_nothing(), "back again");
        assert!(!keeper.moved(MessageId(8)).is_nothing());
    }

    #[test]
    fn time_without_the_relay_does_not_count_but_for_a_deadline() {
        let at = Instant::now();
        let kept = |jumps| Some(Kept { last: START, jumps });
        let mut keeper = Timekeeper::default();
        assert_eq!(keeper.resume(kept(vec![]), MessageId(3), START.after(seconds(3000)), at), None);
        let now = moved(START, 200 * HOUR);
        assert!(keeper.resume(kept(vec![]), MessageId(3), now, at).is_some_and(|jump| jump.off));
        let mut entry = samples::entry(3, "a.example", 1);
        let (received, expires) = (entry.received, entry.expires);
        keeper.moved(MessageId(3)).apply(&mut entry);
        assert_eq!((entry.received, entry.expires), (received, moved(expires, 200 * HOUR)));
        assert_eq!(keeper.moved(MessageId(3)).stored(entry.expires), expires);
        let by = Deadline { at: expires, mode: ByMode::Return, trace: false };
        entry.terms = Terms { deliver_by: Some(by), ..Terms::default() };
        keeper.moved(MessageId(3)).apply(&mut entry);
        assert_eq!(entry.expires, expires);
    }

    #[test]
    fn a_start_in_the_future_is_taken_back_when_the_clock_is_set() {
        let at = Instant::now();
        let mut keeper = Timekeeper::default();
        let kept = Kept { last: START, jumps: vec![] };
        let jump = keeper.resume(Some(kept), MessageId(3), moved(START, YEARS), at).unwrap();
        assert_eq!((jump.by, jump.off), (YEARS, true));
        keeper.look(START.after(seconds(60)), at + seconds(60), upto(5)).unwrap();
        let mut entry = samples::entry(3, "a.example", 1);
        let before = entry.clone();
        keeper.moved(MessageId(3)).apply(&mut entry);
        assert!(before.received.0.abs_diff(entry.received.0) <= 60_000, "no time passed");
        assert!(before.expires.0.abs_diff(entry.expires.0) <= 60_000);
    }

    #[test]
    fn moments_of_the_calendar_stay_and_retries_move() {
        let jump = Jump { last: MessageId(1), by: -YEARS, off: false };
        let (later, end) = (moved(START, 48 * HOUR), moved(START, 96 * HOUR));
        assert_eq!(jump.due(later, false, START, end), later, "its sender wants it held till then");
        assert_eq!(jump.due(later, true, START, end), moved(later, -YEARS));
        assert_eq!(jump.due(START, false, START, end), moved(START, -YEARS));
        let over = moved(end, -YEARS);
        assert_eq!(jump.due(later, false, START, over), moved(later, -YEARS), "asked of a liar");
        let fell = Moved { clock: -YEARS, off: 0 };
        assert_eq!(fell.first_due(START, START, over), moved(START, -YEARS));
        assert_eq!(fell.first_due(later, START, end), later);
        assert_eq!(fell.first_due(later, START, over), moved(later, -YEARS));
    }

    #[test]
    fn more_jumps_than_are_remembered_spare_the_newest_messages() {
        let at = Instant::now();
        let mut keeper = keeper(at);
        let mut now = START;
        for jump in 1..200 {
            // One message comes between two jumps, and the first one stays.
            now = now.after(seconds(3600));
            keeper.look(now, at, (Some(MessageId(1)), MessageId(jump))).unwrap();
        }
        assert_eq!((keeper.jumps(), keeper.jumps.len()), (199, MOST));
        let entry = |id| {
            let mut entry = samples::entry(id, "a.example", 1);
            keeper.moved(MessageId(id)).apply(&mut entry);
            entry.received.0 - samples::entry(id, "a.example", 1).received.0
        };
        assert_eq!(entry(199), 3_600_000, "it saw one");
        assert_eq!(entry(190), 10 * 3_600_000);
        assert_eq!(entry(1), 199 * 3_600_000);
        // Jumps that nobody saw who is still there are forgotten first.
        keeper.look(now.after(seconds(3600)), at, (Some(MessageId(150)), MessageId(200))).unwrap();
        assert_eq!((keeper.jumps(), keeper.jumps.len()), (200, 51));
    }

    #[test]
    fn what_was_on_its_way_is_known() {
        let at = Instant::now();
        let mut keeper = keeper(at);
        let ahead = moved(START, YEARS);
        keeper.look(ahead, at, upto(7)).unwrap();
        assert!(keeper.overtook(START, ahead, at + seconds(5)).is_some());
        assert!(keeper.overtook(ahead, ahead, at + seconds(5)).is_none());
        for id in [6, 8] {
            let mut entry = samples::entry(id, "a.example", 1);
            (entry.received, entry.expires) = (START, START.after(seconds(60)));
            let stored = keeper.arrive(&mut entry, ahead, at + seconds(5));
            assert_eq!(entry.expires, ahead.after(seconds(60)), "it has its minute");
            let mut again = stored;
            keeper.moved(MessageId(id)).apply(&mut again);
            assert_eq!(again.expires, entry.expires, "also after it is read from the spool");
        }
        keeper.look(START, at, upto(7)).unwrap();
        assert!(keeper.overtook(ahead, START, at + seconds(5)).is_some());
        assert!(keeper.overtook(START, START, at + seconds(5)).is_none());
        assert!(keeper.overtook(ahead, START, at + seconds(5000)).is_none());
    }

    #[test]
    fn what_is_kept_is_read_back() {
        let jumps = vec![
            Jump { last: MessageId(4), by: -YEARS, off: false },
            Jump { last: MessageId(9), by: HOUR, off: true },
        ];
        let kept = Kept { last: START, jumps };
        assert_eq!(Kept::parse(kept.to_bytes()), Some(kept.clone()));
        assert_eq!(Kept::parse(kept.to_bytes().slice(..12)), None);
        assert_eq!(Kept::parse(Bytes::new()), None);
        let mut keeper = Timekeeper::default();
        keeper.resume(Some(kept), MessageId(9), START, Instant::now());
        assert_eq!(keeper.kept(Some(MessageId(5)), START).jumps.len(), 1, "the older one is over");
        assert_eq!(keeper.kept(None, START).jumps.len(), 0);
    }
}
