//! A copy leaves with an envelope sender of its own (VERP): what comes back of it tells who it was for.
//! Our own notice still goes to whoever sent the message.

use waypost_harness::upstream::Upstream;
use waypost_hooks::{Preparation, SenderChange};
use waypost_scenarios::{Door, Home};
use waypost_smtp::ReversePath;

use crate::says::Says;

fn verp() -> Says {
    Says::new().of_a_copy(|copy| {
        if copy.entry.facts.listener == "internal" {
            return Ok(Preparation::default());
        }
        let to = copy.recipients[0].recipient.mailbox.to_string().replace('@', "=");
        let sender = format!("bounce+{to}@lists.example").parse().unwrap();
        let sender = SenderChange::To(ReversePath::Mailbox(sender));
        Ok(Preparation { sender, ..Preparation::default() })
    })
}

#[tokio::test]
async fn of_this_copy_alone() {
    let upstream = Upstream::new().refusing("no@dest.example", "550 5.1.1 nobody");
    let (senders, lists) = (Upstream::new(), Upstream::new());
    let home = Home::new()
        .trusting()
        .hooks(verp().ready())
        .route("lists.example", lists.listen().await.unwrap())
        .route("sender.example", senders.listen().await.unwrap())
        .route("*", upstream.listen().await.unwrap());
    let relay = home.start().await;
    let mut peer = relay.peer(Door::Relay).await;
    peer.hello().await;
    for to in ["b@dest.example", "no@dest.example"] {
        peer.deliver("a@sender.example", &[to], "From: a@sender.example\r\n\r\ny\r\n").await;
    }
    relay.empty().await;
    let [mail] = &upstream.mails()[..] else { panic!("{:?}", upstream.mails()) };
    assert_eq!(mail.from, "bounce+b=dest.example@lists.example");
    let [notice] = &senders.mails()[..] else { panic!("{:?}", senders.mails()) };
    assert_eq!((notice.from.as_str(), &notice.to[..]), ("", &["a@sender.example".to_owned()][..]));
    assert!(notice.content.contains("550 5.1.1 nobody"), "{}", notice.content);
    assert_eq!(lists.connections(), 0);
    relay.stop().await;
}

/// The null sender too, and one that only SMTPUTF8 can name.
#[tokio::test]
async fn whatever_it_is() {
    for (sender, expected) in [
        (ReversePath::Null, "MAIL FROM:<> "),
        (ReversePath::Mailbox("j\u{fc}rgen@lists.example".parse().unwrap()), "SMTPUTF8"),
    ] {
        let upstream = Upstream::new();
        let policy = Says::new().of_a_copy(move |_| {
            let sender = SenderChange::To(sender.clone());
            Ok(Preparation { sender, ..Preparation::default() })
        });
        let home = Home::new().trusting().hooks(policy.ready());
        let relay = home.route("*", upstream.listen().await.unwrap()).start().await;
        let mut peer = relay.peer(Door::Relay).await;
        peer.hello().await;
        peer.deliver("a@sender.example", &["b@dest.example"], "Subject: x\r\n\r\ny\r\n").await;
        relay.empty().await;
        let heard = upstream.heard();
        let mail = heard.lines().find(|line| line.starts_with("MAIL")).unwrap();
        assert!(mail.contains(expected), "{mail}");
        relay.stop().await;
    }
}
