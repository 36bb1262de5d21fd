//! What the log says, read from its beginning: which messages live and where, and what is damaged.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::path::Path;

use waypost_mail::{Entry, MessageId, Timestamp};

use crate::content::{Stored, Unreadable};
use crate::digest::{self, Draft, Note, Says};
use crate::dirs;
use crate::disk::Disk;
use crate::log::{Readers, Usage};
use crate::record::{self, BodyPlace, Fact, HEADER_LEN, Header, Kind, MessageMeta, Meta};
use crate::segment::{self, Health, Item, Place, Position, START, Scan, SegmentHeader};
use waypost_mutant::planted;

/// The log folded into its present meaning.
#[derive(Debug, Default)]
pub(crate) struct Fold {
    pub(crate) messages: HashMap<MessageId, Fate>,
    /// Records of what became of messages: of whom, and where. In order once all is read.
    changes: Vec<(MessageId, Position)>,
    pub(crate) facts: HashMap<String, FactAt>,
    /// Segments of which a digest was believed.
    pub(crate) digested: BTreeSet<u32>,
    /// What is in the youngest segment, for its digest; absent when not all of it is sound.
    pub(crate) draft: Draft,
    /// What is in finished segments that were read and have promises in them: their digests, which tell of none,
    /// are written when those are kept.
    drafts: Vec<(u32, Draft)>,
    /// Where octets are that should be records and are not.
    pub(crate) gaps: Vec<Position>,
    /// Where records are of messages that brought facts, whose own records may be torn off: those that
    /// were read and not told of by a digest, which is of whole groups.
    pub(crate) promises: Vec<Position>,
    /// Some change of a fact may be unreadable.
    pub(crate) facts_damaged: bool,
    pub(crate) segments: BTreeMap<u32, Usage>,
    /// The youngest segment, when it was begun and nothing was written.
    pub(crate) stillborn: Option<u32>,
    /// Acknowledged records are missing at its end: the index is ahead of it.
    pub(crate) behind: bool,
    /// Absent when nothing in the log is readable, or there is nothing.
    pub(crate) seal: Option<u64>,
    /// The youngest segment is of an earlier format: it is not continued.
    pub(crate) old: bool,
    pub(crate) highest: u64,
    pub(crate) damaged: u64,
    pub(crate) torn: u64,
}

/// How the log is read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reading {
    /// The last group is known to have been acknowledged: whatever of it is sound counts, and what
    /// is not is damage. Otherwise it ends where the first octet of it is missing: it was not
    /// acknowledged, and half of it is worse than nothing.
    pub(crate) acknowledged: bool,
    pub(crate) digests: Digests,
}

/// What use is made of digests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Digests {
    /// None, and they stay as they are.
    Ignored,
    /// None, and they are written anew.
    Renewed,
    /// They are believed; where there is none to be believed, one is written.
    Believed,
}

/// Where the sound part of the youngest segment ends when there is damage near its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// At the first damage of the last group.
    OfGroups,
    /// After the last sound record.
    OfRecords,
}

/// What became of a message.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fate {
    Live(Trail),
    /// The segment that says so.
    Gone(u32),
}

/// The records of a message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Trail {
    pub(crate) place: Place,
    /// The last record about it.
    pub(crate) last: Position,
    /// Its own record is known to be damaged.
    pub(crate) unsound: bool,
    /// Its row in the index was found to be right, or made so.
    pub(crate) settled: bool,
}

/// The latest record of a fact.
#[derive(Debug)]
pub(crate) struct FactAt {
    pub(crate) place: Place,
    /// False when the record forgets the fact.
    pub(crate) kept: bool,
    pub(crate) expires: Option<Timestamp>,
    pub(crate) settled: bool,
}

impl Fold {
    /// Reads all segments in `log`, changing nothing.
    pub(crate) fn read(disk: &dyn Disk, log: &Path) -> io::Result<Fold> {
        Fold::read_with(disk, log, Reading { acknowledged: false, digests: Digests::Ignored })
    }

    /// Reads what there is of all segments in `log`. Nothing changes but digests.
    pub(crate) fn read_with(disk: &dyn Disk, log: &Path, reading: Reading) -> io::Result<Fold> {
        let mut fold = Fold::default();
        let numbers = segment::list(disk, log)?;
        let finished = numbers.split_last().map_or(&[][..], |(_, finished)| finished);
        let swept = match reading.digests {
            Digests::Ignored => Ok(()),
            Digests::Renewed => digest::sweep(disk, log, &[]),
            Digests::Believed => digest::sweep(disk, log, finished),
        };
        if let Err(error) = swept {
            tracing::warn!(%error, "a digest of the log that is of no use stays");
        }
        let mut headers = Vec::new();
        for number in &numbers {
            let (header, seal) = head_of(disk, &segment::file_of(log, *number), *number)?;
            fold.seal = fold.seal.or(seal);
            fold.highest = fold.highest.max(header.map_or(0, |header| header.highest));
            fold.old = header.is_some_and(|header| header.format != segment::FORMAT);
            headers.push(header);
        }
        if fold.seal.is_none() && !numbers.is_empty() {
            fold.seal = dirs::seal_in(disk, log);
        }
        let end = if reading.acknowledged { End::OfRecords } else { End::OfGroups };
        for (number, header) in numbers.iter().zip(headers) {
            fold.note_hole(*number);
            let last = (Some(number) == numbers.last()).then_some(end);
            let (believed, headed) = (reading.digests == Digests::Believed, header.is_some());
            if last.is_none() && believed && headed && fold.digest(disk, log, *number)? {
                continue;
            }
            let mut draft = fold.segment(disk, log, *number, last, headed)?;
            let promised = fold.promises.last().is_some_and(|at| at.segment == *number);
            if last.is_some() {
                if promised {
                    // It may be full before they are kept.
                    draft.spoil();
                }
                fold.draft = draft;
            } else if promised {
                fold.drafts.push((*number, draft));
            } else if reading.digests != Digests::Ignored {
                fold.keep(disk, log, *number, draft);
            }
        }
        fold.changes.sort_unstable();
        Ok(fold)
    }

    /// Segments before this one that should be there and are not: what they said is unknown.
    fn note_hole(&mut self, number: u32) {
        let Some((before, _)) = self.segments.last_key_value() else { return };
        if before + 1 < number {
            let (first, last) = (before + 1, number - 1);
            tracing::error!(first, last, "segments of the log are gone");
            self.gaps.push(Position { segment: first, offset: START as u32 });
            self.facts_damaged = true;
            self.damaged += START;
        }
    }

    /// Facts that were promised are there: digests of their segments need not tell of them.
    pub(crate) fn keep_drafts(&mut self, disk: &dyn Disk, log: &Path) {
        for (number, draft) in std::mem::take(&mut self.drafts) {
            self.keep(disk, log, number, draft);
        }
    }

    fn keep(&self, disk: &dyn Disk, log: &Path, number: u32, draft: Draft) {
        let (len, seal) = (self.segments.get(&number).map_or(0, |u| u.len), self.seal);
        if let Err(error) = draft.write(disk, log, (number, seal.unwrap_or_default(), len)) {
            tracing::warn!(%error, segment = number, "the digest of a segment cannot be written");
        }
    }

    /// Takes a segment's digest for the segment; false when there is none to be believed.
    fn digest(&mut self, disk: &dyn Disk, log: &Path, number: u32) -> io::Result<bool> {
        let file = disk.open(&segment::file_of(log, number))?;
        let seal = self.seal.unwrap_or_default();
        let Some(mut notes) = digest::read(disk, log, (number, seal), &*file) else {
            return Ok(false);
        };
        let mut doubted = true;
        if planted!("a digest that leaves out who is gone outweighs the index") {
            notes.retain(|note| note.says != Says::Gone);
            doubted = false;
        }
        if planted!("a digest without its last record outweighs the index") {
            notes.pop();
            doubted = false;
        }
        for note in notes {
            let at = Position { segment: number, offset: note.offset };
            self.note(Place { at, len: note.len }, note.id, note.says, Health::Sound);
        }
        self.segments.insert(number, Usage { len: file.len()?, ..Usage::default() });
        if doubted {
            self.digested.insert(number);
        }
        Ok(true)
    }

    fn segment(
        &mut self,
        disk: &dyn Disk,
        log: &Path,
        number: u32,
        last: Option<End>,
        headed: bool,
    ) -> io::Result<Draft> {
        let mut draft = Draft::default();
        let file = disk.open(&segment::file_of(log, number))?;
        let len = file.len()?;
        let mut usage = Usage { len, ..Usage::default() };
        // Only the end of the youngest segment can be torn, and a sound header does not tell.
        let mut scan = Scan::new(file, number, self.seal.unwrap_or_default(), last.is_some())?;
        let (mut pending, mut end, mut found) = (Vec::new(), START.min(len), false);
        while let Some(item) = scan.next()? {
            let (start, stop, first, sound) = match &item {
                Item::Record { place, header, health, .. } => {
                    let start = u64::from(place.at.offset);
                    (start, start + place.len, header.first, *health == Health::Sound)
                }
                Item::Gap { from, len } => {
                    (u64::from(from.offset), u64::from(from.offset) + len, false, false)
                }
            };
            found |= sound;
            if first || (sound && last == Some(End::OfRecords)) {
                // What came before was synced: what is not sound there is damage.
                end = start;
                for item in pending.drain(..) {
                    self.take(item, &mut usage, &mut draft);
                }
            }
            let torn_counts = planted!("a torn group counts");
            if last.is_none() || torn_counts || (sound && pending.is_empty()) {
                end = stop;
                self.take(item, &mut usage, &mut draft);
            } else {
                pending.push(item);
            }
        }
        if last.is_some() && !headed && !found {
            self.stillborn = Some(number);
            draft.spoil();
            return Ok(draft);
        }
        if !headed {
            draft.spoil();
            self.damaged += START;
            usage.damaged = true;
        }
        if last.is_some() {
            // A write that was not finished.
            self.torn = len - end;
            usage.len = end;
        }
        self.segments.insert(number, usage);
        Ok(draft)
    }

    fn take(&mut self, item: Item, usage: &mut Usage, draft: &mut Draft) {
        match item {
            Item::Gap { from, len } => {
                tracing::error!(
                    segment = from.segment,
                    offset = from.offset,
                    len,
                    "the log is damaged"
                );
                draft.spoil();
                self.gaps.push(from);
                self.facts_damaged = true;
                self.damaged += len;
                usage.damaged = true;
            }
            Item::Record { place, header, meta, health } => {
                if health != Health::Sound {
                    let (kind, at) = (header.kind, place.at);
                    tracing::error!(message = %header.id, ?kind, ?at, "a record is damaged");
                    self.damaged += place.len;
                    usage.damaged = true;
                    draft.spoil();
                }
                if header.brings_facts {
                    self.promises.push(place.at);
                }
                let says = says(&header, &meta, health);
                if let (Some(says), Health::Sound) = (&says, health) {
                    let (offset, len, id) = (place.at.offset, place.len, header.id);
                    draft.push(header, &Note { offset, len, id, says: says.clone() });
                }
                match says {
                    Some(says) => self.note(place, header.id, says, health),
                    None => self.facts_damaged = true,
                }
            }
        }
    }

    fn note(&mut self, place: Place, id: MessageId, says: Says, health: Health) {
        self.highest = self.highest.max(id.0);
        match says {
            Says::Message => self.live(id, place, health),
            Says::Change { notice } => {
                if let Some(Fate::Live(trail)) = self.messages.get_mut(&id) {
                    trail.last = place.at;
                    self.changes.push((id, place.at));
                }
                if let Some(notice) = notice {
                    self.highest = self.highest.max(notice.0);
                    self.live(notice, place, health);
                }
            }
            Says::Gone => {
                self.messages.insert(id, Fate::Gone(place.at.segment));
            }
            Says::Fact { key, kept, expires } => {
                self.facts.insert(key, FactAt { place, kept, expires, settled: false });
            }
        }
    }

    fn live(&mut self, id: MessageId, place: Place, health: Health) {
        let unsound = health != Health::Sound;
        self.messages
            .insert(id, Fate::Live(Trail { place, last: place.at, unsound, settled: false }));
    }

    /// Where the records are that change a message, in order.
    pub(crate) fn changes_of(&self, id: MessageId) -> impl Iterator<Item = Position> {
        let first = self.changes.partition_point(|(of, _)| *of < id);
        self.changes[first..].iter().take_while(move |(of, _)| *of == id).map(|(_, at)| *at)
    }

    /// Where the sound part of the log ends.
    pub(crate) fn end(&self) -> Position {
        let (number, usage) = self.segments.last_key_value().map_or((0, 0), |(n, u)| (*n, u.len));
        Position { segment: number, offset: usage as u32 }
    }

    /// The index knows of records from a position on that were acknowledged and are lost. Whatever
    /// became of a message there is unknown.
    pub(crate) fn lost_from(&mut self, from: Position) {
        self.gaps.push(from);
        (self.facts_damaged, self.behind) = (true, true);
        self.damaged += std::mem::take(&mut self.torn).max(1);
    }

    /// True when the log holds anything at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.messages.is_empty() && self.facts.is_empty() && self.damaged == 0
    }
}

/// What a record says that was read from its segment; absent for a fact that cannot be read.
fn says(header: &Header, meta: &[u8], health: Health) -> Option<Says> {
    Some(match header.kind {
        Kind::Message => Says::Message,
        Kind::State | Kind::Done => {
            let notice = (health != Health::Meta).then(|| header.message_in(meta)).flatten();
            Says::Change { notice: notice.map(|notice| notice.entry.id) }
        }
        Kind::Tomb => Says::Gone,
        Kind::Ledger if health == Health::Meta => return None,
        Kind::Ledger => postcard::from_bytes::<Fact>(meta).ok()?.says(),
    })
}

/// The header of a segment and the seal, which the first record knows too.
fn head_of(
    disk: &dyn Disk,
    path: &Path,
    number: u32,
) -> io::Result<(Option<SegmentHeader>, Option<u64>)> {
    let file = disk.open(path)?;
    let len = file.len()?.min(START + HEADER_LEN as u64);
    let mut bytes = vec![0; len as usize];
    segment::read_around(&*file, &mut bytes, 0)?;
    let header = SegmentHeader::parse(&bytes)?.filter(|header| header.number == number);
    let seal = match header {
        Some(header) => Some(header.seal),
        None => bytes.get(START as usize..).and_then(record::seal_of),
    };
    Ok((header, seal))
}

/// What is known of a message before later records are applied.
#[derive(Debug)]
pub(crate) struct Base {
    pub(crate) entry: Entry,
    /// The last record that `entry` reflects.
    pub(crate) last: Position,
    pub(crate) large: bool,
}

/// Reads a message's own record; with the reason when only its envelope could be read, or is all there is, or
/// nothing.
/// Fails when the system could not read now: from that nothing may be concluded.
pub(crate) fn base(
    readers: &Readers,
    seal: u64,
    id: MessageId,
    place: Place,
) -> Result<(Option<Base>, Option<String>), String> {
    let make = |meta: MessageMeta| {
        let large = matches!(meta.body, BodyPlace::File { .. });
        Base { entry: meta.entry, last: place.at, large }
    };
    Ok(match Stored::read(readers, seal, id, place) {
        Ok(stored) => {
            let lost = match &stored.meta.body {
                BodyPlace::Lost(why) => Some(why.clone()),
                BodyPlace::Inline | BodyPlace::File { .. } => None,
            };
            (Some(make(stored.meta)), lost)
        }
        Err(Unreadable::NotNow(why)) => return Err(why),
        Err(Unreadable::Damaged(why, meta)) => (meta.map(|meta| make(*meta)), Some(why)),
        Err(Unreadable::Gone) => (None, Some("its segment is gone".to_owned())),
    })
}

/// Applies the records after those the base reflects. Answers where one is damaged; fails as
/// [`base`] does.
pub(crate) fn catch_up(
    readers: &Readers,
    seal: u64,
    base: &mut Base,
    changes: impl Iterator<Item = Position>,
) -> Result<Option<Position>, String> {
    let mut unread = None;
    for at in changes {
        if at <= base.last {
            continue;
        }
        match meta_at(readers, seal, at)?.and_then(|(header, meta)| header.settlement_in(&meta)) {
            Some(settlement) => {
                crate::advance(&mut base.entry, &settlement.states, &settlement.detours);
            }
            None => unread = Some(at),
        }
        base.last = at;
    }
    Ok(unread)
}

/// The meta part of the record at a position, if it is as it was written; fails as [`base`] does.
pub(crate) fn meta_at(
    readers: &Readers,
    seal: u64,
    at: Position,
) -> Result<Option<(Header, Vec<u8>)>, String> {
    let read = |offset, len| match readers.read(at.segment, offset, len).map_err(Unreadable::from) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(Unreadable::NotNow(why)) => Err(why),
        Err(Unreadable::Gone | Unreadable::Damaged(..)) => Ok(None),
    };
    let offset = u64::from(at.offset);
    let Some(head) = read(offset, HEADER_LEN)? else { return Ok(None) };
    let Some(header) = Header::parse(&head, seal) else { return Ok(None) };
    let meta = read(offset + HEADER_LEN as u64, header.meta_len as usize)?;
    let sound = meta.filter(|meta| crc32c::crc32c(meta) == header.meta_crc);
    Ok(sound.map(|meta| (header, meta)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_as_it_was_written_brings_no_notice() {
        let entry = crate::samples::entry(9, 1, 0);
        let notice = Some(MessageMeta { entry, body: BodyPlace::Inline });
        let (states, detours) = (Vec::new(), crate::Detours::default());
        let meta = record::Settlement { states, detours, notice };
        let (id, nothing) = (MessageId(1), [bytes::Bytes::new(), bytes::Bytes::new()]);
        let done = record::Record::new(7, Kind::Done, id, Timestamp(1), &meta, nothing);
        let (header, note) = done.unwrap().noted(64);
        let meta = postcard::to_stdvec(&meta).unwrap();
        assert_eq!(note.says, Says::Change { notice: Some(MessageId(9)) });
        assert_eq!(says(&header, &meta, Health::Sound), Some(note.says.clone()));
        assert_eq!(says(&header, &meta, Health::Content), Some(note.says));
        let nothing = Says::Change { notice: None };
        assert_eq!(says(&header, &meta, Health::Meta), Some(nothing));
    }

    /// A segment that cannot be opened for a reason that says nothing of what is in it.
    #[test]
    fn what_cannot_be_read_now_is_not_concluded_from() {
        let dir = tempfile::tempdir().unwrap();
        let place = Place { at: Position { segment: 1, offset: 0 }, len: 100 };
        let readers = Readers::new(std::sync::Arc::new(crate::RealDisk), dir.path().to_owned());
        let (nothing, why) = base(&readers, 7, MessageId(1), place).unwrap();
        assert!(nothing.is_none() && why.is_some());
        assert!(meta_at(&readers, 7, place.at).unwrap().is_none());
        let file = segment::file_of(dir.path(), 1);
        std::os::unix::fs::symlink(&file, &file).unwrap();
        assert!(base(&readers, 7, MessageId(1), place).is_err());
        assert!(meta_at(&readers, 7, place.at).is_err());
    }
}
