//! A peer at our door.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use rand::Rng;
use rand::rngs::StdRng;
use waypost_intake::{Door, Intake, Rules};
use waypost_mail::{Body, Envelope, Facts, Message, MessageId, Recipient, Timestamp};
use waypost_smtp::client::{Addressee, Letter};
use waypost_smtp::server::{Answer, Question};
use waypost_smtp::{Mailbox, Reply, ReversePath};

use crate::dialogue::{Dialogue, Errand};
use crate::policy::Wish;
use crate::relay::{MAX_RECIPIENTS, MAX_SIZE, rules};

/// Domains that get mail.
pub const DOMAINS: [&str; 3] = ["a.example", "b.example", "c.example"];

type Accepting = Pin<Box<dyn Future<Output = Result<Reply, Reply>>>>;

/// A session at our door, and what the shell around the conversation knows.
pub struct Visit {
    /// Both ends.
    pub dialogue: Dialogue,
    /// Who it is, in the story.
    pub name: u64,
    sender: ReversePath,
    recipients: Vec<Mailbox>,
    body: Vec<u8>,
    /// A message on its way into the queue.
    pub accepting: Option<(MessageId, Accepting)>,
    /// Messages decided about, and whether they were taken: the peer must hear the same.
    pub decided: Vec<(u64, bool)>,
}

/// A message that was received whole.
pub struct Arrived {
    /// Its id.
    pub id: MessageId,
    /// Its octets.
    pub content: Bytes,
    /// Its recipients.
    pub recipients: usize,
}

impl Visit {
    /// A peer, well-behaved or not. Messages are called `token`, `token + 1` and so on.
    pub fn new(name: u64, token: u64, random: &mut StdRng) -> Visit {
        let rules = rules("relay.example", MAX_SIZE);
        let count = random.random_range(1..=3);
        let errands: Vec<Errand> = (0..count).map(|more| errand(token + more, random)).collect();
        let dialogue = if random.random_bool(0.8) {
            Dialogue::honest(rules, errands)
        } else {
            Dialogue::hostile(rules, speech(&errands, random))
        };
        let (recipients, body, decided) = (Vec::new(), Vec::new(), Vec::new());
        let sender = ReversePath::Null;
        Visit { dialogue, name, sender, recipients, body, accepting: None, decided }
    }

    /// A piece of a message.
    pub fn gather(&mut self, chunk: &[u8]) {
        self.body.extend_from_slice(chunk);
    }

    /// The body so far is thrown away.
    pub fn discard(&mut self) {
        self.body.clear();
    }

    /// Decides, or begins to take a message.
    pub fn decide(
        &mut self,
        question: Question,
        intake: &Arc<Intake>,
        now: Timestamp,
        random: &mut StdRng,
    ) -> Option<Arrived> {
        let answer = match question {
            Question::Sender(from) => {
                (self.sender, self.recipients) = (from.path, Vec::new());
                match intake.accepting() {
                    Ok(()) => Answer::Reply(Reply::SENDER_OK),
                    Err(reply) => Answer::Reply(reply),
                }
            }
            Question::Recipients(all) => Answer::Recipients(
                all.into_iter().map(|rcpt| self.judge(rcpt.mailbox, random)).collect(),
            ),
            Question::Commit { .. } => return Some(self.begin(intake, now)),
            Question::Data => {
                self.body.clear();
                Answer::Reply(Reply::OK)
            }
            _ => Answer::Reply(Reply::OK),
        };
        self.dialogue.answer(answer);
        None
    }

    fn judge(&mut self, mailbox: Mailbox, random: &mut StdRng) -> Reply {
        if random.random_bool(0.1) {
            return Reply::MAILBOX_UNAVAILABLE;
        }
        self.recipients.push(mailbox);
        Reply::RECIPIENT_OK
    }

    fn begin(&mut self, intake: &Arc<Intake>, received: Timestamp) -> Arrived {
        let content = Bytes::from(std::mem::take(&mut self.body));
        let recipients = std::mem::take(&mut self.recipients);
        let numbered = recipients.into_iter().zip(0..);
        let recipients: Vec<Recipient> =
            numbered.map(|(mailbox, id)| Recipient::new(id, mailbox)).collect();
        let (id, count) = (intake.ids().message(), recipients.len());
        let facts = Facts::internal(intake.ids().session());
        let envelope = Envelope::new(id, self.sender.clone(), recipients);
        let (intake, body) = (intake.clone(), Body::Memory(content.clone()));
        let accepting = async move {
            let envelope = envelope.ok_or(Reply::NO_VALID_RECIPIENTS)?;
            let message = Message { envelope, facts, body, received };
            let groups = [(0..count as u32).collect()];
            let rules = Rules {
                pinned: None,
                may_send_to: &|_| true,
                check_header: &|_| Ok(()),
                groups: &groups,
                origin: None,
            };
            let replies = intake.accept(message, Door::Relay, rules).await;
            let reply = replies.into_iter().next().unwrap_or(Reply::LOCAL_ERROR);
            if reply.is_positive() { Ok(reply) } else { Err(reply) }
        };
        self.accepting = Some((id, Box::pin(accepting)));
        Arrived { id, content, recipients: count }
    }
}

/// What the message is called, if it says so.
pub fn token_of(content: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(content).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("X-Token: "))?;
    line.trim().parse().ok()
}

/// What policy does about the message.
pub fn wish_of(content: &[u8]) -> Wish {
    let text = std::str::from_utf8(content).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("X-Policy: "));
    let wish = line.and_then(|name| Wish::ALL.into_iter().find(|wish| wish.name() == name.trim()));
    wish.unwrap_or(Wish::Pass)
}

fn errand(token: u64, random: &mut StdRng) -> Errand {
    let wish = match random.random_range(0..20) {
        0 => Wish::Refuse,
        1 => Wish::Fail,
        2 => Wish::Discard,
        3 => Wish::Quarantine,
        4 => Wish::Doom,
        _ => Wish::Pass,
    };
    let mut content = format!("X-Token: {token}\r\nX-Policy: {}\r\n\r\n", wish.name());
    // Now and then more than is taken.
    let lines = if random.random_bool(0.05) { 90 } else { random.random_range(0..20) };
    for _ in 0..lines {
        let dots = ".".repeat(random.random_range(0..3));
        let words = "and so on ".repeat(random.random_range(0..6));
        content.push_str(&format!("{dots}{words}\r\n"));
    }
    let most = MAX_RECIPIENTS + usize::from(random.random_bool(0.2));
    let recipients = (0..random.random_range(1..=most)).filter_map(|number| {
        let domain = DOMAINS[random.random_range(0..DOMAINS.len())];
        format!("r{number}@{domain}").parse::<Mailbox>().ok().map(Addressee::from)
    });
    let recipients = recipients.collect();
    let sender = match random.random_bool(0.1) {
        true => ReversePath::Null,
        false => format!("sender@{}", DOMAINS[random.random_range(0..DOMAINS.len())])
            .parse()
            .map_or(ReversePath::Null, ReversePath::Mailbox),
    };
    let content = Bytes::from(content);
    let size = content.len() as u64;
    let letter = Letter::new(sender, recipients, size);
    Errand { token, letter, content }
}

/// What somebody says who does not listen: whole transactions, halves of them, and noise.
fn speech(errands: &[Errand], random: &mut StdRng) -> Vec<u8> {
    let mut speech = b"EHLO peer.example\r\n".to_vec();
    for errand in errands {
        for _ in 0..random.random_range(0..4) {
            speech.extend_from_slice(NOISE[random.random_range(0..NOISE.len())]);
        }
        speech.extend(format!("MAIL FROM:<{}>\r\n", errand.letter.sender).bytes());
        for recipient in &errand.letter.recipients {
            speech.extend(format!("RCPT TO:<{}>\r\n", recipient.mailbox).bytes());
        }
        let mut stuffer = waypost_smtp::Stuffer::new();
        if random.random() {
            speech.extend_from_slice(b"DATA\r\n");
            stuffer.encode(&errand.content, &mut speech);
            stuffer.finish(&mut speech);
        } else {
            let cut = random.random_range(0..=errand.content.len());
            for (part, last) in [(&errand.content[..cut], ""), (&errand.content[cut..], " LAST")] {
                speech.extend(format!("BDAT {}{last}\r\n", part.len()).bytes());
                speech.extend_from_slice(part);
            }
        }
    }
    if random.random_bool(0.3) {
        speech.truncate(random.random_range(0..=speech.len()));
    }
    speech
}

const NOISE: [&[u8]; 8] = [
    b"NOOP\r\n",
    b"RSET\r\n",
    b"DATA\r\n",
    b"RCPT TO:<nobody@nowhere\r\n",
    b"\xff\xfe\r\n",
    b"MAIL FROM:<x@a.example>\r\nDATA\r\n",
    b"BDAT 5\r\nhello",
    b"VRFY root\r\n",
];
