//! A ticket on its way to a next hop.

use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;
use rand::Rng;
use rand::rngs::StdRng;
use waypost_mail::dsn::{self, Action, StatusNotice};
use waypost_mail::header::header_len;
use waypost_mail::{
    MessageId, NextHop, Outcome, RecipientEntry, RecipientState, Route, Timestamp, TlsLevel, Why,
};
use waypost_queue::{Settled, SpoolError, Ticket};
use waypost_smtp::client::{Letter, RecipientResult};
use waypost_smtp::server::{Answer, Question};
use waypost_smtp::{Domain, Mailbox, Phase, Reply};

use crate::dialogue::{Dialogue, Errand, Report};
use crate::relay::rules;
use crate::visit::DOMAINS;

/// How a next hop feels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    /// It takes everything.
    Well,
    /// It says 4xx or 5xx now and then, at any command.
    Moody,
    /// It takes a message and the connection is lost before anybody hears of it.
    Drops,
    /// It says nothing.
    Hangs,
    /// It cannot be reached.
    Away,
}

impl Mood {
    /// Any of them.
    pub fn any(random: &mut StdRng) -> Mood {
        match random.random_range(0..8) {
            0..3 => Mood::Well,
            3..5 => Mood::Moody,
            5 => Mood::Drops,
            6 => Mood::Hangs,
            _ => Mood::Away,
        }
    }
}

/// A transaction with a next hop.
pub struct Attempt {
    /// The lease.
    pub ticket: Ticket,
    /// In the story.
    pub name: u64,
    /// Both ends.
    pub dialogue: Dialogue,
    /// The recipients in the letter.
    pub members: Vec<(u32, Mailbox)>,
    /// What is sent.
    pub content: Bytes,
    /// When it is given up.
    pub patience: Timestamp,
    /// Fates of those that are not in the letter.
    pub decided: Vec<(u32, Settled)>,
    mood: Mood,
    named: Vec<Mailbox>,
    body: Vec<u8>,
}

/// What the next hop did.
pub enum Deed {
    /// It went on.
    Answered,
    /// It took the message for these recipients.
    Took(Vec<u32>),
    /// The same, and nobody heard of it.
    Dropped(Vec<u32>),
}

/// A settlement on its way into the spool.
pub struct Settling {
    /// The message.
    pub id: MessageId,
    /// Recipients and what becomes of them; those that are given back are in the second list.
    pub states: Vec<(u32, Settled)>,
    /// All recipients of the ticket.
    pub recipients: Vec<u32>,
    /// The notice it causes.
    pub notice: Option<MessageId>,
    /// The slot it occupies.
    pub destination: Option<String>,
    /// The rest of it.
    pub future: Pin<Box<dyn Future<Output = Result<(), SpoolError>>>>,
}

impl Attempt {
    /// Begins with those recipients that may be tried.
    pub fn new(
        name: u64,
        ticket: Ticket,
        decided: Vec<(u32, Settled)>,
        content: Bytes,
        mood: Mood,
        now: Timestamp,
    ) -> Attempt {
        let open = |r: &&RecipientEntry| !decided.iter().any(|(id, _)| *id == r.recipient.id);
        let open = ticket.recipients.iter().filter(open);
        let members: Vec<_> = open.map(|r| (r.recipient.id, r.recipient.mailbox.clone())).collect();
        let recipients = members.iter().map(|(_, mailbox)| mailbox.clone().into()).collect();
        let letter = Letter::new(ticket.entry.sender.clone(), recipients, ticket.entry.size);
        let errand = Errand { token: name, letter, content: content.clone() };
        let dialogue = Dialogue::honest(rules("hop.example", 1_000_000), vec![errand]);
        let patience = now.after(std::time::Duration::from_secs(600));
        let (named, body) = (Vec::new(), Vec::new());
        Attempt { ticket, name, dialogue, members, content, patience, decided, mood, named, body }
    }

    /// True when nothing will ever be said.
    pub fn hangs(&self) -> bool {
        self.mood == Mood::Hangs
    }

    /// A piece of the message as the next hop sees it.
    pub fn gather(&mut self, chunk: &[u8]) {
        self.body.extend_from_slice(chunk);
    }

    /// The next hop throws away what it has.
    pub fn discard(&mut self) {
        self.body.clear();
    }

    /// What the next hop received.
    pub fn received(&self) -> &[u8] {
        &self.body
    }

    /// The next hop answers, or does not.
    pub fn answer(&mut self, question: Question, random: &mut StdRng) -> Deed {
        let moody = |random: &mut StdRng, chance| match self.mood {
            Mood::Moody if random.random_bool(chance) => Some(match random.random_range(0..2) {
                0 => Reply::LOCAL_ERROR,
                _ => Reply::MAILBOX_UNAVAILABLE,
            }),
            _ => None,
        };
        let answer = match question {
            Question::Sender(_) => {
                self.named.clear();
                Answer::Reply(moody(random, 0.1).unwrap_or(Reply::SENDER_OK))
            }
            Question::Recipients(all) => {
                let mut replies = Vec::new();
                for rcpt in all {
                    let refusal = moody(random, 0.3);
                    if refusal.is_none() {
                        self.named.push(rcpt.mailbox);
                    }
                    replies.push(refusal.unwrap_or(Reply::RECIPIENT_OK));
                }
                Answer::Recipients(replies)
            }
            Question::Data => {
                self.body.clear();
                Answer::Reply(moody(random, 0.1).unwrap_or(Reply::OK))
            }
            Question::Commit { .. } => match moody(random, 0.2) {
                Some(refusal) => Answer::Reply(refusal),
                None => return self.take(),
            },
            _ => Answer::Reply(moody(random, 0.03).unwrap_or(Reply::OK)),
        };
        self.dialogue.answer(answer);
        Deed::Answered
    }

    fn take(&mut self) -> Deed {
        let taken = |named: &Mailbox| self.members.iter().find(|(_, m)| m == named).map(|m| m.0);
        let taken = self.named.iter().filter_map(taken).collect();
        if self.mood == Mood::Drops {
            return Deed::Dropped(taken);
        }
        self.dialogue.answer(Answer::Reply(Reply::OK));
        Deed::Took(taken)
    }
}

/// The fates of recipients that are not tried at all.
pub fn untried(ticket: &Ticket) -> Vec<(u32, Settled)> {
    let fate = |entry: &RecipientEntry| {
        let RecipientState::Waiting { tries, last, .. } = &entry.state else { return None };
        let why = match last {
            Some(why) if *tries == 0 && why.is_permanent() => why.clone(),
            last if ticket.expired => Why::Expired(last.clone().map(Box::new)),
            _ => return None,
        };
        Some((entry.recipient.id, Settled::Done(Outcome::Bounced(why))))
    };
    ticket.recipients.iter().filter_map(fate).collect()
}

/// What an answer comes to, or the lack of one. `again` is the retry curve's moment.
pub fn fate(result: Option<RecipientResult>, phase: Phase, again: Timestamp) -> Settled {
    let hop = || "hop.example".to_owned();
    match result {
        Some(RecipientResult { reply, .. }) if reply.is_positive() => {
            Settled::Done(Outcome::Delivered { hop: hop(), reply })
        }
        Some(RecipientResult { phase, reply }) => {
            let why = Why::Refused { hop: hop(), phase, reply };
            match why.is_permanent() {
                true => Settled::Done(Outcome::Bounced(why)),
                false => Settled::Again { at: again, why },
            }
        }
        None => Settled::Again { at: again, why: Why::ConnectionLost { hop: hop(), phase } },
    }
}

/// Policy knows another way for some of those that are to be tried again.
pub fn reroute(states: &mut [(u32, Settled)], random: &mut StdRng) {
    for (_, state) in states {
        if let Settled::Again { at, why } = state
            && random.random_bool(0.15)
            && let Ok(domain) = Domain::parse(DOMAINS[random.random_range(0..DOMAINS.len())])
        {
            let route = Route::new(NextHop::Mx(domain), TlsLevel::Opportunistic);
            *state = Settled::Rerouted { route, at: *at, why: why.clone() };
        }
    }
}

/// The fates of a letter's recipients.
pub fn fates(
    members: &[(u32, Mailbox)],
    report: Report,
    again: impl Fn(u32) -> Timestamp,
) -> Vec<(u32, Settled)> {
    let Report { results, phase, .. } = report;
    let each = members.iter().zip(results);
    each.map(|((id, _), result)| (*id, fate(result, phase, again(*id)))).collect()
}

/// The text of the notice about recipients that bounce, if there is somebody to tell.
pub fn notice(
    ticket: &Ticket,
    states: &[(u32, Settled)],
    content: &[u8],
    now: Timestamp,
) -> Option<(waypost_intake::Notice, Vec<u32>)> {
    let bounced = |entry: &RecipientEntry| {
        let state = states.iter().find(|(id, _)| *id == entry.recipient.id);
        match state {
            Some((_, Settled::Done(Outcome::Bounced(why)))) => {
                Some(dsn::Report { recipient: entry.clone(), action: Action::Failed(why.clone()) })
            }
            _ => None,
        }
    };
    let failed: Vec<_> = ticket.recipients.iter().filter_map(bounced).collect();
    if failed.is_empty() {
        return None;
    }
    let header = &content[..header_len(content).unwrap_or_default().min(content.len())];
    let notice = StatusNotice {
        entry: &ticket.entry,
        reports: &failed,
        reporting_mta: "relay.example",
        now,
        original_header: header,
        original: None,
    };
    let text = notice.compose()?;
    let about = ticket.id;
    let (to, header, body, require_tls) = (text.to, text.header, text.body, false);
    let notice = waypost_intake::Notice { to, header, body, about, require_tls };
    Some((notice, failed.iter().map(|report| report.recipient.recipient.id).collect()))
}
