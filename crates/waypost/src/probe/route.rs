//! `waypost probe route`: what would happen with mail to a domain, and why, without sending any.
//!
//! It asks the same questions of DNS and of the policy host as a delivery would, by the same code, and needs
//! no running relay.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use async_trait::async_trait;
use bytes::Bytes;
use serde::Serialize;
use waypost_config::Settings;
use waypost_delivery::ClientTls;
use waypost_dns::sts::{Advice, Mode, Policies};
use waypost_dns::tlsrpt::{ReportTo, report_to};
use waypost_dns::{
    Dane, Dnssec, Hickory, Host, Mx, OwnAddresses, Resolver as _, Search, Validator, Vouched, dane,
    ways,
};
use waypost_intake::{Routing, Via};
use waypost_mail::{
    Addresses, Ledger, LedgerError, MessageId, NextHop, Route, SystemClock, Timestamp, TlsLevel,
};
use waypost_smtp::Domain;

use super::Found;
use crate::args::ProbeRouteArgs;
use crate::relay::interfaces;
use crate::send;
use crate::table::plain;

/// How the way to nowhere is called.
const DISCARD: &str = "discard";

/// What would happen.
#[derive(Debug, Serialize)]
pub struct Outlook {
    /// The recipient's domain.
    pub domain: String,
    /// Which entry of the configuration decides.
    pub route: String,
    /// The least that the entry asks of connections.
    pub tls: TlsLevel,
    /// What the limits of the destination are filed under.
    pub destination: String,
    /// The provider that the first hop leads to: its limits count.
    pub provider: Option<String>,
    /// Attempts at it at a time.
    pub at_a_time: usize,
    /// Messages over one connection.
    pub messages_per_connection: u32,
    /// Hosts tried in one attempt.
    pub hosts_per_attempt: usize,
    /// Answers can be validated here; absent where nobody asks.
    pub dnssec: Option<bool>,
    /// The domain's MTA-STS policy.
    pub policy: Option<PolicySeen>,
    /// Why an announced policy cannot be had.
    pub policy_trouble: Option<String>,
    /// Who wants reports about TLS.
    pub reports: Vec<String>,
    /// The hops, in order.
    pub hops: Vec<HopSeen>,
}

/// A policy.
#[derive(Debug, Serialize)]
pub struct PolicySeen {
    /// `enforce`, `testing` or `none`.
    pub mode: String,
    /// Seconds for which it is good.
    pub max_age: u64,
    /// The exchangers it names.
    pub mx: Vec<String>,
    /// Where it is from.
    pub source: String,
}

/// One hop.
#[derive(Debug, Serialize)]
pub struct HopSeen {
    /// A domain's exchangers, or a host.
    pub hop: String,
    /// DNSSEC proves which hosts they are; absent where that is not asked.
    pub proven: Option<bool>,
    /// Why nobody can be spoken to.
    pub trouble: Option<String>,
    /// The trouble does not pass by itself.
    pub permanent: bool,
    /// In the order in which they are tried.
    pub hosts: Vec<HostSeen>,
}

/// One host.
#[derive(Debug, Serialize)]
pub struct HostSeen {
    /// Its name.
    pub name: String,
    /// Address and port.
    pub address: String,
    /// Of its MX record.
    pub preference: u16,
    /// TLSA records that DNSSEC vouches for.
    pub tlsa: Vec<String>,
    /// The domain's policy names it; absent where there is none.
    pub named: Option<bool>,
    /// What it must prove, or why it gets no mail.
    pub demand: String,
    /// Mail can go to it, if it proves that.
    pub usable: bool,
}

/// Finds out and prints.
///
/// # Errors
/// When the configuration cannot be used; [`Found`] when mail would not leave.
pub async fn route(args: &ProbeRouteArgs) -> Result<()> {
    let outlook = look(args).await?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&outlook)?);
    } else {
        print!("{}", describe(&outlook));
    }
    let usable = |hop: &HopSeen| hop.hop == DISCARD || hop.hosts.iter().any(|host| host.usable);
    match outlook.hops.as_slice() {
        hops if hops.iter().any(usable) => Ok(()),
        hops if hops.iter().all(|hop| hop.permanent) => bail!(Found::NoWay),
        _ => bail!(Found::NotNow),
    }
}

/// What the answers are made of.
struct Ground {
    routing: Routing,
    delivery: waypost_delivery::Config,
    at_a_time: usize,
    resolver: Arc<Hickory>,
    validator: Validator,
    policies: Policies,
}

impl Ground {
    async fn new(args: &ProbeRouteArgs) -> Result<Ground> {
        let (routing, dns, mut delivery, at_a_time) = if args.config.config.exists() {
            let settings = Settings::load(&args.config.config)?;
            let mut delivery = settings.startup.delivery;
            let doors = settings.startup.doors.iter().filter_map(|door| door.place.tcp());
            let name = delivery.ehlo_name.to_string();
            delivery.own_addresses = OwnAddresses::new(doors, interfaces()).named(&name);
            let at_a_time = settings.startup.queue.per_destination;
            (settings.reload.routing, settings.startup.dns, delivery, at_a_time)
        } else {
            let tls: ClientTls = send::authorities(None)?;
            let name = Domain::parse("localhost").context("a name")?;
            let delivery = waypost_delivery::Config::new(name, tls);
            let at_a_time = waypost_queue::Config::default().per_destination;
            (Routing::default(), waypost_dns::Config::default(), delivery, at_a_time)
        };
        delivery.mx_port = args.mx_port.unwrap_or(delivery.mx_port);
        let validator = Validator::new(&dns)?;
        let resolver = Arc::new(Hickory::new(dns)?);
        let roots = delivery.tls.roots().clone();
        let config = waypost_fetch::Config { roots, max_concurrent: 1 };
        let web = waypost_fetch::Client::new(config, Arc::new(Names(resolver.clone())))?;
        let ledger = Arc::new(Forgetful);
        let policies =
            Policies::open(resolver.clone(), Arc::new(web), ledger, Arc::new(SystemClock)).await?;
        Ok(Ground { routing, delivery, at_a_time, resolver, validator, policies })
    }
}

/// Finds out.
///
/// # Errors
/// When the configuration cannot be used, or the domain is none.
pub async fn look(args: &ProbeRouteArgs) -> Result<Outlook> {
    let domain = Domain::parse(&args.domain).with_context(|| format!("{:?}", args.domain))?;
    let ground = Ground::new(args).await?;
    let route = ground.routing.route(&domain, MessageId(rand::random()));
    let name = match &domain {
        Domain::Name(name) => Some(name.as_str()),
        Domain::Literal(_) => None,
    };
    let by_mx = matches!(route.hops.as_slice(), [NextHop::Mx(_)]);
    let heeds = route.tls != TlsLevel::Never && by_mx;
    let sts = match name {
        Some(name) if heeds && route.heed.mta_sts.unwrap_or(ground.delivery.mta_sts) => {
            ground.policies.advice(name).await
        }
        _ => Advice::default(),
    };
    let asks_dnssec =
        route.tls != TlsLevel::Never && route.heed.dane.unwrap_or(ground.delivery.dane && by_mx);
    let dnssec = if asks_dnssec { Some(ground.validator.works().await) } else { None };
    let (mut hops, mut provider) = (Vec::new(), None);
    if let Some(refusal) = refusal(&ground.routing, &domain) {
        let (hop, trouble) = (domain.to_string(), Some(refusal));
        hops.push(HopSeen { hop, proven: None, trouble, permanent: true, hosts: Vec::new() });
    }
    if hops.is_empty() {
        for hop in &route.hops {
            let (seen, exchangers) = ground.hop(&route, hop, dnssec == Some(true), &sts).await;
            if hops.is_empty() {
                provider = ground.delivery.providers.provider(hop, &exchangers);
            }
            hops.push(seen);
        }
    }
    let allowance = provider.map_or(ground.delivery.allowance, |provider| provider.allowance);
    Ok(Outlook {
        domain: domain.to_string(),
        route: entry(&ground.routing, &domain),
        tls: route.tls,
        destination: route.destination(),
        provider: provider.map(|provider| provider.name.clone()),
        at_a_time: provider.map_or(ground.at_a_time, |provider| provider.limits.at_once),
        messages_per_connection: allowance.messages_per_connection,
        hosts_per_attempt: ground.delivery.hosts_per_attempt,
        dnssec,
        policy: sts.policy.as_ref().map(|policy| PolicySeen {
            mode: policy.mode.to_string(),
            max_age: policy.max_age.as_secs(),
            mx: policy.mx.clone(),
            source: format!("fetched now from mta-sts.{domain}"),
        }),
        policy_trouble: sts.trouble.as_ref().map(ToString::to_string),
        reports: ground.reports(name).await,
        hops,
    })
}

impl Ground {
    /// A hop, and all exchangers of its domain.
    async fn hop(
        &self,
        route: &Route,
        hop: &NextHop,
        validates: bool,
        sts: &Advice,
    ) -> (HopSeen, Vec<Mx>) {
        let search =
            Search::new(self.delivery.mx_port, &self.delivery.own_addresses, rand::random());
        let by_name = matches!(hop, NextHop::Mx(Domain::Name(_)));
        let (found, proven) = if validates && by_name {
            let vouched = Vouched::new(&*self.resolver, &self.validator);
            let found = ways(&vouched, hop, &search).await;
            (found, Some(vouched.is_secure()))
        } else {
            (ways(&*self.resolver, hop, &search).await, None)
        };
        let mut seen = HopSeen {
            hop: hop.to_string(),
            proven,
            trouble: None,
            permanent: false,
            hosts: Vec::new(),
        };
        let mut exchangers = Vec::new();
        match found {
            Ok(ways) => {
                exchangers = ways.exchangers;
                for host in ways.hosts {
                    seen.hosts.push(self.host(route, &host, validates, proven, sts).await);
                }
            }
            Err(why) => {
                seen.permanent = why.is_permanent();
                seen.trouble = Some(why.to_string());
            }
        }
        (seen, exchangers)
    }

    async fn host(
        &self,
        route: &Route,
        host: &Host,
        validates: bool,
        proven: Option<bool>,
        sts: &Advice,
    ) -> HostSeen {
        let mut seen = HostSeen {
            name: host.name.clone(),
            address: host.address.to_string(),
            preference: host.preference,
            tlsa: Vec::new(),
            named: sts.policy.as_ref().map(|policy| policy.names(&host.name)),
            demand: String::new(),
            usable: false,
        };
        let found = if validates {
            dane(&self.validator, &host.name, host.address.port()).await
        } else {
            Ok(Dane::Absent)
        };
        let found = match found {
            Ok(found) => found,
            Err(error) => {
                seen.demand =
                    format!("gets no mail now: {error}, so what it must prove is not known");
                return seen;
            }
        };
        if let Dane::Required(waypost_dns::Binding { records, .. }) | Dane::Unusable(records) =
            &found
        {
            seen.tlsa = records.iter().map(ToString::to_string).collect();
        }
        let enforced = sts.policy.as_ref().is_some_and(|policy| policy.mode == Mode::Enforce);
        let by_key = proven == Some(true) && matches!(found, Dane::Required(_));
        if enforced && !by_key && seen.named == Some(false) {
            "gets no mail: the domain's policy (MTA-STS) does not name it"
                .clone_into(&mut seen.demand);
            return seen;
        }
        let level = match route.tls {
            TlsLevel::Opportunistic if route.credentials.is_some() => TlsLevel::Encrypt,
            level => level,
        };
        waypost_delivery::demanded(level, found, enforced && !by_key).clone_into(&mut seen.demand);
        seen.usable = true;
        seen
    }

    async fn reports(&self, domain: Option<&str>) -> Vec<String> {
        let Some(domain) = domain else { return Vec::new() };
        let records = self.resolver.txt(&format!("_smtp._tls.{domain}")).await.unwrap_or_default();
        let show = |place: &ReportTo| match place {
            ReportTo::Mail(mailbox) => mailbox.to_string(),
            ReportTo::Web(url) => url.clone(),
        };
        report_to(&records).iter().map(show).collect()
    }
}

/// What a route says that refuses mail to this domain.
fn refusal(routing: &Routing, domain: &Domain) -> Option<String> {
    let covers = |pattern: &waypost_mail::DomainPattern| pattern.matches(domain);
    let rule = routing.rules.iter().find(|rule| rule.domains.iter().any(covers))?;
    match &rule.via {
        Via::Fail(reply) => Some(format!("refused: {}", reply.reply())),
        _ => None,
    }
}

/// Which entry decides, and why.
fn entry(routing: &Routing, domain: &Domain) -> String {
    let covers = |pattern: &&waypost_mail::DomainPattern| pattern.matches(domain);
    for (place, rule) in (1..).zip(&routing.rules) {
        if let Some(pattern) = rule.domains.iter().find(covers) {
            let via = match &rule.via {
                Via::Mx => "the domain's own mail exchangers".to_owned(),
                Via::Hosts(_) => "the hosts it names".to_owned(),
                Via::Fail(reply) => format!("refused: {}", reply.reply()),
                Via::Discard => "taken and given to nobody".to_owned(),
            };
            return format!("[[route]] number {place}, by its pattern \"{pattern}\": {via}");
        }
    }
    "no [[route]] covers it: the domain's own mail exchangers".to_owned()
}

fn describe(outlook: &Outlook) -> String {
    let mut text = String::new();
    line(&mut text, "domain", &outlook.domain);
    line(&mut text, "route", &outlook.route);
    if let Some(works) = outlook.dnssec {
        let state = if works { "works here" } else { "does not work here: DANE is off" };
        line(&mut text, "DNSSEC", state);
    }
    if let Some(policy) = &outlook.policy {
        let PolicySeen { mode, max_age, mx, source } = policy;
        let words = format!("{mode}, good for {max_age}s, names {}; {source}", mx.join(", "));
        line(&mut text, "MTA-STS", &words);
    }
    if let Some(trouble) = &outlook.policy_trouble {
        line(&mut text, "MTA-STS", trouble);
    }
    if !outlook.reports.is_empty() {
        line(&mut text, "reports", &outlook.reports.join(", "));
    }
    for hop in &outlook.hops {
        let proven = match hop.proven {
            Some(true) => ", proven by DNSSEC",
            Some(false) => ", not signed",
            None => "",
        };
        line(&mut text, "hop", &format!("{}{proven}", hop.hop));
        if let Some(trouble) = &hop.trouble {
            line(&mut text, "", trouble);
        }
        for host in &hop.hosts {
            let HostSeen { name, address, preference, demand, .. } = host;
            line(&mut text, "host", &format!("{preference} {name} [{address}]: {demand}"));
            host.tlsa.iter().for_each(|record| line(&mut text, "TLSA", record));
        }
    }
    let Outlook { destination, at_a_time, messages_per_connection, hosts_per_attempt, .. } =
        outlook;
    let whose = outlook.provider.as_ref().map_or(destination, |provider| provider);
    let limits = format!(
        "{whose}: {at_a_time} attempts at a time, {hosts_per_attempt} hosts in each, \
         {messages_per_connection} messages over one connection"
    );
    line(&mut text, "limits", &limits);
    text
}

/// Nothing that a stranger publishes steers the terminal.
fn line(text: &mut String, name: &str, value: &str) {
    let _ = writeln!(text, "{name:<9}{}", plain(value));
}

/// The resolver, as the web client asks it.
#[derive(Debug)]
struct Names(Arc<Hickory>);

#[async_trait]
impl Addresses for Names {
    async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, String> {
        let complete = format!("{}.", host.trim_end_matches('.'));
        self.0.addresses(&complete).await.map_err(|error| error.to_string())
    }
}

/// Keeps nothing: the relay's spool may be in use.
#[derive(Debug)]
struct Forgetful;

#[async_trait]
impl Ledger for Forgetful {
    async fn get(&self, _: &str, _: Timestamp) -> Result<Option<Bytes>, LedgerError> {
        Ok(None)
    }

    async fn put(&self, _: &str, _: Bytes, _: Option<Timestamp>) -> Result<(), LedgerError> {
        Ok(())
    }

    async fn remove(&self, _: &str) -> Result<(), LedgerError> {
        Ok(())
    }

    async fn list(
        &self,
        _: &str,
        _: usize,
        _: Timestamp,
    ) -> Result<Vec<(String, Bytes)>, LedgerError> {
        Ok(Vec::new())
    }
}
