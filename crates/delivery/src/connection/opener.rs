//! How a connection is opened and made ready.

use std::sync::Arc;

use rustls::sign::CertifiedKey;
use tokio::time::{Instant, timeout};
use tracing::debug;
use waypost_dns::Host;
use waypost_mail::Security;
use waypost_smtp::Phase;
use waypost_smtp::client::{
    Credentials, Session, SessionConfig, SessionFailure, SessionStep, StartTls,
};

use super::{Connection, Failure};
use crate::channel::Channel;
use crate::demand::Demand;
use crate::lapses::Lapses;
use crate::proxy::CannotLeave;
use crate::tape::Tape;
use crate::tls::Observed;
use crate::{Config, Dialer, Metrics, SourceAddress};

/// What a connection is to be like.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wish<'a> {
    pub(crate) host: &'a Host,
    /// The host, as outcomes and logs name it.
    pub(crate) hop: &'a str,
    pub(crate) demand: &'a Demand,
    pub(crate) implicit_tls: bool,
    /// Something is to be learned of its certificate, though nothing is demanded of it.
    pub(crate) observe: bool,
    /// What we show to a host that asks who we are.
    pub(crate) identity: Option<&'a Arc<CertifiedKey>>,
    /// It speaks LMTP.
    pub(crate) lmtp: bool,
    pub(crate) credentials: Option<&'a Credentials>,
    /// Where it comes from, when the route says so.
    pub(crate) source: Option<&'a SourceAddress>,
    /// Where it is written down how it is opened.
    pub(crate) tape: &'a Tape,
}

/// Opens connections as a [`Wish`] has them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Opener<'a> {
    pub(crate) dialer: &'a dyn Dialer,
    pub(crate) config: &'a Config,
    pub(crate) metrics: &'a Metrics,
    pub(crate) broken_starttls: &'a Lapses,
}

impl Opener<'_> {
    /// A ready connection. Where TLS is optional and STARTTLS fails, a second one is made in clear
    /// text at once (RFC 7435 §3).
    pub(crate) async fn open(&self, wish: &Wish<'_>) -> Result<Connection, Failure> {
        let optional = *wish.demand == Demand::Opportunistic && !wish.implicit_tls;
        let address = wish.host.address;
        let starttls = match wish.demand {
            _ if wish.implicit_tls => StartTls::Active,
            Demand::Never => StartTls::Never,
            Demand::Opportunistic if self.broken_starttls.contains(address) => {
                wish.tape.about_tls(|| "STARTTLS is not tried, it failed there lately".to_owned());
                StartTls::Never
            }
            Demand::Opportunistic => StartTls::IfOffered,
            Demand::Encrypt | Demand::Verify | Demand::Sts | Demand::Dane(_) => StartTls::Required,
        };
        match self.open_once(wish, starttls).await {
            Err(failure) if optional && failure.is_about_starttls() => {
                debug!(hop = wish.hop, ?failure, "STARTTLS failed, going on in clear text");
                wish.tape.about_tls(|| "a second connection in clear text".to_owned());
                self.broken_starttls.remember(address);
                self.open_once(wish, StartTls::Never).await
            }
            other => other,
        }
    }

    async fn open_once(&self, wish: &Wish<'_>, starttls: StartTls) -> Result<Connection, Failure> {
        let opened = self.open_session(wish, starttls).await;
        if let Some(words) = about_tls(&opened, starttls) {
            wish.tape.about_tls(|| words);
        }
        match &opened {
            Ok(connection) => {
                self.metrics.protected(connection.security.protection);
                self.metrics.connections_opened.inc()
            }
            Err(_) => self.metrics.connections_failed.inc(),
        };
        opened
    }

    async fn open_session(
        &self,
        wish: &Wish<'_>,
        starttls: StartTls,
    ) -> Result<Connection, Failure> {
        let mut channel = self.dial(wish).await?;
        let mut security = Security::CLEAR;
        let observed = wish.observe.then(Observed::default);
        if starttls == StartTls::Active {
            (channel, security) = self.encrypt(channel, wish, observed.as_ref()).await?;
        }
        let mut session = Session::new(SessionConfig {
            ehlo_name: wish
                .source
                .and_then(|source| source.ehlo.clone())
                .unwrap_or_else(|| self.config.ehlo_name.clone()),
            lmtp: wish.lmtp,
            tls: starttls,
            credentials: wish.credentials.cloned(),
            allow_plaintext_auth: false,
            nonce: wish.credentials.map(|_| rand::random()).unwrap_or_default(),
        });
        loop {
            match session.step() {
                SessionStep::NeedInput => channel.exchange(&mut session).await?,
                SessionStep::Upgrade => {
                    (channel, security) = self.encrypt(channel, wish, observed.as_ref()).await?;
                    session.upgraded();
                }
                SessionStep::Ready => break,
                SessionStep::Failed(failure) => {
                    return Err(Failure::Session(session.phase(), failure));
                }
            }
        }
        Ok(Connection {
            channel,
            extensions: session.extensions().clone(),
            buffer: Vec::new(),
            security,
            observed: observed.and_then(|observed| observed.flaw()),
            messages: 0,
            most_messages: u32::MAX,
            needs_reset: false,
            seat: None,
            starttls_refused: starttls == StartTls::IfOffered && session.declined_starttls(),
        })
    }

    async fn dial(&self, wish: &Wish<'_>) -> Result<Channel, Failure> {
        let timeouts = &self.config.timeouts;
        let since = Instant::now();
        let dial = self.dialer.dial(wish.host.address, wish.source);
        let dialed = timeout(timeouts.connect, dial).await;
        let stream = match dialed {
            Err(_) => return Err(Failure::TimedOut(Phase::Connect)),
            Ok(Err(error)) if CannotLeave::is(&error) => {
                return Err(Failure::CannotLeave(error.to_string()));
            }
            Ok(Err(error)) => return Err(Failure::Unreachable(error.to_string())),
            Ok(Ok(stream)) => stream,
        };
        self.metrics.waited(Phase::Connect, since.elapsed());
        wish.tape.waited(Phase::Connect, since.elapsed());
        wish.tape.note(|| format!("connected to {}", wish.host.address));
        Ok(Channel::new(stream, timeouts.clone(), self.metrics.clone(), wish.tape.clone()))
    }

    async fn encrypt(
        &self,
        channel: Channel,
        wish: &Wish<'_>,
        observed: Option<&Observed>,
    ) -> Result<(Channel, Security), Failure> {
        let timeouts = &self.config.timeouts;
        let since = Instant::now();
        let stream = channel.into_stream();
        let (host, demand, identity) = (wish.host, wish.demand, wish.identity);
        let handshake = self.config.tls.encrypt(stream, host, demand, identity, observed);
        let (stream, version) = match timeout(timeouts.starttls, handshake).await {
            Err(_) => return Err(Failure::TimedOut(Phase::StartTls)),
            Ok(Err(error)) => return Err(Failure::Handshake(error)),
            Ok(Ok(done)) => done,
        };
        self.metrics.encrypted(version.label());
        self.metrics.waited(Phase::StartTls, since.elapsed());
        wish.tape.waited(Phase::StartTls, since.elapsed());
        let security = Security { protection: wish.demand.protection(), version: Some(version) };
        wish.tape.note(|| format!("TLS handshake done: {security}"));
        let tape = wish.tape.clone();
        Ok((Channel::new(stream, timeouts.clone(), self.metrics.clone(), tape), security))
    }
}

/// What is to be said of the TLS of a connection that was opened, or was not, besides what it proves.
fn about_tls(opened: &Result<Connection, Failure>, starttls: StartTls) -> Option<String> {
    match opened {
        Ok(connection) if connection.security.version.is_some() => {
            let flaw = connection.observed.as_ref()?;
            Some(format!("its certificate would not do where it must: {}", flaw.text))
        }
        Ok(connection) if connection.starttls_refused => Some("STARTTLS was refused".to_owned()),
        Ok(_) if starttls == StartTls::IfOffered => Some("STARTTLS is not offered".to_owned()),
        Ok(_) => None,
        Err(Failure::Handshake(error)) => Some(error.to_string()),
        Err(Failure::Session(_, failure)) if starttls != StartTls::Never => match failure {
            SessionFailure::StartTlsNotOffered | SessionFailure::StartTlsRefused(_) => {
                Some(failure.to_string())
            }
            _ => None,
        },
        Err(failure) if failure.is_about_starttls() => {
            Some("the connection ended at STARTTLS".to_owned())
        }
        Err(_) => None,
    }
}
