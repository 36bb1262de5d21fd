//! A relay without doors: a queue in memory, delivery, and a world that the test makes up.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::{Instant, sleep};
use waypost_delivery::{ClientTls, Config, Delivery, Dialer, Parts, SourceAddress, Stream};
use waypost_dns::sts::Policies;
use waypost_dns::{DnsError, Dnssec, Mx, MxAnswer, Resolver, Tlsa, Validation};
use waypost_harness::upstream::Upstream;
use waypost_history::{History, Pen};
use waypost_hooks::{Hooks, Pass};
use waypost_identity::Keyring;
use waypost_intake::{Events, Intake, Rooms, Routing};
use waypost_mail::{
    Allow, Body, Clock, Entry, Facts, Fetch, FetchError, FetchRequest, FetchResponse, IdSource,
    MessageId, NextHop, Outcome, Recipient, RecipientEntry, RecipientState, Route, SignRequest,
    Terms, Timestamp, TlsLevel, Why,
};
use waypost_queue::{Prepared, Queue};
use waypost_smtp::{Domain, Mailbox, Notify, ReversePath};
use waypost_spool::MemorySpool;

/// Whole days, so that logs are easy to read.
const START: Timestamp = Timestamp(1_800_057_600_000);
/// The message that is sent when a test does not say.
pub(crate) const MESSAGE: &str =
    "Subject: hello\r\nFrom: alice@home.example\r\n\r\nHi.\r\n.dot\r\n";
/// The address of the first exchanger of `there.example`.
pub(crate) const MX: &str = "192.0.2.1:25";

/// Wall-clock time that follows tokio's, paused or not.
#[derive(Debug)]
pub(crate) struct PausedClock(Instant);

impl Clock for PausedClock {
    fn now(&self) -> Timestamp {
        START.after(self.0.elapsed())
    }
}

/// Hosts by address. Whoever is not there refuses connections.
#[derive(Debug, Default)]
pub(crate) struct Network {
    hosts: Mutex<HashMap<SocketAddr, Host>>,
    dialed: Mutex<Vec<SocketAddr>>,
    sources: Mutex<Vec<Option<IpAddr>>>,
}

#[derive(Debug, Clone)]
enum Host {
    Up(Upstream),
    Silent,
}

impl Network {
    /// Where the connections came from, one each.
    pub(crate) fn sources(&self) -> Vec<Option<IpAddr>> {
        self.sources.lock().unwrap().clone()
    }

    /// From now on somebody answers at this address.
    pub(crate) fn open(&self, address: &str, upstream: &Upstream) {
        self.hosts.lock().unwrap().insert(address.parse().unwrap(), Host::Up(upstream.clone()));
    }

    pub(crate) fn dialed(&self) -> Vec<String> {
        self.dialed.lock().unwrap().iter().map(SocketAddr::to_string).collect()
    }
}

#[async_trait]
impl Dialer for Network {
    async fn dial(
        &self,
        address: SocketAddr,
        from: Option<&SourceAddress>,
    ) -> io::Result<Box<dyn Stream>> {
        self.dialed.lock().unwrap().push(address);
        self.sources.lock().unwrap().push(from.map(|source| source.address));
        let host = self.hosts.lock().unwrap().get(&address).cloned();
        match host {
            Some(Host::Up(upstream)) => {
                let (ours, theirs) = tokio::io::duplex(16 * 1024);
                tokio::spawn(upstream.serve(theirs));
                Ok(Box::new(ours))
            }
            Some(Host::Silent) => std::future::pending().await,
            None => Err(io::ErrorKind::ConnectionRefused.into()),
        }
    }
}

/// DNS as the test has it.
#[derive(Debug, Default)]
pub(crate) struct Names {
    mx: Mutex<HashMap<String, Result<MxAnswer, DnsError>>>,
    addresses: Mutex<HashMap<String, Vec<IpAddr>>>,
    secure: Mutex<Vec<String>>,
    tlsa: Mutex<HashMap<String, Result<Vec<Tlsa>, DnsError>>>,
    txt: Mutex<HashMap<String, Vec<String>>>,
    policies: Mutex<HashMap<String, String>>,
    /// No answer can be validated at the moment.
    blind: AtomicBool,
    /// No TXT record can be had at the moment.
    mute: AtomicBool,
}

impl Names {
    /// Whether answers can be validated from now on.
    pub(crate) fn set_blind(&self, blind: bool) {
        self.blind.store(blind, Ordering::Relaxed);
    }

    /// Whether TXT records can be had from now on.
    pub(crate) fn set_mute(&self, mute: bool) {
        self.mute.store(mute, Ordering::Relaxed);
    }

    pub(crate) fn set_tlsa(&self, host: &str, answer: Result<Vec<Tlsa>, DnsError>) {
        self.tlsa.lock().unwrap().insert(host.to_owned(), answer);
    }
}

#[async_trait]
impl Resolver for Names {
    async fn mx(&self, domain: &str) -> Result<MxAnswer, DnsError> {
        self.mx.lock().unwrap().get(domain).cloned().unwrap_or(Ok(MxAnswer::NoSuchDomain))
    }

    async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, DnsError> {
        let host = host.trim_end_matches('.');
        Ok(self.addresses.lock().unwrap().get(host).cloned().unwrap_or_default())
    }

    async fn txt(&self, name: &str) -> Result<Vec<String>, DnsError> {
        if self.mute.load(Ordering::Relaxed) {
            let (name, after) = (name.to_owned(), Duration::from_secs(10));
            return Err(DnsError::TimedOut { kind: "txt", name, after });
        }
        Ok(self.txt.lock().unwrap().get(name).cloned().unwrap_or_default())
    }

    async fn reverse(&self, _: IpAddr) -> Result<Option<String>, DnsError> {
        Ok(None)
    }
}

/// DNSSEC as the test has it: it vouches for what it is told to.
#[async_trait]
impl Dnssec for Names {
    async fn validation(&self) -> Validation {
        match self.blind.load(Ordering::Relaxed) {
            true => Validation::Fails,
            false => Validation::Works,
        }
    }

    async fn mx(&self, domain: &str) -> Result<(MxAnswer, bool), DnsError> {
        let secure = self.secure.lock().unwrap().iter().any(|secure| secure == domain);
        Ok((Resolver::mx(self, domain).await?, secure))
    }

    async fn tlsa_bases(&self, host: &str) -> Result<Vec<String>, DnsError> {
        let known = self.tlsa.lock().unwrap().contains_key(host);
        Ok(if known { vec![host.to_owned()] } else { Vec::new() })
    }

    async fn tlsa(&self, base: &str, _: u16) -> Result<Vec<Tlsa>, DnsError> {
        self.tlsa.lock().unwrap().get(base).cloned().unwrap_or(Ok(Vec::new()))
    }
}

/// Serves the policies of domains.
#[async_trait]
impl Fetch for Names {
    async fn fetch(&self, asked: FetchRequest, _: &Allow) -> Result<FetchResponse, FetchError> {
        let served = self.policies.lock().unwrap();
        let text = served.get(&asked.url).ok_or(FetchError::TimedOut)?;
        let headers = vec![("content-type".to_owned(), "text/plain".to_owned())];
        let body = Bytes::copy_from_slice(text.as_bytes());
        Ok(FetchResponse { status: 200, headers, body, truncated: false })
    }
}

/// What the relay is made of, before it runs.
pub(crate) struct Plan {
    pub(crate) network: Arc<Network>,
    pub(crate) names: Arc<Names>,
    pub(crate) hooks: Arc<dyn Hooks>,
    pub(crate) config: Config,
    pub(crate) routing: Routing,
    pub(crate) keys: Keyring,
    dialer: Option<Arc<dyn Dialer>>,
    history: Option<Arc<History>>,
}

impl Plan {
    /// A world with one domain, `there.example`, whose exchanger is `mx1.there.example` at [`MX`];
    /// notices to `home.example` go to the upstream that is returned.
    pub(crate) fn new() -> (Plan, Upstream) {
        let tls = ClientTls::new(rustls::RootCertStore::empty()).unwrap();
        let mut config = Config::new(Domain::parse("relay.example").unwrap(), tls);
        config.own_addresses =
            waypost_dns::OwnAddresses::new(["192.0.2.99:25".parse().unwrap()], []);
        let plan = Plan {
            network: Arc::default(),
            names: Arc::default(),
            hooks: Arc::new(Pass),
            config,
            routing: Routing::default(),
            keys: Keyring::default(),
            dialer: None,
            history: None,
        };
        let home = Upstream::new();
        let plan = plan
            .mx("there.example", &[(10, "mx1.there.example")])
            .host("mx1.there.example", &["192.0.2.1"])
            .mx("home.example", &[(10, "mx.home.example")])
            .host("mx.home.example", &["192.0.2.50"])
            .up("192.0.2.50:25", &home);
        (plan, home)
    }

    /// The same with `upstream` as the one exchanger.
    pub(crate) fn with(upstream: &Upstream) -> (Plan, Upstream) {
        let (plan, home) = Plan::new();
        (plan.up(MX, upstream), home)
    }

    pub(crate) fn up(self, address: &str, upstream: &Upstream) -> Plan {
        self.put(address, Host::Up(upstream.clone()))
    }

    /// Connections to this address are neither made nor refused.
    pub(crate) fn silent(self, address: &str) -> Plan {
        self.put(address, Host::Silent)
    }

    fn put(self, address: &str, host: Host) -> Plan {
        self.network.hosts.lock().unwrap().insert(address.parse().unwrap(), host);
        self
    }

    pub(crate) fn mx(self, domain: &str, records: &[(u16, &str)]) -> Plan {
        let mx = |(preference, exchange): &(u16, &str)| Mx {
            preference: *preference,
            exchange: (*exchange).to_owned(),
        };
        let answer = MxAnswer::from_records(records.iter().map(mx).collect());
        self.mx_answer(domain, Ok(answer))
    }

    pub(crate) fn mx_answer(self, domain: &str, answer: Result<MxAnswer, DnsError>) -> Plan {
        self.names.mx.lock().unwrap().insert(domain.to_owned(), answer);
        self
    }

    pub(crate) fn host(self, name: &str, addresses: &[&str]) -> Plan {
        let addresses = addresses.iter().map(|ip| ip.parse().unwrap()).collect();
        self.names.addresses.lock().unwrap().insert(name.to_owned(), addresses);
        self
    }

    /// DNSSEC vouches for the exchangers of this domain.
    pub(crate) fn secure(self, domain: &str) -> Plan {
        self.names.secure.lock().unwrap().push(domain.to_owned());
        self
    }

    /// The domain has an MTA-STS policy that names this one host.
    pub(crate) fn policy(self, domain: &str, mode: &str, mx: &str) -> Plan {
        let record = vec!["v=STSv1; id=1;".to_owned()];
        self.names.txt.lock().unwrap().insert(format!("_mta-sts.{domain}"), record);
        let text = format!("version: STSv1\nmode: {mode}\nmx: {mx}\nmax_age: 604800\n");
        let url = format!("https://mta-sts.{domain}/.well-known/mta-sts.txt");
        self.names.policies.lock().unwrap().insert(url, text);
        self
    }

    /// The domain says that it has a policy, and nobody serves one.
    pub(crate) fn announced(self, domain: &str) -> Plan {
        let record = vec!["v=STSv1; id=1;".to_owned()];
        self.names.txt.lock().unwrap().insert(format!("_mta-sts.{domain}"), record);
        self
    }

    /// The host has these TLSA records, and DNSSEC vouches for them.
    pub(crate) fn tlsa(self, host: &str, answer: Result<Vec<Tlsa>, DnsError>) -> Plan {
        self.names.set_tlsa(host, answer);
        self
    }

    pub(crate) fn hooks(mut self, hooks: Arc<dyn Hooks>) -> Plan {
        self.hooks = hooks;
        self
    }

    pub(crate) fn config(mut self, change: impl FnOnce(&mut Config)) -> Plan {
        change(&mut self.config);
        self
    }

    pub(crate) fn keys(mut self, keys: Keyring) -> Plan {
        self.keys = keys;
        self
    }

    pub(crate) fn routing(mut self, routing: Routing) -> Plan {
        self.routing = routing;
        self
    }

    /// What happens is told there.
    pub(crate) fn history(mut self, history: &Arc<History>) -> Plan {
        self.history = Some(history.clone());
        self
    }

    /// Another network than the made-up one.
    pub(crate) fn dialer(mut self, dialer: Arc<dyn Dialer>) -> Plan {
        self.dialer = Some(dialer);
        self
    }

    /// Starts it. Messages that are there are on their way from now on.
    pub(crate) async fn run(self) -> Relay {
        let clock: Arc<dyn Clock> = Arc::new(PausedClock(Instant::now()));
        let spool = Arc::new(MemorySpool::new());
        let queue =
            Queue::open(spool.clone(), waypost_queue::Config::default(), clock.clone(), 1).await;
        let queue = queue.unwrap();
        let pen = self.history.map_or_else(Pen::idle, |history| history.pen());
        let events = Events::to(self.hooks.clone(), clock.clone()).with_history(pen);
        let rooms = Rooms {
            queue: queue.clone(),
            hooks: self.hooks.clone(),
            clock: clock.clone(),
            ids: IdSource::above(1 << 60, clock.clone()),
            events: events.clone(),
            keys: self.keys,
            verifier: None,
            incoming: std::env::temp_dir(),
        };
        let intake = Arc::new(Intake::new(Default::default(), self.routing, rooms));
        let names = self.names.clone();
        let policies =
            Policies::open(names.clone(), names, spool.clone(), clock.clone()).await.unwrap();
        let parts = Parts {
            policies: Some(Arc::new(policies)),
            reports: None,
            queue: queue.clone(),
            intake,
            resolver: self.names.clone(),
            dnssec: self.names,
            hooks: self.hooks,
            dialer: self.dialer.unwrap_or_else(|| self.network.clone()),
            clock: clock.clone(),
            events,
        };
        let delivery = Delivery::new(parts, self.config);
        let running = delivery.clone();
        let run = tokio::spawn(async move { running.run().await });
        Relay { spool, queue, delivery, clock, network: self.network, run, next: Mutex::new(1) }
    }
}

/// A running relay.
pub(crate) struct Relay {
    pub(crate) spool: Arc<MemorySpool>,
    pub(crate) queue: Arc<Queue>,
    pub(crate) delivery: Arc<Delivery>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) network: Arc<Network>,
    run: tokio::task::JoinHandle<()>,
    next: Mutex<u64>,
}

/// A message to be sent; a usual one unless it is changed.
pub(crate) struct Post {
    pub(crate) sender: &'static str,
    pub(crate) recipients: Vec<&'static str>,
    pub(crate) content: String,
    pub(crate) route: Route,
    /// The way stays, whatever the configuration says.
    pub(crate) fixed: bool,
    pub(crate) lifetime: Duration,
    pub(crate) eight_bit: bool,
    pub(crate) smtputf8: bool,
    pub(crate) terms: Terms,
    /// The signatures that it got from us.
    pub(crate) sign: Vec<SignRequest>,
    pub(crate) notify: Notify,
}

impl Default for Post {
    fn default() -> Post {
        Post {
            sender: "alice@home.example",
            recipients: vec!["bob@there.example"],
            content: MESSAGE.to_owned(),
            route: by_mx(TlsLevel::Opportunistic),
            fixed: true,
            lifetime: Duration::from_secs(5 * 86_400),
            eight_bit: false,
            smtputf8: false,
            terms: Terms::default(),
            sign: Vec::new(),
            notify: Notify::Unsaid,
        }
    }
}

/// By the exchangers of `there.example`.
pub(crate) fn by_mx(tls: TlsLevel) -> Route {
    Route::new(NextHop::Mx(Domain::parse("there.example").unwrap()), tls)
}

/// By one host, on port 25.
pub(crate) fn by_host(host: &str) -> NextHop {
    NextHop::Host { host: host.to_owned(), port: 25, implicit_tls: false }
}

impl Relay {
    /// Puts a message into the queue.
    pub(crate) async fn post(&self, post: Post) -> MessageId {
        let id = MessageId({
            let mut next = self.next.lock().unwrap();
            *next += 1;
            *next
        });
        let (header, body) = post.content.split_at(post.content.find("\r\n\r\n").unwrap() + 4);
        let now = self.clock.now();
        let recipient = |(id, address): (usize, &&str)| RecipientEntry {
            recipient: Recipient {
                notify: post.notify,
                ..Recipient::new(id as u32, Mailbox::parse(address).unwrap())
            },
            route: 0,
            told: 0,
            state: RecipientState::fresh(post.terms.hold_until.unwrap_or(now)),
        };
        let entry = Entry {
            id,
            received: now,
            expires: post.terms.expires(now, post.lifetime),
            sender: ReversePath::try_from(post.sender.to_owned()).unwrap(),
            eight_bit: post.eight_bit,
            smtputf8: post.smtputf8,
            size: post.content.len() as u64,
            facts: Facts::internal(waypost_mail::SessionId(1)),
            meta: Vec::new(),
            sign: post.sign,
            terms: post.terms.clone(),
            reroutes: 0,
            routes: vec![Route { fixed: post.fixed, ..post.route }],
            recipients: post.recipients.iter().enumerate().map(recipient).collect(),
        };
        let header = Bytes::copy_from_slice(header.as_bytes());
        let body = Body::Memory(Bytes::copy_from_slice(body.as_bytes()));
        self.queue.commit(Prepared::new(entry, header, body)).await.unwrap()
    }

    /// Puts the usual message into the queue.
    pub(crate) async fn send(&self) -> MessageId {
        self.post(Post::default()).await
    }

    /// Waits until this holds; a day at most.
    pub(crate) async fn until(&self, what: &str, holds: impl Fn() -> bool) {
        let start = Instant::now();
        while !holds() {
            assert!(!self.run.is_finished(), "delivery has ended");
            assert!(start.elapsed() < Duration::from_secs(86_400), "waited a day for {what}");
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until the message is gone: every recipient settled.
    pub(crate) async fn gone(&self, id: MessageId) {
        let start = Instant::now();
        while let Ok(entry) = self.queue.show(id) {
            let waited = start.elapsed();
            assert!(waited < Duration::from_secs(86_400), "after a day: {:?}", entry.recipients);
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits for the first attempt; answers why the one recipient that is left was deferred.
    pub(crate) async fn deferred(&self, id: MessageId) -> Why {
        self.until("a deferral", || self.waiting(id).is_some_and(|(tries, _, _)| tries > 0)).await;
        self.waiting(id).and_then(|(_, _, why)| why).expect("a cause").cause().clone()
    }

    /// Tries, due moment and last cause of the first recipient that is not done.
    pub(crate) fn waiting(&self, id: MessageId) -> Option<(u32, Timestamp, Option<Why>)> {
        let entry = self.queue.show(id).ok()?;
        entry.recipients.into_iter().find_map(|recipient| match recipient.state {
            RecipientState::Waiting { due, tries, last } => Some((tries, due, last)),
            _ => None,
        })
    }

    /// The outcome of a recipient that is done while others are not.
    pub(crate) fn done(&self, id: MessageId, recipient: usize) -> Option<Outcome> {
        match &self.queue.show(id).ok()?.recipients[recipient].state {
            RecipientState::Done(outcome) => Some(outcome.clone()),
            _ => None,
        }
    }

    /// Ends delivery where it is, and waits until nothing of it is left.
    pub(crate) async fn cut_off(self) {
        self.run.abort();
        let _ = self.run.await;
        let weak = Arc::downgrade(&self.delivery);
        drop(self.delivery);
        while weak.strong_count() > 0 {
            sleep(Duration::from_millis(1)).await;
        }
    }

    /// Closes the queue and waits until delivery has ended.
    pub(crate) async fn drain(self) {
        self.queue.close();
        self.run.await.unwrap();
    }
}
