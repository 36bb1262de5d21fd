//! One message to one next hop: MAIL, RCPT, DATA or BDAT, and the reply to the message.

use waypost_mutant::planted;

use super::{Obstacle, ProtocolError, Wire, closes, obstacle};
use crate::terms::xtext;
use crate::{
    BodyType, ByMode, DeliverBy, Extensions, Mailbox, Notify, OriginalRecipient, Phase, Priority,
    Reply, Return, ReversePath, Severity, Submitter,
};

/// Octets of a reply text that are kept per recipient.
const MAX_KEPT_TEXT: usize = 2048;

/// What a transaction transfers, except for the message itself. What a next hop does not offer is
/// left out, or stands between ([`Letter::obstacle`]).
#[derive(Debug, Clone)]
pub struct Letter {
    /// Where bounces go.
    pub sender: ReversePath,
    /// For whom. Without any nothing is sent at all.
    pub recipients: Vec<Addressee>,
    /// Octets of the message before dots are doubled; exactly so many where it is `counted` or binary.
    pub size: u64,
    /// Every line ends with CRLF, the last one too, so that it may go as it is, without dots, to who
    /// counts its octets: by BDAT where CHUNKING is offered (RFC 3030 §3). A binary one goes so whatever
    /// this says. Not by LMTP: nobody has said how many replies a chunk has there.
    pub counted: bool,
    /// What the body contains.
    pub body: BodyType,
    /// A header field is internationalized. Addresses speak for themselves.
    pub smtputf8: bool,
    /// How much of it a notice of failure returns (RFC 3461 §4.3).
    pub ret: Option<Return>,
    /// The sender's own name for it (RFC 3461 §4.4).
    pub envid: Option<String>,
    /// It may only go where REQUIRETLS is offered (RFC 8689 §4.2.1).
    pub require_tls: bool,
    /// By when it must be delivered (RFC 2852 §4).
    pub deliver_by: Option<DeliverBy>,
    /// How urgent it is (RFC 6710 §5).
    pub priority: Priority,
    /// Who first submitted it, where the next hop offers AUTH (RFC 4954 §5).
    pub submitter: Option<Submitter>,
    /// The other end speaks LMTP: it answers to the message once for each recipient it took
    /// (RFC 2033 §4.2).
    pub lmtp: bool,
}

/// One recipient of a letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addressee {
    /// The address.
    pub mailbox: Mailbox,
    /// Which notices the sender wants (RFC 3461 §4.1).
    pub notify: Notify,
    /// The address that the sender first wrote to (RFC 3461 §4.2).
    pub original: Option<OriginalRecipient>,
}

impl From<Mailbox> for Addressee {
    fn from(mailbox: Mailbox) -> Addressee {
        Addressee { mailbox, notify: Notify::Unsaid, original: None }
    }
}

impl Letter {
    /// An ordinary letter of `size` octets.
    pub fn new(sender: ReversePath, recipients: Vec<Addressee>, size: u64) -> Letter {
        Letter {
            sender,
            recipients,
            size,
            body: BodyType::SevenBit,
            smtputf8: false,
            ret: None,
            envid: None,
            require_tls: false,
            deliver_by: None,
            priority: Priority::default(),
            submitter: None,
            counted: false,
            lmtp: false,
        }
    }

    /// What stands between this letter and a next hop that offers `extensions`.
    pub fn obstacle(&self, extensions: &Extensions) -> Option<Obstacle> {
        if self.require_tls && !extensions.require_tls {
            return Some(Obstacle::RequireTls);
        }
        let kept = |by: DeliverBy| extensions.deliver_by.is_some_and(|least| by.seconds >= least);
        let strict = self.deliver_by.filter(|by| by.mode == ByMode::Return);
        if strict.is_some_and(|by| !kept(by)) {
            return Some(Obstacle::DeliverBy);
        }
        obstacle(extensions, self.body, self.needs_smtputf8(), self.size)
    }

    fn is_counted(&self, extensions: &Extensions) -> bool {
        let offered = extensions.chunking && !self.lmtp;
        self.body == BodyType::BinaryMime || self.counted && offered
    }

    fn needs_smtputf8(&self) -> bool {
        let sender = self.sender.mailbox();
        let recipients = self.recipients.iter().map(|to| &to.mailbox);
        self.smtputf8 || !recipients.chain(sender).all(Mailbox::is_ascii)
    }

    /// The parameters of MAIL that a next hop with these extensions understands.
    fn parameters(&self, extensions: &Extensions) -> String {
        let body = match self.body {
            BodyType::SevenBit => None,
            BodyType::EightBitMime => Some("BODY=8BITMIME".to_owned()),
            BodyType::BinaryMime => Some("BODY=BINARYMIME".to_owned()),
        };
        // RFC 6710 §4.2, RFC 6758 §3.2: said wherever it is understood, 0 too.
        let asked = Some(self.priority).filter(|_| extensions.mt_priority);
        let words = [
            extensions.declares_size.then(|| format!("SIZE={}", self.size)),
            body,
            self.needs_smtputf8().then(|| "SMTPUTF8".to_owned()),
            self.ret.filter(|_| extensions.dsn).map(|ret| format!("RET={ret}")),
            self.envid.as_ref().filter(|_| extensions.dsn).map(|id| format!("ENVID={}", xtext(id))),
            self.require_tls.then(|| "REQUIRETLS".to_owned()),
            self.deliver_by
                .filter(|_| extensions.deliver_by.is_some())
                .map(|by| format!("BY={by}")),
            asked.map(|priority| format!("MT-PRIORITY={priority}")),
            self.submitter.as_ref().filter(|_| !extensions.auth.is_empty()).map(|submitter| {
                match submitter.mailbox() {
                    Some(mailbox) => format!("AUTH={}", xtext(&mailbox.to_string())),
                    None => "AUTH=<>".to_owned(),
                }
            }),
        ];
        words.into_iter().flatten().map(|word| format!(" {word}")).collect()
    }
}

impl Addressee {
    fn parameters(&self, dsn: bool) -> String {
        let notify = Some(self.notify).filter(|notify| dsn && *notify != Notify::Unsaid);
        let notify = notify.map(|notify| format!(" NOTIFY={notify}")).unwrap_or_default();
        let original = self.original.as_ref().filter(|_| dsn);
        let original = original.map(|original| format!(" ORCPT={}", original.wire()));
        notify + &original.unwrap_or_default()
    }
}

/// What a [`Transaction`] wants now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TransactionStep {
    /// Write the output, then push more bytes.
    NeedInput,
    /// Write the output, stream the message through a [`Stuffer`](crate::Stuffer), its end included, or
    /// as it is when [`Transaction::is_counted`], then call [`Transaction::body_sent`].
    SendBody,
    /// Every recipient has its reply.
    Done(TransactionResult),
    /// The next hop does not speak SMTP: close the connection. [`Transaction::lost`] tells what
    /// is known about the recipients.
    Failed(ProtocolError),
}

/// How a transaction ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransactionResult {
    /// One for each recipient of the letter, in its order.
    pub recipients: Vec<RecipientResult>,
    /// What may be done with the connection.
    pub reuse: Reuse,
}

/// What the next hop decided about one recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecipientResult {
    /// Which command was answered. A positive reply is always one of [`Phase::Eod`].
    pub phase: Phase,
    /// The answer, cut to 2 KiB of text.
    pub reply: Reply,
}

/// Whether a connection may carry another transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reuse {
    /// As it is.
    AsIs,
    /// After a positive reply to RSET: the next hop may still hold this transaction open.
    AfterReset,
    /// Never: close it.
    Never,
}

/// One mail transaction over a ready session (RFC 5321 §3.3), pipelined when that is offered
/// (RFC 2920 §3.1).
#[derive(Debug)]
pub struct Transaction {
    wire: Wire,
    letter: Letter,
    pipelined: bool,
    counted: bool,
    dsn: bool,
    recipients: Vec<Fate>,
    awaited: Awaited,
    outcome: Option<Result<Reuse, ProtocolError>>,
}

/// What is known about a recipient.
#[derive(Debug, Clone)]
enum Fate {
    Open,
    /// RCPT was answered with 2xx.
    Taken,
    Settled(RecipientResult),
}

/// Which reply comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Awaited {
    Mail,
    Rcpt(usize),
    Data,
    /// None: it is our turn to send the message.
    Body,
    Eod,
    /// The reply to the final dot, of which a part came before the dot was sent.
    EarlyEod,
    /// The reply to a lone dot that ends a DATA without recipients.
    LoneDot,
}

impl Transaction {
    /// A transaction over a session that offers `extensions`. Fails when the next hop cannot take
    /// the letter as it is.
    pub fn new(letter: Letter, extensions: &Extensions) -> Result<Transaction, Obstacle> {
        if let Some(obstacle) = letter.obstacle(extensions) {
            return Err(obstacle);
        }
        let mut transaction = Transaction {
            wire: Wire::default(),
            pipelined: extensions.pipelining,
            counted: letter.is_counted(extensions),
            dsn: extensions.dsn,
            recipients: vec![Fate::Open; letter.recipients.len()],
            awaited: Awaited::Mail,
            outcome: letter.recipients.is_empty().then_some(Ok(Reuse::AsIs)),
            letter,
        };
        if transaction.outcome.is_none() {
            transaction.begin(extensions);
        }
        Ok(transaction)
    }

    /// Bytes arrived.
    pub fn push(&mut self, bytes: &[u8]) {
        self.wire.replies.push(bytes);
    }

    /// What now.
    pub fn step(&mut self) -> TransactionStep {
        loop {
            match &self.outcome {
                Some(Ok(reuse)) => return TransactionStep::Done(self.result(*reuse)),
                Some(Err(error)) => return TransactionStep::Failed(error.clone()),
                None => {}
            }
            match self.wire.reply() {
                Ok(Some(reply)) => self.take(kept(reply)),
                Ok(None) if self.awaited == Awaited::Body => return TransactionStep::SendBody,
                Ok(None) => return TransactionStep::NeedInput,
                Err(error) => self.outcome = Some(Err(error)),
            }
        }
    }

    /// What is to be written.
    pub fn take_output(&mut self) -> Vec<u8> {
        self.wire.take_output()
    }

    /// The message and the final dot were written. To be called before anything is pushed that
    /// was read afterwards: a reply from before the dot is no reply to it.
    pub fn body_sent(&mut self) {
        if self.awaited == Awaited::Body {
            self.awaited = if self.wire.is_quiet() { Awaited::Eod } else { Awaited::EarlyEod };
        }
    }

    /// True when the message goes out as it is, counted by BDAT, and not in lines with dots.
    pub fn is_counted(&self) -> bool {
        self.counted
    }

    /// What is going on, or where it ended.
    pub fn phase(&self) -> Phase {
        match self.awaited {
            Awaited::Mail => Phase::Mail,
            Awaited::Rcpt(_) => Phase::Rcpt,
            Awaited::Data | Awaited::LoneDot => Phase::Data,
            Awaited::Body => Phase::Body,
            Awaited::Eod | Awaited::EarlyEod => Phase::Eod,
        }
    }

    /// The connection is lost, timed out or was given up at this point: which recipients have
    /// their reply all the same, in the order of the letter. The fate of the others is told by
    /// [`Transaction::phase`]: at [`Phase::Eod`] it is unknown, before that they got nothing.
    pub fn lost(self) -> Vec<Option<RecipientResult>> {
        let settled = |fate| match fate {
            Fate::Settled(result) => Some(result),
            Fate::Open | Fate::Taken => None,
        };
        self.recipients.into_iter().map(settled).collect()
    }

    fn begin(&mut self, extensions: &Extensions) {
        let parameters = self.letter.parameters(extensions);
        self.wire.command(&format!("MAIL FROM:<{}>{parameters}", self.letter.sender));
        if self.pipelined {
            (0..self.letter.recipients.len()).for_each(|index| self.send_rcpt(index));
            if !self.is_counted() {
                self.wire.command("DATA");
            }
        }
    }

    fn send_rcpt(&mut self, index: usize) {
        let to = &self.letter.recipients[index];
        let command = format!("RCPT TO:<{}>{}", to.mailbox, to.parameters(self.dsn));
        self.wire.command(&command);
    }

    fn take(&mut self, reply: Reply) {
        if closes(&reply) {
            return self.end(reply, Reuse::Never);
        }
        match (self.awaited, reply.severity()) {
            // Any answer ends it; nobody was to be delivered.
            (Awaited::LoneDot, _) => self.end(reply, Reuse::AsIs),
            (Awaited::Data, Severity::Intermediate) => self.data_accepted(),
            (_, Severity::Intermediate) => self.fail_unexpected(reply),
            (Awaited::Mail, severity) => self.mail_answered(reply, severity),
            (Awaited::Rcpt(index), severity) => self.rcpt_answered(index, reply, severity),
            (Awaited::Data, Severity::Positive) => self.fail_unexpected(reply),
            (Awaited::Data, _) => self.end(reply, Reuse::AfterReset),
            (Awaited::Eod, _) if planted!("no counts as yes after the dot") => {
                self.end(Reply::OK, Reuse::AsIs);
            }
            (Awaited::Eod, _) if self.letter.lmtp => self.one_answered(reply),
            // RFC 3030 §2: what a refused chunk leaves behind is cleared.
            (Awaited::Eod, Severity::Transient | Severity::Permanent) if self.counted => {
                self.end(reply, Reuse::AfterReset);
            }
            (Awaited::Eod, _) => self.end(reply, Reuse::AsIs),
            // Yes to what was not sent yet: the replies are out of step with the commands.
            (Awaited::Body | Awaited::EarlyEod, Severity::Positive) => {
                self.outcome = Some(Err(ProtocolError::Unsolicited { phase: self.phase() }));
            }
            (Awaited::Body | Awaited::EarlyEod, _) => self.end(reply, Reuse::Never),
        }
    }

    fn mail_answered(&mut self, reply: Reply, severity: Severity) {
        if severity != Severity::Positive {
            self.settle_rest(&reply);
            if !self.pipelined {
                self.outcome = Some(Ok(self.reuse(Reuse::AsIs)));
                return;
            }
        }
        self.awaited = Awaited::Rcpt(0);
        if !self.pipelined {
            self.send_rcpt(0);
        }
    }

    fn rcpt_answered(&mut self, index: usize, reply: Reply, severity: Severity) {
        // After a refused MAIL the recipient has its reply already.
        if matches!(self.recipients[index], Fate::Open) {
            self.recipients[index] = match severity {
                Severity::Positive => Fate::Taken,
                _ if planted!("a refused recipient counts as taken") => Fate::Taken,
                _ => Fate::Settled(RecipientResult { phase: Phase::Rcpt, reply }),
            };
        }
        if index + 1 < self.recipients.len() {
            self.awaited = Awaited::Rcpt(index + 1);
            if !self.pipelined {
                self.send_rcpt(index + 1);
            }
        } else if self.is_counted() && self.has_taken() {
            // One chunk: it is followed by the message, without a reply in between (RFC 3030 §2). Not before
            // somebody is known to be taken (RFC 3030 §4.2 would allow it): nobody's mail goes to nobody.
            self.awaited = Awaited::Body;
            self.wire.command(&format!("BDAT {} LAST", self.letter.size));
        } else if self.pipelined && !self.is_counted() {
            self.awaited = Awaited::Data;
        } else if self.has_taken() {
            self.awaited = Awaited::Data;
            self.wire.command("DATA");
        } else {
            self.outcome = Some(Ok(self.reuse(Reuse::AfterReset)));
        }
    }

    /// RFC 2920 §3.1: DATA may succeed though every recipient was refused. Then the message must
    /// not be sent, and the next hop has to be brought back out of DATA.
    fn data_accepted(&mut self) {
        if self.has_taken() {
            self.awaited = Awaited::Body;
        } else if self.letter.lmtp {
            // RFC 2033 §4.2: it should have said 503, and has nobody to answer for after a dot.
            self.outcome = Some(Ok(Reuse::Never));
        } else {
            self.awaited = Awaited::LoneDot;
            self.wire.command(".");
        }
    }

    /// RFC 2033 §4.2: the replies to the message come in the order of the recipients that were taken.
    fn one_answered(&mut self, reply: Reply) {
        let mut taken = self.recipients.iter_mut().filter(|fate| matches!(fate, Fate::Taken));
        if let Some(fate) = taken.next() {
            *fate = Fate::Settled(RecipientResult { phase: Phase::Eod, reply });
        }
        if taken.next().is_none() {
            self.outcome = Some(Ok(self.reuse(Reuse::AsIs)));
        }
    }

    fn has_taken(&self) -> bool {
        self.recipients.iter().any(|fate| matches!(fate, Fate::Taken))
    }

    /// This reply decides about all who have none.
    fn settle_rest(&mut self, reply: &Reply) {
        let phase = self.phase();
        for fate in &mut self.recipients {
            if !matches!(fate, Fate::Settled(_)) {
                *fate = Fate::Settled(RecipientResult { phase, reply: reply.clone() });
            }
        }
    }

    fn end(&mut self, reply: Reply, reuse: Reuse) {
        self.settle_rest(&reply);
        self.outcome = Some(Ok(self.reuse(reuse)));
    }

    /// Who says more than was asked is not asked again.
    fn reuse(&self, reuse: Reuse) -> Reuse {
        if self.wire.is_quiet() { reuse } else { Reuse::Never }
    }

    fn fail_unexpected(&mut self, reply: Reply) {
        let phase = self.phase();
        self.outcome = Some(Err(ProtocolError::Unexpected { phase, reply }));
    }

    fn result(&self, reuse: Reuse) -> TransactionResult {
        let settled = |fate: &Fate| match fate {
            Fate::Settled(result) => Some(result.clone()),
            Fate::Open | Fate::Taken => None,
        };
        TransactionResult {
            recipients: self.recipients.iter().filter_map(settled).collect(),
            reuse,
        }
    }
}

fn kept(mut reply: Reply) -> Reply {
    if reply.text.len() > MAX_KEPT_TEXT {
        let end = reply.text.floor_char_boundary(MAX_KEPT_TEXT);
        reply.text.to_mut().truncate(end);
    }
    reply
}
