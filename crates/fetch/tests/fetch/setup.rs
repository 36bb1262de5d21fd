//! A scripted web server, names that lead where the test says, and a network that leads to the
//! server whatever the address.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use waypost_fetch::{Client, Config, Dialer};
use waypost_mail::fetch::FetchResponse;
use waypost_mail::fetch::{Addresses, Allow, AllowRule, Fetch, FetchError, FetchRequest};

/// What a server does with a request.
pub(crate) enum Piece {
    Send(Vec<u8>),
    Pause(Duration),
    /// Says nothing more until the client goes away.
    Hold,
    /// Goes away without a word, in TLS too.
    Drop,
}

type Script = dyn Fn(&str) -> Vec<Piece> + Send + Sync;

/// One request a connection; what it says is the test's.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    seen: Arc<Seen>,
}

#[derive(Default)]
struct Seen {
    requests: Mutex<Vec<String>>,
    names: Mutex<Vec<Option<String>>>,
    gone: Mutex<usize>,
}

impl Server {
    pub(crate) async fn plain(
        script: impl Fn(&str) -> Vec<Piece> + Send + Sync + 'static,
    ) -> Server {
        Server::start(None, script).await
    }

    pub(crate) async fn tls(
        config: Arc<ServerConfig>,
        script: impl Fn(&str) -> Vec<Piece> + Send + Sync + 'static,
    ) -> Server {
        Server::start(Some(TlsAcceptor::from(config)), script).await
    }

    async fn start(
        tls: Option<TlsAcceptor>,
        script: impl Fn(&str) -> Vec<Piece> + Send + Sync + 'static,
    ) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Seen::default());
        let (kept, script): (_, Arc<Script>) = (seen.clone(), Arc::new(script));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (tls, seen, script) = (tls.clone(), kept.clone(), script.clone());
                tokio::spawn(async move {
                    let _ = serve(stream, tls, &seen, &*script).await;
                });
            }
        });
        Server { address, seen }
    }

    pub(crate) fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Each request so far, as it came over the wire.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.seen.requests.lock().unwrap().clone()
    }

    /// The names asked for in TLS.
    pub(crate) fn names(&self) -> Vec<Option<String>> {
        self.seen.names.lock().unwrap().clone()
    }

    /// Waits until that many clients left while the server held them.
    pub(crate) async fn gone(&self, count: usize) {
        while *self.seen.gone.lock().unwrap() < count {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until that many requests came.
    pub(crate) async fn asked(&self, count: usize) {
        while self.requests().len() < count {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

async fn serve(
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    seen: &Seen,
    script: &Script,
) -> io::Result<()> {
    let Some(tls) = tls else { return talk(stream, seen, script).await };
    let stream = tls.accept(stream).await?;
    seen.names.lock().unwrap().push(stream.get_ref().1.server_name().map(str::to_owned));
    talk(stream, seen, script).await
}

async fn talk(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    seen: &Seen,
    script: &Script,
) -> io::Result<()> {
    let Ok(request) = request(&mut stream).await else {
        // As servers do that are spoken to by TLS where they expect none.
        return stream.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").await;
    };
    seen.requests.lock().unwrap().push(request.clone());
    for piece in script(&request) {
        match piece {
            Piece::Send(octets) => stream.write_all(&octets).await?,
            Piece::Pause(time) => tokio::time::sleep(time).await,
            Piece::Drop => return Ok(()),
            Piece::Hold => {
                let _ = stream.read(&mut [0; 1]).await;
                *seen.gone.lock().unwrap() += 1;
            }
        }
        stream.flush().await?;
    }
    stream.shutdown().await
}

async fn request(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<String> {
    let mut octets = Vec::new();
    loop {
        let text = String::from_utf8(octets.clone()).map_err(|_| io::ErrorKind::InvalidData)?;
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if body.len() >= length.map_or(0, |n| n.parse().unwrap()) {
                return Ok(text);
            }
        }
        if stream.read_buf(&mut octets).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// A whole answer with a body.
pub(crate) fn answer(status: &str, fields: &str, body: &str) -> Vec<Piece> {
    let length = body.len();
    let text = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n{fields}\r\n{body}");
    vec![Piece::Send(text.into_bytes())]
}

pub(crate) fn redirect(status: &str, location: &str) -> Vec<Piece> {
    answer(status, &format!("location: {location}\r\n"), "gone")
}

/// Answers one after the other; the last one again and again.
#[derive(Debug, Default)]
pub(crate) struct Names {
    answers: Mutex<VecDeque<Result<Vec<IpAddr>, String>>>,
    asked: Mutex<Vec<String>>,
}

impl Names {
    pub(crate) fn new(answers: &[&[&str]]) -> Arc<Names> {
        let answers =
            answers.iter().map(|ips| Ok(ips.iter().map(|ip| ip.parse().unwrap()).collect()));
        Arc::new(Names { answers: Mutex::new(answers.collect()), asked: Mutex::default() })
    }

    pub(crate) fn failing(why: &str) -> Arc<Names> {
        let answers = VecDeque::from([Err(why.to_owned())]);
        Arc::new(Names { answers: Mutex::new(answers), asked: Mutex::default() })
    }

    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

#[async_trait]
impl Addresses for Names {
    async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, String> {
        self.asked.lock().unwrap().push(host.to_owned());
        let mut answers = self.answers.lock().unwrap();
        let next = answers.pop_front().unwrap_or_else(|| panic!("nobody should ask for {host}"));
        if answers.is_empty() {
            answers.push_back(next.clone());
        }
        next
    }
}

/// Leads to one server, whatever the address, and remembers the addresses.
#[derive(Debug)]
pub(crate) struct Detour {
    to: SocketAddr,
    refusing: Vec<SocketAddr>,
    silent: Vec<SocketAddr>,
    dialed: Mutex<Vec<SocketAddr>>,
}

impl Detour {
    pub(crate) fn to(server: &Server) -> Arc<Detour> {
        Detour::with(server, &[], &[])
    }

    /// Some addresses refuse, some never answer.
    pub(crate) fn with(server: &Server, refusing: &[&str], silent: &[&str]) -> Arc<Detour> {
        let parsed = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        Arc::new(Detour {
            to: server.address,
            refusing: parsed(refusing),
            silent: parsed(silent),
            dialed: Mutex::default(),
        })
    }

    pub(crate) fn dialed(&self) -> Vec<String> {
        self.dialed.lock().unwrap().iter().map(SocketAddr::to_string).collect()
    }
}

#[async_trait]
impl Dialer for Detour {
    async fn dial(&self, address: SocketAddr) -> io::Result<TcpStream> {
        self.dialed.lock().unwrap().push(address);
        if self.silent.contains(&address) {
            std::future::pending::<()>().await;
        }
        if self.refusing.contains(&address) {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        TcpStream::connect(self.to).await
    }
}

/// Over the real network of this machine; nobody may ask for a name.
pub(crate) fn client() -> Client {
    Client::new(config(RootCertStore::empty()), Names::new(&[])).unwrap()
}

pub(crate) fn config(roots: RootCertStore) -> Config {
    Config { roots, max_concurrent: 8 }
}

pub(crate) fn rule(origin: &str, methods: &[&str], path_prefix: &str) -> AllowRule {
    AllowRule {
        origin: origin.parse().unwrap(),
        methods: methods.iter().map(|&method| method.to_owned()).collect(),
        path_prefix: path_prefix.to_owned(),
    }
}

pub(crate) fn allow(rules: Vec<AllowRule>) -> Allow {
    Allow {
        rules,
        max_response: 1024,
        max_request: 64,
        max_timeout: Duration::from_secs(20),
        private: false,
        redirects: true,
    }
}

/// GET and POST everywhere at the origin.
pub(crate) fn open(origin: &str) -> Allow {
    allow(vec![rule(origin, &["GET", "POST"], "/")])
}

pub(crate) fn get(url: impl Into<String>) -> FetchRequest {
    FetchRequest {
        method: "GET".into(),
        url: url.into(),
        headers: Vec::new(),
        body: bytes::Bytes::new(),
        timeout: Duration::from_secs(10),
    }
}

pub(crate) fn post(url: impl Into<String>, body: &'static str) -> FetchRequest {
    FetchRequest { method: "POST".into(), body: body.into(), ..get(url) }
}

/// Asks the server for `/` over the real network.
pub(crate) async fn ask(server: &Server) -> Result<FetchResponse, FetchError> {
    let origin = server.origin();
    client().fetch(get(format!("{origin}/")), &open(&origin)).await
}

#[track_caller]
pub(crate) fn denied(result: Result<FetchResponse, FetchError>) -> String {
    match result {
        Err(FetchError::Denied(reason)) => reason,
        other => panic!("not denied: {other:?}"),
    }
}

#[track_caller]
pub(crate) fn invalid(result: Result<FetchResponse, FetchError>) -> String {
    match result {
        Err(FetchError::Invalid(reason)) => reason,
        other => panic!("not invalid: {other:?}"),
    }
}
