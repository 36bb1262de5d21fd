//! What the submitter of a message asked for beyond the ordinary, as it is kept with the message:
//! moments instead of durations.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use waypost_smtp::server::MailFrom;
use waypost_smtp::{BodyType, ByMode, DeliverBy, Hold, Priority, Return, Submitter};

use crate::Timestamp;

/// What was asked for a whole message. The default asks for nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Terms {
    /// How much of it a notice of failure returns (RFC 3461 §4.3).
    pub ret: Option<Return>,
    /// The sender's own name for it, for notices (RFC 3461 §4.4).
    pub envid: Option<String>,
    /// It goes on over verified TLS to who promises the same, or not at all (RFC 8689 §2).
    pub require_tls: bool,
    /// `TLS-Required: No` in its header: to arrive is more important than to be encrypted
    /// (RFC 8689 §3). Never true together with `require_tls`.
    pub tls_optional: bool,
    /// It may hold any octets (RFC 3030 §3).
    pub binary: bool,
    /// By when it must be delivered (RFC 2852 §4).
    pub deliver_by: Option<Deadline>,
    /// It is not sent before this moment (RFC 4865 §5).
    pub hold_until: Option<Timestamp>,
    /// How urgent it is (RFC 6710 §5).
    pub priority: Priority,
    /// Who first submitted it, as somebody who may say so told us (RFC 4954 §5).
    pub submitter: Option<Submitter>,
}

/// A moment by which a message must be delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deadline {
    /// The moment.
    pub at: Timestamp,
    /// What happens then.
    pub mode: ByMode,
    /// Tell the sender of each server that does not know DELIVERBY.
    pub trace: bool,
}

impl Terms {
    /// What MAIL asked for at `now`.
    pub fn asked(from: &MailFrom, now: Timestamp) -> Terms {
        Terms {
            ret: from.ret,
            envid: from.envid.clone(),
            require_tls: from.require_tls,
            tls_optional: false,
            binary: from.body == BodyType::BinaryMime,
            deliver_by: from.deliver_by.map(|by| Deadline::of(by, now)),
            hold_until: from.hold.map(|hold| match hold {
                Hold::For(seconds) => now.after(Duration::from_secs(seconds)),
                Hold::Until(moment) => {
                    Timestamp(u64::try_from(moment).unwrap_or_default().saturating_mul(1000))
                }
            }),
            priority: from.priority.unwrap_or_default(),
            submitter: from.submitter.clone(),
        }
    }

    /// When what is left of a message received then bounces, which is tried for `lifetime`.
    pub fn expires(&self, received: Timestamp, lifetime: Duration) -> Timestamp {
        let released = self.hold_until.map_or(received, |until| until.max(received));
        let usual = released.after(lifetime);
        match self.deliver_by {
            Some(Deadline { at, mode: ByMode::Return, .. }) => usual.min(at),
            _ => usual,
        }
    }
}

impl Deadline {
    fn of(by: DeliverBy, now: Timestamp) -> Deadline {
        let seconds = Duration::from_secs(by.seconds.unsigned_abs());
        let at = if by.seconds < 0 {
            Timestamp(now.0.saturating_sub(seconds.as_millis() as u64))
        } else {
            now.after(seconds)
        };
        Deadline { at, mode: by.mode, trace: by.trace }
    }

    /// The same for the next hop: what is left at `now`.
    pub fn left(self, now: Timestamp) -> DeliverBy {
        // Rounded so that what we promise is never later than what was promised to us.
        let seconds = (self.at.0 as i64).saturating_sub(now.0 as i64).div_euclid(1000);
        DeliverBy { seconds, mode: self.mode, trace: self.trace }
    }
}

#[cfg(test)]
mod tests {
    use waypost_smtp::ReversePath;

    use super::*;

    #[test]
    fn durations_become_moments() {
        let now = Timestamp(1_000_000);
        let mut from = MailFrom::new(ReversePath::Null);
        assert_eq!(Terms::asked(&from, now), Terms::default());
        from.hold = Some(Hold::For(60));
        from.deliver_by = Some(DeliverBy { seconds: -5, mode: ByMode::Notify, trace: true });
        let terms = Terms::asked(&from, now);
        assert_eq!(terms.hold_until, Some(Timestamp(1_060_000)));
        assert_eq!(terms.deliver_by.map(|by| by.at), Some(Timestamp(995_000)));
        from.hold = Some(Hold::Until(2_000));
        assert_eq!(Terms::asked(&from, now).hold_until, Some(Timestamp(2_000_000)));
    }

    #[test]
    fn time_begins_with_the_release_and_ends_with_the_deadline() {
        let lifetime = Duration::from_secs(100);
        let expires = |terms: &Terms| terms.expires(Timestamp(1_000), lifetime).0;
        let mut terms = Terms::default();
        assert_eq!(expires(&terms), 101_000);
        terms.hold_until = Some(Timestamp(50_000));
        assert_eq!(expires(&terms), 150_000);
        let deadline = |mode| Some(Deadline { at: Timestamp(60_000), mode, trace: false });
        terms.deliver_by = deadline(ByMode::Notify);
        assert_eq!(expires(&terms), 150_000);
        terms.deliver_by = deadline(ByMode::Return);
        assert_eq!(expires(&terms), 60_000);
    }

    #[test]
    fn what_is_left_is_never_more() {
        let deadline = Deadline { at: Timestamp(10_000), mode: ByMode::Return, trace: false };
        let left = |now| deadline.left(Timestamp(now)).seconds;
        assert_eq!((left(0), left(1), left(10_000), left(10_001)), (10, 9, 0, -1));
    }
}
