//! Another policy comes into force while a transaction is under way: what began with the old one ends
//! with it, and the next transaction has the new one.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use waypost_harness::upstream::Upstream;
use waypost_hooks::{
    Attempt, AttemptAnswer, AuthDecision, Credentials, Event, Fault, Hooks, MessageAnswer,
    MessageView, Preparation, PreparedCopy, RecipientAnswer, RouteGroup, RouteView, SenderAnswer,
    SessionAnswer, Transaction,
};
use waypost_mail::{Attr, Facts, MessageId, Recipient};
use waypost_scenarios::{Door, Home};

use crate::says::{Says, all_go, by_name, field, with_hop};

/// Whatever is in force.
#[derive(Debug)]
struct Changing(Mutex<Arc<Says>>);

impl Changing {
    fn current(&self) -> Arc<Says> {
        self.0.lock().unwrap().clone()
    }
}

#[async_trait]
impl Hooks for Changing {
    async fn on_connect(&self, session: &Facts) -> Result<SessionAnswer, Fault> {
        self.current().on_connect(session).await
    }
    async fn on_helo(&self, session: &Facts) -> Result<SessionAnswer, Fault> {
        self.current().on_helo(session).await
    }
    async fn on_auth(&self, session: &Facts, given: &Credentials) -> Result<AuthDecision, Fault> {
        self.current().on_auth(session, given).await
    }
    async fn on_sender(&self, transaction: &Transaction<'_>) -> Result<SenderAnswer, Fault> {
        self.current().on_sender(transaction).await
    }
    async fn on_recipients(
        &self,
        transaction: &Transaction<'_>,
        recipients: &[Recipient],
    ) -> Result<Vec<RecipientAnswer>, Fault> {
        self.current().on_recipients(transaction, recipients).await
    }
    async fn on_message(&self, message: &MessageView<'_>) -> Result<MessageAnswer, Fault> {
        self.current().on_message(message).await
    }
    async fn on_route(&self, message: &RouteView<'_>) -> Result<Vec<RouteGroup>, Fault> {
        self.current().on_route(message).await
    }
    async fn on_prepare(&self, copy: &PreparedCopy<'_>) -> Result<Preparation, Fault> {
        self.current().on_prepare(copy).await
    }
    async fn on_attempt(&self, attempt: &Attempt<'_>) -> Result<AttemptAnswer, Fault> {
        self.current().on_attempt(attempt).await
    }
    async fn on_events(&self, _: &[Event]) -> Result<(), Fault> {
        Ok(())
    }
    fn pin(&self, _: MessageId) -> Option<Arc<dyn Hooks>> {
        Some(self.current())
    }
}

/// Leaves its name at every stage of a transaction, and at every copy.
fn generation(name: &'static str) -> Arc<Says> {
    let attr = Attr { name: "story/by".to_owned(), value: name.to_owned() };
    let here = move |_: &Recipient| RecipientAnswer {
        meta: vec![attr.clone()],
        ..RecipientAnswer::default()
    };
    Says::new()
        .of_a_recipient(here)
        .edits(vec![field("X-Message", name)])
        .of_a_route(move |view| Ok(all_go(view, by_name(name))))
        .of_a_copy(move |_| {
            let add_headers = vec![("X-Copy".to_owned(), name.to_owned())];
            Ok(Preparation { add_headers, ..Preparation::default() })
        })
        .ready()
}

#[tokio::test]
async fn a_transaction_ends_with_the_policy_it_began_with() {
    let policy = Arc::new(Changing(Mutex::new(generation("old"))));
    let (old, new) = (Upstream::new(), Upstream::new());
    let home = Home::new().trusting().hooks(policy.clone());
    let home = with_hop(home, "old", old.listen().await.unwrap());
    let home = with_hop(home, "new", new.listen().await.unwrap());
    let relay = home.start().await;
    let mut peer = relay.peer(Door::Relay).await;
    peer.hello().await;
    peer.envelope("a@sender.example", &[]).await;
    *policy.0.lock().unwrap() = generation("new");
    peer.expect("RCPT TO:<b@dest.example>", "250").await;
    let reply = peer.data("Subject: x\r\n\r\ny\r\n").await;
    assert!(reply.starts_with("250"), "{reply}");
    let first = reply.rsplit(' ').next().unwrap().to_owned();
    relay.empty().await;
    let [mail] = &old.mails()[..] else { panic!("{:?} {:?}", old.mails(), new.mails()) };
    assert!(mail.content.contains("\r\nX-Message: old\r\n"), "{}", mail.content);
    assert!(mail.content.starts_with("X-Copy: new\r\n"), "behind the door the current one speaks");
    assert!(new.mails().is_empty());

    let second = peer.deliver("a@sender.example", &["b@dest.example"], "Subject: x\r\n\r\ny\r\n");
    assert_ne!(second.await, first);
    relay.empty().await;
    let [mail] = &new.mails()[..] else { panic!("{:?}", new.mails()) };
    assert!(mail.content.contains("\r\nX-Message: new\r\n"), "{}", mail.content);
    assert_eq!(old.mails().len(), 1);
    relay.stop().await;
}

/// RSET ends a transaction, and what it was pinned to.
#[tokio::test]
async fn the_next_transaction_has_the_new_policy() {
    let policy = Arc::new(Changing(Mutex::new(generation("old"))));
    let (old, new) = (Upstream::new(), Upstream::new());
    let home = Home::new().trusting().hooks(policy.clone());
    let home = with_hop(home, "old", old.listen().await.unwrap());
    let home = with_hop(home, "new", new.listen().await.unwrap());
    let relay = home.start().await;
    let mut peer = relay.peer(Door::Relay).await;
    peer.hello().await;
    peer.envelope("a@sender.example", &["b@dest.example"]).await;
    *policy.0.lock().unwrap() = generation("new");
    peer.expect("RSET", "250").await;
    peer.deliver("a@sender.example", &["b@dest.example"], "Subject: x\r\n\r\ny\r\n").await;
    relay.empty().await;
    assert_eq!((old.mails().len(), new.mails().len()), (0, 1));
    relay.stop().await;
}
