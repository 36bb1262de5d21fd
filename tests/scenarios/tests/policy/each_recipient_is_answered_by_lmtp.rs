//! By LMTP each recipient has a reply of its own behind the message: what policy says of one of them is
//! said to one of them, and the message goes to the others.

use waypost_harness::upstream::Upstream;
use waypost_hooks::{
    MessageAnswer, MessageView, RecipientAnswer, RecipientVerdict, Refusal, Replacement,
    RouteDecision, RouteGroup,
};
use waypost_mail::Recipient;
use waypost_scenarios::{Door, Home, Peer};
use waypost_smtp::{PermanentReply, Reply, TransientReply};

use crate::says::Says;

const CONTENT: &str = "Subject: x\r\n\r\ny\r\n";

/// Recipients called `full@` are refused for now, `gone@` and `half@` for good.
fn verdicts(view: &MessageView<'_>) -> MessageAnswer {
    let verdict = |recipient: &Recipient| {
        let full = TransientReply::new(Reply::fixed(452, (4, 2, 2), "Full")).unwrap();
        let gone = PermanentReply::new(Reply::fixed(550, (5, 1, 1), "Gone")).unwrap();
        let verdict = match recipient.mailbox.local() {
            "full" => Refusal::Tempfail(full),
            "gone" | "half" => Refusal::Reject(gone),
            _ => return None,
        };
        Some(RecipientVerdict { id: recipient.id, verdict, reasons: Vec::new() })
    };
    let recipients = view.transaction.recipients.iter().filter_map(verdict).collect();
    MessageAnswer { recipients, ..MessageAnswer::default() }
}

async fn peer(relay: &waypost_scenarios::Running) -> Peer {
    let mut peer = Peer::to(relay.address(Door::Lmtp)).await;
    peer.hear("220 relay.example LMTP").await;
    peer.expect("EHLO peer.example", "500 5.5.2").await;
    peer.expect("LHLO peer.example", "250-relay.example").await;
    peer
}

/// The replies behind a message to these; they are all taken at RCPT.
async fn replies(peer: &mut Peer, to: &[&str]) -> Vec<String> {
    peer.envelope("a@sender.example", to).await;
    let mut replies = vec![peer.data(CONTENT).await];
    while replies.len() < to.len() {
        replies.push(peer.reply().await);
    }
    replies
}

#[tokio::test]
async fn by_what_policy_says_of_the_message() {
    let upstream = Upstream::new();
    let policy = Says::new().of_a_message(verdicts);
    let home = Home::new().trusting().door(Door::Lmtp).hooks(policy.ready());
    let home = home.route("*", upstream.listen().await.unwrap());
    let relay = home.start().await;
    let mut peer = peer(&relay).await;
    let to = ["b@d.example", "full@d.example", "c@d.example", "gone@d.example", "b@d.example"];
    let said = replies(&mut peer, &to).await;
    assert!(said[0].starts_with("250 2.0.0 OK queued as "), "{said:?}");
    assert_eq!(said[1..4], ["452 4.2.2 Full", said[0].as_str(), "550 5.1.1 Gone"]);
    assert_eq!(said[4], said[0]);
    relay.empty().await;
    let mails = upstream.mails();
    assert_eq!(mails.len(), 1, "nobody bounces who was answered: {mails:?}");
    assert_eq!(mails[0].to, ["b@d.example", "c@d.example"]);
    assert!(mails[0].content.replace("\r\n ", " ").contains(" with LMTP id "), "{mails:?}");
    // Where nobody is left nothing is kept.
    let said = replies(&mut peer, &["gone@d.example", "full@d.example"]).await;
    assert_eq!(said, ["550 5.1.1 Gone", "452 4.2.2 Full"]);
    assert!(relay.queued().is_empty());
    assert_eq!(
        relay
            .counter("waypost_inbound_messages_total{listener=\"lmtp\",result=\"accepted\"}")
            .await,
        1
    );
    peer.expect("QUIT", "221").await;
    relay.stop().await;
}

/// Who stands for two is refused only when both are; the other one bounces.
#[tokio::test]
async fn for_all_whom_policy_puts_in_its_place() {
    let upstream = Upstream::new();
    let policy = Says::new().of_a_message(verdicts).of_a_recipient(|recipient| {
        let all = match recipient.mailbox.local() {
            "list" => ["half@d.example", "b@d.example"],
            "old" => ["gone@d.example", "half@d.example"],
            _ => return RecipientAnswer::default(),
        };
        let replace_with = all.map(|name| Replacement::checked(name.parse().unwrap())).to_vec();
        RecipientAnswer { replace_with, ..RecipientAnswer::default() }
    });
    let home = Home::new().trusting().door(Door::Lmtp).hooks(policy.ready());
    let home = home.route("*", upstream.listen().await.unwrap());
    let relay = home.start().await;
    let mut peer = peer(&relay).await;
    let said = replies(&mut peer, &["old@d.example", "list@d.example"]).await;
    assert_eq!(said[0], "550 5.1.1 Gone");
    assert!(said[1].starts_with("250 "), "{said:?}");
    relay.empty().await;
    let mut to: Vec<_> = upstream.mails().into_iter().map(|mail| mail.to).collect();
    to.sort();
    assert_eq!(to, [["a@sender.example"], ["b@d.example"]], "the notice, and the message");
    relay.stop().await;
}

#[tokio::test]
async fn by_the_way_that_policy_refuses() {
    let upstream = Upstream::new();
    let policy = Says::new().of_a_route(|view| {
        let none = PermanentReply::new(Reply::fixed(550, (5, 4, 4), "No way")).unwrap();
        let ids = view.recipients.iter().filter(|r| r.mailbox.local() == "far").map(|r| r.id);
        let decision = RouteDecision::Fail(none);
        Ok(vec![RouteGroup { recipients: ids.collect(), decision, reasons: Vec::new() }])
    });
    let home = Home::new().trusting().door(Door::Lmtp).hooks(policy.ready());
    let home = home.route("*", upstream.listen().await.unwrap());
    let relay = home.start().await;
    let mut peer = peer(&relay).await;
    let said = replies(&mut peer, &["far@d.example", "b@d.example"]).await;
    assert_eq!(said[0], "550 5.4.4 No way");
    assert!(said[1].starts_with("250 "), "{said:?}");
    let said = replies(&mut peer, &["far@d.example"]).await;
    assert_eq!(said, ["550 5.4.4 No way"]);
    relay.empty().await;
    assert_eq!(upstream.mails().len(), 1);
    assert_eq!(upstream.mails()[0].to, ["b@d.example"]);
    relay.stop().await;
}
