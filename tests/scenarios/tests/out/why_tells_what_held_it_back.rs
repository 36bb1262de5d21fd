//! `waypost why` tells what kept a message from being tried, by the name of the limit; what was made of it
//! for a host; and what was done in an attempt that came to no end.

use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::sleep;
use waypost_harness::upstream::{Act, Upstream};
use waypost_harness::zone::Zone;
use waypost_queue::standing::Wait;
use waypost_scenarios::{Door, Home, eventually};
use waypost_smtp::Phase;

use crate::way::{ALICE, BOB, Way, home_to, patient};
use crate::why_tells_the_story::{attempts, dialogue, once_told, story_of, visits};

/// A host that takes mail, but says so only when it is told to.
async fn slow(leave: Arc<Semaphore>) -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.2", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream, leave.clone()));
        }
    });
    address
}

async fn answer(stream: TcpStream, leave: Arc<Semaphore>) {
    let mut stream = BufReader::new(stream);
    let (mut line, mut in_data) = (String::new(), false);
    let mut reply = "220 slow.example\r\n";
    loop {
        if !reply.is_empty() && stream.write_all(reply.as_bytes()).await.is_err() {
            return;
        }
        line.clear();
        if !matches!(stream.read_line(&mut line).await, Ok(1..)) {
            return;
        }
        reply = match (in_data, line.trim_end()) {
            (true, ".") => {
                in_data = false;
                leave.acquire().await.unwrap().forget();
                "250 2.0.0 taken\r\n"
            }
            (true, _) => "",
            (false, "DATA") => {
                in_data = true;
                "354 go on\r\n"
            }
            (false, "QUIT") => "221 2.0.0 bye\r\n",
            (false, _) => "250 2.0.0 yes\r\n",
        };
    }
}

#[tokio::test]
async fn by_the_connections_of_the_provider() {
    let leave = Arc::new(Semaphore::new(0));
    let address = slow(leave.clone()).await;
    let zone = Zone::serve(&format!(
        "$ORIGIN example.\nmx A {}\none MX 10 mx\ntwo MX 10 mx\n",
        address.ip()
    ))
    .await;
    let home = patient(Home::new()).dns(zone.addr, address.port());
    let providers = home.path("providers.toml");
    let pack = "version = \"1\"\nsource = \"this story\"\n[[provider]]\nname = \"big\"\n\
                mx = [\"mx.example\"]\nconnections = 1\n";
    fs::write(&providers, pack).unwrap();
    let way = Way::through(home.set("delivery", "providers", &format!("{providers:?}"))).await;
    // One of each domain, so that it is known whose they are.
    leave.add_permits(2);
    for to in ["bob@one.example", "bob@two.example"] {
        let id = way.post(ALICE, &[to], "before").await;
        way.settled(&id).await;
    }
    let first = way.post(ALICE, &["bob@one.example"], "first").await;
    eventually("the first is under way", || {
        way.relay.queued().iter().any(|message| message.in_flight == 1)
    })
    .await;
    let second = way.post(ALICE, &["bob@two.example"], "second").await;
    once_told(&way, &second, |story| {
        let wait = story.standing.as_ref()?.ways.first()?.wait.clone()?;
        matches!(wait, Wait::Slot { .. }).then_some(())
    })
    .await;
    // As long as it is to be worth telling of.
    sleep(Duration::from_millis(300)).await;
    leave.add_permits(2);
    way.settled(&first).await;
    way.settled(&second).await;
    let story = story_of(&way, &second).await;
    let held = &attempts(&story)[0].held;
    assert_eq!(held.len(), 1, "{story}");
    assert_eq!((&*held[0].limit, &*held[0].of), ("site-slots", "big"), "{story}");
    assert!(held[0].took_us >= 300_000, "{story}");
    let words = "held back by the limit of attempts at once at big, for ";
    assert!(story.to_string().contains(words), "{story}");
    let story = story_of(&way, &first).await;
    assert!(attempts(&story)[0].held.is_empty(), "{story}");
    way.relay.stop().await;
}

#[tokio::test]
async fn that_it_was_converted_for_a_host() {
    let upstream = Upstream::new().without("8BITMIME");
    let way = Way::patiently_to(&upstream).await;
    let mut peer = way.relay.peer(Door::Relay).await;
    peer.hello().await;
    peer.expect(&format!("MAIL FROM:<{ALICE}> BODY=8BITMIME"), "250").await;
    peer.expect(&format!("RCPT TO:<{BOB}>"), "250").await;
    let reply = peer.data("Subject: x\r\n\r\ngr\u{fc}n\r\n").await;
    let id = reply.trim_end().rsplit(' ').next().unwrap().to_owned();
    way.settled(&id).await;
    assert!(upstream.mails()[0].content.is_ascii());
    let story = story_of(&way, &id).await;
    let told = attempts(&story);
    let made: Vec<_> = visits(told[0]).iter().filter_map(|v| v.conversion.clone()).collect();
    assert_eq!(made, ["it lacks 8BITMIME: a converted copy was made"], "{story}");
    assert!(story.to_string().contains("it lacks 8BITMIME: a converted copy"), "{story}");
    way.relay.stop().await;
}

#[tokio::test]
async fn what_was_done_until_the_program_ended() {
    let upstream = Upstream::new().without("CHUNKING").once(Phase::Eod, Act::Hang);
    let way = Way::through(home_to(upstream.listen().await.unwrap())).await;
    let id = way.send().await;
    eventually("the message is sent", || upstream.heard().contains("DATA")).await;
    let Way { relay, home, alice } = way;
    relay.cut_off().await;
    let way =
        Way::with_alice(home.without_routes().route("*", upstream.listen().await.unwrap()), alice)
            .await;
    way.settled(&id).await;
    let story = story_of(&way, &id).await;
    let told = attempts(&story);
    let fared: Vec<&str> = told.iter().map(|attempt| &*attempt.results[0].outcome).collect();
    assert_eq!(fared, ["cut-off", "delivered"], "{story}");
    let said = dialogue(visits(told[0])[0]);
    for wanted in ["> MAIL FROM", "> RCPT TO", "> DATA"] {
        assert!(said.iter().any(|line| line.starts_with(wanted)), "{wanted}: {said:#?}");
    }
    let words = "cut-off: the program ended, or gave it up: nothing that was done is settled";
    assert!(story.to_string().contains(words), "{story}");
    way.relay.stop().await;
}
