//! What policy says is carried out, and what it may not say is not.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use waypost_hooks::*;
use waypost_mail::{Attr, Facts, Recipient};
use waypost_smtp::{PermanentReply, Reply, ReversePath, TransientReply};
use waypost_spool::Spool as _;

use super::setup::{House, b64};
use crate::ListenerKind::{Relay, Submission};

/// Answers by what the peer says: its HELO name and its addresses are the script.
#[derive(Debug)]
pub(super) struct Script {
    /// At connection; a fault when absent.
    pub(super) connect: Option<Verdict>,
}

fn fault() -> Fault {
    Fault { who: "script".into(), kind: FaultKind::Trap, text: "asked to fail".into() }
}

fn refusal() -> Refusal {
    Refusal::Reject(PermanentReply::new(Reply::REFUSED_BY_POLICY).unwrap())
}

fn later() -> Refusal {
    Refusal::Tempfail(TransientReply::new(Reply::LOCAL_ERROR.with_text("later")).unwrap())
}

fn checked(address: &str) -> Replacement {
    Replacement::checked(address.parse().unwrap())
}

fn attr(name: &str) -> Attr {
    Attr { name: name.into(), value: "x".into() }
}

#[async_trait]
impl Hooks for Script {
    async fn on_connect(&self, _: &Facts) -> Result<SessionAnswer, Fault> {
        let verdict = self.connect.clone().ok_or_else(fault)?;
        Ok(SessionAnswer { verdict, meta: vec![attr("at/connect")], ..Default::default() })
    }

    async fn on_helo(&self, session: &Facts) -> Result<SessionAnswer, Fault> {
        let verdict = match session.helo.as_deref() {
            Some("refuse") => Verdict::Refuse(refusal()),
            Some("disconnect") => Verdict::Disconnect(refusal()),
            Some("fault") => return Err(fault()),
            Some("attr") => {
                return Ok(SessionAnswer { meta: vec![attr("BAD NAME")], ..Default::default() });
            }
            Some("marked") => {
                return Ok(SessionAnswer { meta: vec![attr("at/helo")], ..Default::default() });
            }
            _ => Verdict::Proceed,
        };
        Ok(SessionAnswer { verdict, delay: Duration::from_secs(3600), ..Default::default() })
    }

    async fn on_auth(&self, _: &Facts, given: &Credentials) -> Result<AuthDecision, Fault> {
        match given.authcid.as_str() {
            "oracle@example.org" => Ok(AuthDecision::Allow(given.authcid.clone())),
            "oracle" => Ok(AuthDecision::Allow("tenant/7".into())),
            "banned" => Ok(AuthDecision::Deny(later())),
            "fault" => Err(fault()),
            _ => Ok(AuthDecision::Proceed),
        }
    }

    async fn on_sender(&self, transaction: &Transaction<'_>) -> Result<SenderAnswer, Fault> {
        let mut answer = SessionAnswer { meta: vec![attr("at/sender")], ..Default::default() };
        let from = transaction.sender.to_string();
        match from.split('@').next() {
            Some("refuse") => answer.verdict = Verdict::Refuse(later()),
            Some("fault") => return Err(fault()),
            Some("change") => return Ok((answer, SenderChange::To(ReversePath::Null))),
            _ => {}
        }
        Ok((answer, SenderChange::Keep))
    }

    async fn on_recipients(
        &self,
        _: &Transaction<'_>,
        recipients: &[Recipient],
    ) -> Result<Vec<RecipientAnswer>, Fault> {
        let mut answers = Vec::new();
        for recipient in recipients {
            let mut answer = RecipientAnswer { meta: vec![attr("at/rcpt")], ..Default::default() };
            match recipient.mailbox.local() {
                "refuse" => answer.verdict = Verdict::Refuse(refusal()),
                "disconnect" => answer.verdict = Verdict::Disconnect(refusal()),
                "replace" => {
                    let team = ["one@example.org", "two@example.org"];
                    answer.replace_with = team.map(checked).into();
                }
                "escape" => answer.replace_with = vec![checked("x@outside.example")],
                "grant" => {
                    let granted = Replacement { granted: true, ..checked("x@granted.example") };
                    answer.replace_with = vec![granted];
                }
                "fault" => return Err(fault()),
                "short" => return Ok(Vec::new()),
                other => assert_ne!(other, "denied", "asked about what may not be relayed"),
            }
            answers.push(answer);
        }
        Ok(answers)
    }

    async fn on_message(&self, _: &MessageView<'_>) -> Result<MessageAnswer, Fault> {
        Ok(MessageAnswer::default())
    }

    async fn on_route(&self, _: &RouteView<'_>) -> Result<Vec<RouteGroup>, Fault> {
        Ok(Vec::new())
    }

    async fn on_prepare(&self, _: &PreparedCopy<'_>) -> Result<Preparation, Fault> {
        Ok(Preparation::default())
    }

    async fn on_attempt(&self, _: &Attempt<'_>) -> Result<AttemptAnswer, Fault> {
        Ok(AttemptAnswer::default())
    }

    async fn on_events(&self, _: &[Event]) -> Result<(), Fault> {
        Ok(())
    }
}

async fn house() -> House {
    house_with(Some(Verdict::Proceed)).await
}

async fn house_with(connect: Option<Verdict>) -> House {
    House::with(Arc::new(Script { connect }), Duration::from_secs(5), |settings| {
        settings.relay.domains.push("example.org".parse().unwrap());
        settings.limits.max_delay = Duration::from_millis(10);
    })
    .await
}

#[tokio::test]
async fn a_connection_is_refused_put_off_or_ended() {
    for (connect, greeting, over) in [
        (None, "421 4.3.0", true),
        (Some(Verdict::Disconnect(refusal())), "554 5.7.1", true),
        (Some(Verdict::Refuse(refusal())), "554 5.7.1", false),
    ] {
        let house = house_with(connect).await;
        let mut peer = house.connect(Relay).await;
        assert!(peer.reply().await.starts_with(greeting));
        if !over {
            peer.expect("EHLO fine", "503").await;
            peer.expect("QUIT", "221").await;
        }
        assert!(peer.is_over().await);
    }
}

#[tokio::test]
async fn helo_is_refused_put_off_or_ended() {
    let house = house().await;
    let mut peer = house.knock(Relay).await;
    peer.expect("EHLO refuse", "554 5.7.1").await;
    peer.expect("MAIL FROM:<a@b.example>", "503").await;
    peer.expect("EHLO fine", "250-").await;
    peer.expect("EHLO disconnect", "554 5.7.1").await;
    assert!(peer.is_over().await);
    for name in ["fault", "attr"] {
        let mut peer = house.knock(Relay).await;
        peer.expect(&format!("EHLO {name}"), "421 4.3.0").await;
        assert!(peer.is_over().await);
    }
}

#[tokio::test]
async fn senders_and_recipients_are_ruled_one_by_one() {
    let house = house().await;
    let mut peer = house.knock(Relay).await;
    peer.expect("EHLO fine", "250-").await;
    peer.expect("MAIL FROM:<refuse@b.example>", "451 4.3.0 later").await;
    peer.expect("MAIL FROM:<fault@b.example>", "451 4.3.0").await;
    peer.expect("MAIL FROM:<change@b.example>", "250").await;
    for (to, expected) in [
        ("refuse@example.org", "554 5.7.1"),
        ("fault@example.org", "451 4.3.0"),
        ("short@example.org", "451 4.3.0"),
        ("denied@outside.example", "550 5.7.1"),
        ("escape@example.org", "550 5.7.1 Relaying denied"),
        ("replace@example.org", "250 2.1.5"),
        ("one@example.org", "250 2.1.5"),
        ("fine@example.org", "250 2.1.5"),
        ("grant@example.org", "250 2.1.5"),
    ] {
        peer.expect(&format!("RCPT TO:<{to}>"), expected).await;
    }
    peer.expect("DATA", "354").await;
    peer.expect("Subject: x\r\n\r\n.", "250").await;
    let (entry, _) = house.message();
    let to: Vec<_> = entry.recipients.iter().map(|r| r.recipient.mailbox.to_string()).collect();
    let expected = ["one@example.org", "two@example.org", "fine@example.org", "x@granted.example"];
    assert_eq!(to, expected);
    assert!(entry.recipients.iter().all(|r| r.recipient.meta == [attr("at/rcpt")]));
    let mut ids: Vec<_> = entry.recipients.iter().map(|r| r.recipient.id).collect();
    ids.dedup();
    assert_eq!(ids.len(), 4);
    assert_eq!(entry.sender, ReversePath::Null);
    // What is said about a sender is kept with the session, as the contract has it.
    assert_eq!(entry.facts.meta, [attr("at/connect"), attr("at/sender")]);
    assert_eq!(entry.meta, []);
}

/// RFC 3207 §4.2: what was said in clear text is forgotten. What policy knew before that stays.
#[tokio::test]
async fn starttls_forgets_what_policy_made_of_helo() {
    let house = house().await;
    let mut peer = house.knock(Relay).await;
    peer.expect("EHLO marked", "250-").await;
    peer.deliver("fine@example.org").await;
    let marked = ["at/connect", "at/helo", "at/sender"].map(attr);
    assert_eq!(house.message().0.facts.meta, marked);
    peer.expect("STARTTLS", "220 ").await;
    let mut peer = peer.encrypt(&house.roots, "mx.example.org").await;
    peer.expect("EHLO fine", "250-").await;
    peer.deliver("fine@example.org").await;
    let ids = house.spool.ids(None, 10).unwrap();
    let entry = house.spool.load(ids[1]).unwrap();
    assert_eq!(entry.facts.meta, ["at/connect", "at/sender"].map(attr));
}

#[tokio::test]
async fn a_recipient_can_end_the_session_alone_or_in_a_group() {
    let house = house().await;
    for (group, expected) in
        [("disconnect", &["554 5.7.1"][..]), ("fine disconnect fine", &["250 2.1.5", "421 4.7.0"])]
    {
        let mut peer = house.knock(Relay).await;
        peer.expect("EHLO fine", "250-").await;
        peer.expect("MAIL FROM:<a@b.example>", "250").await;
        let lines: String =
            group.split(' ').map(|to| format!("RCPT TO:<{to}@example.org>\r\n")).collect();
        peer.send(lines.as_bytes()).await;
        for reply in expected {
            assert!(peer.reply().await.starts_with(reply), "{group}");
        }
        assert!(peer.is_over().await, "{group}");
    }
}

#[tokio::test]
async fn policy_may_know_users_of_its_own() {
    let house = house().await;
    for (name, expected) in
        [("oracle", "235"), ("banned", "451 4.3.0 later"), ("fault", "454"), ("other", "535")]
    {
        let mut peer = house.encrypted(Submission).await;
        peer.expect(&format!("AUTH PLAIN {}", b64(format!("\0{name}\0x"))), expected).await;
        if name == "oracle" {
            peer.deliver("x@anywhere.example").await;
            assert_eq!(house.message().0.facts.identity.as_deref(), Some("tenant/7"));
        }
    }
}
