//! Operators keep the suppression list at the command line: they put on it, look, and take off, for
//! everybody or for one sender, for good or for a while.

use std::process::{Command, Stdio};
use std::time::Duration;

use tokio::time::{Instant, sleep};
use waypost_harness::upstream::Upstream;
use waypost_mail::{Clock, Suppression, SystemClock};
use waypost_scenarios::{Door, PATIENCE};

use crate::way::{ALICE, BOB, Way};

/// What `waypost suppress` answered to these words, and whether it was content.
async fn suppress(way: &Way, words: &[&str], input: String) -> (bool, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_waypost-in-a-story"));
    command.arg("suppress").args(words).arg("--config").arg(way.home.file());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let run = move || {
        use std::io::Write as _;
        let mut child = command.spawn().unwrap();
        // It may end without reading.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        child.wait_with_output().unwrap()
    };
    let output = tokio::task::spawn_blocking(run).await.unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(said).unwrap())
}

async fn told(way: &Way, words: &[&str]) -> String {
    let (content, said) = suppress(way, words, String::new()).await;
    assert!(content, "{words:?}: {said}");
    said
}

async fn rcpt(way: &Way, from: &str, to: &str) -> String {
    let mut peer = way.relay.peer(Door::Relay).await;
    peer.hello().await;
    peer.say(&format!("MAIL FROM:<{from}>")).await;
    peer.say(&format!("RCPT TO:<{to}>")).await
}

#[tokio::test]
async fn for_everybody_or_for_one_sender() {
    let way = Way::to(&Upstream::new()).await;
    let said = told(&way, &["add", BOB, "@gone.example", "--note", "asked by phone"]).await;
    assert_eq!(said, "2 entries put on the list\n");
    told(&way, &["add", "eve@there.example", "--for", ALICE, "--days", "3"]).await;
    assert!(rcpt(&way, ALICE, BOB).await.starts_with("550 5.7.1"));
    assert!(rcpt(&way, ALICE, "anybody@gone.example").await.starts_with("550 5.7.1"));
    assert!(rcpt(&way, ALICE, "eve@there.example").await.starts_with("550 5.7.1"));
    assert!(rcpt(&way, "else@home.example", "eve@there.example").await.starts_with("250"));

    let listed = told(&way, &["list"]).await;
    for part in [BOB, "@gone.example", ALICE, "asked by phone", "never", "in 2d"] {
        assert!(listed.contains(part), "no {part} in\n{listed}");
    }
    assert!(!told(&way, &["list", "gone"]).await.contains(BOB));
    let shown = told(&way, &["show", "who@gone.example"]).await;
    assert!(shown.contains("@gone.example") && !shown.contains(BOB), "{shown}");
    let nobody = "nobody there is on the suppression list\n";
    assert_eq!(
        told(&way, &["show", "eve@there.example", "--from", "else@home.example"]).await,
        nobody
    );
    assert!(told(&way, &["show", "eve@there.example", "--from", ALICE]).await.contains("in 2d"));

    let (content, said) = suppress(&way, &["remove", BOB, "--for", ALICE], String::new()).await;
    assert!(!content && said.contains("there is no such entry"), "{said}");
    assert_eq!(told(&way, &["remove", BOB]).await, "1 entry taken off the list\n");
    assert!(rcpt(&way, ALICE, BOB).await.starts_with("250"));
    way.relay.stop().await;
}

#[tokio::test]
async fn for_a_while_and_in_a_list_of_many_pages() {
    let way = Way::to(&Upstream::new()).await;
    let soon = SystemClock.now().after(Duration::from_secs(2));
    let soon = Suppression {
        target: BOB.parse().unwrap(),
        owner: "everybody".parse().unwrap(),
        ground: waypost_mail::suppression::Ground::Complaint,
        since: SystemClock.now(),
        expires: Some(soon),
        note: String::new(),
    };
    let many: String = (0..1100).map(|number| format!("u{number:04}@x.example\n")).collect();
    let input = format!("{}\n{many}", serde_json::to_string(&soon).unwrap());
    let (content, said) = suppress(&way, &["import", "-"], input).await;
    assert_eq!((content, said.as_str()), (true, "1101 entries put on the list\n"));
    assert!(told(&way, &["list", "u1099", "--limit", "3"]).await.contains("u1099@x.example"));
    let cut = told(&way, &["list", "--limit", "3"]).await;
    assert!(cut.lines().count() == 5 && cut.contains("there may be more"), "{cut}");
    let exported = told(&way, &["export"]).await;
    assert!(exported.lines().count() >= 1100, "page by page, all of it");

    let began = Instant::now();
    while !rcpt(&way, ALICE, BOB).await.starts_with("250") {
        assert!(began.elapsed() < PATIENCE, "it does not end");
        sleep(Duration::from_millis(50)).await;
    }
    assert!(!told(&way, &["export"]).await.contains(BOB));
    way.relay.stop().await;
}
