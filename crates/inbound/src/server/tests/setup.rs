//! A house with doors, and peers that knock.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use argon2::password_hash::{PasswordHasher, SaltString};
use argon2::{Argon2, Params};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use waypost_hooks::{Hooks, Pass};
use waypost_intake::{Config, Events, Intake, Routing};
use waypost_mail::fetch::{Allow, Fetch, FetchError, FetchRequest, FetchResponse};
use waypost_mail::{Entry, IdSource, SystemClock};
use waypost_queue::Queue;
use waypost_spool::{MemorySpool, Spool};

use crate::password::Argon2Hash;
use crate::scram::{ScramHash, ScramVerifier};
use crate::users::Account;
use crate::{
    Bans, Bound, KeyPair, ListenerConfig, ListenerKind, Rooms, Secret, Server, Settings, Users,
    listen,
};

pub(super) const KINDS: [ListenerKind; 4] =
    [ListenerKind::Relay, ListenerKind::Submission, ListenerKind::Submissions, ListenerKind::Lmtp];

/// A server with one listener of each kind.
pub(super) struct House {
    pub(super) server: Arc<Server>,
    pub(super) spool: Arc<MemorySpool>,
    pub(super) roots: Vec<CertificateDer<'static>>,
    stop: Option<oneshot::Sender<()>>,
    running: JoinHandle<usize>,
    _dir: tempfile::TempDir,
}

impl House {
    /// With usual settings, changed by `change`.
    pub(super) async fn open(change: impl FnOnce(&mut Settings)) -> House {
        House::with(Arc::new(Pass), Duration::from_secs(5), change).await
    }

    pub(super) async fn with(
        hooks: Arc<dyn Hooks>,
        patience: Duration,
        change: impl FnOnce(&mut Settings),
    ) -> House {
        let dir = tempfile::tempdir().unwrap();
        let pairs = [&["mx.example.org"][..], &["*.other.example"]].map(|n| pair(dir.path(), n));
        let mut settings = Settings::new("mx.example.org");
        settings.tls = Some(crate::tls::Certificates::load(&pairs).unwrap());
        settings.users = users();
        settings.auth.senders.free = true;
        settings.auth.failures.delay = Duration::ZERO;
        change(&mut settings);
        let spool = Arc::new(MemorySpool::new());
        let rooms = rooms(spool.clone(), hooks).await;
        let socket = || listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let listeners = KINDS
            .map(|kind| (ListenerConfig { name: kind.to_string(), kind }, Bound::Tcp(socket())));
        let secret = Secret::new([1; 32]);
        let server = Server::new(listeners.into(), settings, rooms, secret, 2).unwrap();
        let (stop, stopped) = oneshot::channel();
        let until = async { stopped.await.unwrap_or(()) };
        let running = tokio::spawn(server.clone().run(until, patience));
        let roots = pairs.iter().map(|p| CertificateDer::from_pem_file(&p.certificate).unwrap());
        House { server, spool, roots: roots.collect(), stop: Some(stop), running, _dir: dir }
    }

    pub(super) fn address(&self, kind: ListenerKind) -> SocketAddr {
        let all = self.server.addresses();
        all.iter().find(|(config, _)| config.kind == kind).unwrap().1.tcp().unwrap()
    }

    /// A peer in clear text that has read the greeting.
    pub(super) async fn knock(&self, kind: ListenerKind) -> Peer {
        let mut peer = self.connect(kind).await;
        let greeting = peer.reply().await;
        let protocol = if kind == ListenerKind::Lmtp { "LMTP" } else { "ESMTP" };
        assert_eq!(greeting, format!("220 mx.example.org {protocol} ready"));
        peer
    }

    /// A peer that has read nothing yet.
    pub(super) async fn connect(&self, kind: ListenerKind) -> Peer {
        Peer::to(self.address(kind)).await
    }

    /// The same from another address of this machine, `127.0.0.x`.
    pub(super) async fn connect_from(&self, last: u8, kind: ListenerKind) -> Peer {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from(([127, 0, 0, last], 0))).unwrap();
        Peer::new(Box::new(socket.connect(self.address(kind)).await.unwrap()))
    }

    /// A peer from there, encrypted, that has said EHLO.
    pub(super) async fn encrypted_from(&self, last: u8) -> Peer {
        let peer = self.connect_from(last, ListenerKind::Submissions).await;
        let mut peer = peer.encrypt(&self.roots, "mx.example.org").await;
        assert!(peer.reply().await.starts_with("220 "));
        peer.expect("EHLO peer.example", "250-").await;
        peer
    }

    /// A peer on an encrypted channel that has said EHLO: by STARTTLS, or at once at port 465.
    pub(super) async fn encrypted(&self, kind: ListenerKind) -> Peer {
        let peer = match kind {
            ListenerKind::Submissions => {
                let mut peer =
                    self.connect(kind).await.encrypt(&self.roots, "mx.example.org").await;
                assert!(peer.reply().await.starts_with("220 "));
                peer
            }
            _ => {
                let mut peer = self.knock(kind).await;
                peer.expect("EHLO peer.example", "250-").await;
                peer.expect("STARTTLS", "220 ").await;
                peer.encrypt(&self.roots, "mx.example.org").await
            }
        };
        let mut peer = peer;
        peer.expect("EHLO peer.example", "250-").await;
        peer
    }

    /// The one message in the spool.
    pub(super) fn message(&self) -> (Entry, String) {
        let ids = self.spool.ids(None, 10).unwrap();
        let [id] = ids[..] else { panic!("{} messages", ids.len()) };
        (self.spool.load(id).unwrap(), self.text(id))
    }

    pub(super) fn spool_ids(&self) -> Vec<waypost_mail::MessageId> {
        self.spool.ids(None, 10).unwrap()
    }

    pub(super) fn text(&self, id: waypost_mail::MessageId) -> String {
        let content = self.spool.content(id).unwrap();
        let bytes = content.read_at(0, content.len() as usize).unwrap();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    /// Begins to drain.
    pub(super) fn stop(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
    }

    /// How many sessions were cut off at the end.
    pub(super) async fn end(self) -> usize {
        self.running.await.unwrap()
    }
}

pub(super) async fn rooms(spool: Arc<MemorySpool>, hooks: Arc<dyn Hooks>) -> Rooms {
    let clock = Arc::new(SystemClock);
    let incoming = spool.incoming();
    let ledger = spool.clone();
    let bans = Arc::new(Bans::open(spool.clone(), clock.clone()).await.unwrap());
    let queue = Queue::open(spool, waypost_queue::Config::default(), clock.clone(), 1);
    let events = Events::to(hooks.clone(), clock.clone());
    let intake_rooms = waypost_intake::Rooms {
        queue: queue.await.unwrap(),
        hooks: hooks.clone(),
        clock: clock.clone(),
        ids: IdSource::above(0, clock.clone()),
        events: events.clone(),
        keys: Default::default(),
        verifier: None,
        incoming,
    };
    let intake = Arc::new(Intake::new(Config::default(), Routing::default(), intake_rooms));
    Rooms { intake, hooks, events, clock, bans, fetch: Arc::new(NoWeb), ledger }
}

/// Nobody answers.
#[derive(Debug)]
struct NoWeb;

#[async_trait::async_trait]
impl Fetch for NoWeb {
    async fn fetch(&self, _: FetchRequest, _: &Allow) -> Result<FetchResponse, FetchError> {
        Err(FetchError::TimedOut)
    }
}

/// alice has a hash (password "wonder"), bob a SCRAM verifier ("pencil"), carol all there are ("both").
pub(super) fn users() -> Users {
    let hash = |password: &str| {
        let argon2 = Argon2::new(
            Default::default(),
            Default::default(),
            Params::new(64, 1, 1, None).unwrap(),
        );
        let salt = SaltString::encode_b64(b"some salt").unwrap();
        let hash = argon2.hash_password(password.as_bytes(), &salt).unwrap().to_string();
        Argon2Hash::parse(&hash).ok()
    };
    let scram = |hash, password| Some(ScramVerifier::derive(hash, password, 4096, b"some salt"));
    let (sha1, sha256) = (ScramHash::Sha1, ScramHash::Sha256);
    Users::new(
        [
            ("alice", Account { argon2id: hash("wonder"), ..Account::default() }),
            ("bob", Account { scram: scram(sha256, "pencil"), ..Account::default() }),
            (
                "carol",
                Account {
                    argon2id: hash("both"),
                    scram: scram(sha256, "both"),
                    scram_sha_1: scram(sha1, "both"),
                    send_as: Vec::new(),
                },
            ),
        ]
        .map(|(name, held)| (name.to_owned(), held)),
    )
}

/// A self-signed certificate for `names`.
pub(super) fn pair(dir: &Path, names: &[&str]) -> KeyPair {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    let unique = format!("{:x}", rand::random::<u64>());
    let certificate = dir.join(format!("{unique}.crt"));
    let key = dir.join(format!("{unique}.key"));
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    KeyPair { certificate, key }
}

pub(super) trait Channel: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Channel for T {}

/// The other end of a session.
pub(super) struct Peer {
    channel: Box<dyn Channel>,
    unread: Vec<u8>,
    /// The channel's `tls-exporter` value, where it is encrypted.
    pub(super) exporter: Option<[u8; 32]>,
}

impl Peer {
    /// A peer that has connected and read nothing.
    pub(super) async fn to(address: SocketAddr) -> Peer {
        Peer::new(Box::new(TcpStream::connect(address).await.unwrap()))
    }

    /// The same from this address of the machine.
    pub(super) async fn from(source: &str, address: SocketAddr) -> Peer {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::new(source.parse().unwrap(), 0)).unwrap();
        Peer::new(Box::new(socket.connect(address).await.unwrap()))
    }

    fn new(channel: Box<dyn Channel>) -> Peer {
        Peer { channel, unread: Vec::new(), exporter: None }
    }

    pub(super) async fn send(&mut self, bytes: &[u8]) {
        self.channel.write_all(bytes).await.unwrap();
        self.channel.flush().await.unwrap();
    }

    /// One whole reply, lines separated by LF.
    pub(super) async fn reply(&mut self) -> String {
        let mut lines: Vec<String> = Vec::new();
        loop {
            let line = self.line().await.expect("the connection ended before a whole reply");
            let last = line.as_bytes().get(3) != Some(&b'-');
            lines.push(line);
            if last {
                return lines.join("\n");
            }
        }
    }

    /// Says a line and gives the reply.
    pub(super) async fn say(&mut self, line: &str) -> String {
        self.send(format!("{line}\r\n").as_bytes()).await;
        self.reply().await
    }

    /// Says a line and wants a reply that begins so.
    pub(super) async fn expect(&mut self, line: &str, reply: &str) -> String {
        let got = self.say(line).await;
        assert!(got.starts_with(reply), "{line:?} got {got:?}, not {reply:?}");
        got
    }

    /// True when the other side has hung up and nothing is left to read.
    pub(super) async fn is_over(&mut self) -> bool {
        self.line().await.is_none()
    }

    /// A message from MAIL to its last reply.
    pub(super) async fn deliver(&mut self, to: &str) -> String {
        self.expect("MAIL FROM:<from@sender.example>", "250 2.1.0").await;
        self.expect(&format!("RCPT TO:<{to}>"), "250 2.1.5").await;
        self.expect("DATA", "354").await;
        self.say("Subject: hi\r\n\r\nHello\r\n.").await
    }

    pub(super) async fn encrypt(self, roots: &[CertificateDer<'static>], name: &str) -> Peer {
        self.encrypt_by(&[&rustls::version::TLS13, &rustls::version::TLS12], roots, name).await
    }

    pub(super) async fn encrypt_by(
        self,
        versions: &[&'static rustls::SupportedProtocolVersion],
        roots: &[CertificateDer<'static>],
        name: &str,
    ) -> Peer {
        let mut store = RootCertStore::empty();
        roots.iter().for_each(|root| store.add(root.clone()).unwrap());
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(store)
            .with_no_client_auth();
        self.encrypt_with(Arc::new(config), name).await
    }

    pub(super) async fn encrypt_with(self, config: Arc<ClientConfig>, name: &str) -> Peer {
        let name = ServerName::try_from(name.to_owned()).unwrap();
        assert!(self.unread.is_empty(), "something was said before the handshake");
        let connector = tokio_rustls::TlsConnector::from(config);
        let stream = connector.connect(name, self.channel).await.unwrap();
        let label = b"EXPORTER-Channel-Binding";
        let exporter = stream.get_ref().1.export_keying_material([0; 32], label, Some(b""));
        Peer { exporter: exporter.ok(), ..Peer::new(Box::new(stream)) }
    }

    async fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.unread.windows(2).position(|pair| pair == b"\r\n") {
                let line: Vec<u8> = self.unread.drain(..end + 2).collect();
                return Some(String::from_utf8(line[..end].to_vec()).unwrap());
            }
            let mut chunk = [0; 1024];
            let read = self.channel.read(&mut chunk);
            let read = tokio::time::timeout(Duration::from_secs(20), read).await;
            match read.expect("nothing came for 20 seconds") {
                Ok(count) if count > 0 => self.unread.extend_from_slice(&chunk[..count]),
                _ => return None,
            }
        }
    }
}

pub(super) fn b64(text: impl AsRef<[u8]>) -> String {
    STANDARD.encode(text)
}

pub(super) fn unb64(text: &str) -> String {
    String::from_utf8(STANDARD.decode(text).unwrap()).unwrap()
}
