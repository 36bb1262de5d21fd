//! One message to one server: a client for people and tests. Mail that must not be lost goes
//! through the queue and `waypost-delivery` instead.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout};
use waypost_delivery::{ClientTls, Dialer, Stream, TcpDialer};
use waypost_dns::Host;
use waypost_smtp::client::{
    Control, Credentials, Letter, RecipientResult, Session, SessionConfig, SessionStep, StartTls,
    Transaction, TransactionStep,
};
use waypost_smtp::{Domain, Mailbox, Phase, Stuffer};

use crate::args::SendTls;

/// How long one address may take to answer a connection.
const CONNECT: Duration = Duration::from_secs(30);
/// How long a reply may take, and a handshake (RFC 5321 §4.5.3.2).
const REPLY: Duration = Duration::from_secs(300);
/// How long the reply to the final dot may take (RFC 5321 §4.5.3.2.6).
const DOT: Duration = Duration::from_secs(600);
/// Octets of a message encoded and written at once.
const BLOCK: usize = 64 * 1024;

/// A server to submit to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// A name or an address.
    pub host: String,
    /// TCP port. On 465 TLS comes first (RFC 8314 §3.3).
    pub port: u16,
}

impl Target {
    /// Reads `host`, `host:port`, `[address]:port` or a bare address. The port is 587 unless given.
    ///
    /// # Errors
    /// When the port is none or the host is empty.
    pub fn parse(text: &str) -> Result<Target> {
        Target::with_port(text, 587)
    }

    /// The same with another usual port.
    ///
    /// # Errors
    /// As [`Target::parse`].
    pub fn with_port(text: &str, usual: u16) -> Result<Target> {
        let bare = |host: &str| Target { host: host.to_owned(), port: usual };
        if text.parse::<IpAddr>().is_ok() {
            return Ok(bare(text));
        }
        let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, rest)) => (host, rest.strip_prefix(':')),
            None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
        };
        if host.is_empty() {
            bail!("'{text}' names no server; write host:port");
        }
        let Some(port) = port else { return Ok(bare(host)) };
        let port = port.parse().with_context(|| format!("'{port}' in '{text}' is no port"))?;
        Ok(Target { host: host.to_owned(), port })
    }

    fn name_matters(&self) -> bool {
        self.host.parse::<IpAddr>().is_err()
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.host.parse::<IpAddr>() {
            Ok(ip) => SocketAddr::new(ip, self.port).fmt(f),
            Err(_) => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// Where to submit, and how.
#[derive(Debug, Clone)]
pub struct Client {
    /// The server.
    pub target: Target,
    /// Whether and how to encrypt.
    pub tls: SendTls,
    /// TLS from the first byte.
    pub implicit_tls: bool,
    /// Who vouches for servers.
    pub authorities: ClientTls,
    /// Who to log in as.
    pub credentials: Option<Credentials>,
}

/// How a submission went.
#[derive(Debug, Clone)]
pub struct Report {
    /// Where the connection went.
    pub address: SocketAddr,
    /// From the start until the connection stood.
    pub connected: Duration,
    /// Version of TLS and, from the start, until its handshake was done; absent in clear text.
    pub tls: Option<(&'static str, Duration)>,
    /// The SASL mechanism of the login.
    pub mechanism: Option<String>,
    /// From the start until the session was ready for mail.
    pub ready: Duration,
    /// The server's word on each recipient; absent where the connection was lost before it came.
    pub recipients: Vec<(Mailbox, Option<RecipientResult>)>,
    /// From the start until the message was written with its final dot, if it came to that.
    pub written: Option<Duration>,
    /// What cut the transaction short.
    pub trouble: Option<String>,
    /// From the start until the last reply.
    pub done: Duration,
}

impl Report {
    /// Recipients that the server did not take.
    pub fn refused(&self) -> usize {
        let taken = |result: &RecipientResult| result.reply.is_positive();
        self.recipients.iter().filter(|(_, r)| !r.as_ref().is_some_and(taken)).count()
    }
}

/// Submits `message`, whose lines end with CRLF, to the recipients of `letter`.
///
/// # Errors
/// When it did not come to a transaction: no connection, no TLS, no login, or the message cannot be
/// sent as it is.
pub async fn submit(client: &Client, letter: Letter, message: &[u8]) -> Result<Report> {
    let start = Instant::now();
    let (stream, host, local) = connect(&client.target).await?;
    let connected = start.elapsed();
    let mut line = Line { stream, buffer: vec![0; 4096], tls: None, written: None };
    let (session, mechanism) = open(&mut line, client, &host, local).await?;
    let ready = start.elapsed();
    let recipients = letter.recipients.clone();
    let transaction = Transaction::new(letter, session.extensions())?;
    let (results, trouble) = transfer(&mut line, transaction, message).await;
    let done = start.elapsed();
    if trouble.is_none() {
        // The mail is settled; how the server says goodbye changes nothing.
        let _ = line.exchange(&mut Control::quit(), Duration::from_secs(5)).await;
    }
    let mailboxes = recipients.into_iter().map(|to| to.mailbox);
    let recipients = mailboxes.zip(results).collect();
    Ok(Report {
        address: host.address,
        connected,
        tls: line.tls.map(|(version, at)| (version, at.duration_since(start))),
        mechanism,
        ready,
        recipients,
        written: line.written.map(|at| at.duration_since(start)),
        trouble,
        done,
    })
}

async fn connect(target: &Target) -> Result<(Box<dyn Stream>, Host, IpAddr)> {
    let place = (target.host.as_str(), target.port);
    let addresses =
        tokio::net::lookup_host(place).await.with_context(|| format!("cannot find {target}"))?;
    let mut failure = anyhow!("{target} has no address");
    for address in addresses {
        match timeout(CONNECT, TcpDialer.dial(address, None)).await {
            Ok(Ok(stream)) => {
                let name = match target.name_matters() {
                    true => target.host.clone(),
                    false => address.ip().to_string(),
                };
                let local = own_address(address);
                return Ok((stream, Host { name, address, preference: 0 }, local));
            }
            Ok(Err(error)) => failure = anyhow!(error).context(format!("cannot reach {address}")),
            Err(_) => failure = anyhow!("{address} does not answer"),
        }
    }
    Err(failure)
}

/// Our address on the way to `peer`, for EHLO: a client often has no name (RFC 5321 §4.1.4). A UDP
/// socket finds it without sending anything.
fn own_address(peer: SocketAddr) -> IpAddr {
    let any: IpAddr = match peer {
        SocketAddr::V4(_) => [0; 4].into(),
        SocketAddr::V6(_) => [0u16; 8].into(),
    };
    let found = std::net::UdpSocket::bind((any, 0))
        .and_then(|socket| socket.connect(peer).and_then(|()| socket.local_addr()));
    found.map_or(any, |address| address.ip())
}

/// From the greeting to a session that takes mail; also how we logged in.
async fn open(
    line: &mut Line,
    client: &Client,
    host: &Host,
    local: IpAddr,
) -> Result<(Session, Option<String>)> {
    let check = client.tls == SendTls::Verify;
    let tls = match client.tls {
        SendTls::Never => StartTls::Never,
        _ if client.implicit_tls => StartTls::Active,
        SendTls::Encrypt => StartTls::Required,
        SendTls::Verify => StartTls::IfOffered,
    };
    if tls == StartTls::Active {
        line.encrypt(client, host, check).await?;
    }
    let mut session = Session::new(SessionConfig {
        lmtp: false,
        ehlo_name: Domain::Literal(local),
        tls,
        credentials: client.credentials.clone(),
        allow_plaintext_auth: false,
        nonce: rand::random(),
    });
    let mut mechanism = None;
    loop {
        match session.step() {
            SessionStep::NeedInput => {
                let output = session.take_output();
                mechanism = mechanism.or_else(|| mechanism_in(&output));
                let phase = session.phase();
                line.say_and_hear(&output, &mut session, REPLY)
                    .await
                    .with_context(|| format!("{host} at {phase}", host = host.address))?;
            }
            SessionStep::Upgrade => {
                line.encrypt(client, host, check).await?;
                session.upgraded();
            }
            SessionStep::Ready => return Ok((session, mechanism)),
            SessionStep::Failed(failure) => {
                return Err(anyhow!(failure).context(format!("no session with {}", client.target)));
            }
        }
    }
}

fn mechanism_in(output: &[u8]) -> Option<String> {
    let word = output.strip_prefix(b"AUTH ")?.split(|octet| octet.is_ascii_whitespace()).next()?;
    Some(String::from_utf8_lossy(word).into_owned())
}

type Results = Vec<Option<RecipientResult>>;

async fn transfer(
    line: &mut Line,
    mut transaction: Transaction,
    message: &[u8],
) -> (Results, Option<String>) {
    loop {
        let moved = match transaction.step() {
            TransactionStep::NeedInput => {
                let output = transaction.take_output();
                let limit = if transaction.phase() == Phase::Eod { DOT } else { REPLY };
                line.say_and_hear(&output, &mut transaction, limit).await
            }
            TransactionStep::SendBody => line.send_body(&mut transaction, message).await,
            TransactionStep::Done(result) => {
                return (result.recipients.into_iter().map(Some).collect(), None);
            }
            TransactionStep::Failed(error) => Err(error.into()),
        };
        if let Err(error) = moved {
            let phase = transaction.phase();
            let fate = match phase {
                Phase::Eod => "whether the message was taken is unknown",
                _ => "the message was not taken",
            };
            return (transaction.lost(), Some(format!("{error:#} at {phase}: {fate}")));
        }
    }
}

/// What the conversations have in common here.
trait Talk {
    fn push(&mut self, bytes: &[u8]);
}

impl Talk for Session {
    fn push(&mut self, bytes: &[u8]) {
        self.push(bytes);
    }
}

impl Talk for Transaction {
    fn push(&mut self, bytes: &[u8]) {
        self.push(bytes);
    }
}

impl Talk for Control {
    fn push(&mut self, bytes: &[u8]) {
        self.push(bytes);
    }
}

/// The connection.
#[derive(Debug)]
struct Line {
    stream: Box<dyn Stream>,
    buffer: Vec<u8>,
    tls: Option<(&'static str, Instant)>,
    written: Option<Instant>,
}

impl Line {
    async fn encrypt(&mut self, client: &Client, host: &Host, check: bool) -> Result<()> {
        let plain = std::mem::replace(&mut self.stream, Box::new(tokio::io::empty()));
        let handshake = client.authorities.handshake(plain, host, check);
        let handshake =
            timeout(REPLY, handshake).await.context("the TLS handshake takes too long")?;
        let (stream, version) = handshake.map_err(|error| anyhow!("{}: {error}", client.target))?;
        self.stream = stream;
        self.tls = Some((version, Instant::now()));
        Ok(())
    }

    async fn exchange(&mut self, control: &mut Control, limit: Duration) -> Result<()> {
        let output = control.take_output();
        self.say_and_hear(&output, control, limit).await
    }

    async fn say_and_hear(
        &mut self,
        output: &[u8],
        talk: &mut impl Talk,
        limit: Duration,
    ) -> Result<()> {
        self.say(output, talk).await?;
        let read = timeout(limit, self.stream.read(&mut self.buffer)).await;
        match read.context("the server does not answer")?.context("the connection broke")? {
            0 => bail!("the server closed the connection"),
            count => talk.push(&self.buffer[..count]),
        }
        Ok(())
    }

    /// Writes, and listens meanwhile: a server may answer a long group before it has read all of it
    /// (RFC 2920 §3.1).
    async fn say(&mut self, output: &[u8], talk: &mut impl Talk) -> Result<()> {
        let (mut reader, mut writer) = tokio::io::split(&mut self.stream);
        let buffer = &mut self.buffer;
        let write = async {
            writer.write_all(output).await?;
            writer.flush().await
        };
        let listen = async {
            loop {
                match reader.read(buffer).await {
                    Ok(0) => return std::io::Error::from(std::io::ErrorKind::UnexpectedEof),
                    Ok(count) => talk.push(&buffer[..count]),
                    Err(error) => return error,
                }
            }
        };
        let both = async {
            tokio::select! {
                biased;
                written = write => written,
                broken = listen => Err(broken),
            }
        };
        let written = timeout(REPLY, both).await.context("the server does not read")?;
        written.context("the connection broke")
    }

    async fn send_body(&mut self, transaction: &mut Transaction, message: &[u8]) -> Result<()> {
        let mut stuffer = Stuffer::new();
        let mut out = Vec::with_capacity(BLOCK + BLOCK / 8);
        for block in message.chunks(BLOCK) {
            out.clear();
            stuffer.encode(block, &mut out);
            self.say(&out, transaction).await?;
        }
        out.clear();
        stuffer.finish(&mut out);
        self.say(&out, transaction).await?;
        transaction.body_sent();
        self.written = Some(Instant::now());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_read() {
        let read = |text: &str| Target::parse(text).map(|t| (t.host, t.port)).ok();
        let is = |host: &str, port| Some((host.to_owned(), port));
        assert_eq!(read("mx.example.org"), is("mx.example.org", 587));
        assert_eq!(read("mx.example.org:25"), is("mx.example.org", 25));
        assert_eq!(read("192.0.2.1:2525"), is("192.0.2.1", 2525));
        assert_eq!(read("2001:db8::1"), is("2001:db8::1", 587));
        assert_eq!(read("[2001:db8::1]:465"), is("2001:db8::1", 465));
        assert_eq!(read("[2001:db8::1]"), is("2001:db8::1", 587));
        for wrong in ["", ":25", "mx:", "mx:99999", "mx:smtp"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_mechanism_is_what_we_said() {
        assert_eq!(mechanism_in(b"AUTH SCRAM-SHA-256 biws\r\n").as_deref(), Some("SCRAM-SHA-256"));
        assert_eq!(mechanism_in(b"EHLO x\r\n"), None);
    }
}
