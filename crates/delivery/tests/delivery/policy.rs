//! What policy may do to a copy and to an outcome.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use waypost_harness::upstream::{Act, Upstream};
use waypost_hooks::{
    Attempt, AttemptAnswer, AuthDecision, Credentials, Event, EventKind, Fault, FaultKind, Hooks,
    LaneAdvice, MessageAnswer, MessageView, Pass, Preparation, PreparedCopy, RecipientAnswer,
    Remedy, RouteDecision, RouteGroup, RouteView, SenderAnswer, SessionAnswer, Transaction, Way,
};
use waypost_mail::{Facts, Recipient, RecipientState, Timestamp};
use waypost_smtp::{PermanentReply, Phase, Reply};

use crate::relay::{MESSAGE, Plan, Post, Relay};

/// Answers as it was told, and notes what it was asked.
#[derive(Debug, Default)]
struct Policy {
    preparations: Mutex<Vec<Result<Preparation, Fault>>>,
    remedies: Mutex<Vec<(u32, Remedy)>>,
    advice: Mutex<Vec<LaneAdvice>>,
    attempt_fails: bool,
    panics: AtomicBool,
    routes: Mutex<Vec<Result<Vec<RouteGroup>, Fault>>>,
    asked: Mutex<Vec<String>>,
    events: Mutex<Vec<EventKind>>,
}

impl Policy {
    fn note(&self, text: String) {
        self.asked.lock().unwrap().push(text);
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn fault() -> Fault {
    Fault { who: "test".to_owned(), kind: FaultKind::Trap, text: "told to".to_owned() }
}

#[async_trait]
impl Hooks for Policy {
    async fn on_connect(&self, session: &Facts) -> Result<SessionAnswer, Fault> {
        Pass.on_connect(session).await
    }
    async fn on_helo(&self, session: &Facts) -> Result<SessionAnswer, Fault> {
        Pass.on_helo(session).await
    }
    async fn on_auth(&self, session: &Facts, c: &Credentials) -> Result<AuthDecision, Fault> {
        Pass.on_auth(session, c).await
    }
    async fn on_sender(&self, transaction: &Transaction<'_>) -> Result<SenderAnswer, Fault> {
        Pass.on_sender(transaction).await
    }
    async fn on_recipients(
        &self,
        transaction: &Transaction<'_>,
        recipients: &[Recipient],
    ) -> Result<Vec<RecipientAnswer>, Fault> {
        Pass.on_recipients(transaction, recipients).await
    }
    async fn on_message(&self, message: &MessageView<'_>) -> Result<MessageAnswer, Fault> {
        Pass.on_message(message).await
    }
    async fn on_route(&self, _: &RouteView<'_>) -> Result<Vec<RouteGroup>, Fault> {
        self.routes.lock().unwrap().pop().unwrap_or(Ok(Vec::new()))
    }
    async fn on_prepare(&self, copy: &PreparedCopy<'_>) -> Result<Preparation, Fault> {
        assert!(!self.panics.swap(false, Ordering::SeqCst), "told to");
        self.note(format!("prepare {} for {}", copy.recipients.len(), copy.hop));
        self.preparations.lock().unwrap().pop().unwrap_or(Ok(Preparation::default()))
    }
    async fn on_attempt(&self, attempt: &Attempt<'_>) -> Result<AttemptAnswer, Fault> {
        for result in attempt.results {
            let (outcome, retry) = (result.outcome.label(), result.planned_retry.is_some());
            self.note(format!("{outcome} at {:?}, retry {retry}", attempt.hop));
        }
        if self.attempt_fails {
            return Err(fault());
        }
        let remedies = std::mem::take(&mut *self.remedies.lock().unwrap());
        let advice = std::mem::take(&mut *self.advice.lock().unwrap());
        Ok(AttemptAnswer { remedies, advice, reasons: Vec::new() })
    }
    async fn on_events(&self, events: &[Event]) -> Result<(), Fault> {
        self.events.lock().unwrap().extend(events.iter().map(|event| event.kind));
        Ok(())
    }
}

async fn start(upstream: &Upstream, policy: Policy) -> (Relay, Arc<Policy>, Upstream) {
    let policy = Arc::new(policy);
    let (plan, home) = Plan::with(upstream);
    (plan.hooks(policy.clone()).run().await, policy, home)
}

const HOP: &str = "mx1.there.example[192.0.2.1]:25";

#[tokio::test(start_paused = true)]
async fn fields_are_put_in_front_of_the_copy() {
    let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let add_headers =
        vec![header("X-Copy", "for there\r\nBcc: x"), header("Bad: name", "x"), header("", "y")];
    let preparation = Preparation { add_headers, ..Preparation::default() };
    let policy = Policy { preparations: Mutex::new(vec![Ok(preparation)]), ..Policy::default() };
    let upstream = Upstream::new();
    let (relay, policy, _) = start(&upstream, policy).await;
    let id = relay.send().await;
    relay.gone(id).await;
    let expected = format!("X-Copy: for there Bcc: x\r\n{MESSAGE}");
    assert_eq!(upstream.mails()[0].content, expected);
    assert!(upstream.heard().contains(&format!(" SIZE={}\r\n", expected.len())));
    let asked =
        [format!("prepare 1 for {HOP}"), format!("delivered at Some(\"{HOP}\"), retry false")];
    assert_eq!(policy.asked(), asked);
    relay.until("the event", || *policy.events.lock().unwrap() == [EventKind::Delivered]).await;
}

#[tokio::test(start_paused = true)]
async fn policy_that_fails_or_postpones_costs_no_attempt() {
    let later = Timestamp(1_800_057_600_000).after(Duration::from_secs(7200));
    let postponed = Preparation { postpone_until: Some(later), ..Preparation::default() };
    let preparations = vec![Ok(postponed), Err(fault())];
    let policy = Policy { preparations: Mutex::new(preparations), ..Policy::default() };
    let upstream = Upstream::new();
    let (relay, policy, _) = start(&upstream, policy).await;
    let id = relay.send().await;
    relay.until("both answers", || policy.asked().len() == 2).await;
    assert_eq!(relay.waiting(id).map(|(tries, _, _)| tries), Some(0));
    relay.gone(id).await;
    assert!(relay.clock.now() >= later);
    assert_eq!(upstream.mails().len(), 1);
    assert_eq!(policy.asked().len(), 4, "on_attempt was asked about the one attempt alone");
}

#[tokio::test(start_paused = true)]
async fn policy_that_goes_on_failing_is_asked_less_and_less_often() {
    let preparations = Mutex::new((0..6).map(|_| Err(fault())).collect());
    let upstream = Upstream::new();
    let policy = Policy { preparations, ..Policy::default() };
    let (relay, policy, _) = start(&upstream, policy).await;
    let id = relay.send().await;
    relay.gone(id).await;
    assert_eq!(upstream.mails().len(), 1);
    assert_eq!(policy.asked().len(), 8, "seven copies and one attempt");
    // Asked after 0, 1, 2, 4, 8, 16 and 31 minutes.
    let waited = relay.clock.now().since(Timestamp(1_800_057_600_000));
    assert!((1860..1900).contains(&waited.as_secs()), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn remedies_replace_what_the_host_planned() {
    let soon = Timestamp(1_800_057_600_000).after(Duration::from_secs(30));
    let upstream = Upstream::new().once(Phase::Rcpt, Act::Say("550 5.7.1 no".into()));
    let remedies = Mutex::new(vec![(0, Remedy::RetryAt(soon))]);
    let (relay, policy, home) = start(&upstream, Policy { remedies, ..Policy::default() }).await;
    let id = relay.send().await;
    relay.gone(id).await;
    assert_eq!((upstream.mails().len(), home.mails().len()), (1, 0), "a bounce was softened");
    assert!(policy.asked().contains(&format!("bounced at Some(\"{HOP}\"), retry false")));

    let upstream = Upstream::new().on(Phase::Rcpt, Act::Say("450 4.7.1 not now".into()));
    let reply = PermanentReply::new(Reply::REFUSED_BY_POLICY.with_text("enough")).unwrap();
    let remedies = Mutex::new(vec![(0, Remedy::Fail(reply))]);
    let (relay, policy, home) = start(&upstream, Policy { remedies, ..Policy::default() }).await;
    let id = relay.send().await;
    relay.gone(id).await;
    relay.until("the notice", || home.mails().len() == 1).await;
    assert!(home.mails()[0].content.contains("554 5.7.1 enough"));
    assert!(policy.asked().contains(&format!("deferred at Some(\"{HOP}\"), retry true")));

    let remedies = Mutex::new(vec![(0, Remedy::Hold("look at this".to_owned()))]);
    let (relay, _, _) = start(&upstream, Policy { remedies, ..Policy::default() }).await;
    let id = relay.send().await;
    relay.until("a hold", || relay.queue.status().held == 1).await;
    let state = relay.queue.show(id).unwrap().recipients[0].state.clone();
    assert!(matches!(state, RecipientState::Held { reason, .. } if reason == "look at this"));
}

#[tokio::test(start_paused = true)]
async fn a_delivered_recipient_stays_delivered_and_faults_change_nothing() {
    let remedies = Mutex::new(vec![(0, Remedy::Hold("too late".to_owned()))]);
    let upstream = Upstream::new();
    let (relay, _, _) = start(&upstream, Policy { remedies, ..Policy::default() }).await;
    let id = relay.send().await;
    relay.gone(id).await;
    assert_eq!(upstream.mails().len(), 1);

    let upstream = Upstream::new().once(Phase::Rcpt, Act::Say("450 4.7.1 not now".into()));
    let policy = Policy { attempt_fails: true, ..Policy::default() };
    let (relay, _, _) = start(&upstream, policy).await;
    let id = relay.send().await;
    relay.gone(id).await;
    assert_eq!(upstream.mails().len(), 1, "the planned retry came");
}

#[tokio::test(start_paused = true)]
async fn a_destination_is_left_alone_when_policy_asks_for_it() {
    let pause = Duration::from_secs(900);
    let advice = LaneAdvice {
        destination: "there.example".to_owned(),
        pause: Some(pause),
        max_concurrent: None,
        valid: Duration::ZERO,
    };
    let policy = Policy { advice: Mutex::new(vec![advice]), ..Policy::default() };
    let upstream = Upstream::new();
    let (relay, _, _) = start(&upstream, policy).await;
    let first = relay.send().await;
    let second =
        relay.post(Post { recipients: vec!["eve@there.example"], ..Post::default() }).await;
    relay.gone(first).await;
    relay.gone(second).await;
    let third = relay.send().await;
    relay.gone(third).await;
    assert_eq!(upstream.mails().len(), 3);
    assert!(relay.clock.now() >= Timestamp(1_800_057_600_000).after(pause));
}

#[tokio::test(start_paused = true)]
async fn a_panic_loses_nothing() {
    let policy = Policy { panics: AtomicBool::new(true), ..Policy::default() };
    let upstream = Upstream::new();
    let (relay, _, _) = start(&upstream, policy).await;
    let id = relay.send().await;
    relay.gone(id).await;
    assert_eq!(upstream.mails().len(), 1);
    assert_eq!(relay.delivery.metrics().in_flight.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_message_without_a_route_asks_again() {
    let decision = RouteDecision::Route(Way::default());
    let group = RouteGroup { recipients: vec![0], decision, reasons: Vec::new() };
    let routes = Mutex::new(vec![Ok(vec![group]), Err(fault())]);
    let upstream = Upstream::new();
    let (relay, _, _) = start(&upstream, Policy { routes, ..Policy::default() }).await;
    let route = waypost_intake::undecided();
    let id = relay.post(Post { route, ..Post::default() }).await;
    relay.gone(id).await;
    assert_eq!(upstream.mails().len(), 1);
    assert!(relay.clock.now() >= Timestamp(1_800_057_600_000).after(Duration::from_secs(60)));
}
