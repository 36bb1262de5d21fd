//! Which way recipients go: what policy says first, then the configured rules in order.

use std::collections::HashMap;

use tracing::warn;
use waypost_hooks::{Hooks, Hop, RouteDecision, RouteGroup, RouteView, Way};
use waypost_mail::{
    DomainPattern, Envelope, Facts, NextHop, Protocol, Recipient, RecipientEntry, RecipientState,
    Route, Text, Timestamp, TlsLevel, Why,
};
use waypost_smtp::{Domain, Reply};

use crate::Intake;
use crate::policy::Waiting;

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
    /// A route has one login for all its hops.
    #[error("the hops {0:?} have different logins, so they cannot be one route")]
    TwoLogins(String),
}

impl Routing {
    /// A way of policy for a recipient of `domain`, with what it leaves open filled in.
    ///
    /// # Errors
    /// When the configuration lacks what it names.
    pub fn lower(&self, way: &Way, domain: &Domain) -> Result<Route, NoWay> {
        let configured = self.route(domain);
        let mut hops = Vec::new();
        let (mut tls, mut credentials) = (configured.tls, None);
        for (index, hop) in way.hops.iter().enumerate() {
            match hop {
                Hop::Mx(domain) => hops.push(NextHop::Mx(domain.clone())),
                Hop::Host { host, port, implicit_tls } => hops.push(NextHop::Host {
                    host: host.clone(),
                    port: *port,
                    implicit_tls: *implicit_tls,
                }),
                Hop::Named(name) => {
                    let unknown = || NoWay::UnknownHop(name.clone());
                    let named = self.named.get(name).ok_or_else(unknown)?;
                    if index > 0 && credentials != named.credentials {
                        return Err(NoWay::TwoLogins(name.clone()));
                    }
                    credentials = named.credentials.clone();
                    tls = if index == 0 { named.tls } else { tls.max(named.tls) };
                    hops.extend(named.hosts.iter().cloned());
                }
            }
        }
        if hops.is_empty() {
            hops.push(NextHop::Mx(domain.clone()));
        }
        Ok(Route {
            hops,
            lane: way.lane.clone(),
            source: way.source.clone(),
            tls: way.tls.unwrap_or(tls),
            credentials,
        })
    }
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

/// The way of recipients for whom policy could not decide: they are kept, and policy is asked again
/// at their first attempt.
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
        let now = self.clock.now();
        let routing = self.routing.read().unwrap_or_else(|poisoned| poisoned.into_inner()).clone();
        let mut plan = RoutePlan::default();
        for recipient in view.recipients {
            let fresh = waiting.state_of(recipient.id, now);
            let (route, state) = match &groups {
                None => (undecided(), fresh),
                Some(groups) => decided(groups, recipient, &routing, fresh),
            };
            plan.add(recipient.clone(), route, state);
        }
        plan
    }
}

/// Way and state of one recipient, by the group that names it.
fn decided(
    groups: &[RouteGroup],
    recipient: &Recipient,
    routing: &Routing,
    fresh: RecipientState,
) -> (Route, RecipientState) {
    let domain = recipient.mailbox.domain();
    let configured = routing.route(domain);
    let group = groups.iter().find(|group| group.recipients.contains(&recipient.id));
    match group.map(|group| &group.decision) {
        None => (configured, fresh),
        Some(RouteDecision::Route(way)) => {
            let route = match routing.lower(way, domain) {
                Ok(route) => route,
                Err(unknown) => {
                    warn!(rcpt = %recipient.mailbox, %unknown, "policy's way cannot be gone, it is asked again later");
                    return (undecided(), fresh);
                }
            };
            let state = match (fresh, way.not_before) {
                (RecipientState::Waiting { due, tries, last }, Some(moment)) => {
                    RecipientState::Waiting { due: due.max(moment), tries, last }
                }
                (fresh, _) => fresh,
            };
            (route, state)
        }
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

    #[test]
    fn who_was_refused_is_not_held_for_a_release() {
        let routing = Routing::default();
        let recipient =
            |id| Recipient { id, mailbox: "r@a.example".parse().unwrap(), meta: Vec::new() };
        let fresh = RecipientState::fresh(Timestamp(1));
        let refused = doomed(&fresh, Why::Policy(Reply::REFUSED_BY_POLICY));
        let (_, state) = decided(&held(0), &recipient(0), &routing, refused.clone());
        assert_eq!(state, refused);
        let (_, state) = decided(&held(0), &recipient(0), &routing, fresh.clone());
        assert!(matches!(state, RecipientState::Held { .. }));
        assert_eq!(decided(&held(0), &recipient(1), &routing, fresh.clone()).1, fresh);
    }

    #[test]
    fn a_way_of_policy_is_filled_in_by_the_configuration() {
        let smart_host = NextHop::Host { host: "s".into(), port: 587, implicit_tls: false };
        let named = NamedHop {
            hosts: vec![smart_host.clone()],
            tls: TlsLevel::Verify,
            credentials: Some("me".into()),
        };
        let mut routing = Routing { rules: vec![rule(&["*"], Via::Mx)], ..Routing::default() };
        routing.named.insert("out".into(), named);
        let domain = Domain::parse("a.example").unwrap();
        let way = |hops| Way { hops, ..Way::default() };
        let by_name = routing.lower(&way(vec![Hop::Named("out".into())]), &domain).unwrap();
        assert_eq!(by_name.hops, [smart_host]);
        assert_eq!((by_name.tls, by_name.credentials.as_deref()), (TlsLevel::Verify, Some("me")));
        let open = routing.lower(&way(Vec::new()), &domain).unwrap();
        assert_eq!((open.hops, open.tls), (vec![NextHop::Mx(domain.clone())], TlsLevel::Verify));
        let unknown = routing.lower(&way(vec![Hop::Named("no".into())]), &domain);
        assert_eq!(unknown, Err(NoWay::UnknownHop("no".into())));
    }
}
