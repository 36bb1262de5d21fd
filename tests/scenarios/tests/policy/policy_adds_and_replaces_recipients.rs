//! A stranger at port 25 may send to `inside.example` and to nobody else. Policy puts others in a
//! recipient's place or adds them: where it was granted that, or where the stranger could have sent
//! itself. Nothing that policy says makes the relay an open one.

use waypost_harness::upstream::Upstream;
use waypost_hooks::{MessageAnswer, MessageEdit, RecipientAnswer, Replacement};
use waypost_scenarios::{Door, Home, Running};

use crate::says::Says;

fn replacement(address: &str, granted: bool) -> Replacement {
    Replacement { mailbox: address.parse().unwrap(), granted }
}

/// Recipients say themselves whom policy is to put in their place.
fn replaces(local: &str) -> Vec<Replacement> {
    match local {
        "team" => {
            vec![replacement("one@inside.example", false), replacement("two@inside.example", false)]
        }
        "away" => vec![replacement("away@granted.example", true)],
        "escape" => vec![replacement("victim@outside.example", false)],
        // One that is fine does not carry another along.
        "both" => vec![
            replacement("fine@inside.example", false),
            replacement("victim@outside.example", false),
        ],
        _ => Vec::new(),
    }
}

struct World {
    relay: Running,
    upstream: Upstream,
}

async fn world(policy: Says) -> World {
    let upstream = Upstream::new();
    let home = Home::new()
        .set("relay", "domains", "[\"inside.example\", \"also.example\"]")
        .hooks(policy.ready())
        .route("*", upstream.listen().await.unwrap());
    World { relay: home.start().await, upstream }
}

impl World {
    /// Everybody who was written to, once nothing is left to send.
    async fn reached(&self) -> Vec<String> {
        self.relay.empty().await;
        let mut all: Vec<String> =
            self.upstream.mails().into_iter().flat_map(|mail| mail.to).collect();
        all.sort();
        all
    }
}

#[tokio::test]
async fn at_rcpt() {
    let policy = Says::new().of_a_recipient(|recipient| RecipientAnswer {
        replace_with: replaces(recipient.mailbox.local()),
        ..RecipientAnswer::default()
    });
    let world = world(policy).await;
    let mut peer = world.relay.peer(Door::Relay).await;
    peer.hello().await;
    peer.expect("MAIL FROM:<stranger@elsewhere.example>", "250").await;
    for (to, reply) in [
        ("team@inside.example", "250 2.1.5"),
        ("away@inside.example", "250 2.1.5"),
        ("escape@inside.example", "550 5.7.1 Relaying denied"),
        ("both@inside.example", "550 5.7.1 Relaying denied"),
        // Where policy may send, the stranger may not.
        ("team@granted.example", "550 5.7.1 Relaying denied"),
        ("victim@outside.example", "550 5.7.1 Relaying denied"),
    ] {
        peer.expect(&format!("RCPT TO:<{to}>"), reply).await;
    }
    let reply = peer.data("Subject: x\r\n\r\ny\r\n").await;
    assert!(reply.starts_with("250"), "{reply}");
    let expected = ["away@granted.example", "one@inside.example", "two@inside.example"];
    assert_eq!(world.reached().await, expected);
    world.relay.stop().await;
}

/// What policy adds to a message, by its subject.
fn adds(subject: &str) -> Vec<MessageEdit> {
    let add = |address: &str, granted| MessageEdit::AddRecipient(replacement(address, granted));
    match subject {
        "archive" => vec![add("archive@also.example", false)],
        "granted" => vec![add("copy@granted.example", true)],
        "escape" => vec![add("victim@outside.example", false)],
        // A grant for one is none for its neighbour.
        "neighbour" => {
            vec![add("copy@granted.example", true), add("victim@granted.example", false)]
        }
        "instead" => vec![add("other@inside.example", false), MessageEdit::RemoveRecipient(0)],
        _ => Vec::new(),
    }
}

#[tokio::test]
async fn at_the_end_of_data() {
    let policy = Says::new().of_a_message(|view| {
        let subject = view.text.header.first("Subject").unwrap_or_default();
        MessageAnswer { edits: adds(&subject), ..MessageAnswer::default() }
    });
    let world = world(policy).await;
    let mut peer = world.relay.peer(Door::Relay).await;
    peer.hello().await;
    for (subject, reply) in [
        ("plain", "250"),
        ("archive", "250"),
        ("granted", "250"),
        ("escape", "451 4.3.0"),
        ("neighbour", "451 4.3.0"),
        ("instead", "250"),
    ] {
        peer.envelope("stranger@elsewhere.example", &[&format!("{subject}@inside.example")]).await;
        let said = peer.data(format!("Subject: {subject}\r\n\r\ny\r\n")).await;
        assert!(said.starts_with(reply), "{subject}: {said}");
    }
    let expected = [
        "archive@also.example",
        "archive@inside.example",
        "copy@granted.example",
        "granted@inside.example",
        "other@inside.example",
        "plain@inside.example",
    ];
    assert_eq!(world.reached().await, expected);
    world.relay.stop().await;
}

/// Granted at RCPT, a domain is still not open to what policy adds later without a grant.
#[tokio::test]
async fn one_stage_opens_no_door_for_the_next() {
    let policy = Says::new()
        .of_a_recipient(|recipient| RecipientAnswer {
            replace_with: replaces(recipient.mailbox.local()),
            ..RecipientAnswer::default()
        })
        .edits(vec![MessageEdit::AddRecipient(replacement("victim@granted.example", false))]);
    let world = world(policy).await;
    let mut peer = world.relay.peer(Door::Relay).await;
    peer.hello().await;
    peer.envelope("stranger@elsewhere.example", &["away@inside.example"]).await;
    let reply = peer.data("Subject: x\r\n\r\ny\r\n").await;
    assert!(reply.starts_with("451 4.3.0"), "{reply}");
    assert_eq!(world.reached().await, Vec::<String>::new());
    world.relay.stop().await;
}
