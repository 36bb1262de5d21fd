//! One run of the program: everything between the doors and the disk that is real.

use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use waypost_delivery::{Allowance, ClientTls, Config as DeliveryConfig, Delivery, Parts};
use waypost_identity::Keyring;
use waypost_inbound::{Bans, Rooms as Doors, Secret, Server, Settings};
use waypost_intake::{Config as IntakeConfig, Events, Intake, Rooms, RouteRule, Routing, Via};
use waypost_mail::fetch::{Allow, Fetch, FetchError, FetchRequest, FetchResponse};
use waypost_mail::{Clock, Convert, Heed, IdSource, ManualClock, Network, Timestamp, TlsLevel};
use waypost_queue::{Class, Config as QueueConfig, Loading, Queue, Rate, Window};
use waypost_smtp::Domain;
use waypost_smtp::server::{AuthRule, Offers, Rules, Strictness, TlsRule, XclientRule};
use waypost_spool::{
    Config as SpoolConfig, Driver, LogSpool, MemorySpool, OpenError, Report, Spool,
};

use crate::disk::SimDisk;
use crate::gate::Gate;
use crate::net::Net;
use crate::policy::Obedient;
use crate::rows::ModelPlace;
use crate::witness::Witness;

/// Leases at once for one destination.
pub const PER_DESTINATION: usize = 2;
/// Leases at once in all.
pub const IN_FLIGHT: usize = 4;
/// Recipients in one ticket.
pub const PER_TICKET: usize = 2;
/// Recipients that a peer may name for a message.
pub const MAX_RECIPIENTS: usize = 4;
/// Octets that a message may have.
pub const MAX_SIZE: u64 = 3000;
/// Replies 5xx that a peer may earn.
pub const MAX_ERRORS: u32 = 5;
/// Sessions at our door at once.
pub const MAX_SESSIONS: usize = 4;
/// How long a message is tried.
pub const LIFETIME: Duration = Duration::from_secs(12 * 3600);
/// When senders are told that their mail is late.
pub const DELAY_NOTICES: [Duration; 2] = [Duration::from_secs(1800), Duration::from_secs(4 * 3600)];

/// Mail for these domains is tried while its submitters wait.
pub const THROUGH: [&str; 2] = ["b.example", "c.example"];

/// Senders of this domain have a class of their own: slow, and not at night.
pub const SLOW_DOMAIN: &str = "a.example";
/// How fast that class is.
pub const SLOW: Rate = Rate { count: 3, per: Duration::from_secs(900) };
/// When it may go.
pub const DAYTIME: Window = Window { days: [true; 7], from: 5 * 60, until: 10 * 60, offset: 0 };

/// A running relay. Dropped, it is gone as by `kill -9`.
pub struct Relay {
    /// The queue.
    pub queue: Arc<Queue>,
    /// The doors.
    pub server: Arc<Server>,
    /// Behind the doors.
    pub intake: Arc<Intake>,
    /// The way out.
    pub delivery: Arc<Delivery>,
    /// Who sees what goes through.
    pub gate: Arc<Gate>,
    /// The spool.
    pub spool: Arc<LogSpool>,
    /// Who sees what the spool is asked.
    pub witness: Arc<Witness>,
    /// Policy.
    pub policy: Obedient,
    /// Its writer.
    pub driver: Driver,
}

/// What outlives a run.
#[derive(Debug)]
pub struct Ground {
    /// The disk.
    pub disk: SimDisk,
    /// The index.
    pub place: ModelPlace,
    /// The network.
    pub net: Net,
    /// The time of day.
    pub clock: Arc<ManualClock>,
    /// The marks of this spool's records.
    pub seal: u64,
    tls: ClientTls,
}

impl Ground {
    /// An empty disk, and a clock that goes right.
    pub fn new(seal: u64) -> Ground {
        let disk = SimDisk::new();
        let roots = rustls::RootCertStore::empty();
        Ground {
            place: ModelPlace::new(disk.clone()),
            disk,
            net: Net::default(),
            clock: Arc::new(ManualClock::at(Timestamp(1_800_000_000_000))),
            seal,
            tls: ClientTls::new(roots).unwrap_or_else(|_| unreachable!("it knows TLS 1.3")),
        }
    }
}

impl Relay {
    /// Starts on what the last run left.
    ///
    /// # Errors
    /// When the spool cannot be opened.
    pub async fn start(ground: &Ground, seed: u64) -> Result<(Relay, Report), OpenError> {
        let clock: Arc<dyn Clock> = ground.clock.clone();
        let config = SpoolConfig {
            segment_size: 4096,
            keep_free: 4096,
            reserve: 0,
            disk: Arc::new(ground.disk.clone()),
            ..SpoolConfig::new("/spool")
        };
        let mut loading = Loading::new(queue_config(), clock.clone(), seed);
        let (place, seal) = (&ground.place, ground.seal);
        let (spool, driver, report) =
            LogSpool::open_driven(&config, clock.clone(), place, seal, &mut loading)?;
        let witness = Arc::new(Witness::of(spool.clone()));
        let queue = loading.open(witness.clone()).await;
        let policy = Obedient::new(ground.clock.clone(), seed);
        let events = Events::to(Arc::new(policy.clone()), clock.clone());
        let rooms = Rooms {
            queue: queue.clone(),
            hooks: Arc::new(policy.clone()),
            clock: clock.clone(),
            ids: IdSource::without_noise(spool.highest_id(), clock.clone()),
            events: events.clone(),
            keys: Keyring::default(),
            verifier: None,
            incoming: Path::new("/spool/incoming").to_owned(),
        };
        let config = IntakeConfig { lifetime: LIFETIME, ..IntakeConfig::default() };
        let intake = Arc::new(Intake::new(config, routing(), rooms));
        let parts = Parts {
            queue: queue.clone(),
            intake: intake.clone(),
            resolver: Arc::new(ground.net.clone()),
            dnssec: Arc::new(waypost_dns::NoDnssec),
            policies: None,
            reports: None,
            hooks: Arc::new(policy.clone()),
            dialer: Arc::new(ground.net.clone()),
            clock: clock.clone(),
            events: events.clone(),
        };
        let delivery = Delivery::new(parts, delivery_config(ground));
        let gate = Arc::new(Gate::of(delivery.clone(), queue.clone()));
        let watched: Weak<Gate> = Arc::downgrade(&gate);
        intake.set_handoff(watched);
        let server = doors(intake.clone(), &policy, events, clock, seed).await?;
        let relay = Relay { queue, server, intake, delivery, gate, spool, witness, policy, driver };
        Ok((relay, report))
    }
}

fn queue_config() -> QueueConfig {
    let mut queue = QueueConfig {
        lifetime: LIFETIME,
        per_destination: PER_DESTINATION,
        in_flight: IN_FLIGHT,
        recipients_per_transaction: PER_TICKET,
        ready_cache: 3,
        scheduled: 8,
        delay_notices: DELAY_NOTICES.to_vec(),
        ..QueueConfig::default()
    };
    queue.classes = vec![Class {
        matches: format!("sender:*@{SLOW_DOMAIN}").parse().ok(),
        rate: Some(SLOW),
        windows: vec![DAYTIME],
        ..Class::usual("slow", &queue)
    }];
    queue
}

/// All by their exchangers; some of it while its submitters wait.
fn routing() -> Routing {
    let rule = RouteRule {
        domains: THROUGH.iter().filter_map(|domain| domain.parse().ok()).collect(),
        via: Via::Mx,
        source: None,
        tls: TlsLevel::Opportunistic,
        credentials: None,
        heed: Heed::default(),
        certificate: None,
        convert: Convert::default(),
        cut_through: true,
    };
    Routing { rules: vec![rule], ..Routing::default() }
}

fn delivery_config(ground: &Ground) -> DeliveryConfig {
    let name = Domain::parse("relay.example").unwrap_or_else(|_| unreachable!("a host's name"));
    let allowance = Allowance { messages_per_connection: 3, ..Allowance::default() };
    DeliveryConfig { allowance, ..DeliveryConfig::new(name, ground.tls.clone()) }
}

/// The doors, behind which peers of a listed network may send to anybody.
async fn doors(
    intake: Arc<Intake>,
    policy: &Obedient,
    events: Events,
    clock: Arc<dyn Clock>,
    seed: u64,
) -> Result<Arc<Server>, OpenError> {
    let mut settings = Settings::new("relay.example");
    settings.relay.networks.extend("10.0.0.0/8".parse::<Network>().ok());
    // As they are by default, or taking what can be understood.
    if seed.is_multiple_of(2) {
        settings.strict = Strictness::TOLERANT;
    }
    let limits = &mut settings.limits;
    limits.max_sessions = MAX_SESSIONS;
    limits.max_message_size = MAX_SIZE;
    limits.max_recipients = MAX_RECIPIENTS;
    limits.max_errors = MAX_ERRORS;
    // What the machine has must not decide what happens.
    limits.max_memory = Some(u64::MAX);
    // The spool's own ledger has facts enough; bans and keys are no part of this.
    let ledger = Arc::new(MemorySpool::new());
    let index = |error: String| OpenError::Index(error);
    let bans = Bans::open(ledger.clone(), clock.clone()).await;
    let rooms = Doors {
        intake,
        hooks: Arc::new(policy.clone()),
        events,
        clock,
        bans: Arc::new(bans.map_err(|error| index(error.to_string()))?),
        fetch: Arc::new(NoWeb),
        ledger,
    };
    let server = Server::new(Vec::new(), settings, rooms, Secret::new([7; 32]), 1);
    server.map_err(|error| index(error.to_string()))
}

/// Nobody answers.
#[derive(Debug)]
struct NoWeb;

#[async_trait]
impl Fetch for NoWeb {
    async fn fetch(&self, _: FetchRequest, _: &Allow) -> Result<FetchResponse, FetchError> {
        Err(FetchError::TimedOut)
    }
}

/// What a session with a next hop may do.
pub fn rules(hostname: &str, max_size: u64) -> Rules {
    Rules {
        hostname: hostname.to_owned(),
        tls: TlsRule::Off,
        mechanisms: Vec::new(),
        auth: AuthRule::Off,
        submission: false,
        lmtp: false,
        origin: None,
        xclient: XclientRule::Off,
        max_size,
        max_recipients: MAX_RECIPIENTS,
        max_messages: u32::MAX,
        max_session_recipients: usize::MAX,
        strict: Strictness::TOLERANT,
        max_errors: MAX_ERRORS,
        max_commands: 100,
        offers: Offers::default(),
    }
}
