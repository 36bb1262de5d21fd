//! Providers, in the file and in a pack beside it.

#![expect(clippy::expect_used, reason = "helpers of tests fail the test")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use waypost_config::{Settings, words};
use waypost_delivery::Provider;
use waypost_dns::Mx;
use waypost_mail::NextHop;
use waypost_queue::{Rate, SiteLimits};
use waypost_smtp::Domain;

const GOOD: &str = r#"
hostname = "relay.example.org"
[spool]
path = "/var/spool/waypost"
[[listener]]
kind = "relay"
address = "127.0.0.1:2525"
[relay]
networks = ["192.0.2.0/24"]
"#;

fn load(more: &str) -> Result<Settings, String> {
    let text = format!("{GOOD}{more}");
    Settings::parse(Path::new("w.toml"), &text).map_err(|mistakes| mistakes.to_string())
}

fn good(more: &str) -> Settings {
    load(more).expect("a good file")
}

/// The provider of a domain with these exchangers.
fn provider<'s>(settings: &'s Settings, domain: &str, mx: &[&str]) -> Option<&'s Provider> {
    let hop = NextHop::Mx(Domain::parse(domain).expect("a domain"));
    let mx = mx.iter().map(|name| Mx { preference: 10, exchange: (*name).to_owned() });
    settings.startup.delivery.providers.provider(&hop, &mx.collect::<Vec<_>>())
}

fn per_second(count: u32, seconds: u64) -> Option<Rate> {
    Some(Rate { count, per: Duration::from_secs(seconds) })
}

#[test]
fn what_is_left_open_is_as_for_everybody() {
    let settings = good(
        r#"
[queue]
per-destination = 12
first-per-destination = 3
rate-per-destination = "100/1m"
[delivery]
connection-rate = "10/1s"
messages-per-connection = 30
recipients-per-transaction = 40
[[provider]]
name = "all"
mx = ["*.all.example"]
connections = 6
first-connections = 2
message-rate = "5/1s"
connection-rate = "60/1m"
messages-per-connection = 7
recipients-per-transaction = 8
chunking = false
[[provider]]
name = "none"
domains = ["none.example"]
"#,
    );
    let all = provider(&settings, "a.example", &["mx.all.example"]).expect("all");
    assert_eq!(all.limits, SiteLimits { at_once: 6, first: 2, rate: per_second(5, 1) });
    assert_eq!(all.allowance.connection_rate, per_second(60, 60));
    assert_eq!(all.allowance.messages_per_connection, 7);
    assert_eq!(all.allowance.recipients_per_transaction, 8);
    assert!(!all.allowance.chunking && settings.startup.delivery.allowance.chunking);
    let none = provider(&settings, "none.example", &["mx.example"]).expect("none");
    assert_eq!(none.limits, SiteLimits { at_once: 12, first: 3, rate: per_second(100, 60) });
    assert_eq!(none.allowance, settings.startup.delivery.allowance);
    assert_eq!(none.allowance.connection_rate, per_second(10, 1));
    assert_eq!(none.allowance.recipients_per_transaction, 40);
    assert_eq!(settings.startup.queue.recipients_per_transaction, 40);
    assert!(provider(&settings, "other.example", &["mx.example"]).is_none());
}

#[test]
fn mistakes_are_told_with_their_lines() {
    let mistakes = load(
        r#"
[[provider]]
name = "a"
[[provider]]
name = "a"
mx = ["*.a.example"]
connections = 2
first-connections = 3
[[provider]]
mx = ["mx example"]
rate = "1/1s"
"#,
    )
    .expect_err("mistakes");
    for part in [
        "w.toml:12:8: nothing leads to the provider 'a'",
        "w.toml:14:8: two providers are called 'a'",
        "w.toml:17:21: 'provider.first-connections' is more than 'provider.connections'",
        "'provider.name' is missing",
        "w.toml:19:7: 'provider.mx': 'mx example'",
        "w.toml:20:1: unknown key 'rate'",
    ] {
        assert!(mistakes.contains(part), "no «{part}» in\n{mistakes}");
    }
}

#[test]
fn a_pack_is_read_and_its_mistakes_have_its_own_lines() {
    let folder = tempfile::tempdir().expect("a folder");
    let pack = folder.path().join("pack.toml");
    let delivery = format!("[delivery]\nproviders = {pack:?}\n");
    let mistakes = load(&delivery).expect_err("there is none");
    assert!(mistakes.contains("w.toml:11:13: cannot read "), "{mistakes}");
    std::fs::write(
        &pack,
        "version = \"1\"\n[[provider]]\nname = \"a\"\nmx = [\"a.example\"]\nx = 1\n",
    )
    .expect("written");
    let mistakes = load(&delivery).expect_err("mistakes");
    assert!(mistakes.contains("pack.toml: 'source' is missing"), "{mistakes}");
    assert!(mistakes.contains("pack.toml:5:1: unknown key 'x'"), "{mistakes}");
    let text = "version = \"1\"\nsource = \"me\"\n[[provider]]\nname = \"a\"\nmx = [\"a.example\"]\n\
                [[provider]]\nname = \"b\"\nmx = [\"b.example\"]\n";
    std::fs::write(&pack, text).expect("written");
    let own = "[[provider]]\nname = \"a\"\nmx = [\"x.example\"]\n";
    let settings = good(&format!("{delivery}{own}"));
    let named = |mx: &str| provider(&settings, "d.example", &[mx]).map(|p| p.name.clone());
    assert_eq!(named("x.example").as_deref(), Some("a"));
    assert_eq!(named("b.example").as_deref(), Some("b"));
    assert_eq!(named("a.example"), None, "the file's own takes the place of the pack's");
    let words = words::describe(&settings);
    assert!(words.contains("version 1 (me)"), "{words}");
}

#[test]
fn the_pack_of_the_examples_knows_who_is_who() {
    let pack: PathBuf =
        [env!("CARGO_MANIFEST_DIR"), "..", "..", "examples", "providers", "providers.toml"]
            .iter()
            .collect();
    let settings = good(&format!("[delivery]\nproviders = {pack:?}\n"));
    let read = settings.startup.provider_pack.as_ref().expect("a pack");
    assert!(!read.version.is_empty() && read.source.contains("KumoMTA"), "{read:?}");
    for (domain, mx, name, connections, messages) in [
        ("shop.example", "aspmx.l.google.com", "google", 5, 50),
        ("shop.example", "alt1.gmr-smtp-in.l.google.com", "google", 5, 50),
        ("yahoo.com", "mta5.am0.yahoodns.net", "yahoo", 20, 20),
        ("yahoo.co.jp", "mx1.mail.yahoo.co.jp", "yahoo-japan", 2, 20),
        ("hotmail.com", "hotmail-com.olc.protection.outlook.com", "outlook", 5, 50),
        ("shop.example", "shop-example.mail.protection.outlook.com", "office365", 5, 50),
        ("icloud.com", "mx01.mail.icloud.com", "apple", 10, 5),
        ("comcast.net", "mx1a1.comcast.net", "comcast", 25, 1000),
        ("web.de", "mx-ha02.web.de", "gmx", 4, 20),
        ("orange.fr", "smtp-in.orange.fr", "orange", 2, 100),
        ("shop.example", "eu-smtp-inbound-1.mimecast.com", "mimecast", 10, 100),
        ("mail.com", "mx00.mail.com", "mail-com", 20, 100),
        ("shop.example", "d1.ess.barracudanetworks.com", "barracuda", 10, 15),
        ("qq.com", "mx3.qq.com", "qq", 4, 8),
        ("163.com", "163mx01.mxmail.netease.com", "netease", 4, 7),
    ] {
        let found = provider(&settings, domain, &[mx]).expect(mx);
        let limits = (found.limits.at_once, found.allowance.messages_per_connection);
        assert_eq!((found.name.as_str(), limits), (name, (connections, messages)), "{mx}");
    }
    assert!(provider(&settings, "shop.example", &["mx.shop.example"]).is_none());
    let hop = NextHop::Host { host: "smtp.mailgun.org".into(), port: 587, implicit_tls: false };
    let smart = settings.startup.delivery.providers.provider(&hop, &[]);
    assert_eq!(smart.map(|provider| provider.limits.at_once), Some(7000));
}
