//! Where the notes about somebody are in a finished segment. An index is a help: without it, or with one that
//! is damaged, the segment is read whole.

use std::fs;
use std::io;
use std::path::Path;

use crc32c::crc32c;
use waypost_mail::Timestamp;

use crate::note::About;
use crate::record::numbers;

const MAGIC: [u8; 8] = *b"wayindx1";
/// Magic, newest note, octets of the segment, checksum of these and what follows.
const HEAD: usize = 28;
const ENTRY: usize = 13;

/// One note: whom it is about, and where it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Entry {
    kind: u8,
    id: u64,
    at: u32,
}

/// The notes of one segment, by whom they are about.
#[derive(Debug)]
pub(crate) struct Index {
    pub(crate) newest: Timestamp,
    entries: Vec<Entry>,
}

impl Entry {
    pub(crate) fn new(about: About, at: usize) -> Entry {
        let (kind, id) = numbers(about);
        Entry { kind, id, at: at as u32 }
    }
}

/// Writes the index of a segment of `length` octets, whole or not at all.
pub(crate) fn write(
    path: &Path,
    mut entries: Vec<Entry>,
    newest: Timestamp,
    length: u64,
) -> io::Result<()> {
    entries.sort_unstable();
    let mut octets = Vec::with_capacity(HEAD + entries.len() * ENTRY);
    octets.extend(MAGIC);
    octets.extend(newest.0.to_le_bytes());
    octets.extend(length.to_le_bytes());
    octets.extend([0; 4]);
    for entry in &entries {
        octets.push(entry.kind);
        octets.extend(entry.id.to_le_bytes());
        octets.extend(entry.at.to_le_bytes());
    }
    let sum = sum(&octets);
    octets[HEAD - 4..HEAD].copy_from_slice(&sum.to_le_bytes());
    let fresh = path.with_extension("fresh");
    fs::write(&fresh, octets)?;
    fs::rename(fresh, path)
}

/// Reads the index of a segment of `length` octets; nothing when there is none that is whole and belongs to it.
pub(crate) fn read(path: &Path, length: u64) -> Option<Index> {
    let octets = fs::read(path).ok()?;
    let word = |at: usize| octets.get(at..at + 8)?.first_chunk().map(|b| u64::from_le_bytes(*b));
    let known = u32::from_le_bytes(*octets.get(HEAD - 4..HEAD)?.first_chunk()?);
    if !octets.starts_with(&MAGIC) || word(16)? != length || sum(&octets) != known {
        return None;
    }
    let entry = |octets: &[u8]| {
        let id = u64::from_le_bytes(*octets[1..].first_chunk()?);
        let at = u32::from_le_bytes(*octets[9..].first_chunk()?);
        Some(Entry { kind: octets[0], id, at })
    };
    let entries = octets[HEAD..].chunks_exact(ENTRY).filter_map(entry).collect();
    Some(Index { newest: Timestamp(word(8)?), entries })
}

impl Index {
    /// Where the notes about somebody begin, in order.
    pub(crate) fn of(&self, about: About) -> impl Iterator<Item = usize> {
        let (kind, id) = numbers(about);
        let from = self.entries.partition_point(|entry| (entry.kind, entry.id) < (kind, id));
        let known = move |entry: &&Entry| (entry.kind, entry.id) == (kind, id);
        self.entries[from..].iter().take_while(known).map(|entry| entry.at as usize)
    }
}

fn sum(octets: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c(&octets[..HEAD - 4]), &octets[HEAD..])
}

#[cfg(test)]
mod tests {
    use waypost_mail::{MessageId, SessionId};

    use super::*;

    #[test]
    fn an_index_says_where_notes_are_and_is_not_believed_when_damaged() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("1.index");
        let message = |id| About::Message(MessageId(id));
        let entries = [
            (message(9), 8),
            (About::Session(SessionId(9)), 50),
            (message(7), 90),
            (message(9), 120),
            (About::Relay, 200),
        ];
        let entries = entries.into_iter().map(|(about, at)| Entry::new(about, at)).collect();
        write(&path, entries, Timestamp(77), 1000).unwrap();
        let index = read(&path, 1000).unwrap();
        assert_eq!(index.newest, Timestamp(77));
        let of = |about| index.of(about).collect::<Vec<_>>();
        assert_eq!(of(message(9)), [8, 120]);
        assert_eq!(of(message(7)), [90]);
        assert_eq!(of(About::Session(SessionId(9))), [50]);
        assert_eq!(of(About::Relay), [200]);
        assert!(of(message(8)).is_empty() && of(message(10)).is_empty());
        assert!(read(&path, 1001).is_none(), "it belongs to another segment");
        let octets = fs::read(&path).unwrap();
        for at in 0..octets.len() {
            let mut bad = octets.clone();
            bad[at] ^= 1;
            fs::write(&path, bad).unwrap();
            assert!(read(&path, 1000).is_none(), "octet {at}");
        }
        fs::write(&path, &octets[..20]).unwrap();
        assert!(read(&path, 1000).is_none());
    }
}
