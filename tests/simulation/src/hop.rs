//! A next hop at the other end of a delivery's connection.

use rand::Rng;
use rand::rngs::StdRng;
use waypost_mail::MessageId;
use waypost_smtp::server::{Answer, Conversation, Offers, Question, Rules, Step, TlsRule};
use waypost_smtp::{Mailbox, Reply};

use crate::net::Mood;
use crate::relay::rules;
use crate::wire::{Wire, piece};

/// What no server says where it is said.
const BABBLE: [&[u8]; 5] =
    [b"354 go on\r\n", b"220 hello\r\n", b"what?\r\n", b"250-so it goes\r\n", b"\r\n\0\xff\r\n"];

/// A session with a next hop.
#[derive(Debug)]
pub struct Hop {
    /// Which host it is.
    pub host: usize,
    wire: Wire,
    server: Conversation,
    /// On their way to the program.
    down: Vec<u8>,
    /// Octets put on their way in all.
    said: u64,
    named: Vec<Mailbox>,
    body: Vec<u8>,
    manner: Manner,
    /// Messages it took, recipients, and how much must be read to have heard of it.
    unheard: Vec<(MessageId, u32, u64)>,
}

/// How it goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// As servers do.
    Usual,
    /// It says nothing more.
    Silent,
    /// It closes once what it said is on its way.
    Leaving,
}

/// What it did.
#[derive(Debug)]
pub enum Deed {
    /// It went on.
    Moved,
    /// Nothing: it waits.
    Waited,
    /// It takes this message for these recipients.
    Took {
        /// Who was named and not refused.
        named: Vec<Mailbox>,
        /// What was received.
        body: Vec<u8>,
    },
    /// The connection is over. What it took, and nobody heard of, comes again (RFC 1047).
    Over(Vec<(MessageId, u32)>),
}

impl Hop {
    /// A host that was called.
    pub fn new(host: usize, wire: Wire, mood: Mood, random: &mut StdRng) -> Hop {
        let tls = if mood == Mood::NoTls { TlsRule::Offered } else { TlsRule::Off };
        let (dsn, binary_mime) = (random.random_bool(0.4), random.random_bool(0.7));
        let offers = Offers { dsn, binary_mime, ..Offers::default() };
        let usual = rules("hop.example", 1_000_000);
        let server = Conversation::new(Rules { tls, offers, ..usual });
        Hop {
            host,
            wire,
            server,
            down: Vec::new(),
            said: 0,
            named: Vec::new(),
            body: Vec::new(),
            manner: Manner::Usual,
            unheard: Vec::new(),
        }
    }

    /// Goes on a little.
    pub fn advance(&mut self, mood: Mood, random: &mut StdRng) -> Deed {
        if self.wire.is_closed() {
            return self.end();
        }
        let mut moved = false;
        if self.manner == Manner::Usual {
            match self.server.step() {
                Step::NeedInput => {}
                Step::Ask(Question::Commit { .. }) => return self.decide(mood, random),
                Step::Ask(question) => {
                    let answer = self.answer(question, mood, random);
                    self.server.answer(answer);
                    moved = true;
                }
                Step::Chunk(chunk) => {
                    self.body.extend_from_slice(&chunk);
                    moved = true;
                    if mood == Mood::Drops && random.random_bool(0.2) {
                        return self.hang_up();
                    }
                }
                Step::Discard => self.body.clear(),
                // It offered what it cannot do.
                Step::Upgrade => return self.hang_up(),
                Step::Close => self.manner = Manner::Leaving,
            }
        }
        let said = self.server.take_output();
        let said = self.offered(said);
        if !said.is_empty() && self.manner != Manner::Silent {
            self.say(said, mood, random);
        }
        if self.manner == Manner::Leaving && self.down.is_empty() {
            return self.hang_up();
        }
        if self.carry(mood, random) || moved { Deed::Moved } else { Deed::Waited }
    }

    /// It took what it was asked to commit, which these recipients of a message are.
    pub fn took(
        &mut self,
        message: MessageId,
        recipients: &[u32],
        mood: Mood,
        random: &mut StdRng,
    ) {
        self.server.answer(Answer::Reply(Reply::OK));
        let reply = self.server.take_output();
        let heard_at = self.said + reply.len() as u64;
        self.unheard.extend(recipients.iter().map(|recipient| (message, *recipient, heard_at)));
        self.say(reply, mood, random);
    }

    /// Ends the connection: what has been said may still be read.
    pub fn hang_up(&mut self) -> Deed {
        self.wire.cut();
        self.end()
    }

    /// True when it took this message, and the relay has not heard so, or never will.
    pub fn is_unheard(&self, id: MessageId) -> bool {
        let read = self.wire.read();
        self.unheard.iter().any(|(message, _, heard_at)| *message == id && read < *heard_at)
    }

    fn end(&mut self) -> Deed {
        let read = self.wire.read();
        let lost = self.unheard.iter().filter(|(.., heard_at)| read < *heard_at);
        Deed::Over(lost.map(|(message, recipient, _)| (*message, *recipient)).collect())
    }

    fn decide(&mut self, mood: Mood, random: &mut StdRng) -> Deed {
        if let Some(refusal) = moody(mood, 0.3, random) {
            self.server.answer(Answer::Reply(refusal));
            return Deed::Moved;
        }
        if mood == Mood::Drops && random.random_bool(0.2) {
            return self.hang_up();
        }
        let (named, body) = (std::mem::take(&mut self.named), std::mem::take(&mut self.body));
        Deed::Took { named, body }
    }

    fn answer(&mut self, question: Question, mood: Mood, random: &mut StdRng) -> Answer {
        match question {
            Question::Sender(_) => {
                self.named.clear();
                Answer::Reply(moody(mood, 0.1, random).unwrap_or(Reply::SENDER_OK))
            }
            Question::Recipients(all) => {
                let mut replies = Vec::new();
                for rcpt in all {
                    let refusal = moody(mood, 0.4, random);
                    if refusal.is_none() {
                        self.named.push(rcpt.mailbox);
                    }
                    replies.push(refusal.unwrap_or(Reply::RECIPIENT_OK));
                }
                Answer::Recipients(replies)
            }
            Question::Data => {
                self.body.clear();
                Answer::Reply(moody(mood, 0.1, random).unwrap_or(Reply::OK))
            }
            _ => Answer::Reply(moody(mood, 0.03, random).unwrap_or(Reply::OK)),
        }
    }

    /// Says it, or what its mood makes of it.
    fn say(&mut self, said: Vec<u8>, mood: Mood, random: &mut StdRng) {
        let spoils =
            |mood_of, chance, random: &mut StdRng| mood == mood_of && random.random_bool(chance);
        let (words, manner) = if spoils(Mood::Drops, 0.2, random) {
            // Some of it may still be on its way.
            (said[..random.random_range(0..=said.len() / 2)].to_vec(), Manner::Leaving)
        } else if spoils(Mood::Hangs, 0.3, random) {
            (Vec::new(), Manner::Silent)
        } else if spoils(Mood::Babbles, 0.2, random) {
            (BABBLE[random.random_range(0..BABBLE.len())].to_vec(), Manner::Leaving)
        } else if spoils(Mood::Leaves, 0.2, random) {
            (b"421 4.3.2 Closing\r\n".to_vec(), Manner::Leaving)
        } else {
            (said, self.manner)
        };
        if manner != self.manner {
            let unsaid = self.unheard.iter_mut().filter(|(.., heard_at)| *heard_at > self.said);
            unsaid.for_each(|(.., heard_at)| *heard_at = u64::MAX);
        }
        self.manner = manner;
        self.said += words.len() as u64;
        self.down.extend(words);
    }

    /// Every other host does without CHUNKING, so that mail goes in lines too.
    fn offered(&self, mut said: Vec<u8>) -> Vec<u8> {
        const OFFER: &[u8] = b"250-CHUNKING\r\n";
        let at = said.windows(OFFER.len()).position(|line| line == OFFER);
        if let Some(at) = at.filter(|_| self.host.is_multiple_of(2)) {
            said.drain(at..at + OFFER.len());
        }
        said
    }

    /// Lets octets go one way or the other; false when there are none.
    fn carry(&mut self, mood: Mood, random: &mut StdRng) -> bool {
        let (up, down) = (self.wire.has_words(), !self.down.is_empty());
        if down && (!up || random.random()) {
            let count = match mood {
                Mood::Slow => 1,
                _ => piece(self.down.len(), random),
            };
            let octets: Vec<u8> = self.down.drain(..count).collect();
            self.wire.give(&octets);
        } else if up {
            let octets = self.wire.take(random);
            if self.manner == Manner::Usual {
                self.server.push(&octets);
            }
        }
        up || down
    }
}

/// A refusal, now and then, from who is moody.
fn moody(mood: Mood, chance: f64, random: &mut StdRng) -> Option<Reply> {
    if mood != Mood::Moody || !random.random_bool(chance) {
        return None;
    }
    Some(match random.random_range(0..2) {
        0 => Reply::LOCAL_ERROR,
        _ => Reply::MAILBOX_UNAVAILABLE,
    })
}
