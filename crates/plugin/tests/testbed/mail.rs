//! Sessions, transactions and messages, and what the mail path asks about them.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use waypost_hooks::{
    Attempt, AttemptAnswer, AuthDecision, Credentials, Event, EventKind, Fault, Hooks,
    MessageAnswer, MessageView, Preparation, PreparedCopy, RecipientAnswer, RecipientResult,
    RouteGroup, RouteView, SenderAnswer, SessionAnswer, Transaction,
};
use waypost_mail::{
    Attr, Entry, Facts, HeaderBlock, MessageId, Outcome, Protocol, Recipient, RecipientEntry,
    RecipientState, Rope, SessionId, Terms, Text, Timestamp, TlsFacts, Why,
};
use waypost_plugin::Stage;
use waypost_smtp::{BodyType, Phase, Reply, ReversePath};

use super::{Bed, NOON};

/// Sessions and messages have numbers.
static NEXT: AtomicU64 = AtomicU64::new(1000);

pub fn number() -> u64 {
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// A session at this listener.
pub fn facts(listener: &str) -> Facts {
    Facts {
        listener: listener.to_owned(),
        client: "192.0.2.7:4711".parse().unwrap(),
        local: "192.0.2.25:25".parse().unwrap(),
        helo: Some("client.example".to_owned()),
        protocol: Protocol::Esmtp,
        tls: Some(TlsFacts {
            version: "1.3".to_owned(),
            cipher: "TLS_AES_128_GCM_SHA256".to_owned(),
            sni: None,
            certificate: None,
        }),
        may_relay: false,
        ..Facts::internal(SessionId(number()))
    }
}

pub fn sender() -> ReversePath {
    ReversePath::Mailbox("sender@sender.example".parse().unwrap())
}

pub fn recipients(addresses: &[&str]) -> Vec<Recipient> {
    let one = |(id, address): (usize, &&str)| Recipient::new(id as u32, address.parse().unwrap());
    addresses.iter().enumerate().map(one).collect()
}

pub fn text(header: &str, body: impl Into<Bytes>) -> Text {
    Text {
        header: HeaderBlock::parse(Bytes::copy_from_slice(header.as_bytes())),
        body: Rope::from(body.into()),
    }
}

/// A small message.
pub fn letter() -> Text {
    text("Received: by a\r\nSubject: a subject\r\nX-A: one\r\n", "a body\r\nof two lines\r\n")
}

pub fn transaction<'a>(
    facts: &'a Facts,
    sender: &'a ReversePath,
    recipients: &'a [Recipient],
) -> Transaction<'a> {
    Transaction {
        session: facts,
        sender,
        declared_size: Some(1234),
        body_type: BodyType::EightBitMime,
        smtputf8: false,
        recipients,
        meta: &[],
    }
}

pub fn entry(facts: Facts, addresses: &[&str], text: &Text) -> Entry {
    let recipients = recipients(addresses).into_iter().map(|recipient| RecipientEntry {
        recipient,
        route: 0,
        told: 0,
        state: RecipientState::Waiting { due: NOON, tries: 2, last: None },
    });
    Entry {
        id: MessageId(number()),
        received: NOON,
        expires: Timestamp(NOON.0 + 1000),
        sender: sender(),
        eight_bit: false,
        smtputf8: false,
        size: text.len(),
        facts,
        meta: vec![Attr { name: "other/key".to_owned(), value: "value".to_owned() }],
        sign: Vec::new(),
        terms: Terms::default(),
        reroutes: 0,
        routes: Vec::new(),
        recipients: recipients.collect(),
    }
}

pub fn deferred() -> Outcome {
    Outcome::Deferred(Why::Refused {
        hop: "mx.example.org[192.0.2.1]:25".to_owned(),
        phase: Phase::Rcpt,
        reply: Reply::fixed(450, (4, 2, 1), "later"),
    })
}

pub const TO: [&str; 2] = ["one@example.org", "two@example.org"];

impl Bed {
    pub async fn connect(&self, facts: &Facts) -> Result<SessionAnswer, Fault> {
        self.answers.on_connect(facts).await
    }

    pub async fn auth(&self, facts: &Facts) -> Result<AuthDecision, Fault> {
        let credentials = Credentials {
            mechanism: "PLAIN".to_owned(),
            authzid: None,
            authcid: "somebody".to_owned(),
            password: "a secret".to_owned(),
        };
        self.answers.on_auth(facts, &credentials).await
    }

    pub async fn sender(&self, facts: &Facts) -> Result<SenderAnswer, Fault> {
        self.answers.on_sender(&transaction(facts, &sender(), &[])).await
    }

    pub async fn recipients(
        &self,
        facts: &Facts,
        addresses: &[&str],
    ) -> Result<Vec<RecipientAnswer>, Fault> {
        recipients_of(&self.answers, facts, addresses).await
    }

    pub async fn message(&self, facts: &Facts, text: &Text) -> Result<MessageAnswer, Fault> {
        message_of(&self.answers, facts, text).await
    }

    pub async fn route(&self, facts: &Facts, text: &Text) -> Result<Vec<RouteGroup>, Fault> {
        let view = RouteView {
            id: MessageId(number()),
            received: NOON,
            expires: None,
            session: facts,
            sender: &sender(),
            recipients: &recipients(&TO),
            size: text.len(),
            meta: &[],
            text,
        };
        self.answers.on_route(&view).await
    }

    pub async fn prepare(&self, facts: &Facts, text: &Text) -> Result<Preparation, Fault> {
        let entry = entry(facts.clone(), &TO, text);
        let copy = PreparedCopy {
            recipients: &entry.recipients,
            entry: &entry,
            hop: "mx.example.org[192.0.2.1]:25",
            destination: "example.org",
            source: Some("pool"),
            text,
        };
        self.answers.on_prepare(&copy).await
    }

    pub async fn attempt(&self, facts: &Facts, text: &Text) -> Result<AttemptAnswer, Fault> {
        let entry = entry(facts.clone(), &TO, text);
        let outcome = deferred();
        let result =
            |recipient| RecipientResult { recipient, outcome: &outcome, planned_retry: Some(NOON) };
        let results: Vec<RecipientResult<'_>> = entry.recipients.iter().map(result).collect();
        let attempt = Attempt {
            entry: &entry,
            hop: Some("mx.example.org[192.0.2.1]:25"),
            destination: "example.org",
            results: &results,
            text,
        };
        self.answers.on_attempt(&attempt).await
    }

    pub async fn event(&self, kind: EventKind, text: &str) {
        let event = Event { kind, at: NOON, message: None, text: text.to_owned() };
        self.answers.on_events(&[event]).await.unwrap();
    }

    /// The usual question of a stage, about a session at this listener; the answer in words.
    pub async fn ask(&self, stage: Stage, listener: &str) -> Result<String, Fault> {
        let (facts, letter) = (facts(listener), letter());
        Ok(match stage {
            Stage::Connect => format!("{:?}", self.connect(&facts).await?),
            Stage::Helo => format!("{:?}", self.answers.on_helo(&facts).await?),
            Stage::Auth => format!("{:?}", self.auth(&facts).await?),
            Stage::Sender => format!("{:?}", self.sender(&facts).await?),
            Stage::Recipients => format!("{:?}", self.recipients(&facts, &TO).await?),
            Stage::Message => format!("{:?}", self.message(&facts, &letter).await?),
            Stage::Route => format!("{:?}", self.route(&facts, &letter).await?),
            Stage::Prepare => format!("{:?}", self.prepare(&facts, &letter).await?),
            Stage::Attempt => format!("{:?}", self.attempt(&facts, &letter).await?),
            Stage::Events | Stage::Timer => panic!("nobody waits for an answer at {stage}"),
        })
    }
}

pub async fn recipients_of(
    hooks: &dyn Hooks,
    facts: &Facts,
    addresses: &[&str],
) -> Result<Vec<RecipientAnswer>, Fault> {
    let sender = sender();
    hooks.on_recipients(&transaction(facts, &sender, &[]), &recipients(addresses)).await
}

pub async fn message_of(
    hooks: &dyn Hooks,
    facts: &Facts,
    text: &Text,
) -> Result<MessageAnswer, Fault> {
    let (sender, to) = (sender(), recipients(&TO));
    let transaction = transaction(facts, &sender, &to);
    hooks.on_message(&MessageView { transaction, id: MessageId(number()), text }).await
}
