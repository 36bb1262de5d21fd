//! What is said to a host and what it answers, caught as it goes by: octets and moments, without a word
//! made of them before the story is written. Secrets are struck out at once.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use tokio::time::Instant;
use waypost_history::{Line, Speaker};
use waypost_smtp::Phase;

/// Octets kept of the beginning of a dialogue, and of its end.
const KEPT: usize = 8 * 1024;
/// What does not fit into the beginning is kept in pieces of so many octets, the oldest of which goes first.
const PIECE: usize = 512;
/// Octets shown of one line; a line of the protocol has no more (RFC 5321 §4.5.3.1.5).
const LINE: usize = 1000;
/// Octets of replies to AUTH that are gathered until they are a line; what is longer is none.
const REPLY: usize = 4096;
/// What is shorter is found in many a line where nobody repeated it.
const LONG_ENOUGH: usize = 4;
const STRUCK: &str = "***";

/// A dialogue that is being written down. Clones write the same one; a blank one forgets everything.
#[derive(Clone, Default)]
pub(crate) struct Tape(Option<Arc<Mutex<Reel>>>);

/// What was caught so far.
struct Reel {
    /// What moments are counted from.
    since: Instant,
    /// Words are wanted, not times alone.
    words: bool,
    octets: Vec<u8>,
    marks: Vec<Mark>,
    /// What came when the beginning was full.
    end: VecDeque<(Mark, Vec<u8>)>,
    end_octets: usize,
    cut: u64,
    phases: Vec<(Phase, Duration)>,
    /// What is to be said of TLS.
    verdict: Vec<String>,
    /// What was said to log in, and a reply to it that is not whole yet.
    secrets: Vec<Vec<u8>>,
    reply: Vec<u8>,
}

/// Who said the octets up to `end`, and when.
#[derive(Debug, Clone, Copy)]
struct Mark {
    at: Duration,
    who: Speaker,
    end: usize,
}

/// A tape that is played: lines, times, and how much is missing.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Played {
    pub(crate) lines: Vec<Line>,
    pub(crate) phases: Vec<(String, u64)>,
    pub(crate) cut: u64,
}

/// What is on it may be a secret yet.
impl fmt::Debug for Tape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Tape").field(&self.0.is_some()).finish()
    }
}

impl Tape {
    /// One that writes down nothing.
    pub(crate) fn blank() -> Tape {
        Tape(None)
    }

    /// One that counts from `since`, and writes down what is said if `words` are wanted.
    pub(crate) fn new(since: Instant, words: bool) -> Tape {
        Tape(Some(Arc::new(Mutex::new(Reel {
            since,
            words,
            octets: Vec::new(),
            marks: Vec::new(),
            end: VecDeque::new(),
            end_octets: 0,
            cut: 0,
            phases: Vec::new(),
            verdict: Vec::new(),
            secrets: Vec::new(),
            reply: Vec::new(),
        }))))
    }

    /// We say this. In the phase of AUTH it is a secret.
    pub(crate) fn say(&self, phase: Phase, octets: &[u8]) {
        let Some(mut reel) = self.reel() else { return };
        if phase != Phase::Auth {
            reel.forget_secrets();
            reel.add(Speaker::We, octets);
            return;
        }
        let mut words = octets.trim_ascii().splitn(3, |octet| *octet == b' ');
        let (verb, mechanism) = (words.next().unwrap_or_default(), words.next());
        let shown = match mechanism {
            Some(mechanism) if verb == b"AUTH" => {
                [b"AUTH ".as_slice(), mechanism, b" ***"].concat()
            }
            _ => STRUCK.into(),
        };
        let secret = if verb == b"AUTH" { words.next() } else { Some(octets.trim_ascii()) };
        reel.secrets.extend(secret.into_iter().flat_map(readings));
        reel.add(Speaker::We, &shown);
    }

    /// They say this, in answer to what we said in this phase.
    pub(crate) fn hear(&self, phase: Phase, octets: &[u8]) {
        let Some(mut reel) = self.reel() else { return };
        if phase == Phase::Auth {
            reel.hear_about_secrets(octets);
        } else {
            reel.add(Speaker::They, octets);
        }
    }

    /// This happened between the lines.
    pub(crate) fn note(&self, words: impl FnOnce() -> String) {
        if let Some(mut reel) = self.reel() {
            let words = words();
            reel.add(Speaker::Aside, words.as_bytes());
        }
    }

    /// This is to be said of TLS, besides what was proven in the end; and it happened now.
    pub(crate) fn about_tls(&self, words: impl FnOnce() -> String) {
        if let Some(mut reel) = self.reel() {
            let words = words();
            reel.add(Speaker::Aside, words.as_bytes());
            reel.verdict.push(words);
        }
    }

    /// What is to be said of TLS.
    pub(crate) fn verdict(&self) -> Vec<String> {
        self.reel().map_or_else(Vec::new, |reel| reel.verdict.clone())
    }

    /// The host took so long for a phase, or for one line of it.
    pub(crate) fn waited(&self, phase: Phase, took: Duration) {
        let Some(mut reel) = self.reel() else { return };
        match reel.phases.iter_mut().find(|(known, _)| *known == phase) {
            Some((_, sum)) => *sum += took,
            None => reel.phases.push((phase, took)),
        }
    }

    /// Octets that it takes in memory, about.
    pub(crate) fn weight(&self) -> usize {
        self.reel().map_or(0, |reel| reel.octets.len() + reel.end_octets + 32 * reel.marks.len())
    }

    /// All that it caught, in lines. With `words` false without what was said.
    pub(crate) fn play(&self, words: bool) -> Played {
        let Some(reel) = self.reel() else { return Played::default() };
        let phases = reel.phases.iter().map(|(phase, took)| (phase.to_string(), micros(*took)));
        let mut played = Played { phases: phases.collect(), ..Played::default() };
        if !words {
            return played;
        }
        played.cut = reel.cut;
        let mut lines = Lines::default();
        let mut begin = 0;
        for mark in &reel.marks {
            lines.add(mark, reel.octets.get(begin..mark.end).unwrap_or_default());
            begin = mark.end;
        }
        if reel.cut > 0 {
            let at = reel.end.front().map_or(Duration::ZERO, |(mark, _)| mark.at);
            let text = format!("({} octets are left out)", reel.cut);
            lines.add(&Mark { at, who: Speaker::Aside, end: 0 }, text.as_bytes());
        }
        for (mark, octets) in &reel.end {
            lines.add(mark, octets);
        }
        played.lines = lines.all();
        played
    }

    fn reel(&self) -> Option<MutexGuard<'_, Reel>> {
        Some(self.0.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Reel {
    fn add(&mut self, who: Speaker, octets: &[u8]) {
        if !self.words {
            return;
        }
        let at = self.since.elapsed();
        let room = KEPT - self.octets.len();
        let (first, rest) = octets.split_at(octets.len().min(room));
        if !first.is_empty() {
            self.octets.extend(first);
            self.marks.push(Mark { at, who, end: self.octets.len() });
        }
        for piece in rest.chunks(PIECE) {
            self.end_octets += piece.len();
            self.end.push_back((Mark { at, who, end: 0 }, piece.to_vec()));
            while self.end_octets > KEPT {
                let gone = self.end.pop_front().map_or(0, |(_, gone)| gone.len());
                self.end_octets -= gone;
                self.cut += gone as u64;
            }
        }
    }

    /// Whoever repeats what we logged in with, as servers do that do not know AUTH, is not repeated.
    fn hear_about_secrets(&mut self, octets: &[u8]) {
        for octet in octets {
            if *octet != b'\n' {
                if self.reply.len() < REPLY {
                    self.reply.push(*octet);
                }
                continue;
            }
            let line = std::mem::take(&mut self.reply);
            let repeated = |secret: &Vec<u8>| contains(&line, secret);
            let code = line.get(..3).unwrap_or(&line).to_vec();
            if code == b"334" || self.secrets.iter().any(repeated) {
                self.add(Speaker::They, &[code.as_slice(), b" ", STRUCK.as_bytes()].concat());
            } else {
                self.add(Speaker::They, &line);
            }
            self.add(Speaker::They, b"\n");
        }
    }

    fn forget_secrets(&mut self) {
        self.secrets.clear();
        self.reply.clear();
    }
}

/// What is said to log in, and what it means: the password in it.
fn readings(secret: &[u8]) -> Vec<Vec<u8>> {
    let meant = BASE64.decode(secret).unwrap_or_default();
    let meant = meant.rsplit(|octet| *octet == 0).next().unwrap_or_default().to_vec();
    [secret.to_vec(), meant].into_iter().filter(|reading| reading.len() >= LONG_ENOUGH).collect()
}

fn contains(line: &[u8], secret: &[u8]) -> bool {
    !secret.is_empty() && line.windows(secret.len()).any(|part| part == secret)
}

/// Octets as they become lines.
#[derive(Default)]
struct Lines {
    lines: Vec<Line>,
    begun: Option<(Mark, Vec<u8>)>,
}

impl Lines {
    fn add(&mut self, mark: &Mark, octets: &[u8]) {
        if self.begun.as_ref().is_some_and(|(begun, _)| begun.who != mark.who) {
            self.end();
        }
        for part in octets.split_inclusive(|octet| *octet == b'\n') {
            let (_, begun) = self.begun.get_or_insert((*mark, Vec::new()));
            begun.extend(part);
            if part.ends_with(b"\n") {
                self.end();
            }
        }
        // What we say and what happens is whole each time.
        if mark.who != Speaker::They {
            self.end();
        }
    }

    fn end(&mut self) {
        let Some((mark, octets)) = self.begun.take() else { return };
        let mut text = String::from_utf8_lossy(octets.trim_ascii_end()).into_owned();
        if text.len() > LINE {
            text.truncate(text.floor_char_boundary(LINE));
            text.push('…');
        }
        self.lines.push(Line { at_us: micros(mark.at), who: mark.who, text });
    }

    fn all(mut self) -> Vec<Line> {
        self.end();
        self.lines
    }
}

pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tape() -> Tape {
        Tape::new(Instant::now(), true)
    }

    fn said(tape: &Tape) -> Vec<String> {
        let mark = |who| match who {
            Speaker::We => ">",
            Speaker::They => "<",
            Speaker::Aside => "*",
        };
        let lines = tape.play(true).lines;
        lines.iter().map(|line| format!("{} {}", mark(line.who), line.text)).collect()
    }

    #[test]
    fn what_comes_in_pieces_is_told_in_lines() {
        let tape = tape();
        tape.note(|| "connected".to_owned());
        tape.hear(Phase::Greeting, b"220 mx.exam");
        tape.hear(Phase::Greeting, b"ple\r\n");
        tape.say(Phase::Ehlo, b"EHLO relay\r\n");
        tape.hear(Phase::Ehlo, b"250-mx\r\n250 PIPE");
        tape.hear(Phase::Ehlo, b"LINING\r\n");
        tape.say(Phase::Mail, b"MAIL FROM:<>\r\nRCPT TO:<a@b>\r\n");
        tape.hear(Phase::Mail, b"250 ok\r\n421 by");
        assert_eq!(
            said(&tape),
            [
                "* connected",
                "< 220 mx.example",
                "> EHLO relay",
                "< 250-mx",
                "< 250 PIPELINING",
                "> MAIL FROM:<>",
                "> RCPT TO:<a@b>",
                "< 250 ok",
                "< 421 by",
            ]
        );
    }

    #[test]
    fn secrets_are_struck_out_wherever_they_are_said() {
        let tape = tape();
        tape.say(Phase::Auth, b"AUTH PLAIN AGJvYgBzZWNyZXQ=\r\n");
        tape.hear(Phase::Auth, b"500 unknown: AUTH PLAIN AGJvYg");
        tape.hear(Phase::Auth, b"BzZWNyZXQ=\r\n");
        tape.say(Phase::Auth, b"AUTH PLAIN AGJvYgBzZWNyZXQ=\r\n");
        tape.hear(Phase::Auth, b"535 bob's secret is another\r\n");
        tape.say(Phase::Auth, b"AUTH LOGIN\r\n");
        tape.hear(Phase::Auth, b"334 VXNlcm5hbWU6\r\n");
        tape.say(Phase::Auth, b"Ym9i\r\n");
        tape.hear(Phase::Auth, b"334 Ym9i\r\n");
        tape.say(Phase::Auth, b"c2VjcmV0\r\n");
        tape.hear(Phase::Auth, b"535-5.7.8 no\r\n535 5.7.8 c2VjcmV0 is wrong\r\n");
        tape.say(Phase::Mail, b"MAIL FROM:<>\r\n");
        assert_eq!(
            said(&tape),
            [
                "> AUTH PLAIN ***",
                "< 500 ***",
                "> AUTH PLAIN ***",
                "< 535 ***",
                "> AUTH LOGIN ***",
                "< 334 ***",
                "> ***",
                "< 334 ***",
                "> ***",
                "< 535-5.7.8 no",
                "< 535 ***",
                "> MAIL FROM:<>",
            ]
        );
        assert_eq!(format!("{tape:?}"), "Tape(true)");
        assert!(tape.reel().unwrap().secrets.is_empty(), "forgotten when they are not needed");
    }

    #[test]
    fn of_a_long_dialogue_the_beginning_and_the_end_are_kept() {
        let tape = tape();
        tape.hear(Phase::Greeting, b"220 first\r\n");
        for number in 0..10_000 {
            tape.say(Phase::Rcpt, format!("RCPT TO:<{number}@example>\r\n").as_bytes());
            tape.hear(Phase::Rcpt, b"250 2.1.5 ok\r\n");
        }
        tape.hear(Phase::Eod, b"451 last\r\n");
        let played = tape.play(true);
        assert_eq!(played.lines.first().unwrap().text, "220 first");
        assert_eq!(played.lines.last().unwrap().text, "451 last");
        let octets: usize = played.lines.iter().map(|line| line.text.len()).sum();
        assert!(octets <= 2 * KEPT, "{octets}");
        assert!(played.cut > 300_000);
        assert!(tape.weight() < 6 * KEPT, "{}", tape.weight());
        let long = self::tape();
        long.hear(Phase::Eod, &[b'x'; 100_000]);
        assert!(long.play(true).lines.iter().all(|line| line.text.len() <= LINE + "…".len()));
    }

    #[test]
    fn times_are_kept_where_words_are_not_wanted() {
        let tape = Tape::new(Instant::now(), false);
        tape.hear(Phase::Greeting, b"220 mx\r\n");
        tape.waited(Phase::Greeting, Duration::from_millis(3));
        tape.waited(Phase::Ehlo, Duration::from_millis(1));
        tape.waited(Phase::Greeting, Duration::from_millis(4));
        let played = tape.play(true);
        assert!(played.lines.is_empty());
        let [greeting, ehlo] = [(Phase::Greeting, 7000), (Phase::Ehlo, 1000)];
        let named = |(phase, took): (Phase, u64)| (phase.to_string(), took);
        assert_eq!(played.phases, [named(greeting), named(ehlo)]);
        assert_eq!(Tape::blank().play(true), Played::default());
    }
}
