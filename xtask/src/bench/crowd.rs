//! Clients that submit at once: to many recipients, and under TLS, which smtp-source cannot. As it does, each
//! waits for every reply.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;

use super::setting::NAME;

/// Fewer than a relay takes in one session by default.
const PER_CONNECTION: usize = 500;
/// Longest wait for one reply.
const PATIENCE: Duration = Duration::from_secs(120);
/// The same for a greeting; then the connection is tried again, so many times. Where only five may wait to be taken
/// (OpenSMTPD), a SYN cookie lets us believe in one of which the relay knows nothing.
const GREETING_PATIENCE: Duration = Duration::from_secs(2);
const CONNECTION_TRIES: u32 = 30;

/// One message: `kind-number` becomes its Message-ID.
#[derive(Clone, Debug)]
pub(crate) struct Letter {
    pub(crate) kind: &'static str,
    pub(crate) number: usize,
    pub(crate) to: String,
}

/// Sessions that share what is to be sent.
pub(crate) struct Crowd<'a> {
    pub(crate) port: u16,
    pub(crate) sessions: usize,
    /// Whole lines.
    pub(crate) body: &'a str,
    /// STARTTLS, by who trusts the relay.
    pub(crate) tls: Option<TlsConnector>,
}

impl Crowd<'_> {
    /// Sends all; answers when the last was accepted.
    pub(crate) fn send(&self, letters: &[Letter]) -> anyhow::Result<Instant> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let mut sessions = JoinSet::new();
            for number in 0..self.sessions.min(letters.len()) {
                let own = letters.iter().skip(number).step_by(self.sessions);
                let own: Vec<Letter> = own.cloned().collect();
                let (port, body, tls) = (self.port, self.body.to_owned(), self.tls.clone());
                sessions.spawn(async move {
                    for part in own.chunks(PER_CONNECTION) {
                        session(port, &body, tls.as_ref(), part).await?;
                    }
                    anyhow::Ok(())
                });
            }
            while let Some(ended) = sessions.join_next().await {
                ended??;
            }
            Ok(Instant::now())
        })
    }
}

async fn session(
    port: u16,
    body: &str,
    tls: Option<&TlsConnector>,
    letters: &[Letter],
) -> anyhow::Result<()> {
    let mut stream = greeted(port).await?;
    say(&mut stream, b"EHLO client.bench.example\r\n", "250").await?;
    let Some(tls) = tls else {
        return submit(&mut stream, body, letters).await;
    };
    say(&mut stream, b"STARTTLS\r\n", "220").await?;
    let mut stream = tls.connect(ServerName::try_from(NAME)?, stream).await?;
    say(&mut stream, b"EHLO client.bench.example\r\n", "250").await?;
    submit(&mut stream, body, letters).await
}

/// A connection whose greeting was heard.
async fn greeted(port: u16) -> anyhow::Result<TcpStream> {
    for _ in 0..CONNECTION_TRIES {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
        stream.set_nodelay(true)?;
        if let Ok(heard) = timeout(GREETING_PATIENCE, say(&mut stream, b"", "220")).await {
            return heard.map(|()| stream);
        }
    }
    bail!("the relay greets nobody")
}

async fn submit<S>(stream: &mut S, body: &str, letters: &[Letter]) -> anyhow::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    for Letter { kind, number, to } in letters {
        say(stream, b"MAIL FROM:<from@bench.example>\r\n", "250").await?;
        say(stream, format!("RCPT TO:<{to}>\r\n").as_bytes(), "250").await?;
        say(stream, b"DATA\r\n", "354").await?;
        let message = format!(
            "From: <from@bench.example>\r\nTo: <{to}>\r\nSubject: bench\r\n\
             Date: Thu, 26 Nov 2026 05:00:00 +0000\r\nMessage-ID: <{kind}-{number}@bench.example>\r\n\r\n{body}.\r\n"
        );
        say(stream, message.as_bytes(), "250").await?;
    }
    say(stream, b"QUIT\r\n", "221").await
}

/// Says something and waits for the whole reply.
async fn say<S>(stream: &mut S, words: &[u8], code: &str) -> anyhow::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    stream.write_all(words).await?;
    stream.flush().await?;
    let (mut reply, mut piece) = (Vec::new(), [0; 1024]);
    loop {
        match timeout(PATIENCE, stream.read(&mut piece)).await?.context("reading a reply")? {
            0 => bail!("the relay hung up"),
            count => reply.extend_from_slice(&piece[..count]),
        }
        if is_whole(&reply) {
            let text = String::from_utf8_lossy(&reply);
            ensure!(text.starts_with(code), "expected {code}, got {text:?}");
            return Ok(());
        }
    }
}

/// True when the last line of a reply is there.
fn is_whole(reply: &[u8]) -> bool {
    let Some(lines) = reply.strip_suffix(b"\r\n") else { return false };
    let last = lines.rsplit(|octet| *octet == b'\n').next();
    last.is_some_and(|line| line.get(3) != Some(&b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_ends_with_its_last_line() {
        assert!(is_whole(b"250 ok\r\n") && is_whole(b"250-a\r\n250 b\r\n") && is_whole(b"250\r\n"));
        assert!(!is_whole(b"250-a\r\n") && !is_whole(b"250 ok") && !is_whole(b""));
    }
}
