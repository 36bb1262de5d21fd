//! A route is for cut-through: while its submitter waits, the next hop is asked, and its reply is passed
//! on. Nothing of such a message is ever in the queue.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use waypost_harness::upstream::{Act, Upstream};
use waypost_mail::{Outcome, RecipientState};
use waypost_scenarios::{Door, Home, Peer, Running};
use waypost_smtp::Phase;

use crate::way::{ALICE, BOB, Way, patient};

const CAROL: &str = "carol@there.example";
const DAVE: &str = "dave@there.example";
const CONTENT: &str = "Subject: Hello\r\n\r\nThe text.\r\n";

/// All mail is tried at this address while its submitter waits.
pub(crate) fn through_to(address: SocketAddr) -> Home {
    let via = format!("via = [{{ host = \"{}\", port = {} }}]", address.ip(), address.port());
    patient(Home::new().route_as("*", &format!("{via}\ncut-through = true\n")))
}

pub(crate) async fn through(upstream: &Upstream) -> Way {
    Way::through(through_to(upstream.listen().await.unwrap())).await
}

/// How many messages for cut-through came to this.
pub(crate) async fn went(relay: &Running, result: &str) -> u64 {
    relay.counter(&format!("waypost_delivery_cut_through_total{{result=\"{result}\"}}")).await
}

/// Nothing ever was in the queue, and nobody was told anything but by the reply.
async fn left_nothing(way: &Way) {
    assert_eq!(way.relay.counter("waypost_queue_committed_total").await, 0);
    assert!(way.relay.queued().is_empty() && way.alice.mails().is_empty());
}

/// A peer at the relay that has said EHLO.
pub(crate) async fn peer(way: &Way) -> Peer {
    let mut peer = way.relay.peer(Door::Relay).await;
    peer.hello().await;
    peer
}

/// The reply to a message from alice.
async fn answer(peer: &mut Peer, to: &[&str]) -> String {
    peer.envelope(ALICE, to).await;
    peer.data(CONTENT).await
}

#[tokio::test]
async fn who_is_taken_hears_by_whom() {
    let upstream = Upstream::new();
    let way = through(&upstream).await;
    let mut peer = peer(&way).await;
    let reply = answer(&mut peer, &[BOB, CAROL]).await;
    let words = reply.strip_prefix("250 2.0.0 OK ").expect(&reply);
    let (id, rest) = words.split_once(' ').unwrap();
    assert!(rest.starts_with("delivered to [127.0.0.1]:"), "{reply}");
    assert!(rest.ends_with(": taken"), "{reply}");
    let mail = upstream.mails().pop().unwrap();
    assert_eq!(mail.to, [BOB, CAROL]);
    assert!(mail.content.replace("\r\n\t", " ").contains(&format!(" id {id}")), "{}", mail.content);
    assert!(mail.content.ends_with(CONTENT), "{}", mail.content);
    left_nothing(&way).await;
    assert_eq!(went(&way.relay, "delivered").await, 1);
    let delivered = "waypost_delivery_recipients_total{outcome=\"delivered\"}";
    assert_eq!(way.relay.counter(delivered).await, 2);
    // Another message goes over the same connection.
    answer(&mut peer, &[BOB]).await;
    assert_eq!((upstream.mails().len(), upstream.connections()), (2, 1));
    way.relay.stop().await;
}

#[tokio::test]
async fn a_large_message_goes_from_its_file() {
    let upstream = Upstream::new();
    let way = through(&upstream).await;
    let mut peer = peer(&way).await;
    let content = format!("Subject: large\r\n\r\n{}", "0123456789\r\n".repeat(100_000));
    peer.envelope(ALICE, &[BOB]).await;
    let reply = peer.data(&content).await;
    assert!(reply.contains(" delivered to "), "{reply}");
    assert!(upstream.mails()[0].content.ends_with(&content));
    left_nothing(&way).await;
    let incoming = std::fs::read_dir(way.home.spool().join("incoming")).unwrap().count();
    assert_eq!(incoming, 0);
    way.relay.stop().await;
}

#[tokio::test]
async fn who_is_refused_hears_it_in_its_own_words() {
    for phase in [Phase::Mail, Phase::Rcpt, Phase::Data, Phase::Eod] {
        let refusal = Act::Say("550 5.7.1 not from here".into());
        let upstream = Upstream::new().on(phase, refusal);
        let way = through(&upstream).await;
        let mut peer = peer(&way).await;
        let reply = answer(&mut peer, &[BOB, CAROL]).await;
        assert!(reply.starts_with("550 5.7.1 "), "{phase}: {reply}");
        assert!(reply.contains(": [127.0.0.1]:"), "{phase}: {reply}");
        assert!(reply.ends_with(" said: not from here"), "{phase}: {reply}");
        left_nothing(&way).await;
        assert_eq!(went(&way.relay, "refused").await, 1, "{phase}");
        way.relay.stop().await;
    }
}

#[tokio::test]
async fn who_is_put_off_after_the_whole_message_may_come_again() {
    let upstream = Upstream::new()
        .once(Phase::Eod, Act::Say("452 4.3.1 no room".into()))
        .once(Phase::Eod, Act::Say("421 4.3.2 going down".into()));
    let way = through(&upstream).await;
    let mut peer = peer(&way).await;
    let reply = answer(&mut peer, &[BOB]).await;
    assert!(reply.starts_with("452 4.3.1 ") && reply.ends_with("said: no room"), "{reply}");
    // That the next hop closes is no reason to close: a 421 would.
    let reply = answer(&mut peer, &[BOB]).await;
    assert!(reply.starts_with("451 4.3.2 ") && reply.ends_with("said: going down"), "{reply}");
    let reply = answer(&mut peer, &[BOB]).await;
    assert!(reply.contains(" delivered to "), "{reply}");
    left_nothing(&way).await;
    assert_eq!(upstream.mails().len(), 1);
    way.relay.stop().await;
}

/// A rule knows that this "never" means "later", which the submitter would not.
#[tokio::test]
async fn what_is_meant_otherwise_takes_the_queue() {
    let refusal = Act::Say("550 5.7.1 Greylisted, please try again later".into());
    let upstream = Upstream::new().once(Phase::Eod, refusal);
    let way = through(&upstream).await;
    let id = way.send().await;
    let why = way.deferred(&id).await;
    assert!(why.to_string().contains("Greylisted"), "{why}");
    way.retry(&id).await;
    way.settled(&id).await;
    assert_eq!((upstream.mails().len(), way.alice.mails().len()), (1, 0));
    way.relay.stop().await;
}

#[tokio::test]
async fn who_fares_differently_is_kept_each_as_it_fared() {
    let upstream = Upstream::new()
        .refusing(CAROL, "550 5.1.1 no such user")
        .refusing_once(DAVE, "450 4.2.1 busy");
    let way = through(&upstream).await;
    let id = way.send_to(&[BOB, CAROL, DAVE]).await;
    assert_eq!(went(&way.relay, "kept").await, 1);
    let entry = way.entry(&id).unwrap();
    let states: Vec<_> = entry.recipients.iter().map(|recipient| &recipient.state).collect();
    let taken =
        |state: &RecipientState| matches!(state, RecipientState::Done(Outcome::Delivered { .. }));
    assert!(taken(states[0]), "{states:#?}");
    let waits = |state: &RecipientState| matches!(state, RecipientState::Waiting { tries: 1, .. });
    assert!(waits(states[2]), "{states:#?}");
    let notice = way.notices(1).await.remove(0);
    let text = notice.content.replace("\r\n ", " ");
    assert!(text.contains("Final-Recipient: rfc822; carol@there.example\r\n"), "{text}");
    assert!(text.contains("550 5.1.1 no such user"), "{text}");
    assert!(!text.contains("Final-Recipient: rfc822; bob@there.example"), "{text}");
    way.retry(&id).await;
    way.settled(&id).await;
    let to: Vec<_> = upstream.mails().into_iter().map(|mail| mail.to).collect();
    assert_eq!(to, [[BOB], [DAVE]]);
    assert_eq!(way.alice.mails().len(), 1, "nobody is told twice");
    way.relay.stop().await;
}

#[tokio::test]
async fn each_recipient_has_its_own_answer_by_lmtp() {
    let upstream = Upstream::new()
        .refusing(CAROL, "550 5.1.1 no such user")
        .refusing_once(DAVE, "450 4.2.1 busy");
    let address = upstream.listen().await.unwrap();
    let way = Way::through(through_to(address).door(Door::Lmtp)).await;
    let mut peer = way.relay.peer(Door::Lmtp).await;
    peer.expect("LHLO peer.example", "250").await;
    peer.envelope(ALICE, &[BOB, CAROL]).await;
    let reply = peer.data(CONTENT).await;
    assert!(reply.contains(" delivered to "), "{reply}");
    peer.hear("550 5.1.1 ").await;
    left_nothing(&way).await;
    // What cannot be answered yet is kept for whom it concerns, and for nobody else.
    peer.envelope(ALICE, &[CAROL, DAVE]).await;
    assert!(peer.data(CONTENT).await.starts_with("550 5.1.1 "));
    peer.hear("250 2.0.0 OK queued as ").await;
    let waiting = way.relay.queued();
    assert_eq!(waiting.len(), 1);
    way.retry(&waiting[0].id.to_string()).await;
    way.settled(&waiting[0].id.to_string()).await;
    assert_eq!(upstream.mails().len(), 2);
    assert!(way.alice.mails().is_empty(), "carol's sender was told by the reply");
    way.relay.stop().await;
}

/// The status line and the body of the answer.
async fn post(relay: &Running, token: &str, more: &str) -> String {
    let request = format!(
        "POST /v1/messages?from={ALICE}&to={BOB} HTTP/1.1\r\nHost: x\r\n\
         Authorization: Bearer {token}\r\nContent-Type: message/rfc822\r\nConnection: close\r\n\
         {more}Content-Length: {}\r\n\r\n{CONTENT}",
        CONTENT.len()
    );
    let mut stream = TcpStream::connect(relay.address(Door::Http)).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn by_http_it_is_in_the_answer_and_a_key_needs_the_queue() {
    let upstream = Upstream::new().once(Phase::Eod, Act::Say("554 5.7.1 spam".into()));
    let home = through_to(upstream.listen().await.unwrap()).door(Door::Http);
    let token = home.token("shop");
    let home = home.tokens().set("auth", "senders", "\"any\"");
    let way = Way::through(home).await;
    let answer = post(&way.relay, &token, "").await;
    assert!(answer.starts_with("HTTP/1.1 422 ") || answer.starts_with("HTTP/1.1 403 "), "{answer}");
    assert!(answer.contains("said: spam"), "{answer}");
    let answer = post(&way.relay, &token, "").await;
    assert!(answer.starts_with("HTTP/1.1 202 ") && answer.contains("delivered to"), "{answer}");
    left_nothing(&way).await;
    // What the key promises is durable with its message, so there has to be one.
    let answer = post(&way.relay, &token, "Idempotency-Key: one\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 202 ") && answer.contains("queued as"), "{answer}");
    assert_eq!(way.relay.counter("waypost_queue_committed_total").await, 1);
    way.relay.stop().await;
}

#[tokio::test]
async fn what_one_reply_cannot_say_takes_the_queue() {
    let upstream = Upstream::new();
    let address = upstream.listen().await.unwrap();
    let way = Way::through(through_to(address)).await;
    let mut peer = peer(&way).await;
    // Two next hops.
    let id = way.send_to(&[BOB, ALICE]).await;
    way.settled(&id).await;
    // The sender wants to hear of success, which this next hop will not tell.
    peer.expect(&format!("MAIL FROM:<{ALICE}>"), "250 ").await;
    peer.expect(&format!("RCPT TO:<{BOB}> NOTIFY=SUCCESS"), "250 ").await;
    assert!(peer.data(CONTENT).await.starts_with("250 2.0.0 OK queued as "));
    let told = way.notices(2).await.pop().unwrap();
    assert!(told.content.contains("Action: relayed"), "{}", told.content);
    assert_eq!(upstream.mails().len(), 2);
    assert_eq!(went(&way.relay, "delivered").await, 0);
    way.relay.stop().await;
}

/// It said so before it was asked, and so said nothing of this message.
#[tokio::test]
async fn what_the_next_hop_cannot_take_takes_the_queue_and_bounces() {
    let upstream = Upstream::new().max_size(200);
    let way = through(&upstream).await;
    let mut peer = peer(&way).await;
    peer.envelope(ALICE, &[BOB]).await;
    let reply = peer.data(format!("{CONTENT}{}", "and so on\r\n".repeat(50))).await;
    assert!(reply.starts_with("250 2.0.0 OK queued as "), "{reply}");
    let notice = way.notices(1).await.remove(0);
    assert!(notice.content.contains("Status: 5.3.4\r\n"), "{}", notice.content);
    assert!(upstream.mails().is_empty());
    way.relay.stop().await;
}
