//! A note as octets: a head that can be read by itself, and the note behind it.

use std::ops::Range;

use crc32c::{crc32c, crc32c_append};
use waypost_mail::{MessageId, SessionId, Timestamp};

use crate::note::{About, Note, Step, Told};

/// Octets before each note.
pub(crate) const HEAD: usize = 28;
/// A longer note is not written, and not read: its length is taken for damage.
pub(crate) const MAX_NOTE: usize = 512 * 1024;
/// What notes are written in. Kinds and fields at the end of [`Note`] need no other one.
const VERSION: u8 = 2;
const MARK: [u8; 2] = *b"wn";

/// What stands before a note.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) about: About,
    pub(crate) at: Timestamp,
    /// Octets of the note.
    pub(crate) length: usize,
    version: u8,
    sum: u32,
}

/// Why a note cannot be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unread {
    #[error("its checksum is wrong")]
    Damaged,
    #[error("another version of the program wrote it")]
    Foreign,
}

/// Appends the note. Of one that is too long the dialogue is left out, and if need be what came of the
/// recipients; what is too long then is not written.
pub(crate) fn encode(told: Told, out: &mut Vec<u8>) -> Result<(), TooLong> {
    let Told { at, about, mut note } = told;
    let begin = out.len();
    let ways: [fn(&mut Note); 3] = [|_| {}, without_dialogue, without_results];
    for shorten in ways {
        shorten(&mut note);
        out.resize(begin + HEAD, 0);
        let encoded = postcard::to_io(&note, &mut *out).is_ok();
        let length = out.len() - begin - HEAD;
        if encoded && length <= MAX_NOTE {
            head(&mut out[begin..], about, at, length);
            return Ok(());
        }
        out.truncate(begin);
    }
    Err(TooLong)
}

/// The note is too long to be kept.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooLong;

fn head(record: &mut [u8], about: About, at: Timestamp, length: usize) {
    let (kind, id) = numbers(about);
    record[0..4].copy_from_slice(&(length as u32).to_le_bytes());
    record[8..16].copy_from_slice(&id.to_le_bytes());
    record[16..24].copy_from_slice(&at.0.to_le_bytes());
    record[24] = kind;
    record[25] = VERSION;
    record[26..28].copy_from_slice(&MARK);
    let sum = sum(record);
    record[4..8].copy_from_slice(&sum.to_le_bytes());
}

fn sum(record: &[u8]) -> u32 {
    crc32c_append(crc32c(&record[0..4]), &record[8..])
}

impl Head {
    /// The head at the start of `bytes`; nothing when that is none.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Head> {
        let head: &[u8; HEAD] = bytes.first_chunk()?;
        let number = |range: Range<usize>| {
            head[range].iter().rev().fold(0_u64, |sum, octet| (sum << 8) | u64::from(*octet))
        };
        let length = number(0..4) as usize;
        let sound = length <= MAX_NOTE && head[26..28] == MARK;
        let about = match head[24] {
            0 => About::Message(MessageId(number(8..16))),
            1 => About::Session(SessionId(number(8..16))),
            2 => About::Relay,
            _ => return None,
        };
        let at = Timestamp(number(16..24));
        sound.then_some(Head { about, at, length, version: head[25], sum: number(4..8) as u32 })
    }

    /// Octets of head and note together.
    pub(crate) fn whole(&self) -> usize {
        HEAD + self.length
    }

    /// The note in `record`, which begins with this head.
    pub(crate) fn read(&self, record: &[u8]) -> Result<Told, Unread> {
        let record = record.get(..self.whole()).ok_or(Unread::Damaged)?;
        if sum(record) != self.sum {
            return Err(Unread::Damaged);
        }
        if self.version != VERSION {
            return Err(Unread::Foreign);
        }
        let note = postcard::from_bytes(&record[HEAD..]).map_err(|_| Unread::Foreign)?;
        Ok(Told { at: self.at, about: self.about, note })
    }

    /// True when nothing of `record` is damaged.
    pub(crate) fn is_sound(&self, record: &[u8]) -> bool {
        record.get(..self.whole()).is_some_and(|record| sum(record) == self.sum)
    }
}

/// Kind and number of what a note is about.
pub(crate) fn numbers(about: About) -> (u8, u64) {
    match about {
        About::Message(MessageId(id)) => (0, id),
        About::Session(SessionId(id)) => (1, id),
        About::Relay => (2, 0),
    }
}

fn without_dialogue(note: &mut Note) {
    if let Note::Attempt(attempt) = note {
        for step in &mut attempt.steps {
            if let Step::Visit(visit) = step {
                let left_out = visit.dialogue.iter().map(|line| line.text.len() as u64);
                visit.cut += left_out.sum::<u64>();
                visit.dialogue.clear();
            }
        }
    }
}

fn without_results(note: &mut Note) {
    match note {
        Note::Attempt(attempt) => {
            attempt.more += attempt.results.len() as u32;
            attempt.results.clear();
        }
        Note::Accepted(accepted) => {
            accepted.more += accepted.recipients.len() as u32;
            accepted.recipients.clear();
            accepted.facts.clear();
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::note::{Attempt, Line, Speaker, Visit};

    fn told(note: Note) -> Told {
        Told { at: Timestamp(1_700_000_000_000), about: About::Message(MessageId(77)), note }
    }

    fn encoded(told: Told) -> Vec<u8> {
        let mut out = Vec::new();
        encode(told, &mut out).unwrap();
        out
    }

    fn attempt(text: String) -> Note {
        let line = Line { at_us: 5, who: Speaker::They, text };
        let visit = Visit {
            host: "mx.example[192.0.2.1]:25".to_owned(),
            source: None,
            at_us: 1,
            took_us: 2,
            demand: String::new(),
            security: None,
            tls: String::new(),
            reused: None,
            conversion: None,
            phases: Vec::new(),
            error: None,
            dialogue: vec![line],
            cut: 0,
        };
        Note::Attempt(Box::new(Attempt {
            number: 1,
            due: None,
            held: Vec::new(),
            began: Timestamp(5),
            took_us: 9,
            destination: "example".to_owned(),
            steps: vec![Step::Visit(Box::new(visit))],
            results: Vec::new(),
            more: 0,
        }))
    }

    #[test]
    fn a_note_reads_back_whatever_it_is_about() {
        for about in
            [About::Message(MessageId(u64::MAX)), About::Session(SessionId(3)), About::Relay]
        {
            let told = Told { about, ..told(Note::Lost { count: 3, since: Timestamp(8) }) };
            let bytes = encoded(told.clone());
            let head = Head::parse(&bytes).unwrap();
            assert_eq!(head.whole(), bytes.len());
            assert_eq!((head.about, head.at), (about, told.at));
            assert_eq!(head.read(&bytes), Ok(told));
        }
    }

    #[test]
    fn every_octet_of_a_record_is_under_its_checksum() {
        let bytes = encoded(told(attempt("250 2.0.0 OK".to_owned())));
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 0x10;
            let read = Head::parse(&bad).map(|head| head.read(&bad).is_ok());
            assert_ne!(read, Some(true), "octet {at}");
        }
        for end in 0..bytes.len() {
            let short = &bytes[..end];
            assert!(Head::parse(short).is_none_or(|head| head.read(short).is_err()), "{end}");
        }
    }

    #[test]
    fn what_is_too_long_loses_its_dialogue_first() {
        let bytes = encoded(told(attempt("x".repeat(2 * MAX_NOTE))));
        assert!(bytes.len() < 1024);
        let Note::Attempt(read) = Head::parse(&bytes).unwrap().read(&bytes).unwrap().note else {
            panic!("another note");
        };
        let Step::Visit(visit) = &read.steps[0] else { panic!("another step") };
        assert_eq!((visit.dialogue.len(), visit.cut), (0, 2 * MAX_NOTE as u64));
        let reason = "y".repeat(2 * MAX_NOTE);
        let mut out = b"before".to_vec();
        assert_eq!(encode(told(Note::Discarded { reason }), &mut out), Err(TooLong));
        assert_eq!(out, b"before", "nothing of it is left");
    }

    #[test]
    fn what_a_stranger_wrote_is_read_without_harm() {
        bolero::check!().with_iterations(20_000).for_each(|bytes: &[u8]| {
            if let Some(head) = Head::parse(bytes) {
                let _ = head.read(bytes);
            }
            let _ = postcard::from_bytes::<Note>(bytes);
        });
    }
}
