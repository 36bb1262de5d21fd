//! From the model to each room's own settings. Here the world is read: secrets, certificates,
//! users, trusted authorities, signing keys.

mod auth;
mod bounces;
mod door;
mod limits;
mod policy;
mod provider;
mod verify;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use waypost_delivery::{ClientTls, ReportsConfig, Timeouts};
use waypost_dns::{Family, Hickory};
use waypost_inbound::{
    Bearers, HttpSettings, ListenerConfig, ListenerKind, Place, Users, UsersError,
};
use waypost_intake::{Hosts, NamedHop, RouteRule, Routing, Share};
use waypost_mail::{NextHop, Rulebook, SignRequest};
use waypost_queue::{Class, RetryCurve, Tenancy};
use waypost_smtp::client::Credentials;

use crate::file::{self, File};
use crate::mistake::Notes;
use crate::settings::{Door, LogSettings, Places, Process, Reload, Settings, Startup};
use crate::{replies, roots, secret};

/// The settings of every room, unless something named in the file cannot be used.
pub(crate) fn lower(file: &File, notes: &mut Notes<'_>) -> Option<Settings> {
    let (routing, credentials) = routing(file, notes);
    let certificates = certificates(file, notes);
    let inbound = inbound(file, notes);
    let mut delivery = delivery(file, &credentials, &certificates, notes);
    check_dns(file, notes);
    let replies = replies(file, notes);
    let keys = policy::keys(file, notes);
    let verification = verify::verify(file, &keys, notes);
    let keys = verify::copy_signers(file, keys, notes);
    let plugins = policy::policy(file, notes);
    let host = policy::host(file, notes);
    let places = places(file);
    let intake = intake(file);
    let queue = queue(file, intake.lifetime);
    let mut provider_pack = None;
    if let Some(delivery) = &mut delivery {
        (delivery.providers, provider_pack) =
            provider::providers(file, &queue, delivery.allowance, notes);
    }
    let startup = Startup {
        doors: file.listeners.iter().map(door).collect(),
        admin_tcp: file.admin.listen.as_ref().map(|listen| listen.value),
        log: LogSettings { level: file.log.level.clone(), json: file.log.json },
        process: Process {
            user: file.process.user.as_ref().map(|user| user.value.clone()),
            group: file.process.group.as_ref().map(|group| group.value.clone()),
        },
        spool: spool(file),
        policy: host,
        watch_plugins: file.policy.watch,
        login_secret: places.spool.join("login.secret"),
        bounces: bounces::bounces(file, &places.spool),
        places,
        queue,
        intake,
        dns: dns(file),
        delivery: delivery?,
        provider_pack,
        tls_reports: tls_reports(file, notes),
        history: history(file),
    };
    Some(Settings {
        startup,
        reload: Reload {
            inbound: inbound?,
            routing,
            credentials,
            certificates,
            replies: replies?,
            suppression: bounces::suppression(file),
            keys,
            verification,
            policy: plugins,
        },
    })
}

/// Where a running program and its spool are.
pub(crate) fn places(file: &File) -> Places {
    Places {
        socket: file.admin.socket.clone(),
        spool: file.spool.path.value.clone(),
        history: history(file).map(|history| history.directory),
        users: file.users_file.as_ref().map(|users| users.value.clone()),
        queue: queue(file, intake(file).lifetime),
        tokens: file.http.tokens.as_ref().map(|tokens| tokens.value.clone()),
        local: file.listeners.iter().find(|l| l.kind == ListenerKind::Local).and_then(socket),
    }
}

fn socket(listener: &file::Listener) -> Option<std::path::PathBuf> {
    match &listener.place.value {
        Place::Unix { path, .. } => Some(path.clone()),
        Place::Tcp(_) => None,
    }
}

fn door(listener: &file::Listener) -> Door {
    let config = ListenerConfig { name: listener.name.value.clone(), kind: listener.kind };
    Door { config, place: listener.place.value.clone() }
}

fn history(file: &File) -> Option<waypost_history::Config> {
    let given = &file.history;
    let usual = waypost_history::Config::beside(&file.spool.path.value);
    given.enabled.unwrap_or(true).then(|| waypost_history::Config {
        size: given.size.unwrap_or(usual.size),
        age: given.age.unwrap_or(usual.age),
        dialogue: given.dialogue.unwrap_or(usual.dialogue),
        directory: usual.directory,
    })
}

fn spool(file: &File) -> waypost_spool::Config {
    let mut spool = waypost_spool::Config::new(file.spool.path.value.clone());
    spool.keep_free = file.spool.keep_free.unwrap_or(spool.keep_free);
    spool.reserve = file.spool.reserve.unwrap_or(spool.reserve);
    spool.cache = file.spool.cache.unwrap_or(spool.cache);
    spool
}

fn queue(file: &File, lifetime: Duration) -> waypost_queue::Config {
    let mut queue = waypost_queue::Config { lifetime, ..waypost_queue::Config::default() };
    let given = &file.queue;
    queue.retry = curve(&given.retry, queue.retry);
    queue.resting.first = queue.resting.first.min(queue.retry.shortest());
    queue.resting.max = queue.resting.max.min(queue.retry.longest());
    queue.tenancy = match given.tenant.as_deref() {
        Some("user-domain") => Tenancy::UserDomain,
        Some("sender-domain") => Tenancy::SenderDomain,
        Some("listener") => Tenancy::Listener,
        _ => Tenancy::User,
    };
    queue.doubt = given.unknown.unwrap_or(queue.doubt);
    queue.verp = given.verp.as_ref().is_some_and(|verp| verp.value);
    queue.delay_notices = given.delay_notices.clone().unwrap_or(queue.delay_notices);
    queue.per_destination = given.per_destination.unwrap_or(queue.per_destination);
    queue.first_per_destination =
        given.first_per_destination.unwrap_or(queue.first_per_destination);
    queue.rate_per_destination = given.rate_per_destination;
    queue.recipients_per_transaction =
        file.delivery.recipients.unwrap_or(queue.recipients_per_transaction);
    queue.in_flight = given.in_flight.unwrap_or(queue.in_flight);
    queue.classes = given.classes.iter().map(|given| class(given, &queue)).collect();
    queue
}

/// What is left open is as in `usual`. Who says how waits grow wants no list, and the other way round.
fn curve(given: &file::Curve, usual: RetryCurve) -> RetryCurve {
    let grows = given.first.is_some() || given.max.is_some() || given.factor.is_some();
    let usual = RetryCurve { steps: if grows { Vec::new() } else { usual.steps }, ..usual };
    let first = given.first.as_ref().map_or(usual.first, |first| first.value);
    RetryCurve {
        steps: given.steps.as_ref().map_or(usual.steps, |steps| steps.value.clone()),
        first,
        factor: given.factor.as_ref().map_or(usual.factor, |factor| factor.value),
        max: given.max.as_ref().map_or(usual.max, |max| max.value).max(first),
        jitter: given.jitter.as_ref().map_or(usual.jitter, |jitter| jitter.value),
    }
}

/// What a class leaves open is as for all mail.
fn class(given: &file::Class, queue: &waypost_queue::Config) -> Class {
    let mut class = Class::usual(given.name.value.clone(), queue);
    class.matches = given.matches.as_ref().map(|matches| matches.value.clone());
    class.retry = curve(&given.retry, class.retry);
    class.lifetime = given.lifetime.unwrap_or(class.lifetime);
    class.delay_notices = given.delay_notices.clone().unwrap_or(class.delay_notices);
    class.weight = given.weight.unwrap_or(class.weight);
    class.rate = given.rate;
    class.windows = given.windows.clone();
    class.doubt = given.unknown.unwrap_or(class.doubt);
    class.verp = given.verp.as_ref().map_or(class.verp, |verp| verp.value);
    class
}

fn intake(file: &File) -> waypost_intake::Config {
    let usual = waypost_intake::Config::default();
    waypost_intake::Config {
        hostname: file.hostname.value.to_string(),
        max_hops: file.limits.hops.unwrap_or(usual.max_hops),
        body_memory: file.limits.body_memory.map_or(usual.body_memory, |octets| octets as usize),
        max_messages: file.queue.max_messages.unwrap_or(usual.max_messages),
        max_octets: file.queue.max_size.unwrap_or(usual.max_octets),
        max_header_fields: file.limits.header_fields.unwrap_or(usual.max_header_fields),
        lifetime: file.queue.lifetime.unwrap_or(usual.lifetime),
        sign_notices: bounces::signatures(file),
        ..usual
    }
}

fn dns(file: &File) -> waypost_dns::Config {
    let usual = waypost_dns::Config::default();
    waypost_dns::Config {
        servers: file.dns.servers.clone(),
        trust_anchor: file.dns.trust_anchor.as_ref().map(|anchor| anchor.value.clone()),
        timeout: file.dns.timeout.unwrap_or(usual.timeout),
        family: match file.dns.family.as_deref() {
            Some("ipv4-first") => Family::V4First,
            Some("ipv6-first") => Family::V6First,
            Some("ipv4-only") => Family::V4Only,
            Some("ipv6-only") => Family::V6Only,
            _ => usual.family,
        },
    }
}

/// What can be wrong with the resolver's settings shows when one is made.
fn check_dns(file: &File, notes: &mut Notes<'_>) {
    if let (Some(anchor), Err(error)) = (&file.dns.trust_anchor, Hickory::new(dns(file))) {
        notes.add(&anchor.at, error.to_string(), "");
    }
}

fn inbound(file: &File, notes: &mut Notes<'_>) -> Option<waypost_inbound::Settings> {
    let mut settings = waypost_inbound::Settings::new(file.hostname.value.to_string());
    settings.relay.networks = file.networks.iter().map(|network| network.value).collect();
    settings.relay.domains = file.domains.iter().map(|domain| domain.value.clone()).collect();
    settings.origin = file.origin.as_ref().map(|origin| origin.value.clone());
    settings.postmaster = file.postmaster.as_ref().map(|postmaster| postmaster.value.clone());
    limits::lower(file, &mut settings);
    settings.http = http(file, notes)?;
    settings.users = users(file, notes)?;
    settings.auth = auth::auth(file, notes)?;
    settings.relay.certificates = file.admitted.iter().map(|rule| rule.value.clone()).collect();
    door::tls(file, &mut settings, notes)?;
    Some(settings)
}

fn http(file: &File, notes: &mut Notes<'_>) -> Option<HttpSettings> {
    let (given, usual) = (&file.http, HttpSettings::default());
    let tokens = match &given.tokens {
        None => Bearers::default(),
        Some(path) => match Bearers::load(&path.value) {
            Ok(tokens) => tokens,
            Err(error) => {
                notes.add(&path.at, error.to_string(), "waypost token add NAME makes the file");
                return None;
            }
        },
    };
    Some(HttpSettings {
        tokens,
        max_requests: given.requests.unwrap_or(usual.max_requests),
        max_json_size: given.json_size.unwrap_or(usual.max_json_size),
        body_timeout: given.body_timeout.unwrap_or(usual.body_timeout),
        key_lifetime: given.key_lifetime.unwrap_or(usual.key_lifetime),
    })
}

fn users(file: &File, notes: &mut Notes<'_>) -> Option<Users> {
    let Some(path) = &file.users_file else { return Some(Users::new([])) };
    match Users::load(&path.value) {
        Ok(users) if users.is_empty() && file.listeners.iter().any(|l| l.kind.wants_login()) => {
            let message = format!("{} has no users, so nobody can log in", path.value.display());
            notes.add(&path.at, message, "waypost user add NAME");
            None
        }
        Ok(users) => Some(users),
        Err(error @ UsersError::Io { .. }) => {
            notes.add(&path.at, error.to_string(), "waypost user add NAME makes the file");
            None
        }
        Err(error) => {
            notes.add(&path.at, error.to_string(), "");
            None
        }
    }
}

/// The rules that read replies: the operator's own in front of ours.
pub(crate) fn replies(file: &File, notes: &mut Notes<'_>) -> Option<Arc<Rulebook>> {
    let built_in = match replies::built_in() {
        Ok(_) if !file.replies.built_in => Rulebook::default(),
        Ok(book) => book,
        Err(mistakes) => {
            notes.add_to_file(mistakes.to_string(), "this is a bug of Waypost");
            return None;
        }
    };
    let Some(path) = &file.replies.rules else { return Some(Arc::new(built_in)) };
    let source = match std::fs::read_to_string(&path.value) {
        Ok(source) => source,
        Err(error) => {
            let message = format!("cannot read {}: {error}", path.value.display());
            notes.add(&path.at, message, "docs/replies.md says what is in it");
            return None;
        }
    };
    let mut own = Notes::new(&path.value, &source);
    let book = replies::read(&source, built_in, &mut own);
    notes.adopt(own, &path.at);
    book.map(Arc::new)
}

fn routing(file: &File, notes: &mut Notes<'_>) -> (Routing, HashMap<String, Credentials>) {
    let mut routing = Routing::default();
    let mut credentials = HashMap::new();
    for route in &file.routes {
        let via = match &route.via {
            file::Via::Mx => waypost_intake::Via::Mx,
            file::Via::Hosts(hops) => waypost_intake::Via::Hosts(hosts(hops, &route.auth)),
            file::Via::Fail(reply) => waypost_intake::Via::Fail(reply.clone()),
            file::Via::Discard => waypost_intake::Via::Discard,
        };
        let nowhere = Hosts::default();
        let at = match &via {
            waypost_intake::Via::Hosts(hosts) => hosts,
            _ => &nowhere,
        };
        let credentials = log_in(&route.auth, at, &mut credentials, notes);
        let domains = route.domains.iter().map(|domain| domain.value.clone()).collect();
        let source = route.source.as_ref().map(|pool| pool.value.0.clone());
        let (tls, heed, convert) = (route.tls, route.heed, route.convert);
        let certificate = route.certificate.as_ref().map(certificate_name);
        routing.rules.push(RouteRule {
            domains,
            via,
            source,
            tls,
            credentials,
            heed,
            certificate,
            convert,
            cut_through: route.cut_through,
        });
    }
    for (name, hop) in &file.policy.hops {
        let hosts = hosts(&hop.via, &hop.auth);
        let credentials = log_in(&hop.auth, &hosts, &mut credentials, notes);
        let hop = NamedHop { hosts, tls: hop.tls, credentials };
        routing.named.insert(name.value.0.clone(), hop);
    }
    (routing, credentials)
}

/// Hosts stand one behind the other, unless one of them says how they share.
fn hosts(hops: &[file::Hop], auth: &Option<file::Auth>) -> Hosts {
    let usual = if auth.is_some() { 587 } else { 25 };
    let host = |hop: &file::Hop| match hop.lmtp {
        true => NextHop::Lmtp { host: hop.host.clone(), port: hop.port.unwrap_or(24) },
        false => NextHop::Host {
            host: hop.host.clone(),
            port: hop.port.unwrap_or(if hop.implicit_tls { 465 } else { usual }),
            implicit_tls: hop.implicit_tls,
        },
    };
    if hops.iter().all(|hop| hop.priority.is_none() && hop.weight.is_none()) {
        return hops.iter().map(host).collect::<Vec<_>>().into();
    }
    let share = |hop: &file::Hop| Share {
        hop: host(hop),
        priority: hop.priority.unwrap_or(0),
        weight: hop.weight.unwrap_or(1),
    };
    Hosts::new(hops.iter().map(share).collect())
}

/// Adds the login at `hosts` to all others, and gives its name.
fn log_in(
    auth: &Option<file::Auth>,
    hosts: &Hosts,
    credentials: &mut HashMap<String, Credentials>,
    notes: &mut Notes<'_>,
) -> Option<String> {
    let auth = auth.as_ref()?;
    let name = login_name(auth, hosts);
    let login = login(auth, notes)?;
    let other = credentials.insert(name.clone(), login.clone());
    if other.is_some_and(|other| other != login) {
        let message = format!("{name} has another password in an earlier route");
        notes.add(&auth.at, message, "use the same password, or another user");
    }
    Some(name)
}

/// A login is called by whom it is for and where: waiting mail keeps the name, and must never log
/// in with another host's password once routes have changed.
fn login_name(auth: &file::Auth, hosts: &Hosts) -> String {
    let hosts: Vec<String> = hosts.shares().iter().map(|share| share.hop.to_string()).collect();
    format!("{} at {}", auth.user, hosts.join(", "))
}

fn login(auth: &file::Auth, notes: &mut Notes<'_>) -> Option<Credentials> {
    let password = secret::read(&auth.password, notes)?;
    match Credentials::new(auth.user.clone(), password) {
        Ok(credentials) => Some(credentials),
        Err(error) => {
            notes.add(&auth.at, error.to_string(), "");
            None
        }
    }
}

fn delivery(
    file: &File,
    credentials: &HashMap<String, Credentials>,
    certificates: &waypost_delivery::Certificates,
    notes: &mut Notes<'_>,
) -> Option<waypost_delivery::Config> {
    let roots = roots::load(file.tls.ca_file.as_ref(), notes)?;
    let tls = match ClientTls::new(roots) {
        Ok(tls) => tls,
        Err(error) => {
            notes.add_to_file(error.to_string(), "");
            return None;
        }
    };
    let given = &file.delivery;
    let mut delivery = waypost_delivery::Config::new(file.hostname.value.clone(), tls);
    delivery.mx_port = given.mx_port.unwrap_or(delivery.mx_port);
    delivery.credentials = credentials.clone();
    delivery.certificates = certificates.clone();
    delivery.sources = policy::sources(file, notes);
    delivery.hosts_per_attempt = given.hosts_per_attempt.unwrap_or(delivery.hosts_per_attempt);
    delivery.priority_field = given.priority_field.unwrap_or(delivery.priority_field);
    delivery.max_returned = file.queue.return_size.unwrap_or(delivery.max_returned);
    delivery.connections.idle = given.idle.unwrap_or(delivery.connections.idle);
    let allowance = &mut delivery.allowance;
    allowance.messages_per_connection =
        given.messages_per_connection.unwrap_or(allowance.messages_per_connection);
    allowance.recipients_per_transaction =
        given.recipients.unwrap_or(allowance.recipients_per_transaction);
    allowance.connection_rate = given.connection_rate;
    allowance.chunking = given.chunking.unwrap_or(allowance.chunking);
    delivery.timeouts = timeouts(given);
    delivery.patience = given.cut_through_patience.unwrap_or(delivery.patience);
    delivery.dane = given.dane.unwrap_or(delivery.dane);
    delivery.mta_sts = given.mta_sts.unwrap_or(delivery.mta_sts);
    Some(delivery)
}

/// A certificate is called by its file: waiting mail keeps the name.
fn certificate_name(certificate: &file::Certificate) -> String {
    certificate.chain.value.display().to_string()
}

/// The certificates that routes show, by their names.
fn certificates(file: &File, notes: &mut Notes<'_>) -> waypost_delivery::Certificates {
    let mut certificates = waypost_delivery::Certificates::new();
    for given in file.routes.iter().filter_map(|route| route.certificate.as_ref()) {
        match waypost_delivery::certificate(&given.chain.value, &given.key.value) {
            Ok(certificate) => {
                certificates.insert(certificate_name(given), Arc::new(certificate));
            }
            Err(error) => {
                let hint = "PEM files: the certificate and those above it, and its key";
                notes.add(&given.chain.at, error.to_string(), hint);
            }
        }
    }
    certificates
}

fn tls_reports(file: &File, notes: &mut Notes<'_>) -> Option<ReportsConfig> {
    let given = file.tls_reports.as_ref()?;
    let from = given.from.value.clone();
    let submitter = file.hostname.value.to_string();
    let domain =
        given.domain.as_ref().map_or_else(|| from.domain().to_string(), |d| d.value.to_string());
    if let Some(key) = &given.key
        && !file.keys.iter().any(|(name, _)| name.value.0 == key.value)
    {
        let message = format!("there is no [keys.{}]", key.value);
        notes.add(&key.at, message, "name one of [keys]");
    }
    let sign = given.key.as_ref().zip(given.selector.as_ref()).map(|(key, selector)| SignRequest {
        domain,
        selector: selector.value.clone(),
        key: key.value.clone(),
        headers: Vec::new(),
        oversign: Vec::new(),
        expire_after: None,
    });
    Some(ReportsConfig {
        organization: given.organization.clone().unwrap_or_else(|| submitter.clone()),
        contact: given.contact.clone().unwrap_or_else(|| from.to_string()),
        from,
        submitter,
        sign,
    })
}

/// `reply-timeout` shortens every wait for a reply that is longer; it lengthens none.
fn timeouts(given: &file::Delivery) -> Timeouts {
    let usual = Timeouts::default();
    let limit = given.reply_timeout.unwrap_or(Duration::MAX);
    Timeouts {
        connect: given.connect_timeout.unwrap_or(usual.connect),
        greeting: usual.greeting.min(limit),
        ehlo: usual.ehlo.min(limit),
        starttls: usual.starttls.min(limit),
        auth: usual.auth.min(limit),
        mail: usual.mail.min(limit),
        rcpt: usual.rcpt.min(limit),
        data: usual.data.min(limit),
        block: usual.block.min(limit),
        dot: usual.dot.min(limit),
        rset: usual.rset.min(limit),
        quit: usual.quit.min(limit),
    }
}
