//! Which way recipients go: what policy says first, then the configured rules in order.

use std::collections::HashMap;
use std::time::Duration;

use tracing::warn;
use waypost_hooks::{Hooks, Hop, RouteDecision, RouteGroup, RouteView, Way};
use waypost_mail::{
    DomainPattern, Envelope, Facts, NextHop, Protocol, Recipient, RecipientEntry, RecipientState,
    Route, Text, Timestamp, TlsLevel, Why,
};
use waypost_smtp::{Domain, Reply};

use crate::Intake;
use crate::policy::Waiting;

/// The shortest and the longest wait before policy is asked again.
const ASKED_AGAIN: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(900));

/// The configured routes: the first rule that covers a recipient's domain decides.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Routing {
    /// In order. A recipient that none covers goes by MX with opportunistic TLS.
    pub rules: Vec<RouteRule>,
    /// Next hops by the names that policy uses.
    pub named: HashMap<String, NamedHop>,
}

/// One configured route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteRule {
    /// Which recipient domains it is for.
    pub domains: Vec<DomainPattern>,
    /// Where they go.
    pub via: Via,
    /// The least the connection must offer.
    pub tls: TlsLevel,
    /// Name of the credentials to log in with.
    pub credentials: Option<String>,
}

/// Where a rule's recipients go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Via {
    /// To the mail exchangers of their own domain.
    Mx,
    /// To these hosts, in order.
    Hosts(Vec<NextHop>),
}

impl Routing {
    /// The configured way to `domain`.
    pub fn route(&self, domain: &Domain) -> Route {
        let covers = |rule: &&RouteRule| rule.domains.iter().any(|p| p.matches(domain));
        let own_exchangers = || vec![NextHop::Mx(domain.clone())];
        match self.rules.iter().find(covers) {
            None => Route::new(NextHop::Mx(domain.clone()), TlsLevel::Opportunistic),
            Some(rule) => Route {
                hops: match &rule.via {
                    Via::Mx => own_exchangers(),
                    Via::Hosts(hops) => hops.clone(),
                },
                lane: None,
                source: None,
                tls: rule.tls,
                credentials: rule.credentials.clone(),
            },
        }
    }
}

/// A next hop that policy names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedHop {
    /// Its hosts, in order.
    pub hosts: Vec<NextHop>,
    /// The least the connection must offer.
    pub tls: TlsLevel,
    /// Name of the credentials to log in with.
    pub credentials: Option<String>,
}

/// Why a way that policy chose cannot be gone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoWay {
    /// The configuration has no such hop.
    #[error("the configuration has no next hop named {0:?} in [policy.hops]")]
    UnknownHop(String),
    /// A route has one login for all its hops, or none.
    #[error(
        "the next hop {0:?} has another login than the one before it, so they are no one route"
    )]
    TwoLogins(String),
}

impl Routing {
    /// A way of policy for a recipient of `domain`, with what it leaves open filled in.
    ///
    /// # Errors
    /// When the configuration lacks what it names.
    pub fn lower(&self, way: &Way, domain: &Domain) -> Result<Route, NoWay> {
        let configured = self.route(domain);
        let own = vec![Hop::Mx(domain.clone())];
        let named = if way.hops.is_empty() { &own } else { &way.hops };
        let mut hops = Vec::new();
        let mut login: Option<Option<String>> = None;
        let (mut wanted, mut floor) = (TlsLevel::Never, TlsLevel::Never);
        for hop in named {
            let next = self.next(hop, configured.tls)?;
            // The login of one host must never be shown to another.
            if *login.get_or_insert_with(|| next.credentials.clone()) != next.credentials {
                return Err(NoWay::TwoLogins(next.name));
            }
            wanted = wanted.max(next.tls);
            floor = floor.max(next.floor);
            hops.extend(next.hosts);
        }
        Ok(Route {
            hops,
            lane: way.lane.clone(),
            source: way.source.clone(),
            tls: way.tls.map_or(wanted, |tls| tls.max(floor)),
            credentials: login.flatten(),
        })
    }

    /// What one hop stands for; `tls` is for those that the configuration says nothing about.
    fn next(&self, hop: &Hop, tls: TlsLevel) -> Result<Next, NoWay> {
        let free = |host: NextHop| Next {
            name: host.to_string(),
            hosts: vec![host],
            tls,
            floor: TlsLevel::Never,
            credentials: None,
        };
        let name = match hop {
            Hop::Mx(domain) => return Ok(free(NextHop::Mx(domain.clone()))),
            Hop::Host { host, port, implicit_tls } => {
                let (port, implicit_tls) = (*port, *implicit_tls);
                return Ok(free(NextHop::Host { host: host.clone(), port, implicit_tls }));
            }
            Hop::Named(name) => name,
        };
        let known = self.named.get(name).ok_or_else(|| NoWay::UnknownHop(name.clone()))?;
        // Policy may ask for more than the configuration does, and may go without TLS that is no
        // more than welcome. It cannot waive what is demanded.
        let demanded = known.tls >= TlsLevel::Encrypt;
        Ok(Next {
            name: name.clone(),
            hosts: known.hosts.clone(),
            tls: known.tls,
            floor: if demanded { known.tls } else { TlsLevel::Never },
            credentials: known.credentials.clone(),
        })
    }
}

/// One hop of policy's way, filled in.
struct Next {
    name: String,
    hosts: Vec<NextHop>,
    tls: TlsLevel,
    floor: TlsLevel,
    credentials: Option<String>,
}

/// Recipients and the ways they refer to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RoutePlan {
    /// The ways, each once.
    pub routes: Vec<Route>,
    /// The recipients.
    pub recipients: Vec<RecipientEntry>,
}

impl RoutePlan {
    fn add(&mut self, recipient: Recipient, route: Route, state: RecipientState) {
        let known = self.routes.iter().position(|known| *known == route);
        let index = known.unwrap_or_else(|| {
            self.routes.push(route);
            self.routes.len() - 1
        });
        // More than 65,535 different routes cannot come from 65,535 recipients or fewer.
        self.recipients.push(RecipientEntry { recipient, route: index as u16, state });
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
    }
}

impl Intake {
    /// Routes every recipient of a message that is about to be committed.
    ///
    /// # Errors
    /// The reply of policy when it fails every recipient: better refused than bounced.
    pub(crate) async fn route(
        &self,
        hooks: &dyn Hooks,
        envelope: &Envelope,
        facts: &Facts,
        text: &Text,
        received: Timestamp,
        waiting: &Waiting,
    ) -> Result<RoutePlan, Reply> {
        let view = RouteView {
            id: envelope.id,
            received,
            expires: None,
            session: facts,
            sender: &envelope.sender,
            recipients: envelope.recipients(),
            size: text.len(),
            meta: &envelope.meta,
            text,
        };
        let mut plan = self.plan(hooks, &view, waiting).await;
        match refused_by_all(&plan) {
            None => Ok(plan),
            // Nobody is there to be refused, and a notice must not be lost to policy.
            Some(_) if facts.protocol == Protocol::Internal => {
                let now = self.clock.now();
                plan.recipients.iter_mut().for_each(|r| r.state = RecipientState::fresh(now));
                Ok(plan)
            }
            Some(reply) => Err(reply),
        }
    }

    /// Asks policy for the way of recipients, as [`Intake::accept`] does; for those it could not
    /// decide about before.
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
            now: self.clock.now(),
            received: view.received,
            expires: view.expires.unwrap_or(view.received.after(self.config.lifetime)),
        };
        let mut plan = RoutePlan::default();
        for recipient in view.recipients {
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

/// When a way is decided.
#[derive(Debug, Clone, Copy)]
struct Moment {
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
    let configured = routing.route(domain);
    let group = groups.iter().find(|group| group.recipients.contains(&recipient.id));
    match group.map(|group| &group.decision) {
        None => (configured, fresh),
        Some(RouteDecision::Route(way)) => match routing.lower(way, domain) {
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

fn refused_by_all(plan: &RoutePlan) -> Option<Reply> {
    let refusal = |r: &RecipientEntry| match &r.state {
        RecipientState::Waiting { tries: 0, last: Some(Why::Policy(reply)), .. } => {
            Some(reply.clone())
        }
        _ => None,
    };
    let all: Option<Vec<Reply>> = plan.recipients.iter().map(refusal).collect();
    all?.into_iter().next()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(domains: &[&str], via: Via) -> RouteRule {
        let domains = domains.iter().map(|d| d.parse().unwrap()).collect();
        RouteRule { domains, via, tls: TlsLevel::Verify, credentials: None }
    }

    #[test]
    fn the_first_rule_that_covers_decides() {
        let smart_host = NextHop::Host { host: "s".into(), port: 587, implicit_tls: false };
        let routing = Routing {
            rules: vec![
                rule(&["direct.example"], Via::Mx),
                rule(&["*"], Via::Hosts(vec![smart_host.clone()])),
            ],
            ..Routing::default()
        };
        let direct = Domain::parse("direct.example").unwrap();
        assert_eq!(routing.route(&direct).hops, [NextHop::Mx(direct)]);
        assert_eq!(routing.route(&Domain::parse("other.example").unwrap()).hops, [smart_host]);
    }

    #[test]
    fn without_rules_mail_goes_by_mx() {
        let route = Routing::default().route(&Domain::parse("a.example").unwrap());
        assert_eq!(
            (route.destination().as_str(), route.tls),
            ("a.example", TlsLevel::Opportunistic)
        );
    }

    fn held(recipient: u32) -> Vec<RouteGroup> {
        let decision = RouteDecision::Hold("wait".to_owned());
        vec![RouteGroup { recipients: vec![recipient], decision, reasons: Vec::new() }]
    }

    const MOMENT: Moment =
        Moment { now: Timestamp(1), received: Timestamp(1), expires: Timestamp(1_000_000) };

    fn recipient(id: u32) -> Recipient {
        Recipient { id, mailbox: "r@a.example".parse().unwrap(), meta: Vec::new() }
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

    /// A configuration with a hop that wants a login and proof, and one that wants neither.
    fn with_named_hops() -> Routing {
        let hop = |host: &str, tls, credentials: Option<&str>| NamedHop {
            hosts: vec![NextHop::Host { host: host.into(), port: 587, implicit_tls: false }],
            tls,
            credentials: credentials.map(str::to_owned),
        };
        let named = [
            ("out", hop("s", TlsLevel::Verify, Some("me"))),
            ("out2", hop("s2", TlsLevel::Encrypt, Some("me"))),
            ("other", hop("o", TlsLevel::Opportunistic, None)),
        ];
        let mut routing = Routing { rules: vec![rule(&["*"], Via::Mx)], ..Routing::default() };
        routing.rules[0].tls = TlsLevel::Encrypt;
        routing.named = named.map(|(name, hop)| (name.to_owned(), hop)).into();
        routing
    }

    fn lowered(hops: &[Hop], tls: Option<TlsLevel>) -> Result<Route, NoWay> {
        let way = Way { hops: hops.to_vec(), tls, ..Way::default() };
        with_named_hops().lower(&way, &Domain::parse("a.example").unwrap())
    }

    fn named(name: &str) -> Hop {
        Hop::Named(name.to_owned())
    }

    #[test]
    fn a_way_of_policy_is_filled_in_by_the_configuration() {
        let by_name = lowered(&[named("out")], None).unwrap();
        assert_eq!(by_name.destination(), "s:587");
        assert_eq!((by_name.tls, by_name.credentials.as_deref()), (TlsLevel::Verify, Some("me")));
        let open = lowered(&[], None).unwrap();
        let own = NextHop::Mx(Domain::parse("a.example").unwrap());
        assert_eq!((open.hops, open.tls), (vec![own], TlsLevel::Encrypt));
        assert_eq!(open.credentials, None);
        assert_eq!(lowered(&[named("no")], None), Err(NoWay::UnknownHop("no".into())));
    }

    #[test]
    fn a_login_is_shown_to_no_other_host() {
        let stranger = Hop::Host { host: "x".into(), port: 25, implicit_tls: false };
        for other in [stranger, Hop::Mx(Domain::parse("x.example").unwrap()), named("other")] {
            for hops in [[named("out"), other.clone()], [other.clone(), named("out")]] {
                let lowered = lowered(&hops, None);
                assert!(matches!(lowered, Err(NoWay::TwoLogins(_))), "{hops:?}: {lowered:?}");
            }
        }
        let both = lowered(&[named("out2"), named("out")], None).unwrap();
        assert_eq!((both.hops.len(), both.credentials.as_deref()), (2, Some("me")));
        assert_eq!(both.tls, TlsLevel::Verify);
    }

    #[test]
    fn policy_waives_no_encryption_that_a_named_hop_demands() {
        let tls = |name, tls| lowered(&[named(name)], Some(tls)).unwrap().tls;
        assert_eq!(tls("out", TlsLevel::Never), TlsLevel::Verify);
        assert_eq!(tls("out2", TlsLevel::Opportunistic), TlsLevel::Encrypt);
        assert_eq!(tls("out2", TlsLevel::Verify), TlsLevel::Verify);
        assert_eq!(tls("other", TlsLevel::Never), TlsLevel::Never);
        assert_eq!(lowered(&[], Some(TlsLevel::Never)).unwrap().tls, TlsLevel::Never);
    }
}
