//! From one hop of a route to the hosts to try (RFC 5321 §5.1).

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};

use futures_util::future::join_all;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use waypost_mail::{NextHop, Why};
use waypost_smtp::Domain;

use crate::mx::{self, Mx, MxAnswer};
use crate::own::OwnAddresses;
use crate::resolver::{DnsError, Resolver};

/// Where a connection may go to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Host {
    /// The name that the certificate must carry and the log shows: of the mail exchanger or of
    /// the configured host; for an address literal the literal.
    pub name: String,
    /// Where to connect to.
    pub address: SocketAddr,
    /// Preference of its MX record; 0 where no MX was asked.
    pub preference: u16,
}

/// What a hop leads to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ways {
    /// The hosts to try, best first, empty only where mail is discarded.
    pub hosts: Vec<Host>,
    /// All mail exchangers of the domain, those without a usable address among them, best first and equals by
    /// name; for a domain without any the domain itself. Empty where no MX was asked.
    pub exchangers: Vec<Mx>,
}

/// What the search for hosts has to keep to.
#[derive(Debug, Clone)]
pub struct Search<'a> {
    /// TCP port of mail exchangers, 25 on the Internet.
    pub mx_port: u16,
    /// Where mail must not go, because this relay itself answers there.
    pub own: &'a OwnAddresses,
    /// Mail exchangers whose addresses are asked for, best first.
    pub max_exchangers: usize,
    /// Hosts returned in all; one exchanger of several gets no more than half of them.
    pub max_hosts: usize,
    /// Decides the order among equals.
    pub seed: u64,
}

impl<'a> Search<'a> {
    /// With the usual limits: ten exchangers, ten hosts.
    pub fn new(mx_port: u16, own: &'a OwnAddresses, seed: u64) -> Search<'a> {
        Search { mx_port, own, max_exchangers: 10, max_hosts: 10, seed }
    }
}

/// The hosts to try for `hop`, best first, empty only where mail is discarded; or why there is none.
///
/// A configured host that does not exist gives [`Why::NoAddress`], which lets mail wait for the
/// operator's correction; only a recipient's own domain can give [`Why::NoSuchDomain`].
pub async fn hosts(
    resolver: &dyn Resolver,
    hop: &NextHop,
    search: &Search<'_>,
) -> Result<Vec<Host>, Why> {
    ways(resolver, hop, search).await.map(|ways| ways.hosts)
}

/// As [`hosts`], and whose exchangers they are.
pub async fn ways(
    resolver: &dyn Resolver,
    hop: &NextHop,
    search: &Search<'_>,
) -> Result<Ways, Why> {
    let mut random = StdRng::seed_from_u64(search.seed);
    let mut named = Vec::new();
    let (subject, exchangers) = match hop {
        NextHop::Discard => return Ok(Ways::default()),
        NextHop::Host { host, port, .. } | NextHop::Lmtp { host, port } => {
            let only = Exchanger::known(host, *port, configured(resolver, host).await);
            (host.clone(), vec![only])
        }
        NextHop::Mx(Domain::Literal(ip)) => {
            let name = hop.to_string();
            let only = Exchanger::known(&name, search.mx_port, Ok(vec![*ip]));
            (name, vec![only])
        }
        NextHop::Mx(Domain::Name(domain)) => {
            let mut records = exchangers(resolver, domain).await?;
            named = records.clone();
            named.sort_unstable();
            records = mx::ordered(records, &mut random);
            records.truncate(search.max_exchangers);
            let asked = records.into_iter().map(|mx| resolved(resolver, mx, search));
            (domain.clone(), join_all(asked).await)
        }
    };
    let hosts = candidates(&subject, exchangers, search, &mut random)?;
    Ok(Ways { hosts, exchangers: named })
}

/// The mail exchangers of a domain; the domain itself where it names none.
async fn exchangers(resolver: &dyn Resolver, domain: &str) -> Result<Vec<Mx>, Why> {
    let answer = resolver.mx(domain).await.map_err(|error| Why::DnsFailed(error.to_string()))?;
    match answer {
        MxAnswer::Exchangers(records) => Ok(records),
        MxAnswer::Implicit => Ok(vec![Mx { preference: 0, exchange: domain.to_owned() }]),
        MxAnswer::Null => Err(Why::NullMx(domain.to_owned())),
        MxAnswer::NoSuchDomain => Err(Why::NoSuchDomain(domain.to_owned())),
    }
}

async fn resolved(resolver: &dyn Resolver, mx: Mx, search: &Search<'_>) -> Exchanger {
    let ours = search.own.is_called(&mx.exchange, search.mx_port);
    // The trailing dot: what strangers publish is never completed from our search list.
    let addresses = resolver.addresses(&format!("{}.", mx.exchange)).await;
    let (preference, port) = (mx.preference, search.mx_port);
    Exchanger { name: mx.exchange, preference, port, ours, addresses }
}

async fn configured(resolver: &dyn Resolver, host: &str) -> Result<Vec<IpAddr>, DnsError> {
    match host.parse() {
        Ok(ip) => Ok(vec![ip]),
        Err(_) => resolver.addresses(host).await,
    }
}

/// A mail exchanger and what DNS said about its addresses.
struct Exchanger {
    name: String,
    preference: u16,
    port: u16,
    /// It is this relay, by its name.
    ours: bool,
    addresses: Result<Vec<IpAddr>, DnsError>,
}

impl Exchanger {
    fn known(name: &str, port: u16, addresses: Result<Vec<IpAddr>, DnsError>) -> Exchanger {
        Exchanger { name: name.to_owned(), preference: 0, port, ours: false, addresses }
    }

    /// Addresses that one can connect to, equals shuffled, with the port.
    fn hosts(&self, random: &mut StdRng) -> Vec<Host> {
        let Ok(addresses) = &self.addresses else { return Vec::new() };
        let usable = addresses.iter().filter(|ip| !ip.is_unspecified() && !is_group(**ip));
        let mut usable: Vec<IpAddr> = usable.copied().collect();
        shuffle_within_families(&mut usable, random);
        let host = |ip| Host {
            name: self.name.clone(),
            address: SocketAddr::new(ip, self.port),
            preference: self.preference,
        };
        usable.into_iter().map(host).collect()
    }
}

/// Applies the rules that need no network: ours and what is behind us are left out, the rest is
/// kept in order and bounded; or it is said why nothing is left.
fn candidates(
    subject: &str,
    exchangers: Vec<Exchanger>,
    search: &Search<'_>,
    random: &mut StdRng,
) -> Result<Vec<Host>, Why> {
    let several = exchangers.len() > 1;
    let share = if several { search.max_hosts.div_ceil(2) } else { search.max_hosts };
    let groups: Vec<Vec<Host>> = exchangers.iter().map(|each| each.hosts(random)).collect();

    // RFC 5321 §5.1: what is no better than ourselves would send it back to us.
    let ours = groups.iter().flatten().filter(|host| search.own.contains(host.address));
    let named = exchangers.iter().filter(|each| each.ours).map(|each| each.preference);
    let limit = ours.map(|host| host.preference).chain(named).min();
    let better = |host: &Host| limit.is_none_or(|limit| host.preference < limit);

    let mut seen = HashSet::new();
    let mut hosts = Vec::new();
    for group in groups {
        let kept = group.into_iter().filter(|host| better(host) && seen.insert(host.address));
        hosts.extend(kept.take(share));
    }
    hosts.truncate(search.max_hosts);
    if !hosts.is_empty() {
        return Ok(hosts);
    }
    Err(nothing_left(subject, exchangers, limit))
}

fn nothing_left(subject: &str, exchangers: Vec<Exchanger>, limit: Option<u16>) -> Why {
    let before = |each: &Exchanger| limit.is_none_or(|limit| each.preference < limit);
    let lost = exchangers.into_iter().filter(before).find_map(|each| each.addresses.err());
    match (lost, limit) {
        // A better one that could not be resolved now may be the way out.
        (Some(error), _) => Why::DnsFailed(error.to_string()),
        (None, Some(_)) => Why::Loop(subject.to_owned()),
        (None, None) => Why::NoAddress(subject.to_owned()),
    }
}

/// True for addresses that stand for many machines; nothing can be connected to there.
fn is_group(ip: IpAddr) -> bool {
    ip.is_multicast() || matches!(ip, IpAddr::V4(ip) if ip.is_broadcast())
}

/// Shuffles IPv4 among IPv4 and IPv6 among IPv6; which place has which family stays, because the
/// resolver ordered that as configured.
fn shuffle_within_families(addresses: &mut [IpAddr], random: &mut StdRng) {
    for v6 in [false, true] {
        let places: Vec<usize> =
            (0..addresses.len()).filter(|&i| addresses[i].is_ipv6() == v6).collect();
        let mut members: Vec<IpAddr> = places.iter().map(|&i| addresses[i]).collect();
        members.shuffle(random);
        for (place, member) in places.into_iter().zip(members) {
            addresses[place] = member;
        }
    }
}

#[cfg(test)]
mod tests;
