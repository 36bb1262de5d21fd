//! The wired program: every room, made in order and handed to those above it.

use std::net::{IpAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use anyhow::{Context, Result};
use prometheus_client::registry::Registry;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tracing::{error, info, warn};
use waypost_admin::Bound;
use waypost_config::{Bounces, Settings, Startup};
use waypost_delivery::{Delivery, Reports, ReportsParts, TcpDialer};
use waypost_dns::sts::Policies;
use waypost_dns::{Dnssec as _, Hickory, OwnAddresses, Validator};
use waypost_history::{History, Pen};
use waypost_hooks::Hooks;
use waypost_identity::Verp;
use waypost_identity::verify::Verifier;
use waypost_inbound::{Bans, ListenerConfig, Place, Secret, Server};
use waypost_intake::{Events, Intake, Returns, Suppressions};
use waypost_mail::{Clock, Fetch, IdSource, SystemClock};
use waypost_plugin::{Answers, Policy};
use waypost_queue::{Loading, Queue};
use waypost_spool::{LogSpool, Spool, SpoolError};

use crate::control::Controls;
use crate::{policy, stores};

/// How long transactions and attempts may go on once the program is told to end.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// This program, even when another version was put into its file's place since.
pub const THIS_PROGRAM: &str = "/proc/self/exe";
/// How often is looked whether all have let go of the spool.
const LETTING_GO: Duration = Duration::from_millis(1);

/// Sockets that are bound before the program gives up its privileges.
#[derive(Debug)]
pub struct Sockets {
    doors: Vec<(ListenerConfig, waypost_inbound::Bound)>,
    admin: Bound,
}

impl Sockets {
    /// Binds every address of the configuration; `given` are sockets of socket activation, by the
    /// names of listeners.
    ///
    /// # Errors
    /// When an address cannot be had; says which.
    pub fn bind(startup: &Startup, mut given: Vec<(String, TcpListener)>) -> Result<Sockets> {
        let mut doors = Vec::new();
        for door in &startup.doors {
            let name = &door.config.name;
            let socket = match given.iter().position(|(given, _)| given == name) {
                Some(at) => waypost_inbound::Bound::Tcp(given.swap_remove(at).1),
                None => waypost_inbound::Bound::bind(&door.place).with_context(|| {
                    format!("listener '{name}' cannot listen on {}", door.place)
                })?,
            };
            doors.push((door.config.clone(), socket));
        }
        let socket = &startup.places.socket;
        let admin = Bound::bind(socket, startup.admin_tcp)
            .with_context(|| format!("operators cannot be answered on {}", socket.display()))?;
        Ok(Sockets { doors, admin })
    }
}

/// A running relay.
#[derive(Debug)]
pub struct Relay {
    controls: Arc<Controls>,
    spool: Arc<LogSpool>,
    inbound: JoinHandle<usize>,
    delivery: JoinHandle<()>,
    admin: JoinHandle<()>,
    watch: Option<JoinHandle<()>>,
    reports: Option<Arc<Reports>>,
    tending: JoinHandle<()>,
    history: Option<Arc<History>>,
}

/// Ways to run a relay that tests choose; the program takes the default.
#[derive(Debug, Clone)]
pub struct Choices {
    /// Who is asked instead of the configured plugins.
    pub hooks: Option<Arc<dyn Hooks>>,
    /// The time of day.
    pub clock: Arc<dyn Clock>,
    /// What a reload reads.
    pub file: Option<PathBuf>,
    /// Who asks the web, instead of the program's own client.
    pub fetch: Option<Arc<dyn Fetch>>,
}

impl Default for Choices {
    fn default() -> Choices {
        Choices { hooks: None, clock: Arc::new(SystemClock), file: None, fetch: None }
    }
}

impl Relay {
    /// Starts a relay without policy; what a reload reads is `file`.
    ///
    /// # Errors
    /// When an address or the spool cannot be had.
    pub async fn start(settings: Settings, file: &Path) -> Result<Relay> {
        let sockets = Sockets::bind(&settings.startup, Vec::new())?;
        let file = Some(file.to_owned());
        Relay::start_with(settings, sockets, Choices { file, ..Choices::default() }).await
    }

    /// Starts a relay on sockets that are bound.
    ///
    /// # Errors
    /// When the spool cannot be had, or another instance has it.
    pub async fn start_with(
        settings: Settings,
        sockets: Sockets,
        choices: Choices,
    ) -> Result<Relay> {
        let Settings { startup, reload } = settings;
        let Choices { hooks, clock, file, fetch } = choices;
        let mut registry = Registry::default();

        let loading = Loading::new(startup.queue, clock.clone(), rand::random());
        let (spool, loading) = stores::open(startup.spool.clone(), loading, clock.clone()).await?;
        spool.metrics().register(registry.sub_registry_with_prefix("waypost"));
        let validator = Validator::new(&startup.dns)?;
        let resolver = Arc::new(Hickory::new(startup.dns)?);
        resolver.register(registry.sub_registry_with_prefix("waypost"));
        let dnssec = Arc::new(validator.counting(resolver.metrics()));
        let roots = startup.delivery.tls.roots().clone();
        let mut services = policy::services(clock.clone(), &resolver, roots, spool.clone())?;
        services.fetch = fetch.unwrap_or(services.fetch);
        let fetch = services.fetch.clone();
        let plugins = Policy::open(&startup.policy, &reload.policy, services)
            .await
            .context("the plugins cannot be put in force")?;
        registry
            .sub_registry_with_prefix("waypost")
            .register_collector(Box::new(plugins.metrics()));
        let history = startup.history.map(|config| {
            let history = History::open(config, env!("CARGO_PKG_VERSION"), clock.clone());
            history.register(&mut registry);
            plugins.keep_history(history.pen());
            Arc::new(history)
        });
        let hooks = hooks.unwrap_or_else(|| Arc::new(Answers::new(plugins.clone())));
        let plugin_config = reload.policy;
        let ids = IdSource::above(spool.highest_id(), clock.clone());
        let queue = loading.open(spool.clone()).await;
        queue.metrics().register(&mut registry);

        let verifier = Verifier::new(&resolver, startup.intake.hostname.clone());
        verifier.register(registry.sub_registry_with_prefix("waypost"));
        let pen = history.as_ref().map_or_else(Pen::idle, |history| history.pen());
        let events = Events::to(hooks.clone(), clock.clone()).with_history(pen);
        let rooms = waypost_intake::Rooms {
            queue: queue.clone(),
            hooks: hooks.clone(),
            clock: clock.clone(),
            ids,
            events: events.clone(),
            keys: reload.keys,
            verifier: Some(Arc::new(verifier)),
            incoming: spool.incoming(),
        };
        let suppressions =
            Arc::new(Suppressions::new(spool.clone(), clock.clone(), reload.suppression));
        suppressions.metrics().register(&mut registry);
        let returns = match startup.bounces {
            Some(bounces) => Some(returns(bounces, &suppressions, &events)?),
            None => None,
        };
        if let Some(returns) = &returns {
            returns.set_rulebook(reload.replies.clone());
            returns.metrics().register(&mut registry);
        }
        let intake = Intake::new(startup.intake, reload.routing, rooms);
        let intake = Arc::new(intake.with_lists(suppressions, returns));
        intake.set_verification(reload.verification);

        let secret = Secret::load_or_create(&startup.login_secret)
            .with_context(|| format!("cannot keep {}", startup.login_secret.display()))?;
        let bans = Bans::open(spool.clone(), clock.clone()).await;
        let bans = Arc::new(bans.context("who is shut out cannot be read from the spool")?);
        let rooms = waypost_inbound::Rooms {
            bans: bans.clone(),
            ledger: spool.clone(),
            fetch: fetch.clone(),
            intake: intake.clone(),
            hooks: hooks.clone(),
            events: events.clone(),
            clock: clock.clone(),
        };
        let hashers = std::thread::available_parallelism().map_or(1, usize::from);
        let hostname = reload.inbound.hostname.clone();
        let server = Server::new(sockets.doors, reload.inbound, rooms, secret, hashers)?;
        server.metrics().register(&mut registry);

        let own = server.addresses().into_iter().filter_map(|(_, place)| place.tcp());
        let mut config = startup.delivery;
        config.rulebook = reload.replies;
        config.own_addresses = OwnAddresses::new(own, interfaces()).named(&hostname);
        let policies =
            Policies::open(resolver.clone(), fetch.clone(), spool.clone(), clock.clone()).await;
        let policies = Arc::new(policies.context("MTA-STS policies cannot be read")?);
        policies.register(registry.sub_registry_with_prefix("waypost"));
        let reports = match startup.tls_reports {
            None => None,
            Some(config) => {
                let (resolver, intake) = (resolver.clone(), intake.clone());
                let parts = ReportsParts { resolver, fetch, intake, clock: clock.clone() };
                let reports = Reports::open(config, parts, spool.clone()).await;
                let reports = Arc::new(reports.context("counts for reports cannot be read")?);
                reports.register(registry.sub_registry_with_prefix("waypost"));
                Some(reports)
            }
        };
        let parts = waypost_delivery::Parts {
            policies: Some(policies.clone()),
            reports: reports.clone(),
            queue: queue.clone(),
            intake: intake.clone(),
            resolver,
            dnssec: dnssec.clone(),
            hooks,
            dialer: Arc::new(TcpDialer),
            clock: clock.clone(),
            events,
        };
        let heeded = config.dane;
        let delivery = Delivery::new(parts, config);
        delivery.remember(spool.clone()).await.context("rests of destinations cannot be read")?;
        let handoff: Weak<Delivery> = Arc::downgrade(&delivery);
        intake.set_handoff(handoff);
        delivery.metrics().register(&mut registry);

        let kept = reports.clone();
        let tending = tokio::spawn(async move {
            if heeded {
                // Says early whether it works.
                dnssec.works().await;
            }
            match &reports {
                Some(reports) => tokio::select! {
                    never = policies.tend() => match never {},
                    never = reports.tend() => match never {},
                },
                None => match policies.tend().await {},
            }
        });

        let (stop, stopping) = watch::channel(false);
        let controls = Arc::new(Controls {
            hostname,
            started: clock.now(),
            file,
            queue,
            intake,
            server: server.clone(),
            bans,
            delivery: delivery.clone(),
            registry,
            stop,
            policy: plugins,
            policy_config: Mutex::new(plugin_config),
        });
        let watch =
            startup.watch_plugins.then(|| tokio::spawn(policy::watch(Arc::downgrade(&controls))));
        Ok(Relay {
            watch,
            reports: kept,
            tending,
            inbound: tokio::spawn(server.run(stopped(stopping), PATIENCE)),
            delivery: tokio::spawn(async move { delivery.run().await }),
            admin: tokio::spawn(answer_operators(controls.clone(), history.clone(), sockets.admin)),
            history,
            controls,
            spool,
        })
    }

    /// The listeners and where they are.
    pub fn addresses(&self) -> Vec<(ListenerConfig, Place)> {
        self.controls.server.addresses()
    }

    /// Where it is counted how TLS went, if reports are sent.
    pub fn reports(&self) -> Option<&Arc<Reports>> {
        self.reports.as_ref()
    }

    /// What operators ask.
    pub fn controls(&self) -> &Arc<Controls> {
        &self.controls
    }

    /// The queue.
    pub fn queue(&self) -> &Arc<Queue> {
        &self.controls.queue
    }

    /// Waits until the program is told to end, or its spool failed.
    ///
    /// # Errors
    /// When the spool failed: nothing more is acknowledged, and a supervisor should start anew.
    pub async fn ended(&self) -> Result<()> {
        let mut stop = self.controls.stop.subscribe();
        tokio::select! {
            failure = self.spool.failed() => Err(SpoolError::Failed(failure).into()),
            _ = stop.wait_for(|stop| *stop) => Ok(()),
        }
    }

    /// Ends at once after the spool failed: what is delivered from now on could not be recorded and
    /// would be delivered again.
    pub async fn abandon(self) {
        self.controls.queue.close();
        self.delivery.abort();
        self.drain().await;
    }

    /// Takes no more mail, lets what is under way finish within [`PATIENCE`], and ends. What is not
    /// finished stays in the spool.
    pub async fn drain(self) {
        self.controls.begin_to_drain();
        self.controls.delivery.hurry();
        if let Err(failure) = self.inbound.await {
            error!(%failure, "the listeners ended by a bug");
        }
        self.controls.queue.close();
        let abort = self.delivery.abort_handle();
        if timeout(PATIENCE, self.delivery).await.is_err() {
            warn!("deliveries are cut off at the end; they are tried again after the next start");
            abort.abort();
        }
        if let Some(watch) = self.watch {
            watch.abort();
        }
        self.tending.abort();
        // What it has of the spool is free when it is gone.
        let _ = self.tending.await;
        if let Some(reports) = self.reports {
            // Asking each domain whether it wants them could take for ever.
            reports.store().await;
        }
        if let Err(error) = self.controls.policy.flush().await {
            warn!(%error, "the last of what plugins keep (kv) is not on disk");
        }
        self.admin.abort();
        // Its socket is closed when it is gone, and not before.
        let _ = self.admin.await;
        drop(self.controls);
        alone(&self.spool).await;
        if let Some(history) = self.history {
            // What it still has to write, the steps of attempts that were cut off among it, is
            // written before another program may write there.
            let _ = tokio::task::spawn_blocking(move || history.close()).await;
        }
        free(self.spool).await;
        info!("ended");
    }
}

/// Waits until nobody else has the spool. Tasks that end by themselves, such as the one that tells events,
/// and attempts that are cut off, have it until they were run once more.
async fn alone(spool: &Arc<LogSpool>) {
    let alone = async {
        while Arc::strong_count(spool) > 1 {
            sleep(LETTING_GO).await;
        }
    };
    if timeout(PATIENCE, alone).await.is_err() {
        warn!("the spool is still in use by a part of this program that should have ended");
    }
}

/// Frees the spool for another program.
async fn free(spool: Arc<LogSpool>) {
    // What was begun is written before it is free.
    let _ = tokio::task::spawn_blocking(move || drop(spool)).await;
}

/// Where mail comes back to. Other secrets make other addresses: with a new file, bounces of older mail
/// are not known any more.
fn returns(
    bounces: Bounces,
    suppressions: &Arc<Suppressions>,
    events: &Events,
) -> Result<Arc<Returns>> {
    let secret = Secret::load_or_create(&bounces.secret)
        .with_context(|| format!("cannot keep {}", bounces.secret.display()))?;
    let verp = Verp::new(secret.octets(), bounces.domain, bounces.days);
    let Bounces { feedback, forward, .. } = bounces;
    let (suppressions, events) = (suppressions.clone(), events.clone());
    Ok(Arc::new(Returns::new(verp, feedback, forward, suppressions, events)))
}

async fn answer_operators(controls: Arc<Controls>, history: Option<Arc<History>>, bound: Bound) {
    let mut server = waypost_admin::Server::new(controls.queue.clone(), controls);
    if let Some(history) = history {
        server = server.with_history(history);
    }
    if let Err(failure) = server.run(bound).await {
        error!(%failure, "operators are not answered any more");
    }
}

async fn stopped(mut stop: watch::Receiver<bool>) {
    // The sender gone means the same as its word.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// This machine's own addresses: mail sent to them on a port of ours would come back.
pub(crate) fn interfaces() -> Vec<IpAddr> {
    let addresses = nix::ifaddrs::getifaddrs().into_iter().flatten();
    addresses
        .filter_map(|interface| {
            let address = interface.address?;
            let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
        })
        .collect()
}
