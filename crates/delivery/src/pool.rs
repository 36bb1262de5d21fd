//! Connections that wait for their next message.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::connection::Connection;
use crate::demand::Demand;
use crate::seats::{Seat, Seats};
use crate::tape::Tape;

/// How long and how often a connection is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// How long one waits for its next message. Hosts want their slots back soon.
    pub idle: Duration,
    /// Idle connections kept in all; one more closes the one that is idle longest.
    pub idle_connections: usize,
}

impl Default for ConnectionLimits {
    fn default() -> ConnectionLimits {
        ConnectionLimits { idle: Duration::from_secs(5), idle_connections: 500 }
    }
}

/// What makes two connections interchangeable, beside what was demanded of them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) address: SocketAddr,
    pub(crate) name: String,
    pub(crate) implicit_tls: bool,
    pub(crate) lmtp: bool,
    pub(crate) credentials: Option<String>,
    pub(crate) certificate: Option<String>,
    /// The address, and where the proxy is that has it.
    pub(crate) source: Option<(IpAddr, Option<SocketAddr>)>,
}

/// Idle connections by what they are good for.
#[derive(Debug)]
pub(crate) struct Pool {
    limits: ConnectionLimits,
    idle: Mutex<Idle>,
    parked: Notify,
}

#[derive(Debug, Default)]
struct Idle {
    /// Those that came last are at the end, and leave first: the others may time out.
    by_key: HashMap<Key, Vec<Parked>>,
    count: usize,
}

#[derive(Debug)]
struct Parked {
    /// What it has proven: it is good for the same demand and for no other.
    demand: Demand,
    connection: Connection,
    since: Instant,
}

impl Pool {
    pub(crate) fn new(limits: ConnectionLimits) -> Pool {
        Pool { limits, idle: Mutex::default(), parked: Notify::new() }
    }

    /// An idle connection that is still good, and of which the same was demanded when it was opened.
    pub(crate) async fn take(&self, key: &Key, demand: &Demand) -> Option<Connection> {
        loop {
            let mut connection = self.idle().take(key, demand)?.connection;
            if connection.is_usable().await {
                return Some(connection);
            }
        }
    }

    /// True when there is an idle connection, whatever was demanded of it.
    pub(crate) fn has(&self, key: &Key) -> bool {
        self.idle().by_key.contains_key(key)
    }

    /// The idle connection to this provider that came first, which is to make room for another one.
    pub(crate) fn make_room(&self, seats: &Seats) -> Option<Connection> {
        let of_them =
            |parked: &Parked| parked.connection.seat.as_ref().is_some_and(|seat| seat.is_of(seats));
        self.idle().oldest(of_them).map(|parked| parked.connection)
    }

    /// Keeps a connection, unless it was used often enough or somebody waits for its place.
    pub(crate) fn park(&self, key: Key, demand: &Demand, mut connection: Connection) {
        connection.record(Tape::blank());
        let mut idle = self.idle();
        // Asked with the lock held: who has a claim looks at what is idle after that, or is seen here.
        let wanted = connection.seat.as_ref().is_some_and(Seat::is_wanted);
        if wanted || connection.is_worn_out() || self.limits.idle_connections == 0 {
            tokio::spawn(connection.quit());
            return;
        }
        let surplus =
            if idle.count >= self.limits.idle_connections { idle.oldest(|_| true) } else { None };
        let demand = demand.clone();
        idle.park(key, Parked { demand, connection, since: Instant::now() });
        drop(idle);
        self.parked.notify_one();
        if let Some(parked) = surplus {
            tokio::spawn(parked.connection.quit());
        }
    }

    /// Closes connections that waited too long, for ever.
    pub(crate) async fn tend(&self) -> Infallible {
        loop {
            let parked = self.parked.notified();
            let first = self.idle().first_since();
            match first {
                None => parked.await,
                Some(since) => sleep_until(since + self.limits.idle).await,
            }
            for parked in self.idle().stale(Instant::now(), self.limits.idle) {
                tokio::spawn(parked.connection.quit());
            }
        }
    }

    /// Closes all of them and waits until that is done.
    pub(crate) async fn close(&self) {
        let all = std::mem::take(&mut *self.idle());
        let parked = all.by_key.into_values().flatten();
        let closing: JoinSet<()> = parked.map(|parked| parked.connection.quit()).collect();
        closing.join_all().await;
    }

    fn idle(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Idle {
    fn take(&mut self, key: &Key, demand: &Demand) -> Option<Parked> {
        let list = self.by_key.get_mut(key)?;
        let at = list.iter().rposition(|parked| parked.demand == *demand)?;
        let parked = list.remove(at);
        if list.is_empty() {
            self.by_key.remove(key);
        }
        self.count -= 1;
        Some(parked)
    }

    fn park(&mut self, key: Key, parked: Parked) {
        self.by_key.entry(key).or_default().push(parked);
        self.count += 1;
    }

    /// Since when the one that is idle longest is.
    fn first_since(&self) -> Option<Instant> {
        self.by_key.values().filter_map(|list| list.first()).map(|parked| parked.since).min()
    }

    /// Of those that are meant the one that is idle longest.
    fn oldest(&mut self, is_meant: impl Fn(&Parked) -> bool) -> Option<Parked> {
        let first = |(key, list): (_, &Vec<Parked>)| {
            let at = list.iter().position(&is_meant)?;
            Some((list[at].since, key, at))
        };
        let firsts = self.by_key.iter().filter_map(first);
        let (_, key, at) = firsts.min_by_key(|(since, ..)| *since)?;
        let key: Key = Key::clone(key);
        let list = self.by_key.get_mut(&key)?;
        let parked = list.remove(at);
        if list.is_empty() {
            self.by_key.remove(&key);
        }
        self.count -= 1;
        Some(parked)
    }

    fn stale(&mut self, now: Instant, idle: Duration) -> Vec<Parked> {
        let mut stale = Vec::new();
        for list in self.by_key.values_mut() {
            let fresh = list.partition_point(|parked| now.duration_since(parked.since) >= idle);
            stale.extend(list.drain(..fresh));
        }
        self.by_key.retain(|_, list| !list.is_empty());
        self.count -= stale.len();
        stale
    }
}
