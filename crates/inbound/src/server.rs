//! Listeners: they let peers in, and at the end see them out.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::{Instrument, error, info, info_span, warn};
use waypost_smtp::Reply;

pub(crate) use crate::current::Current;
pub(crate) use crate::house::House;
pub use crate::house::Rooms;

use crate::crowd::{Crowd, Full, Pass};
use crate::dam::Dam;
use crate::gate::Gate;
use crate::http;
use crate::metrics::ListenerMetrics;
use crate::proxy::{self, Header};
use crate::session::{self, Arrival};
use crate::socket::{Bound, Listener, Peer, canonical};
use crate::stream::{Pipe, Stream};
use crate::{
    HashPool, ListenerConfig, ListenerKind, Logins, Metrics, Place, Secret, Settings, SettingsError,
};

/// How long accepting rests when the system has no more sockets or memory.
const REST: Duration = Duration::from_millis(200);

/// 421 4.7.0
const CROWDED: Reply = Reply::fixed(421, (4, 7, 0), "Too many sessions from your address");
/// 421 4.7.0
pub(crate) const BANNED: Reply =
    Reply::fixed(421, (4, 7, 0), "Too many logins failed from your address, try again later");
/// 421 4.7.0
const CROWDED_NETWORK: Reply = Reply::fixed(421, (4, 7, 0), "Too many sessions from your network");
/// 421 4.7.0
const TOO_OFTEN: Reply =
    Reply::fixed(421, (4, 7, 0), "Too many new sessions in too short a time, try again later");
/// 421 4.3.1
const SHORT: Reply = Reply::fixed(421, (4, 3, 1), "No room for new mail, try again later");

/// Who is no proxy where only proxies may come, and the reason in the metrics.
const NO_PROXY: (Reply, &str) =
    (Reply::fixed(554, (5, 7, 1), "No service for you at this address"), "no-proxy");

/// All listeners together.
#[derive(Debug)]
pub struct Server {
    pub(crate) house: Arc<House>,
    listeners: Vec<(Arc<ListenerConfig>, Place)>,
    /// The same in order, until [`Server::run`] takes them.
    sockets: Mutex<Vec<Listener>>,
    current: RwLock<Arc<Current>>,
    crowd: Arc<Crowd>,
    turned_away: Dam,
    /// Connections whose proxy has not said yet for whom they are.
    announced: Arc<Gate>,
    pool: HashPool,
    secret: Secret,
}

/// Why a server cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The settings do not serve the listeners.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Settings(Vec<SettingsError>),
    /// A socket cannot be used.
    #[error("listener '{0}' cannot be used: {1}")]
    Socket(String, io::Error),
}

impl Server {
    /// A server at sockets that are bound already. At most `hashers` passwords are hashed at once;
    /// `secret` should stay the same over restarts. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// When settings and listeners do not fit, or a socket cannot be used.
    pub fn new(
        listeners: Vec<(ListenerConfig, Bound)>,
        settings: Settings,
        rooms: Rooms,
        secret: Secret,
        hashers: usize,
    ) -> Result<Arc<Server>, ServerError> {
        let configs: Vec<_> = listeners.iter().map(|(config, _)| config.clone()).collect();
        let pool = HashPool::new(hashers);
        let logins = Logins::new(settings.users.clone(), pool.clone(), secret.clone());
        let max_memory = settings.limits.max_memory;
        let current = Current::new(settings, logins, &rooms.fetch, &configs, None)?;
        let (mut places, mut sockets) = (Vec::new(), Vec::new());
        for (config, socket) in listeners {
            let failed = |error| ServerError::Socket(config.name.clone(), error);
            let (socket, place) = Listener::open(socket).map_err(failed)?;
            places.push((Arc::new(config), place));
            sockets.push(socket);
        }
        Ok(Arc::new(Server {
            house: Arc::new(House::new(rooms, max_memory)),
            listeners: places,
            sockets: Mutex::new(sockets),
            current: RwLock::new(Arc::new(current)),
            crowd: Arc::default(),
            turned_away: Dam::default(),
            announced: Arc::default(),
            pool,
            secret,
        }))
    }

    /// Puts other settings in force for sessions that begin from now on. Logins that were
    /// remembered are forgotten.
    ///
    /// # Errors
    /// When they do not fit the listeners; the old ones stay in force.
    pub fn reload(&self, settings: Settings) -> Result<(), ServerError> {
        self.put_in_force(settings, None)
    }

    /// Does nothing when `only` is given and not in force any more.
    pub(crate) fn put_in_force(
        &self,
        settings: Settings,
        only: Option<&Arc<Current>>,
    ) -> Result<(), ServerError> {
        let configs: Vec<_> =
            self.listeners.iter().map(|(config, _)| ListenerConfig::clone(config)).collect();
        let users = settings.users.clone();
        let logins = Logins::new(users, self.pool.clone(), self.secret.clone());
        let (fetch, old) = (&self.house.rooms.fetch, self.current());
        let current = Current::new(settings, logins, fetch, &configs, Some(&old))?;
        let mut in_force = self.current.write().unwrap_or_else(PoisonError::into_inner);
        if only.is_none_or(|only| Arc::ptr_eq(only, &in_force)) {
            self.house.pressure.allow(current.settings.limits.max_memory);
            *in_force = Arc::new(current);
        }
        Ok(())
    }

    pub(crate) fn current(&self) -> Arc<Current> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What is counted.
    pub fn metrics(&self) -> &Metrics {
        &self.house.metrics
    }

    /// The listeners and where they are.
    pub fn addresses(&self) -> Vec<(ListenerConfig, Place)> {
        let copy =
            |(config, place): &(Arc<_>, Place)| (ListenerConfig::clone(config), place.clone());
        self.listeners.iter().map(copy).collect()
    }

    /// Lets peers in until `stop` is done. Then nobody comes in, idle sessions are told 421, and
    /// transactions may go on for `patience`. Answers how many sessions were cut off then.
    pub async fn run(self: Arc<Self>, stop: impl Future<Output = ()>, patience: Duration) -> usize {
        let (drain, draining) = watch::channel(false);
        let mut doors = JoinSet::new();
        let sockets =
            std::mem::take(&mut *self.sockets.lock().unwrap_or_else(PoisonError::into_inner));
        for ((config, _), socket) in self.listeners.iter().zip(sockets) {
            let door = self.clone().serve(config.clone(), socket, draining.clone(), patience);
            doors.spawn(door);
        }
        let looking = tokio::spawn(self.look_at_files());
        stop.await;
        looking.abort();
        drain.send_replace(true);
        doors.join_all().await.into_iter().sum()
    }

    /// The session of a peer that comes by no socket of ours, from the address `client` and as if at a
    /// listener like `config`, with nobody in between. Absent when it was turned away; it was told so
    /// where it could be. The future is the whole session: it ends when the peer, or the server, has had
    /// enough, and to drop it is to cut the session off.
    pub fn receive(
        &self,
        config: ListenerConfig,
        pipe: Box<dyn Pipe>,
        client: SocketAddr,
    ) -> Option<impl Future<Output = ()> + Send + use<>> {
        let (drain, draining) = watch::channel(false);
        let metrics = self.house.metrics.listener(&config.name);
        let peer = Peer { client, local: client, uid: None };
        let arrival = self.arrival(&Arc::new(config), &metrics, peer, &draining);
        let session = self.enter(arrival, Stream::Piped(pipe))?;
        Some(async move {
            session.await;
            drop(drain);
        })
    }

    /// One listener.
    async fn serve(
        self: Arc<Self>,
        config: Arc<ListenerConfig>,
        listener: Listener,
        mut drain: watch::Receiver<bool>,
        patience: Duration,
    ) -> usize {
        let metrics = self.house.metrics.listener(&config.name);
        let mut sessions = JoinSet::new();
        let draining = drain.clone();
        loop {
            tokio::select! {
                biased;
                () = stopped(&mut drain) => break,
                Some(ended) = sessions.join_next() => report(ended),
                accepted = listener.accept() => match accepted {
                    Ok((stream, peer)) => {
                        let visit = self.arrival(&config, &metrics, peer, &draining);
                        self.admit(visit, stream, &mut sessions);
                    }
                    Err(error) => rest(&config.name, error).await,
                },
            }
        }
        // Closed now: who comes later tries another host at once.
        drop(listener);
        let all_gone = async {
            while let Some(ended) = sessions.join_next().await {
                report(ended);
            }
        };
        if timeout(patience, all_gone).await.is_ok() {
            return 0;
        }
        let cut_off = sessions.len();
        warn!(listener = config.name, sessions = cut_off, "sessions are cut off at the end");
        sessions.shutdown().await;
        cut_off
    }

    fn arrival(
        &self,
        config: &Arc<ListenerConfig>,
        metrics: &ListenerMetrics,
        peer: Peer,
        drain: &watch::Receiver<bool>,
    ) -> Arrival {
        Arrival {
            house: self.house.clone(),
            current: self.current(),
            listener: config.clone(),
            metrics: metrics.clone(),
            id: self.house.rooms.intake.ids().session(),
            peer,
            anonymous: false,
            drain: drain.clone(),
        }
    }

    /// A peer that has connected: a client, or a proxy that says first for whom it speaks.
    fn admit(self: &Arc<Self>, visit: Arrival, stream: Stream, sessions: &mut JoinSet<()>) {
        let rules = visit.current.settings.door(&visit.listener.name);
        // Whom the system knows speaks for itself.
        let rules = rules.filter(|_| visit.peer.uid.is_none());
        let patience = match rules.and_then(|rules| rules.proxy.as_ref()) {
            Some(rule) if rule.lists(visit.peer.client.ip()) => rule.timeout,
            Some(rule) if !rule.others => return self.turn_away(&NO_PROXY, &visit, stream),
            _ => {
                let session = self.enter(visit, stream);
                return session.map_or((), |session| drop(sessions.spawn(session)));
            }
        };
        let most = visit.current.settings.limits.max_sessions;
        let Ok(place) = self.announced.enter(visit.peer.client.ip(), most, usize::MAX) else {
            return self.turn_away(&turned_away(Full::House), &visit, stream);
        };
        let server = self.clone();
        sessions.spawn(async move {
            let announced = server.announced(visit, stream, patience).await;
            drop(place);
            if let Some(session) = announced.and_then(|(visit, stream)| server.enter(visit, stream))
            {
                session.await;
            }
        });
    }

    /// Reads what a proxy says first; from then on the client is the peer.
    async fn announced(
        &self,
        mut visit: Arrival,
        mut stream: Stream,
        patience: Duration,
    ) -> Option<(Arrival, Stream)> {
        match proxy::read(&mut stream, patience).await {
            Ok(Header::Local) => {}
            Ok(Header::Unknown) => visit.anonymous = true,
            Ok(Header::Client { from, to }) => {
                visit.peer = Peer { client: from, local: canonical(to), uid: None };
            }
            Err(error) => {
                let listener = &visit.listener.name;
                self.house.metrics.refused(listener, "proxy-header");
                warn!(listener, proxy = %visit.peer.client, %error, "a proxy is not understood, its connection is closed");
                return None;
            }
        }
        Some((visit, stream))
    }

    /// The client's session, unless there are too many.
    fn enter(
        &self,
        visit: Arrival,
        stream: Stream,
    ) -> Option<impl Future<Output = ()> + Send + use<>> {
        let settings = &visit.current.settings;
        let peer = visit.peer.counted_as();
        if let Some(shortage) = self.house.shortage() {
            self.turn_away(&(SHORT, shortage.name()), &visit, stream);
            return None;
        }
        if visit.peer.uid.is_none() && self.house.shuts_out(peer, settings) {
            self.turn_away(&turned_away(Full::ShutOut), &visit, stream);
            return None;
        }
        // Our own networks may fill the house: an application sends by many sessions at once.
        let listed = settings.relay.lists(peer);
        let pass = match self.crowd.enter(peer, listed, &settings.limits) {
            Ok((pass, left)) => {
                self.sent_home(left);
                Arc::new(pass)
            }
            Err(full) => {
                self.turn_away(&turned_away(full), &visit, stream);
                return None;
            }
        };
        let presence = Presence::new(pass, &visit.metrics);
        let span = info_span!(
            "session", session = %visit.id, listener = %visit.listener.name, client = %visit.peer.client
        );
        let visit = visit.stays(presence);
        let session = async move {
            match visit.arrival.listener.kind.is_http() {
                true => http::serve(visit, stream).await,
                false => session::serve(visit, stream).await,
            }
        };
        Some(session.instrument(span))
    }

    fn sent_home(&self, sessions: usize) {
        if sessions > 0 {
            self.house.metrics.sent_home(sessions as u64);
            info!(sessions, "no room: silent sessions are sent home for newcomers");
        }
    }

    /// Says why, if that can be said at once: a crowd at the door must not cost us a task each.
    fn turn_away(&self, why: &(Reply, &'static str), visit: &Arrival, stream: Stream) {
        let (reply, reason) = why;
        self.house.metrics.refused(&visit.listener.name, reason);
        if let Some(others) = self.turned_away.lets_pass() {
            info!(
                listener = visit.listener.name, client = %visit.peer.client, reason, others,
                "turned away; others were since the last such line"
            );
        }
        match visit.listener.kind {
            ListenerKind::Submissions | ListenerKind::Https => return,
            ListenerKind::Http => {
                let banned = self.house.shut_out_for(visit.peer.counted_as());
                return stream.say_at_once(http::turned_away(banned).as_bytes());
            }
            _ => {}
        }
        let mut text = Vec::new();
        reply.write(&mut text);
        stream.say_at_once(&text);
    }
}

/// What a peer hears that does not come in, and the reason in the metrics.
pub(crate) fn turned_away(full: Full) -> (Reply, &'static str) {
    match full {
        Full::House => (Reply::TOO_BUSY, "sessions"),
        Full::Address => (CROWDED, "sessions-per-address"),
        Full::ShutOut => (BANNED, "banned"),
        Full::Network => (CROWDED_NETWORK, "sessions-per-network"),
        Full::AddressRate => (TOO_OFTEN, "session-rate-per-address"),
        Full::NetworkRate => (TOO_OFTEN, "session-rate-per-network"),
    }
}

/// A session in the numbers, until it is dropped.
#[derive(Debug)]
pub(crate) struct Presence {
    pass: Arc<Pass>,
    open: prometheus_client::metrics::gauge::Gauge,
}

impl Presence {
    fn new(pass: Arc<Pass>, metrics: &ListenerMetrics) -> Presence {
        metrics.sessions.inc();
        metrics.open.inc();
        Presence { pass, open: metrics.open.clone() }
    }
}

impl Presence {
    /// Its place among all sessions.
    pub(crate) fn pass(&self) -> Arc<Pass> {
        self.pass.clone()
    }

    /// The session is somebody else's now.
    pub(crate) fn readdress(&self, peer: IpAddr, settings: &Settings) -> Result<(), Full> {
        self.pass.readdress(peer, settings.relay.lists(peer), &settings.limits)
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.open.dec();
    }
}

/// The sender gone means the same as its word.
async fn stopped(drain: &mut watch::Receiver<bool>) {
    let _ = drain.wait_for(|drain| *drain).await;
}

fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(failure) = ended
        && failure.is_panic()
    {
        error!(%failure, "a session failed by a fault of ours; please report it");
    }
}

/// A peer that is gone already costs nothing; a lack of sockets or memory wants a rest.
async fn rest(listener: &str, error: io::Error) {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    if matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted) {
        return;
    }
    warn!(listener, %error, "cannot accept connections now; check the limit on open files");
    sleep(REST).await;
}

#[cfg(test)]
mod tests;
