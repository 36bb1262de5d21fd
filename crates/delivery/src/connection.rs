//! One connection to one host: opened, made ready, used for transactions, ended.

mod failure;
mod opener;

use std::sync::Arc;

use tokio::sync::OnceCell;
use tokio::time::Instant;
use waypost_mail::Security;
use waypost_queue::Content;
use waypost_smtp::client::{
    Control, ControlStep, Letter, Obstacle, RecipientResult, Reuse, Transaction, TransactionResult,
    TransactionStep,
};
use waypost_smtp::data::Lines;
use waypost_smtp::{BodyType, Enhanced, Extensions, Limits, Phase, Reply, ReversePath, Stuffer};

use crate::channel::Channel;
use crate::seats::Seat;
use crate::tape::Tape;
use crate::tls::HandshakeError;

pub(crate) use self::failure::Failure;
pub(crate) use self::opener::{Opener, Wish};

/// Octets of a message that are read, encoded and written at once.
const BLOCK: usize = 64 * 1024;
/// Capacity that an idle connection's write buffer keeps.
const KEPT_BUFFER: usize = 16 * 1024;

/// A session that takes transactions.
#[derive(Debug)]
pub(crate) struct Connection {
    channel: Channel,
    extensions: Extensions,
    buffer: Vec<u8>,
    /// How it is protected.
    pub(crate) security: Security,
    /// What was wrong with its certificate, where that was asked for and not demanded.
    pub(crate) observed: Option<HandshakeError>,
    /// Messages sent over it.
    pub(crate) messages: u32,
    /// Messages that may be sent over it.
    most_messages: u32,
    /// The last transaction may still be open at the other end.
    needs_reset: bool,
    /// Its place among those of its provider, if it has one.
    pub(crate) seat: Option<Seat>,
    /// STARTTLS was offered and then refused, and the session went on in clear text.
    pub(crate) starttls_refused: bool,
}

/// What came of one transaction.
#[derive(Debug)]
pub(crate) struct Transfer {
    /// Per recipient of the letter, in its order; absent where the host gave none.
    pub(crate) answers: Vec<Option<RecipientResult>>,
    /// It was text, and went by BDAT, which is a choice.
    pub(crate) counted: bool,
    /// Why answers are absent.
    pub(crate) failure: Option<Failure>,
    /// Where it ended.
    pub(crate) phase: Phase,
    /// True when the connection may be used again.
    pub(crate) reusable: bool,
}

impl Transfer {
    /// The host offered CHUNKING and says that it does not know BDAT: nobody was taken, and whatever stands
    /// between may have heard the message as commands.
    pub(crate) fn is_misunderstood(&self) -> bool {
        let mut last = self.answers.iter().flatten().filter(|answer| answer.phase >= Phase::Body);
        let about_syntax = |reply: &Reply| {
            let subject = reply.enhanced.map(|Enhanced(_, subject, _)| subject);
            (500..=504).contains(&reply.code.get()) && subject.is_none_or(|subject| subject == 5)
        };
        self.counted && last.clone().next().is_some() && last.all(|a| about_syntax(&a.reply))
    }

    /// It ended without an answer while the message was on its way by BDAT: some do not get along with it.
    pub(crate) fn is_lost_by_chunking(&self) -> bool {
        let lost = matches!(self.failure, Some(Failure::Lost(_) | Failure::TimedOut(_)));
        self.counted && lost && self.phase >= Phase::Body
    }
}

/// A message as one next hop gets it.
#[derive(Debug)]
pub(crate) struct Copy {
    /// Header fields put in front of this copy.
    pub(crate) prefix: Vec<u8>,
    /// The envelope sender of this copy.
    pub(crate) sender: ReversePath,
    /// The stored message, or what was made of it.
    pub(crate) content: Arc<dyn Content>,
    /// What that is.
    pub(crate) form: Form,
    /// Each recipient gets one from a sender of its own.
    pub(crate) verp: bool,
    /// Every line has its end, so that it can go without dots: looked at when somebody wants to know.
    pub(crate) whole: OnceCell<bool>,
}

/// What a host has to take with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Form {
    pub(crate) body: BodyType,
    /// Its header or its envelope is internationalized.
    pub(crate) smtputf8: bool,
}

impl Copy {
    /// Octets before dots are doubled.
    pub(crate) fn len(&self) -> u64 {
        self.prefix.len() as u64 + self.content.len()
    }

    /// True when every line ends with CRLF, the last one too. All of it is read for that, once.
    pub(crate) async fn is_of_whole_lines(&self) -> bool {
        *self.whole.get_or_init(|| async { self.lines().await.is_ok_and(|l| l.are_whole()) }).await
    }

    async fn lines(&self) -> Result<Lines, Failure> {
        let (mut lines, mut offset) = (Lines::default(), 0);
        lines.look(&self.prefix);
        while offset < self.content.len() {
            let block = self.read(offset).await?;
            lines.look(&block);
            offset += block.len() as u64;
        }
        Ok(lines)
    }

    /// The next block. A message of more than one is read off the executor's threads.
    async fn read(&self, offset: u64) -> Result<bytes::Bytes, Failure> {
        let read = if self.content.len() <= BLOCK as u64 {
            self.content.read_at(offset, BLOCK)
        } else {
            let content = self.content.clone();
            tokio::task::spawn_blocking(move || content.read_at(offset, BLOCK))
                .await
                .map_err(|error| Failure::Unreadable(error.to_string()))?
        };
        let block = read.map_err(|error| Failure::Unreadable(error.to_string()))?;
        if block.is_empty() {
            return Err(Failure::Unreadable("the stored message ends early".to_owned()));
        }
        Ok(block)
    }
}

/// How a message is written on the wire.
enum Framing {
    /// In lines, with dots, and a dot that ends it.
    Lines(Stuffer),
    /// As it is: its octets were counted.
    Counted,
}

impl Framing {
    fn of(transaction: &Transaction) -> Framing {
        if transaction.is_counted() { Framing::Counted } else { Framing::Lines(Stuffer::new()) }
    }

    fn encode(&mut self, text: &[u8], out: &mut Vec<u8>) {
        match self {
            Framing::Lines(stuffer) => stuffer.encode(text, out),
            Framing::Counted => out.extend_from_slice(text),
        }
    }

    fn finish(self, out: &mut Vec<u8>) {
        if let Framing::Lines(stuffer) = self {
            stuffer.finish(out);
        }
    }
}

/// What a host that takes a message knows of what its sender asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Promise {
    /// It tells the sender what was asked for (RFC 3461).
    pub(crate) dsn: bool,
    /// It knows the deadline (RFC 2852).
    pub(crate) deliver_by: bool,
    /// It has put the message into mailboxes when it says yes (RFC 2033).
    pub(crate) stores: bool,
}

impl Connection {
    /// What this host takes on with a message, by LMTP or SMTP.
    pub(crate) fn promise(&self, lmtp: bool) -> Promise {
        let Extensions { dsn, deliver_by, .. } = &self.extensions;
        Promise { dsn: *dsn, deliver_by: deliver_by.is_some(), stores: lmtp }
    }

    /// What is said from now on is written down there.
    pub(crate) fn record(&mut self, tape: Tape) {
        self.channel.tape = tape;
    }

    /// What this host offers.
    pub(crate) fn extensions(&self) -> &Extensions {
        &self.extensions
    }

    /// The same connection, good for so many messages.
    pub(crate) fn for_messages(mut self, most: u32) -> Connection {
        self.most_messages = most;
        self
    }

    /// The same connection, counted by its provider as long as it lives.
    pub(crate) fn seated(mut self, seat: Option<Seat>) -> Connection {
        self.seat = seat;
        self
    }

    /// What this host takes at most.
    pub(crate) fn limits(&self) -> &Limits {
        &self.extensions.limits
    }

    /// True when no further message may be sent over it, by its own word or ours.
    pub(crate) fn is_worn_out(&self) -> bool {
        let theirs = self.extensions.limits.messages;
        self.messages >= self.most_messages
            || theirs.is_some_and(|most| self.messages as usize >= most)
    }

    /// Sends one message. Fails without a word to the host when it cannot take the letter as it is.
    pub(crate) async fn transfer(
        &mut self,
        letter: Letter,
        copy: &Copy,
    ) -> Result<Transfer, Obstacle> {
        let is_binary = letter.body == BodyType::BinaryMime;
        let mut transaction = Transaction::new(letter, &self.extensions)?;
        let counted = transaction.is_counted() && !is_binary;
        self.messages += 1;
        let mut ended = self.drive(&mut transaction, copy).await;
        if matches!(ended, Err(Failure::Lost(_))) {
            self.channel.last_words(&mut transaction).await;
            if let TransactionStep::Done(result) = transaction.step() {
                ended = Ok(TransactionResult { reuse: Reuse::Never, ..result });
            }
        }
        let phase = transaction.phase();
        self.buffer.clear();
        self.buffer.shrink_to(KEPT_BUFFER);
        Ok(match ended {
            Ok(TransactionResult { recipients, reuse }) => {
                self.needs_reset = reuse == Reuse::AfterReset;
                let answers = recipients.into_iter().map(Some).collect();
                let reusable = reuse != Reuse::Never;
                Transfer { answers, counted, failure: None, phase, reusable }
            }
            Err(failure) => {
                let answers = transaction.lost();
                let failure = Some(failure);
                Transfer { answers, counted, failure, phase, reusable: false }
            }
        })
    }

    async fn drive(
        &mut self,
        transaction: &mut Transaction,
        copy: &Copy,
    ) -> Result<TransactionResult, Failure> {
        loop {
            match transaction.step() {
                TransactionStep::NeedInput => self.channel.exchange(transaction).await?,
                TransactionStep::SendBody => self.send_body(transaction, copy).await?,
                TransactionStep::Done(result) => return Ok(result),
                TransactionStep::Failed(error) => {
                    return Err(Failure::Protocol(transaction.phase(), error));
                }
            }
        }
    }

    /// Streams the message. Stops early when the host answers before the end.
    async fn send_body(
        &mut self,
        transaction: &mut Transaction,
        copy: &Copy,
    ) -> Result<(), Failure> {
        let since = Instant::now();
        let limit = self.channel.timeouts().block;
        let mut framing = Framing::of(transaction);
        self.buffer.clear();
        // What announces the message goes with its beginning.
        let announced = transaction.take_output();
        self.channel.tape.say(transaction.phase(), &announced);
        self.buffer.extend(announced);
        framing.encode(&copy.prefix, &mut self.buffer);
        let mut offset = 0;
        while offset < copy.content.len() {
            let block = copy.read(offset).await?;
            offset += block.len() as u64;
            framing.encode(&block, &mut self.buffer);
            if self.buffer.len() >= BLOCK && offset < copy.content.len() {
                self.channel.write(&self.buffer, limit, transaction).await?;
                self.buffer.clear();
                if transaction.step() != TransactionStep::SendBody {
                    let tape = &self.channel.tape;
                    tape.note(|| format!("(the message, its first {offset} octets)"));
                    return Ok(());
                }
            }
        }
        framing.finish(&mut self.buffer);
        self.channel.tape.note(|| format!("(the message, {} octets)", copy.len()));
        self.channel.write(&self.buffer, limit, transaction).await?;
        transaction.body_sent();
        self.channel.metrics().waited(Phase::Body, since.elapsed());
        self.channel.tape.waited(Phase::Body, since.elapsed());
        Ok(())
    }

    /// True when another transaction may begin, which takes a RSET when the last one was not ended
    /// by the host.
    pub(crate) async fn is_usable(&mut self) -> bool {
        if !self.channel.is_quiet().await {
            return false;
        }
        if !self.needs_reset {
            return true;
        }
        self.needs_reset = false;
        matches!(self.control(Control::rset()).await, Some(reply) if reply.is_positive())
    }

    /// Says QUIT and waits for the answer, but not long.
    pub(crate) async fn quit(mut self) {
        self.control(Control::quit()).await;
        self.channel.close().await;
    }

    async fn control(&mut self, mut control: Control) -> Option<Reply> {
        loop {
            match control.step() {
                ControlStep::NeedInput => self.channel.exchange(&mut control).await.ok()?,
                ControlStep::Done(reply) => return Some(reply),
                ControlStep::Failed(_) => return None,
            }
        }
    }
}
