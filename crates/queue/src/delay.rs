//! When the sender of a message is told that it is late.

use std::time::Duration;

use waypost_mail::{Entry, RecipientEntry, RecipientState, Timestamp};
use waypost_mutant::planted;
use waypost_smtp::{ByMode, Notify};

/// How many notices of delay about this recipient are due at `now`, those that were sent included; 255 at
/// most. `delays` says how long after its arrival, or its release, a message is called late.
pub(crate) fn due(
    entry: &Entry,
    recipient: &RecipientEntry,
    delays: &[Duration],
    now: Timestamp,
) -> u8 {
    let due = moments(entry, recipient, delays).iter().filter(|moment| **moment <= now).count();
    due.min(255) as u8
}

/// When the next notice of delay about this recipient is due, unless it is the last.
pub(crate) fn next(
    entry: &Entry,
    recipient: &RecipientEntry,
    delays: &[Duration],
) -> Option<Timestamp> {
    let moments = moments(entry, recipient, delays);
    moments.get(usize::from(recipient.told)).copied()
}

/// When recipients that go one way must have a turn, whatever keeps their destination from being
/// tried: some of them are late, or their time is over. What is late since before `now` is late now.
pub(crate) fn turn_by(entry: &Entry, route: u16, delays: &[Duration], now: Timestamp) -> Timestamp {
    let waiting = entry.recipients.iter().filter(|recipient| {
        recipient.route == route && matches!(recipient.state, RecipientState::Waiting { .. })
    });
    let late = waiting.filter_map(|recipient| next(entry, recipient, delays));
    let soonest = now.after(Duration::from_millis(1));
    late.map(|moment| moment.max(soonest)).fold(entry.expires, Timestamp::min)
}

/// The same behind a turn at `now`, in which all that was late by then is told.
pub(crate) fn turn_after(
    entry: &Entry,
    route: u16,
    delays: &[Duration],
    now: Timestamp,
) -> Timestamp {
    let waiting = entry.recipients.iter().filter(|recipient| recipient.route == route);
    let next = |recipient: &RecipientEntry| {
        let moments = moments(entry, recipient, delays);
        moments.into_iter().skip(recipient.told.into()).find(|moment| *moment > now)
    };
    waiting.filter_map(next).fold(entry.expires, Timestamp::min)
}

/// All moments at which the sender is to be told that this recipient is late, in order. None for the
/// null sender, and none after the message's time (RFC 3461 §4.1, RFC 2852 §4).
fn moments(entry: &Entry, recipient: &RecipientEntry, delays: &[Duration]) -> Vec<Timestamp> {
    let notify = recipient.recipient.notify;
    let nobody = entry.sender.mailbox().is_none() && !planted!("a notice is told of as late");
    if nobody || notify == Notify::Never {
        return Vec::new();
    }
    let released = entry.terms.hold_until.map_or(entry.received, |at| at.max(entry.received));
    let early = if planted!("a delay is told of too early") { 2 } else { 1 };
    let usual = delays.iter().filter(|_| notify.on_delay());
    let usual = usual.map(|delay| released.after(*delay / early));
    let asked = entry.terms.deliver_by.filter(|by| by.mode == ByMode::Notify).map(|by| by.at);
    let all = usual.chain(asked).filter(|moment| *moment < entry.expires);
    let mut moments: Vec<Timestamp> = all.collect();
    moments.sort_unstable();
    moments
}

#[cfg(test)]
mod tests {
    use waypost_mail::{Deadline, Terms};
    use waypost_smtp::ReversePath;

    use super::*;
    use crate::samples;

    const HOUR: Duration = Duration::from_secs(3600);

    fn late(entry: &Entry, hours: u32) -> u8 {
        due(entry, &entry.recipients[0], &[HOUR, 4 * HOUR], entry.received.after(hours * HOUR))
    }

    #[test]
    fn senders_are_told_at_each_moment_unless_they_do_not_want_it() {
        let mut entry = samples::entry(1, "a.example", 1);
        entry.expires = entry.received.after(100 * HOUR);
        assert_eq!([0, 1, 3, 4, 90].map(|hours| late(&entry, hours)), [0, 1, 1, 2, 2]);
        entry.terms.hold_until = Some(entry.received.after(10 * HOUR));
        assert_eq!([9, 10, 11, 14].map(|hours| late(&entry, hours)), [0, 0, 1, 2]);
        for notify in [Notify::Never, Notify::Of { success: true, failure: true, delay: false }] {
            entry.recipients[0].recipient.notify = notify;
            assert_eq!(late(&entry, 90), 0);
        }
        entry.recipients[0].recipient.notify = Notify::Unsaid;
        entry.sender = ReversePath::Null;
        assert_eq!(late(&entry, 90), 0, "nothing is returned to the null sender");
    }

    #[test]
    fn a_deadline_counts_for_who_wants_any_notice_at_all() {
        let mut entry = samples::entry(1, "a.example", 1);
        entry.expires = entry.received.after(100 * HOUR);
        let at = entry.received.after(2 * HOUR);
        let by = |mode| Some(Deadline { at, mode, trace: false });
        entry.terms = Terms { deliver_by: by(ByMode::Notify), ..Terms::default() };
        assert_eq!([1, 2, 4].map(|hours| late(&entry, hours)), [1, 2, 3]);
        entry.recipients[0].recipient.notify =
            Notify::Of { success: false, failure: true, delay: false };
        assert_eq!([1, 2, 4].map(|hours| late(&entry, hours)), [0, 1, 1]);
        entry.terms.deliver_by = by(ByMode::Return);
        assert_eq!(late(&entry, 90), 0, "it comes back instead");
    }

    #[test]
    fn who_is_late_has_a_turn_at_that_moment() {
        let mut entry = samples::entry(1, "a.example", 1);
        entry.expires = entry.received.after(100 * HOUR);
        let turn = |entry: &Entry, hours: u32| {
            turn_by(entry, 0, &[HOUR], entry.received.after(hours * HOUR))
        };
        assert_eq!(turn(&entry, 0), entry.received.after(HOUR));
        let now = entry.received.after(2 * HOUR);
        assert_eq!(turn(&entry, 2), now.after(Duration::from_millis(1)), "late already");
        entry.recipients[0].told = 1;
        assert_eq!(turn(&entry, 2), entry.expires);
    }
}
