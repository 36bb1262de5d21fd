//! The configuration file as a model: every key that exists is read here, once.

mod auth;
mod bounces;
mod door;
mod history;
mod limits;
mod listener;
mod plugin;
mod policy;
mod provider;
mod queue;
mod route;
mod token;
mod verify;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use waypost_inbound::{CertificateRule, ListenerKind, Place};
use waypost_mail::{DomainPattern, Network};
use waypost_queue::Rate;
use waypost_smtp::{Domain, Mailbox};

use crate::mistake::Notes;
use crate::names::Name;
use crate::section::{At, Section};
use crate::units::{Octets, Span};

pub(crate) use auth::AuthSection;
pub(crate) use bounces::{Bounces, NoticeSign, Suppression};
pub(crate) use door::{Clients, Door, Tls, Xclient};
pub(crate) use history::History;
pub(crate) use limits::{Limits, Strict};
pub(crate) use listener::Http;
pub(crate) use plugin::{Granted, Plugin, Resource};
pub(crate) use policy::{Policy, ProxyPlace, Source};
pub(crate) use provider::{Pack, Provider, pack};
pub(crate) use queue::{Class, Curve, Queue};
pub(crate) use route::{Auth, Certificate, Hop, Route, Secret, Via};
pub(crate) use token::{Issuer, OAuth};
pub(crate) use verify::{Verify, Vouching};

const SPAN: &str = "write a number and a unit: 30s, 5m, 2h, 5d";
const OCTETS: &str = "write a number and a unit: 64KiB, 25MiB, 1GiB";
const PATTERN: &str = "write \"example.org\", \"*.example.org\" or \"*\"";
const NETWORK: &str = "write an address with its prefix length, 192.0.2.0/24 or 2001:db8::/32";
/// The longest that submitters may be kept waiting for their next hop.
const LONGEST_PATIENCE: Duration = Duration::from_secs(300);
const ADDRESS: &str = "write an address and a port: \"0.0.0.0:25\" or \"[::]:25\"";

/// The whole file.
#[derive(Debug)]
pub(crate) struct File {
    pub(crate) hostname: At<Domain>,
    pub(crate) postmaster: Option<At<Mailbox>>,
    pub(crate) origin: Option<At<Domain>>,
    pub(crate) spool: Spool,
    pub(crate) admin: Admin,
    pub(crate) log: Log,
    pub(crate) process: Process,
    pub(crate) listeners: Vec<Listener>,
    pub(crate) tls: Tls,
    pub(crate) users_file: Option<At<PathBuf>>,
    pub(crate) http: Http,
    pub(crate) auth: AuthSection,
    pub(crate) networks: Vec<At<Network>>,
    pub(crate) domains: Vec<At<DomainPattern>>,
    /// Certificates of clients that may relay.
    pub(crate) admitted: Vec<At<CertificateRule>>,
    pub(crate) routes: Vec<Route>,
    /// Signing keys by name.
    pub(crate) keys: Named<At<PathBuf>>,
    pub(crate) policy: Policy,
    pub(crate) plugins: Vec<Plugin>,
    pub(crate) verify: Verify,
    pub(crate) dkim2: Vec<Vouching>,
    pub(crate) dns: Dns,
    pub(crate) delivery: Delivery,
    pub(crate) providers: Vec<Provider>,
    pub(crate) tls_reports: Option<TlsReports>,
    pub(crate) history: History,
    pub(crate) replies: Replies,
    pub(crate) suppression: Suppression,
    pub(crate) bounces: Option<Bounces>,
    /// Signatures of our own notices.
    pub(crate) notices: Vec<NoticeSign>,
    pub(crate) queue: Queue,
    pub(crate) limits: Limits,
    pub(crate) strict: Strict,
}

/// What the operator gave names to, in the order of the names.
pub(crate) type Named<T> = Vec<(At<Name>, T)>;

#[derive(Debug)]
pub(crate) struct Spool {
    pub(crate) path: At<PathBuf>,
    pub(crate) keep_free: Option<u64>,
    pub(crate) reserve: Option<u64>,
    pub(crate) cache: Option<u64>,
}

#[derive(Debug)]
pub(crate) struct Admin {
    pub(crate) socket: PathBuf,
    pub(crate) listen: Option<At<SocketAddr>>,
}

#[derive(Debug)]
pub(crate) struct Log {
    pub(crate) level: String,
    pub(crate) json: bool,
}

#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) user: Option<At<String>>,
    pub(crate) group: Option<At<String>>,
}

#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) name: At<String>,
    pub(crate) kind: ListenerKind,
    pub(crate) place: At<Place>,
    pub(crate) door: Door,
}

#[derive(Debug, Default)]
pub(crate) struct Dns {
    pub(crate) servers: Vec<SocketAddr>,
    pub(crate) trust_anchor: Option<At<PathBuf>>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) family: Option<String>,
}

/// Reports about TLS to the domains that want them.
#[derive(Debug)]
pub(crate) struct TlsReports {
    pub(crate) from: At<Mailbox>,
    pub(crate) organization: Option<String>,
    pub(crate) contact: Option<String>,
    pub(crate) key: Option<At<String>>,
    pub(crate) selector: Option<At<String>>,
    pub(crate) domain: Option<At<Domain>>,
}

#[derive(Debug, Default)]
pub(crate) struct Delivery {
    pub(crate) mx_port: Option<u16>,
    pub(crate) idle: Option<Duration>,
    pub(crate) messages_per_connection: Option<u32>,
    pub(crate) recipients: Option<usize>,
    pub(crate) connection_rate: Option<Rate>,
    pub(crate) chunking: Option<bool>,
    /// A file of providers.
    pub(crate) providers: Option<At<PathBuf>>,
    pub(crate) hosts_per_attempt: Option<usize>,
    pub(crate) priority_field: Option<bool>,
    pub(crate) connect_timeout: Option<Duration>,
    pub(crate) reply_timeout: Option<Duration>,
    pub(crate) cut_through_patience: Option<Duration>,
    pub(crate) dane: Option<bool>,
    pub(crate) mta_sts: Option<bool>,
}

/// Rules that read replies.
#[derive(Debug)]
pub(crate) struct Replies {
    pub(crate) rules: Option<At<PathBuf>>,
    pub(crate) built_in: bool,
}

/// Reads the model. `None` when something without which there is no model is missing; whatever is
/// wrong is in `notes`.
pub(crate) fn read(mut top: Section<'_>, notes: &mut Notes<'_>) -> Option<File> {
    let hostname = top.parsed("hostname", "this relay's own full name", notes);
    let hostname = top.required("hostname", hostname, "hostname = \"relay.example.org\"", notes);
    let postmaster = top.parsed("postmaster", "a mail address", notes);
    let origin = top.parsed("origin", "the domain of addresses that come without one", notes);
    let spool = spool(top.section("spool", notes), &mut top, notes);
    let admin = admin(top.section("admin", notes), notes);
    let log = log(top.section("log", notes), notes);
    let process = process(top.section("process", notes), notes);
    let listeners = listeners(top.sections("listener", notes), notes);
    let tls = door::tls(top.section("tls", notes), notes);
    let users_file = top.section("users", notes).and_then(|mut section| {
        let file = path(&mut section, "file", notes);
        let file = section.required("file", file, "file = \"/etc/waypost/users\"", notes);
        section.end(notes);
        file
    });
    let auth = auth::auth(top.section("auth", notes), notes);
    let http = listener::http(top.section("http", notes), notes);
    let (networks, domains, admitted) = relay(top.section("relay", notes), notes);
    let routes = top.sections("route", notes).into_iter();
    let routes = routes.filter_map(|section| route::route(section, notes)).collect();
    let keys = policy::keys(top.section("keys", notes), notes);
    let policy = policy::policy(top.section("policy", notes), notes);
    let plugins = top.sections("plugin", notes).into_iter();
    let plugins = plugins.filter_map(|section| plugin::plugin(section, notes)).collect();
    let verify = verify::verify(top.section("verify", notes), notes);
    let dkim2 = top.sections("dkim2", notes).into_iter();
    let dkim2 = dkim2.filter_map(|section| verify::vouching(section, notes)).collect();
    let dns = dns(top.section("dns", notes), notes);
    let delivery = delivery(top.section("delivery", notes), notes);
    let providers = provider::providers(&mut top, notes);
    let tls_reports = tls_reports(top.section("tls-reports", notes), notes);
    let replies = replies(top.section("replies", notes), notes);
    let suppression = bounces::suppression(top.section("suppression", notes), notes);
    let bounces = bounces::bounces(top.section("bounces", notes), notes);
    let notices = bounces::notices(top.section("notices", notes), notes);
    let history = history::history(top.section("history", notes), notes);
    let queue = queue::queue(top.section("queue", notes), notes);
    let limits = limits::limits(top.section("limits", notes), notes);
    let strict = limits::strict(top.section("strictness", notes), notes);
    top.end(notes);
    Some(File {
        hostname: hostname?,
        postmaster,
        origin,
        spool: spool?,
        admin,
        log,
        process,
        listeners,
        tls,
        users_file,
        http,
        auth,
        networks,
        domains,
        admitted,
        routes,
        keys,
        policy,
        plugins,
        verify,
        dkim2,
        dns,
        delivery,
        providers,
        tls_reports,
        history,
        replies,
        suppression,
        bounces,
        notices,
        queue,
        limits,
        strict,
    })
}

fn listeners(sections: Vec<Section<'_>>, notes: &mut Notes<'_>) -> Vec<Listener> {
    // One that is wrong is there, and has its own mistakes.
    if sections.is_empty() {
        let hint = "[[listener]] with kind = \"relay\" and address = \"0.0.0.0:25\"";
        notes.add_to_file("there is no listener, so no mail can come in", hint);
    }
    sections.into_iter().filter_map(|section| listener::listener(section, notes)).collect()
}

fn spool(
    section: Option<Section<'_>>,
    top: &mut Section<'_>,
    notes: &mut Notes<'_>,
) -> Option<Spool> {
    let hint = "[spool] with path = \"/var/spool/waypost\"";
    let Some(mut section) = section else {
        top.required::<()>("spool.path", None, hint, notes);
        return None;
    };
    let path = path(&mut section, "path", notes);
    let path = section.required("path", path, hint, notes);
    let keep_free = octets(&mut section, "keep-free", notes);
    let reserve = octets(&mut section, "reserve", notes);
    let cache = octets(&mut section, "cache", notes);
    section.end(notes);
    Some(Spool { path: path?, keep_free, reserve, cache })
}

fn admin(section: Option<Section<'_>>, notes: &mut Notes<'_>) -> Admin {
    let mut admin = Admin { socket: PathBuf::from("/run/waypost/admin.sock"), listen: None };
    if let Some(mut section) = section {
        if let Some(socket) = path(&mut section, "socket", notes) {
            admin.socket = socket.value;
        }
        admin.listen = section.parsed("listen", ADDRESS, notes);
        section.end(notes);
    }
    admin
}

fn log(section: Option<Section<'_>>, notes: &mut Notes<'_>) -> Log {
    let mut log = Log { level: "info".to_owned(), json: false };
    if let Some(mut section) = section {
        let levels = ["error", "warn", "info", "debug", "trace"];
        if let Some(level) = one_of(&mut section, "level", &levels, notes) {
            log.level = level;
        }
        let format = one_of(&mut section, "format", &["text", "json"], notes);
        log.json = format.as_deref() == Some("json");
        section.end(notes);
    }
    log
}

fn process(section: Option<Section<'_>>, notes: &mut Notes<'_>) -> Process {
    let mut process = Process { user: None, group: None };
    if let Some(mut section) = section {
        process.user = section.string("user", notes);
        process.group = section.string("group", notes);
        section.end(notes);
    }
    process
}

type Relay = (Vec<At<Network>>, Vec<At<DomainPattern>>, Vec<At<CertificateRule>>);

fn relay(section: Option<Section<'_>>, notes: &mut Notes<'_>) -> Relay {
    let Some(mut section) = section else { return Relay::default() };
    let networks = section.list("networks", NETWORK, notes).map_or_else(Vec::new, |l| l.value);
    let domains = section.list("domains", PATTERN, notes).map_or_else(Vec::new, |l| l.value);
    let hint = "write a fingerprint, \"sha256:…\", or an alternative name of the certificate";
    let admitted = section.list("certificates", hint, notes).map_or_else(Vec::new, |l| l.value);
    section.end(notes);
    (networks, domains, admitted)
}

fn dns(section: Option<Section<'_>>, notes: &mut Notes<'_>) -> Dns {
    let Some(mut section) = section else { return Dns::default() };
    let servers =
        section.list::<Server>("servers", "write an address, with a port if not 53", notes);
    let families = ["both", "ipv4-first", "ipv6-first", "ipv4-only", "ipv6-only"];
    let dns = Dns {
        servers: servers
            .map_or_else(Vec::new, |l| l.value.into_iter().map(|s| s.value.0).collect()),
        trust_anchor: path(&mut section, "trust-anchor", notes),
        timeout: span(&mut section, "timeout", notes),
        family: one_of(&mut section, "family", &families, notes),
    };
    section.end(notes);
    dns
}

/// A DNS server: an address, with port 53 where none is given.
struct Server(SocketAddr);

impl std::str::FromStr for Server {
    type Err = String;
    fn from_str(text: &str) -> Result<Server, String> {
        let bare = text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 53));
        bare.or_else(|_| text.parse()).map(Server).map_err(|_| format!("'{text}' is no address"))
    }
}

fn delivery(section: Option<Section<'_>>, notes: &mut Notes<'_>) -> Delivery {
    let Some(mut section) = section else { return Delivery::default() };
    let delivery = Delivery {
        mx_port: port(&mut section, "mx-port", notes),
        idle: span(&mut section, "idle", notes),
        messages_per_connection: count(&mut section, "messages-per-connection", notes),
        recipients: count(&mut section, "recipients-per-transaction", notes),
        connection_rate: queue::rate(&mut section, "connection-rate", notes),
        chunking: section.boolean("chunking", notes).map(|chunking| chunking.value),
        providers: path(&mut section, "providers", notes),
        hosts_per_attempt: count(&mut section, "hosts-per-attempt", notes),
        priority_field: section.boolean("priority-field", notes).map(|field| field.value),
        connect_timeout: span(&mut section, "connect-timeout", notes),
        reply_timeout: span(&mut section, "reply-timeout", notes),
        cut_through_patience: patience(&mut section, notes),
        dane: section.boolean("dane", notes).map(|dane| dane.value),
        mta_sts: section.boolean("mta-sts", notes).map(|sts| sts.value),
    };
    section.end(notes);
    delivery
}

/// How long submitters wait for their next hop: they give up after 10 minutes (RFC 5321 §4.5.3.2.6), and
/// some of what they give us is needed for the rest.
fn patience(section: &mut Section<'_>, notes: &mut Notes<'_>) -> Option<Duration> {
    let given = section.parsed::<Span>("cut-through-patience", SPAN, notes)?;
    let wait = given.value.0;
    if wait < Duration::from_secs(1) || wait > LONGEST_PATIENCE {
        let message = "'delivery.cut-through-patience' is not between 1s and 5m";
        let hint = "submitters give up after ten minutes, many of them sooner: 1m is usual";
        notes.add(&given.at, message, hint);
        return None;
    }
    Some(wait)
}

fn tls_reports(section: Option<Section<'_>>, notes: &mut Notes<'_>) -> Option<TlsReports> {
    let mut section = section?;
    let from = section.parsed("from", "a mail address", notes);
    let from = section.required("from", from, "from = \"tls-reports@example.org\"", notes);
    let organization = section.string("organization", notes).map(|text| text.value);
    let contact = section.string("contact", notes).map(|text| text.value);
    let key = section.string("key", notes);
    let selector = section.string("selector", notes);
    let domain = section.parsed("domain", "a domain", notes);
    let at = section.at().clone();
    section.end(notes);
    if key.is_some() != selector.is_some() {
        let message = "'tls-reports' has only one of 'key' and 'selector'";
        notes.add(&at, message, "both sign the reports, none leaves them unsigned");
    }
    Some(TlsReports { from: from?, organization, contact, key, selector, domain })
}

fn replies(section: Option<Section<'_>>, notes: &mut Notes<'_>) -> Replies {
    let mut replies = Replies { rules: None, built_in: true };
    if let Some(mut section) = section {
        replies.rules = path(&mut section, "rules", notes);
        replies.built_in = section.boolean("built-in", notes).is_none_or(|b| b.value);
        section.end(notes);
    }
    replies
}

fn path(section: &mut Section<'_>, key: &str, notes: &mut Notes<'_>) -> Option<At<PathBuf>> {
    let text = section.string(key, notes)?;
    if text.value.is_empty() {
        notes.add(
            &text.at,
            format!("'{}' is empty", section.path(key)),
            "write the path of a file",
        );
        return None;
    }
    Some(At { value: PathBuf::from(text.value), at: text.at })
}

fn span(section: &mut Section<'_>, key: &str, notes: &mut Notes<'_>) -> Option<Duration> {
    let span = section.parsed::<Span>(key, SPAN, notes)?;
    if span.value.0.is_zero() {
        notes.add(&span.at, format!("'{}' cannot be zero", section.path(key)), SPAN);
        return None;
    }
    Some(span.value.0)
}

fn octets(section: &mut Section<'_>, key: &str, notes: &mut Notes<'_>) -> Option<u64> {
    section.parsed::<Octets>(key, OCTETS, notes).map(|octets| octets.value.0)
}

fn port(section: &mut Section<'_>, key: &str, notes: &mut Notes<'_>) -> Option<u16> {
    section.integer(key, 1..65_536, notes).and_then(|port| u16::try_from(port.value).ok())
}

fn count<T: TryFrom<u64>>(
    section: &mut Section<'_>,
    key: &str,
    notes: &mut Notes<'_>,
) -> Option<T> {
    section.integer(key, 1..1_000_001, notes).and_then(|count| T::try_from(count.value).ok())
}

fn one_of(
    section: &mut Section<'_>,
    key: &str,
    words: &[&str],
    notes: &mut Notes<'_>,
) -> Option<String> {
    let text = section.string(key, notes)?;
    if words.contains(&text.value.as_str()) {
        return Some(text.value);
    }
    let message = format!("'{}' cannot be '{}'", section.path(key), text.value);
    notes.add(&text.at, message, &format!("one of: {}", words.join(", ")));
    None
}
