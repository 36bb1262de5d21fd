//! A web server on loopback that serves what it is told, and keeps what it is sent.

#![expect(clippy::expect_used, reason = "a server that does not start fails its test")]

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// A running server: HTTP/1.1 over TLS, one request for each connection. Clones share everything.
#[derive(Debug, Clone)]
pub struct Web {
    /// Where it listens.
    pub addr: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    tls: Option<Arc<ServerConfig>>,
    pages: HashMap<String, Page>,
    requests: Vec<Request>,
}

#[derive(Debug, Clone)]
struct Page {
    status: u16,
    media: String,
    text: String,
}

/// A request that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Method and path, `GET /x`.
    pub line: String,
    /// The fields, as they came.
    pub header: String,
    /// What was sent along.
    pub body: Vec<u8>,
}

impl Web {
    /// One that has no pages yet.
    ///
    /// # Panics
    /// When there is no free port.
    pub async fn serve(tls: Arc<ServerConfig>) -> Web {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let addr = listener.local_addr().expect("a bound socket has an address");
        let state = Arc::new(Mutex::new(State { tls: Some(tls), ..State::default() }));
        let web = Web { addr, state };
        let server = web.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let server = server.clone();
                tokio::spawn(async move {
                    let Some(tls) = server.state().tls.clone() else { return };
                    let Ok(stream) = TlsAcceptor::from(tls).accept(stream).await else { return };
                    // Who goes away early learns nothing.
                    let _ = server.answer(stream).await;
                });
            }
        });
        web
    }

    /// From now on `path` is this page. With a status of 3xx its text is where it leads.
    pub fn put(&self, path: &str, status: u16, media: &str, text: &str) {
        let page = Page { status, media: media.to_owned(), text: text.to_owned() };
        self.state().pages.insert(path.to_owned(), page);
    }

    /// From now on shows another certificate; with none it closes every connection.
    pub fn show(&self, tls: Option<Arc<ServerConfig>>) {
        self.state().tls = tls;
    }

    /// What was asked so far.
    pub fn requests(&self) -> Vec<Request> {
        self.state().requests.clone()
    }

    async fn answer(&self, mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
        let request = read(&mut stream).await?;
        let path = request.line.split(' ').nth(1).unwrap_or_default().to_owned();
        let missing =
            || Page { status: 404, media: "text/plain".to_owned(), text: "not here".to_owned() };
        let page = {
            let mut state = self.state();
            state.requests.push(request);
            state.pages.get(&path).cloned().unwrap_or_else(missing)
        };
        let location = match page.status {
            300..400 => format!("Location: {}\r\n", page.text),
            _ => String::new(),
        };
        let head = format!(
            "HTTP/1.1 {} x\r\nContent-Type: {}\r\n{location}Content-Length: {}\r\nConnection: close\r\n\r\n",
            page.status,
            page.media,
            page.text.len()
        );
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(page.text.as_bytes()).await?;
        stream.shutdown().await
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Request> {
    let mut octets = Vec::new();
    loop {
        let end = octets.windows(4).position(|four| four == b"\r\n\r\n");
        if let Some(end) = end {
            let head = String::from_utf8_lossy(&octets[..end]).into_owned();
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
            });
            let length: usize = length.unwrap_or(0);
            let mut body = octets.split_off(end + 4);
            let have = body.len().min(length);
            body.resize(length, 0);
            stream.read_exact(&mut body[have..]).await?;
            let (line, header) = head.split_once("\r\n").unwrap_or((&head, ""));
            let line = line.split(' ').take(2).collect::<Vec<_>>().join(" ");
            return Ok(Request { line, header: header.to_owned(), body });
        }
        let mut piece = [0; 4096];
        let count = stream.read(&mut piece).await?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        octets.extend_from_slice(&piece[..count]);
    }
}
