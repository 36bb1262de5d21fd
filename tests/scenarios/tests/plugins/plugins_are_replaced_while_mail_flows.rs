//! Thousands of messages flow while plugins are replaced, broken and rolled back: none is lost, doubled or
//! refused because of it, and each is judged by one generation from MAIL to its end.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;
use waypost_admin::api::{Generation, PolicyReload, PolicyRollback};
use waypost_harness::upstream::Upstream;
use waypost_scenarios::{Door, Home, Running};

const SESSIONS: usize = 4;
const ENOUGH: usize = 2500;

fn guard(tag: &str) -> String {
    format!(
        "config = {{ blocked = [\"spam.example\"], tag = \"{tag}\" }}\n\
         [plugin.grants]\nedit = {{ add = [\"X-*\"], recipients = true }}"
    )
}

/// Sends until it is told to stop; answers the subjects that were accepted.
async fn submit(
    relay: Arc<Running>,
    session: usize,
    sent: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
) -> Vec<String> {
    let mut peer = relay.peer(Door::Relay).await;
    peer.hello().await;
    let mut accepted = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let subject = format!("{session}-{}", accepted.len());
        let text = format!("Subject: {subject}\r\n\r\nx\r\n");
        // A recipient that the guard puts another address for, so that two hooks have a hand in it.
        peer.deliver("a@sender.example", &["alias-b@dest.example"], &text).await;
        accepted.push(subject);
        sent.fetch_add(1, Ordering::Relaxed);
    }
    accepted
}

async fn reload(home: &Home, request: PolicyReload) -> Result<Generation, String> {
    home.write();
    let answer = home.client().post("/v1/policy/reload", &request).await;
    answer.map_err(|error: waypost_admin::ClientError| error.to_string())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_doubled_or_refused() {
    let upstream = Upstream::new();
    let plain = Home::new()
        .trusting()
        .set("limits", "commands", "1000000")
        .route("*", upstream.listen().await.unwrap());
    let mut home = plain.plugin("guard", "guard-rust", &guard("X-First"));
    let relay = Arc::new(home.start().await);
    let (sent, stop) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
    let mut sessions = JoinSet::new();
    for session in 0..SESSIONS {
        sessions.spawn(submit(relay.clone(), session, sent.clone(), stop.clone()));
    }
    let (mut replaced, mut refused, mut rolled_back) = (0, 0, 0);
    while sent.load(Ordering::Relaxed) < ENOUGH || rolled_back < 3 {
        let tag = ["X-First", "X-Second", "X-Third"][replaced % 3];
        let guest = ["guard-rust", "guard-c"][replaced % 2];
        home = home.without_plugins().plugin("guard", guest, &guard(tag));
        reload(&home, PolicyReload::default()).await.unwrap();
        replaced += 1;
        // Half a file, no component at all, a configuration it refuses: each says why.
        let whole = std::fs::read(home.plugin_file("guard")).unwrap();
        home.put_component("guard", &whole[..whole.len() / 2]);
        let why = reload(&home, PolicyReload::default()).await.unwrap_err();
        assert!(why.contains("guard"), "{why}");
        home.put_component("guard", b"no component");
        let why = reload(&home, PolicyReload::default()).await.unwrap_err();
        assert!(why.contains("is no WebAssembly component"), "{why}");
        home.put_component("guard", &whole);
        let broken = home.without_plugins().plugin("guard", guest, "config = { tag = 1 }");
        let why = reload(&broken, PolicyReload::default()).await.unwrap_err();
        assert!(why.contains("tag"), "{why}");
        home = broken;
        refused += 3;
        if replaced % 3 == 0 {
            let request = PolicyRollback::default();
            let _: Generation = home.client().post("/v1/policy/rollback", &request).await.unwrap();
            rolled_back += 1;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    stop.store(true, Ordering::Relaxed);
    let mut accepted: Vec<String> = Vec::new();
    while let Some(session) = sessions.join_next().await {
        accepted.extend(session.unwrap());
    }
    relay.empty().await;
    assert!(replaced >= 3 && refused >= 9 && accepted.len() >= ENOUGH);
    let mut delivered: HashMap<String, usize> = HashMap::new();
    for mail in upstream.mails() {
        let line = |start: &str| mail.content.lines().find(|l| l.starts_with(start));
        *delivered.entry(line("Subject: ").unwrap()[9..].to_owned()).or_default() += 1;
        assert_eq!(mail.to, ["b@dest.example"]);
        let tags =
            mail.content.lines().filter(|line| line.contains(": checked by guard in ")).count();
        assert_eq!(tags, 1, "{}", mail.content);
    }
    assert_eq!(delivered.len(), accepted.len());
    for subject in accepted {
        assert_eq!(delivered.get(&subject), Some(&1), "{subject}");
    }
    assert_eq!(relay.counter("waypost_policy_faults_total").await, 0);
}

/// A transaction that began under one policy ends under it.
#[tokio::test]
async fn a_transaction_keeps_its_policy() {
    let upstream = Upstream::new();
    let home = Home::new().trusting().route("*", upstream.listen().await.unwrap());
    let home = home.plugin("guard", "guard-rust", &guard("X-Old"));
    let relay = home.start().await;
    let mut peer = relay.peer(Door::Relay).await;
    peer.hello().await;
    peer.envelope("a@sender.example", &["alias-b@dest.example"]).await;
    let home = home.without_plugins().plugin("guard", "guard-rust", &guard("X-New"));
    reload(&home, PolicyReload::default()).await.unwrap();
    assert!(peer.data("Subject: x\r\n\r\ny\r\n").await.starts_with("250"));
    peer.deliver("a@sender.example", &["b@dest.example"], "Subject: x\r\n\r\ny\r\n").await;
    relay.empty().await;
    let contents: Vec<String> = upstream.mails().into_iter().map(|mail| mail.content).collect();
    let tagged = |tag: &str| contents.iter().filter(|c| c.contains(tag)).count();
    assert_eq!((tagged("X-Old: "), tagged("X-New: ")), (1, 1), "{contents:?}");
}

/// A new policy that refuses what the old one took is rolled back by itself, and its component is not
/// loaded again by a mere look at the file.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_canary_that_refuses_everything_is_rolled_back() {
    let upstream = Upstream::new();
    let home = Home::new()
        .trusting()
        .set("limits", "commands", "1000000")
        .set("limits", "errors", "1000000")
        .route("*", upstream.listen().await.unwrap());
    let home = home.plugin("guard", "guard-rust", &guard("X-Old"));
    let relay = home.start().await;
    let strict = "config = { blocked = [\"dest.example\"], tag = \"X-New\" }\n\
                  [plugin.grants]\nedit = { add = [\"X-*\"], recipients = true }";
    let home = home.without_plugins().plugin("guard", "guard-c", strict);
    let trial = PolicyReload { canary_percent: Some(50), canary_seconds: Some(600) };
    let generation = reload(&home, trial).await.unwrap();
    assert!(generation.state.starts_with("canary at 50 %"), "{generation:?}");
    let mut peer = relay.peer(Door::Relay).await;
    peer.hello().await;
    let (mut taken, mut refused) = (0, 0);
    for _ in 0..20_000 {
        peer.expect("MAIL FROM:<a@sender.example>", "250").await;
        match peer.say("RCPT TO:<b@dest.example>").await {
            reply if reply.starts_with("250") => taken += 1,
            reply if reply.starts_with("550 5.7.1") => refused += 1,
            reply => panic!("{reply}"),
        }
        peer.expect("RSET", "250").await;
        let view: waypost_admin::api::PolicyView = match refused % 100 {
            0 => home.client().get("/v1/policy").await.unwrap(),
            _ => continue,
        };
        if refused > 0 && view.generations.iter().all(|g| !g.state.starts_with("canary")) {
            break;
        }
    }
    assert!(refused >= 100 && taken >= 100, "{taken} taken, {refused} refused");
    for _ in 0..50 {
        peer.expect("MAIL FROM:<a@sender.example>", "250").await;
        peer.expect("RCPT TO:<b@dest.example>", "250").await;
        peer.expect("RSET", "250").await;
    }
    let audit = std::fs::read_to_string(home.spool().join("policy/audit.log")).unwrap();
    assert!(audit.contains("\"rolled back\"") && audit.contains("refused: "), "{audit}");
}
