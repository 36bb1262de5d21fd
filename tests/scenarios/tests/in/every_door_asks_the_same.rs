//! One message through every door: policy is asked the same questions in the same order, and what it
//! answers has the same effect, so that it cannot matter by which door mail comes in.

use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use waypost_harness::hooks::{RecordingHooks, Stage};
use waypost_harness::upstream::Upstream;
use waypost_scenarios::{Door, Home, Peer, Running};

const DOORS: [Door; 6] =
    [Door::Relay, Door::Submission, Door::Submissions, Door::Lmtp, Door::Local, Door::Http];
const CONTENT: &str = "Date: Thu, 1 Jan 1970 00:00:00 +0000\r\nMessage-ID: <1@a.example>\r\n\
                       Subject: hi\r\n\r\nHello\r\n";

struct World {
    hooks: Arc<RecordingHooks>,
    upstream: Upstream,
    home: Home,
    relay: Running,
    token: String,
}

async fn world() -> World {
    let (hooks, upstream) = (Arc::new(RecordingHooks::new()), Upstream::new());
    let mut home = Home::new().users().trusting().hooks(hooks.clone());
    for door in [Door::Lmtp, Door::Local, Door::Http] {
        home = home.door(door);
    }
    let token = home.token("shop");
    let home = home.tokens().route("*", upstream.listen().await.unwrap());
    let relay = home.start().await;
    World { hooks, upstream, home, relay, token }
}

impl World {
    /// The last reply to a message to two recipients by this door: its code.
    async fn send(&self, door: Door) -> u16 {
        if door == Door::Http {
            return self.post().await;
        }
        let mut peer = match door {
            Door::Local => Peer::at(&self.home.local_socket()).await,
            Door::Submissions => {
                Peer::to(self.relay.address(door)).await.encrypt(self.relay.roots()).await
            }
            door => Peer::to(self.relay.address(door)).await,
        };
        let mut reply = peer.reply().await;
        let hello = if door == Door::Lmtp { "LHLO peer.example" } else { "EHLO peer.example" };
        if reply.starts_with('2') {
            reply = peer.say(hello).await;
        }
        if door == Door::Submission && reply.starts_with('2') {
            peer = peer.starttls(self.relay.roots()).await;
        }
        if matches!(door, Door::Submission | Door::Submissions) && reply.starts_with('2') {
            peer.login().await;
        }
        let lines = [
            "MAIL FROM:<a@sender.example>",
            "RCPT TO:<b@dest.example>",
            "RCPT TO:<c@dest.example>",
            "DATA",
        ];
        for line in lines {
            if reply.starts_with('2') {
                reply = peer.say(line).await;
            }
        }
        if reply.starts_with("354") {
            peer.send(format!("{CONTENT}.\r\n")).await;
            reply = peer.reply().await;
        }
        reply[..3].parse().unwrap()
    }

    /// By HTTP: what it says of the first recipient, or the code within the problem.
    async fn post(&self) -> u16 {
        let mut stream = TcpStream::connect(self.relay.address(Door::Http)).await.unwrap();
        let request = format!(
            "POST /v1/messages?from=a@sender.example&to=b@dest.example&to=c@dest.example HTTP/1.1\r\n\
             Host: relay.example\r\nAuthorization: Bearer {}\r\nContent-Type: message/rfc822\r\n\
             Connection: close\r\nContent-Length: {}\r\n\r\n{CONTENT}",
            self.token,
            CONTENT.len()
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        let of_recipient = body["recipients"][0]["code"].as_u64();
        let of_all = body["detail"].as_str().and_then(|detail| detail.get(..3)?.parse().ok());
        of_recipient.or(of_all).ok_or(answer).unwrap() as u16
    }

    /// What was asked about the message itself, without what differs by design: EHLO, AUTH, and in
    /// how many questions recipients came.
    fn asked(&self) -> Vec<(Stage, String)> {
        let mut asked: Vec<(Stage, String)> = Vec::new();
        for (stage, about) in self.hooks.asked() {
            match (stage, asked.last_mut()) {
                (Stage::Helo | Stage::Auth, _) => {}
                (Stage::Recipients, Some((Stage::Recipients, before))) => {
                    *before = format!("{before} {about}");
                }
                (Stage::Connect | Stage::Message, _) => asked.push((stage, String::new())),
                _ => asked.push((stage, about)),
            }
        }
        asked
    }
}

#[tokio::test]
async fn and_takes_the_message() {
    let mut all = Vec::new();
    for door in DOORS {
        let world = world().await;
        assert_eq!(world.send(door).await, 250, "{door:?}");
        world.relay.empty().await;
        let mail = world.upstream.mails().pop().unwrap();
        assert_eq!(mail.to, ["b@dest.example", "c@dest.example"], "{door:?}");
        assert!(mail.content.ends_with(CONTENT), "{door:?}: {}", mail.content);
        all.push((door, world.asked()));
        world.relay.stop().await;
    }
    let (_, first) = &all[0];
    assert!(first.len() >= 5, "{first:?}");
    for (door, asked) in &all {
        assert_eq!(asked, first, "{door:?}");
    }
}

#[tokio::test]
async fn and_refuses_it() {
    let world = world().await;
    for (stage, reply, code) in [
        (Stage::Connect, "554 5.7.1 not from there", 554),
        (Stage::Sender, "550 5.7.1 not from you", 550),
        (Stage::Recipients, "452 4.2.2 full", 452),
        (Stage::Message, "554 5.6.0 not that", 554),
        (Stage::Route, "550 5.4.4 not there", 550),
    ] {
        world.hooks.refuse(stage, reply);
        for door in DOORS {
            // Where no recipient is left, SMTP says so at DATA.
            let said = world.send(door).await;
            let none_left = matches!(stage, Stage::Recipients) && matches!(said, 503 | 554);
            assert!(said == code || none_left, "{stage} by {door:?}: {said}");
        }
        world.hooks.relent();
    }
    for stage in [Stage::Sender, Stage::Recipients, Stage::Message] {
        world.hooks.fail(stage);
        for door in DOORS {
            let said = world.send(door).await;
            assert!(
                said == 451 || (stage == Stage::Recipients && said != 250),
                "{stage} by {door:?}: {said}"
            );
        }
        world.hooks.relent();
    }
    assert!(world.relay.queued().is_empty() && world.upstream.mails().is_empty());
    world.relay.stop().await;
}
