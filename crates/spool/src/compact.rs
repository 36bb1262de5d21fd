//! Keeping the log short: dead segments go, what lives in old ones moves to the end.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;
use waypost_mail::{Entry, MessageId, RecipientState};

use crate::content::{Stored, Unreadable};
use crate::index::FactRow;
use crate::record::{BodyPlace, Fact, Kind, MessageMeta, Record};
use crate::row::{self, Kept};
use crate::segment::{self, Item, Place, Scan};
use crate::writer::{Group, Trouble, Writer, trouble};
use waypost_mutant::planted;

/// Octets moved between two groups of changes.
const STEP: u64 = 4 * 1024 * 1024;
/// Records looked at between two groups of changes.
const LOOK: usize = 2_000;
/// Segments that may be dead before anything is moved to get rid of them.
const SPARE: u64 = 4;
/// Facts looked at, for expiry, in a second.
const SWEEP: usize = 500;
const SECOND: Duration = Duration::from_secs(1);

/// What is being tidied.
#[derive(Debug, Default)]
pub(crate) struct Tidying {
    moving: Option<Moving>,
    swept: Vec<u8>,
    ticked: Option<Instant>,
    paused: bool,
}

impl Tidying {
    /// Moves nothing for a while, because there is no room for it.
    pub(crate) fn pause(&mut self) {
        self.paused = true;
    }
}

/// The segment whose inhabitants move out.
#[derive(Debug)]
struct Moving {
    number: u32,
    scan: Option<Scan>,
}

impl Writer {
    /// A little of what is to be tidied, after each group and when nothing waits.
    pub(crate) fn tidy(&mut self) -> Result<(), Trouble> {
        while let Some((_, usage)) = self.log.oldest()
            && (usage.live == 0
                || planted!("a segment goes with a living record in it") && usage.live == 1)
        {
            self.remove_oldest()?;
        }
        if self.tidying.ticked.is_none_or(|at| at.elapsed() >= SECOND) {
            self.tidying.ticked = Some(Instant::now());
            self.tidying.paused = false;
            self.tick()?;
        }
        let has_room = |number: &u32| self.shared.space.has_room(2 * self.log.live_in(*number));
        if let Some(number) = self.to_empty().filter(|_| !self.tidying.paused).filter(has_room) {
            self.empty(number)?;
        }
        Ok(())
    }

    /// Removes the oldest segment; no row on the disk points there any more.
    fn remove_oldest(&mut self) -> Result<(), Trouble> {
        self.flush()?;
        let removed = self.log.remove_oldest();
        removed.map_err(|error| trouble("removing a segment of the log", &error))
    }

    /// The segment to be emptied: the oldest, when hardly anything in it lives, or when more of
    /// the whole log is dead than alive.
    fn to_empty(&self) -> Option<u32> {
        let (number, usage) = self.log.oldest()?;
        if let Some(moving) = &self.tidying.moving
            && moving.number == number
        {
            return Some(number);
        }
        let (len, live) = self.log.totals();
        let spare = SPARE * self.log.segment_size();
        let crowded = len.saturating_sub(live) > live.max(spare);
        let nearly_empty = usage.live_len * 8 < usage.len && len > 2 * self.log.segment_size();
        (crowded || nearly_empty).then_some(number)
    }

    /// Moves some of what lives in a segment to the end of the log.
    fn empty(&mut self, number: u32) -> Result<(), Trouble> {
        let mut moving = match self.tidying.moving.take() {
            Some(moving) if moving.number == number => moving,
            _ => Moving { number, scan: Some(self.scan(number)?) },
        };
        self.roll()?;
        let mut group = Group::default();
        let finished = match &mut moving.scan {
            Some(scan) => self.move_some(scan, &mut group)?,
            None => self.move_stragglers(number, &mut group)?,
        };
        self.complete(group)?;
        if finished {
            // What a damaged header hid is found by the rows that point there.
            moving.scan = None;
        }
        self.tidying.moving = Some(moving);
        Ok(())
    }

    fn scan(&self, number: u32) -> Result<Scan, Trouble> {
        let path = segment::file_of(&self.shared.log_dir, number);
        let opened = self.shared.disk.open(&path);
        let scan = opened.and_then(|file| Scan::new(file, number, self.log.seal(), false));
        scan.map_err(|error| Trouble::Later(format!("reading a segment of the log: {error}")))
    }

    /// Moves everything out of all segments up to the last of those that are `damaged`, and those to `damaged/`.
    /// Answers how many went there.
    pub(crate) fn empty_through(&mut self, damaged: &[u32]) -> Result<u32, Trouble> {
        let Some(last) = damaged.iter().max() else { return Ok(0) };
        self.log.close_segment();
        self.roll()?;
        damaged.iter().for_each(|number| self.log.mark_damaged(*number));
        let mut set_aside = 0;
        while let Some((number, usage)) = self.log.oldest().filter(|(number, _)| number <= last) {
            if usage.live > 0 {
                self.empty(number)?;
                continue;
            }
            self.remove_oldest()?;
            set_aside += u32::from(usage.damaged);
        }
        Ok(set_aside)
    }

    /// Answers true when the segment was read to its end.
    fn move_some(&mut self, scan: &mut Scan, group: &mut Group) -> Result<bool, Trouble> {
        for _ in 0..LOOK {
            if group.len() >= STEP {
                return Ok(false);
            }
            let item = scan.next();
            let item = item.map_err(|e| Trouble::Later(format!("reading a segment: {e}")))?;
            let Some(item) = item else { return Ok(true) };
            let Item::Record { place, header, meta, .. } = item else { continue };
            match header.kind {
                Kind::Message => self.move_message(group, header.id, place)?,
                Kind::Done => {
                    if let Some(notice) = header.message_in(&meta) {
                        self.move_message(group, notice.entry.id, place)?;
                    }
                }
                Kind::Ledger => {
                    if let Ok(fact) = postcard::from_bytes::<Fact>(&meta) {
                        self.move_fact(group, &fact.key, place)?;
                    }
                }
                Kind::State | Kind::Tomb => {}
            }
        }
        Ok(false)
    }

    fn move_stragglers(&mut self, number: u32, group: &mut Group) -> Result<bool, Trouble> {
        let mut messages = Vec::new();
        let mut facts = Vec::new();
        self.shared.index.scan(b"m|", b"m|", |key, value| {
            let place = row::place_in(value).filter(|place| place.at.segment == number);
            if let (Some(id), Some(place)) = (row::number_in(key, 2), place) {
                messages.push((MessageId(id), place));
            }
            messages.len() < LOOK
        })?;
        self.shared.index.scan(b"l|", b"l|", |key, value| {
            let row = FactRow::decode(value).filter(|row| row.place.at.segment == number);
            if let (Ok(key), Some(row)) = (std::str::from_utf8(&key[2..]), row) {
                facts.push((key.to_owned(), row.place));
            }
            facts.len() < LOOK
        })?;
        let finished = messages.is_empty() && facts.is_empty();
        for (id, place) in messages {
            self.move_message(group, id, place)?;
        }
        for (key, place) in facts {
            self.move_fact(group, &key, place)?;
        }
        if finished {
            self.log.empty(number);
        }
        Ok(finished)
    }

    /// Moves a message, if this is its place.
    fn move_message(
        &mut self,
        group: &mut Group,
        id: MessageId,
        place: Place,
    ) -> Result<(), Trouble> {
        match self.shared.index.message(id)? {
            Some(Ok(kept)) if kept.place == place => self.relog(group, kept).map(drop),
            Some(Err(())) => self.move_misfit(group, id, place),
            _ => Ok(()),
        }
    }

    /// Moves a message whose values in the index do not fit together: what became of it is not known, so it
    /// is held.
    fn move_misfit(
        &mut self,
        group: &mut Group,
        id: MessageId,
        place: Place,
    ) -> Result<(), Trouble> {
        let value = self.shared.index.get(&row::row_key(id))?;
        if value.and_then(|value| row::place_in(&value)).is_none_or(|at| at != place) {
            return Ok(());
        }
        let why = "its values in the index do not fit together";
        self.shared.metrics.damaged.inc();
        let stored = Stored::read(&self.log.readers(), self.log.seal(), id, place);
        let read = stored.and_then(|stored| Ok((stored.octets()?, stored.meta)));
        let (octets, meta) = match read {
            Ok(read) => read,
            Err(Unreadable::NotNow(why)) => return Err(Trouble::Later(why)),
            Err(Unreadable::Gone | Unreadable::Damaged(..)) => {
                tracing::error!(message = %id, "neither log nor index can read a message; it is lost");
                group.write([(row::row_key(id), None)]);
                group.lose(place);
                return Ok(());
            }
        };
        tracing::error!(message = %id, why, "a message is held");
        let mut entry = meta.entry;
        quarantine(&mut entry, why);
        let large = matches!(meta.body, BodyPlace::File { .. });
        let laid_out = Kept::lay_out(entry, place, place.at, large);
        let (kept, _) = laid_out.ok_or_else(|| "an entry cannot be laid out".to_owned())?;
        self.forget(id);
        self.write_anew(group, &kept, meta.body, octets)?;
        Ok(())
    }

    /// Writes a message anew, with its present state. What cannot be read any more is held.
    pub(crate) fn relog(&mut self, group: &mut Group, mut kept: Kept) -> Result<Place, Trouble> {
        let id = kept.entry.id;
        self.forget(id);
        let stored = Stored::read(&self.log.readers(), self.log.seal(), id, kept.place);
        let read =
            stored.and_then(|stored| Ok((stored.octets()?, stored.meta.body, stored.meta.entry)));
        let (body, octets) = match read {
            Ok((octets, body, old)) => {
                if planted!("what moves takes its first state along") {
                    kept.entry = old;
                }
                (body, octets)
            }
            Err(Unreadable::Gone) => self.lost(&mut kept, "its segment is gone"),
            Err(Unreadable::Damaged(why, _)) => self.lost(&mut kept, &why),
            Err(Unreadable::NotNow(why)) => return Err(Trouble::Later(why)),
        };
        Ok(self.write_anew(group, &kept, body, octets)?)
    }

    fn write_anew(
        &self,
        group: &mut Group,
        kept: &Kept,
        body: BodyPlace,
        octets: Bytes,
    ) -> Result<Place, String> {
        let (seal, now) = (self.log.seal(), self.shared.clock.now());
        let large = matches!(body, BodyPlace::File { .. });
        let meta = MessageMeta { entry: kept.entry.clone(), body };
        let content = [octets, Bytes::new()];
        let record = Record::new(seal, Kind::Message, kept.entry.id, now, &meta, content);
        let record = record.ok_or("an entry is larger than a record can be")?;
        let place = group.add(&self.log, record, None);
        group.relocate(kept, place, large).ok_or("an entry cannot be laid out")?;
        Ok(place)
    }

    /// Writes down that a message cannot be read any more; it is held.
    pub(crate) fn relog_without_content(
        &mut self,
        group: &mut Group,
        mut kept: Kept,
        why: &str,
    ) -> Result<Place, String> {
        self.log.born(kept.place);
        let (body, octets) = self.lost(&mut kept, why);
        self.write_anew(group, &kept, body, octets)
    }

    fn lost(&mut self, kept: &mut Kept, why: &str) -> (BodyPlace, Bytes) {
        let id = kept.entry.id;
        tracing::error!(message = %id, why, "a message cannot be read from the spool; it is held");
        self.shared.metrics.damaged.inc();
        self.log.mark_damaged(kept.place.at.segment);
        quarantine(&mut kept.entry, why);
        (BodyPlace::Lost(why.to_owned()), Bytes::new())
    }

    /// Moves a fact, if this is its place; an expired one goes.
    fn move_fact(&mut self, group: &mut Group, key: &str, place: Place) -> Result<(), Trouble> {
        let Some(row) = self.shared.index.fact(key)?.filter(|row| row.place == place) else {
            return Ok(());
        };
        let now = self.shared.clock.now();
        if row.expires.is_some_and(|expires| expires <= now) {
            group.write([(row::fact_key(key), None)]);
            group.lose(place);
            return Ok(());
        }
        self.relog_fact(group, key, row)
    }

    /// Writes a fact anew.
    pub(crate) fn relog_fact(
        &mut self,
        group: &mut Group,
        key: &str,
        row: FactRow,
    ) -> Result<(), Trouble> {
        let fact = Fact { key: key.to_owned(), value: Some(row.value), expires: row.expires };
        let record = self.shared.encoder().fact(&fact);
        let record = record.ok_or_else(|| "a fact is larger than a record".to_owned())?;
        self.keep(group, &fact, record, None).map_err(Trouble::Failed)
    }

    /// Finishes a group of the writer's own.
    pub(crate) fn complete(&mut self, group: Group) -> Result<(), Trouble> {
        if group.is_empty() {
            return Ok(());
        }
        self.finish(group).map(drop).map_err(|(trouble, _)| trouble)
    }

    /// Once a second: look at free space, drop some expired facts, look at some of the log.
    fn tick(&mut self) -> Result<(), Trouble> {
        let space = &self.shared.space;
        let metrics = &self.shared.metrics;
        let (len, live) = self.log.totals();
        metrics.free_bytes.set(i64::try_from(space.ask()).unwrap_or(i64::MAX));
        metrics.log_bytes.set(i64::try_from(len).unwrap_or(i64::MAX));
        metrics.live_bytes.set(i64::try_from(live).unwrap_or(i64::MAX));
        space.balance();
        let now = self.shared.clock.now();
        let mut expired = Vec::new();
        let mut looked = 0;
        let from = std::mem::take(&mut self.tidying.swept);
        let from = if from.is_empty() { b"l|".to_vec() } else { from };
        let mut last = Vec::new();
        self.shared.index.scan(b"l|", &from, |key, value| {
            looked += 1;
            if looked > SWEEP {
                last = key.to_vec();
                return false;
            }
            let row = FactRow::decode(value);
            if let Some(row) = row.filter(|row| row.expires.is_some_and(|e| e <= now)) {
                expired.push((key.to_vec(), row.place));
            }
            true
        })?;
        self.tidying.swept = last;
        let mut group = Group::default();
        for (key, place) in expired {
            group.write([(key, None)]);
            group.lose(place);
        }
        self.complete(group)?;
        self.scrub();
        Ok(())
    }
}

/// Holds what is not done of a message whose record or state cannot be trusted.
pub(crate) fn quarantine(entry: &mut Entry, why: &str) {
    for recipient in &mut entry.recipients {
        let tries = match &recipient.state {
            RecipientState::Waiting { tries, .. } | RecipientState::Held { tries, .. } => *tries,
            RecipientState::Done(_) => continue,
        };
        let reason = format!("held by the spool, its record is damaged: {why}");
        recipient.state = RecipientState::Held { tries, reason };
    }
}
