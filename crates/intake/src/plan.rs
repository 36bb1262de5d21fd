//! Which way recipients go: what policy says first, then the configured rules in order.

use std::collections::HashMap;
use std::time::Duration;

use tracing::warn;
use waypost_hooks::{Hooks, RouteDecision, RouteGroup, RouteView};
use waypost_mail::{
    Convert, Envelope, Facts, Heed, MessageId, Protocol, Recipient, RecipientEntry, RecipientState,
    Route, Text, Timestamp, TlsLevel, Why,
};
use waypost_smtp::Reply;

use crate::answers::Answers;
use crate::policy::Waiting;
use crate::{Intake, Routing};

/// The shortest and the longest wait before policy is asked again.
const ASKED_AGAIN: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(900));

/// Recipients and the ways they refer to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RoutePlan {
    /// The ways, each once.
    pub routes: Vec<Route>,
    /// The recipients.
    pub recipients: Vec<RecipientEntry>,
    /// All of them go as a configured route says that is for cut-through.
    pub through: bool,
}

impl RoutePlan {
    /// Nobody is tried before `until` (RFC 4865 §4).
    fn hold(&mut self, until: Timestamp) {
        for recipient in &mut self.recipients {
            if let RecipientState::Waiting { due, last: None, .. } = &mut recipient.state {
                *due = until.max(*due);
            }
        }
    }

    fn add(&mut self, recipient: Recipient, route: Route, state: RecipientState) {
        let known = self.routes.iter().position(|known| *known == route);
        let index = known.unwrap_or_else(|| {
            self.routes.push(route);
            self.routes.len() - 1
        });
        // More than 65,535 different routes cannot come from 65,535 recipients or fewer.
        self.recipients.push(RecipientEntry { recipient, route: index as u16, told: 0, state });
    }
}

/// How long a message waits whose policy could not decide about it, by how long it has waited already:
/// twice as long each time, from a minute to a quarter of an hour.
pub fn patience(received: Timestamp, now: Timestamp) -> Duration {
    now.since(received).clamp(ASKED_AGAIN.0, ASKED_AGAIN.1)
}

/// The way of recipients for whom policy could not decide: they are kept, and policy is asked again
/// when they are due.
pub fn undecided() -> Route {
    Route {
        hops: Vec::new(),
        lane: Some("undecided".to_owned()),
        source: None,
        tls: TlsLevel::default(),
        credentials: None,
        heed: Heed::default(),
        fixed: false,
        certificate: None,
        convert: Convert::default(),
    }
}

impl Intake {
    /// Routes every recipient of a message that is about to be committed.
    pub(crate) async fn route(
        &self,
        hooks: &dyn Hooks,
        envelope: &Envelope,
        facts: &Facts,
        text: &Text,
        received: Timestamp,
        waiting: &Waiting,
    ) -> RoutePlan {
        let expires = envelope.terms.expires(received, self.config.lifetime);
        let view = RouteView {
            id: envelope.id,
            received,
            expires: Some(expires),
            session: facts,
            sender: &envelope.sender,
            recipients: envelope.recipients(),
            size: text.len(),
            meta: &envelope.meta,
            text,
        };
        let mut plan = self.plan(hooks, &view, waiting).await;
        if let Some(until) = envelope.terms.hold_until {
            plan.hold(until);
        }
        // Nobody is there to be refused, and a notice must not be lost to policy.
        if facts.protocol == Protocol::Internal
            && plan.recipients.iter().all(|entry| refusal(&entry.state).is_some())
        {
            let now = self.clock.now();
            plan.recipients.iter_mut().for_each(|r| r.state = RecipientState::fresh(now));
        }
        plan
    }

    /// Asks policy for the way of recipients, as [`Intake::accept`] does; for those it could not
    /// decide about before, or that were tried in vain.
    pub async fn plan_again(&self, view: &RouteView<'_>) -> RoutePlan {
        self.plan(&*self.hooks, view, &Waiting::default()).await
    }

    async fn plan(&self, hooks: &dyn Hooks, view: &RouteView<'_>, waiting: &Waiting) -> RoutePlan {
        let groups = match hooks.on_route(view).await {
            Ok(groups) => Some(groups),
            Err(fault) => {
                warn!(message = %view.id, %fault, "policy gave no route, asking again later");
                None
            }
        };
        let routing = self.routing.read().unwrap_or_else(|poisoned| poisoned.into_inner()).clone();
        let moment = Moment {
            message: view.id,
            now: self.clock.now(),
            received: view.received,
            expires: view.expires.unwrap_or(view.received.after(self.config.lifetime)),
        };
        let mut plan = RoutePlan { through: true, ..RoutePlan::default() };
        for recipient in view.recipients {
            plan.through &= groups.as_ref().is_some_and(|groups| {
                let chosen = groups.iter().any(|group| group.recipients.contains(&recipient.id));
                !chosen && routing.goes_through(recipient.mailbox.domain())
            });
            let fresh = waiting.state_of(recipient.id, moment.now);
            let (route, state) = match &groups {
                None => (undecided(), moment.later(fresh)),
                Some(groups) => decided(groups, recipient, &routing, fresh, moment),
            };
            plan.add(recipient.clone(), route, state);
        }
        plan
    }
}

/// When a way is decided, and for what.
#[derive(Debug, Clone, Copy)]
struct Moment {
    message: MessageId,
    now: Timestamp,
    received: Timestamp,
    expires: Timestamp,
}

impl Moment {
    /// A recipient that policy could not decide about begins by waiting.
    fn later(self, fresh: RecipientState) -> RecipientState {
        self.not_before(self.now.after(patience(self.received, self.now)), fresh)
    }

    /// A recipient that waits for its first attempt waits until then, or for the end of its time. Who
    /// was refused already does not wait.
    fn not_before(self, moment: Timestamp, fresh: RecipientState) -> RecipientState {
        match fresh {
            RecipientState::Waiting { due, tries, last } if last.is_none() => {
                RecipientState::Waiting { due: due.max(moment.min(self.expires)), tries, last }
            }
            other => other,
        }
    }
}

/// Way and state of one recipient, by the group that names it.
fn decided(
    groups: &[RouteGroup],
    recipient: &Recipient,
    routing: &Routing,
    fresh: RecipientState,
    moment: Moment,
) -> (Route, RecipientState) {
    let domain = recipient.mailbox.domain();
    let configured = routing.route(domain, moment.message);
    let group = groups.iter().find(|group| group.recipients.contains(&recipient.id));
    match group.map(|group| &group.decision) {
        None => match routing.refusal(domain) {
            Some(reply) => (configured, doomed(&fresh, Why::Policy(reply.reply().clone()))),
            None => (configured, fresh),
        },
        Some(RouteDecision::Route(way)) => match routing.lower(way, domain, moment.message) {
            Ok(route) => {
                let not_before = way.not_before.unwrap_or(moment.now);
                (route, moment.not_before(not_before, fresh))
            }
            Err(unknown) => {
                let rcpt = &recipient.mailbox;
                warn!(%rcpt, %unknown, "policy's way cannot be gone, it is asked again later");
                (undecided(), moment.later(fresh))
            }
        },
        Some(RouteDecision::Fail(reply)) => {
            let why = Why::Policy(reply.reply().clone());
            (configured, doomed(&fresh, why))
        }
        // Who was refused already is not held: a release would deliver what policy refused.
        Some(RouteDecision::Hold(_)) if is_doomed(&fresh) => (configured, fresh),
        Some(RouteDecision::Hold(reason)) => {
            (configured, RecipientState::Held { tries: 0, reason: reason.clone() })
        }
    }
}

/// A recipient that bounces at its first turn: its last failure is permanent before any attempt.
pub(crate) fn doomed(fresh: &RecipientState, why: Why) -> RecipientState {
    let due = match fresh {
        RecipientState::Waiting { due, .. } => *due,
        _ => Timestamp(0),
    };
    RecipientState::Waiting { due, tries: 0, last: Some(why) }
}

fn is_doomed(state: &RecipientState) -> bool {
    matches!(state, RecipientState::Waiting { tries: 0, last: Some(why), .. } if why.is_permanent())
}

/// Better refused than bounced: a group of recipients to whom policy gives no way is answered so.
///
/// # Errors
/// The first refusal, when no group is left.
pub(crate) fn refuse_unroutable(
    plan: &mut RoutePlan,
    answers: &mut Answers<'_>,
) -> Result<(), Reply> {
    let refused: HashMap<u32, Reply> = plan
        .recipients
        .iter()
        .filter_map(|entry| Some((entry.recipient.id, refusal(&entry.state)?)))
        .collect();
    let there = plan.recipients.iter().map(|entry| entry.recipient.id);
    answers.refuse(there, |id| refused.get(&id).cloned())?;
    answers.strike_planned(plan)
}

/// What policy said of a recipient that would bounce at its first turn.
fn refusal(state: &RecipientState) -> Option<Reply> {
    match state {
        RecipientState::Waiting { tries: 0, last: Some(Why::Policy(reply)), .. } => {
            Some(reply.clone())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use waypost_hooks::{Hop, Way};

    use super::*;

    fn held(recipient: u32) -> Vec<RouteGroup> {
        let decision = RouteDecision::Hold("wait".to_owned());
        vec![RouteGroup { recipients: vec![recipient], decision, reasons: Vec::new() }]
    }

    const MOMENT: Moment = Moment {
        message: MessageId(1),
        now: Timestamp(1),
        received: Timestamp(1),
        expires: Timestamp(1_000_000),
    };

    fn recipient(id: u32) -> Recipient {
        Recipient::new(id, "r@a.example".parse().unwrap())
    }

    fn waiting(due: u64) -> RecipientState {
        RecipientState::fresh(Timestamp(due))
    }

    #[test]
    fn who_was_refused_is_not_held_for_a_release() {
        let routing = Routing::default();
        let state = |groups: &[_], id, fresh: &RecipientState| {
            decided(groups, &recipient(id), &routing, fresh.clone(), MOMENT).1
        };
        let fresh = waiting(1);
        let refused = doomed(&fresh, Why::Policy(Reply::REFUSED_BY_POLICY));
        assert_eq!(state(&held(0), 0, &refused), refused);
        assert!(matches!(state(&held(0), 0, &fresh), RecipientState::Held { .. }));
        assert_eq!(state(&held(0), 1, &fresh), fresh);
    }

    #[test]
    fn a_way_may_begin_later_but_never_after_the_end() {
        let state = |not_before, fresh: &RecipientState| {
            let way = Way { not_before: Some(Timestamp(not_before)), ..Way::default() };
            let decision = RouteDecision::Route(way);
            let groups = [RouteGroup { recipients: vec![0], decision, reasons: Vec::new() }];
            decided(&groups, &recipient(0), &Routing::default(), fresh.clone(), MOMENT).1
        };
        assert_eq!(state(5000, &waiting(1)), waiting(5000));
        assert_eq!(state(u64::MAX, &waiting(1)), waiting(1_000_000));
        assert_eq!(state(0, &waiting(1)), waiting(1));
        let refused = doomed(&waiting(1), Why::Policy(Reply::REFUSED_BY_POLICY));
        assert_eq!(state(5000, &refused), refused);
    }

    #[test]
    fn policy_that_cannot_decide_is_asked_again_after_twice_the_time() {
        let wait = |seconds| patience(Timestamp(0), Timestamp(seconds * 1000)).as_secs();
        let mut asked = vec![0];
        while asked[asked.len() - 1] < 3600 {
            let last = asked[asked.len() - 1];
            asked.push(last + wait(last));
        }
        let minutes: Vec<u64> = asked.iter().map(|second| second / 60).collect();
        assert_eq!(minutes, [0, 1, 2, 4, 8, 16, 31, 46, 61]);
        let unknown = Way { hops: vec![Hop::Named("no".into())], ..Way::default() };
        let decision = RouteDecision::Route(unknown);
        let groups = [RouteGroup { recipients: vec![0], decision, reasons: Vec::new() }];
        let (route, state) =
            decided(&groups, &recipient(0), &Routing::default(), waiting(1), MOMENT);
        assert_eq!((route, state), (undecided(), waiting(60_001)));
    }
}
