//! One run of the program: everything between the doors and the disk that is real.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use waypost_identity::Keyring;
use waypost_intake::{Config as IntakeConfig, Events, Intake, Rooms, Routing};
use waypost_mail::{Clock, IdSource, ManualClock};
use waypost_queue::{Class, Config as QueueConfig, Queue, Rate, Window};
use waypost_smtp::server::{AuthRule, Offers, Rules, Strictness, TlsRule, XclientRule};
use waypost_spool::{Config as SpoolConfig, Driver, LogSpool, OpenError, Report, Spool};

use crate::disk::SimDisk;
use crate::policy::Obedient;
use crate::rows::ModelPlace;

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
/// How long a message is tried.
pub const LIFETIME: Duration = Duration::from_secs(12 * 3600);

/// Senders of this domain have a class of their own: slow, and not at night.
pub const SLOW_DOMAIN: &str = "a.example";
/// How fast that class is.
pub const SLOW: Rate = Rate { count: 3, per: Duration::from_secs(900) };
/// When it may go.
pub const DAYTIME: Window = Window { days: [true; 7], from: 4 * 60, until: 22 * 60, offset: 0 };

/// A running relay. Dropped, it is gone as by `kill -9`.
pub struct Relay {
    /// The queue.
    pub queue: Arc<Queue>,
    /// The door.
    pub intake: Arc<Intake>,
    /// The spool.
    pub spool: Arc<LogSpool>,
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
    /// The time of day.
    pub clock: Arc<ManualClock>,
    /// The marks of this spool's records.
    pub seal: u64,
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
        let (spool, driver, report) =
            LogSpool::open_driven(&config, clock.clone(), &ground.place, ground.seal)?;
        let mut queue = QueueConfig {
            lifetime: LIFETIME,
            per_destination: PER_DESTINATION,
            in_flight: IN_FLIGHT,
            recipients_per_transaction: PER_TICKET,
            ready_cache: 3,
            scheduled: 8,
            // A ticket for a notice of delay comes before anybody is due; the simulation tells of none.
            delay_notices: Vec::new(),
            ..QueueConfig::default()
        };
        queue.classes = vec![Class {
            matches: format!("sender:*@{SLOW_DOMAIN}").parse().ok(),
            rate: Some(SLOW),
            windows: vec![DAYTIME],
            ..Class::usual("slow", &queue)
        }];
        let queue = Queue::open(spool.clone(), queue, clock.clone(), seed).await;
        let queue = queue.map_err(|error| OpenError::Index(error.to_string()))?;
        let hooks = Arc::new(Obedient);
        let rooms = Rooms {
            queue: queue.clone(),
            hooks: hooks.clone(),
            clock: clock.clone(),
            ids: IdSource::without_noise(spool.highest_id(), clock.clone()),
            events: Events::to(hooks, clock),
            keys: Keyring::default(),
            incoming: Path::new("/spool/incoming").to_owned(),
        };
        let config = IntakeConfig { lifetime: LIFETIME, ..IntakeConfig::default() };
        let intake = Arc::new(Intake::new(config, Routing::default(), rooms));
        Ok((Relay { queue, intake, spool, driver }, report))
    }
}

/// What a session may do, at our door and at that of a next hop.
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
