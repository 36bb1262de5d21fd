//! Both ends of an SMTP session and the wire between them, which carries octets in pieces of any
//! size, in either direction, and can be cut.

use std::collections::VecDeque;

use bytes::Bytes;
use rand::Rng;
use rand::rngs::StdRng;
use waypost_smtp::client::{
    Letter, RecipientResult, Reuse, Session, SessionConfig, SessionStep, StartTls, Transaction,
    TransactionStep,
};
use waypost_smtp::server::{Answer, Conversation, Question, Rules, Step};
use waypost_smtp::{Domain, Phase, Stuffer};

/// A session between the two.
#[derive(Debug)]
pub struct Dialogue {
    server: Conversation,
    client: Client,
    /// On their way to the server.
    up: Vec<u8>,
    /// On their way to the client.
    down: Vec<u8>,
    asked: bool,
    closed: bool,
    refusals: u32,
}

/// Who calls.
#[derive(Debug)]
enum Client {
    Honest(Box<Sender>),
    /// Says what it came to say, and listens to nothing.
    Hostile,
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

/// What happens next.
#[derive(Debug)]
pub enum Event {
    /// The server wants an answer.
    Asked(Question),
    /// A piece of a body.
    Chunk(Bytes),
    /// The body so far is to be thrown away.
    Discard,
    /// The client has its answers.
    Reported(Report),
    /// Octets went from one end to the other.
    Moved,
    /// Nothing is on its way: somebody waits.
    Idle,
    /// The connection is closed.
    Over,
}

/// A client that speaks as it should, with the code that speaks to next hops.
#[derive(Debug)]
struct Sender {
    session: Session,
    ready: bool,
    transaction: Option<Transaction>,
    current: Option<Errand>,
    errands: VecDeque<Errand>,
    finished: bool,
}

impl Dialogue {
    /// A client with errands.
    pub fn honest(rules: Rules, errands: Vec<Errand>) -> Dialogue {
        let config = SessionConfig {
            ehlo_name: Domain::parse("peer.example").unwrap_or_else(|_| unreachable!()),
            tls: StartTls::Never,
            credentials: None,
            allow_plaintext_auth: false,
            nonce: [7; 18],
        };
        let sender = Sender {
            session: Session::new(config),
            ready: false,
            transaction: None,
            current: None,
            errands: errands.into(),
            finished: false,
        };
        Dialogue::new(rules, Client::Honest(Box::new(sender)), Vec::new())
    }

    /// A client that says this, whatever it is told.
    pub fn hostile(rules: Rules, speech: Vec<u8>) -> Dialogue {
        Dialogue::new(rules, Client::Hostile, speech)
    }

    fn new(rules: Rules, client: Client, up: Vec<u8>) -> Dialogue {
        let server = Conversation::new(rules);
        Dialogue { server, client, up, down: Vec::new(), asked: false, closed: false, refusals: 0 }
    }

    /// Goes on a little.
    pub fn advance(&mut self, random: &mut StdRng) -> Event {
        if let Some(event) = self.hear_server() {
            return event;
        }
        if let Client::Honest(sender) = &mut self.client
            && let Some(report) = sender.speak(&mut self.up)
        {
            return Event::Reported(report);
        }
        let (up, down) = (!self.up.is_empty() && !self.asked, !self.down.is_empty());
        match (up, down) {
            (false, false) if self.closed || self.is_finished() => Event::Over,
            (false, false) => Event::Idle,
            (up, down) => {
                let upwards = up && (!down || random.random());
                self.carry(upwards, random);
                Event::Moved
            }
        }
    }

    /// Answers what the server asked.
    pub fn answer(&mut self, answer: Answer) {
        self.asked = false;
        self.server.answer(answer);
    }

    /// The connection is lost: what the client knows about its errand.
    pub fn cut(self) -> Option<Report> {
        match self.client {
            Client::Honest(sender) => sender.lost(),
            Client::Hostile => None,
        }
    }

    /// Replies 5xx since the last message that was taken.
    pub fn refusals(&self) -> u32 {
        self.refusals
    }

    /// A message was taken.
    pub fn forgive(&mut self) {
        self.refusals = 0;
    }

    fn is_finished(&self) -> bool {
        match &self.client {
            Client::Honest(sender) => sender.finished,
            Client::Hostile => true,
        }
    }

    fn hear_server(&mut self) -> Option<Event> {
        if self.asked || self.closed {
            return None;
        }
        let event = match self.server.step() {
            Step::NeedInput => None,
            Step::Ask(question) => {
                self.asked = true;
                Some(Event::Asked(question))
            }
            Step::Chunk(bytes) => Some(Event::Chunk(bytes)),
            Step::Discard => Some(Event::Discard),
            Step::Upgrade | Step::Close => {
                self.closed = true;
                None
            }
        };
        let said = self.server.take_output();
        let refusals = said.split(|octet| *octet == b'\n');
        let refusals = refusals.filter(|l| l.first() == Some(&b'5') && l.get(3) == Some(&b' '));
        self.refusals += refusals.count() as u32;
        self.down.extend(said);
        event
    }

    fn carry(&mut self, upwards: bool, random: &mut StdRng) {
        let from = if upwards { &mut self.up } else { &mut self.down };
        // Often all of it, sometimes a single octet.
        let count = match random.random_range(0..4) {
            0 => 1 + random.random_range(0..from.len().min(3)),
            1 => 1 + random.random_range(0..from.len()),
            _ => from.len(),
        };
        let bytes: Vec<u8> = from.drain(..count.min(from.len())).collect();
        if upwards {
            self.server.push(&bytes);
        } else if let Client::Honest(sender) = &mut self.client {
            sender.hear(&bytes);
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
                        let mut stuffer = Stuffer::new();
                        stuffer.encode(&content.unwrap_or_default(), out);
                        stuffer.finish(out);
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

    fn lost(mut self) -> Option<Report> {
        if self.current.is_none() {
            self.current = self.errands.pop_front();
        }
        self.give_up()
    }
}
