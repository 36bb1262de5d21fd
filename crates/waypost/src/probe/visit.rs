//! One connection: greeting, EHLO, STARTTLS where it is offered, handshake, EHLO, QUIT.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, HandshakeKind, ProtocolVersion};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use waypost_dns::Host;
use waypost_smtp::{Reply, ReplyParser};

use super::Handshake;

/// What came of it.
#[derive(Debug, Default)]
pub(super) struct Visit {
    pub(super) banner: Option<String>,
    pub(super) before: Vec<String>,
    pub(super) starttls: bool,
    pub(super) tls: Option<Handshake>,
    pub(super) resumed: bool,
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) after: Vec<String>,
    pub(super) trouble: Option<Trouble>,
}

/// What ended it before its time.
#[derive(Debug)]
pub(super) enum Trouble {
    NotOffered,
    Refused(Reply),
    Handshake(String),
    Behind(String),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::NotOffered => f.write_str("STARTTLS is not offered"),
            Trouble::Refused(reply) => write!(f, "STARTTLS is refused: {reply}"),
            Trouble::Handshake(error) => write!(f, "the handshake failed: {error}"),
            Trouble::Behind(error) => write!(f, "behind the handshake: {error}"),
        }
    }
}

/// A connection.
async fn reach(address: SocketAddr, patience: Duration) -> Result<TcpStream> {
    let connected = timeout(patience, TcpStream::connect(address)).await;
    Ok(connected.context("it does not answer")??)
}

/// From the connection to QUIT.
///
/// # Errors
/// When there is no connection, or no SMTP before TLS.
pub(super) async fn visit(
    host: &Host,
    implicit: bool,
    config: &Arc<ClientConfig>,
    patience: Duration,
) -> Result<Visit> {
    let stream = reach(host.address, patience).await?;
    let mut talk = Talk { stream, replies: ReplyParser::new(), patience };
    let mut visit = Visit::default();
    if !implicit && !talk.as_far_as_starttls(&mut visit).await? {
        return Ok(visit);
    }
    if !talk.replies.is_empty() {
        visit.trouble =
            Some(Trouble::Handshake("the server spoke in clear text behind STARTTLS".into()));
        return Ok(visit);
    }
    let connector = TlsConnector::from(config.clone());
    let handshake = timeout(patience, connector.connect(server_name(host)?, talk.stream)).await;
    let stream = match handshake {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            visit.trouble = Some(Trouble::Handshake(error.to_string()));
            return Ok(visit);
        }
        Err(_) => {
            visit.trouble = Some(Trouble::Handshake("it takes too long".into()));
            return Ok(visit);
        }
    };
    visit.note(&stream);
    let mut talk = Talk { stream, replies: ReplyParser::new(), patience };
    if let Err(error) = talk.behind_tls(implicit, &mut visit).await {
        // A certificate of ours that is missed in TLS 1.3 shows only here.
        visit.trouble = Some(Trouble::Behind(format!("{error:#}")));
    }
    Ok(visit)
}

fn server_name(host: &Host) -> Result<ServerName<'static>> {
    match host.name.parse::<IpAddr>() {
        Ok(ip) => Ok(ServerName::from(ip)),
        Err(_) => ServerName::try_from(host.name.clone())
            .map_err(|_| anyhow!("'{}' is no name that a certificate can prove", host.name)),
    }
}

impl Visit {
    fn note(&mut self, stream: &TlsStream<TcpStream>) {
        let connection = stream.get_ref().1;
        let suite = connection.negotiated_cipher_suite().and_then(|suite| suite.suite().as_str());
        let group = connection.negotiated_key_exchange_group();
        self.tls = Some(Handshake {
            version: match connection.protocol_version() {
                Some(ProtocolVersion::TLSv1_3) => "1.3".to_owned(),
                _ => "1.2".to_owned(),
            },
            cipher: suite.unwrap_or("unknown").replacen("TLS13_", "TLS_", 1),
            key_exchange: group.map(|group| format!("{:?}", group.name())),
            client_certificate: None,
        });
        self.resumed = connection.handshake_kind() == Some(HandshakeKind::Resumed);
        let chain = connection.peer_certificates().unwrap_or_default();
        self.chain = chain.iter().map(|der| der.clone().into_owned()).collect();
    }
}

/// Commands and replies on a stream.
struct Talk<S> {
    stream: S,
    replies: ReplyParser,
    patience: Duration,
}

impl Talk<TcpStream> {
    /// False when it comes to no handshake; why is noted.
    async fn as_far_as_starttls(&mut self, visit: &mut Visit) -> Result<bool> {
        visit.banner = Some(self.greeting().await?);
        visit.before = self.extensions().await?;
        visit.starttls = visit.before.iter().any(|word| word.eq_ignore_ascii_case("STARTTLS"));
        if !visit.starttls {
            visit.trouble = Some(Trouble::NotOffered);
            self.quit().await;
            return Ok(false);
        }
        let reply = self.say("STARTTLS").await?;
        if !reply.is_positive() {
            visit.trouble = Some(Trouble::Refused(reply));
            self.quit().await;
            return Ok(false);
        }
        Ok(true)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Talk<S> {
    async fn behind_tls(&mut self, implicit: bool, visit: &mut Visit) -> Result<()> {
        if implicit {
            visit.banner = Some(self.greeting().await?);
        }
        visit.after = self.extensions().await?;
        self.quit().await;
        Ok(())
    }

    async fn greeting(&mut self) -> Result<String> {
        let greeting = self.reply().await.context("there is no greeting")?;
        if !greeting.is_positive() {
            bail!("the server does not let us in: {greeting}");
        }
        Ok(greeting.to_string())
    }

    /// One for each line of the reply to EHLO but the first.
    async fn extensions(&mut self) -> Result<Vec<String>> {
        let name = IpAddr::from([127, 0, 0, 1]);
        let reply = self.say(&format!("EHLO [{name}]")).await?;
        if !reply.is_positive() {
            bail!("EHLO is refused: {reply}");
        }
        Ok(reply.text.split('\n').skip(1).map(str::to_owned).collect())
    }

    /// However it ends, everything is known.
    async fn quit(&mut self) {
        let _ = self.say("QUIT").await;
    }

    async fn say(&mut self, line: &str) -> Result<Reply> {
        let written = async {
            self.stream.write_all(format!("{line}\r\n").as_bytes()).await?;
            self.stream.flush().await
        };
        timeout(self.patience, written).await.context("the server does not read")??;
        self.reply().await
    }

    async fn reply(&mut self) -> Result<Reply> {
        let mut bytes = [0; 4096];
        loop {
            if let Some(reply) = self.replies.pull()? {
                return Ok(reply);
            }
            let read = timeout(self.patience, self.stream.read(&mut bytes)).await;
            match read.context("the server says nothing")?? {
                0 => bail!("the server hung up"),
                count => self.replies.push(&bytes[..count]),
            }
        }
    }
}
