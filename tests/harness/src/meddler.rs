//! Somebody between a resolver and its server, who lies about some questions: what DNSSEC is there against.

#![expect(clippy::expect_used, reason = "a server that cannot listen fails its test")]

use std::net::SocketAddr;
use std::time::Duration;

use hickory_server::proto::op::{Message, Query};
use hickory_server::proto::rr::{Name, Record, RecordType};
use hickory_server::proto::serialize::txt::Parser;
use tokio::net::UdpSocket;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// How long the server beneath may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Largest datagram.
const LARGEST: usize = 65_535;

/// What is said about a name instead of the truth.
#[derive(Debug, Clone, Copy)]
pub enum Lie {
    /// There is nothing; the authority section is this zone text.
    Nothing(&'static str),
    /// What the server denies about another name, and nothing else than records of these types in its
    /// authority section.
    DeniedAs(&'static str, &'static [RecordType]),
    /// What the server says about another name, as if said about this one, and this zone text as
    /// authority section.
    SaidAs(&'static str, &'static str),
}

/// A lying server on UDP of a port of its own; gone when dropped.
#[derive(Debug)]
pub struct Meddler {
    /// Where it listens.
    pub addr: SocketAddr,
    _running: JoinSet<()>,
}

impl Meddler {
    /// Hands questions on to `server`, except these, by name and type (`ANY` for all).
    ///
    /// # Panics
    /// When there is no free port.
    pub async fn before(
        server: SocketAddr,
        lies: &'static [(&'static str, &'static str, Lie)],
    ) -> Meddler {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a free port");
        let addr = socket.local_addr().expect("a bound socket has an address");
        let mut running = JoinSet::new();
        running.spawn(async move {
            let mut octets = vec![0; LARGEST];
            while let Ok((length, peer)) = socket.recv_from(&mut octets).await {
                if let Some(answer) = answer(server, lies, &octets[..length]).await {
                    let _ = socket.send_to(&answer, peer).await;
                }
            }
        });
        Meddler { addr, _running: running }
    }
}

async fn answer(
    server: SocketAddr,
    lies: &[(&str, &str, Lie)],
    question: &[u8],
) -> Option<Vec<u8>> {
    let mut message = Message::from_vec(question).ok()?;
    let asked = message.queries.first()?.clone();
    let of = |(name, kind, _): &&(&str, &str, Lie)| {
        let same = *kind == "ANY" || asked.query_type().to_string() == *kind;
        same && Name::from_ascii(name).is_ok_and(|name| name == *asked.name())
    };
    let Some((_, _, lie)) = lies.iter().find(of) else { return ask(server, question).await };
    let instead = match lie {
        Lie::Nothing(_) => asked.name().clone(),
        Lie::DeniedAs(name, _) | Lie::SaidAs(name, _) => Name::from_ascii(name).ok()?,
    };
    message.queries = vec![Query::query(instead.clone(), asked.query_type())];
    let said = ask(server, &message.to_vec().ok()?).await?;
    let mut said = Message::from_vec(&said).ok()?;
    said.queries = vec![asked.clone()];
    match lie {
        Lie::Nothing(authority) => {
            said.answers.clear();
            said.authorities = records(authority);
        }
        Lie::DeniedAs(_, kept) => {
            said.authorities.retain(|record| kept.contains(&record.record_type()));
        }
        Lie::SaidAs(_, authority) => {
            for record in said.answers.iter_mut().filter(|record| record.name == instead) {
                record.name = asked.name().clone();
            }
            said.authorities = records(authority);
        }
    }
    said.to_vec().ok()
}

async fn ask(server: SocketAddr, question: &[u8]) -> Option<Vec<u8>> {
    let socket = UdpSocket::bind("127.0.0.1:0").await.ok()?;
    socket.send_to(question, server).await.ok()?;
    let mut octets = vec![0; LARGEST];
    let (length, _) = timeout(PATIENCE, socket.recv_from(&mut octets)).await.ok()?.ok()?;
    octets.truncate(length);
    Some(octets)
}

/// The records of zone text with whole names.
fn records(text: &str) -> Vec<Record> {
    let parsed = Parser::new(format!("$TTL 60\n{text}\n"), None, Some(Name::root())).parse();
    let (_, sets) = parsed.expect("zone text");
    sets.values().flat_map(|set| set.records_without_rrsigs().cloned()).collect()
}
