//! A program connects to the local socket: the system says who runs it, and that is who submits.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use nix::unistd::{Uid, User};
use waypost_harness::hooks::{RecordingHooks, Seen};
use waypost_harness::upstream::Upstream;
use waypost_scenarios::{Door, Home, Peer};

#[tokio::test]
async fn as_the_user_who_runs_it() {
    let upstream = Upstream::new();
    let policy = Arc::new(RecordingHooks::new());
    // Nobody else could send anywhere.
    let home = Home::new()
        .set("relay", "domains", "[]")
        .set("", "origin", "\"here.example\"")
        .door(Door::Local)
        .hooks(policy.clone())
        .route("*", upstream.listen().await.unwrap());
    let relay = home.start().await;
    let socket = home.local_socket();
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o666);
    let mut peer = Peer::at(&socket).await;
    peer.hear("220 relay.example ESMTP").await;
    let offers = peer.hello().await;
    let login = |offer: &String| offer == "STARTTLS" || offer.starts_with("AUTH");
    assert!(!offers.iter().any(login), "{offers:?}");
    let content = "From: a\r\nBcc: c@far.example\r\nSubject: hi\r\n\r\nHello\r\n";
    peer.deliver("a", &["root", "b@far.example"], content).await;
    relay.empty().await;
    let me = User::from_uid(Uid::current()).unwrap().unwrap().name;
    let seen = policy.seen();
    let known = |seen: &Seen| seen.identity.as_ref() == Some(&me) && seen.may_relay;
    assert!(seen.iter().all(known), "at every stage, from the first on: {seen:?}");
    let mail = upstream.mails().pop().unwrap();
    assert_eq!(mail.from, "a@here.example");
    assert_eq!(mail.to, ["root@here.example", "b@far.example"]);
    let unfolded = mail.content.replace("\r\n ", " ");
    assert!(
        unfolded.starts_with("Received: by relay.example (Waypost) with local id "),
        "{unfolded}"
    );
    assert!(unfolded.contains("\r\nMessage-ID: <") && !unfolded.contains("Bcc"), "{unfolded}");
    relay.stop().await;
    assert!(!socket.exists());
}
