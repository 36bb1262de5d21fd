//! How much memory sessions and messages take: of the program itself, with clients in this process.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::{Barrier, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;

use super::sink::Sink;
use super::waypost::launch;

/// Idle sessions under TLS, and what they may take.
const SESSIONS: usize = 10_000;
const SESSIONS_MOST: u64 = 400 << 20;
/// Messages that come in at the same time, how large they are, and what they may take.
const MESSAGES: usize = 100;
const MESSAGE_SIZE: usize = 25 << 20;
const MESSAGES_MOST: u64 = 200 << 20;

/// Handshakes at once.
const AT_ONCE: usize = 64;
/// Addresses the sessions come from.
const SOURCES: usize = 50;
/// Longest wait for one reply, or for the sink.
const PATIENCE: Duration = Duration::from_secs(300);
const NAME: &str = "relay.bench.example";

/// Measures both and fails when one takes too much.
pub(crate) fn run(home: &Path, program: &Path, sink: &Sink, port: u16) -> anyhow::Result<()> {
    let files = u64::try_from(SESSIONS)? + 1000;
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    ensure!(most >= files, "this needs {files} open files, and the system allows {most}");
    setrlimit(Resource::RLIMIT_NOFILE, files, most)?;
    let (roots, configuration) = configure(home, port, sink.address.port())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let to = SocketAddr::from((Ipv4Addr::LOCALHOST, port));

    let running = launch(program, &configuration, port)?;
    let bare = running.tree().memory()?;
    let sessions = runtime.block_on(idle_sessions(to, roots))?;
    let idle = running.tree().memory()?;
    drop(sessions);
    running.stop()?;

    let running = launch(program, &configuration, port)?;
    sink.clear();
    let whole = runtime.block_on(async {
        let sent = messages(to).await;
        sink.wait(MESSAGES, PATIENCE)?;
        sent
    });
    let loaded = running.tree().memory()?;
    running.stop()?;
    whole?;

    println!("resident memory of a program that has just started: {} MiB", mib(bare.now));
    let each = idle.now.saturating_sub(bare.now) / u64::try_from(SESSIONS)?;
    println!(
        "{SESSIONS} idle sessions under TLS: {} MiB, {} MiB at most on the way there, {each} octets each",
        mib(idle.now),
        mib(idle.peak)
    );
    println!(
        "{MESSAGES} messages of {} MiB at the same time: {} MiB at most",
        MESSAGE_SIZE >> 20,
        mib(loaded.peak)
    );
    within("idle sessions", idle.peak.max(idle.now), SESSIONS_MOST)?;
    within("large messages", loaded.peak, MESSAGES_MOST)
}

fn within(what: &str, took: u64, most: u64) -> anyhow::Result<()> {
    ensure!(took <= most, "{what} take {} MiB, and may take {} MiB", mib(took), mib(most));
    Ok(())
}

fn mib(octets: u64) -> u64 {
    octets.div_ceil(1 << 20)
}

/// A certificate, and a relay that trusts this machine.
fn configure(home: &Path, port: u16, sink: u16) -> anyhow::Result<(RootCertStore, PathBuf)> {
    let made = rcgen::generate_simple_self_signed(vec![NAME.to_owned()])?;
    let (chain, key) = (home.join("chain.pem"), home.join("key.pem"));
    fs::write(&chain, made.cert.pem())?;
    fs::write(&key, made.signing_key.serialize_pem())?;
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::clone(made.cert.der()))?;
    let (spool, socket) = (home.join("memory-spool"), home.join("memory.sock"));
    let text = format!(
        r#"hostname = "{NAME}"
[spool]
path = {spool:?}
[admin]
socket = {socket:?}
[log]
level = "warn"
[[listener]]
kind = "relay"
address = "127.0.0.1:{port}"
[[tls.certificate]]
chain = {chain:?}
key = {key:?}
[relay]
networks = ["127.0.0.0/8"]
[limits]
sessions = {}
[[route]]
domains = ["*"]
via = [{{ host = "127.0.0.1", port = {sink} }}]
tls = "never"
"#,
        SESSIONS + 100
    );
    let file = home.join("memory.toml");
    fs::write(&file, text)?;
    Ok((roots, file))
}

type Encrypted = tokio_rustls::client::TlsStream<TcpStream>;

/// Sessions that have said EHLO under TLS and say nothing more.
async fn idle_sessions(to: SocketAddr, roots: RootCertStore) -> anyhow::Result<Vec<Encrypted>> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    // Each session is a peer of its own.
    config.resumption = rustls::client::Resumption::disabled();
    let connector = TlsConnector::from(Arc::new(config));
    let turns = Arc::new(Semaphore::new(AT_ONCE));
    let mut opening = JoinSet::new();
    for number in 0..SESSIONS {
        let (connector, turns) = (connector.clone(), turns.clone());
        opening.spawn(async move {
            let _turn = turns.acquire().await?;
            encrypted(to, number, connector).await
        });
    }
    let mut sessions = Vec::with_capacity(SESSIONS);
    while let Some(opened) = opening.join_next().await {
        sessions.push(opened??);
    }
    // What was for the handshakes goes.
    sleep(Duration::from_secs(3)).await;
    Ok(sessions)
}

async fn encrypted(
    to: SocketAddr,
    number: usize,
    connector: TlsConnector,
) -> anyhow::Result<Encrypted> {
    let mut plain = connect(to, number).await?;
    say(&mut plain, "EHLO client.bench.example\r\n", "250 ").await?;
    say(&mut plain, "STARTTLS\r\n", "220 ").await?;
    let name = ServerName::try_from(NAME)?;
    let mut stream = timeout(PATIENCE, connector.connect(name, plain)).await??;
    say(&mut stream, "EHLO client.bench.example\r\n", "250 ").await?;
    Ok(stream)
}

/// Large messages, which all wait for one another after their first half.
async fn messages(to: SocketAddr) -> anyhow::Result<()> {
    let line = format!("{}\r\n", "x".repeat(76));
    let half = Arc::new(line.repeat(MESSAGE_SIZE / 2 / line.len()));
    let together = Arc::new(Barrier::new(MESSAGES));
    let mut sending = JoinSet::new();
    for number in 0..MESSAGES {
        let (half, together) = (half.clone(), together.clone());
        sending.spawn(async move {
            let mut stream = connect(to, number).await?;
            say(&mut stream, "EHLO client.bench.example\r\n", "250 ").await?;
            say(&mut stream, "MAIL FROM:<a@bench.example>\r\n", "250 ").await?;
            say(&mut stream, "RCPT TO:<b@sink.bench.example>\r\n", "250 ").await?;
            say(&mut stream, "DATA\r\n", "354 ").await?;
            let header = format!("Message-ID: <{number}@bench.example>\r\nSubject: large\r\n\r\n");
            stream.write_all(header.as_bytes()).await?;
            stream.write_all(half.as_bytes()).await?;
            together.wait().await;
            stream.write_all(half.as_bytes()).await?;
            say(&mut stream, ".\r\n", "250 ").await
        });
    }
    while let Some(sent) = sending.join_next().await {
        sent??;
    }
    Ok(())
}

/// A connection that was greeted, from one of several addresses.
async fn connect(to: SocketAddr, number: usize) -> anyhow::Result<TcpStream> {
    let last = u8::try_from(1 + number % SOURCES)?;
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from((Ipv4Addr::new(127, 0, 0, last), 0)))?;
    let mut stream = socket.connect(to).await?;
    say(&mut stream, "", "220 ").await?;
    Ok(stream)
}

/// Says something and waits for the last line of the reply.
async fn say<S>(stream: &mut S, words: &str, wanted: &str) -> anyhow::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    stream.write_all(words.as_bytes()).await?;
    stream.flush().await?;
    let (mut reply, mut piece) = (Vec::new(), [0; 512]);
    loop {
        let text = String::from_utf8_lossy(&reply);
        let last = text.strip_suffix("\r\n").and_then(|text| text.lines().last());
        if let Some(last) = last.filter(|last| last.as_bytes().get(3) == Some(&b' ')) {
            ensure!(last.starts_with(wanted), "{words:?} got {last:?}");
            return Ok(());
        }
        match timeout(PATIENCE, stream.read(&mut piece)).await?.context("reading a reply")? {
            0 => bail!("the relay hung up after {words:?}"),
            count => reply.extend_from_slice(&piece[..count]),
        }
    }
}
