//! One peer from its first octet to its last: sockets, clocks and TLS around a conversation.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_rustls::TlsAcceptor;
use tracing::{debug, info};
use waypost_hooks::EventKind;
use waypost_mail::{Facts, SessionId};
use waypost_smtp::Reply;
use waypost_smtp::server::{Answer, Conversation, OutOfTurn, Question, Rules, Step};

use crate::crowd::{Pass, Use};
use crate::decide::{Client, Decider};
use crate::manner::Manner;
use crate::metrics::ListenerMetrics;
use crate::pace::Pace;
use crate::refusals::Refusals;
use crate::server::{Current, House, Presence};
use crate::socket::Peer;
use crate::stream::Stream;
use crate::tls::{DoorTls, Secured};
use crate::{Limits, ListenerConfig, ListenerKind};

/// What an idle session may read at once. Thousands wait with no more than this.
const SMALL_READ: usize = 2 * 1024;
/// What is read at once of a message.
const LARGE_READ: usize = 32 * 1024;
/// How long a peer may take to hang up after our last word, so that the word is not lost with what
/// it still sends.
const LINGER: Duration = Duration::from_secs(1);
/// How long it takes at most to read what has arrived.
const MOMENT: Duration = Duration::from_secs(1);
/// 421 4.4.2
pub(crate) const TOO_OLD: Reply = Reply::fixed(421, (4, 4, 2), "Session lasted too long, closing");

/// A peer that has connected.
#[derive(Debug)]
pub(crate) struct Arrival {
    pub(crate) house: Arc<House>,
    pub(crate) current: Arc<Current>,
    pub(crate) listener: Arc<ListenerConfig>,
    pub(crate) metrics: ListenerMetrics,
    pub(crate) id: SessionId,
    pub(crate) peer: Peer,
    /// Nobody knows who the client is; the peer is the proxy that brought it.
    pub(crate) anonymous: bool,
    /// True once the program wants to stop.
    pub(crate) drain: watch::Receiver<bool>,
}

/// A peer that was let in.
#[derive(Debug)]
pub(crate) struct Visit {
    pub(crate) arrival: Arrival,
    pub(crate) presence: Presence,
}

impl Arrival {
    pub(crate) fn stays(self, presence: Presence) -> Visit {
        Visit { arrival: self, presence }
    }
}

/// Serves one peer to the end.
pub(crate) async fn serve(visit: Visit, stream: Stream) {
    let arrival = &visit.arrival;
    let events = arrival.house.rooms.events.clone();
    let subject = format!("{} {}", arrival.id, arrival.peer.client.ip());
    let pass = visit.presence.pass();
    events.tell(EventKind::SessionOpened, None, subject.clone());
    let welcomed = tokio::select! {
        welcomed = welcome(visit, stream, pass.clone()) => welcomed,
        () = pass.sent_home() => Err(io::Error::other("it made room for others")),
    };
    match welcomed {
        Ok(mut session) => match session.run().await {
            Ok(()) => debug!("session closed"),
            Err(error) => debug!(%error, "session lost"),
        },
        Err(error) => debug!(%error, "no session"),
    }
    events.tell(EventKind::SessionClosed, None, subject);
}

/// The session, behind its TLS handshake where that comes first.
async fn welcome(visit: Visit, mut stream: Stream, pass: Arc<Pass>) -> io::Result<Session> {
    let Visit { arrival, presence } = visit;
    let Arrival { house, current, listener, metrics, id, peer, anonymous, drain } = arrival;
    let address = (!anonymous).then_some(peer.client.ip());
    let settings = &current.settings;
    let mut channel = None;
    if listener.kind == ListenerKind::Submissions {
        let (encrypted, secured) =
            encrypt(stream, current.tls(&listener.name), &house, &settings.limits).await?;
        (stream, channel) = (encrypted, Some(secured));
    }
    let (manner, known) = (Manner(listener.kind), peer.uid.is_some());
    let user = peer.user().await;
    let rules = settings.rules(&listener, address, channel.as_ref(), known);
    let offers = settings.offers(&listener, house.rooms.clock.now());
    let conversation = Conversation::new(Rules { offers, ..rules });
    let (tls, binding) = channel.map(|channel| (channel.facts, channel.binding)).unzip();
    let facts = Facts {
        session: id,
        listener: listener.name.clone(),
        client: peer.client,
        client_name: None,
        local: peer.local,
        helo: None,
        protocol: manner.protocol(false),
        may_relay: user.is_some() || settings.relay.admits(address, tls.as_ref()),
        identity: user,
        tls,
        meta: Vec::new(),
    };
    let binding = binding.flatten();
    let presence = Some(presence);
    let client = Client { facts, binding, known: false, presence, anonymous, spoken_for: false };
    let now = Instant::now();
    Ok(Session {
        stream: Some(stream),
        conversation,
        decider: Decider::new(house.clone(), current.clone(), manner, metrics.clone(), client),
        buffer: BytesMut::new(),
        waiting_since: now,
        pace: None,
        pass,
        has_spoken: false,
        refusals: Refusals::default(),
        ends: now + settings.limits.session_lifetime,
        house,
        current,
        listener,
        metrics,
        drain,
    })
}

#[derive(Debug)]
struct Session {
    /// Absent only while a handshake has it.
    stream: Option<Stream>,
    conversation: Conversation,
    decider: Decider,
    buffer: BytesMut,
    waiting_since: Instant,
    /// Of the message that is on its way in.
    pace: Option<Pace>,
    pass: Arc<Pass>,
    has_spoken: bool,
    refusals: Refusals,
    ends: Instant,
    house: Arc<House>,
    current: Arc<Current>,
    listener: Arc<ListenerConfig>,
    metrics: ListenerMetrics,
    drain: watch::Receiver<bool>,
}

impl Session {
    async fn run(&mut self) -> io::Result<()> {
        loop {
            match self.conversation.step() {
                Step::NeedInput => {
                    self.write().await?;
                    if !self.read().await? {
                        return Ok(());
                    }
                    continue;
                }
                Step::Ask(question) => {
                    let answer = match question {
                        // The conversation sees it, and says what it thinks of that.
                        Question::Connect if self.hears_early_words().await? => {
                            Answer::Reply(Reply::OK)
                        }
                        question => self.decider.answer(question).await,
                    };
                    self.conversation.answer(answer);
                }
                Step::Chunk(chunk) => self.decider.chunk(chunk).await,
                Step::Discard => self.decider.discard(),
                Step::Upgrade => {
                    let pass = self.pass.clone();
                    tokio::select! {
                        upgraded = self.upgrade() => upgraded?,
                        () = pass.sent_home() => return Ok(()),
                    }
                }
                Step::Close => return self.close().await,
            }
            self.waiting_since = Instant::now();
        }
    }

    /// What gathered leaves in one write.
    async fn write(&mut self) -> io::Result<()> {
        let output = self.conversation.take_output();
        if output.is_empty() {
            return Ok(());
        }
        self.refusals.tell(
            self.conversation.take_refusals(),
            &self.listener.name,
            &self.house.metrics,
        );
        let patience = self.current.settings.limits.command_timeout;
        let stream = stream(&mut self.stream)?;
        timeout(patience, async {
            stream.write_all(&output).await?;
            stream.flush().await
        })
        .await??;
        self.waiting_since = Instant::now();
        self.pass.spoke(self.use_of());
        Ok(())
    }

    /// What this session is good for, when others want its place.
    fn use_of(&self) -> Use {
        if self.conversation.in_transaction() || self.decider.is_ours() {
            return Use::Busy;
        }
        if self.has_spoken { Use::Idle } else { Use::Silent }
    }

    /// Waits for the peer, the clock or the end of the program. False when the peer is gone.
    async fn read(&mut self) -> io::Result<bool> {
        let limits = &self.current.settings.limits;
        if *self.drain.borrow_and_update() && !self.conversation.in_transaction() {
            self.conversation.shut_down(Reply::SHUTTING_DOWN);
            return Ok(true);
        }
        // A command must be whole in time; of a message the pieces must come in time, and enough of
        // them. Our own time to deal with them is not held against the peer.
        let now = Instant::now();
        let (deadline, farewell, size) = if self.conversation.in_data() {
            let usual = Pace::new(limits.minimum_rate, limits.data_timeout);
            let left = self.pace.get_or_insert(usual).left();
            let silent = left >= limits.data_timeout;
            (now + left, if silent { Reply::IDLE_TIMEOUT } else { Reply::TOO_SLOW }, LARGE_READ)
        } else {
            self.pace = None;
            (self.waiting_since + limits.command_timeout, Reply::IDLE_TIMEOUT, SMALL_READ)
        };
        let (deadline, farewell) =
            if self.ends <= deadline { (self.ends, TOO_OLD) } else { (deadline, farewell) };
        if self.buffer.capacity() != size {
            self.buffer = BytesMut::with_capacity(size);
        }
        let stream = stream(&mut self.stream)?;
        tokio::select! {
            biased;
            read = stream.read_buf(&mut self.buffer) => match read? {
                0 => return Ok(false),
                count => {
                    if let Some(pace) = &mut self.pace {
                        pace.took(count, now.elapsed());
                    }
                    self.take(count);
                }
            },
            () = sleep_until(deadline) => {
                debug!(%farewell, "the peer has no more time");
                self.conversation.shut_down(farewell);
            }
            () = self.pass.sent_home(), if !self.conversation.in_transaction() => {
                self.conversation.shut_down(Reply::TOO_BUSY);
            }
            // What it means is seen at the next turn. The sender outlives all sessions.
            _ = self.drain.changed() => {}
        }
        Ok(true)
    }

    fn take(&mut self, count: usize) {
        self.metrics.bytes.inc_by(count as u64);
        self.has_spoken |= count > 0;
        self.conversation.push(&self.buffer);
        self.buffer.clear();
    }

    /// Whether the peer says something before it was greeted, which it then must wait longer for.
    async fn hears_early_words(&mut self) -> io::Result<bool> {
        let settings = &self.current.settings;
        let strict = Manner(self.listener.kind).strictness(settings);
        if strict.out_of_turn == OutOfTurn::Take {
            return Ok(false);
        }
        let stream = stream(&mut self.stream)?;
        let pause = match stream.has_input() {
            true => MOMENT,
            false if self.decider.is_ours() => return Ok(false),
            false => settings.limits.greet_pause,
        };
        if pause.is_zero() {
            return Ok(false);
        }
        self.buffer = BytesMut::with_capacity(SMALL_READ);
        let count = tokio::select! {
            biased;
            read = stream.read_buf(&mut self.buffer) => read?,
            () = sleep(pause) => 0,
            _ = self.drain.changed() => 0,
        };
        self.take(count);
        Ok(count > 0)
    }

    /// STARTTLS was taken (RFC 3207 §4).
    async fn upgrade(&mut self) -> io::Result<()> {
        self.write().await?;
        let plain = self.stream.take().ok_or(io::ErrorKind::NotConnected)?;
        let settings = &self.current.settings;
        let tls = self.current.tls(&self.listener.name);
        let (stream, channel) = encrypt(plain, tls, &self.house, &settings.limits).await?;
        self.stream = Some(stream);
        let mechanisms = self.decider.encrypted(channel);
        self.conversation.upgraded(mechanisms);
        Ok(())
    }

    async fn close(&mut self) -> io::Result<()> {
        self.write().await?;
        let stream = stream(&mut self.stream)?;
        let hang_up = async {
            stream.shutdown().await?;
            let mut rest = [0; 512];
            while stream.read(&mut rest).await? > 0 {}
            Ok(())
        };
        timeout(LINGER, hang_up).await.unwrap_or(Ok(()))
    }
}

fn stream(stream: &mut Option<Stream>) -> io::Result<&mut Stream> {
    stream.as_mut().ok_or_else(|| io::ErrorKind::NotConnected.into())
}

/// The TLS handshake, counted and bounded in time.
pub(crate) async fn encrypt(
    stream: Stream,
    door: Option<Arc<DoorTls>>,
    house: &House,
    limits: &Limits,
) -> io::Result<(Stream, Secured)> {
    let (Stream::Plain(socket), Some(door)) = (stream, door) else {
        return Err(io::Error::other("no certificate, or encrypted already"));
    };
    // Boxed: sessions need not carry the room that a handshake takes.
    let handshake = Box::pin(TlsAcceptor::from(door.config.clone()).accept(socket));
    match timeout(limits.handshake_timeout, handshake).await {
        Ok(Ok(stream)) => {
            let channel =
                door.secured(stream.get_ref().1, house.rooms.clock.now()).map_err(|error| {
                    house.metrics.handshake("", "failed");
                    info!(%error, "the client's certificate is not accepted");
                    io::Error::new(io::ErrorKind::PermissionDenied, error)
                })?;
            let facts = &channel.facts;
            house.metrics.handshake(&facts.version, "done");
            let client = facts.certificate.as_ref().map(|client| client.subject.as_str());
            debug!(
                version = facts.version,
                cipher = facts.cipher,
                sni = facts.sni,
                client,
                "encrypted"
            );
            Ok((Stream::Tls(Box::new(stream)), channel))
        }
        Ok(Err(error)) => {
            house.metrics.handshake("", "failed");
            info!(%error, "TLS handshake failed");
            Err(error)
        }
        Err(elapsed) => {
            house.metrics.handshake("", "timeout");
            info!("TLS handshake took too long");
            Err(elapsed.into())
        }
    }
}
