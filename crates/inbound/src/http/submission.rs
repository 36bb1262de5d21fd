//! One message on its way in: the questions that SMTP asks, in the order it asks them.

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use waypost_mail::Timestamp;
use waypost_smtp::data::Folder;
use waypost_smtp::server::{Answer, LongLines, MailFrom, Question};
use waypost_smtp::{BodyType, Reply};

use super::answer::{Accepted, Fate, Problem};
use super::body::{Incoming, Lines, too_big};
use super::envelope::Envelope;
use super::keys::{self, hex};
use crate::Limits;
use crate::decide::Decider;

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
pub(super) struct Key {
    /// Where it is in the ledger.
    pub(super) place: String,
    /// How long it is kept.
    pub(super) expires: Timestamp,
}

impl Submission {
    /// Hands it in.
    ///
    /// # Errors
    /// When nobody gets it. Nothing of it is kept then.
    pub(super) async fn run(mut self, key: Option<Key>) -> Result<Accepted, Problem> {
        let replies = self.open().await?;
        let fates = self.fates(&replies);
        if !replies.iter().any(Reply::is_positive) {
            return Err(Problem::nobody(fates));
        }
        positive(self.decider.answer(Question::Data).await)?;
        let id = self.decider.message().ok_or_else(|| Problem::of(&Reply::LOCAL_ERROR))?;
        let (digest, commit) = self.transfer().await?;
        let taken = replies.iter().enumerate().filter(|(_, reply)| reply.is_positive());
        let taken: Vec<usize> = taken.map(|(at, _)| at).collect();
        let (count, recipients) = (taken.len(), self.envelope.recipients.clone());
        let answered = move |said: &[Reply]| {
            let mut fates = fates.clone();
            for (at, reply) in taken.iter().zip(said) {
                fates[*at] = Fate::new(&recipients[*at], reply);
            }
            fates
        };
        if let Some(Key { place, expires }) = key {
            // The answer is durable with the message: neither is there without the other.
            let answered = answered.clone();
            self.decider.promise(move |said| {
                keys::facts(&place, &digest, &Accepted::new(id, answered(said)), expires)
            });
        }
        let said = each(self.decider.answer(commit).await, count);
        let fates = answered(&said);
        if said.iter().any(Reply::is_positive) {
            return Ok(Accepted::new(id, fates));
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
        let (from, all) = self.envelope.commands(&self.decider.offers())?;
        positive(self.decider.answer(Question::Connect).await)?;
        let from = MailFrom { body: BodyType::EightBitMime, smtputf8: true, ..from };
        positive(self.decider.answer(Question::Sender(from)).await)?;
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

fn digest_of(envelope: &Envelope) -> Sha256 {
    let mut digest = Sha256::new().chain_update(envelope.sender.to_string());
    for recipient in &envelope.recipients {
        digest.update([0]);
        digest.update(recipient.to_string());
    }
    digest.update([0, 0]);
    digest.update(envelope.wishes.line());
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
