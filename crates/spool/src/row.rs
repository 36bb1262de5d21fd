//! How a message lies in sled: small values, each checked, and only the changed ones rewritten.
//!
//! A message whose entry is small is one value, `m|id`. Otherwise `m|id` names the checksums of
//! blocks: what changes only when policy reroutes in `x|id|part`, recipients in `r|id|block|part`, a fixed number to a
//! block, so that settling one of thousands rewrites one block.

use crc32c::{crc32c, crc32c_append};
use serde::{Deserialize, Serialize};
use waypost_mail::{Entry, MessageId, RecipientEntry, RecipientState};

use crate::Detours;
use crate::segment::{Place, Position};

/// No value in sled is larger: bigger ones would end in files that sled never syncs.
pub(crate) const MAX_VALUE: usize = 4096;
/// How rows and blocks are encoded.
const FORMAT: u8 = 3;
/// An entry up to this size stands in the row itself.
const INLINE: usize = 3072;
/// Recipients in a block, unless there are so many that the row could not name all blocks.
const BLOCK: usize = 16;
/// Blocks the row has room for.
const MAX_BLOCKS: usize = 400;

/// A message as the index has it.
#[derive(Debug, Clone)]
pub(crate) struct Kept {
    pub(crate) entry: Entry,
    /// The record with its bytes.
    pub(crate) place: Place,
    /// The last record about it; all up to it are part of `entry`.
    pub(crate) last: Position,
    /// Its body is a file of its own.
    pub(crate) large: bool,
    pub(crate) shape: Shape,
}

/// How an entry is laid out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Shape {
    /// In the row.
    Inline,
    /// In blocks: the one without recipients, then those of `size` recipients each.
    Blocks { head: Block, size: u32, recipients: Vec<Block> },
}

/// Checksum of a block, and over how many values it is spread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Block {
    crc: u32,
    pub(crate) parts: u16,
}

#[derive(Debug, Serialize, Deserialize)]
struct Row {
    place: Place,
    last: Position,
    large: bool,
    shape: Shape,
}

/// Values to write, or keys to remove.
pub type Writes = Vec<(Vec<u8>, Option<Vec<u8>>)>;

impl Kept {
    /// A message laid out for the first time, and the values that make it.
    pub(crate) fn lay_out(
        mut entry: Entry,
        place: Place,
        last: Position,
        large: bool,
    ) -> Option<(Kept, Writes)> {
        let bytes = postcard::to_stdvec(&entry).ok()?;
        let mut writes = Vec::new();
        if bytes.len() <= INLINE {
            let kept = Kept { entry, place, last, large, shape: Shape::Inline };
            writes.push(kept.row(&bytes)?);
            return Some((kept, writes));
        }
        let id = entry.id;
        let head = head_of(&mut entry)?;
        let head = write_block(&mut writes, &head, 0, |part| head_key(id, part))?;
        let size = BLOCK.max(entry.recipients.len().div_ceil(MAX_BLOCKS));
        let blocks = entry.recipients.chunks(size).enumerate().map(|(n, block)| {
            let bytes = postcard::to_stdvec(block).ok()?;
            write_block(&mut writes, &bytes, 0, |part| block_key(id, n as u16, part))
        });
        let recipients = blocks.collect::<Option<_>>()?;
        let shape = Shape::Blocks { head, size: size as u32, recipients };
        let kept = Kept { entry, place, last, large, shape };
        writes.push(kept.row(&[])?);
        Some((kept, writes))
    }

    /// Gives recipients new ways and states; answers the values that change.
    pub(crate) fn advance(
        &mut self,
        states: &[(u32, RecipientState)],
        detours: &Detours,
        last: Position,
    ) -> Option<Writes> {
        let changed = crate::advance(&mut self.entry, states, detours);
        self.last = last;
        let id = self.entry.id;
        let mut writes = Vec::new();
        match &mut self.shape {
            Shape::Inline => {
                let bytes = postcard::to_stdvec(&self.entry).ok()?;
                if bytes.len() > INLINE {
                    let (kept, writes) =
                        Kept::lay_out(self.entry.clone(), self.place, last, self.large)?;
                    *self = kept;
                    return Some(writes);
                }
                writes.push(self.row(&bytes)?);
            }
            Shape::Blocks { head, size, recipients } => {
                if !detours.routes.is_empty() || detours.expires.is_some() {
                    let bytes = head_of(&mut self.entry)?;
                    let key = |part| head_key(id, part);
                    *head = write_block(&mut writes, &bytes, head.parts, key)?;
                }
                let size = *size as usize;
                let mut numbers: Vec<usize> = changed.iter().map(|at| at / size.max(1)).collect();
                numbers.dedup();
                for n in numbers {
                    let (Some(block), Some(shape)) =
                        (self.entry.recipients.chunks(size).nth(n), recipients.get_mut(n))
                    else {
                        continue;
                    };
                    let bytes = postcard::to_stdvec(block).ok()?;
                    let key = |part| block_key(id, n as u16, part);
                    *shape = write_block(&mut writes, &bytes, shape.parts, key)?;
                }
                writes.push(self.row(&[])?);
            }
        }
        Some(writes)
    }

    /// What removes it.
    pub(crate) fn removal(&self) -> Writes {
        let id = self.entry.id;
        let mut keys = vec![row_key(id)];
        if let Shape::Blocks { head, recipients, .. } = &self.shape {
            keys.extend((0..head.parts).map(|part| head_key(id, part)));
            for (n, block) in recipients.iter().enumerate() {
                keys.extend((0..block.parts).map(|part| block_key(id, n as u16, part)));
            }
        }
        keys.into_iter().map(|key| (key, None)).collect()
    }

    fn row(&self, inline: &[u8]) -> Option<(Vec<u8>, Option<Vec<u8>>)> {
        let Kept { place, last, large, .. } = *self;
        let row = Row { place, last, large, shape: self.shape.clone() };
        let mut value = postcard::to_stdvec(&row).ok()?;
        value.extend_from_slice(inline);
        let crc = checksum(&value);
        value.extend_from_slice(&crc.to_le_bytes());
        (value.len() <= MAX_VALUE).then_some((row_key(self.entry.id), Some(value)))
    }

    /// Reads a message back from its row; `get` finds further values. Absent when anything about
    /// it is not as it was written.
    pub(crate) fn read(
        id: MessageId,
        value: &[u8],
        get: &dyn Fn(&[u8]) -> Option<Vec<u8>>,
    ) -> Option<Kept> {
        let (value, crc) = value.split_at(value.len().checked_sub(4)?);
        if checksum(value) != crate::record::trailer(crc) {
            return None;
        }
        let (Row { place, last, large, shape }, inline) = postcard::take_from_bytes(value).ok()?;
        let entry: Entry = match &shape {
            Shape::Inline => postcard::from_bytes(inline).ok()?,
            Shape::Blocks { head, recipients, .. } => {
                let bytes = read_block(*head, |part| get(&head_key(id, part)))?;
                let mut entry: Entry = postcard::from_bytes(&bytes).ok()?;
                for (n, block) in recipients.iter().enumerate() {
                    let bytes = read_block(*block, |part| get(&block_key(id, n as u16, part)))?;
                    let block: Vec<RecipientEntry> = postcard::from_bytes(&bytes).ok()?;
                    entry.recipients.extend(block);
                }
                entry
            }
        };
        (entry.id == id).then_some(Kept { entry, place, last, large, shape })
    }
}

/// Everything about a message but its recipients.
fn head_of(entry: &mut Entry) -> Option<Vec<u8>> {
    let recipients = std::mem::take(&mut entry.recipients);
    let head = postcard::to_stdvec(entry).ok();
    entry.recipients = recipients;
    head
}

/// The checksum of a row, of which its format is a part: one of another format is no row, and made
/// anew from the log.
fn checksum(value: &[u8]) -> u32 {
    crc32c_append(crc32c(value), &[FORMAT])
}

/// Where the record of a message is, from its row alone.
pub(crate) fn place_in(value: &[u8]) -> Option<Place> {
    let (value, crc) = value.split_at(value.len().checked_sub(4)?);
    if checksum(value) != crate::record::trailer(crc) {
        return None;
    }
    postcard::take_from_bytes::<Row>(value).ok().map(|(row, _)| row.place)
}

/// Spreads a block over as many values as it needs; removes those it needed `before` and does not
/// any more.
fn write_block(
    writes: &mut Writes,
    bytes: &[u8],
    before: u16,
    key: impl Fn(u16) -> Vec<u8>,
) -> Option<Block> {
    let parts = u16::try_from(bytes.len().div_ceil(MAX_VALUE)).ok()?;
    for (part, piece) in bytes.chunks(MAX_VALUE).enumerate() {
        writes.push((key(part as u16), Some(piece.to_vec())));
    }
    writes.extend((parts..before).map(|part| (key(part), None)));
    Some(Block { crc: crc32c(bytes), parts })
}

fn read_block(block: Block, get: impl Fn(u16) -> Option<Vec<u8>>) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    for part in 0..block.parts {
        bytes.extend_from_slice(&get(part)?);
    }
    (crc32c(&bytes) == block.crc).then_some(bytes)
}

/// `m|id`.
pub(crate) fn row_key(id: MessageId) -> Vec<u8> {
    [b"m|", &id.0.to_be_bytes()[..]].concat()
}

/// `x|id|part`.
fn head_key(id: MessageId, part: u16) -> Vec<u8> {
    [b"x|", &id.0.to_be_bytes()[..], &part.to_be_bytes()].concat()
}

/// `r|id|block|part`.
fn block_key(id: MessageId, block: u16, part: u16) -> Vec<u8> {
    [b"r|", &id.0.to_be_bytes()[..], &block.to_be_bytes(), &part.to_be_bytes()].concat()
}

/// `l|key`.
pub(crate) fn fact_key(key: &str) -> Vec<u8> {
    [b"l|", key.as_bytes()].concat()
}

/// The number that follows a key's prefix of two octets.
pub(crate) fn number_in(key: &[u8], at: usize) -> Option<u64> {
    key.get(at..)?.first_chunk().map(|b| u64::from_be_bytes(*b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;
    use std::collections::HashMap;
    use waypost_mail::{Outcome, Timestamp, Why};

    const AT: Position = Position { segment: 1, offset: 64 };

    fn apply(values: &mut HashMap<Vec<u8>, Vec<u8>>, writes: Writes) -> usize {
        let count = writes.len();
        for (key, value) in writes {
            match value {
                Some(value) => {
                    assert!(value.len() <= MAX_VALUE);
                    values.insert(key, value);
                }
                None => assert!(values.remove(&key).is_some()),
            }
        }
        count
    }

    fn read(values: &HashMap<Vec<u8>, Vec<u8>>, id: u64) -> Option<Kept> {
        let get = |key: &[u8]| values.get(key).cloned();
        Kept::read(MessageId(id), values.get(&row_key(MessageId(id)))?, &get)
    }

    #[test]
    fn five_thousand_recipients_are_small_values_and_change_one_by_one() {
        let mut values = HashMap::new();
        let place = Place { at: AT, len: 9 };
        let entry = samples::entry(5, 5000, 0);
        let (mut kept, writes) = Kept::lay_out(entry.clone(), place, AT, false).unwrap();
        apply(&mut values, writes);
        assert_eq!(read(&values, 5).unwrap().entry, entry);

        let why = Why::Operator("because ".repeat(60));
        for id in [4999, 0, 7] {
            let state = RecipientState::Done(Outcome::Bounced(why.clone()));
            let count =
                apply(&mut values, kept.advance(&[(id, state)], &Detours::default(), AT).unwrap());
            assert!(count < 8, "{count} values for one recipient");
        }
        assert_eq!(read(&values, 5).unwrap().entry, kept.entry);
        let long: Vec<_> = (0..5000)
            .map(|id| (id, RecipientState::Held { tries: 9, reason: "long ".repeat(90) }))
            .collect();
        apply(&mut values, kept.advance(&long, &Detours::default(), AT).unwrap());
        let short: Vec<_> = (0..5000).map(|id| (id, RecipientState::fresh(Timestamp(3)))).collect();
        apply(&mut values, kept.advance(&short, &Detours::default(), AT).unwrap());
        assert_eq!(read(&values, 5).unwrap().entry, kept.entry);

        let key = values.keys().find(|k| k.starts_with(b"r|")).unwrap().clone();
        values.get_mut(&key).unwrap()[3] ^= 1;
        assert!(read(&values, 5).is_none(), "a changed block is noticed");
        apply(&mut values, kept.removal());
        assert_eq!(values.len(), 0);
    }

    #[test]
    fn a_small_entry_is_one_value_until_it_grows() {
        let mut values = HashMap::new();
        let (mut kept, writes) =
            Kept::lay_out(samples::entry(5, 12, 0), Place { at: AT, len: 9 }, AT, false).unwrap();
        assert_eq!(apply(&mut values, writes), 1);
        let held = RecipientState::Held { tries: 1, reason: "x".repeat(INLINE) };
        apply(&mut values, kept.advance(&[(3, held)], &Detours::default(), AT).unwrap());
        assert!(values.len() > 1);
        assert_eq!(read(&values, 5).unwrap().entry, kept.entry);
        apply(&mut values, kept.removal());
        assert_eq!(values.len(), 0);
    }
}
