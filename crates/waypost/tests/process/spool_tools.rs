//! `waypost spool check|repair|export|import` on the spool of a relay that was stopped, and what they say
//! of one that runs.

use std::fs;
use std::path::Path;

use serde_json::Value;
use waypost_harness::upstream::{Act, Mail, Upstream};
use waypost_smtp::Phase;

use crate::daemon::{Home, text, until};

/// Larger than what the log itself has room for.
const LARGE: usize = 9 << 20;

/// A stopped relay whose spool has a message that waits, one that is held, and a large one.
async fn stopped() -> Home {
    let busy = Upstream::new().on(Phase::Mail, Act::Say("450 4.2.1 busy".to_owned()));
    let home = Home::new(busy.listen().await.unwrap(), "");
    let relay = home.start();
    let mut peer = relay.peer();
    peer.submit("a@peer.example", "b@there.example", "waiting").unwrap();
    peer.submit("a@peer.example", "b@there.example", "held").unwrap();
    let large = format!("Subject: large\r\n\r\n{}", "0123456789abcdef\r\n".repeat(LARGE / 18));
    let reply = peer.send("a@peer.example", "b@there.example", &large).unwrap();
    assert!(reply.starts_with("250"), "{reply}");
    until("an attempt at each", || {
        home.queue().iter().all(|message| message["tries"] == 1).then_some(())
    });
    let held = home.queue()[1]["id"].as_str().unwrap().to_owned();
    home.json(&["queue", "hold", &held, "--reason", "a person looks at it"]);
    for command in [&["check"][..], &["repair"], &["export", "--to", "/nowhere"], &["import", "."]]
    {
        let refused = home.command(&[&["spool"][..], command].concat());
        let said = text(&refused.stderr);
        assert_eq!(refused.status.code(), Some(1), "{command:?}: {said}");
        assert!(
            said.contains("stop it first") || command == ["import", "."],
            "{command:?}: {said}"
        );
    }
    assert!(!Path::new("/nowhere").exists());
    relay.kill();
    home
}

fn said(home: &Home, args: &[&str], code: i32) -> String {
    let output = home.command(args);
    let (out, error) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{args:?}: {out}{error}");
    format!("{out}{error}")
}

fn subjects(mails: &[Mail]) -> Vec<&str> {
    let mut subjects: Vec<&str> = mails
        .iter()
        .filter_map(|mail| mail.content.lines().find_map(|line| line.strip_prefix("Subject: ")))
        .collect();
    subjects.sort_unstable();
    subjects
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_exported_is_delivered_by_another_relay_once() {
    let home = stopped().await;
    assert!(said(&home, &["spool", "check"], 0).contains("nothing is wrong"));
    let archive = home.file("archive").with_extension("");
    let archive = archive.to_str().unwrap();
    let exported = said(&home, &["spool", "export", "--to", archive], 0);
    assert!(exported.contains("3 messages are in"), "{exported}");
    let lines = fs::read_to_string(Path::new(archive).join("messages.jsonl")).unwrap();
    assert_eq!(lines.lines().count(), 3);

    let upstream = Upstream::new();
    let other = Home::new(upstream.listen().await.unwrap(), "");
    let imported = said(&other, &["spool", "import", archive], 0);
    assert!(imported.contains("3 messages are in the spool now, 0 were there"), "{imported}");
    let relay = other.start();
    let again = said(&other, &["spool", "import", archive], 1);
    assert!(again.contains("stop it first"), "{again}");
    // Where they go is kept with them: the next hop of the first relay.
    let way = upstream.listen().await.unwrap().to_string();
    let rerouted = other.json(&["queue", "reroute", "--to", &way, "--all"]);
    assert_eq!(rerouted["recipients"], 3, "{rerouted}");
    until("what waited", || (upstream.mails().len() == 2).then_some(()));
    assert_eq!(subjects(&upstream.mails()), ["large", "waiting"]);
    let sent = "0123456789abcdef\r\n".repeat(LARGE / 18);
    let large = upstream.mails().into_iter().find(|mail| mail.content.len() > LARGE / 2).unwrap();
    assert!(large.content.contains(&sent), "every octet of it");
    until("the held one alone", || {
        let queue = other.queue();
        (queue.len() == 1 && queue[0]["why"] == "a person looks at it").then_some(())
    });
    other.json(&["queue", "release", "--all"]);
    until("the held one", || (upstream.mails().len() == 3).then_some(()));
    until("an empty queue", || other.queue().is_empty().then_some(()));
    relay.kill();
    let again = said(&other, &["spool", "import", archive], 0);
    assert!(again.contains("0 messages are in the spool now, 3 were there or had been"), "{again}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_message_is_found_held_and_the_others_flow() {
    let home = stopped().await;
    let log = home.spool().join("log");
    let mut segments: Vec<_> = fs::read_dir(log).unwrap().map(|e| e.unwrap().path()).collect();
    segments.sort();
    let (segment, mut bytes, at) = segments
        .into_iter()
        .find_map(|segment| {
            let bytes = fs::read(&segment).unwrap();
            let at = bytes.windows(16).position(|part| part == b"Subject: waiting")?;
            Some((segment, bytes, at))
        })
        .unwrap();
    bytes[at] ^= 1;
    fs::write(segment, bytes).unwrap();

    let problems = said(&home, &["spool", "check", "--json"], 1);
    let problem: Value = serde_json::from_str(problems.lines().next().unwrap()).unwrap();
    assert!(problem["offset"].as_u64().is_some_and(|offset| offset > 0), "{problem}");
    let planned = said(&home, &["spool", "repair", "--dry-run"], 1);
    assert!(planned.contains("a repair would"), "{planned}");
    assert!(said(&home, &["spool", "check"], 1).contains("1 problem"));
    let repaired = said(&home, &["spool", "repair"], 0);
    assert!(repaired.contains("1 damaged messages are held"), "{repaired}");
    assert!(home.spool().join("damaged").is_dir());

    let upstream = Upstream::new();
    let way = upstream.listen().await.unwrap().to_string();
    let _relay = home.start();
    assert_eq!(
        home.json(&["queue", "list", "state:held"])["messages"].as_array().unwrap().len(),
        2
    );
    home.json(&["queue", "reroute", "--to", &way, "state:waiting"]);
    until("what is sound", || (upstream.mails().len() == 1).then_some(()));
    assert_eq!(subjects(&upstream.mails()), ["large"]);
}
