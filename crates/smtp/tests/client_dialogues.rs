//! Dialogues with next hops, one idea per file, replayed whole, byte by byte and at every split.
//!
//! The first line that is no `#` comment names the conversation and its settings. `S:` is what the
//! next hop sends. All other lines are what must come of it: `C:` what we write, `=` what the
//! conversation wants. `LOST` cuts the connection. `whole` among the settings means that the
//! meaning depends on what arrives together.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail the test by panicking"
)]

use std::fmt::Write as _;
use std::path::PathBuf;

use waypost_smtp::client::{
    Addressee, Control, ControlStep, Credentials, Letter, RecipientResult, Session, SessionConfig,
    SessionStep, StartTls, Transaction, TransactionStep,
};
use waypost_smtp::{
    BodyType, ByMode, DeliverBy, Domain, Extensions, Mailbox, Notify, OriginalRecipient, Priority,
    Reply, Return, ReversePath,
};

#[test]
fn every_dialogue_goes_as_written_however_its_bytes_are_cut() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/client_dialogues");
    let mut files: Vec<_> = folder.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() > 30, "dialogues are missing");
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let dialogue = Dialogue::parse(&text);
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        for cut in dialogue.cuts() {
            let transcript = dialogue.replay(&cut);
            assert_eq!(transcript, dialogue.expected, "{name}, cut {cut:?}: \n{transcript}");
        }
    }
}

/// How the bytes of the next hop arrive.
#[derive(Debug)]
enum Cut {
    Nowhere,
    Everywhere,
    /// Once, before this byte of all that are sent.
    At(usize),
}

struct Dialogue {
    settings: Vec<String>,
    turns: Vec<Turn>,
    expected: String,
}

enum Turn {
    /// Bytes that are sent without a pause.
    Server(Vec<u8>),
    Lost,
}

impl Dialogue {
    fn parse(text: &str) -> Dialogue {
        let mut lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
        let settings = lines.next().unwrap().split(' ').map(str::to_owned).collect();
        let mut dialogue = Dialogue { settings, turns: Vec::new(), expected: String::new() };
        let mut together = false;
        for line in lines {
            writeln!(dialogue.expected, "{line}").unwrap();
            let server = line.strip_prefix("S: ");
            match (server, dialogue.turns.last_mut()) {
                (Some(said), Some(Turn::Server(bytes))) if together => {
                    bytes.extend_from_slice(format!("{said}\r\n").as_bytes());
                }
                (Some(said), _) => {
                    dialogue.turns.push(Turn::Server(format!("{said}\r\n").into_bytes()));
                }
                (None, _) if line == "LOST" => dialogue.turns.push(Turn::Lost),
                (None, _) => assert!(line.starts_with("C: ") || line.starts_with("= "), "{line}"),
            }
            together = server.is_some();
        }
        dialogue
    }

    fn cuts(&self) -> Vec<Cut> {
        if self.has("whole") {
            return vec![Cut::Nowhere];
        }
        let length = |turn: &Turn| match turn {
            Turn::Server(bytes) => bytes.len(),
            Turn::Lost => 0,
        };
        let total = self.turns.iter().map(length).sum();
        (0..total).map(Cut::At).chain([Cut::Nowhere, Cut::Everywhere]).collect()
    }

    fn replay(&self, cut: &Cut) -> String {
        let mut player = Player { talk: self.talk(), transcript: String::new() };
        let mut sent = 0;
        player.proceed();
        for turn in &self.turns {
            let Turn::Server(bytes) = turn else {
                player.lose();
                break;
            };
            for line in String::from_utf8_lossy(bytes).lines() {
                player.note(&format!("S: {line}"));
            }
            let pieces: Vec<&[u8]> = match cut {
                Cut::Nowhere => vec![bytes],
                Cut::Everywhere => bytes.chunks(1).collect(),
                Cut::At(at) => {
                    let (left, right) = bytes.split_at(at.saturating_sub(sent).min(bytes.len()));
                    vec![left, right]
                }
            };
            sent += bytes.len();
            for piece in pieces {
                player.talk.push(piece);
                player.proceed();
            }
        }
        player.transcript
    }

    fn has(&self, word: &str) -> bool {
        self.settings.iter().any(|setting| setting == word)
    }

    fn value(&self, key: &str) -> Option<&str> {
        self.settings.iter().find_map(|setting| setting.strip_prefix(key)?.strip_prefix('='))
    }

    fn talk(&self) -> Talk {
        match self.settings[0].as_str() {
            "session" => Talk::Session(Session::new(self.session())),
            "transaction" => self.transaction(),
            "rset" => Talk::Control(Control::rset()),
            "quit" => Talk::Control(Control::quit()),
            other => panic!("no conversation is called {other}"),
        }
    }

    fn session(&self) -> SessionConfig {
        let tls = match self.value("tls") {
            Some("never") => StartTls::Never,
            Some("required") => StartTls::Required,
            Some("active") => StartTls::Active,
            Some("if-offered") | None => StartTls::IfOffered,
            Some(other) => panic!("tls={other}"),
        };
        let user = self.value("user");
        SessionConfig {
            ehlo_name: Domain::parse(self.value("name").unwrap_or("relay.example")).unwrap(),
            lmtp: self.has("lmtp"),
            tls,
            credentials: user.map(|user| Credentials::new(user, "geheim").unwrap()),
            allow_plaintext_auth: self.has("allow-plaintext"),
            nonce: [7; 18],
        }
    }

    fn transaction(&self) -> Talk {
        let offers = self.value("offers").unwrap_or_default().replace('+', " ").replace(',', "\n");
        let offers = Reply::plain(250, "").with_text(format!("hello\n{offers}"));
        let sender = self.value("from").unwrap_or("sender@example.org").to_owned();
        let recipients = self.value("to").unwrap_or("a@example.net");
        let recipients = recipients.split(',').filter(|to| !to.is_empty());
        let recipients: Vec<_> = recipients.map(|to| Mailbox::parse(to).unwrap()).collect();
        let addressee = |mailbox: &Mailbox| Addressee {
            notify: match self.value("notify") {
                None => Notify::Unsaid,
                Some("never") => Notify::Never,
                Some(_) => Notify::Of { success: true, failure: false, delay: true },
            },
            original: self.value("orcpt").map(|address| OriginalRecipient {
                kind: "rfc822".to_owned(),
                address: address.to_owned(),
            }),
            ..mailbox.clone().into()
        };
        let size = self.value("size").map_or(100, |size| size.parse().unwrap());
        let sender = ReversePath::try_from(sender).unwrap();
        let submitter = self.value("auth").map(|text| ReversePath::try_from(text.to_owned()));
        let by = |mode, seconds: &str| DeliverBy {
            seconds: seconds.parse().unwrap(),
            mode,
            trace: self.has("trace"),
        };
        let strict = self.value("return-by").map(|seconds| by(ByMode::Return, seconds));
        let letter = Letter {
            body: match () {
                () if self.has("binary") => BodyType::BinaryMime,
                () if self.has("8bit") => BodyType::EightBitMime,
                () => BodyType::SevenBit,
            },
            smtputf8: self.has("utf8"),
            counted: self.has("counted"),
            lmtp: self.has("lmtp"),
            ret: self.has("full").then_some(Return::Full),
            envid: self.value("envid").map(str::to_owned),
            require_tls: self.has("requiretls"),
            deliver_by: strict.or(self.value("notify-by").map(|text| by(ByMode::Notify, text))),
            priority: self
                .value("priority")
                .map_or(Priority::default(), |text| Priority::parse(text).unwrap()),
            submitter: submitter.map(Result::unwrap),
            ..Letter::new(sender, recipients.iter().map(addressee).collect(), size)
        };
        match Transaction::new(letter, &Extensions::parse(&offers)) {
            Ok(transaction) => Talk::Transaction(transaction, recipients),
            Err(obstacle) => Talk::Over(format!("= obstacle {}: {obstacle}", obstacle.enhanced())),
        }
    }
}

enum Talk {
    Session(Session),
    Transaction(Transaction, Vec<Mailbox>),
    Control(Control),
    /// It has ended; a last line may still have to be noted.
    Over(String),
}

impl Talk {
    fn push(&mut self, bytes: &[u8]) {
        match self {
            Talk::Session(session) => session.push(bytes),
            Talk::Transaction(transaction, _) => transaction.push(bytes),
            Talk::Control(control) => control.push(bytes),
            Talk::Over(_) => {}
        }
    }

    fn take_output(&mut self) -> Vec<u8> {
        match self {
            Talk::Session(session) => session.take_output(),
            Talk::Transaction(transaction, _) => transaction.take_output(),
            Talk::Control(control) => control.take_output(),
            Talk::Over(_) => Vec::new(),
        }
    }
}

impl Talk {
    /// Does what was wanted.
    fn go_on(&mut self) {
        match self {
            Talk::Session(session) => session.upgraded(),
            Talk::Transaction(transaction, _) => transaction.body_sent(),
            Talk::Control(_) | Talk::Over(_) => {}
        }
    }
}

/// Drives a conversation and writes down what happens.
struct Player {
    talk: Talk,
    transcript: String,
}

impl Player {
    fn note(&mut self, line: &str) {
        writeln!(self.transcript, "{line}").unwrap();
    }

    fn proceed(&mut self) {
        loop {
            let step = self.step();
            let output = String::from_utf8(self.talk.take_output()).unwrap();
            output.split_terminator("\r\n").for_each(|line| self.note(&format!("C: {line}")));
            let Some(step) = step else { return };
            self.note(&format!("= {}", step.0));
            match step.1 {
                After::Stop => return,
                After::GoOn => self.talk.go_on(),
            }
        }
    }

    /// What the conversation wants, unless it is more input.
    fn step(&mut self) -> Option<(String, After)> {
        match &mut self.talk {
            Talk::Session(session) => match session.step() {
                SessionStep::NeedInput => None,
                SessionStep::Upgrade => Some(("upgrade".into(), After::GoOn)),
                SessionStep::Ready => Some(("ready".into(), After::Stop)),
                SessionStep::Failed(failure) => {
                    let line = format!("failed at {}: {failure}", session.phase());
                    self.talk = Talk::Over(String::new());
                    Some((line, After::Stop))
                }
            },
            Talk::Transaction(transaction, recipients) => match transaction.step() {
                TransactionStep::NeedInput => None,
                TransactionStep::SendBody => Some(("send body".into(), After::GoOn)),
                TransactionStep::Done(result) => {
                    let results = result.recipients.into_iter().map(Some);
                    let line = format!("done, {:?}{}", result.reuse, listed(recipients, results));
                    self.talk = Talk::Over(String::new());
                    Some((line, After::Stop))
                }
                TransactionStep::Failed(error) => {
                    Some((format!("failed at {}: {error}", transaction.phase()), After::Stop))
                }
            },
            Talk::Control(control) => match control.step() {
                ControlStep::NeedInput => None,
                ControlStep::Done(reply) => Some((format!("done: {reply}"), After::Stop)),
                ControlStep::Failed(error) => Some((format!("failed: {error}"), After::Stop)),
            },
            Talk::Over(line) => {
                let line = std::mem::take(line);
                line.strip_prefix("= ").map(|line| (line.to_owned(), After::Stop))
            }
        }
    }

    fn lose(&mut self) {
        self.note("LOST");
        let talk = std::mem::replace(&mut self.talk, Talk::Over(String::new()));
        let Talk::Transaction(transaction, recipients) = talk else {
            panic!("only a transaction has something to lose");
        };
        let phase = transaction.phase();
        let known = listed(&recipients, transaction.lost().into_iter());
        self.note(&format!("= lost at {phase}{known}"));
    }
}

enum After {
    GoOn,
    Stop,
}

fn listed(
    recipients: &[Mailbox],
    results: impl ExactSizeIterator<Item = Option<RecipientResult>>,
) -> String {
    assert_eq!(results.len(), recipients.len());
    let mut lines = String::new();
    for (recipient, result) in recipients.iter().zip(results) {
        let known = match result {
            Some(RecipientResult { phase, reply }) => format!("{phase}: {reply}"),
            None => "nothing".to_owned(),
        };
        write!(lines, "\n= {recipient} {known}").unwrap();
    }
    lines
}
