//! The machine: which step comes next, and the first two beats of each command.

use std::mem;

use super::input::{Input, Line};
use super::order::{self, Behind, Order, Verb};
use super::refusals::{Refusal, Refusals};
use super::session::{Session, Transaction};
use super::{OutOfTurn, Question, RcptTo, Rules, Step, TlsRule, XclientRule};
use crate::command::{self, Dialect};
use crate::{BodyType, Domain, Mailbox, Reply, Severity, xclient};
use waypost_mutant::planted;

/// First words of peers that speak another protocol, tricked into it by a browser or a proxy.
const FOREIGN: [&str; 7] = ["GET", "POST", "PUT", "HEAD", "CONNECT", "OPTIONS", "DELETE"];

/// Recipients over the limit in one transaction that do not count against a limit themselves.
const FORGIVEN_EXCESS: usize = 1000;

/// One session with a peer that sends us mail, without I/O (RFC 5321 §3, §4).
#[derive(Debug)]
pub struct Conversation {
    pub(super) rules: Rules,
    pub(super) input: Input,
    pub(super) output: Vec<u8>,
    pub(super) state: State,
    pub(super) session: Session,
    pub(super) transaction: Option<Transaction>,
    /// A body was given up and the shell does not know yet.
    pub(super) discard: bool,
    postmaster: Option<Mailbox>,
    farewell: Option<Reply>,
    refusals: Refusals,
}

/// What the conversation waits for.
#[derive(Debug)]
pub(super) enum State {
    /// The first question.
    Connecting,
    /// An answer.
    Asked(Asked),
    /// A command.
    Commands,
    /// A response to an AUTH challenge.
    Challenged,
    /// The body behind DATA.
    Dotted,
    /// The octets behind BDAT.
    Counted(Chunk),
    /// The TLS handshake.
    Upgrading,
    /// Nothing any more.
    Closed,
}

/// The question that is open, with what its answer decides about.
#[derive(Debug)]
pub(super) enum Asked {
    Connect,
    Helo { esmtp: bool },
    Auth,
    Xclient,
    Sender(Transaction),
    Recipients(usize),
    Data,
    Bdat(Chunk),
    Commit,
}

/// A chunk that BDAT announced (RFC 3030 §2).
#[derive(Debug)]
pub(super) struct Chunk {
    pub(super) size: u64,
    pub(super) left: u64,
    pub(super) last: bool,
    /// The chunk is swallowed and answered with this.
    pub(super) refusal: Option<Reply>,
    /// So many times: in LMTP the last chunk has a reply for each recipient (RFC 2033 §4.2).
    pub(super) replies: usize,
}

impl Conversation {
    /// A new session. Its first step is [`Question::Connect`].
    pub fn new(rules: Rules) -> Self {
        let postmaster = Domain::parse(&rules.hostname)
            .and_then(|domain| Mailbox::new("postmaster", domain))
            .ok();
        Conversation {
            rules,
            input: Input::default(),
            output: Vec::new(),
            state: State::Connecting,
            session: Session::default(),
            transaction: None,
            discard: false,
            postmaster,
            farewell: None,
            refusals: Refusals::default(),
        }
    }

    /// Takes bytes from the peer. What comes in clear text behind STARTTLS, or after the end of the
    /// session, is dropped (RFC 3207 §4.2).
    pub fn push(&mut self, bytes: &[u8]) {
        if !matches!(self.state, State::Upgrading | State::Closed) {
            self.input.buffer.extend_from_slice(bytes);
        }
    }

    /// What to do next. While a question is open, or after [`Step::Upgrade`], the same again.
    pub fn step(&mut self) -> Step {
        loop {
            if mem::take(&mut self.discard) {
                return Step::Discard;
            }
            let step = match &mut self.state {
                State::Closed => Some(Step::Close),
                State::Upgrading => Some(Step::Upgrade),
                State::Asked(_) => Some(Step::NeedInput),
                _ if self.farewell.is_some() => self.part(),
                State::Connecting => self.ask(Question::Connect, Asked::Connect),
                State::Commands => self.command(),
                State::Challenged => self.response(),
                State::Dotted => self.dotted(),
                State::Counted(_) => self.counted(),
            };
            if let Some(step) = step {
                return step;
            }
        }
    }

    /// The replies gathered since the last call: those to a pipelined group leave in one write.
    pub fn take_output(&mut self) -> Vec<u8> {
        mem::take(&mut self.output)
    }

    /// What was refused since the last call, a refused connection and a farewell included.
    pub fn take_refusals(&mut self) -> Vec<Refusal> {
        self.refusals.take()
    }

    /// The TLS handshake that [`Step::Upgrade`] wanted is done. `mechanisms` are those for AUTH from
    /// now on. EHLO, AUTH and the transaction are forgotten. At any other time this is a fault of
    /// the shell, and closes.
    pub fn upgraded(&mut self, mechanisms: Vec<String>) {
        if !matches!(self.state, State::Upgrading) {
            return self.fault();
        }
        self.rules.tls = TlsRule::Active;
        self.rules.mechanisms = mechanisms;
        self.session.forget();
        self.state = State::Commands;
    }

    /// Says `reply`, which should be a 421, and closes: before the next command, or at once in the
    /// middle of a body or of AUTH. An open question is answered first.
    pub fn shut_down(&mut self, reply: Reply) {
        self.farewell.get_or_insert(reply);
    }

    /// Octets pushed and not used yet. After [`Step::NeedInput`] without an open question they are
    /// at most 12 KiB; while a question is open, the shell should stop reading at some number.
    pub fn buffered(&self) -> usize {
        self.input.buffer.len()
    }

    /// True from an accepted MAIL to the end of its transaction.
    pub fn in_transaction(&self) -> bool {
        self.transaction.is_some()
    }

    /// True while a body is on its way in, also between two chunks of BDAT.
    pub fn in_data(&self) -> bool {
        self.transaction.as_ref().is_some_and(|transaction| transaction.body.is_some())
    }

    pub(super) fn ask(&mut self, question: Question, asked: Asked) -> Option<Step> {
        self.state = State::Asked(asked);
        Some(Step::Ask(question))
    }

    /// Writes a reply and counts it against its limit.
    pub(super) fn reply(&mut self, reply: Reply) {
        if reply.code.get() == 421 {
            return self.close(reply);
        }
        match reply.severity() {
            Severity::Permanent => self.session.err(),
            Severity::Transient => self.session.idle(),
            Severity::Positive | Severity::Intermediate => {}
        }
        self.say(&reply);
    }

    fn say(&mut self, reply: &Reply) {
        self.refusals.note(reply);
        reply.write(&mut self.output);
    }

    /// Says what becomes of a message: one reply, or one for each recipient in LMTP. However many they
    /// are, they count once against a limit.
    pub(super) fn conclude(&mut self, replies: Vec<Reply>) {
        self.end_transaction();
        let severities: Vec<Severity> = replies.iter().map(Reply::severity).collect();
        if severities.contains(&Severity::Positive) {
            self.session.forgive();
        } else if severities.contains(&Severity::Transient) {
            self.session.idle();
        } else {
            self.session.err();
        }
        for reply in replies {
            if reply.code.get() == 421 {
                return self.close(reply);
            }
            self.say(&reply);
        }
    }

    /// How many replies a message gets at its end (RFC 2033 §4.2).
    pub(super) fn final_replies(&self) -> usize {
        if self.rules.lmtp { self.recipients().max(1) } else { 1 }
    }

    /// Says a last word.
    pub(super) fn close(&mut self, reply: Reply) {
        self.say(&reply);
        self.hang_up();
    }

    /// Ends the session without a further word.
    pub(super) fn hang_up(&mut self) {
        self.end_transaction();
        self.input.clear();
        self.state = State::Closed;
    }

    /// The shell did what it must not do.
    pub(super) fn fault(&mut self) {
        if !matches!(self.state, State::Closed) {
            self.close(Reply::INTERNAL_FAULT);
        }
    }

    /// RSET, and all that is like it.
    pub(super) fn end_transaction(&mut self) {
        let body = self.transaction.take().and_then(|transaction| transaction.body);
        self.discard |= body.is_some_and(|body| !body.settled);
    }

    fn part(&mut self) -> Option<Step> {
        let reply = self.farewell.take().unwrap_or(Reply::SHUTTING_DOWN);
        self.close(reply);
        None
    }

    /// The next command, or what came instead.
    fn command(&mut self) -> Option<Step> {
        if let Some(reply) = self.session.over_limit(&self.rules) {
            self.close(reply);
            return None;
        }
        match self.input.command() {
            Line::Partial => return Some(Step::NeedInput),
            Line::TooLong => self.reply(Reply::LINE_TOO_LONG),
            Line::Endless => self.close(Reply::LINE_TOO_LONG),
            Line::Whole(length) => {
                let line = self.input.take(length);
                match readable(&line) {
                    Some(line) => return self.obey(line),
                    None => self.reply(Reply::BAD_LINE),
                }
            }
        }
        None
    }

    /// A response to an AUTH challenge (RFC 4954 §4).
    fn response(&mut self) -> Option<Step> {
        self.state = State::Commands;
        let refusal = match self.input.response() {
            Line::Partial => {
                self.state = State::Challenged;
                return Some(Step::NeedInput);
            }
            Line::TooLong => Reply::LINE_TOO_LONG,
            Line::Endless => {
                self.close(Reply::LINE_TOO_LONG);
                return None;
            }
            Line::Whole(length) => match readable(&self.input.take(length)) {
                None => Reply::BAD_LINE,
                Some(_) if self.is_out_of_turn() => {
                    self.close(Reply::OUT_OF_TURN);
                    return None;
                }
                Some("*") => Reply::AUTH_CANCELLED,
                Some(line) => match command::decode_base64(line) {
                    Ok(response) => return self.ask(Question::AuthResponse(response), Asked::Auth),
                    Err(refusal) => refusal,
                },
            },
        };
        self.reply(refusal);
        None
    }

    /// The first beat, then the second.
    fn obey(&mut self, line: &str) -> Option<Step> {
        let Some((order, args)) = Order::of(line) else {
            self.reject(line);
            return None;
        };
        if order.must_be_last(&self.session) && self.is_out_of_turn() {
            self.close(Reply::OUT_OF_TURN);
            return None;
        }
        if order.idle {
            self.session.idle();
        }
        let check = order.check(args, &self.rules, &self.session, self.transaction.as_ref());
        let asked = match (order.verb, check) {
            (Verb::Bdat, check) => return self.bdat(args, check.err()),
            (_, Err(refusal)) => Err(refusal),
            (verb, Ok(())) => self.perform(verb, args),
        };
        asked.unwrap_or_else(|refusal| {
            self.refuse(refusal, order.behind);
            None
        })
    }

    /// True when octets are here that should have awaited a reply, and that is not to be borne.
    pub(super) fn is_out_of_turn(&self) -> bool {
        let refuses = self.rules.strict.out_of_turn == OutOfTurn::Refuse;
        refuses && !self.input.buffer.is_empty()
    }

    /// A command that is in order: a question, a reply of our own, or a refusal.
    fn perform(&mut self, verb: Verb, args: &str) -> Result<Option<Step>, Reply> {
        match verb {
            Verb::Ehlo | Verb::Helo | Verb::Lhlo => {
                let (name, esmtp) = (command::parse_name(args)?, verb != Verb::Helo);
                return Ok(self.ask(Question::Helo { name, esmtp }, Asked::Helo { esmtp }));
            }
            Verb::Mail => return self.mail(args),
            Verb::Rcpt => return self.rcpt(args),
            Verb::Auth => return self.auth(args),
            Verb::Xclient => {
                let told = xclient::parse(args, self.rules.xclient == XclientRule::WithLogin)?;
                return Ok(self.ask(Question::Xclient(told), Asked::Xclient));
            }
            // RFC 3030 §3: what may not be lines has no last line with a dot.
            Verb::Data if self.transaction.as_ref().is_some_and(|t| t.binary) => {
                return Err(Reply::BINARY_NEEDS_BDAT);
            }
            // RFC 2033 §4.2.
            Verb::Data if self.recipients() == 0 && self.rules.lmtp => {
                return Err(Reply::BAD_SEQUENCE);
            }
            Verb::Data if self.recipients() == 0 => return Err(Reply::NO_VALID_RECIPIENTS),
            Verb::Data => return Ok(self.ask(Question::Data, Asked::Data)),
            Verb::StartTls if self.rules.tls == TlsRule::Active => {
                return Err(Reply::BAD_SEQUENCE);
            }
            Verb::StartTls => {
                self.reply(Reply::READY_FOR_TLS);
                self.input.clear();
                self.state = State::Upgrading;
            }
            Verb::Rset => {
                self.end_transaction();
                self.reply(Reply::OK);
            }
            Verb::Noop => self.reply(Reply::OK),
            Verb::Vrfy => {
                command::parse_vrfy(args, self.session.esmtp)?;
                self.reply(Reply::CANNOT_VERIFY);
            }
            Verb::Help => {
                self.reply(order::help(args, &self.rules, &self.session, self.dialect()));
            }
            Verb::Quit => self.close(Reply::CLOSING),
            Verb::Expn | Verb::Bdat => return Err(Reply::NOT_IMPLEMENTED),
        }
        Ok(None)
    }

    fn mail(&mut self, args: &str) -> Result<Option<Step>, Reply> {
        if self.session.messages >= self.rules.max_messages {
            return Err(Reply::TOO_MANY_MESSAGES);
        }
        let from = command::parse_mail(args, self.dialect())?;
        if from.size.is_some_and(|size| size > self.rules.max_size) {
            return Err(Reply::MESSAGE_TOO_BIG);
        }
        let transaction = Transaction {
            smtputf8: from.smtputf8,
            binary: from.body == BodyType::BinaryMime,
            ..Transaction::default()
        };
        Ok(self.ask(Question::Sender(from), Asked::Sender(transaction)))
    }

    /// This recipient and those behind it that may share its question: none that would not have
    /// been asked about alone, whatever the answers are.
    fn rcpt(&mut self, args: &str) -> Result<Option<Step>, Reply> {
        let rules = &self.rules;
        let most = rules.max_recipients + usize::from(planted!("a recipient too many"));
        let room = (most.saturating_sub(self.recipients()))
            .min(rules.max_session_recipients.saturating_sub(self.session.recipients));
        if room == 0 {
            return self.excess();
        }
        let mut all = vec![self.recipient(args)?];
        let most = room.min(self.session.patience(&self.rules));
        while all.len() < most
            && let Some(length) = self.input.peek()
            && let Some(rcpt) = self.next_recipient(length)
        {
            self.input.take(length);
            all.push(rcpt);
        }
        let asked = Asked::Recipients(all.len());
        Ok(self.ask(Question::Recipients(all), asked))
    }

    /// RFC 5321 §4.5.3.1.10: who has too many recipients sends the rest later, and is no abuser.
    fn excess(&mut self) -> Result<Option<Step>, Reply> {
        let transaction = self.transaction.as_mut().ok_or(Reply::BAD_SEQUENCE)?;
        transaction.excess += 1;
        if transaction.excess > FORGIVEN_EXCESS {
            return Err(Reply::TOO_MANY_RECIPIENTS);
        }
        self.say(&Reply::TOO_MANY_RECIPIENTS);
        Ok(None)
    }

    /// The line at the front, if it is a RCPT without fault.
    fn next_recipient(&self, length: usize) -> Option<RcptTo> {
        let (order, args) = Order::of(readable(&self.input.buffer[..length])?)?;
        if order.verb != Verb::Rcpt {
            return None;
        }
        self.recipient(args).ok()
    }

    fn recipient(&self, args: &str) -> Result<RcptTo, Reply> {
        let smtputf8 = self.transaction.as_ref().is_some_and(|t| t.smtputf8);
        command::parse_rcpt(args, self.dialect(), smtputf8, self.postmaster.as_ref())
    }

    fn auth(&mut self, args: &str) -> Result<Option<Step>, Reply> {
        if self.session.authenticated {
            return Err(Reply::BAD_SEQUENCE);
        }
        if self.rules.tls != TlsRule::Active {
            return Err(Reply::ENCRYPTION_NEEDED);
        }
        let (mechanism, initial) = command::parse_auth(args)?;
        if !self.rules.mechanisms.contains(&mechanism) {
            return Err(Reply::PARAMETER_NOT_IMPLEMENTED);
        }
        Ok(self.ask(Question::Auth { mechanism, initial }, Asked::Auth))
    }

    /// Refuses a command. A body that came without waiting for our consent is no command.
    pub(super) fn refuse(&mut self, refusal: Reply, behind: Behind) {
        self.reply(refusal);
        if behind == Behind::Body && !self.input.buffer.is_empty() {
            self.hang_up();
        }
    }

    fn reject(&mut self, line: &str) {
        let word = line.split(' ').next().unwrap_or_default();
        if FOREIGN.contains(&word) {
            self.close(Reply::COMMAND_UNKNOWN);
        } else {
            self.reply(Reply::COMMAND_UNKNOWN);
        }
    }

    fn dialect(&self) -> Dialect<'_> {
        Dialect {
            esmtp: self.session.esmtp,
            auth: order::offers_auth(&self.rules),
            lenient: self.rules.submission,
            encrypted: self.rules.tls == TlsRule::Active,
            offers: &self.rules.offers,
            origin: self.rules.origin.as_ref(),
        }
    }

    pub(super) fn recipients(&self) -> usize {
        self.transaction.as_ref().map_or(0, |transaction| transaction.recipients)
    }
}

/// A line as text, unless it holds what no command line may hold (RFC 5321 §2.3.8, §4.1.1).
fn readable(line: &[u8]) -> Option<&str> {
    if memchr::memchr3(b'\r', b'\n', 0, line).is_some() {
        return None;
    }
    std::str::from_utf8(line).ok()
}
