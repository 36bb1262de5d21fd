//! The resolver that asks the network: hickory with its cache.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use hickory_resolver::config::{NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError as HickoryError, NetError};
use hickory_resolver::proto::dnssec::{Proof, TrustAnchors};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use hickory_resolver::proto::serialize::txt::ParseError;
use hickory_resolver::{
    ConnectionProvider, Resolver as HickoryResolver, ResolverBuilder, TokioResolver,
};
use prometheus_client::registry::Registry;
use rustls::{ClientConfig, RootCertStore};
use tokio::time::{Instant, timeout};

use crate::metrics::Metrics;
use crate::mx::{Mx, MxAnswer, is_host_name};
use crate::resolver::{DnsError, Family, Resolver};
use crate::sober::Sober;

/// Answers kept in memory; the oldest make room.
const CACHE_ANSWERS: u64 = 16_384;
/// "There is none" is believed for no longer than this, whatever the zone says: it bounces mail.
pub(crate) const LONGEST_NEGATIVE: Duration = Duration::from_secs(300);
/// An answer is believed for no longer than this.
const LONGEST_POSITIVE: Duration = Duration::from_secs(86_400);
/// PTR names of one address that are tried (RFC 8601 §2.7.3 asks for a limit).
const MAX_PTR: usize = 4;

/// How to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Recursive servers to ask. Empty: those of the system, from `/etc/resolv.conf`, and then
    /// `/etc/hosts` counts too.
    pub servers: Vec<SocketAddr>,
    /// A file of DNSKEY records in zone-file text (DS records are not understood). With it every
    /// answer is validated (RFC 4035 §5), and one that does not verify is an error; the servers
    /// must hand on signatures. Unsigned zones are believed where a signed parent proves that they
    /// are unsigned, so mail to the Internet needs the root's key in the file.
    pub trust_anchor: Option<PathBuf>,
    /// The longest wait for one question, second try and CNAMEs included.
    pub timeout: Duration,
    /// Which addresses of hosts to use.
    pub family: Family,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            servers: Vec::new(),
            trust_anchor: None,
            timeout: Duration::from_secs(10),
            family: Family::default(),
        }
    }
}

/// Why a resolver cannot be made: the configuration's or the system's fault.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The file of `trust_anchor`.
    #[error("cannot use {} as trust anchor: {reason}; it must hold DNSKEY records", path.display())]
    TrustAnchor {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// `/etc/resolv.conf`.
    #[error("the system names no DNS servers ({0}); list some in the configuration")]
    System(String),
    /// The program was built without what hickory needs.
    #[error("this program cannot ask DNS ({0}); use another build")]
    Build(String),
}

/// A [`Resolver`] that asks DNS servers and remembers the answers for as long as they say.
#[derive(Debug, Clone)]
pub struct Hickory {
    plain: TokioResolver,
    /// Asked instead where answers are validated.
    sober: Option<HickoryResolver<Sober>>,
    timeout: Duration,
    family: Family,
    metrics: Metrics,
}

impl Hickory {
    /// Reads the trust anchor and the system's configuration, as far as `config` says so.
    pub fn new(config: Config) -> Result<Hickory, SetupError> {
        let anchors = config.trust_anchor.clone().map(trust_anchors).transpose()?;
        let anchors = anchors.map(|(anchors, _)| Arc::new(anchors));
        let plain = resolver(&config, anchors.clone(), TokioRuntimeProvider::default())?;
        let sober = anchors.map(|anchors| resolver(&config, Some(anchors), Sober::default()));
        let sober = sober.transpose()?;
        let metrics = Metrics::default();
        Ok(Hickory { plain, sober, timeout: config.timeout, family: config.family, metrics })
    }

    /// Adds this resolver's counters to `registry`.
    pub fn register(&self, registry: &mut Registry) {
        self.metrics.register(registry);
    }

    /// This resolver's counters.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The resolver beneath, with its cache and servers, for who must have hickory's own: the library
    /// that verifies senders. With a trust anchor it validates too, but who can answer for the servers can
    /// make it take what is signed for unsigned: it is asked without the filter that this resolver has.
    pub fn beneath(&self) -> TokioResolver {
        self.plain.clone()
    }

    /// What the servers say, validated where there is a trust anchor.
    async fn ask(&self, question: &Question) -> Result<Lookup, NetError> {
        let (name, record_type) = (question.name.clone(), question.record_type);
        match &self.sober {
            None => self.plain.lookup(name, record_type).await,
            Some(sober) => sober.lookup(name, record_type).await,
        }
    }

    /// The records of one type, or that there are none.
    async fn records(&self, question: &Question) -> Result<Found, DnsError> {
        let began = Instant::now();
        let result = match timeout(self.timeout, self.ask(question)).await {
            Err(_) => Err(question.timed_out(self.timeout)),
            Ok(Err(error)) => question.read_error(&error, self.timeout),
            Ok(Ok(lookup)) => {
                let records = lookup.answers().iter().map(|record| &record.data);
                let wanted = records.filter(|data| data.record_type() == question.record_type);
                Ok(Found::from_records(wanted.cloned().collect()))
            }
        };
        self.metrics.asked(question.kind, label(&result), began.elapsed());
        result
    }

    /// What DNS says about `name`, whatever type is asked for: for policy, which knows more kinds of
    /// questions than mail does. `kind` is a record type in lower case, such as `txt`.
    ///
    /// # Errors
    /// When the question makes no sense, or there is no answer to believe.
    pub async fn lookup(&self, name: &str, kind: &str) -> Result<Answer, DnsError> {
        let bad = || DnsError::BadName(name.to_owned());
        let (label, record_type) =
            kind_of(kind).ok_or_else(|| DnsError::BadName(kind.to_owned()))?;
        let name = match name.parse::<IpAddr>() {
            Ok(ip) if record_type == RecordType::PTR => ip.to_canonical().into(),
            // Policy asks for names that are no host names: _dmarc.example.org.
            _ => complete(Name::from_ascii(name).map_err(|_| bad())?),
        };
        let began = Instant::now();
        let question = Question { name, kind: label, record_type };
        let found = match timeout(self.timeout, self.ask(&question)).await {
            Err(_) => Err(question.timed_out(self.timeout)),
            Ok(Err(error)) => question.read_error(&error, self.timeout).map(|found| Answer {
                nxdomain: matches!(found, Found::NoSuchName),
                ..Answer::default()
            }),
            Ok(Ok(lookup)) => Ok(answer(lookup.answers(), record_type)),
        };
        let result = match &found {
            Ok(answer) if !answer.records.is_empty() => "found",
            Ok(_) => "none",
            Err(_) => "failed",
        };
        self.metrics.asked(label, result, began.elapsed());
        found
    }

    async fn addresses_of(
        &self,
        name: &Name,
        kind: &'static str,
        record_type: RecordType,
    ) -> Result<Vec<IpAddr>, DnsError> {
        let question = Question { name: name.clone(), kind, record_type };
        Ok(self
            .records(&question)
            .await?
            .into_records()
            .iter()
            .filter_map(RData::ip_addr)
            .collect())
    }

    fn v4(&self, name: &Name) -> impl Future<Output = Result<Vec<IpAddr>, DnsError>> {
        self.addresses_of(name, "a", RecordType::A)
    }

    fn v6(&self, name: &Name) -> impl Future<Output = Result<Vec<IpAddr>, DnsError>> {
        self.addresses_of(name, "aaaa", RecordType::AAAA)
    }
}

#[async_trait]
impl Resolver for Hickory {
    async fn mx(&self, domain: &str) -> Result<MxAnswer, DnsError> {
        let name = complete(parse_name(domain)?);
        let question = Question { name, kind: "mx", record_type: RecordType::MX };
        let records = match self.records(&question).await? {
            Found::Records(records) => records,
            Found::None => return Ok(MxAnswer::Implicit),
            Found::NoSuchName => return Ok(MxAnswer::NoSuchDomain),
        };
        let exchangers = records.iter().filter_map(|data| match data {
            RData::MX(mx) => {
                Some(Mx { preference: mx.preference, exchange: plain_text(&mx.exchange) })
            }
            _ => None,
        });
        Ok(MxAnswer::from_records(exchangers.collect()))
    }

    async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, DnsError> {
        let name = parse_name(host)?;
        let name = if host.contains('.') { complete(name) } else { name };
        let (v4, v6) = match self.family {
            Family::V4Only => (self.v4(&name).await, Ok(Vec::new())),
            Family::V6Only => (Ok(Vec::new()), self.v6(&name).await),
            _ => tokio::join!(self.v4(&name), self.v6(&name)),
        };
        match (v4, v6) {
            (Ok(v4), Ok(v6)) => Ok(self.family.order(v4, v6)),
            (Ok(known), Err(_)) | (Err(_), Ok(known)) if !known.is_empty() => Ok(known),
            (Err(error), _) | (_, Err(error)) => Err(error),
        }
    }

    async fn txt(&self, name: &str) -> Result<Vec<String>, DnsError> {
        Ok(self.lookup(name, "txt").await?.records)
    }

    async fn reverse(&self, ip: IpAddr) -> Result<Option<String>, DnsError> {
        let ip = ip.to_canonical();
        let question = Question { name: ip.into(), kind: "ptr", record_type: RecordType::PTR };
        let records = self.records(&question).await?.into_records();
        for data in records.iter().take(MAX_PTR) {
            let RData::PTR(pointer) = data else { continue };
            let host = plain_text(&pointer.0);
            if !is_host_name(&host) {
                continue;
            }
            let name = complete(pointer.0.clone());
            let forward = if ip.is_ipv4() { self.v4(&name).await } else { self.v6(&name).await };
            if forward.is_ok_and(|known| known.contains(&ip)) {
                return Ok(Some(host));
            }
        }
        Ok(None)
    }
}

/// What DNS says about a name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// The records in presentation form; the strings of a TXT record joined.
    pub records: Vec<String>,
    /// The name does not exist.
    pub nxdomain: bool,
    /// Every record of the answer was validated by DNSSEC.
    pub secure: bool,
    /// For how long it holds.
    pub ttl: Duration,
}

fn answer(records: &[Record], wanted: RecordType) -> Answer {
    let of_type = || records.iter().filter(|record| record.record_type() == wanted);
    let ttl = records.iter().map(|record| record.ttl).min().unwrap_or_default();
    // Of several signatures only the one that was needed has a proof.
    let proven = |r: &Record| r.record_type() == RecordType::RRSIG || r.proof == Proof::Secure;
    Answer {
        records: of_type().map(|record| presentation(&record.data)).collect(),
        nxdomain: false,
        secure: !records.is_empty() && records.iter().all(proven),
        ttl: Duration::from_secs(ttl.into()),
    }
}

fn presentation(data: &RData) -> String {
    match data {
        RData::TXT(text) => {
            text.txt_data.iter().map(|part| String::from_utf8_lossy(part)).collect::<String>()
        }
        other => other.to_string(),
    }
}

/// The types that policy may ask for.
fn kind_of(kind: &str) -> Option<(&'static str, RecordType)> {
    Some(match kind {
        "a" => ("a", RecordType::A),
        "aaaa" => ("aaaa", RecordType::AAAA),
        "txt" => ("txt", RecordType::TXT),
        "ptr" => ("ptr", RecordType::PTR),
        "mx" => ("mx", RecordType::MX),
        "ns" => ("ns", RecordType::NS),
        "cname" => ("cname", RecordType::CNAME),
        "srv" => ("srv", RecordType::SRV),
        "tlsa" => ("tlsa", RecordType::TLSA),
        "caa" => ("caa", RecordType::CAA),
        "soa" => ("soa", RecordType::SOA),
        _ => return None,
    })
}

/// One question to DNS.
pub(crate) struct Question {
    pub(crate) name: Name,
    pub(crate) kind: &'static str,
    pub(crate) record_type: RecordType,
}

/// What DNS knows. `None` differs from `NoSuchName`: the name exists, with other types.
enum Found {
    Records(Vec<RData>),
    None,
    NoSuchName,
}

impl Found {
    fn from_records(records: Vec<RData>) -> Found {
        if records.is_empty() { Found::None } else { Found::Records(records) }
    }

    fn into_records(self) -> Vec<RData> {
        match self {
            Found::Records(records) => records,
            Found::None | Found::NoSuchName => Vec::new(),
        }
    }
}

impl Question {
    /// hickory reports "there is none" as an error; only the others are failures.
    fn read_error(&self, error: &NetError, limit: Duration) -> Result<Found, DnsError> {
        match error {
            NetError::Dns(HickoryError::NoRecordsFound(none)) => {
                self.read_code(none.response_code, error)
            }
            NetError::Dns(HickoryError::Nsec { proof: Proof::Bogus, .. })
            | NetError::Dns(HickoryError::DnssecBogus) => {
                Err(DnsError::Bogus { kind: self.kind, name: self.name.to_ascii() })
            }
            NetError::Dns(HickoryError::Nsec { response, .. }) => {
                self.read_code(response.response_code, error)
            }
            NetError::Timeout => Err(self.timed_out(limit)),
            _ => Err(self.failed(error)),
        }
    }

    fn read_code(&self, code: ResponseCode, error: &NetError) -> Result<Found, DnsError> {
        match code {
            ResponseCode::NoError => Ok(Found::None),
            ResponseCode::NXDomain => Ok(Found::NoSuchName),
            _ => Err(self.failed(error)),
        }
    }

    /// An error of hickory's that does not say that there is nothing.
    pub(crate) fn failure(&self, error: &NetError, limit: Duration) -> DnsError {
        self.read_error(error, limit).err().unwrap_or_else(|| self.failed(error))
    }

    pub(crate) fn failed(&self, error: &NetError) -> DnsError {
        let error = error.to_string();
        DnsError::Failed { kind: self.kind, name: self.name.to_ascii(), error }
    }

    pub(crate) fn timed_out(&self, after: Duration) -> DnsError {
        DnsError::TimedOut { kind: self.kind, name: self.name.to_ascii(), after }
    }
}

fn label(result: &Result<Found, DnsError>) -> &'static str {
    match result {
        Ok(Found::Records(_)) => "found",
        Ok(Found::None) => "none",
        Ok(Found::NoSuchName) => "nxdomain",
        Err(DnsError::Bogus { .. }) => "bogus",
        Err(DnsError::TimedOut { .. }) => "timeout",
        Err(DnsError::BadName(_) | DnsError::Failed { .. }) => "failed",
    }
}

/// A resolver by the book, over these connections; with `anchors` it validates.
pub(crate) fn resolver<P: ConnectionProvider>(
    config: &Config,
    anchors: Option<Arc<TrustAnchors>>,
    connections: P,
) -> Result<HickoryResolver<P>, SetupError> {
    let mut builder = builder(&config.servers, connections)?;
    let options = builder.options_mut();
    options.timeout = config.timeout / 2;
    options.attempts = 1;
    options.cache_size = CACHE_ANSWERS;
    options.negative_max_ttl = Some(LONGEST_NEGATIVE);
    options.positive_max_ttl = Some(LONGEST_POSITIVE);
    if let Some(anchors) = anchors {
        builder = builder.with_trust_anchor(anchors);
    }
    let builder = builder.with_tls_config(trusting_nobody()?);
    builder.build().map_err(|error| SetupError::Build(error.to_string()))
}

fn builder<P: ConnectionProvider>(
    servers: &[SocketAddr],
    connections: P,
) -> Result<ResolverBuilder<P>, SetupError> {
    if servers.is_empty() {
        return HickoryResolver::builder(connections)
            .map_err(|error| SetupError::System(error.to_string()));
    }
    let servers = servers.iter().map(|server| {
        let mut config = NameServerConfig::udp_and_tcp(server.ip());
        for connection in &mut config.connections {
            connection.port = server.port();
        }
        config
    });
    let config = ResolverConfig::from_name_servers(servers.collect());
    let mut builder = HickoryResolver::builder_with_config(config, connections);
    builder.options_mut().use_hosts_file = ResolveHosts::Never;
    Ok(builder)
}

/// Servers are asked in clear. Left to itself, hickory would read the authorities of the system for
/// encrypted questions that nobody asks, and on a machine without any give no resolver at all.
fn trusting_nobody() -> Result<ClientConfig, SetupError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(|error| SetupError::Build(error.to_string()))?;
    Ok(config.with_root_certificates(RootCertStore::empty()).with_no_client_auth())
}

/// The keys in a file, and whose they are.
pub(crate) fn trust_anchors(path: PathBuf) -> Result<(TrustAnchors, Vec<Name>), SetupError> {
    match read_anchors(&path) {
        Ok(anchors) => Ok(anchors),
        Err(reason) => Err(SetupError::TrustAnchor { path, reason }),
    }
}

/// hickory takes a file without any key, and then trusts nobody.
fn read_anchors(path: &Path) -> Result<(TrustAnchors, Vec<Name>), String> {
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    let lines = text.lines().filter(|line| !line.trim_start().starts_with(';'));
    let is_key = |line: &&str| line.split_whitespace().any(|w| w.eq_ignore_ascii_case("DNSKEY"));
    let owner = |line: &str| Name::from_ascii(line.split_whitespace().next()?).ok().map(complete);
    let mut owners: Vec<Name> = lines.filter(is_key).filter_map(owner).collect();
    owners.dedup();
    if owners.is_empty() {
        return Err("it holds no key".to_owned());
    }
    let anchors = text.parse().map_err(|error: ParseError| error.to_string())?;
    Ok((anchors, owners))
}

pub(crate) fn parse_name(text: &str) -> Result<Name, DnsError> {
    let bad = || DnsError::BadName(text.to_owned());
    if !is_host_name(text.strip_suffix('.').unwrap_or(text)) {
        return Err(bad());
    }
    Name::from_ascii(text).map_err(|_| bad())
}

pub(crate) fn complete(mut name: Name) -> Name {
    name.set_fqdn(true);
    name
}

/// As it is shown and compared: lower case, no trailing dot; empty for the root.
pub(crate) fn plain_text(name: &Name) -> String {
    let mut text = name.to_lowercase().to_ascii();
    if text.ends_with('.') {
        text.pop();
    }
    text
}
