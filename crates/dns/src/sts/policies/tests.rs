//! Policies over time: a scripted policy host, a ledger in memory, a clock by hand.

use std::collections::BTreeMap;
use std::net::IpAddr;

use async_trait::async_trait;
use waypost_mail::ManualClock;

use super::*;
use crate::mx::MxAnswer;
use crate::resolver::DnsError;
use crate::sts::Mode;

const DOMAIN: &str = "there.example";
const DAY: Duration = Duration::from_secs(86_400);

#[derive(Debug, Default)]
struct World {
    txt: Mutex<Option<Vec<String>>>,
    served: Mutex<Option<Result<FetchResponse, FetchError>>>,
    urls: Mutex<Vec<String>>,
    kept: Mutex<BTreeMap<String, (Bytes, Option<Timestamp>)>>,
}

#[async_trait]
impl Resolver for World {
    async fn mx(&self, _: &str) -> Result<MxAnswer, DnsError> {
        Ok(MxAnswer::Implicit)
    }
    async fn addresses(&self, _: &str) -> Result<Vec<IpAddr>, DnsError> {
        Ok(Vec::new())
    }
    async fn reverse(&self, _: IpAddr) -> Result<Option<String>, DnsError> {
        Ok(None)
    }
    async fn txt(&self, name: &str) -> Result<Vec<String>, DnsError> {
        assert_eq!(name, "_mta-sts.there.example");
        self.txt.lock().unwrap().clone().ok_or_else(|| DnsError::BadName("lost".into()))
    }
}

#[async_trait]
impl Fetch for World {
    async fn fetch(&self, asked: FetchRequest, allow: &Allow) -> Result<FetchResponse, FetchError> {
        assert!(!allow.private && !allow.redirects && allow.max_response == 65_536);
        self.urls.lock().unwrap().push(asked.url);
        self.served.lock().unwrap().clone().unwrap_or(Err(FetchError::TimedOut))
    }
}

#[async_trait]
impl Ledger for World {
    async fn get(&self, key: &str, _: Timestamp) -> Result<Option<Bytes>, LedgerError> {
        Ok(self.kept.lock().unwrap().get(key).map(|(value, _)| value.clone()))
    }
    async fn put(
        &self,
        key: &str,
        value: Bytes,
        expires: Option<Timestamp>,
    ) -> Result<(), LedgerError> {
        self.kept.lock().unwrap().insert(key.to_owned(), (value, expires));
        Ok(())
    }
    async fn remove(&self, key: &str) -> Result<(), LedgerError> {
        self.kept.lock().unwrap().remove(key);
        Ok(())
    }
    async fn list(
        &self,
        prefix: &str,
        limit: usize,
        now: Timestamp,
    ) -> Result<Vec<(String, Bytes)>, LedgerError> {
        let kept = self.kept.lock().unwrap();
        let good = kept.iter().filter(|(key, (_, expires))| {
            key.starts_with(prefix) && expires.is_none_or(|expires| expires > now)
        });
        Ok(good.take(limit).map(|(key, (value, _))| (key.clone(), value.clone())).collect())
    }
}

impl World {
    fn announce(&self, id: &str) {
        *self.txt.lock().unwrap() = Some(vec![format!("v=STSv1; id={id};")]);
    }

    fn serve(&self, mode: &str, mx: &str) {
        let text = format!("version: STSv1\nmode: {mode}\nmx: {mx}\nmax_age: 604800\n");
        self.answer(200, "text/plain; charset=utf-8", &text);
    }

    fn answer(&self, status: u16, media: &str, text: &str) {
        let headers = vec![("content-type".to_owned(), media.to_owned())];
        let body = Bytes::copy_from_slice(text.as_bytes());
        let response = FetchResponse { status, headers, body, truncated: false };
        *self.served.lock().unwrap() = Some(Ok(response));
    }

    fn fail(&self) {
        *self.served.lock().unwrap() = None;
    }

    fn asked(&self) -> usize {
        self.urls.lock().unwrap().len()
    }
}

async fn policies(world: &Arc<World>, clock: &Arc<ManualClock>) -> Arc<Policies> {
    let opened = Policies::open(world.clone(), world.clone(), world.clone(), clock.clone()).await;
    Arc::new(opened.unwrap())
}

async fn start() -> (Arc<World>, Arc<ManualClock>, Arc<Policies>) {
    let (world, clock) = (Arc::new(World::default()), Arc::new(ManualClock::at(START)));
    let policies = policies(&world, &clock).await;
    (world, clock, policies)
}

const START: Timestamp = Timestamp(1_800_000_000_000);

async fn exchanger(policies: &Arc<Policies>) -> Option<String> {
    policies.advice(DOMAIN).await.policy.map(|policy| policy.mx[0].clone())
}

fn named(name: &str) -> Option<String> {
    Some(name.to_owned())
}

#[tokio::test]
async fn a_policy_is_fetched_once_and_replaced_when_its_id_changes() {
    let (world, _, policies) = start().await;
    *world.txt.lock().unwrap() = Some(Vec::new());
    assert_eq!(policies.advice(DOMAIN).await, Advice::default());
    assert_eq!(world.asked(), 0, "nobody announced one");

    world.announce("1");
    world.serve("enforce", "mx.there.example");
    assert_eq!(exchanger(&policies).await, named("mx.there.example"));
    assert_eq!(exchanger(&policies).await, named("mx.there.example"));
    assert_eq!(
        *world.urls.lock().unwrap(),
        ["https://mta-sts.there.example/.well-known/mta-sts.txt"]
    );
    world.serve("testing", "new.there.example");
    assert_eq!(exchanger(&policies).await, named("mx.there.example"));
    world.announce("2");
    let advice = policies.advice("There.Example").await;
    assert_eq!(advice.policy.unwrap().mode, Mode::Testing);
    world.serve("none", "x.example");
    world.announce("3");
    assert_eq!(policies.advice(DOMAIN).await, Advice::default(), "it was taken back");
}

#[tokio::test]
async fn a_policy_outlives_its_host_its_record_and_a_restart() {
    let (world, clock, policies) = start().await;
    world.announce("1");
    world.serve("enforce", "mx.there.example");
    exchanger(&policies).await;
    world.fail();
    world.announce("2");
    assert_eq!(exchanger(&policies).await, named("mx.there.example"));
    assert!(matches!(policies.advice(DOMAIN).await.trouble, Some(Trouble::Unreachable(_))));
    *world.txt.lock().unwrap() = None;
    assert_eq!(exchanger(&policies).await, named("mx.there.example"));

    let policies = self::policies(&world, &clock).await;
    clock.advance(DAY * 6);
    assert_eq!(exchanger(&policies).await, named("mx.there.example"));
    let (_, fetched, expires) = policies.kept(DOMAIN).unwrap();
    assert_eq!((fetched, expires), (START, START.after(DAY * 7)));
    clock.advance(DAY);
    assert_eq!(exchanger(&policies).await, None, "its time is over");
    let policies = self::policies(&world, &clock).await;
    assert!(policies.kept(DOMAIN).is_none());
}

#[tokio::test]
async fn a_host_that_fails_is_asked_again_after_a_while() {
    let (world, clock, policies) = start().await;
    world.announce("1");
    assert_eq!(exchanger(&policies).await, None);
    world.serve("enforce", "mx.there.example");
    assert_eq!(exchanger(&policies).await, None, "it is left alone");
    clock.advance(Duration::from_secs(300));
    assert_eq!(exchanger(&policies).await, named("mx.there.example"));
    assert_eq!(policies.advice(DOMAIN).await.trouble, None);
    assert_eq!(world.asked(), 2);
}

#[tokio::test]
async fn what_is_served_must_be_a_policy() {
    let (world, clock, policies) = start().await;
    world.announce("1");
    let good = "version: STSv1\nmode: enforce\nmx: a.example\nmax_age: 9999\n";
    for (status, media, text, expected) in [
        (404, "text/plain", good, "answers 404"),
        (301, "text/plain", good, "answers 301"),
        (200, "text/html", good, "text/plain"),
        (200, "", good, "text/plain"),
        (200, "text/plain", "version: STSv2\n", "does not begin"),
    ] {
        world.answer(status, media, text);
        let trouble = policies.advice(DOMAIN).await.trouble.unwrap().to_string();
        assert!(trouble.contains(expected), "{trouble}");
        clock.advance(Duration::from_secs(300));
    }
    *world.served.lock().unwrap() = Some(Err(FetchError::Tls("a stranger".into())));
    let trouble = policies.advice(DOMAIN).await.trouble;
    assert_eq!(trouble, Some(Trouble::Untrusted("a stranger".into())));
}

#[tokio::test]
async fn policies_are_fetched_again_ahead_of_their_end() {
    let (world, clock, policies) = start().await;
    world.announce("1");
    world.serve("enforce", "mx.there.example");
    exchanger(&policies).await;
    policies.refresh_stale().await;
    assert_eq!(world.asked(), 1, "it is fresh");
    clock.advance(DAY);
    // Its record is away for a while, which must not let it run out.
    *world.txt.lock().unwrap() = None;
    world.serve("enforce", "new.there.example");
    policies.refresh_stale().await;
    assert_eq!(world.asked(), 2);
    let (policy, fetched, _) = policies.kept(DOMAIN).unwrap();
    assert_eq!((policy.mx[0].as_str(), fetched), ("new.there.example", START.after(DAY)));
    // Nobody has written there for a quarter of a year.
    for day in 2..120 {
        clock.advance(DAY);
        policies.refresh_stale().await;
        assert_eq!(world.asked(), if day < 90 { day + 1 } else { 90 });
    }
    assert!(policies.kept(DOMAIN).is_none());
}

#[tokio::test]
async fn mail_starts_a_refresh_and_does_not_wait_for_it() {
    let (world, clock, policies) = start().await;
    world.announce("1");
    world.serve("enforce", "mx.there.example");
    exchanger(&policies).await;
    clock.advance(DAY);
    world.serve("enforce", "new.there.example");
    assert_eq!(exchanger(&policies).await, named("mx.there.example"));
    let tending = policies.clone();
    let tend = tokio::spawn(async move { tending.tend().await });
    while exchanger(&policies).await != named("new.there.example") {
        tokio::task::yield_now().await;
    }
    assert_eq!(world.asked(), 2);
    tend.abort();
}

#[tokio::test]
async fn a_look_at_others_does_not_forget_that_a_host_failed() {
    let (world, clock, policies) = start().await;
    world.announce("1");
    world.fail();
    assert_eq!(exchanger(&policies).await, None);
    policies.refresh_stale().await;
    assert_eq!(exchanger(&policies).await, None);
    assert_eq!(world.asked(), 1, "it is left alone, and no mail waits for it");
    clock.advance(Duration::from_secs(300));
    policies.refresh_stale().await;
    assert!(policies.domains().is_empty(), "in the end it is forgotten");
}
