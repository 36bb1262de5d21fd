//! A peer at our door.

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;

use bytes::Bytes;
use rand::Rng;
use rand::rngs::StdRng;
use waypost_inbound::{ListenerConfig, ListenerKind, Server};
use waypost_mail::MessageId;
use waypost_mail::header::header_len;
use waypost_smtp::client::{Addressee, Letter};
use waypost_smtp::{BodyType, Mailbox, Notify, ReversePath};

use crate::caller::{Caller, Errand, Report};
use crate::policy::{REFUSED, Wish};
use crate::relay::{MAX_RECIPIENTS, PER_TICKET, THROUGH};
use crate::storm::poll;
use crate::wire::{Wire, connection, piece};

/// Domains that get mail.
pub const DOMAINS: [&str; 3] = ["a.example", "b.example", "c.example"];

/// A peer, its connection and the session that serves it.
pub struct Visit {
    /// Who it is, in the story.
    pub name: u64,
    /// What it came with, where it listens to answers.
    pub errands: Vec<Errand>,
    /// Replies 5xx since the last message that was taken.
    pub refusals: Vec<String>,
    /// So many count as one: by LMTP each recipient has a reply of its own behind a message.
    pub at_once: usize,
    caller: Caller,
    wire: Wire,
    /// The program's task; absent once it is done, or when the peer was turned away.
    session: Option<Pin<Box<dyn Future<Output = ()>>>>,
    /// On their way to the program.
    up: Vec<u8>,
    /// On their way to the peer.
    down: Vec<u8>,
    /// The program's last line, not yet whole.
    line: Vec<u8>,
    left: bool,
}

/// What happened at a visit.
#[derive(Debug)]
pub enum News {
    /// The program said yes to a message.
    Promised(MessageId),
    /// The program said that a message is with its next hop, or done with.
    Passed(MessageId),
    /// The peer knows what came of an errand.
    Reported(Report),
}

impl Visit {
    /// A peer, well-behaved or not. Messages are called `token`, `token + 1` and so on.
    pub fn new(name: u64, token: u64, server: &Server, random: &mut StdRng) -> Visit {
        let count = random.random_range(1..=3);
        let errands: Vec<Errand> = (0..count).map(|more| errand(token + more, random)).collect();
        // The client does not speak LMTP.
        let (kind, hello) = match random.random_range(0..10) {
            0 => (ListenerKind::Lmtp, "LHLO"),
            1 | 2 => (ListenerKind::Relay, "EHLO"),
            _ => (ListenerKind::Relay, ""),
        };
        let (caller, errands) = match hello.is_empty() {
            true => (Caller::honest(errands.clone()), errands),
            false => (Caller::Hostile(speech(hello, &errands, random)), Vec::new()),
        };
        let (wire, socket) = connection();
        let config = ListenerConfig { name: kind.to_string(), kind };
        let from = IpAddr::V4(Ipv4Addr::new(10, 0, 0, random.random_range(1..9)));
        let session = server.receive(config, Box::new(socket), SocketAddr::new(from, 4711));
        Visit {
            name,
            errands,
            refusals: Vec::new(),
            at_once: if kind == ListenerKind::Lmtp { MAX_RECIPIENTS } else { 1 },
            caller,
            wire,
            session: session.map(|session| Box::pin(session) as _),
            up: Vec::new(),
            down: Vec::new(),
            line: Vec::new(),
            left: false,
        }
    }

    /// True when a session serves it.
    pub fn is_in(&self) -> bool {
        self.session.is_some()
    }

    /// Goes on a little.
    pub fn advance(&mut self, random: &mut StdRng) -> Vec<News> {
        let mut news = self.listen();
        if !self.left {
            news.extend(self.caller.speak(&mut self.up).map(News::Reported));
        }
        let count = piece(self.up.len(), random);
        let octets: Vec<u8> = self.up.drain(..count).collect();
        self.wire.give(&octets);
        news.extend(self.listen());
        let count = piece(self.down.len(), random);
        let octets: Vec<u8> = self.down.drain(..count).collect();
        self.caller.hear(&octets);
        let is_done = self.caller.is_finished() && self.up.is_empty() && self.down.is_empty();
        if is_done || (self.wire.is_closed() && self.down.is_empty()) {
            if let Some(report) = self.caller.speak(&mut self.up) {
                news.push(News::Reported(report));
            }
            self.leave();
        }
        news
    }

    /// Lets the program's task go on.
    pub fn listen(&mut self) -> Vec<News> {
        if let Some(session) = &mut self.session
            && poll(session.as_mut()).is_ready()
        {
            self.session = None;
        }
        let said = self.wire.take_all();
        let mut news = Vec::new();
        for octet in &said {
            self.line.push(*octet);
            if *octet == b'\n' {
                let line = std::mem::take(&mut self.line);
                news.extend(self.note(&line));
            }
        }
        if !self.left {
            self.down.extend(said);
        }
        news
    }

    /// What a line of the program means.
    fn note(&mut self, line: &[u8]) -> Option<News> {
        let line = std::str::from_utf8(line).unwrap_or_default();
        let id = line.split_once("queued as ").map(|(_, id)| id.trim());
        let passed = line.strip_prefix("250 2.0.0 OK ").and_then(|said| said.split(' ').next());
        let passed = passed.and_then(|id| id.trim().parse().ok());
        match id.and_then(|id| id.parse().ok()) {
            Some(id) if line.starts_with("250 ") => {
                self.refusals.clear();
                Some(News::Promised(id))
            }
            _ if passed.is_some() => {
                self.refusals.clear();
                passed.map(News::Passed)
            }
            _ => {
                let is_refusal = line.starts_with('5') && line.as_bytes().get(3) == Some(&b' ');
                self.refusals.extend(is_refusal.then(|| line.trim().to_owned()));
                None
            }
        }
    }

    /// The peer goes, or the network fails. What it sent before may still be taken.
    pub fn leave(&mut self) {
        self.left = true;
        (self.up, self.down) = (Vec::new(), Vec::new());
        self.wire.cut();
    }

    /// The program ends the session where it is.
    pub fn cut_off(&mut self) {
        self.session = None;
        self.leave();
    }

    /// Nobody is there any more, on either side.
    pub fn is_over(&self) -> bool {
        self.left && self.session.is_none()
    }
}

/// The header of a message.
fn header_of(content: &[u8]) -> &str {
    let end = header_len(content).unwrap_or_default().min(content.len());
    std::str::from_utf8(&content[..end]).unwrap_or_default()
}

/// What the message is called, if it says so.
pub fn token_of(content: &[u8]) -> Option<u64> {
    let line = header_of(content).lines().find_map(|line| line.strip_prefix("X-Token: "))?;
    line.trim().parse().ok()
}

/// What policy does about the message.
pub fn wish_of(content: &[u8]) -> Wish {
    let line = header_of(content).lines().find_map(|line| line.strip_prefix("X-Policy: "));
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
    // Every other one is such as may go through: to few, of one domain.
    let (most, only) = match random.random() {
        true => (PER_TICKET, Some(THROUGH[random.random_range(0..THROUGH.len())])),
        false => (most, None),
    };
    let recipients = (0..random.random_range(1..=most)).filter_map(|number| {
        let domain = only.unwrap_or_else(|| DOMAINS[random.random_range(0..DOMAINS.len())]);
        let name = if random.random_bool(0.1) { REFUSED } else { "r" };
        let mailbox = format!("{name}{number}@{domain}").parse::<Mailbox>().ok()?;
        Some(Addressee { notify: notify(random), ..Addressee::from(mailbox) })
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
    // Now and then it goes in counted octets.
    let body = if random.random_bool(0.15) { BodyType::BinaryMime } else { BodyType::SevenBit };
    let letter = Letter { body, ..Letter::new(sender, recipients, size) };
    Errand { token, letter, content }
}

/// Of what the sender wants to hear.
fn notify(random: &mut StdRng) -> Notify {
    match random.random_range(0..6) {
        0 => Notify::Never,
        1 | 2 => {
            let mut any = || random.random();
            let (success, failure, delay) = (any(), any(), any());
            let all = success || failure || delay;
            Notify::Of { success: success || !all, failure, delay }
        }
        _ => Notify::Unsaid,
    }
}

/// What somebody says who does not listen: whole transactions, halves of them, and noise.
fn speech(hello: &str, errands: &[Errand], random: &mut StdRng) -> Vec<u8> {
    let mut speech = format!("{hello} peer.example\r\n").into_bytes();
    for errand in errands {
        let noise = if random.random_bool(0.3) { 16 } else { 4 };
        for _ in 0..random.random_range(0..noise) {
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
