//! Every function of the host: denied without its grant, at the time of the call; with it, it works.

use std::time::Duration;

use serde_json::{Value, json};
use waypost_mail::fetch::{Allow, AllowRule};
use waypost_plugin::{Access, Bucket, PluginConfig, PolicyConfig, Secret, Stage};

use crate::testbed::{Bed, policy, witness};

fn asks(calls: &[Value]) -> PluginConfig {
    witness("w", json!({"calls": {"connect": calls}}))
}

/// What came of the calls.
async fn made(bed: &mut Bed) -> Vec<String> {
    bed.ask(Stage::Connect, "mx").await.unwrap();
    let calls = bed.reasons().into_iter().filter(|reason| !reason.starts_with("saw: "));
    calls.map(|reason| reason.split_once(": ").unwrap().1.to_owned()).collect()
}

#[tokio::test]
async fn without_a_grant_everything_is_denied() {
    let calls = [
        json!(["tables.get", "t", "k"]),
        json!(["tables.get-many", "t", "k"]),
        json!(["tables.get-domain", "t", "k"]),
        json!(["tables.get-ip", "t", "192.0.2.1"]),
        json!(["kv.get", "ns", "k"]),
        json!(["kv.set", "ns", "k", "v"]),
        json!(["kv.remove", "ns", "k"]),
        json!(["kv.add", "ns", "k", 1]),
        json!(["kv.swap", "ns", "k", null, "v"]),
        json!(["limits.take", "b", "k", 1]),
        json!(["dns.lookup", "example.org", "a"]),
        json!(["dns.lookup-many", "example.org", "a", 2]),
        json!(["dns.lookup-mx", "example.org"]),
        json!(["http.send", "GET", "https://api.example/v1/x"]),
        json!(["secrets.hmac-sha256", "s", "data"]),
        json!(["secrets.reveal", "s"]),
    ];
    let mut bed = Bed::with([asks(&calls)]).await;
    for (call, said) in calls.iter().zip(made(&mut bed).await) {
        assert_eq!(said, "denied", "{call}");
        let function = call[0].as_str().unwrap();
        let labels = format!("{{function=\"{function}\",plugin=\"w\"}}");
        assert_eq!(bed.counted(&format!("waypost_policy_denied_total{labels}")), 1.0, "{call}");
    }
    assert_eq!(bed.names.asked.load(std::sync::atomic::Ordering::SeqCst), 0);
}

#[tokio::test]
async fn tables() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "example.org yes\nkey two words\n192.0.2.0/24 net\n").unwrap();
    let mut plugin = asks(&[
        json!(["tables.get", "t", "KEY"]),
        json!(["tables.get", "t", "none"]),
        json!(["tables.get-many", "t", "key", "none", "example.org"]),
        json!(["tables.get-domain", "t", "a.b.example.org"]),
        json!(["tables.get-ip", "t", "192.0.2.77"]),
        json!(["tables.get-ip", "t", "no address"]),
        json!(["tables.get", "other", "key"]),
    ]);
    plugin.grants.tables = vec!["t".to_owned()];
    let mut config = policy([plugin]);
    config.tables.insert("t".to_owned(), file.path().to_owned());
    config.tables.insert("other".to_owned(), file.path().to_owned());
    let mut bed = Bed::of(config).await;
    assert_eq!(
        made(&mut bed).await,
        [
            "Some(\"two words\")",
            "None",
            "[Some(\"two words\"), None, Some(\"yes\")]",
            "example.org yes",
            "192.0.2.0/24 net",
            "invalid: that is no address",
            "denied",
        ]
    );
}

#[tokio::test]
async fn values_that_are_kept() {
    let mut plugin = asks(&[
        json!(["kv.get", "ns", "k"]),
        json!(["kv.set", "ns", "k", "v", 60]),
        json!(["kv.get", "ns", "k"]),
        json!(["kv.swap", "ns", "k", "other", "w"]),
        json!(["kv.swap", "ns", "k", "v", "w", 60]),
        json!(["kv.add", "ns", "n", 5]),
        json!(["kv.add", "ns", "n", -7]),
        json!(["kv.add", "ns", "most", i64::MAX]),
        json!(["kv.add", "ns", "most", 1]),
        json!(["kv.add", "ns", "k", 1]),
        json!(["kv.set", "ns", "gone", "v"]),
        json!(["kv.remove", "ns", "gone"]),
        json!(["kv.get", "ns", "gone"]),
        json!(["kv.fill", "ns", "big", 5000]),
        json!(["kv.set", "ns", "", "v"]),
        json!(["kv.get", "read", "k"]),
        json!(["kv.set", "read", "k", "v"]),
    ]);
    plugin.grants.kv.insert("ns".to_owned(), Access::Write);
    plugin.grants.kv.insert("read".to_owned(), Access::Read);
    let mut bed = Bed::with([plugin]).await;
    let max = i64::MAX.to_string();
    let said = made(&mut bed).await;
    assert_eq!(said[..9], ["none", "set", "v", "false", "true", "5", "-2", &max, &max]);
    assert!(said[9].contains("no number"), "{said:?}");
    assert_eq!(said[10..13], ["set", "removed", "none"]);
    assert!(said[13].starts_with("invalid") && said[14].starts_with("invalid"), "{said:?}");
    assert_eq!(said[15..], ["none", "denied"]);
}

/// Values outlive instances, generations and the program, for as long as they should.
#[tokio::test]
async fn values_outlive_the_program() {
    let writes = |calls: &[Value]| {
        let mut plugin = asks(calls);
        plugin.grants.kv.insert("ns".to_owned(), Access::Write);
        policy([plugin])
    };
    let reads = writes(&[json!(["kv.get", "ns", "k"]), json!(["kv.get", "ns", "short"])]);
    let config =
        writes(&[json!(["kv.set", "ns", "k", "v"]), json!(["kv.set", "ns", "short", "v", 60])]);
    let mut bed = Bed::of(config).await;
    made(&mut bed).await;
    bed.reload(&reads, waypost_plugin::Change::by("test")).await.unwrap();
    assert_eq!(made(&mut bed).await, ["v", "v"]);
    bed.policy.flush().await.unwrap();
    let Bed { ledger, clock, names, web, .. } = bed;
    let again =
        crate::testbed::Ground { ledger, clock, names, web, ..crate::testbed::Ground::new() };
    let mut bed = again.open(reads).await.unwrap();
    assert_eq!(made(&mut bed).await, ["v", "v"]);
    bed.advance(Duration::from_secs(60));
    assert_eq!(made(&mut bed).await, ["v", "none"]);
}

/// Without a word they are on disk a few seconds later.
#[tokio::test]
async fn values_are_written_behind() {
    use waypost_mail::Ledger as _;
    let mut plugin = asks(&[json!(["kv.set", "ns", "k", "v"])]);
    plugin.grants.kv.insert("ns".to_owned(), Access::Write);
    let mut bed = Bed::with([plugin]).await;
    made(&mut bed).await;
    let rows = async || bed.ledger.list("plugin-kv/ns/", 10, bed.now()).await.unwrap().len();
    let began = std::time::Instant::now();
    while rows().await == 0 {
        assert!(began.elapsed() < Duration::from_secs(10));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn limits() {
    let take = json!(["limits.take", "b", "k", 2]);
    let mut plugin = asks(&[take.clone(), take.clone(), json!(["limits.take", "b", "other", 2])]);
    plugin.grants.limits = vec!["b".to_owned()];
    let mut config: PolicyConfig = policy([plugin]);
    let bucket = Bucket { tokens: 1, per: Duration::from_secs(10), burst: 3 };
    config.limits.insert("b".to_owned(), bucket);
    let mut bed = Bed::of(config.clone()).await;
    assert_eq!(made(&mut bed).await, ["true 1 0", "false 1 10000", "true 1 0"]);
    // A reload does not fill it.
    bed.reload(&config, waypost_plugin::Change::by("test")).await.unwrap();
    assert_eq!(made(&mut bed).await, ["false 1 10000", "false 1 10000", "false 1 10000"]);
    bed.advance(Duration::from_secs(10));
    assert_eq!(made(&mut bed).await[0], "true 0 0");
}

#[tokio::test]
async fn names() {
    let mut plugin = asks(&[
        json!(["dns.lookup", "example.org", "TXT"]),
        json!(["dns.lookup", "none.example", "a"]),
        json!(["dns.lookup", "fail.example", "a"]),
        json!(["dns.lookup", "late.example", "a"]),
        json!(["dns.lookup", "example.org", "any"]),
        json!(["dns.lookup", "", "a"]),
        json!(["dns.lookup-mx", "example.org"]),
        json!(["dns.lookup-many", "example.org", "txt", 3]),
        json!(["dns.lookup-many", "example.org", "txt", 65]),
        json!(["dns.lookup", "example.org", "txt"]),
    ]);
    plugin.grants.dns = Some(10);
    let mut bed = Bed::with([plugin]).await;
    let said = made(&mut bed).await;
    assert_eq!(
        said[..2],
        ["v=spf1 -all nx false secure true ttl 300", " nx true secure false ttl 0"]
    );
    assert_eq!(said[2..4], ["unavailable: SERVFAIL", "timed-out"]);
    assert!(said[4].starts_with("invalid") && said[5].starts_with("invalid"), "{said:?}");
    assert_eq!(said[6..8], ["10 a.example.org,20 b.example.org", "3 of 3"]);
    assert!(said[8].contains("at most 64"), "{said:?}");
    assert_eq!(said[9], "over-quota", "the eleventh question");
}

/// 27: ten thousand names.
#[tokio::test]
async fn questions_have_an_end() {
    let many = json!(["dns.lookup-many", "example.org", "txt", 60]);
    let mut plugin = asks(&vec![many; 20]);
    plugin.grants.dns = Some(100);
    let mut bed = Bed::with([plugin]).await;
    let said = made(&mut bed).await;
    assert_eq!((said[0].as_str(), said[1].as_str()), ("60 of 60", "over-quota"));
    assert_eq!(bed.names.asked.load(std::sync::atomic::Ordering::SeqCst), 60);
}

/// 28 at the seam: the grant goes along with each question, and the client holds it against the URL.
#[tokio::test]
async fn the_web() {
    let get = |url: &str| json!(["http.send", "GET", url]);
    let mut plugin = asks(&[
        get("https://api.example/v1/x"),
        get("https://api.example/v2/x"),
        get("http://169.254.169.254/latest/meta-data"),
        get("https://other.example/v1/x"),
        json!(["http.send", "POST", "https://api.example/v1/x", "body"]),
        get("https://api.example/v1/late"),
        get("https://api.example/v1/gone"),
        get("no URL"),
    ]);
    plugin.grants.http = Some(Allow {
        rules: vec![AllowRule {
            origin: "https://api.example".parse().unwrap(),
            methods: Vec::new(),
            path_prefix: "/v1/".to_owned(),
        }],
        max_response: 1 << 20,
        max_request: 1 << 20,
        max_timeout: Duration::from_secs(5),
        private: false,
        redirects: true,
    });
    let mut bed = Bed::with([plugin]).await;
    let said = made(&mut bed).await;
    assert_eq!(said[..5], ["200 1 false hello", "denied", "denied", "denied", "denied"]);
    assert_eq!(said[5], "timed-out");
    assert!(said[6].starts_with("unavailable: cannot be reached"), "{said:?}");
    assert!(said[7].starts_with("invalid"), "{said:?}");
    let asked = bed.web.asked.lock().unwrap();
    assert_eq!(asked[0].headers, [("x-test".to_owned(), "1".to_owned())]);
    assert_eq!(asked[0].timeout, Duration::from_secs(1));
}

/// 28: a response that drips ends with the call.
#[tokio::test]
async fn a_dripping_response_ends_with_the_call() {
    let mut plugin = asks(&[json!(["http.send", "GET", "https://api.example/v1/drip"])]);
    plugin.grants.http = Some(Allow {
        rules: vec![AllowRule {
            origin: "https://api.example".parse().unwrap(),
            methods: Vec::new(),
            path_prefix: String::new(),
        }],
        max_response: 1 << 20,
        max_request: 1 << 20,
        max_timeout: Duration::from_secs(5),
        private: false,
        redirects: true,
    });
    let budget =
        waypost_plugin::Budget { cpu: Duration::from_millis(5), wall: Duration::from_millis(100) };
    plugin.budgets.insert(Stage::Connect, budget);
    let bed = Bed::with([plugin]).await;
    let fault = bed.ask(Stage::Connect, "mx").await.unwrap_err();
    assert_eq!(fault.kind, waypost_hooks::FaultKind::Wall);
}

#[tokio::test]
async fn secrets() {
    let mut plugin = asks(&[
        json!(["secrets.hmac-sha256", "use", "what do ya want for nothing?"]),
        json!(["secrets.reveal", "use"]),
        json!(["secrets.reveal", "reveal"]),
        json!(["secrets.hmac-sha256", "reveal", "x"]),
        json!(["secrets.hmac-sha256", "other", "x"]),
    ]);
    plugin.grants.secrets = vec!["use".to_owned()];
    plugin.grants.reveal = vec!["reveal".to_owned()];
    let mut config = policy([plugin]);
    for (name, secret) in [("use", "Jefe"), ("reveal", "known"), ("other", "hidden")] {
        config.secrets.insert(name.to_owned(), Secret::new(secret.as_bytes()));
    }
    let mut bed = Bed::of(config).await;
    let said = made(&mut bed).await;
    // RFC 4231 §4.3.
    assert_eq!(said[0], "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    assert_eq!(said[1..3], ["denied", "known"]);
    assert_eq!((said[3].len(), said[4].as_str()), (64, "denied"));
}

#[tokio::test]
async fn what_everybody_may() {
    let mut bed = Bed::with([asks(&[
        json!(["clock.now-ms"]),
        json!(["clock.elapsed-us"]),
        json!(["random.bytes", 16]),
        json!(["random.bytes", 5000]),
        json!(["metrics.count", "seen", "a", 3]),
        json!(["metrics.observe", "took", 0.25]),
        json!(["log.info", "a line", "a value"]),
    ])])
    .await;
    let said = made(&mut bed).await;
    assert_eq!(said[0], crate::testbed::NOON.0.to_string());
    assert_eq!(said[1..4], ["true", "16 true", "1024 true"]);
    assert_eq!(bed.counted("waypost_plugin_seen_total{kind=\"a\",plugin=\"w\"}"), 3.0);
    assert_eq!(bed.counted("waypost_plugin_took_observed_sum{plugin=\"w\"}"), 0.25);
}

/// What is granted must be there.
#[tokio::test]
async fn grants_of_nothing_are_refused() {
    let mut plugin = asks(&[]);
    plugin.grants.tables = vec!["t".to_owned()];
    plugin.grants.limits = vec!["l".to_owned()];
    plugin.grants.secrets = vec!["s".to_owned()];
    plugin.grants.kv.insert("a/b".to_owned(), Access::Write);
    let mut other = asks(&[]);
    other.name = "Not A Name".to_owned();
    let said = Bed::refused([plugin, other]).await;
    for what in ["no table \"t\"", "no limit \"l\"", "no secret \"s\"", "\"a/b\" is no namespace"] {
        assert!(said.contains(what), "{said}");
    }
    assert!(said.contains("a plugin's name has"), "{said}");
}
