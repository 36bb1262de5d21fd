//! The network that deliveries see: names, hosts, and whether anybody answers.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use rand::Rng;
use rand::rngs::StdRng;
use waypost_delivery::{Dialer, SourceAddress, Stream};
use waypost_dns::{DnsError, Mx, MxAnswer, Resolver};

use crate::visit::DOMAINS;
use crate::wire::{Wire, connection};

/// Mail exchangers of each domain.
pub const EXCHANGERS: usize = 2;
/// All of them.
pub const HOSTS: usize = DOMAINS.len() * EXCHANGERS;

/// How a next hop feels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mood {
    /// It takes everything.
    #[default]
    Well,
    /// It says 4xx or 5xx now and then, at any command.
    Moody,
    /// It ends connections at any moment: in the middle of a message, before the reply to the final
    /// dot and after the message was taken.
    Drops,
    /// It stops talking at any moment.
    Hangs,
    /// It says what nobody expects.
    Babbles,
    /// It says 421 at any moment.
    Leaves,
    /// It takes and says octet by octet.
    Slow,
    /// It offers STARTTLS, and fails at it.
    NoTls,
    /// Its port is closed.
    Away,
    /// Nobody answers the call.
    Deaf,
    /// Its name is not to be found.
    Nameless,
}

impl Mood {
    /// Any of them.
    pub fn any(random: &mut StdRng) -> Mood {
        match random.random_range(0..16) {
            0..3 => Mood::Well,
            3..6 => Mood::Moody,
            6..8 => Mood::Drops,
            8 => Mood::Hangs,
            9 => Mood::Babbles,
            10 => Mood::Leaves,
            11 => Mood::Slow,
            12 => Mood::NoTls,
            13 => Mood::Deaf,
            14 => Mood::Nameless,
            _ => Mood::Away,
        }
    }
}

/// The network. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Net(Arc<Mutex<Hosts>>);

#[derive(Debug, Default)]
struct Hosts {
    moods: [Mood; HOSTS],
    calls: Vec<(usize, Wire)>,
}

impl Net {
    /// How a host feels.
    pub fn mood(&self, host: usize) -> Mood {
        self.hosts().moods[host]
    }

    /// From now on it feels so.
    pub fn set_mood(&self, host: usize, mood: Mood) {
        self.hosts().moods[host] = mood;
    }

    /// All is well.
    pub fn calm_down(&self) {
        self.hosts().moods = [Mood::Well; HOSTS];
    }

    /// Connections that were made since this was asked last, with the host called.
    pub fn calls(&self) -> Vec<(usize, Wire)> {
        std::mem::take(&mut self.hosts().calls)
    }

    fn hosts(&self) -> MutexGuard<'_, Hosts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The address of a host.
fn address(host: usize) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1 + host as u8))
}

/// The host of an exchanger's name.
fn host_of(name: &str) -> Option<usize> {
    let (exchanger, domain) = name.trim_end_matches('.').split_once('.')?;
    let exchanger: usize = exchanger.strip_prefix("mx")?.parse().ok()?;
    let domain = DOMAINS.iter().position(|known| *known == domain)?;
    Some(domain * EXCHANGERS + exchanger).filter(|_| exchanger < EXCHANGERS)
}

#[async_trait]
impl Dialer for Net {
    async fn dial(
        &self,
        address: SocketAddr,
        _: Option<&SourceAddress>,
    ) -> io::Result<Box<dyn Stream>> {
        let host = (0..HOSTS).find(|host| self::address(*host) == address.ip());
        let host = host.ok_or(io::ErrorKind::HostUnreachable)?;
        match self.mood(host) {
            Mood::Away => Err(io::ErrorKind::ConnectionRefused.into()),
            Mood::Deaf => std::future::pending().await,
            _ => {
                let (wire, socket) = connection();
                self.hosts().calls.push((host, wire));
                Ok(Box::new(socket))
            }
        }
    }
}

#[async_trait]
impl Resolver for Net {
    /// Never of the same preference: chance has no part in their order.
    async fn mx(&self, domain: &str) -> Result<MxAnswer, DnsError> {
        if !DOMAINS.contains(&domain.trim_end_matches('.')) {
            return Ok(MxAnswer::NoSuchDomain);
        }
        let exchanger = |number: usize| Mx {
            preference: 10 * number as u16,
            exchange: format!("mx{number}.{}", domain.trim_end_matches('.')),
        };
        Ok(MxAnswer::Exchangers((0..EXCHANGERS).map(exchanger).collect()))
    }

    async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, DnsError> {
        match host_of(host) {
            Some(host) if self.mood(host) != Mood::Nameless => Ok(vec![address(host)]),
            Some(_) => {
                let (name, error) = (host.to_owned(), "SERVFAIL".to_owned());
                Err(DnsError::Failed { kind: "A", name, error })
            }
            None => Ok(Vec::new()),
        }
    }

    async fn txt(&self, _: &str) -> Result<Vec<String>, DnsError> {
        Ok(Vec::new())
    }

    async fn reverse(&self, _: IpAddr) -> Result<Option<String>, DnsError> {
        Ok(None)
    }
}
