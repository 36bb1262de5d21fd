//! Whose hosts a way leads to: those of a provider that the configuration knows, or the mail exchangers that
//! many domains may name. All mail for the same site shares its limits.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use waypost_dns::Mx;
use waypost_mail::{DomainPattern, NextHop};
use waypost_queue::{Rate, Site, SiteLimits};
use waypost_smtp::Domain;

use crate::seats::Seats;

/// A longer list of exchangers is cut where it becomes the name of a site, in octets.
const LONGEST_NAME: usize = 200;

/// What may be asked of one connection, and how often there may be a new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowance {
    /// Messages sent over one before it is closed.
    pub messages_per_connection: u32,
    /// Recipients of one transaction, at least 1; a message with more takes several. The host's own word
    /// counts where it says less (RFC 9422 §4).
    pub recipients_per_transaction: usize,
    /// New connections in a time; any number when absent.
    pub connection_rate: Option<Rate>,
    /// Messages go by BDAT where CHUNKING is offered, if they can go so as they are. Binary ones do
    /// anyhow.
    pub chunking: bool,
}

impl Default for Allowance {
    fn default() -> Allowance {
        Allowance {
            messages_per_connection: 100,
            // RFC 5321 §4.5.3.1.8: every server takes so many.
            recipients_per_transaction: 100,
            connection_rate: None,
            chunking: true,
        }
    }
}

/// Somebody behind many domains, and what may be asked of them.
#[derive(Debug, Clone, PartialEq)]
pub struct Provider {
    /// What the site is called.
    pub name: String,
    /// Names of its mail exchangers, or of hosts that a route names.
    pub mx: Vec<DomainPattern>,
    /// Domains that belong to it whatever their exchangers are.
    pub domains: Vec<DomainPattern>,
    /// What the queue asks of it at once.
    pub limits: SiteLimits,
    /// What may be asked of its connections.
    pub allowance: Allowance,
}

/// Who is behind what, in the order of the configuration: the first that knows a way has it.
#[derive(Debug, Clone, Default)]
pub struct Providers(Vec<Known>);

/// A provider, and what is in use of it.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    provider: Provider,
    site: Arc<Site>,
    /// Its connections, idle ones included.
    pub(crate) seats: Seats,
}

impl Known {
    /// What may be asked of its connections.
    pub(crate) fn allowance(&self) -> Allowance {
        self.provider.allowance
    }
}

impl Providers {
    /// These.
    pub fn new(providers: Vec<Provider>) -> Providers {
        let known = |provider: Provider| {
            let (name, limits) = (provider.name.clone(), Some(provider.limits));
            let seats = Seats::new(provider.limits.at_once);
            Known { provider, site: Arc::new(Site { name, limits }), seats }
        };
        Providers(providers.into_iter().map(known).collect())
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Provider> {
        self.0.iter().map(|known| &known.provider)
    }

    /// The one that a hop leads to, by its name or by the best of the domain's `exchangers`.
    pub fn provider(&self, hop: &NextHop, exchangers: &[Mx]) -> Option<&Provider> {
        self.find(hop, exchangers).map(|known| &known.provider)
    }

    fn find(&self, hop: &NextHop, exchangers: &[Mx]) -> Option<&Known> {
        self.0.iter().find(|known| known.provider.has(hop, exchangers))
    }

    /// The site that this hop leads to, and the provider that it is, if it is one. Hosts that nobody said
    /// anything about are a destination of their own.
    pub(crate) fn site(
        &self,
        hop: &NextHop,
        exchangers: &[Mx],
    ) -> (Option<Arc<Site>>, Option<&Known>) {
        let known = self.find(hop, exchangers);
        let site = match known {
            Some(known) => Some(known.site.clone()),
            None if exchangers.is_empty() => None,
            None => Some(Arc::new(Site { name: named(exchangers), limits: None })),
        };
        (site, known)
    }
}

impl Provider {
    fn has(&self, hop: &NextHop, exchangers: &[Mx]) -> bool {
        let known = |patterns: &[DomainPattern], name: &Domain| {
            patterns.iter().any(|pattern| pattern.matches(name))
        };
        let host = |name: &str| {
            Domain::parse(name).is_ok_and(|name| name.name().is_some() && known(&self.mx, &name))
        };
        match hop {
            NextHop::Discard => false,
            NextHop::Host { host: name, .. } | NextHop::Lmtp { host: name, .. } => host(name),
            NextHop::Mx(domain) => {
                let best = exchangers.first().map(|mx| mx.preference);
                let mut best = exchangers.iter().take_while(|mx| Some(mx.preference) == best);
                known(&self.domains, domain)
                    || !exchangers.is_empty() && best.all(|mx| host(&mx.exchange))
            }
        }
    }
}

/// Domains with the same exchangers are the same site, whatever the preferences.
fn named(exchangers: &[Mx]) -> String {
    let names: BTreeSet<String> =
        exchangers.iter().map(|mx| mx.exchange.to_ascii_lowercase()).collect();
    let mut name = String::new();
    for (at, exchanger) in names.iter().enumerate() {
        if at > 0 && name.len() + exchanger.len() > LONGEST_NAME {
            let mut hasher = DefaultHasher::new();
            names.hash(&mut hasher);
            return format!("{name}, … ({} in all, {:016x})", names.len(), hasher.finish());
        }
        name.push_str(if at > 0 { ", " } else { "" });
        name.push_str(exchanger);
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mx(list: &[(u16, &str)]) -> Vec<Mx> {
        let mx = |(preference, exchange): &(u16, &str)| Mx {
            preference: *preference,
            exchange: (*exchange).to_owned(),
        };
        list.iter().map(mx).collect()
    }

    fn by(domain: &str) -> NextHop {
        NextHop::Mx(Domain::parse(domain).unwrap())
    }

    fn provider(name: &str, mx: &[&str], domains: &[&str]) -> Provider {
        let patterns = |list: &[&str]| list.iter().map(|text| text.parse().unwrap()).collect();
        Provider {
            name: name.to_owned(),
            mx: patterns(mx),
            domains: patterns(domains),
            limits: SiteLimits { at_once: 5, first: 2, rate: None },
            allowance: Allowance { messages_per_connection: 7, ..Allowance::default() },
        }
    }

    fn site(providers: &Providers, hop: &NextHop, exchangers: &[Mx]) -> Option<String> {
        providers.site(hop, exchangers).0.map(|site| site.name.clone())
    }

    #[test]
    fn domains_with_the_same_exchangers_are_one_site() {
        let none = Providers::default();
        let of = |list| site(&none, &by("a.example"), &mx(list));
        let two = Some("mx1.host.example, mx2.host.example".to_owned());
        assert_eq!(of(&[(10, "mx1.host.example"), (20, "mx2.host.example")]), two);
        assert_eq!(of(&[(5, "mx2.host.example"), (5, "MX1.host.example")]), two);
        assert_eq!(of(&[(5, "mx2.host.example")]), Some("mx2.host.example".to_owned()));
        assert_eq!(of(&[]), None, "an address literal is a site of its own");
        let smart = NextHop::Host { host: "smart.example".into(), port: 25, implicit_tls: false };
        assert_eq!(site(&none, &smart, &[]), None);
    }

    #[test]
    fn a_provider_is_known_by_its_best_exchangers_or_by_the_domain() {
        let all = Providers::new(vec![
            provider("google", &["*.google.com"], &[]),
            provider("shop", &["smart.example"], &["shop.example"]),
        ]);
        let google = Some("google".to_owned());
        let own = |list| site(&all, &by("a.example"), &mx(list));
        assert_eq!(own(&[(1, "aspmx.l.google.com"), (5, "alt1.aspmx.l.google.com")]), google);
        assert_eq!(own(&[(1, "aspmx.l.google.com"), (50, "backup.example")]), google);
        let mixed = own(&[(1, "aspmx.l.google.com"), (1, "mx.example")]);
        assert_eq!(mixed, Some("aspmx.l.google.com, mx.example".to_owned()));
        assert_eq!(own(&[(1, "google.com")]), Some("google.com".to_owned()));
        let shop = Some("shop".to_owned());
        assert_eq!(site(&all, &by("shop.example"), &mx(&[(1, "aspmx.example")])), shop);
        let smart = NextHop::Host { host: "smart.example".into(), port: 587, implicit_tls: false };
        assert_eq!(site(&all, &smart, &[]), shop);
        let known = all.site(&smart, &[]).1.unwrap();
        assert_eq!(known.allowance().messages_per_connection, 7);
    }

    #[test]
    fn long_lists_have_short_names_that_differ() {
        let list = |count: u16| -> Vec<Mx> {
            let exchange =
                |n| Mx { preference: 1, exchange: format!("mx{n}.{}.example", "x".repeat(50)) };
            (0..count).map(exchange).collect()
        };
        let (ten, eleven) = (named(&list(10)), named(&list(11)));
        assert!(ten.len() < LONGEST_NAME + 100 && ten != eleven, "{ten}");
        assert_eq!(ten, named(&list(10).into_iter().rev().collect::<Vec<_>>()));
    }
}
