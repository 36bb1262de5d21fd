//! Who calls at our door: a client that speaks as it should, or one that says what it came to say.

use std::collections::VecDeque;

use bytes::Bytes;
use waypost_smtp::client::{
    Letter, RecipientResult, Reuse, Session, SessionConfig, SessionStep, StartTls, Transaction,
    TransactionStep,
};
use waypost_smtp::{Domain, Phase, Stuffer};

/// Who calls.
#[derive(Debug)]
pub enum Caller {
    /// A client with errands.
    Honest(Box<Sender>),
    /// Says this, and listens to nothing.
    Hostile(Vec<u8>),
}

/// A message to be sent.
#[derive(Debug, Clone)]
pub struct Errand {
    /// What the caller calls it.
    pub token: u64,
    /// The envelope.
    pub letter: Letter,
    /// Header and body.
    pub content: Bytes,
}

/// What came of an errand, as the client sees it.
#[derive(Debug, Clone)]
pub struct Report {
    /// The errand's.
    pub token: u64,
    /// One for each recipient; absent when there was none.
    pub results: Vec<Option<RecipientResult>>,
    /// Where it ended.
    pub phase: Phase,
}

/// A client that speaks as it should, with the code that speaks to next hops.
#[derive(Debug)]
pub struct Sender {
    session: Session,
    ready: bool,
    transaction: Option<Transaction>,
    current: Option<Errand>,
    errands: VecDeque<Errand>,
    finished: bool,
}

impl Caller {
    /// A client with errands.
    pub fn honest(errands: Vec<Errand>) -> Caller {
        let config = SessionConfig {
            lmtp: false,
            ehlo_name: Domain::parse("peer.example").unwrap_or_else(|_| unreachable!()),
            tls: StartTls::Never,
            credentials: None,
            allow_plaintext_auth: false,
            nonce: [7; 18],
        };
        Caller::Honest(Box::new(Sender {
            session: Session::new(config),
            ready: false,
            transaction: None,
            current: None,
            errands: errands.into(),
            finished: false,
        }))
    }

    /// Says what there is to say; answers when an errand is over.
    pub fn speak(&mut self, out: &mut Vec<u8>) -> Option<Report> {
        match self {
            Caller::Honest(sender) => sender.speak(out),
            Caller::Hostile(speech) => {
                out.append(speech);
                None
            }
        }
    }

    /// Hears what the server says.
    pub fn hear(&mut self, octets: &[u8]) {
        if let Caller::Honest(sender) = self {
            sender.hear(octets);
        }
    }

    /// True when it has nothing more to say.
    pub fn is_finished(&self) -> bool {
        match self {
            Caller::Honest(sender) => sender.finished,
            Caller::Hostile(speech) => speech.is_empty(),
        }
    }
}

impl Sender {
    fn hear(&mut self, bytes: &[u8]) {
        match &mut self.transaction {
            Some(transaction) => transaction.push(bytes),
            None => self.session.push(bytes),
        }
    }

    /// Says what there is to say; answers when an errand is over.
    fn speak(&mut self, out: &mut Vec<u8>) -> Option<Report> {
        while !self.finished {
            if let Some(transaction) = &mut self.transaction {
                match transaction.step() {
                    TransactionStep::NeedInput => {
                        out.extend(transaction.take_output());
                        return None;
                    }
                    TransactionStep::SendBody => {
                        out.extend(transaction.take_output());
                        let content = self.current.as_ref().map(|errand| errand.content.clone());
                        let content = content.unwrap_or_default();
                        if transaction.is_counted() {
                            out.extend_from_slice(&content);
                        } else {
                            let mut stuffer = Stuffer::new();
                            stuffer.encode(&content, out);
                            stuffer.finish(out);
                        }
                        transaction.body_sent();
                    }
                    TransactionStep::Done(result) => {
                        out.extend(transaction.take_output());
                        let phase = transaction.phase();
                        self.transaction = None;
                        self.finished = result.reuse != Reuse::AsIs;
                        let results = result.recipients.into_iter().map(Some).collect();
                        let token = self.current.take().map_or(0, |errand| errand.token);
                        return Some(Report { token, results, phase });
                    }
                    TransactionStep::Failed(_) => return self.give_up(),
                }
            } else if self.ready {
                let Some(errand) = self.errands.pop_front() else {
                    self.finished = true;
                    return None;
                };
                let begun = Transaction::new(errand.letter.clone(), self.session.extensions());
                self.transaction = begun.ok();
                self.finished = self.transaction.is_none();
                self.current = Some(errand);
            } else {
                match self.session.step() {
                    SessionStep::NeedInput => {
                        out.extend(self.session.take_output());
                        return None;
                    }
                    SessionStep::Ready => self.ready = true,
                    SessionStep::Upgrade | SessionStep::Failed(_) => {
                        self.current = self.errands.pop_front();
                        return self.give_up();
                    }
                }
            }
        }
        None
    }

    fn give_up(&mut self) -> Option<Report> {
        self.finished = true;
        let (transaction, errand) = (self.transaction.take(), self.current.take()?);
        let phase = transaction.as_ref().map_or(Phase::Greeting, Transaction::phase);
        let none = || vec![None; errand.letter.recipients.len()];
        let results = transaction.map_or_else(none, Transaction::lost);
        Some(Report { token: errand.token, results, phase })
    }
}
