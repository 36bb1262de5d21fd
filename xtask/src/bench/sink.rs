//! Where the mail goes: an SMTP server that keeps nothing but a tally of what arrived. It costs
//! as little as it can, because it shares the machine with the relay it measures.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;

use super::conversation::{Habits, converse};
use super::places::Place;
use super::tally::{Body, Tally};

/// A running sink on loopback; it lives as long as the process.
pub(crate) struct Sink {
    /// [`Place::Quick`]; the other places have the same port.
    pub(crate) address: SocketAddr,
    habits: Arc<Habits>,
    interrupted: Arc<AtomicBool>,
}

impl Sink {
    /// At every place.
    pub(crate) fn start() -> anyhow::Result<Self> {
        let first = bind(Place::Quick, 0)?;
        let port = first.local_addr()?.port();
        let mut listeners = vec![(Place::Quick, first)];
        for place in Place::listening() {
            listeners.push((place, bind(place, port)?));
        }
        Self::listen(listeners)
    }

    /// At [`Place::Quick`] alone, on this port.
    pub(crate) fn start_at(port: u16) -> anyhow::Result<Self> {
        Self::listen(vec![(Place::Quick, bind(Place::Quick, port)?)])
    }

    fn listen(listeners: Vec<(Place, std::net::TcpListener)>) -> anyhow::Result<Self> {
        let (_, first) = listeners.first().context("a sink listens somewhere")?;
        let address = first.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let habits = Arc::new(Habits {
            tally: Mutex::default(),
            slow: AtomicBool::new(true),
            acceptor: acceptor()?,
        });
        let kept = Arc::clone(&habits);
        let interrupted = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&interrupted);
        thread::Builder::new().name("sink".to_owned()).spawn(move || {
            let ended = runtime.block_on(async {
                tokio::spawn(interruption(asked));
                let mut open = JoinSet::new();
                for (place, listener) in listeners {
                    open.spawn(accept(place, listener, Arc::clone(&kept)));
                }
                open.join_next().await
            });
            eprintln!("the sink stopped listening: {ended:?}");
        })?;
        Ok(Self { address, habits, interrupted })
    }

    /// Fails once somebody has asked the benchmark to end, so that what it started is ended too.
    pub(crate) fn go_on(&self) -> anyhow::Result<()> {
        anyhow::ensure!(!self.interrupted.load(Ordering::Relaxed), "interrupted");
        Ok(())
    }

    /// Forgets what came.
    pub(crate) fn clear(&self) {
        *self.tally() = Tally::default();
    }

    /// Whether [`Place::Slow`] takes its time.
    pub(crate) fn slow(&self, slow: bool) {
        self.habits.slow.store(slow, Ordering::Relaxed);
    }

    /// Waits until `messages` different ones are here; returns when the last of them came.
    /// Fails when nothing has come for `patience`.
    pub(crate) fn wait(&self, messages: usize, patience: Duration) -> anyhow::Result<Instant> {
        self.wait_until(messages, patience, Tally::all)
    }

    /// The same for messages of one kind, whatever else comes.
    pub(crate) fn wait_for(
        &self,
        kind: &str,
        messages: usize,
        patience: Duration,
    ) -> anyhow::Result<Instant> {
        self.wait_until(messages, patience, |tally| tally.of(kind))
    }

    fn wait_until(
        &self,
        messages: usize,
        patience: Duration,
        count: impl Fn(&Tally) -> Option<(usize, Instant)>,
    ) -> anyhow::Result<Instant> {
        let mut held = 0;
        let mut progress = Instant::now();
        loop {
            self.go_on()?;
            let (here, last) = count(&self.tally()).unzip();
            let here = here.unwrap_or(0);
            if let Some(last) = last
                && here >= messages
            {
                return Ok(last);
            }
            if here > held {
                held = here;
                progress = Instant::now();
            }
            if progress.elapsed() > patience {
                bail!("the sink holds {held} of {messages} messages and nothing comes any more");
            }
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// When the message of this id first came, if it did.
    pub(crate) fn arrival(&self, id: &str) -> Option<Instant> {
        self.tally().arrival(id)
    }

    /// The one body all messages had.
    pub(crate) fn body(&self) -> anyhow::Result<Body> {
        self.tally().body()
    }

    /// Refuses a run in which anything was lost, doubled, changed or made up.
    pub(crate) fn audit(&self, messages: usize, body: Body) -> anyhow::Result<()> {
        self.tally().audit(messages, body)
    }

    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.habits.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn bind(place: Place, port: u16) -> anyhow::Result<std::net::TcpListener> {
    let address = place.address();
    let listener = std::net::TcpListener::bind((address, port))
        .with_context(|| format!("the sink cannot listen at {address}:{port}"))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// With a certificate of its own, which no relay is asked to verify.
fn acceptor() -> anyhow::Result<TlsAcceptor> {
    let made = rcgen::generate_simple_self_signed(vec!["sink.bench.example".to_owned()])?;
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.into())?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Without this an interrupt would end us alone: Postfix has left our session.
async fn interruption(asked: Arc<AtomicBool>) -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    loop {
        tokio::select! {
            interrupt = tokio::signal::ctrl_c() => interrupt?,
            _ = terminate.recv() => {}
        }
        asked.store(true, Ordering::Relaxed);
    }
}

async fn accept(
    place: Place,
    listener: std::net::TcpListener,
    habits: Arc<Habits>,
) -> anyhow::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    loop {
        let (stream, _) = listener.accept().await.context("accept")?;
        let habits = Arc::clone(&habits);
        // A peer that breaks off loses its own message, and the count shows it.
        tokio::spawn(async move { converse(stream, place, &habits).await.ok() });
    }
}
