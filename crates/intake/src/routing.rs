//! The configured ways, and what a way that policy chose means beside them.

use std::collections::HashMap;

use waypost_hooks::{Hop, Way};
use waypost_mail::{Convert, DomainPattern, Heed, MessageId, NextHop, Route, TlsLevel};
use waypost_smtp::{Domain, PermanentReply};

use crate::Hosts;

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
    /// Name of the pool of source addresses they leave from.
    pub source: Option<String>,
    /// The least the connection must offer.
    pub tls: TlsLevel,
    /// Name of the credentials to log in with.
    pub credentials: Option<String>,
    /// Whether what the recipient's side publishes about TLS counts.
    pub heed: Heed,
    /// Name of the certificate to show to hosts that ask for one.
    pub certificate: Option<String>,
    /// Whether a copy is converted for hosts that cannot take the message as it is.
    pub convert: Convert,
    /// Messages are tried while their submitters wait; see [`Handoff`](crate::Handoff).
    pub cut_through: bool,
}

/// Where a rule's recipients go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Via {
    /// To the mail exchangers of their own domain.
    Mx,
    /// To these hosts.
    Hosts(Hosts),
    /// Nowhere, and the sender is told so.
    Fail(PermanentReply),
    /// Nowhere, and nobody is told.
    Discard,
}

impl Routing {
    /// The configured way of a message to `domain`: to its mail exchangers where no rule names another,
    /// and where one refuses it, for policy may know better.
    pub fn route(&self, domain: &Domain, message: MessageId) -> Route {
        let exchangers = || vec![NextHop::Mx(domain.clone())];
        match self.rule(domain) {
            None => Route::new(NextHop::Mx(domain.clone()), TlsLevel::Opportunistic),
            Some(rule) => Route {
                hops: match &rule.via {
                    Via::Mx | Via::Fail(_) => exchangers(),
                    Via::Hosts(hosts) => hosts.in_turn(message),
                    Via::Discard => vec![NextHop::Discard],
                },
                lane: None,
                source: rule.source.clone(),
                tls: rule.tls,
                credentials: rule.credentials.clone(),
                heed: rule.heed,
                fixed: false,
                certificate: rule.certificate.clone(),
                convert: rule.convert,
            },
        }
    }

    /// What the sender is told where a rule refuses mail for `domain`.
    pub fn refusal(&self, domain: &Domain) -> Option<&PermanentReply> {
        match &self.rule(domain)?.via {
            Via::Fail(reply) => Some(reply),
            Via::Mx | Via::Hosts(_) | Via::Discard => None,
        }
    }

    /// True when mail for `domain` is tried while its submitter waits. Where policy chooses a way, it is
    /// not.
    pub fn goes_through(&self, domain: &Domain) -> bool {
        self.rule(domain).is_some_and(|rule| rule.cut_through)
    }

    fn rule(&self, domain: &Domain) -> Option<&RouteRule> {
        self.rules.iter().find(|rule| rule.domains.iter().any(|pattern| pattern.matches(domain)))
    }
}

/// A next hop that policy names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedHop {
    /// Its hosts.
    pub hosts: Hosts,
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
    pub fn lower(&self, way: &Way, domain: &Domain, message: MessageId) -> Result<Route, NoWay> {
        let configured = self.route(domain, message);
        let own = vec![Hop::Mx(domain.clone())];
        let named = if way.hops.is_empty() { &own } else { &way.hops };
        let mut hops = Vec::new();
        let mut login: Option<Option<String>> = None;
        let (mut wanted, mut floor) = (TlsLevel::Never, TlsLevel::Never);
        for hop in named {
            let next = self.next(hop, configured.tls, message)?;
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
            source: way.source.clone().or(configured.source),
            tls: way.tls.map_or(wanted, |tls| tls.max(floor)),
            credentials: login.flatten(),
            heed: configured.heed,
            fixed: false,
            // Who we are is shown where the configuration leads to, and nowhere else.
            certificate: None,
            convert: configured.convert,
        })
    }

    /// What one hop stands for; `tls` is for those that the configuration says nothing about.
    fn next(&self, hop: &Hop, tls: TlsLevel, message: MessageId) -> Result<Next, NoWay> {
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
            hosts: known.hosts.in_turn(message),
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

#[cfg(test)]
mod tests {
    use waypost_smtp::Reply;

    use super::*;

    const MESSAGE: MessageId = MessageId(1);

    fn rule(domains: &[&str], via: Via) -> RouteRule {
        let domains = domains.iter().map(|d| d.parse().unwrap()).collect();
        let (tls, heed) = (TlsLevel::Verify, Heed::default());
        RouteRule {
            domains,
            via,
            source: None,
            tls,
            credentials: None,
            heed,
            certificate: None,
            convert: Convert::Always,
            cut_through: false,
        }
    }

    #[test]
    fn the_first_rule_that_covers_decides() {
        let smart_host = NextHop::Host { host: "s".into(), port: 587, implicit_tls: false };
        let routing = Routing {
            rules: vec![
                rule(&["direct.example"], Via::Mx),
                rule(&["*"], Via::Hosts(vec![smart_host.clone()].into())),
            ],
            ..Routing::default()
        };
        let direct = Domain::parse("direct.example").unwrap();
        let hops = |domain: &Domain| routing.route(domain, MESSAGE).hops;
        assert_eq!(hops(&direct), [NextHop::Mx(direct.clone())]);
        assert_eq!(hops(&Domain::parse("other.example").unwrap()), [smart_host]);
    }

    #[test]
    fn a_rule_may_lead_nowhere() {
        let no = PermanentReply::new(Reply::fixed(550, (5, 1, 2), "No such place")).unwrap();
        let rules = vec![
            rule(&["no.example"], Via::Fail(no.clone())),
            rule(&["hole.example"], Via::Discard),
        ];
        let routing = Routing { rules, ..Routing::default() };
        let [no_example, hole] = ["no.example", "hole.example"].map(|d| Domain::parse(d).unwrap());
        assert_eq!(routing.refusal(&no_example), Some(&no));
        assert!(!routing.route(&no_example, MESSAGE).is_discard());
        assert_eq!(routing.refusal(&hole), None);
        assert!(routing.route(&hole, MESSAGE).is_discard());
    }

    #[test]
    fn without_rules_mail_goes_by_mx() {
        let route = Routing::default().route(&Domain::parse("a.example").unwrap(), MESSAGE);
        assert_eq!(
            (route.destination().as_str(), route.tls),
            ("a.example", TlsLevel::Opportunistic)
        );
    }

    /// A configuration with a hop that wants a login and proof, and one that wants neither.
    fn with_named_hops() -> Routing {
        let hop = |host: &str, tls, credentials: Option<&str>| NamedHop {
            hosts: vec![NextHop::Host { host: host.into(), port: 587, implicit_tls: false }].into(),
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
        with_named_hops().lower(&way, &Domain::parse("a.example").unwrap(), MESSAGE)
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
        assert_eq!((open.convert, by_name.convert), (Convert::Always, Convert::Always));
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
