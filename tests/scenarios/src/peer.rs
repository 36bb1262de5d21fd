//! The other end of a session: says lines, hears replies, and holds them against what is wanted.

use std::net::SocketAddr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::home::HOSTNAME;
use crate::{PASSWORD, PATIENCE, USER};

trait Channel: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Channel for T {}

/// A client without manners of its own: it sends what it is told, byte by byte if need be.
pub struct Peer {
    channel: Box<dyn Channel>,
    unread: Vec<u8>,
    certificate: Option<Vec<u8>>,
}

/// The connection.
impl Peer {
    /// A peer that has connected and read nothing.
    pub async fn to(address: SocketAddr) -> Peer {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Peer { channel: Box::new(stream), unread: Vec::new(), certificate: None }
    }

    /// The same from this address of the machine.
    pub async fn from(own: [u8; 4], to: SocketAddr) -> Peer {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from((own, 0))).unwrap();
        let stream = socket.connect(to).await.unwrap();
        Peer { channel: Box::new(stream), unread: Vec::new(), certificate: None }
    }

    /// Speaks TLS from now on, with the relay by its own name.
    pub async fn encrypt(self, roots: &RootCertStore) -> Peer {
        self.encrypt_to(roots, HOSTNAME).await
    }

    /// The same by another name, which goes out as SNI and must be in the certificate.
    ///
    /// # Panics
    /// When the handshake fails, or something was said before it.
    pub async fn encrypt_to(self, roots: &RootCertStore, name: &str) -> Peer {
        assert!(self.unread.is_empty(), "something was said before the handshake");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots.clone())
            .with_no_client_auth();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let connector = TlsConnector::from(Arc::new(config));
        let stream = timeout(PATIENCE, connector.connect(name, self.channel)).await;
        let stream = stream.expect("the handshake takes too long").unwrap();
        let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        let certificate = shown.map(|certificate| certificate.to_vec());
        Peer { channel: Box::new(stream), unread: Vec::new(), certificate }
    }

    /// STARTTLS, the handshake, and EHLO again.
    pub async fn starttls(mut self, roots: &RootCertStore) -> Peer {
        self.expect("STARTTLS", "220 2.0.0").await;
        let mut peer = self.encrypt(roots).await;
        peer.hello().await;
        peer
    }

    /// The certificate the relay has shown, in DER.
    pub fn certificate(&self) -> Option<&[u8]> {
        self.certificate.as_deref()
    }

    /// True when the relay has hung up and nothing is left to read.
    pub async fn is_over(&mut self) -> bool {
        self.line().await.is_none()
    }
}

/// Patience.
impl Peer {
    /// True when the relay hangs up within this time; what it says is not heard.
    pub async fn has_ended(&mut self, within: std::time::Duration) -> bool {
        let mut rest = [0; 512];
        match timeout(within, self.channel.read(&mut rest)).await {
            Ok(read) => read.is_err() || read.is_ok_and(|count| count == 0),
            Err(_) => false,
        }
    }
}

/// Words.
impl Peer {
    /// Sends these bytes.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.channel.write_all(bytes.as_ref()).await.unwrap();
        self.channel.flush().await.unwrap();
    }

    /// One whole reply, its lines separated by LF.
    ///
    /// # Panics
    /// When the connection ends before.
    pub async fn reply(&mut self) -> String {
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

    /// Wants a reply that begins so.
    pub async fn hear(&mut self, reply: &str) -> String {
        let got = self.reply().await;
        assert!(got.starts_with(reply), "heard {got:?}, not {reply:?}");
        got
    }

    /// Says a line and gives the reply.
    pub async fn say(&mut self, line: &str) -> String {
        self.send(format!("{line}\r\n")).await;
        self.reply().await
    }

    /// Says a line and wants a reply that begins so.
    pub async fn expect(&mut self, line: &str, reply: &str) -> String {
        let got = self.say(line).await;
        assert!(got.starts_with(reply), "{line:?} got {got:?}, not {reply:?}");
        got
    }

    /// A peer that has connected to a Unix socket and read nothing.
    pub async fn at(socket: &std::path::Path) -> Peer {
        let stream = tokio::net::UnixStream::connect(socket).await.unwrap();
        Peer { channel: Box::new(stream), unread: Vec::new(), certificate: None }
    }

    /// EHLO, and what it offers: a keyword with its parameters each.
    pub async fn hello(&mut self) -> Vec<String> {
        let reply = self.expect("EHLO peer.example", "250").await;
        reply.lines().skip(1).map(|line| line[4..].to_owned()).collect()
    }

    /// Logs in as [`USER`].
    pub async fn login(&mut self) {
        let response = b64(format!("\0{USER}\0{PASSWORD}"));
        self.expect(&format!("AUTH PLAIN {response}"), "235 2.7.0").await;
    }

    /// MAIL and RCPT, all of which are to be taken.
    pub async fn envelope(&mut self, from: &str, to: &[&str]) {
        self.expect(&format!("MAIL FROM:<{from}>"), "250 2.1.0").await;
        for to in to {
            self.expect(&format!("RCPT TO:<{to}>"), "250 2.1.5").await;
        }
    }

    /// DATA with this content, which ends with CRLF and has its dots stuffed; the last reply.
    pub async fn data(&mut self, content: impl AsRef<[u8]>) -> String {
        self.expect("DATA", "354").await;
        self.send([content.as_ref(), b".\r\n"].concat()).await;
        self.reply().await
    }

    /// A whole message, which is to be taken; its queue id.
    pub async fn deliver(&mut self, from: &str, to: &[&str], content: &str) -> String {
        self.envelope(from, to).await;
        let reply = self.data(content).await;
        let id = reply.strip_prefix("250 2.0.0 OK queued as ");
        id.unwrap_or_else(|| panic!("the message was not taken: {reply}")).to_owned()
    }

    async fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.unread.windows(2).position(|pair| pair == b"\r\n") {
                let line: Vec<u8> = self.unread.drain(..end + 2).collect();
                return Some(String::from_utf8(line[..end].to_vec()).unwrap());
            }
            let mut chunk = [0; 4096];
            let read = timeout(PATIENCE, self.channel.read(&mut chunk)).await;
            match read.expect("the relay says nothing for too long") {
                Ok(count) if count > 0 => self.unread.extend_from_slice(&chunk[..count]),
                _ => return None,
            }
        }
    }
}

/// Text in base64.
pub fn b64(text: impl AsRef<[u8]>) -> String {
    STANDARD.encode(text)
}

/// Text out of base64.
pub fn unb64(text: &str) -> String {
    String::from_utf8(STANDARD.decode(text).unwrap()).unwrap()
}
