//! sled's files are garbage, or gone: the log knows what waits, what is held and what is done.

use std::fs;
use std::path::{Path, PathBuf};

use waypost_harness::upstream::{Act, Upstream};
use waypost_mail::MessageId;
use waypost_queue::RecipientStanding;
use waypost_scenarios::{Door, Home, Running, eventually};
use waypost_smtp::Phase;

/// All files below a directory.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    assert!(!found.is_empty() || directory.ends_with("blobs"), "{}", directory.display());
    found
}

/// Octets that look like nothing, the same each time.
fn garbage(length: usize) -> Vec<u8> {
    let next = |state: &u64| Some(state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
    std::iter::successors(Some(7), next).map(|state| (state >> 56) as u8).take(length).collect()
}

/// What is done to sled's directory.
type Damage = fn(&Path);

fn nothing(_: &Path) {}

fn deleted(index: &Path) {
    fs::remove_dir_all(index).unwrap();
}

fn overwritten(index: &Path) {
    for file in files(index) {
        let length = fs::metadata(&file).unwrap().len() as usize;
        fs::write(&file, garbage(length)).unwrap();
    }
}

fn cut_in_half(index: &Path) {
    for file in files(index) {
        let content = fs::read(&file).unwrap();
        fs::write(&file, &content[..content.len() / 2]).unwrap();
    }
}

/// A few octets here and there: sled may open and not notice.
fn flipped(index: &Path) {
    for file in files(index) {
        let mut content = fs::read(&file).unwrap();
        for octet in content.iter_mut().step_by(997) {
            *octet ^= 0x55;
        }
        fs::write(&file, content).unwrap();
    }
}

fn emptied(index: &Path) {
    for file in files(index) {
        fs::write(file, b"").unwrap();
    }
}

async fn send(relay: &Running, to: &[&str], subject: &str) -> String {
    let mut peer = relay.peer(Door::Relay).await;
    peer.hello().await;
    peer.deliver("a@sender.example", to, &format!("Subject: {subject}\r\n\r\nText\r\n")).await
}

fn standing(relay: &Running, state: RecipientStanding) -> Vec<String> {
    let selector = format!("state:{}", state.name()).parse().unwrap();
    let page = relay.queue().list(&selector, None, 100).unwrap();
    page.messages.iter().map(|m| m.id.to_string()).collect()
}

#[tokio::test]
async fn each_message_keeps_its_fate() {
    let damages: [(&str, Damage); 6] = [
        ("nothing", nothing),
        ("deleted", deleted),
        ("overwritten", overwritten),
        ("cut in half", cut_in_half),
        ("flipped", flipped),
        ("emptied", emptied),
    ];
    for (name, damage) in damages {
        each_message_keeps_its_fate_when(name, damage).await;
    }
}

async fn each_message_keeps_its_fate_when(name: &str, damage: Damage) {
    let busy = Upstream::new().on(Phase::Mail, Act::Say("450 4.2.1 busy".to_owned()));
    let quick = Upstream::new();
    let home = Home::new()
        .trusting()
        .route("busy.example", busy.listen().await.unwrap())
        .route("*", quick.listen().await.unwrap())
        .set("queue", "first-retry", "\"1h\"")
        .set("queue", "max-retry", "\"1h\"");
    let relay = home.start().await;
    let held = send(&relay, &["b@busy.example"], "held").await;
    let waiting = send(&relay, &["b@busy.example"], "waiting").await;
    let partial = send(&relay, &["b@busy.example", "c@quick.example"], "partial").await;
    let deleted = send(&relay, &["b@busy.example"], "deleted").await;
    for number in 0..20 {
        send(&relay, &["b@quick.example"], &format!("done {number}")).await;
    }
    eventually("everything tried once", || {
        let queued = relay.queued();
        queued.len() == 4
            && queued.iter().all(|m| m.in_flight == 0 && m.tries == 1 && m.waiting == 1)
    })
    .await;
    relay
        .queue()
        .hold(held.parse::<MessageId>().unwrap(), "for a reason".to_owned())
        .await
        .unwrap();
    relay.queue().delete(deleted.parse::<MessageId>().unwrap()).await.unwrap();
    assert_eq!(quick.mails().len(), 21, "{name}");
    relay.stop().await;

    damage(&home.spool().join("index"));

    busy.relent();
    let relay = home.start().await;
    assert_eq!(standing(&relay, RecipientStanding::Held), [held.as_str()], "{name}");
    let entry = relay.queue().show(held.parse().unwrap()).unwrap();
    assert!(format!("{:?}", entry.recipients).contains("for a reason"), "{name}");
    for id in [&waiting, &partial] {
        let _ = relay.queue().retry(id.parse::<MessageId>().unwrap()).await;
    }
    eventually("only what is held is left", || relay.queued().len() == 1).await;
    let came: Vec<String> = busy
        .mails()
        .iter()
        .map(|mail| {
            assert_eq!(mail.to, ["b@busy.example"], "{name}");
            mail.content.lines().find_map(|l| l.strip_prefix("Subject: ")).unwrap().to_owned()
        })
        .collect();
    let mut sorted = came.clone();
    sorted.sort();
    assert_eq!(sorted, ["partial", "waiting"], "{name}: {came:?}");
    assert_eq!(quick.mails().len(), 21, "{name}: what is done stays done");

    relay.queue().release(held.parse::<MessageId>().unwrap()).await.unwrap();
    relay.empty().await;
    assert_eq!(busy.mails().len(), 3, "{name}");
    relay.stop().await;
}
