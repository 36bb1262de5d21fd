//! The files of a history: numbered segments of notes, each with an index once nothing more is written to it.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use waypost_mail::Timestamp;

use crate::index::Entry;
use crate::record::Head;

/// What a segment begins with.
pub(crate) const MAGIC: [u8; 8] = *b"waynote1";
/// Octets before the first note.
pub(crate) const START: usize = MAGIC.len();
/// No segment is larger: one that is has been tampered with, and is not read beyond.
pub(crate) const MAX_SEGMENT: u64 = 64 * 1024 * 1024;

/// The segment of this number.
pub(crate) fn segment(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("{number:010}.notes"))
}

/// Its index.
pub(crate) fn index(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("{number:010}.index"))
}

/// Numbers of the segments, oldest first; none where there is no directory.
pub(crate) fn numbers(directory: &Path) -> io::Result<Vec<u64>> {
    let found = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        found => found?,
    };
    let mut numbers = Vec::new();
    for file in found {
        let name = file?.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(".notes"));
        numbers.extend(number.and_then(|number| number.parse::<u64>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// A segment's octets; none of one that is gone by now.
pub(crate) fn octets(path: &Path) -> io::Result<Vec<u8>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        file => file?,
    };
    let mut octets = Vec::new();
    file.take(MAX_SEGMENT).read_to_end(&mut octets)?;
    Ok(octets)
}

/// The notes of a segment in order, by their heads: where each begins. Ends where there is no further whole
/// one, which is the end of the file, a torn note, or damage.
pub(crate) fn walk(octets: &[u8]) -> Walk<'_> {
    let at = if octets.starts_with(&MAGIC) { START } else { octets.len() };
    Walk { octets, at }
}

/// See [`walk`].
#[derive(Debug)]
pub(crate) struct Walk<'a> {
    octets: &'a [u8],
    at: usize,
}

impl Walk<'_> {
    /// Where the next note would begin.
    pub(crate) fn at(&self) -> usize {
        self.at
    }
}

impl Iterator for Walk<'_> {
    type Item = (usize, Head);

    fn next(&mut self) -> Option<(usize, Head)> {
        let rest = self.octets.get(self.at..)?;
        let head = Head::parse(rest)?;
        if rest.len() < head.whole() {
            return None;
        }
        let at = self.at;
        self.at += head.whole();
        Some((at, head))
    }
}

/// What is sound in a segment, up to the first note that is not.
#[derive(Debug, Default)]
pub(crate) struct Sound {
    pub(crate) entries: Vec<Entry>,
    pub(crate) newest: Timestamp,
    /// Octets up to the end of the last sound note.
    pub(crate) end: u64,
}

/// Looks at every octet of a segment.
pub(crate) fn survey(octets: &[u8]) -> Sound {
    let mut sound = Sound { end: octets.len().min(START) as u64, ..Sound::default() };
    let mut notes = walk(octets);
    while let Some((at, head)) = notes.next() {
        if !head.is_sound(&octets[at..]) {
            break;
        }
        sound.entries.push(Entry::new(head.about, at));
        sound.newest = sound.newest.max(head.at);
        sound.end = notes.at() as u64;
    }
    sound
}
