//! Operators look at what waits and change it, through the command line.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::Value;
use waypost_harness::upstream::{Act, Upstream};
use waypost_smtp::Phase;

use crate::daemon::{Daemon, Home, text, until};

/// A relay whose mail for anybody but home.example cannot be delivered for now.
struct World {
    busy: Upstream,
    senders: Upstream,
    home: Home,
    relay: Daemon,
}

async fn world() -> World {
    let busy = Upstream::new().on(Phase::Mail, Act::Say("450 4.2.1 busy".to_owned()));
    let senders = Upstream::new();
    let hop: SocketAddr = busy.listen().await.unwrap();
    let back = senders.listen().await.unwrap();
    let home = Home::new(hop, "");
    fs::create_dir(home.spool()).unwrap();
    fs::set_permissions(home.spool(), fs::Permissions::from_mode(0o755)).unwrap();
    home.configure("waypost", &[("home.example", back), ("*", hop)], "");
    let relay = home.start();
    World { busy, senders, home, relay }
}

impl World {
    /// Sends a message; its id, when it was tried once.
    fn waiting(&self, subject: &str) -> String {
        let known: Vec<String> = self.home.queue().iter().map(id).collect();
        self.relay.peer().submit("alice@home.example", "b@there.example", subject).unwrap();
        until("a message that waits", || {
            let queue = self.home.queue();
            let new = queue.iter().find(|message| !known.contains(&id(message)))?;
            (new["tries"] == 1 && new["waiting"] == 1).then(|| id(new))
        })
    }

    fn only(&self) -> Value {
        let queue = self.home.queue();
        assert_eq!(queue.len(), 1, "{queue:?}");
        queue[0].clone()
    }
}

fn id(message: &Value) -> String {
    message["id"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_held_waits_for_its_release() {
    let world = world().await;
    let id = world.waiting("held");
    let held = world.home.json(&["queue", "hold", &id, "--reason", "let us see"]);
    assert_eq!((&held["messages"], &held["recipients"]), (&1.into(), &1.into()), "{held}");
    let message = world.only();
    assert_eq!((&message["held"], &message["waiting"]), (&1.into(), &0.into()), "{message}");
    assert_eq!(message["why"], "let us see");

    let retried = world.home.json(&["queue", "retry", &id]);
    assert_eq!(retried["recipients"], 0, "what is held is not tried: {retried}");
    let connections = world.busy.connections();
    let released = world.home.json(&["queue", "release", &id]);
    assert_eq!(released["recipients"], 1, "{released}");
    until("another attempt", || (world.only()["tries"] == 2).then_some(()));
    assert!(
        world.busy.connections() + world.busy.heard().matches("MAIL FROM").count() > connections
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_comes_at_once() {
    let world = world().await;
    let id = world.waiting("retried");
    let shown = world.home.json(&["queue", "show", &id]);
    assert_eq!(shown["recipients"].as_array().unwrap().len(), 1, "{shown}");
    assert!(shown.to_string().contains("busy"), "{shown}");
    let retried = world.home.json(&["queue", "retry", "domain:there.example", "age<1h"]);
    assert_eq!(retried["recipients"], 1, "{retried}");
    until("another attempt", || (world.only()["tries"] == 2).then_some(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_bounced_comes_back_to_its_sender() {
    let world = world().await;
    let id = world.waiting("bounced");
    let bounced = world.home.json(&["queue", "bounce", &id, "--reason", "the account is closed"]);
    assert_eq!(bounced["recipients"], 1, "{bounced}");
    until("an empty queue", || world.home.queue().is_empty().then_some(()));
    let notices = world.senders.mails();
    assert_eq!(notices.len(), 1);
    assert_eq!(
        (notices[0].from.as_str(), notices[0].to.as_slice()),
        ("", &["alice@home.example".to_owned()][..])
    );
    assert!(notices[0].content.contains("the account is closed"), "{}", notices[0].content);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_deleted_is_gone_without_a_word() {
    let world = world().await;
    let id = world.waiting("deleted");
    let other = world.waiting("kept");
    let nothing = world.home.command(&["queue", "delete"]);
    assert!(!nothing.status.success(), "everything is meant only with --all");
    assert!(text(&nothing.stderr).contains("--all"), "{}", text(&nothing.stderr));
    let deleted = world.home.json(&["queue", "delete", &id]);
    assert_eq!(deleted["recipients"], 1, "{deleted}");
    assert_eq!(world.only()["id"], other.as_str());
    let gone = world.home.command(&["queue", "show", &id]);
    assert!(!gone.status.success());
    assert!(world.senders.mails().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_relay_the_spool_is_read() {
    let world = world().await;
    let id = world.waiting("asleep");
    let running = world.home.queue();
    let World { home, relay, .. } = world;
    relay.kill();
    let listed = home.command(&["queue", "list", "--json"]);
    assert!(listed.status.success(), "{}", text(&listed.stderr));
    assert!(text(&listed.stderr).contains("waypost is not running"), "{}", text(&listed.stderr));
    let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
    assert_eq!(listed["messages"].as_array().unwrap(), &running);
    let shown = home.json(&["queue", "show", &id]);
    assert_eq!(shown["id"], id.as_str());
    let refused = home.command(&["queue", "delete", &id]);
    assert!(!refused.status.success(), "nothing is changed without a relay");
    let status = home.command(&["status"]);
    assert!(
        text(&status.stderr).contains("1 messages wait in its spool"),
        "{}",
        text(&status.stderr)
    );
}

/// The rights of everybody but the owner.
fn others(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o077
}

/// Files below a directory that others than the owner can reach.
fn open_to_others(directory: &Path) -> Vec<PathBuf> {
    let paths = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let reachable = paths.filter(|path| others(path) != 0);
    reachable
        .flat_map(|path| if path.is_dir() { open_to_others(&path) } else { vec![path] })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_but_the_owner_may_ask() {
    let world = world().await;
    assert_eq!(others(&world.home.socket("waypost")), 0);
    assert!(others(world.home.spool()) & 0o005 != 0, "the directory itself was made by others");
    world.waiting("private");
    assert_eq!(open_to_others(world.home.spool()), Vec::<PathBuf>::new());
    assert!(others(&world.home.file("waypost")) != 0, "the test can tell");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_relay_drains_when_told_to() {
    let world = world().await;
    let World { home, relay, .. } = world;
    let drained = home.command(&["drain"]);
    assert!(drained.status.success(), "{}", text(&drained.stderr));
    assert!(relay.ended().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_is_counted_summed_up_and_sent_another_way() {
    let world = world().await;
    world.waiting("one");
    let other = world.waiting("two");
    let summary = world.home.json(&["queue", "summary", "--by", "reply", "domain:there.example"]);
    let group = &summary["groups"][0];
    assert_eq!((&group["name"], &group["messages"]), (&"450 4.2.1".into(), &2.into()), "{summary}");
    let first = world.home.json(&["queue", "list", "--limit", "1"]);
    let next = first["next"].as_str().unwrap();
    let second = world.home.json(&["queue", "list", "--after", next]);
    assert_eq!(
        (&second["messages"][0]["id"], &second["next"]),
        (&other.as_str().into(), &Value::Null)
    );

    let selector = ["domain:there.example", "attempts:1", "not", "state:held"];
    let counted = world.home.json(&[&["queue", "delete", "--dry-run"][..], &selector].concat());
    assert_eq!((&counted["messages"], &counted["recipients"]), (&2.into(), &2.into()), "{counted}");
    assert_eq!(world.home.queue().len(), 2, "counting changes nothing");
    let mistaken = world.home.command(&["queue", "delete", "domain:there.example", "atempts:1"]);
    assert!(!mistaken.status.success());
    assert!(
        text(&mistaken.stderr).contains("^ unknown key 'atempts'"),
        "{}",
        text(&mistaken.stderr)
    );

    let upstream = Upstream::new();
    let way = upstream.listen().await.unwrap().to_string();
    let rerouted = world.home.json(&["queue", "reroute", "--to", &way, &other]);
    assert_eq!(rerouted["recipients"], 1, "{rerouted}");
    until("one message less", || (world.home.queue().len() == 1).then_some(()));
    assert_eq!(upstream.mails().len(), 1);
    let nowhere = world.home.command(&["queue", "reroute", "--to", "the moon", "--all"]);
    assert!(
        text(&nowhere.stderr).contains("'the moon' is no way to go"),
        "{}",
        text(&nowhere.stderr)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_waited_too_long_expires_and_other_mail_is_given_more_time() {
    let world = world().await;
    let (one, two) = (world.waiting("one"), world.waiting("two"));
    let expires = |id: &str| world.home.json(&["queue", "show", id])["expires"].as_i64().unwrap();
    let before = expires(&one);
    let counted = world.home.json(&["queue", "extend", "--by", "2d", &one, "--dry-run"]);
    assert_eq!(
        (&counted["recipients"], &counted["in_flight"]),
        (&1.into(), &0.into()),
        "{counted}"
    );
    assert_eq!(expires(&one), before);
    let extended = world.home.json(&["queue", "extend", "--by", "2d", &one, "attempts>0"]);
    assert_eq!(extended["recipients"], 1, "{extended}");
    assert_eq!(expires(&one), before + 2 * 86_400_000);
    let never = world.home.command(&["queue", "extend", "--by", "soon", &one]);
    assert!(text(&never.stderr).contains("is no length of time"), "{}", text(&never.stderr));

    let expired = world.home.json(&["queue", "expire", &two]);
    assert_eq!(expired["recipients"], 1, "{expired}");
    let bounce = until("a bounce", || world.senders.mails().first().cloned());
    assert!(bounce.content.contains("Status: 5.4.7"), "{}", bounce.content);
    assert!(bounce.content.contains("450 4.2.1"), "with what it met last: {}", bounce.content);

    until("the bounce's end", || (world.home.queue().len() == 1).then_some(()));
    let World { home, relay, .. } = world;
    relay.kill();
    let summary = home.json(&["queue", "summary", "--by", "domain"]);
    let group = &summary["groups"][0];
    assert_eq!((&group["name"], &group["recipients"]), (&"there.example".into(), &1.into()));
    let _relay = home.start();
    let shown = home.json(&["queue", "show", &one]);
    assert_eq!(shown["expires"].as_i64(), Some(before + 2 * 86_400_000), "over a restart");
    assert_eq!(home.queue().len(), 1);
}
