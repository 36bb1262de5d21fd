//! Looks over the shoulder of mail-auth while it asks DNS: it takes the first record where a domain
//! has two, and does not count the questions that nobody answered.

use std::borrow::Borrow;
use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use mail_auth::hickory_resolver::proto::rr::RData;
use mail_auth::{DnsError, Error, MX, MessageAuthenticator, RecordSet, ResolverCache, Txt};

/// A cache that keeps nothing: it is told of every question, and of every answer that is one. The
/// resolver beneath has a cache of its own.
#[derive(Debug, Default)]
pub(super) struct Watch(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    /// Names whose TXT records were found.
    texts: Vec<Box<str>>,
    /// Names whose TXT records do not count.
    barred: HashSet<u64>,
    /// Questions by type and name, in order.
    asked: Vec<(Kind, u64)>,
    found: HashSet<(Kind, u64)>,
    /// Names that an MX or PTR record gave: they are part of one question.
    given: HashSet<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    Mx,
    V4,
    V6,
}

impl Watch {
    /// The names whose TXT records were found since the last call, each once.
    pub(super) fn take_texts(&self) -> Vec<Box<str>> {
        let mut texts = std::mem::take(&mut self.seen().texts);
        texts.sort_unstable();
        texts.dedup();
        texts
    }

    /// From now on there is no TXT record of this name.
    pub(super) fn bar(&self, name: &str) {
        self.seen().barred.insert(digest(name));
    }

    /// How many questions of a client at `ip` there was no answer to (RFC 7208 §4.6.4). A doubtful
    /// one is not counted: whether the last `exists` was answered is not told.
    pub(super) fn voids(&self, ip: IpAddr) -> usize {
        let seen = self.seen();
        let asked = |kind: Kind, name: u64| seen.asked.contains(&(kind, name));
        let (own, other) = match ip {
            IpAddr::V4(_) => (Kind::V4, Kind::V6),
            IpAddr::V6(_) => (Kind::V6, Kind::V4),
        };
        let last = seen.asked.last().map(|(_, name)| *name);
        let mut counted = HashSet::new();
        for &(kind, name) in &seen.asked {
            let is_void = !seen.found.contains(&(kind, name)) && !seen.given.contains(&name);
            let exists = asked(own, name) && asked(other, name);
            let is_doubtful = exists && last == Some(name);
            let is_one = kind == Kind::Mx || kind == own;
            if is_void && is_one && !is_doubtful {
                counted.insert((kind, name));
            }
        }
        counted.len()
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn asks(&self, kind: Kind, name: u64) {
        self.seen().asked.push((kind, name));
    }

    fn finds(&self, kind: Kind, name: &str) {
        self.seen().found.insert((kind, digest(name)));
    }
}

/// Every TXT record of this name, its strings joined; none when there is no answer.
pub(super) async fn texts(authenticator: &MessageAuthenticator, name: &str) -> Vec<Vec<u8>> {
    let Ok(lookup) = authenticator.resolver().txt_lookup(name).await else { return Vec::new() };
    let records = lookup.answers().iter().filter_map(|record| match &record.data {
        RData::TXT(text) => Some(text.txt_data.concat()),
        _ => None,
    });
    records.collect()
}

/// The same for text and for what is borrowed from it, as [`Borrow`] promises.
fn digest<Q: Hash + ?Sized>(name: &Q) -> u64 {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    hasher.finish()
}

impl ResolverCache<Box<str>, Txt> for Watch {
    fn get<Q>(&self, name: &Q) -> Option<Txt>
    where
        Box<str>: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let barred = self.seen().barred.contains(&digest(name));
        barred.then_some(Txt::Error(Error::Dns(DnsError::InvalidRecordType)))
    }

    fn remove<Q>(&self, _: &Q) -> Option<Txt>
    where
        Box<str>: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        None
    }

    fn insert(&self, name: Box<str>, _: Txt, _: Instant) {
        self.seen().texts.push(name);
    }
}

impl ResolverCache<Box<str>, RecordSet<MX>> for Watch {
    fn get<Q>(&self, name: &Q) -> Option<RecordSet<MX>>
    where
        Box<str>: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.asks(Kind::Mx, digest(name));
        None
    }

    fn remove<Q>(&self, _: &Q) -> Option<RecordSet<MX>>
    where
        Box<str>: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        None
    }

    fn insert(&self, name: Box<str>, records: RecordSet<MX>, _: Instant) {
        self.finds(Kind::Mx, &name);
        let names = records.rrset.iter().flat_map(|mx| mx.exchanges.iter());
        self.seen().given.extend(names.map(|name| digest(&**name)));
    }
}

impl ResolverCache<Box<str>, RecordSet<Ipv4Addr>> for Watch {
    fn get<Q>(&self, name: &Q) -> Option<RecordSet<Ipv4Addr>>
    where
        Box<str>: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.asks(Kind::V4, digest(name));
        None
    }

    fn remove<Q>(&self, _: &Q) -> Option<RecordSet<Ipv4Addr>>
    where
        Box<str>: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        None
    }

    fn insert(&self, name: Box<str>, _: RecordSet<Ipv4Addr>, _: Instant) {
        self.finds(Kind::V4, &name);
    }
}

impl ResolverCache<Box<str>, RecordSet<Ipv6Addr>> for Watch {
    fn get<Q>(&self, name: &Q) -> Option<RecordSet<Ipv6Addr>>
    where
        Box<str>: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.asks(Kind::V6, digest(name));
        None
    }

    fn remove<Q>(&self, _: &Q) -> Option<RecordSet<Ipv6Addr>>
    where
        Box<str>: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        None
    }

    fn insert(&self, name: Box<str>, _: RecordSet<Ipv6Addr>, _: Instant) {
        self.finds(Kind::V6, &name);
    }
}

impl ResolverCache<IpAddr, RecordSet<Box<str>>> for Watch {
    fn get<Q>(&self, _: &Q) -> Option<RecordSet<Box<str>>>
    where
        IpAddr: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        None
    }

    fn remove<Q>(&self, _: &Q) -> Option<RecordSet<Box<str>>>
    where
        IpAddr: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        None
    }

    fn insert(&self, _: IpAddr, names: RecordSet<Box<str>>, _: Instant) {
        self.seen().given.extend(names.rrset.iter().map(|name| digest(&**name)));
    }
}
