//! Policy refuses, puts off or fails: the peer hears it at that stage, and what was refused is not
//! in the spool.

use std::sync::Arc;

use waypost_admin::api::{Applied, ChangeRequest};
use waypost_harness::hooks::{RecordingHooks, Stage};
use waypost_harness::upstream::Upstream;
use waypost_hooks::EventKind;
use waypost_mail::RecipientState;
use waypost_scenarios::{Door, Home, PASSWORD, Peer, Running, USER, b64, eventually};

struct World {
    hooks: Arc<RecordingHooks>,
    upstream: Upstream,
    home: Home,
    relay: Running,
}

async fn world() -> World {
    let (hooks, upstream) = (Arc::new(RecordingHooks::new()), Upstream::new());
    let home = Home::new()
        .users()
        .trusting()
        .hooks(hooks.clone())
        .route("*", upstream.listen().await.unwrap());
    let relay = home.start().await;
    World { hooks, upstream, home, relay }
}

/// Goes the way of a message up to `stage` and gives the reply there.
async fn reply_at(relay: &Running, stage: Stage) -> (Peer, String) {
    let mut peer = Peer::to(relay.address(Door::Submissions)).await.encrypt(relay.roots()).await;
    let login = format!("AUTH PLAIN {}", b64(format!("\0{USER}\0{PASSWORD}")));
    let way = [
        (Stage::Helo, "EHLO peer.example"),
        (Stage::Auth, login.as_str()),
        (Stage::Sender, "MAIL FROM:<a@sender.example>"),
        (Stage::Recipients, "RCPT TO:<b@dest.example>"),
        (Stage::Message, "DATA"),
    ];
    let mut reply = peer.reply().await;
    for (at, line) in way.into_iter().take_while(|_| stage != Stage::Connect) {
        assert!(reply.starts_with('2'), "{stage}: {reply} before {line}");
        reply = peer.say(line).await;
        if line == "DATA" {
            reply = peer.say("Subject: x\r\n\r\ny\r\n.").await;
        }
        if at == stage {
            break;
        }
    }
    (peer, reply)
}

const STAGES_OF_A_SESSION: [Stage; 6] =
    [Stage::Connect, Stage::Helo, Stage::Auth, Stage::Sender, Stage::Recipients, Stage::Message];

#[tokio::test]
async fn each_stage_answers_with_the_reply_of_policy() {
    let World { hooks, upstream, relay, .. } = world().await;
    for stage in STAGES_OF_A_SESSION {
        for reply in ["554 5.7.1 not you", "450 4.7.1 not now"] {
            hooks.refuse(stage, reply);
            let (_, said) = reply_at(&relay, stage).await;
            assert_eq!(said, reply, "at {stage}");
            hooks.relent();
        }
    }
    assert!(relay.queued().is_empty());
    assert_eq!(upstream.mails(), []);
    let (_, said) = reply_at(&relay, Stage::Message).await;
    assert!(said.starts_with("250 2.0.0 OK queued as "), "{said}");
}

#[tokio::test]
async fn a_policy_that_hangs_up_ends_the_session() {
    let World { hooks, relay, .. } = world().await;
    for stage in [Stage::Connect, Stage::Helo, Stage::Sender, Stage::Recipients] {
        hooks.hang_up(stage, "421 4.7.0 go away");
        let (mut peer, said) = reply_at(&relay, stage).await;
        assert_eq!(said, "421 4.7.0 go away", "at {stage}");
        assert!(peer.is_over().await, "at {stage}");
        hooks.relent();
    }
}

/// It is never the peer's fault: 4xx, so that mail comes again.
#[tokio::test]
async fn a_policy_that_fails_puts_off() {
    let World { hooks, upstream, relay, .. } = world().await;
    for stage in STAGES_OF_A_SESSION {
        hooks.fail(stage);
        let (_, said) = reply_at(&relay, stage).await;
        let expected = match stage {
            Stage::Connect | Stage::Helo => "421 4.3.0",
            Stage::Auth => "454 4.7.0",
            _ => "451 4.3.0",
        };
        assert!(said.starts_with(expected), "at {stage}: {said}");
        hooks.relent();
    }
    assert!(relay.queued().is_empty());
    assert_eq!(upstream.mails(), []);
}

/// Not now, not after the end, and not after another start.
#[tokio::test]
async fn a_refused_message_is_not_in_the_spool() {
    let World { hooks, upstream, home, relay } = world().await;
    hooks.refuse(Stage::Message, "550 5.7.1 no such mail");
    let (_, said) = reply_at(&relay, Stage::Message).await;
    assert_eq!(said, "550 5.7.1 no such mail");
    let refused = EventKind::MessageRefused;
    eventually("the refusal is told", || hooks.events().contains(&refused)).await;
    assert!(relay.queued().is_empty());
    relay.stop().await;
    hooks.relent();
    let relay = home.start().await;
    assert!(relay.queued().is_empty());
    let (_, said) = reply_at(&relay, Stage::Message).await;
    assert!(said.starts_with("250"), "{said}");
    relay.empty().await;
    assert_eq!(upstream.mails().len(), 1);
}

#[tokio::test]
async fn a_route_that_is_none_bounces_or_holds() {
    let World { hooks, upstream, relay, .. } = world().await;
    hooks.refuse(Stage::Route, "450 4.7.1 an operator decides");
    let (_, said) = reply_at(&relay, Stage::Message).await;
    let id = said.strip_prefix("250 2.0.0 OK queued as ").unwrap().parse().unwrap();
    let entry = relay.queue().show(id).unwrap();
    let held = RecipientState::Held { tries: 0, reason: "an operator decides".to_owned() };
    assert_eq!(entry.recipients[0].state, held);
    assert_eq!(upstream.mails(), []);
}

/// After the message was taken nothing is lost by policy's failure: it is tried again.
#[tokio::test]
async fn a_policy_that_fails_behind_the_door_delays() {
    let World { hooks, upstream, relay, .. } = world().await;
    hooks.fail(Stage::Prepare);
    let (_, said) = reply_at(&relay, Stage::Message).await;
    assert!(said.starts_with("250"), "{said}");
    eventually("it is asked", || hooks.stages().contains(&Stage::Prepare)).await;
    assert_eq!(upstream.mails(), []);
    assert_eq!(relay.queued().len(), 1);
    hooks.relent();
    let waits = || relay.queued().iter().any(|message| message.in_flight == 0);
    eventually("it waits again", waits).await;
    let all = ChangeRequest { all: true, ..ChangeRequest::default() };
    let _: Applied = relay.client().post("/v1/queue/retry", &all).await.unwrap();
    relay.empty().await;
    assert_eq!(upstream.mails().len(), 1);
}
