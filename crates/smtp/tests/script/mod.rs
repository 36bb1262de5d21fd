//! Dialogues as files, and how they are replayed against a server conversation.
//!
//! A file is a list of lines; empty ones and those with `#` are comments.
//!
//! ```text
//! RULES tls=active auth=required mechanisms=PLAIN,LOGIN submission lmtp xclient=offered size=9 recipients=9 errors=9 commands=9
//!       offers=dsn,binary,requiretls,limits,priority by=60 hold=9 (until 9 seconds into 1970)
//!       messages=9 session-recipients=9 out-of-turn long-lines=refuse (or fold), on the same line
//! OPEN                the greeting and EHLO (LHLO with lmtp), not compared (without it, expect `ASK connect` first)
//! C: MAIL FROM:<>     sent with CRLF, unless it ends in \c; escapes are \r \n \0 \\ \xNN \*9{text}
//! S: 250 2.1.0        a line we reply; more words may follow on it
//! ASK xclient 192.0.2.7 login=anna
//! ASK sender <> -> 550 5.7.1 No
//!                     a question; without an answer it is answered in the best way. Others are
//!                     `-> challenge text`, `-> authenticated`, `-> disconnect 421 4.7.0 text`,
//!                     and in LMTP at commit `-> each 250 2.0.0 OK | 550 5.7.1 No`
//! BODY text           the body, a line at a time, written before its `ASK commit`
//! DISCARD             Step::Discard
//! UPGRADE             Step::Upgrade
//! CLOSE               Step::Close
//! TLS PLAIN,LOGIN     the handshake is done, with these mechanisms from now on
//! SHUTDOWN 421 4.3.2 Bye
//! TOGETHER            the next C: lines arrive in one piece: a peer that does not wait
//! ```
//!
//! Lines of C: that follow each other arrive without waiting for replies, and are cut anywhere. The
//! replies to them, and the questions for each recipient, must be those written before the next C:.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "it is all test")]

use std::collections::VecDeque;
use std::fmt::Write as _;

use waypost_smtp::server::{
    Answer, AuthRule, Conversation, FutureRelease, LongLines, MailFrom, Offers, OutOfTurn,
    Question, Rules, Step, Strictness, TlsRule, Told, XclientRule,
};
use waypost_smtp::{BodyType, Enhanced, Hold, Notify, Reply};

/// One file.
pub(crate) struct Script {
    pub(crate) rules: Rules,
    pub(crate) open: bool,
    pub(crate) groups: Vec<Group>,
}

/// What arrives without waiting, and what must come of it.
#[derive(Default)]
pub(crate) struct Group {
    pub(crate) before: Option<Before>,
    pub(crate) together: bool,
    pub(crate) bytes: Vec<u8>,
    pub(crate) expected: Seen,
    pub(crate) answers: VecDeque<Option<Answer>>,
}

/// What the shell does before the bytes of a group arrive.
pub(crate) enum Before {
    Tls(Vec<String>),
    ShutDown(Reply),
}

/// What a group brought about.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) events: Vec<String>,
    pub(crate) replies: Vec<String>,
}

pub(crate) fn rules() -> Rules {
    Rules {
        hostname: "mx.example.org".into(),
        tls: TlsRule::Off,
        mechanisms: vec!["PLAIN".into(), "LOGIN".into()],
        auth: AuthRule::Off,
        submission: false,
        xclient: XclientRule::Off,
        lmtp: false,
        origin: None,
        max_size: 1000,
        max_recipients: 5,
        max_errors: 5,
        max_commands: 50,
        offers: Offers::default(),
        max_messages: 50,
        max_session_recipients: 50,
        strict: Strictness::TOLERANT,
    }
}

impl Script {
    pub(crate) fn parse(text: &str) -> Script {
        let mut script = Script { rules: rules(), open: false, groups: vec![Group::default()] };
        let mut body = Vec::new();
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
            if matches!(word, "C:" | "TLS" | "SHUTDOWN" | "TOGETHER") {
                script.turn(word);
            }
            let group = script.groups.last_mut().unwrap();
            match word {
                "RULES" => rest.split(' ').for_each(|word| rule(&mut script.rules, word)),
                "OPEN" => script.open = true,
                "C:" => group.bytes.extend(unescape(rest)),
                "S:" => group.expected.replies.push(rest.to_owned()),
                "BODY" => body.extend(unescape(rest)),
                "TLS" => group.before = Some(Before::Tls(list(rest))),
                "SHUTDOWN" => group.before = Some(Before::ShutDown(reply(rest))),
                "TOGETHER" => group.together = true,
                "ASK" => {
                    let (question, answer) = match rest.split_once(" -> ") {
                        Some((question, answer)) => (question, Some(parse_answer(answer))),
                        None => (rest, None),
                    };
                    if question.starts_with("commit") {
                        group.expected.events.push(format!("BODY {}", escape(&body)));
                        body.clear();
                    }
                    group.expected.events.push(format!("ASK {}", repeated(question)));
                    group.answers.push_back(answer);
                }
                "DISCARD" | "UPGRADE" | "CLOSE" => group.expected.events.push(word.to_owned()),
                _ => panic!("what is {line:?}?"),
            }
        }
        script
    }

    /// A new group begins where the peer, or the shell, has its turn.
    fn turn(&mut self, word: &str) {
        let group = self.groups.last().unwrap();
        let answered = group.expected != Seen::default();
        let in_group = word == "C:" && !answered && self.groups.len() > 1;
        if !in_group {
            self.groups.push(Group::default());
        }
    }

    /// Replays it; `cut` says for a group by its number and bytes how these arrive.
    pub(crate) fn play(&self, cut: impl Fn(usize, &[u8]) -> Vec<Vec<u8>>) -> Vec<Seen> {
        let mut peer = Peer::new(self.rules.clone());
        if self.open {
            peer.receive(b"", &mut VecDeque::new());
            let greeting: &[u8] = match self.rules.lmtp {
                true => b"LHLO peer.example\r\n",
                false => b"EHLO peer.example\r\n",
            };
            peer.receive(greeting, &mut VecDeque::new());
            peer.take_seen();
        }
        let mut all = Vec::new();
        for (number, group) in self.groups.iter().enumerate() {
            match &group.before {
                Some(Before::Tls(mechanisms)) => peer.conversation.upgraded(mechanisms.clone()),
                Some(Before::ShutDown(reply)) => peer.conversation.shut_down(reply.clone()),
                None => {}
            }
            let mut answers = group.answers.clone();
            peer.receive(b"", &mut answers);
            for piece in cut(number, &group.bytes) {
                peer.receive(&piece, &mut answers);
            }
            all.push(peer.take_seen());
        }
        all
    }
}

/// A conversation and what was seen of it.
pub(crate) struct Peer {
    pub(crate) conversation: Conversation,
    pub(crate) seen: Seen,
    pub(crate) body: Vec<u8>,
    output: Vec<u8>,
    /// Policy let a body come, and nothing was said yet about what becomes of it.
    body_is_open: bool,
    over: bool,
    /// The message may be any octets.
    binary: bool,
}

impl Peer {
    pub(crate) fn new(rules: Rules) -> Peer {
        let conversation = Conversation::new(rules);
        Peer {
            conversation,
            seen: Seen::default(),
            body: vec![],
            output: vec![],
            body_is_open: false,
            over: false,
            binary: false,
        }
    }

    /// Pushes bytes, then takes steps until there is nothing to do.
    pub(crate) fn receive(&mut self, bytes: &[u8], answers: &mut VecDeque<Option<Answer>>) {
        self.conversation.push(bytes);
        let mut patience = 100 + 4 * self.conversation.buffered();
        while !self.over {
            patience = patience.checked_sub(1).expect("steps without progress");
            match self.conversation.step() {
                Step::NeedInput => {
                    assert!(self.conversation.buffered() <= 12 * 1024);
                    break;
                }
                Step::Ask(question) => self.asked(question, answers),
                Step::Chunk(text) => {
                    assert!(!text.is_empty() && text.len() <= 65536);
                    assert!(self.body_is_open && self.conversation.in_data());
                    self.body.extend_from_slice(&text);
                }
                Step::Discard => {
                    assert!(std::mem::replace(&mut self.body_is_open, false));
                    self.body.clear();
                    self.event("DISCARD");
                }
                Step::Upgrade => {
                    if self.seen.events.last().is_none_or(|last| last != "UPGRADE") {
                        self.event("UPGRADE");
                    }
                    break;
                }
                Step::Close => {
                    assert!(!self.body_is_open);
                    self.event("CLOSE");
                    self.over = true;
                }
            }
        }
        self.output.extend(self.conversation.take_output());
    }

    pub(crate) fn take_seen(&mut self) -> Seen {
        let output = String::from_utf8(std::mem::take(&mut self.output)).unwrap();
        assert!(output.is_empty() || output.ends_with("\r\n"), "half a line: {output:?}");
        self.seen.replies = output.split_terminator("\r\n").map(str::to_owned).collect();
        std::mem::take(&mut self.seen)
    }

    fn event(&mut self, event: &str) {
        self.seen.events.push(event.to_owned());
    }

    fn asked(&mut self, question: Question, answers: &mut VecDeque<Option<Answer>>) {
        if let Question::Commit { size, eight_bit } = question {
            self.commits(size, eight_bit);
        }
        let mut next = || answers.pop_front().flatten();
        let answer = match &question {
            Question::Recipients(all) => {
                assert!(!all.is_empty());
                let reply = |answer| match answer {
                    None => Reply::RECIPIENT_OK,
                    Some(Answer::Reply(reply)) => reply,
                    Some(_) => Reply::LOCAL_ERROR,
                };
                Answer::Recipients(all.iter().map(|_| reply(next())).collect())
            }
            Question::Auth { .. } | Question::AuthResponse(_) => {
                next().unwrap_or(Answer::Authenticated)
            }
            Question::Xclient(told) => next().unwrap_or(Answer::Introduced {
                again: false,
                authenticated: told.login.known().is_some(),
                mechanisms: None,
            }),
            Question::Sender(from) => {
                self.binary = from.body == BodyType::BinaryMime;
                next().unwrap_or(Answer::Reply(Reply::SENDER_OK))
            }
            _ => next().unwrap_or(Answer::Reply(Reply::OK)),
        };
        self.seen.events.extend(shown(&question).into_iter().map(|text| format!("ASK {text}")));
        if let (Question::Data, Answer::Reply(reply)) = (&question, &answer) {
            self.body_is_open = reply.is_positive();
        }
        self.conversation.answer(answer);
    }

    /// What every message that is to be kept has in common.
    fn commits(&mut self, size: u64, eight_bit: bool) {
        assert!(std::mem::replace(&mut self.body_is_open, false));
        let body = std::mem::take(&mut self.body);
        let lines: Vec<_> = body.split_inclusive(|byte| *byte == b'\n').collect();
        for line in lines.into_iter().filter(|_| !self.binary) {
            let text = line.strip_suffix(b"\r\n").expect("a line without CRLF");
            assert!(!text.contains(&b'\r') && !text.contains(&0));
        }
        assert_eq!((size, eight_bit), (body.len() as u64, !body.is_ascii()));
        self.event(&format!("BODY {}", escape(&body)));
    }
}

/// A question as files have it: one line for each recipient.
fn shown(question: &Question) -> Vec<String> {
    let flag = |on: bool, word: &'static str| if on { word } else { "" };
    vec![match question {
        Question::Connect => "connect".into(),
        Question::Helo { name, esmtp } => {
            format!("{} {name}", if *esmtp { "ehlo" } else { "helo" })
        }
        Question::Auth { mechanism, initial: None } => format!("auth {mechanism}"),
        Question::Auth { mechanism, initial: Some(initial) } => {
            format!("auth {mechanism} [{}]", escape(initial))
        }
        Question::AuthResponse(response) => format!("response [{}]", escape(response)),
        Question::Xclient(told) => {
            let address = match &told.address {
                Told::Unsaid => String::new(),
                Told::Unknown => " unknown".to_owned(),
                Told::Is(address) => format!(" {address}"),
            };
            let login = told.login.known().map(|login| format!(" login={login}"));
            format!("xclient{address}{}", login.unwrap_or_default())
        }
        Question::Sender(from) => {
            let size = from.size.map(|size| format!(" size={size}")).unwrap_or_default();
            let eight_bit = flag(from.body == BodyType::EightBitMime, " 8bit");
            let utf8 = flag(from.smtputf8, " utf8");
            format!("sender <{}>{size}{eight_bit}{utf8}{}", from.path, asked_for(from))
        }
        Question::Recipients(all) => {
            let show = |to: &waypost_smtp::server::RcptTo| {
                let notify = Some(to.notify).filter(|notify| *notify != Notify::Unsaid);
                let notify = notify.map(|notify| format!(" notify={notify}")).unwrap_or_default();
                let original = to.original.as_ref().map(|original| format!(" orcpt={original}"));
                let postmaster = flag(to.postmaster, " postmaster");
                let original = original.unwrap_or_default();
                format!("rcpt <{}>{postmaster}{notify}{original}", to.mailbox)
            };
            return all.iter().map(show).collect();
        }
        Question::Data => "data".into(),
        Question::Commit { size, eight_bit } => {
            format!("commit {size}{}", flag(*eight_bit, " 8bit"))
        }
    }]
}

/// The parameters of extensions that are not always on offer.
fn asked_for(from: &MailFrom) -> String {
    let hold = from.hold.map(|hold| match hold {
        Hold::For(seconds) => format!("hold={seconds}"),
        Hold::Until(moment) => format!("until={moment}"),
    });
    let words = [
        (from.body == BodyType::BinaryMime).then(|| "binary".to_owned()),
        from.submitter.as_ref().map(|submitter| format!("auth=<{submitter}>")),
        from.ret.map(|ret| format!("ret={ret}")),
        from.envid.as_ref().map(|envid| format!("envid={envid}")),
        from.require_tls.then(|| "requiretls".to_owned()),
        from.deliver_by.map(|by| format!("by={by}")),
        hold,
        from.priority.map(|priority| format!("priority={priority}")),
    ];
    words.into_iter().flatten().map(|word| format!(" {word}")).collect()
}

fn offer(offers: &mut Offers, word: &str) {
    match word {
        "dsn" => offers.dsn = true,
        "binary" => offers.binary_mime = true,
        "requiretls" => offers.require_tls = true,
        "limits" => offers.limits = true,
        "priority" => offers.mt_priority = true,
        _ => panic!("offer {word:?}?"),
    }
}

fn rule(rules: &mut Rules, word: &str) {
    let (key, value) = word.split_once('=').unwrap_or((word, ""));
    let number = || value.parse().unwrap();
    match key {
        "tls" => {
            rules.tls = match value {
                "offered" => TlsRule::Offered,
                "required" => TlsRule::Required,
                "active" => TlsRule::Active,
                _ => panic!("tls={value}?"),
            }
        }
        "auth" => {
            rules.auth = match value {
                "offered" => AuthRule::Offered,
                "required" => AuthRule::Required,
                _ => panic!("auth={value}?"),
            }
        }
        "xclient" => {
            rules.xclient = match value {
                "offered" => XclientRule::Offered,
                "login" => XclientRule::WithLogin,
                _ => panic!("xclient={value}?"),
            }
        }
        "hostname" => rules.hostname = value.into(),
        "mechanisms" => rules.mechanisms = list(value),
        "submission" => rules.submission = true,
        "lmtp" => rules.lmtp = true,
        "size" => rules.max_size = number(),
        "recipients" => rules.max_recipients = value.parse().unwrap(),
        "errors" => rules.max_errors = value.parse().unwrap(),
        "commands" => rules.max_commands = value.parse().unwrap(),
        "offers" => value.split(',').for_each(|word| offer(&mut rules.offers, word)),
        "by" => rules.offers.deliver_by = Some(value.parse().unwrap()),
        "hold" => {
            let until = value.parse().unwrap();
            rules.offers.future_release = Some(FutureRelease { interval: number(), until });
        }
        "messages" => rules.max_messages = value.parse().unwrap(),
        "session-recipients" => rules.max_session_recipients = value.parse().unwrap(),
        "out-of-turn" => rules.strict.out_of_turn = OutOfTurn::Refuse,
        "long-lines" => {
            rules.strict.long_lines = match value {
                "refuse" => LongLines::Refuse,
                "fold" => LongLines::Fold,
                _ => panic!("long-lines={value}?"),
            }
        }
        _ => panic!("rule {word:?}?"),
    }
}

fn list(words: &str) -> Vec<String> {
    words.split(',').filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

fn parse_answer(text: &str) -> Answer {
    let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
    match word {
        "challenge" => Answer::Challenge(rest.as_bytes().to_vec()),
        "authenticated" => Answer::Authenticated,
        "disconnect" => Answer::Disconnect(reply(rest)),
        "wrong" => Answer::Recipients(vec![]),
        "each" => Answer::Recipients(rest.split(" | ").map(reply).collect()),
        _ => Answer::Reply(reply(text)),
    }
}

fn reply(text: &str) -> Reply {
    let (code, rest) = text.split_once(' ').unwrap();
    let (enhanced, text) = match Enhanced::split(rest) {
        Some((enhanced, text)) => (Some(enhanced), text),
        None => (None, rest),
    };
    let code = code.parse().unwrap();
    Reply { enhanced, ..Reply::plain(code, "").with_text(text) }
}

/// The bytes that a text stands for: with CRLF, unless it ends in `\c`.
fn unescape(text: &str) -> Vec<u8> {
    let (text, end) = match text.strip_suffix("\\c") {
        Some(text) => (text, ""),
        None => (text, "\r\n"),
    };
    let mut out = Vec::new();
    let mut rest = text;
    while let Some((plain, escaped)) = rest.split_once('\\') {
        out.extend_from_slice(plain.as_bytes());
        let used = match escaped.as_bytes()[0] {
            b'r' => push(&mut out, b"\r", 1),
            b'n' => push(&mut out, b"\n", 1),
            b'0' => push(&mut out, b"\0", 1),
            b'\\' => push(&mut out, b"\\", 1),
            b'x' => push(&mut out, &[u8::from_str_radix(&escaped[1..3], 16).unwrap()], 3),
            b'*' => {
                let (open, close) = (escaped.find('{').unwrap(), escaped.find('}').unwrap());
                let times = escaped[1..open].parse().unwrap();
                push(
                    &mut out,
                    &unescape(&format!("{}\\c", &escaped[open + 1..close])).repeat(times),
                    close + 1,
                )
            }
            other => panic!("escape {other}?"),
        };
        rest = &escaped[used..];
    }
    out.extend_from_slice(rest.as_bytes());
    out.extend_from_slice(end.as_bytes());
    out
}

/// The text with `\*9{text}` written out, as long questions need it.
fn repeated(text: &str) -> String {
    if !text.contains("\\*") {
        return text.to_owned();
    }
    String::from_utf8(unescape(&format!("{text}\\c"))).unwrap()
}

fn push(out: &mut Vec<u8>, bytes: &[u8], used: usize) -> usize {
    out.extend_from_slice(bytes);
    used
}

/// One line that shows any bytes.
fn escape(bytes: &[u8]) -> String {
    let mut out = String::new();
    for &byte in bytes {
        match byte {
            b'\r' => out.push_str("\\r"),
            b'\n' => out.push_str("\\n"),
            0 => out.push_str("\\0"),
            b' '..=b'~' => out.push(char::from(byte)),
            _ => write!(out, "\\x{byte:02x}").unwrap(),
        }
    }
    out
}
