//! A DNS server on loopback that answers from zone text: a real one, so that what is tested is
//! the resolver of the product against the wire format.

#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a zone that cannot be served fails its test"
)]

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use hickory_server::Server;
use hickory_server::dnssec::NxProofKind;
use hickory_server::net::runtime::{Time, TokioRuntimeProvider};
use hickory_server::proto::dnssec::crypto::Ed25519SigningKey;
use hickory_server::proto::dnssec::rdata::DNSKEY;
use hickory_server::proto::dnssec::{DnssecSigner, SigningKey};
use hickory_server::proto::op::{Header, HeaderCounts, Metadata, ResponseCode};
use hickory_server::proto::rr::{Name, RecordType, RrKey};
use hickory_server::proto::serialize::txt::Parser;
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::store::in_memory::InMemoryZoneHandler;
use hickory_server::zone_handler::{
    AxfrPolicy, Catalog, MessageResponseBuilder, ZoneHandler, ZoneType,
};
use tokio::net::{TcpListener, UdpSocket};

/// How long an idle TCP client is kept.
const TCP_IDLE: Duration = Duration::from_secs(5);
/// Octets of answers that may wait for one TCP client.
const TCP_BUFFER: usize = 65_535;
/// How long signatures are good for.
const SIGNED_FOR: Duration = Duration::from_secs(86_400);

/// A running server, on UDP and TCP of one port; gone when dropped.
///
/// The text is zone-file text in one or more parts that each begin with `$ORIGIN name.`. A part
/// without SOA or NS gets them; records without TTL have 0, so a resolver asks every time. A name
/// in no part does not exist: the server answers for the root as a recursive one would.
pub struct Zone {
    /// Where it listens.
    pub addr: SocketAddr,
    shared: Arc<Shared>,
    _server: Server<Answers>,
}

/// What may go wrong with a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The answer is SERVFAIL.
    ServFail,
    /// The answer is REFUSED.
    Refused,
    /// There is no answer.
    Silence,
}

impl Zone {
    /// Serves zone text on a port of the system's choice.
    ///
    /// # Panics
    /// When the text is no zone text.
    pub async fn serve(text: &str) -> Zone {
        Zone::start(text, false).await
    }

    /// The same with every part signed by a key of its own; see [`Zone::trust_anchor`]. A part
    /// with the line `; unsigned` is not, and needs an NS record in the part above it.
    ///
    /// # Panics
    /// When the text is no zone text.
    pub async fn serve_signed(text: &str) -> Zone {
        Zone::start(text, true).await
    }

    async fn start(text: &str, signed: bool) -> Zone {
        let shared = Arc::new(Shared { signed, state: Mutex::default() });
        shared.load(text);
        let (udp, tcp) = one_port().await;
        let addr = udp.local_addr().expect("a bound socket has an address");
        let mut server = Server::new(Answers { shared: Arc::clone(&shared) });
        server.register_socket(udp);
        server.register_listener(tcp, TCP_IDLE, TCP_BUFFER);
        Zone { addr, shared, _server: server }
    }

    /// Replaces all records; a signed server gets new keys. Faults stay.
    ///
    /// # Panics
    /// When the text is no zone text.
    pub fn replace(&self, text: &str) {
        self.shared.load(text);
    }

    /// From now on questions for this name and type (`"A"`, `"MX"`, …; `"ANY"` stands for every
    /// type) go wrong.
    pub fn fault(&self, name: &str, kind: &str, fault: Fault) {
        self.shared.with(|state| state.faults.insert(key(name, kind), fault));
    }

    /// Takes all faults back.
    pub fn heal(&self) {
        self.shared.with(|state| state.faults.clear());
    }

    /// How many questions for this name and type arrived, those with a fault included.
    pub fn asked(&self, name: &str, kind: &str) -> usize {
        self.shared.with(|state| state.asked.get(&key(name, kind)).copied().unwrap_or(0))
    }

    /// The public keys of a signed server as the text of a trust-anchor file; empty when unsigned.
    pub fn trust_anchor(&self) -> String {
        self.shared.with(|state| state.anchors.clone())
    }
}

/// A question, as (name in lower case without trailing dot, type).
type Key = (String, String);

fn key(name: &str, kind: &str) -> Key {
    (name.trim_end_matches('.').to_ascii_lowercase(), kind.to_owned())
}

struct Shared {
    signed: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    zones: Vec<Arc<InMemoryZoneHandler>>,
    anchors: String,
    faults: HashMap<Key, Fault>,
    asked: HashMap<Key, usize>,
}

impl Shared {
    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn load(&self, text: &str) {
        let mut zones = Vec::new();
        let mut anchors = String::new();
        for part in parts(text) {
            let mut zone = parse(&part);
            if self.signed && !part.lines().any(|line| line == "; unsigned") {
                anchors += &sign(&mut zone);
            }
            zones.push(Arc::new(zone));
        }
        self.with(|state| {
            state.zones = zones;
            state.anchors = anchors;
        });
    }

    /// Counts the question and says what to do with it.
    fn notice(&self, name: &str, kind: &str) -> (Option<Fault>, Catalog) {
        self.with(|state| {
            *state.asked.entry(key(name, kind)).or_default() += 1;
            let fault = |kind| state.faults.get(&key(name, kind)).copied();
            (fault(kind).or_else(|| fault("ANY")), catalog(&state.zones, name, kind))
        })
    }
}

/// All zones, except that a zone does not speak about its own DS: that is its parent's
/// (RFC 4035 §3.1.4.1).
fn catalog(zones: &[Arc<InMemoryZoneHandler>], name: &str, kind: &str) -> Catalog {
    let mut catalog = Catalog::new();
    for zone in zones {
        if kind != "DS" || key(&zone.origin().to_string(), kind) != key(name, kind) {
            let handler: Arc<dyn ZoneHandler> = Arc::<InMemoryZoneHandler>::clone(zone);
            catalog.upsert(zone.origin().clone(), vec![handler]);
        }
    }
    catalog
}

struct Answers {
    shared: Arc<Shared>,
}

#[async_trait]
impl RequestHandler for Answers {
    async fn handle_request<R: ResponseHandler, T: Time>(
        &self,
        request: &Request,
        mut response: R,
    ) -> ResponseInfo {
        let Ok(info) = request.request_info() else {
            return unanswered(request);
        };
        let (name, kind) = (info.query.name().to_string(), info.query.query_type().to_string());
        let (fault, catalog) = self.shared.notice(&name, &kind);
        let code = match fault {
            None => return catalog.handle_request::<R, T>(request, response).await,
            Some(Fault::Silence) => return unanswered(request),
            Some(Fault::ServFail) => ResponseCode::ServFail,
            Some(Fault::Refused) => ResponseCode::Refused,
        };
        let message = MessageResponseBuilder::from_message_request(request)
            .error_msg(&request.metadata, code);
        response.send_response(message).await.unwrap_or_else(|_| unanswered(request))
    }
}

/// What hickory wants to hear of a question that got no answer.
fn unanswered(request: &Request) -> ResponseInfo {
    let metadata = Metadata::response_from_request(&request.metadata);
    Header { metadata, counts: HeaderCounts::default() }.into()
}

/// The text cut before each `$ORIGIN`, and the root's part if it has none.
fn parts(text: &str) -> Vec<String> {
    let mut parts: Vec<String> = Vec::new();
    for line in text.lines() {
        let line = line.trim_end();
        if line.trim_start().starts_with("$ORIGIN") {
            parts.push(format!("{}\n", line.trim_start()));
        } else if let Some(part) = parts.last_mut() {
            *part += line;
            part.push('\n');
        } else if !line.is_empty() && !line.trim_start().starts_with(';') {
            panic!("zone text begins with $ORIGIN, not with {line:?}");
        }
    }
    if !parts.iter().any(|part| origin(part).is_root()) {
        parts.push("$ORIGIN .\n".to_owned());
    }
    parts
}

fn origin(part: &str) -> Name {
    let word = part.split_whitespace().nth(1).expect("$ORIGIN has a name");
    Name::from_ascii(word).expect("$ORIGIN is a name")
}

fn parse(part: &str) -> InMemoryZoneHandler {
    let origin = origin(part);
    let read = |text: String| {
        Parser::new(format!("$TTL 0\n{text}"), None, Some(origin.clone()))
            .parse()
            .unwrap_or_else(|error| panic!("zone text of {origin}: {error}\n{text}"))
            .1
    };
    let mut text = part.to_owned();
    let written = read(text.clone());
    for (kind, data) in
        [(RecordType::SOA, "ns hostmaster 1 3600 600 86400 0"), (RecordType::NS, "ns")]
    {
        if !written.contains_key(&RrKey::new(origin.clone().into(), kind)) {
            text += &format!("@ {kind} {data}\n");
        }
    }
    let records = read(text);
    InMemoryZoneHandler::<TokioRuntimeProvider>::new(
        origin.clone(),
        records,
        ZoneType::Primary,
        AxfrPolicy::Deny,
        Some(NxProofKind::Nsec),
    )
    .unwrap_or_else(|error| panic!("zone {origin}: {error}"))
}

/// Signs a zone with a new key and returns the key as a line of a trust-anchor file.
fn sign(zone: &mut InMemoryZoneHandler) -> String {
    let origin = Name::from(zone.origin().clone());
    let pkcs8 = Ed25519SigningKey::generate_pkcs8().expect("a new key");
    let key = Ed25519SigningKey::from_pkcs8(&pkcs8).expect("the key just made");
    let public = DNSKEY::from_key(&key.to_public_key().expect("its public half"));
    let line = format!("{origin} 0 IN DNSKEY {public}\n");
    let signer = DnssecSigner::new(public, Box::new(key), origin, SIGNED_FOR);
    zone.add_zone_signing_key_mut(signer).expect("a key is added");
    zone.secure_zone_mut().expect("the zone is signed");
    line
}

/// A UDP and a TCP socket with the same port.
async fn one_port() -> (UdpSocket, TcpListener) {
    for _ in 0..20 {
        let tcp = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let addr = tcp.local_addr().expect("a bound socket has an address");
        if let Ok(udp) = UdpSocket::bind(addr).await {
            return (udp, tcp);
        }
    }
    panic!("no port is free for both UDP and TCP");
}
