//! BDAT and pipelining: used where they are offered, and not where they are not.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::time::timeout;
use waypost_delivery::{Dialer, SourceAddress, Stream};
use waypost_harness::upstream::{Act, Upstream};
use waypost_mail::Why;
use waypost_smtp::Phase;

use crate::relay::{MESSAGE, Plan, Post, Relay};

fn say(words: &str) -> Act {
    Act::Say(words.to_owned())
}

async fn send_one(relay: &Relay) {
    let id = relay.send().await;
    relay.gone(id).await;
}

/// How often each command that begins a message was heard.
fn by_bdat_and_data(upstream: &Upstream) -> (usize, usize) {
    let heard = upstream.heard();
    (heard.matches("BDAT ").count(), heard.matches("DATA\r\n").count())
}

#[tokio::test(start_paused = true)]
async fn who_offers_chunking_gets_the_octets_as_they_are() {
    let upstream = Upstream::new();
    send_one(&Plan::with(&upstream).0.run().await).await;
    let expected = format!("BDAT {} LAST\r\n{MESSAGE}", MESSAGE.len());
    assert!(upstream.heard().contains(&expected), "{}", upstream.heard());
    assert_eq!((by_bdat_and_data(&upstream), &*upstream.mails()[0].content), ((1, 0), MESSAGE));

    let upstream = Upstream::new().without("CHUNKING");
    send_one(&Plan::with(&upstream).0.run().await).await;
    assert!(upstream.heard().contains("Hi.\r\n..dot\r\n.\r\n"), "{}", upstream.heard());
    assert_eq!((by_bdat_and_data(&upstream), &*upstream.mails()[0].content), ((0, 1), MESSAGE));
}

#[tokio::test(start_paused = true)]
async fn a_large_message_is_one_chunk() {
    let content = format!("Subject: x\r\n\r\n{}", "0123456789\r\n".repeat(40_000));
    let upstream = Upstream::new();
    let relay = Plan::with(&upstream).0.run().await;
    let id = relay.post(Post { content: content.clone(), ..Post::default() }).await;
    relay.gone(id).await;
    assert_eq!((by_bdat_and_data(&upstream), &upstream.mails()[0].content), ((1, 0), &content));
}

#[tokio::test(start_paused = true)]
async fn what_is_not_of_whole_lines_goes_by_data_which_mends_it() {
    for (body, arrives) in [("bare\nends\r\n", "bare\r\nends\r\n"), ("no end", "no end\r\n")] {
        let upstream = Upstream::new();
        let relay = Plan::with(&upstream).0.run().await;
        let content = format!("Subject: x\r\n\r\n{body}");
        let id = relay.post(Post { content, ..Post::default() }).await;
        relay.gone(id).await;
        assert_eq!(by_bdat_and_data(&upstream), (0, 1), "{body:?}");
        assert!(upstream.mails()[0].content.ends_with(arrives), "{body:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_operator_can_turn_it_off() {
    let upstream = Upstream::new();
    let (plan, _) = Plan::with(&upstream);
    send_one(&plan.config(|config| config.allowance.chunking = false).run().await).await;
    assert_eq!((by_bdat_and_data(&upstream), upstream.mails().len()), ((0, 1), 1));
}

#[tokio::test(start_paused = true)]
async fn a_refused_chunk_is_an_answer_and_the_connection_is_used_again() {
    let upstream = Upstream::new().once(Phase::Eod, say("554 5.6.0 not this one"));
    let (plan, home) = Plan::with(&upstream);
    let relay = plan.run().await;
    send_one(&relay).await;
    send_one(&relay).await;
    relay.until("a notice", || home.mails().len() == 1).await;
    assert_eq!((upstream.mails().len(), upstream.connections()), (1, 1));
    assert_eq!(
        (by_bdat_and_data(&upstream), upstream.heard().matches("RSET").count()),
        ((2, 0), 1)
    );
}

/// It answers before all of it was sent, and closes.
#[tokio::test(start_paused = true)]
async fn a_chunk_refused_on_its_way_is_not_sent_to_its_end() {
    let content = format!("Subject: x\r\n\r\n{}", "0123456789\r\n".repeat(100_000));
    let upstream = Upstream::new().once(Phase::Body, say("552 5.3.4 too big after all"));
    let (plan, home) = Plan::with(&upstream);
    let relay = plan.run().await;
    let id = relay.post(Post { content: content.clone(), ..Post::default() }).await;
    relay.gone(id).await;
    relay.until("a notice", || home.mails().len() == 1).await;
    assert!(home.mails()[0].content.contains("Status: 5.3.4\r\n"), "{}", home.mails()[0].content);
    assert!(upstream.mails().is_empty() && upstream.heard().len() < content.len());
}

#[tokio::test(start_paused = true)]
async fn nobody_s_message_is_sent_to_nobody() {
    let upstream = Upstream::new().on(Phase::Rcpt, say("550 5.1.1 nobody"));
    let (plan, home) = Plan::with(&upstream);
    let relay = plan.run().await;
    send_one(&relay).await;
    relay.until("a notice", || home.mails().len() == 1).await;
    assert!(!upstream.heard().contains("BDAT") && !upstream.heard().contains("Hi."));
}

#[tokio::test(start_paused = true)]
async fn who_offers_it_and_does_not_know_it_gets_the_same_by_data_at_once() {
    for words in ["500 5.5.1 what?", "502 not implemented", "503 5.5.1 bad sequence"] {
        let upstream = Upstream::new().once_at_bdat(words);
        let relay = Plan::with(&upstream).0.run().await;
        send_one(&relay).await;
        assert_eq!((upstream.mails().len(), upstream.connections()), (1, 2), "{words}");
        send_one(&relay).await;
        assert_eq!(by_bdat_and_data(&upstream), (1, 2), "{words}");
        // After a while it is tried again.
        tokio::time::sleep(Duration::from_secs(3700)).await;
        send_one(&relay).await;
        assert_eq!(by_bdat_and_data(&upstream), (2, 2), "{words}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_of_the_message_is_no_ignorance_of_bdat() {
    for words in ["500 5.7.1 not wanted", "554 5.7.1 not wanted", "550 no"] {
        let upstream = Upstream::new().once(Phase::Eod, say(words));
        let (plan, home) = Plan::with(&upstream);
        let relay = plan.run().await;
        send_one(&relay).await;
        relay.until("a notice", || home.mails().len() == 1).await;
        assert_eq!(by_bdat_and_data(&upstream), (1, 0), "{words}");
    }
}

#[tokio::test(start_paused = true)]
async fn without_an_answer_to_the_last_chunk_nobody_knows_and_data_comes_next() {
    let upstream = Upstream::new().once(Phase::Eod, Act::Drop);
    let relay = Plan::with(&upstream).0.run().await;
    let id = relay.send().await;
    let why = relay.deferred(id).await;
    assert!(matches!(why, Why::ConnectionLost { phase: Phase::Eod, .. }), "{why}");
    relay.gone(id).await;
    assert_eq!(by_bdat_and_data(&upstream), (1, 1), "it may be that it does not bear BDAT");
}

/// A host that listens until nothing more comes before it answers, and writes down what came at once.
#[derive(Debug)]
struct Listener {
    offers: &'static str,
    bursts: Arc<Mutex<Vec<String>>>,
}

#[async_trait]
impl Dialer for Listener {
    async fn dial(&self, _: SocketAddr, _: Option<&SourceAddress>) -> io::Result<Box<dyn Stream>> {
        let (ours, theirs) = tokio::io::duplex(16 * 1024);
        let (offers, bursts) = (self.offers, self.bursts.clone());
        tokio::spawn(async move { attend(theirs, offers, &bursts).await });
        Ok(Box::new(ours))
    }
}

async fn attend(mut stream: DuplexStream, offers: &str, bursts: &Mutex<Vec<String>>) -> Option<()> {
    stream.write_all(b"220 there\r\n").await.ok()?;
    let mut in_data = false;
    loop {
        let burst = burst(&mut stream).await?;
        let mut replies = String::new();
        for line in burst.lines() {
            let reply = match line.split(' ').next().unwrap_or_default() {
                _ if in_data => "250 taken",
                "EHLO" => offers,
                "DATA" => "354 go on",
                "QUIT" => "221 bye",
                _ => "250 ok",
            };
            replies = format!("{replies}{reply}\r\n");
            // What follows is the message.
            if in_data || line.starts_with("BDAT") {
                break;
            }
        }
        in_data = burst.ends_with("DATA\r\n");
        bursts.lock().unwrap().push(burst);
        stream.write_all(replies.as_bytes()).await.ok()?;
    }
}

/// What comes until nothing more comes.
async fn burst(stream: &mut DuplexStream) -> Option<String> {
    let (mut burst, mut buffer) = (String::new(), [0; 4096]);
    loop {
        match timeout(Duration::from_millis(100), stream.read(&mut buffer)).await {
            Ok(Ok(count @ 1..)) => burst.push_str(&String::from_utf8_lossy(&buffer[..count])),
            Ok(_) => return None,
            Err(_) if burst.is_empty() => {}
            Err(_) => return Some(burst),
        }
    }
}

/// The first words of what is said at once, to a host that offers this, after EHLO.
async fn said_at_once(offers: &'static str) -> Vec<String> {
    let bursts = Arc::default();
    let dialer = Arc::new(Listener { offers, bursts: Arc::clone(&bursts) });
    let relay = Plan::new().0.dialer(dialer).run().await;
    let recipients = vec!["a@there.example", "b@there.example"];
    let id = relay.post(Post { recipients, ..Post::default() }).await;
    relay.gone(id).await;
    let verbs = |burst: &String| -> Vec<String> {
        burst.lines().map(|line| line.split([' ', ':']).next().unwrap_or_default().into()).collect()
    };
    let bursts = bursts.lock().unwrap();
    bursts[1..].iter().map(|burst| verbs(burst).join(" ")).collect()
}

const CONTENT: &str = "Subject From  Hi.";

#[tokio::test(start_paused = true)]
async fn commands_go_in_one_group_where_pipelining_is_offered() {
    let by_data = said_at_once("250-there\r\n250 PIPELINING").await;
    assert_eq!(by_data, ["MAIL RCPT RCPT DATA", &format!("{CONTENT} ..dot .")]);
    let by_bdat = said_at_once("250-there\r\n250-PIPELINING\r\n250 CHUNKING").await;
    // Not before it is known that there is somebody to have it.
    assert_eq!(by_bdat, ["MAIL RCPT RCPT", &format!("BDAT {CONTENT} .dot")]);
}

#[tokio::test(start_paused = true)]
async fn and_one_after_the_other_where_it_is_not() {
    let by_data = said_at_once("250 there").await;
    assert_eq!(by_data, ["MAIL", "RCPT", "RCPT", "DATA", &format!("{CONTENT} ..dot .")]);
    let by_bdat = said_at_once("250-there\r\n250 CHUNKING").await;
    assert_eq!(by_bdat, ["MAIL", "RCPT", "RCPT", &format!("BDAT {CONTENT} .dot")]);
}
