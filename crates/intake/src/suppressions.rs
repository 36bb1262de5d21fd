//! The suppression list: recipients who get no more mail, kept in the ledger.
//!
//! It is fed by operators, by bounces that say that an address is no more, and by complaints. Whoever is
//! on it is refused at RCPT; recipients that policy adds later bounce without an attempt.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use sha2::{Digest, Sha256};
use tracing::{error, info};
use waypost_mail::ledger::MAX_KEY;
use waypost_mail::suppression::{Ground, Owner, Target};
use waypost_mail::{Clock, Ledger, LedgerError, Suppression, Why};
use waypost_smtp::{Mailbox, ReversePath};

/// Where entries are in the ledger.
const PREFIX: &str = "suppress/";

/// What feeds the list by itself, and for whose mail it counts then.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SuppressionSettings {
    /// Grounds for which recipients are put on the list, and for how long; for good where there is no
    /// time. Empty: operators alone feed it.
    pub feed: HashMap<Ground, Option<Duration>>,
    /// Whose mail such an entry stops.
    pub reach: Reach,
}

/// Whose mail an entry stops that one message caused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reach {
    /// Of all senders in the domain of the message's sender.
    #[default]
    SenderDomain,
    /// Of the message's sender.
    Sender,
    /// Of who had logged in; of the sender's domain where nobody had.
    User,
    /// Everybody's.
    Everybody,
}

/// What the list did.
#[derive(Debug, Clone, Default)]
pub struct SuppressionMetrics {
    /// Recipients that were turned away, by ground.
    pub refused: Family<GroundLabels, Counter>,
    /// Entries made, by ground.
    pub added: Family<GroundLabels, Counter>,
}

/// Labels of what the list did.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct GroundLabels {
    /// [`Ground::word`].
    pub ground: &'static str,
}

/// The list. One for the whole program.
pub struct Suppressions {
    ledger: Arc<dyn Ledger>,
    clock: Arc<dyn Clock>,
    settings: RwLock<Arc<SuppressionSettings>>,
    metrics: SuppressionMetrics,
    /// Nobody has to be looked for in an empty list.
    content: AtomicU8,
}

/// A part of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Entries.
    pub entries: Vec<Suppression>,
    /// Where the next page begins; none when this is the last one.
    pub next: Option<String>,
}

const UNKNOWN: u8 = 0;
const EMPTY: u8 = 1;
const FILLED: u8 = 2;

impl fmt::Debug for Suppressions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Suppressions").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Suppressions {
    /// The list that `ledger` keeps.
    pub fn new(
        ledger: Arc<dyn Ledger>,
        clock: Arc<dyn Clock>,
        settings: SuppressionSettings,
    ) -> Suppressions {
        Suppressions {
            ledger,
            clock,
            settings: RwLock::new(Arc::new(settings)),
            metrics: SuppressionMetrics::default(),
            content: AtomicU8::new(UNKNOWN),
        }
    }

    /// Puts other settings in place; what is on the list stays.
    pub fn set(&self, settings: SuppressionSettings) {
        *self.settings.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(settings);
    }

    /// Its counters.
    pub fn metrics(&self) -> &SuppressionMetrics {
        &self.metrics
    }

    /// The entry that keeps mail of this sender from this recipient. What comes from nobody (`<>`) goes to
    /// everybody, and so does mail for postmaster and abuse. When storage fails nobody is on the
    /// list: the message will not be taken then for that reason.
    pub async fn on(
        &self,
        sender: &ReversePath,
        user: Option<&str>,
        recipient: &Mailbox,
    ) -> Option<Suppression> {
        if sender.mailbox().is_none() || Target::is_exempt(recipient) || self.is_empty().await {
            return None;
        }
        let targets = [Target::address(recipient), Target::domain(recipient)];
        for owner in Owner::of(sender, user) {
            for target in &targets {
                if let Some(found) = self.get(target, &owner).await {
                    let labels = GroundLabels { ground: found.ground.word() };
                    self.metrics.refused.get_or_create(&labels).inc();
                    return Some(found);
                }
            }
        }
        None
    }

    /// A recipient of a message bounced for this: it is put on the list when that is a ground which
    /// feeds it. Answers whether it is there now.
    ///
    /// # Errors
    /// When storage failed.
    pub async fn bounced(
        &self,
        sender: &ReversePath,
        user: Option<&str>,
        recipient: &Mailbox,
        why: &Why,
    ) -> Result<bool, LedgerError> {
        match Ground::of(why) {
            Some(ground) => self.feed(ground, sender, user, recipient, why.to_string()).await,
            None => Ok(false),
        }
    }

    /// Puts a recipient on the list, when the ground is one that feeds it. Answers whether it is there
    /// now.
    ///
    /// # Errors
    /// When storage failed.
    pub async fn feed(
        &self,
        ground: Ground,
        sender: &ReversePath,
        user: Option<&str>,
        recipient: &Mailbox,
        note: String,
    ) -> Result<bool, LedgerError> {
        let settings = self.settings.read().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(lifetime) = settings.feed.get(&ground) else { return Ok(false) };
        if Target::is_exempt(recipient) {
            return Ok(false);
        }
        let Some(owner) = settings.reach.owner(sender, user) else { return Ok(false) };
        let since = self.clock.now();
        let entry = Suppression {
            target: Target::address(recipient),
            owner,
            ground,
            since,
            expires: lifetime.map(|lifetime| since.after(lifetime)),
            note,
        };
        let told = entry.clone();
        match self.add_unless_longer(entry).await {
            Ok(true) => {}
            Ok(false) => return Ok(true),
            Err(failure) => {
                error!(%failure, rcpt = %recipient, "not put on the suppression list");
                return Err(failure);
            }
        }
        let Suppression { target, owner, ground, note, .. } = told;
        info!(%target, %owner, %ground, note, "put on the suppression list");
        Ok(true)
    }

    /// Puts an entry on the list unless there is one for the same target and owner that stands as long:
    /// a late bounce does not end what a complaint or an operator began. Answers whether it did.
    async fn add_unless_longer(&self, entry: Suppression) -> Result<bool, LedgerError> {
        let kept = self.ledger.get(&key(&entry.target, &entry.owner), self.clock.now()).await?;
        let kept: Option<Suppression> = kept.and_then(|kept| postcard::from_bytes(&kept).ok());
        let stands = kept.is_some_and(|kept| match (kept.expires, entry.expires) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(kept), Some(new)) => kept >= new,
        });
        if !stands {
            self.add(entry).await?;
        }
        Ok(!stands)
    }

    /// Puts an entry on the list, in the place of one for the same target and owner.
    ///
    /// # Errors
    /// When storage failed.
    pub async fn add(&self, entry: Suppression) -> Result<(), LedgerError> {
        let entry = entry.bounded();
        let (key, expires) = (key(&entry.target, &entry.owner), entry.expires);
        let value = postcard::to_stdvec(&entry).map_err(|e| LedgerError::Storage(e.to_string()))?;
        self.ledger.put(&key, Bytes::from(value), expires).await?;
        self.content.store(FILLED, Ordering::Relaxed);
        let labels = GroundLabels { ground: entry.ground.word() };
        self.metrics.added.get_or_create(&labels).inc();
        Ok(())
    }

    /// Takes entries for a target off the list: those of one owner, or all. Answers how many there were.
    /// What else is on the list is not looked at.
    ///
    /// # Errors
    /// When storage failed.
    pub async fn remove(
        &self,
        target: &Target,
        owner: Option<&Owner>,
    ) -> Result<usize, LedgerError> {
        let mut found = self.of(target).await?;
        found.retain(|entry| owner.is_none_or(|owner| entry.owner == *owner));
        for entry in &found {
            self.ledger.remove(&key(&entry.target, &entry.owner)).await?;
        }
        Ok(found.len())
    }

    /// The entries for this target, whosever they are.
    ///
    /// # Errors
    /// When storage failed.
    pub async fn of(&self, target: &Target) -> Result<Vec<Suppression>, LedgerError> {
        let mut entries: Vec<Suppression> = Vec::new();
        for beginning in [format!("{PREFIX}{target} "), hashed(target)] {
            let kept = self.ledger.list(&beginning, usize::MAX, self.clock.now()).await?;
            entries.extend(kept.iter().filter_map(|(_, value)| postcard::from_bytes(value).ok()));
        }
        // A quoted address may begin as another one does.
        entries.retain(|entry| entry.target == *target);
        Ok(entries)
    }

    /// At most `limit` entries in the order in which they are kept, from the beginning or behind a place
    /// that an earlier page ended at.
    ///
    /// # Errors
    /// When storage failed.
    pub async fn list(&self, after: Option<&str>, limit: usize) -> Result<Page, LedgerError> {
        let after = format!("{PREFIX}{}", after.unwrap_or_default());
        // One more shows whether there is another page.
        let most = limit.saturating_add(1);
        let mut kept = self.ledger.list_after(PREFIX, &after, most, self.clock.now()).await?;
        let is_cut = kept.len() > limit;
        kept.truncate(limit);
        let last = kept.last().filter(|_| is_cut).and_then(|(key, _)| key.strip_prefix(PREFIX));
        let next = last.map(str::to_owned);
        let entries = kept.iter().filter_map(|(_, value)| postcard::from_bytes(value).ok());
        Ok(Page { entries: entries.collect(), next })
    }

    async fn get(&self, target: &Target, owner: &Owner) -> Option<Suppression> {
        match self.ledger.get(&key(target, owner), self.clock.now()).await {
            Ok(value) => value.and_then(|value| postcard::from_bytes(&value).ok()),
            Err(failure) => {
                error!(%failure, "the suppression list cannot be read");
                None
            }
        }
    }

    async fn is_empty(&self) -> bool {
        match self.content.load(Ordering::Relaxed) {
            FILLED => return false,
            EMPTY => return true,
            _ => {}
        }
        let found = match self.ledger.list(PREFIX, 1, self.clock.now()).await {
            Ok(found) => {
                if found.is_empty() {
                    EMPTY
                } else {
                    FILLED
                }
            }
            Err(_) => return false,
        };
        // Somebody may have been added meanwhile.
        let _ = self.content.compare_exchange(UNKNOWN, found, Ordering::Relaxed, Ordering::Relaxed);
        found == EMPTY
    }
}

impl Reach {
    fn owner(self, sender: &ReversePath, user: Option<&str>) -> Option<Owner> {
        let domain = || sender.mailbox().map(Owner::domain);
        match self {
            Reach::SenderDomain => domain(),
            Reach::Sender => sender.mailbox().map(Owner::sender),
            Reach::User => user.map(|user| Owner::User(user.to_owned())).or_else(domain),
            Reach::Everybody => Some(Owner::Everybody),
        }
    }
}

impl SuppressionMetrics {
    /// Enters them, each with the prefix `waypost_suppression`.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("waypost_suppression");
        registry.register("refused", "Recipients turned away", self.refused.clone());
        registry.register("added", "Entries made", self.added.clone());
    }
}

fn key(target: &Target, owner: &Owner) -> String {
    let plain = format!("{PREFIX}{target} {owner}");
    if plain.len() <= MAX_KEY {
        return plain;
    }
    format!("{}{}", hashed(target), hex(&owner.to_string()))
}

/// What keys for this target begin with where they would be too long.
fn hashed(target: &Target) -> String {
    format!("{PREFIX}#{} ", hex(&target.to_string()))
}

fn hex(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().map(|octet| format!("{octet:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use waypost_mail::{ManualClock, Timestamp};
    use waypost_smtp::{Phase, Reply};
    use waypost_spool::MemorySpool;

    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    struct List {
        list: Suppressions,
        clock: Arc<ManualClock>,
    }

    fn list(grounds: &[Ground], reach: Reach) -> List {
        let clock = Arc::new(ManualClock::at(Timestamp(1_800_000_000_000)));
        let feed = grounds.iter().map(|ground| (*ground, Some(DAY))).collect();
        let settings = SuppressionSettings { feed, reach };
        let list = Suppressions::new(Arc::new(MemorySpool::new()), clock.clone(), settings);
        List { list, clock }
    }

    fn from(text: &str) -> ReversePath {
        ReversePath::Mailbox(text.parse().unwrap())
    }

    fn bob() -> Mailbox {
        "Bob@example.net".parse().unwrap()
    }

    fn gone() -> Why {
        let reply = Reply::MAILBOX_UNAVAILABLE;
        Why::Refused { hop: "mx".into(), phase: Phase::Rcpt, reply }
    }

    #[tokio::test]
    async fn who_bounced_for_good_gets_no_more_from_there_for_a_while() {
        let List { list, clock } = list(&[Ground::BadAddress], Reach::SenderDomain);
        let (alice, other) = (from("alice@news.example"), from("x@other.example"));
        assert_eq!(list.on(&alice, None, &bob()).await, None);
        assert_eq!(list.bounced(&alice, None, &bob(), &gone()).await, Ok(true));
        let entry = list.on(&from("else@NEWS.example"), None, &bob()).await.unwrap();
        assert_eq!(
            (entry.ground, entry.owner.to_string().as_str()),
            (Ground::BadAddress, "@news.example")
        );
        assert!(entry.note.contains("550 5.1.1"), "{}", entry.note);
        assert_eq!(list.on(&other, None, &bob()).await, None, "others may try");
        assert_eq!(
            list.on(&ReversePath::Null, None, &bob()).await,
            None,
            "notices go to everybody"
        );
        clock.advance(DAY);
        assert_eq!(list.on(&alice, None, &bob()).await, None);
    }

    #[tokio::test]
    async fn without_a_ground_that_feeds_it_operators_alone_do() {
        let List { list, .. } = list(&[], Reach::Everybody);
        let alice = from("alice@news.example");
        assert_eq!(list.bounced(&alice, None, &bob(), &gone()).await, Ok(false));
        assert_eq!(list.on(&alice, None, &bob()).await, None);
        let entry = Suppression {
            target: "@example.net".parse().unwrap(),
            owner: Owner::User("app".into()),
            ground: Ground::Manual,
            since: Timestamp(0),
            expires: None,
            note: String::new(),
        };
        list.add(entry.clone()).await.unwrap();
        assert_eq!(list.on(&alice, Some("app"), &bob()).await, Some(entry.clone()));
        assert_eq!(list.on(&alice, Some("web"), &bob()).await, None);
        let postmaster = "postmaster@example.net".parse().unwrap();
        assert_eq!(list.on(&alice, Some("app"), &postmaster).await, None);
        assert_eq!(list.remove(&"bob@example.net".parse().unwrap(), None).await, Ok(0));
        assert_eq!(list.remove(&entry.target, Some(&Owner::Everybody)).await, Ok(0));
        assert_eq!(list.remove(&entry.target, None).await, Ok(1));
        assert_eq!(list.on(&alice, Some("app"), &bob()).await, None);
    }

    #[tokio::test]
    async fn long_addresses_are_kept_too() {
        let List { list, .. } = list(&[Ground::Complaint], Reach::Sender);
        let long = |name: &str| format!("{name}@{}.example", vec!["abcdefghi"; 22].join("."));
        let (sender, recipient) = (from(&long("sender")), long("recipient").parse().unwrap());
        let fed = list.feed(Ground::Complaint, &sender, None, &recipient, String::new()).await;
        assert_eq!(fed, Ok(true));
        assert!(list.on(&sender, None, &recipient).await.is_some());
        assert_eq!(list.list(None, 10).await.unwrap().entries.len(), 1);
        assert_eq!(list.remove(&Target::address(&recipient), None).await, Ok(1));
        assert!(list.on(&sender, None, &recipient).await.is_none());
    }

    fn entry(target: &str, owner: &str, expires: Option<Timestamp>) -> Suppression {
        Suppression {
            target: target.parse().unwrap(),
            owner: owner.parse().unwrap(),
            ground: Ground::Manual,
            since: Timestamp(0),
            expires,
            note: String::new(),
        }
    }

    #[tokio::test]
    async fn the_list_comes_in_pages_and_entries_go_one_by_one() {
        let List { list, .. } = list(&[], Reach::Everybody);
        for number in 0..5 {
            list.add(entry(&format!("u{number}@a.example"), "everybody", None)).await.unwrap();
        }
        list.add(entry("\"u1@a.example x\"@b.example", "everybody", None)).await.unwrap();
        list.add(entry("u1@a.example", "@news.example", None)).await.unwrap();
        let (mut after, mut seen, mut pages) = (None, Vec::new(), 0);
        loop {
            let page = list.list(after.as_deref(), 3).await.unwrap();
            assert!(page.entries.len() <= 3);
            seen.extend(page.entries.iter().map(|e| format!("{} {}", e.target, e.owner)));
            pages += 1;
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!((pages, seen.len()), (3, 7), "{seen:?}");
        seen.dedup();
        assert_eq!(seen.len(), 7, "nobody is there twice");
        let everything = list.list(None, usize::MAX).await.unwrap();
        assert_eq!((everything.entries.len(), everything.next), (7, None));
        let u1: Target = "u1@a.example".parse().unwrap();
        assert_eq!(list.of(&u1).await.unwrap().len(), 2);
        assert_eq!(list.remove(&u1, Some(&"@news.example".parse().unwrap())).await, Ok(1));
        assert_eq!(list.remove(&u1, None).await, Ok(1));
        assert_eq!(list.list(None, 10).await.unwrap().entries.len(), 5);
    }

    #[tokio::test]
    async fn a_late_bounce_does_not_end_what_stands_longer() {
        let List { list, clock } = list(&[Ground::BadAddress], Reach::SenderDomain);
        let alice = from("alice@news.example");
        list.add(entry("bob@example.net", "@news.example", None)).await.unwrap();
        assert_eq!(list.bounced(&alice, None, &bob(), &gone()).await, Ok(true));
        let kept = list.on(&alice, None, &bob()).await.unwrap();
        assert_eq!((kept.ground, kept.expires), (Ground::Manual, None));
        let soon = clock.now().after(DAY / 2);
        list.add(entry("bob@example.net", "@news.example", Some(soon))).await.unwrap();
        assert_eq!(list.bounced(&alice, None, &bob(), &gone()).await, Ok(true));
        let kept = list.on(&alice, None, &bob()).await.unwrap();
        assert_eq!(kept.expires, Some(clock.now().after(DAY)), "a longer one takes its place");
    }
}
