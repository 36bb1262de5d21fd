//! From alice@home.example through the relay to there.example, and notices back.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use waypost_harness::upstream::{Mail, Upstream};
use waypost_mail::{Entry, MessageId, RecipientState, Why};
use waypost_scenarios::{Door, Home, PATIENCE, Running, eventually};

/// Who sends.
pub(crate) const ALICE: &str = "alice@home.example";
/// Who is written to.
pub(crate) const BOB: &str = "bob@there.example";
/// Retries that do not come by themselves while a story lasts.
pub(crate) const LATER: &str = "\"1h\"";

/// A relay, and what alice gets.
pub(crate) struct Way {
    pub(crate) relay: Running,
    pub(crate) alice: Upstream,
    pub(crate) home: Home,
}

impl Way {
    /// All mail but alice's goes to this upstream.
    pub(crate) async fn to(upstream: &Upstream) -> Way {
        Way::through(home_to(upstream.listen().await.unwrap())).await
    }

    /// The same, and what failed waits until somebody says so.
    pub(crate) async fn patiently_to(upstream: &Upstream) -> Way {
        Way::through(patient(home_to(upstream.listen().await.unwrap()))).await
    }

    /// A relay as this home has it; alice's mail box is added.
    pub(crate) async fn through(home: Home) -> Way {
        Way::with_alice(home, Upstream::new()).await
    }

    /// The same with a mail box for alice that has a script.
    pub(crate) async fn with_alice(home: Home, alice: Upstream) -> Way {
        let home = home.trusting().route_first("home.example", alice.listen().await.unwrap());
        Way { relay: home.start().await, alice, home }
    }

    /// Alice writes to bob; the message's id.
    pub(crate) async fn send(&self) -> String {
        self.send_to(&[BOB]).await
    }

    /// Alice writes to these.
    pub(crate) async fn send_to(&self, to: &[&str]) -> String {
        self.post(ALICE, to, "Hello").await
    }

    /// Somebody writes to these.
    pub(crate) async fn post(&self, from: &str, to: &[&str], subject: &str) -> String {
        let mut peer = self.relay.peer(Door::Relay).await;
        peer.hello().await;
        let content = format!(
            "From: <{ALICE}>\r\nMessage-ID: <{subject}@home.example>\r\nSubject: {subject}\r\n\r\nThe text.\r\n"
        );
        peer.deliver(from, to, &content).await
    }

    /// The message as it stands; absent when it is settled.
    pub(crate) fn entry(&self, id: &str) -> Option<Entry> {
        self.relay.queue().show(id.parse().unwrap()).ok()
    }

    /// Why the first recipient waits that was tried, once no attempt is under way: the cause alone, without
    /// what it means.
    pub(crate) async fn deferred(&self, id: &str) -> Why {
        let mut why = None;
        eventually("a recipient that waits after an attempt", || {
            let entry = self.entry(id).unwrap_or_else(|| panic!("{id} is settled"));
            why = entry.recipients.iter().find_map(|recipient| match &recipient.state {
                RecipientState::Waiting { last: Some(why), .. } => Some(why.clone()),
                _ => None,
            });
            why.is_some() && self.relay.queued().iter().all(|message| message.in_flight == 0)
        })
        .await;
        why.unwrap().cause().clone()
    }

    /// Waits until the message is settled.
    pub(crate) async fn settled(&self, id: &str) {
        let began = Instant::now();
        while let Some(entry) = self.entry(id) {
            assert!(began.elapsed() < PATIENCE, "it is not settled: {entry:#?}");
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Tries a message at once.
    pub(crate) async fn retry(&self, id: &str) {
        let touched = self.relay.queue().retry(id.parse::<MessageId>().unwrap()).await.unwrap();
        assert!(touched.changed > 0, "there is something to try again");
    }

    /// What alice has got, once it is so many.
    pub(crate) async fn notices(&self, count: usize) -> Vec<Mail> {
        eventually("alice gets her notices", || self.alice.mails().len() >= count).await;
        let mails = self.alice.mails();
        assert_eq!(mails.len(), count, "{mails:#?}");
        mails
    }
}

/// A home from which all mail goes to one address.
pub(crate) fn home_to(address: SocketAddr) -> Home {
    Home::new().route("*", address)
}

/// What failed waits until somebody says so.
pub(crate) fn patient(home: Home) -> Home {
    home.set("queue", "first-retry", LATER).set("queue", "max-retry", LATER)
}

/// A port of loopback where nobody listens: it was free a moment ago.
pub(crate) fn nobody() -> SocketAddr {
    std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap()
}
