//! SIGTERM lets what is under way finish; SIGHUP reads the configuration again.

use std::net::SocketAddr;

use nix::sys::signal::Signal;
use waypost_harness::upstream::{Act, Upstream};
use waypost_smtp::Phase;

use crate::daemon::{Home, until};
use crate::peer::Peer;

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_finishes_while_the_program_drains() {
    let upstream = Upstream::new();
    let home = Home::new(upstream.listen().await.unwrap(), "");
    let mut relay = home.start();
    let mut peer = relay.peer();
    for line in ["MAIL FROM:<a@peer.example>", "RCPT TO:<b@there.example>"] {
        assert!(peer.say(line).unwrap().starts_with("250"));
    }
    assert!(peer.say("DATA").unwrap().starts_with("354"));
    peer.write("Subject: late\r\n\r\n").unwrap();
    relay.signal(Signal::SIGTERM);
    let door: SocketAddr = relay.door;
    until("a closed door", || Peer::connect(door).is_err().then_some(()));
    assert!(relay.runs(), "it waits for the transaction");
    let reply = peer.say("text\r\n.").unwrap();
    assert!(reply.starts_with("250"), "{reply}");
    assert!(relay.ended().success());
    assert!(!home.socket("waypost").exists(), "the socket for operators is gone");

    let _relay = home.start();
    until("the mail", || (upstream.mails().len() == 1).then_some(()));
    until("an empty queue", || home.queue().is_empty().then_some(()));
    assert_eq!(upstream.mails().len(), 1);
}

/// An attempt that the upstream never ends does not keep the program beyond its patience: the
/// message stays and is tried again after the start.
#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_under_way_finishes_while_the_program_drains() {
    let upstream = Upstream::new().once(Phase::Data, Act::Hang);
    let home = Home::new(upstream.listen().await.unwrap(), "[delivery]\nreply-timeout = \"2s\"\n");
    let relay = home.start();
    relay.peer().submit("a@peer.example", "b@there.example", "slow").unwrap();
    until("an attempt", || upstream.heard().contains("DATA\r\n").then_some(()));
    relay.signal(Signal::SIGTERM);
    assert!(relay.ended().success());
    let waiting = home.queue();
    assert_eq!(waiting.len(), 1);
    assert_eq!(waiting[0]["tries"], 1, "the attempt came to its end: {waiting:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hang_up_puts_new_routes_in_force() {
    let (old, new) = (Upstream::new(), Upstream::new());
    let (old_hop, new_hop) = (old.listen().await.unwrap(), new.listen().await.unwrap());
    let home = Home::new(old_hop, "");
    let mut relay = home.start();
    let mut peer = relay.peer();
    peer.submit("a@peer.example", "b@there.example", "before").unwrap();
    until("the first mail", || (old.mails().len() == 1).then_some(()));

    std::fs::write(home.file("waypost"), "hostname = 1\n").unwrap();
    relay.signal(Signal::SIGHUP);
    until("a refusal", || home.log().contains("the running settings stay").then_some(()));
    assert!(relay.runs());
    peer.submit("a@peer.example", "b@there.example", "between").unwrap();
    until("the second mail", || (old.mails().len() == 2).then_some(()));

    home.configure("waypost", &[("*", new_hop)], "");
    relay.signal(Signal::SIGHUP);
    until("a reload", || home.log().contains("reloaded:").then_some(()));
    peer.submit("a@peer.example", "b@there.example", "after").unwrap();
    until("the third mail", || (new.mails().len() == 1).then_some(()));
    assert_eq!(old.mails().len(), 2);
}
