//! A route is for cut-through: policy has its say before the next hop is asked, about the copy it gets, and
//! about what it answers, while the submitter waits.

use std::net::SocketAddr;
use std::time::Duration;

use waypost_harness::upstream::Upstream;
use waypost_hooks::{
    MessageAnswer, MessageVerdict, Preparation, RecipientVerdict, Refusal, Remedy,
};
use waypost_mail::{Clock as _, SystemClock};
use waypost_scenarios::{Door, Home, Peer, Running, eventually};
use waypost_smtp::{PermanentReply, Reply};

use crate::aiosmtpd::{Aiosmtpd, kept, stuffed};
use crate::policy_wants_signatures::{Key, dkimpy, sign};
use crate::says::{Says, by_name, with_hop};

const ALICE: &str = "alice@sender.example";
const BOB: &str = "bob@dest.example";
const CAROL: &str = "carol@dest.example";
const CONTENT: &str = "Subject: x\r\n\r\ny\r\n";

/// All mail is tried at this address while its submitter waits, and policy is asked.
fn through_to(address: SocketAddr, policy: Says) -> Home {
    let via = format!("via = [{{ host = \"{}\", port = {} }}]", address.ip(), address.port());
    let home = Home::new().trusting().hooks(policy.ready());
    home.route_as("*", &format!("{via}\ncut-through = true\n"))
}

async fn peer(relay: &Running) -> Peer {
    let mut peer = relay.peer(Door::Relay).await;
    peer.hello().await;
    peer
}

/// The reply to a message for bob.
async fn answer(relay: &Running) -> String {
    let mut peer = peer(relay).await;
    peer.envelope(ALICE, &[BOB]).await;
    peer.data(CONTENT).await
}

async fn went(relay: &Running, result: &str) -> u64 {
    relay.counter(&format!("waypost_delivery_cut_through_total{{result=\"{result}\"}}")).await
}

fn gone() -> Refusal {
    let reply = Reply::fixed(550, (5, 7, 1), "We do not send this");
    Refusal::Reject(PermanentReply::new(reply).unwrap())
}

#[tokio::test]
async fn what_it_refuses_the_next_hop_never_hears_of() {
    let upstream = Upstream::new();
    let policy = Says::new().of_a_message(|_| MessageAnswer {
        verdict: MessageVerdict::Refuse(gone()),
        ..MessageAnswer::default()
    });
    let relay = through_to(upstream.listen().await.unwrap(), policy).start().await;
    let reply = answer(&relay).await;
    assert!(reply.starts_with("550 5.7.1 We do not send this"), "{reply}");
    assert_eq!(upstream.connections(), 0);
    assert!(relay.queued().is_empty());
    relay.stop().await;
}

#[tokio::test]
async fn what_it_signs_last_is_what_goes_out() {
    let directory = tempfile::tempdir().unwrap();
    let (aiosmtpd, key) = (Aiosmtpd::start(directory.path()), Key::new());
    let policy = Says::new().of_a_copy(|_| {
        let add_headers = vec![("List-Id".to_owned(), "<list.sender.example>".to_owned())];
        let sign = vec![sign("sender.example", "main")];
        Ok(Preparation { add_headers, sign, ..Preparation::default() })
    });
    let relay = key.given_to(through_to(aiosmtpd.address, policy)).start().await;
    let mut peer = peer(&relay).await;
    peer.envelope(ALICE, &[BOB]).await;
    let reply =
        peer.data(stuffed(b"From: <alice@sender.example>\r\nSubject: x\r\n\r\ny\r\n")).await;
    assert!(reply.contains(" delivered to "), "{reply}");
    let message = kept(directory.path(), 1).await;
    assert!(String::from_utf8_lossy(&message).contains("List-Id: <list.sender.example>"));
    assert_eq!(dkimpy(key.record(), message).await, "pass");
    assert_eq!(relay.counter("waypost_queue_committed_total").await, 0);
    relay.stop().await;
}

/// It does not count as an attempt, and the submitter need not wait.
#[tokio::test]
async fn not_now_means_the_queue() {
    let upstream = Upstream::new();
    let policy = Says::new().of_a_copy(|_| {
        let until = SystemClock.now().after(Duration::from_secs(3600));
        Ok(Preparation { postpone_until: Some(until), ..Preparation::default() })
    });
    let relay = through_to(upstream.listen().await.unwrap(), policy).start().await;
    let reply = answer(&relay).await;
    assert!(reply.starts_with("250 2.0.0 OK queued as "), "{reply}");
    let waiting = relay.queued();
    assert_eq!((waiting.len(), waiting[0].tries, waiting[0].in_flight), (1, 0, 0));
    assert_eq!((went(&relay, "not-tried").await, upstream.mails().len()), (1, 0));
    relay.stop().await;
}

/// The next hop says no, policy knows another way: no answer is passed on that is not the last.
#[tokio::test]
async fn another_way_is_gone_by_the_queue() {
    let (first, second) = (Upstream::new().refusing(BOB, "550 5.7.1 not by us"), Upstream::new());
    let policy = Says::new().remedy(Remedy::Reroute(by_name("second")));
    let home = through_to(first.listen().await.unwrap(), policy);
    let relay = with_hop(home, "second", second.listen().await.unwrap()).start().await;
    let reply = answer(&relay).await;
    assert!(reply.starts_with("250 2.0.0 OK queued as "), "{reply}");
    eventually("it goes the other way", || second.mails().len() == 1).await;
    relay.empty().await;
    assert_eq!((went(&relay, "kept").await, first.mails().len()), (1, 0));
    relay.stop().await;
}

/// What policy drops is in no queue, and its submitter is told neither that it is nor that it is not.
#[tokio::test]
async fn what_it_drops_is_not_called_queued() {
    let upstream = Upstream::new().refusing(BOB, "550 5.1.1 nobody");
    let policy = Says::new().remedy(Remedy::Drop("a trap".to_owned()));
    let relay = through_to(upstream.listen().await.unwrap(), policy).start().await;
    let reply = answer(&relay).await;
    let id = reply.strip_prefix("250 2.0.0 OK ").expect(&reply);
    assert!(!id.contains(' '), "{reply}");
    assert_eq!((went(&relay, "dropped").await, went(&relay, "kept").await), (1, 0));
    assert_eq!(relay.counter("waypost_queue_committed_total").await, 0);
    relay.stop().await;
}

/// By LMTP policy refuses one recipient and the next hop the other: nothing is left that could be kept.
#[tokio::test]
async fn whom_it_refuses_nobody_waits_for() {
    let upstream = Upstream::new().refusing(CAROL, "550 5.1.1 no such user");
    let policy = Says::new().of_a_message(|view| {
        let bob = view.transaction.recipients.iter().find(|r| r.mailbox.local() == "bob");
        let verdict = |id| RecipientVerdict { id, verdict: gone(), reasons: Vec::new() };
        let recipients = bob.map(|bob| verdict(bob.id)).into_iter().collect();
        MessageAnswer { recipients, ..MessageAnswer::default() }
    });
    let home = through_to(upstream.listen().await.unwrap(), policy).door(Door::Lmtp);
    let relay = home.start().await;
    let mut peer = relay.peer(Door::Lmtp).await;
    peer.expect("LHLO peer.example", "250").await;
    peer.envelope(ALICE, &[BOB, CAROL]).await;
    assert!(peer.data(CONTENT).await.starts_with("550 5.7.1 We do not send this"));
    peer.hear("550 5.1.1 ").await;
    assert!(!upstream.heard().contains(BOB), "{}", upstream.heard());
    assert_eq!((went(&relay, "refused").await, went(&relay, "kept").await), (1, 0));
    assert!(relay.queued().is_empty());
    relay.stop().await;
}
