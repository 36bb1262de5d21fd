//! One connection to one host: opened, made ready, used for transactions, ended.

use std::sync::Arc;

use rustls::sign::CertifiedKey;
use tokio::time::{Instant, timeout};
use tracing::debug;
use waypost_dns::Host;
use waypost_mail::{Security, Why};
use waypost_queue::Content;
use waypost_smtp::client::{
    Control, ControlStep, Credentials, Letter, Obstacle, ProtocolError, RecipientResult, Reuse,
    Session, SessionConfig, SessionFailure, SessionStep, StartTls, Transaction, TransactionResult,
    TransactionStep,
};
use waypost_smtp::{BodyType, Extensions, Limits, Phase, ReversePath, Severity, Stuffer};

use crate::channel::Channel;
use crate::demand::Demand;
use crate::proxy::CannotLeave;
use crate::tape::Tape;
use crate::tls::{BrokenStartTls, HandshakeError, Observed};
use crate::{Config, Dialer, Metrics, SourceAddress};

/// Octets of a message that are read, encoded and written at once.
const BLOCK: usize = 64 * 1024;
/// Capacity that an idle connection's write buffer keeps.
const KEPT_BUFFER: usize = 16 * 1024;

/// Why a connection is of no use, or of none any more.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The source address, or the proxy that has it, is of no use.
    CannotLeave(String),
    /// There is no TCP connection.
    Unreachable(String),
    TimedOut(Phase),
    Lost(Phase),
    /// The session could not be made ready.
    Session(Phase, SessionFailure),
    /// The handshake failed, behind STARTTLS or on a port with implicit TLS.
    Handshake(HandshakeError),
    /// What came is not SMTP.
    Protocol(Phase, ProtocolError),
    /// Our own fault: the message cannot be read.
    Unreadable(String),
}

impl Failure {
    /// The same as the cause kept with the recipients.
    pub(crate) fn why(self, hop: &str, demand: &Demand) -> Why {
        let hop = hop.to_owned();
        match self {
            Failure::CannotLeave(error) | Failure::Unreachable(error) => {
                Why::Unreachable { hop, error }
            }
            Failure::TimedOut(phase) => Why::TimedOut { hop, phase },
            Failure::Lost(phase) => Why::ConnectionLost { hop, phase },
            Failure::Handshake(error) => {
                Why::TlsRequired { hop, error: format!("{error}{}", demand.reason()) }
            }
            Failure::Protocol(phase, error) => {
                Why::ProtocolError { hop, phase, error: error.to_string() }
            }
            Failure::Unreadable(error) => Why::Unreadable(error),
            Failure::Session(phase, failure) => session_why(hop, phase, failure, demand),
        }
    }

    /// True when the host spoke SMTP with us and may do so again for another message.
    pub(crate) fn is_answer(&self) -> bool {
        match self {
            Failure::Session(_, SessionFailure::Refused { phase, .. }) => *phase != Phase::Auth,
            Failure::Lost(phase) | Failure::TimedOut(phase) => *phase > Phase::Auth,
            Failure::Protocol(..) => true,
            _ => false,
        }
    }

    /// True when the host began to speak with us and would not go on: it may be that we asked too much.
    pub(crate) fn is_trouble(&self) -> bool {
        match self {
            Failure::Lost(phase) => *phase > Phase::Connect,
            // A host that does not say a word is down.
            Failure::TimedOut(phase) => *phase > Phase::Auth,
            Failure::Session(_, SessionFailure::Refused { phase, reply }) => {
                *phase < Phase::Auth && reply.severity() == Severity::Transient
            }
            _ => false,
        }
    }

    /// True when another source may fare better: this one is of no use, or the host takes nothing from it.
    pub(crate) fn is_about_source(&self) -> bool {
        match self {
            Failure::CannotLeave(_) => true,
            Failure::Session(
                Phase::Greeting | Phase::Ehlo,
                SessionFailure::Refused { reply, .. },
            ) => reply.severity() == Severity::Permanent,
            _ => false,
        }
    }

    /// True when STARTTLS is what failed, so that clear text may still work.
    pub(crate) fn is_about_starttls(&self) -> bool {
        match self {
            Failure::TimedOut(phase) | Failure::Lost(phase) => *phase == Phase::StartTls,
            // Somebody meddles with this connection: nothing better comes of a second one.
            Failure::Session(_, SessionFailure::Protocol(ProtocolError::InjectedBeforeTls)) => {
                false
            }
            Failure::Session(phase, _) => *phase == Phase::StartTls,
            Failure::Handshake(_) => true,
            Failure::CannotLeave(_)
            | Failure::Unreachable(_)
            | Failure::Protocol(..)
            | Failure::Unreadable(_) => false,
        }
    }
}

fn session_why(hop: String, phase: Phase, failure: SessionFailure, demand: &Demand) -> Why {
    match failure {
        SessionFailure::Refused { phase: Phase::Auth, reply } => {
            Why::AuthFailed { hop, error: reply.to_string() }
        }
        SessionFailure::Refused { phase, reply } => Why::Refused { hop, phase, reply },
        SessionFailure::StartTlsNotOffered | SessionFailure::StartTlsRefused(_) => {
            Why::TlsRequired { hop, error: format!("{failure}{}", demand.reason()) }
        }
        SessionFailure::Protocol(error) => {
            Why::ProtocolError { hop, phase, error: error.to_string() }
        }
        SessionFailure::AuthNotOffered
        | SessionFailure::NoCommonMechanism { .. }
        | SessionFailure::AuthNeedsTls
        | SessionFailure::ServerUnproven => Why::AuthFailed { hop, error: failure.to_string() },
    }
}

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

/// A session that takes transactions.
#[derive(Debug)]
pub(crate) struct Connection {
    channel: Channel,
    extensions: Extensions,
    buffer: Vec<u8>,
    /// How it is protected.
    pub(crate) security: Security,
    /// What was wrong with its certificate, where that was asked for and not demanded.
    pub(crate) observed: Option<HandshakeError>,
    /// Messages sent over it.
    pub(crate) messages: u32,
    /// Messages that may be sent over it.
    most_messages: u32,
    /// The last transaction may still be open at the other end.
    needs_reset: bool,
    /// STARTTLS was offered and then refused, and the session went on in clear text.
    pub(crate) starttls_refused: bool,
}

/// What came of one transaction.
#[derive(Debug)]
pub(crate) struct Transfer {
    /// Per recipient of the letter, in its order; absent where the host gave none.
    pub(crate) answers: Vec<Option<RecipientResult>>,
    /// Why answers are absent.
    pub(crate) failure: Option<Failure>,
    /// Where it ended.
    pub(crate) phase: Phase,
    /// True when the connection may be used again.
    pub(crate) reusable: bool,
}

/// A message as one next hop gets it.
#[derive(Debug)]
pub(crate) struct Copy {
    /// Header fields put in front of this copy.
    pub(crate) prefix: Vec<u8>,
    /// The envelope sender of this copy.
    pub(crate) sender: ReversePath,
    /// The stored message, or what was made of it.
    pub(crate) content: Arc<dyn Content>,
    /// What that is.
    pub(crate) form: Form,
    /// Each recipient gets one from a sender of its own.
    pub(crate) verp: bool,
}

/// What a host has to take with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Form {
    pub(crate) body: BodyType,
    /// Its header or its envelope is internationalized.
    pub(crate) smtputf8: bool,
}

impl Copy {
    /// Octets before dots are doubled.
    pub(crate) fn len(&self) -> u64 {
        self.prefix.len() as u64 + self.content.len()
    }

    /// The next block. A message of more than one is read off the executor's threads.
    async fn read(&self, offset: u64) -> Result<bytes::Bytes, Failure> {
        let read = if self.content.len() <= BLOCK as u64 {
            self.content.read_at(offset, BLOCK)
        } else {
            let content = self.content.clone();
            tokio::task::spawn_blocking(move || content.read_at(offset, BLOCK))
                .await
                .map_err(|error| Failure::Unreadable(error.to_string()))?
        };
        let block = read.map_err(|error| Failure::Unreadable(error.to_string()))?;
        if block.is_empty() {
            return Err(Failure::Unreadable("the stored message ends early".to_owned()));
        }
        Ok(block)
    }
}

/// Opens connections as a [`Wish`] has them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Opener<'a> {
    pub(crate) dialer: &'a dyn Dialer,
    pub(crate) config: &'a Config,
    pub(crate) metrics: &'a Metrics,
    pub(crate) broken_starttls: &'a BrokenStartTls,
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

/// How a message is written on the wire.
enum Framing {
    /// In lines, with dots, and a dot that ends it.
    Lines(Stuffer),
    /// As it is: its octets were counted.
    Counted,
}

impl Framing {
    fn of(transaction: &Transaction) -> Framing {
        if transaction.is_counted() { Framing::Counted } else { Framing::Lines(Stuffer::new()) }
    }

    fn encode(&mut self, text: &[u8], out: &mut Vec<u8>) {
        match self {
            Framing::Lines(stuffer) => stuffer.encode(text, out),
            Framing::Counted => out.extend_from_slice(text),
        }
    }

    fn finish(self, out: &mut Vec<u8>) {
        if let Framing::Lines(stuffer) = self {
            stuffer.finish(out);
        }
    }
}

/// What a host that takes a message knows of what its sender asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Promise {
    /// It tells the sender what was asked for (RFC 3461).
    pub(crate) dsn: bool,
    /// It knows the deadline (RFC 2852).
    pub(crate) deliver_by: bool,
    /// It has put the message into mailboxes when it says yes (RFC 2033).
    pub(crate) stores: bool,
}

impl Connection {
    /// What this host takes on with a message, by LMTP or SMTP.
    pub(crate) fn promise(&self, lmtp: bool) -> Promise {
        let Extensions { dsn, deliver_by, .. } = &self.extensions;
        Promise { dsn: *dsn, deliver_by: deliver_by.is_some(), stores: lmtp }
    }

    /// What is said from now on is written down there.
    pub(crate) fn record(&mut self, tape: Tape) {
        self.channel.tape = tape;
    }

    /// What this host offers.
    pub(crate) fn extensions(&self) -> &Extensions {
        &self.extensions
    }

    /// The same connection, good for so many messages.
    pub(crate) fn for_messages(mut self, most: u32) -> Connection {
        self.most_messages = most;
        self
    }

    /// What this host takes at most.
    pub(crate) fn limits(&self) -> &Limits {
        &self.extensions.limits
    }

    /// True when no further message may be sent over it, by its own word or ours.
    pub(crate) fn is_worn_out(&self) -> bool {
        let theirs = self.extensions.limits.messages;
        self.messages >= self.most_messages
            || theirs.is_some_and(|most| self.messages as usize >= most)
    }

    /// Sends one message. Fails without a word to the host when it cannot take the letter as it is.
    pub(crate) async fn transfer(
        &mut self,
        letter: Letter,
        copy: &Copy,
    ) -> Result<Transfer, Obstacle> {
        let mut transaction = Transaction::new(letter, &self.extensions)?;
        self.messages += 1;
        let mut ended = self.drive(&mut transaction, copy).await;
        if matches!(ended, Err(Failure::Lost(_))) {
            self.channel.last_words(&mut transaction).await;
            if let TransactionStep::Done(result) = transaction.step() {
                ended = Ok(TransactionResult { reuse: Reuse::Never, ..result });
            }
        }
        let phase = transaction.phase();
        self.buffer.clear();
        self.buffer.shrink_to(KEPT_BUFFER);
        Ok(match ended {
            Ok(TransactionResult { recipients, reuse }) => {
                self.needs_reset = reuse == Reuse::AfterReset;
                let answers = recipients.into_iter().map(Some).collect();
                Transfer { answers, failure: None, phase, reusable: reuse != Reuse::Never }
            }
            Err(failure) => {
                let answers = transaction.lost();
                Transfer { answers, failure: Some(failure), phase, reusable: false }
            }
        })
    }

    async fn drive(
        &mut self,
        transaction: &mut Transaction,
        copy: &Copy,
    ) -> Result<TransactionResult, Failure> {
        loop {
            match transaction.step() {
                TransactionStep::NeedInput => self.channel.exchange(transaction).await?,
                TransactionStep::SendBody => self.send_body(transaction, copy).await?,
                TransactionStep::Done(result) => return Ok(result),
                TransactionStep::Failed(error) => {
                    return Err(Failure::Protocol(transaction.phase(), error));
                }
            }
        }
    }

    /// Streams the message. Stops early when the host answers before the end.
    async fn send_body(
        &mut self,
        transaction: &mut Transaction,
        copy: &Copy,
    ) -> Result<(), Failure> {
        let since = Instant::now();
        let limit = self.channel.timeouts().block;
        let mut framing = Framing::of(transaction);
        self.buffer.clear();
        // What announces the message goes with its beginning.
        let announced = transaction.take_output();
        self.channel.tape.say(transaction.phase(), &announced);
        self.buffer.extend(announced);
        framing.encode(&copy.prefix, &mut self.buffer);
        let mut offset = 0;
        while offset < copy.content.len() {
            let block = copy.read(offset).await?;
            offset += block.len() as u64;
            framing.encode(&block, &mut self.buffer);
            if self.buffer.len() >= BLOCK && offset < copy.content.len() {
                self.channel.write(&self.buffer, limit, transaction).await?;
                self.buffer.clear();
                if transaction.step() != TransactionStep::SendBody {
                    let tape = &self.channel.tape;
                    tape.note(|| format!("(the message, its first {offset} octets)"));
                    return Ok(());
                }
            }
        }
        framing.finish(&mut self.buffer);
        self.channel.tape.note(|| format!("(the message, {} octets)", copy.len()));
        self.channel.write(&self.buffer, limit, transaction).await?;
        transaction.body_sent();
        self.channel.metrics().waited(Phase::Body, since.elapsed());
        self.channel.tape.waited(Phase::Body, since.elapsed());
        Ok(())
    }

    /// True when another transaction may begin, which takes a RSET when the last one was not ended
    /// by the host.
    pub(crate) async fn is_usable(&mut self) -> bool {
        if !self.channel.is_quiet().await {
            return false;
        }
        if !self.needs_reset {
            return true;
        }
        self.needs_reset = false;
        matches!(self.control(Control::rset()).await, Some(reply) if reply.is_positive())
    }

    /// Says QUIT and waits for the answer, but not long.
    pub(crate) async fn quit(mut self) {
        self.control(Control::quit()).await;
        self.channel.close().await;
    }

    async fn control(&mut self, mut control: Control) -> Option<waypost_smtp::Reply> {
        loop {
            match control.step() {
                ControlStep::NeedInput => self.channel.exchange(&mut control).await.ok()?,
                ControlStep::Done(reply) => return Some(reply),
                ControlStep::Failed(_) => return None,
            }
        }
    }
}
