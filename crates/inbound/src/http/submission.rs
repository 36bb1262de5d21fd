//! One message on its way in: the questions that SMTP asks, in the order it asks them.

use std::collections::HashSet;
use std::time::Duration;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use waypost_mail::MessageId;
use waypost_smtp::data::Folder;
use waypost_smtp::server::{Answer, LongLines, MailFrom, Question, RcptTo};
use waypost_smtp::{BodyType, Reply};

use super::answer::{Accepted, Fate, Problem};
use super::body::{Incoming, Lines, too_big};
use super::envelope::Envelope;
use super::keys::{Keys, Turn, hex};
use crate::Limits;
use crate::decide::Decider;
use crate::server::House;

/// A message and who it is for.
#[derive(Debug)]
pub(super) struct Submission {
    pub(super) decider: Decider,
    pub(super) envelope: Envelope,
    pub(super) source: Source,
}

/// Where the octets come from.
#[derive(Debug)]
pub(super) enum Source {
    /// The body of the request.
    Stream(Incoming),
    /// It was made of JSON.
    Composed { json: Bytes, message: Vec<u8> },
}

/// The idempotency key that a submission is made under.
#[derive(Debug)]
pub(super) struct Key<'a> {
    pub(super) keys: &'a Keys,
    pub(super) turn: &'a Turn,
    pub(super) lifetime: Duration,
}

impl Submission {
    /// Hands it in.
    ///
    /// # Errors
    /// When nobody gets it. Nothing of it is kept then.
    pub(super) async fn run(mut self, key: Option<Key<'_>>) -> Result<Accepted, Problem> {
        let replies = self.open().await?;
        let mut fates = self.fates(&replies);
        if !replies.iter().any(Reply::is_positive) {
            return Err(Problem::nobody(fates));
        }
        positive(self.decider.answer(Question::Data).await)?;
        let id = self.decider.message().ok_or_else(|| Problem::of(&Reply::LOCAL_ERROR))?;
        let (digest, commit) = self.transfer().await?;
        if let Some(key) = &key {
            key.keys.begin(key.turn, &digest, id, key.lifetime).await?;
        }
        let taken = replies.iter().enumerate().filter(|(_, reply)| reply.is_positive());
        let taken: Vec<usize> = taken.map(|(at, _)| at).collect();
        let said = each(self.decider.answer(commit).await, taken.len());
        for (at, reply) in taken.into_iter().zip(&said) {
            fates[at] = Fate::new(&self.envelope.recipients[at], reply);
        }
        if said.iter().any(Reply::is_positive) {
            let accepted = Accepted::new(id, fates);
            if let Some(key) = key {
                key.keys.finish(key.turn, &digest, &accepted, key.lifetime).await;
            }
            return Ok(accepted);
        }
        if let Some(key) = key {
            key.keys.forget(key.turn).await;
        }
        Err(match said.as_slice() {
            // One word for all is about the message.
            [first, rest @ ..] if rest.iter().all(|reply| reply == first) => {
                Problem { recipients: fates, ..Problem::of(first) }
            }
            _ => Problem::nobody(fates),
        })
    }

    /// Connection, sender, recipients: the reply to each of these.
    async fn open(&mut self) -> Result<Vec<Reply>, Problem> {
        positive(self.decider.answer(Question::Connect).await)?;
        let from = MailFrom {
            body: BodyType::EightBitMime,
            smtputf8: true,
            ..MailFrom::new(self.envelope.sender.clone())
        };
        positive(self.decider.answer(Question::Sender(from)).await)?;
        let all: Vec<RcptTo> = self.envelope.recipients.iter().cloned().map(RcptTo::new).collect();
        let count = all.len();
        Ok(each(self.decider.answer(Question::Recipients(all)).await, count))
    }

    /// The body: the digest of the request, and the question that is left.
    async fn transfer(&mut self) -> Result<(String, Question), Problem> {
        let most = self.decider.limits().max_message_size;
        let mut digest = digest_of(&self.envelope);
        let long_lines = self.decider.strictness().long_lines;
        let mut folder = (long_lines == LongLines::Fold).then(Folder::default);
        let mut fold = |text: Bytes| match &mut folder {
            Some(folder) => folder.fold(text),
            None => text,
        };
        let mut lines = Lines::default();
        match &mut self.source {
            Source::Composed { json, message } => {
                digest.update(&json);
                self.decider.chunk(fold(lines.write(message))).await;
            }
            Source::Stream(body) => {
                while let Some(piece) = body.next().await? {
                    digest.update(&piece);
                    self.decider.chunk(fold(lines.write(&piece))).await;
                    if lines.size > most {
                        return Err(too_big(most));
                    }
                }
            }
        }
        self.decider.chunk(fold(lines.finish())).await;
        if lines.size > most {
            return Err(too_big(most));
        }
        if lines.has_nul {
            return Err(Problem::of(&Reply::NUL_IN_MESSAGE));
        }
        if lines.has_long_line && long_lines == LongLines::Refuse {
            return Err(Problem::of(&Reply::TEXT_LINE_TOO_LONG));
        }
        let commit = Question::Commit { size: lines.size, eight_bit: lines.eight_bit };
        Ok((hex(&digest.finalize()), commit))
    }

    /// The digest of a request that is not carried out.
    ///
    /// # Errors
    /// When its body cannot be read.
    pub(super) async fn digest(self, limits: &Limits) -> Result<String, Problem> {
        let mut digest = digest_of(&self.envelope);
        match self.source {
            Source::Composed { json, .. } => digest.update(&json),
            Source::Stream(mut body) => {
                let mut size = 0;
                while let Some(piece) = body.next().await? {
                    digest.update(&piece);
                    size += piece.len() as u64;
                    if size > limits.max_message_size {
                        return Err(too_big(limits.max_message_size));
                    }
                }
            }
        }
        Ok(hex(&digest.finalize()))
    }

    fn fates(&self, replies: &[Reply]) -> Vec<Fate> {
        self.envelope.recipients.iter().zip(replies).map(|(to, said)| Fate::new(to, said)).collect()
    }
}

/// The answer to a request whose message is there, though its answer was not kept.
pub(super) fn found(house: &House, id: MessageId, envelope: &Envelope) -> Option<Accepted> {
    let entry = house.rooms.intake.accepted(id)?;
    let there: HashSet<_> = entry.recipients.iter().map(|r| &r.recipient.mailbox).collect();
    let fate = |mailbox| {
        let reply = match there.contains(mailbox) {
            true => Reply::OK.with_text(format!("OK queued as {id}")),
            false => Reply::REFUSED_BY_POLICY,
        };
        Fate::new(mailbox, &reply)
    };
    Some(Accepted::new(id, envelope.recipients.iter().map(fate).collect()))
}

fn digest_of(envelope: &Envelope) -> Sha256 {
    let mut digest = Sha256::new().chain_update(envelope.sender.to_string());
    for recipient in &envelope.recipients {
        digest.update([0]);
        digest.update(recipient.to_string());
    }
    digest.update([0, 0]);
    digest
}

fn positive(answer: Answer) -> Result<(), Problem> {
    match answer {
        Answer::Reply(reply) if reply.is_positive() => Ok(()),
        Answer::Reply(reply) | Answer::Disconnect(reply) => Err(Problem::of(&reply)),
        _ => Err(Problem::of(&Reply::LOCAL_ERROR)),
    }
}

/// One reply for each of so many.
fn each(answer: Answer, count: usize) -> Vec<Reply> {
    match answer {
        Answer::Recipients(replies) if replies.len() == count => replies,
        Answer::Reply(reply) | Answer::Disconnect(reply) => vec![reply; count],
        _ => vec![Reply::LOCAL_ERROR; count],
    }
}
