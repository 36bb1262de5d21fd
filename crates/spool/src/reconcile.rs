//! Bringing the index and the log to one opinion at start. The log decides; where it is damaged,
//! the index helps; what neither knows for certain is held, never delivered.

use waypost_mail::{MessageId, Timestamp};

use crate::Audience;
use crate::compact::quarantine;
use crate::config::{OpenError, Report};
use crate::index::{self, FactRow};
use crate::record::{Fact, Record};
use crate::replay::{self, Base, Fate, Fold, Trail};
use crate::row::{self, Kept};
use crate::segment::Place;
use crate::writer::{Group, Trouble, Writer};

/// Rows looked at, and values written, at a time.
const PAGE: usize = 1000;

/// Index and log side by side.
pub(crate) struct Reconciliation<'a> {
    pub(crate) writer: &'a mut Writer,
    pub(crate) fold: Fold,
    /// What all passes have done.
    pub(crate) report: &'a mut Report,
    pub(crate) group: Group,
    /// What the group does.
    pub(crate) tally: Tally,
    /// Hears of every message.
    pub(crate) audience: &'a mut dyn Audience,
    /// Messages whose rows were made or changed, of which nobody has heard yet.
    pub(crate) mended: Vec<MessageId>,
}

/// Messages concerned by what is not durable yet.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    requeued: u64,
    removed: u64,
    quarantined: u64,
}

/// Why index and log were not brought to one opinion.
#[derive(Debug)]
pub(crate) enum Stop {
    /// They differ in what only digests tell of the log: it must be read itself.
    Doubt,
    /// The index cannot be read.
    Index(String),
    /// Something else is wrong.
    Trouble(Trouble),
    /// The spool cannot be opened.
    Refused(OpenError),
}

impl From<OpenError> for Stop {
    fn from(error: OpenError) -> Stop {
        Stop::Refused(error)
    }
}

impl From<Trouble> for Stop {
    fn from(trouble: Trouble) -> Stop {
        Stop::Trouble(trouble)
    }
}

/// Key and value.
type Pair = (Vec<u8>, Vec<u8>);

type Done = Result<(), Stop>;

impl Reconciliation<'_> {
    /// Does all of it.
    pub(crate) fn run(mut self) -> Done {
        self.rows()?;
        self.missing()?;
        self.fact_rows()?;
        self.promised_facts()?;
        self.missing_facts()?;
        self.moments()?;
        if self.fold.behind {
            self.group.write([index::forget_lost()]);
        }
        self.commit()?;
        self.tell_of_mended()?;
        let shared = self.writer.shared.clone();
        self.fold.keep_drafts(&*shared.disk, &shared.log_dir);
        let live = self.fold.messages.values().filter(|fate| matches!(fate, Fate::Live(_)));
        self.report.messages = live.count() as u64;
        self.bodies();
        Ok(())
    }

    fn commit(&mut self) -> Done {
        self.writer.complete(std::mem::take(&mut self.group))?;
        let done = std::mem::take(&mut self.tally);
        self.report.requeued += done.requeued;
        self.report.removed += done.removed;
        self.report.quarantined += done.quarantined;
        Ok(self.writer.roll()?)
    }

    fn page_full(&mut self) -> Done {
        if self.group.is_large(PAGE) { self.commit() } else { Ok(()) }
    }

    /// Every row against the log.
    fn rows(&mut self) -> Done {
        let mut from = b"m|".to_vec();
        loop {
            let (odd, on) = self.agreeing(&from)?;
            for (key, value) in odd {
                match row::number_in(&key, 2) {
                    Some(id) => self.row(MessageId(id), &value)?,
                    None => self.group.write([(key, None)]),
                }
                self.page_full()?;
            }
            let Some(on) = on else { return Ok(()) };
            from = on;
        }
    }

    /// Passes over the rows that are as the log says, and answers the others; of very many the first,
    /// and where to go on.
    fn agreeing(&mut self, from: &[u8]) -> Result<(Vec<Pair>, Option<Vec<u8>>), Stop> {
        let mut odd = Vec::new();
        let shared = self.writer.shared.clone();
        let Reconciliation { writer, fold, audience, .. } = self;
        let scan = shared.index.scan(b"m|", from, |key, value| {
            let id = row::number_in(key, 2).map(MessageId);
            let fate = id.and_then(|id| fold.messages.get_mut(&id));
            let kept = id.and_then(|id| shared.index.read(id, value));
            match (fate, kept) {
                (Some(Fate::Live(trail)), Some(kept)) if agree(trail, &kept) => {
                    trail.settled = true;
                    shared.saw(kept.entry.id.0);
                    writer.log.born(kept.place);
                    audience.message(kept.entry);
                }
                _ => odd.push((key.to_vec(), value.to_vec())),
            }
            odd.len() < PAGE
        });
        scan.map_err(Stop::Index)?;
        let last = odd.last().filter(|_| odd.len() >= PAGE);
        let on = last.map(|(last, _)| [last.as_slice(), b"\0"].concat());
        Ok((odd, on))
    }

    fn page(&self, prefix: &[u8], from: &[u8]) -> Result<Vec<Pair>, Stop> {
        let mut page = Vec::new();
        let scan = self.writer.shared.index.scan(prefix, from, |key, value| {
            page.push((key.to_vec(), value.to_vec()));
            page.len() < PAGE
        });
        scan.map_err(Stop::Index)?;
        Ok(page)
    }

    /// A row that is not as the log says.
    fn row(&mut self, id: MessageId, value: &[u8]) -> Done {
        self.writer.shared.saw(id.0);
        let kept = self.writer.shared.index.read(id, value);
        let fate = self.fold.messages.get(&id).copied();
        self.doubt(fate, kept.as_ref())?;
        match (fate, kept) {
            (Some(Fate::Live(trail)), kept) => {
                if kept.is_none() {
                    self.erase(id)?;
                }
                self.mend(id, trail, kept)
            }
            (Some(Fate::Gone(_)), _) => {
                tracing::warn!(message = %id, "the index had a message that is gone");
                self.tally.removed += 1;
                self.erase(id)
            }
            (None, Some(kept)) => self.orphan(kept),
            (None, None) => {
                tracing::error!(message = %id, "neither log nor index can read a message; it is lost");
                self.erase(id)
            }
        }
    }

    /// What a crash leaves behind differs in the end of the log alone, which was read itself. Where they differ in
    /// what a digest tells, one of three is wrong, and the log decides.
    fn doubt(&self, fate: Option<Fate>, row: Option<&Kept>) -> Done {
        let told = match fate {
            Some(Fate::Live(trail)) => Some(trail.last.segment),
            Some(Fate::Gone(segment)) => Some(segment),
            None => None,
        };
        self.doubt_segment(told.or(row.map(|row| row.last.segment)))
    }

    fn doubt_segment(&self, segment: Option<u32>) -> Done {
        if segment.is_none_or(|segment| !self.fold.digested.contains(&segment)) {
            return Ok(());
        }
        tracing::warn!(
            "index and log differ in what was finished long ago: all of the log is read"
        );
        Err(Stop::Doubt)
    }

    /// A message that has a row and no record: it is held, and kept in the log as far as it is
    /// known.
    fn orphan(&mut self, kept: Kept) -> Done {
        let id = kept.entry.id;
        self.tally.quarantined += 1;
        let why = "its record is not in the log";
        let place = self.writer.relog_without_content(&mut self.group, kept, why);
        self.settle(id, place.map_err(Trouble::Failed)?);
        Ok(())
    }

    /// A message whose row is absent, or of another opinion than the log.
    fn mend(&mut self, id: MessageId, trail: Trail, row: Option<Kept>) -> Done {
        let shared = self.writer.shared.clone();
        let (readers, seal) = (&shared.readers, shared.seal);
        let (read, mut why) =
            replay::base(readers, seal, id, trail.place).map_err(Trouble::Later)?;
        let large = read.as_ref().is_some_and(|base| base.large);
        let known = row.as_ref().filter(|row| row.last >= trail.place.at || read.is_none());
        let known = known.map(|row| Base { entry: row.entry.clone(), last: row.last, large });
        let Some(mut base) = known.or(read) else {
            tracing::error!(message = %id, ?why, "a message is damaged beyond its id; it is lost");
            return self.erase(id);
        };
        let from = base.last;
        let changes = self.fold.changes_of(id);
        let unread = replay::catch_up(readers, seal, &mut base, changes).map_err(Trouble::Later)?;
        if unread.is_some() {
            why = why.or(Some("a record of what became of it cannot be read".to_owned()));
        }
        if self.fold.gaps.iter().any(|gap| *gap > from) {
            why = why.or(Some("records that may tell what became of it cannot be read".to_owned()));
        }
        if let Some(row) = &row {
            // Whatever its row was made of goes; what is right is written next.
            self.group.write(row.removal());
        }
        if base.entry.is_done() {
            // Its end came between the record that it is done and the one that it is gone.
            let tomb = Record::tomb(seal, id, shared.clock.now());
            self.group.add(&self.writer.log, tomb, None);
            self.tally.removed += 1;
            self.fold.messages.insert(id, Fate::Gone(self.fold.end().segment));
            return Ok(());
        }
        let ahead = base.last > trail.last;
        let laid_out = Kept::lay_out(base.entry, trail.place, base.last, large);
        let (mut kept, writes) = laid_out.ok_or_else(cannot_lay_out).map_err(Trouble::Failed)?;
        self.writer.log.born(trail.place);
        self.group.write(writes);
        let place = if let Some(why) = why {
            tracing::error!(message = %id, why, "a message is held: its records are damaged");
            self.tally.quarantined += 1;
            self.writer.shared.metrics.damaged.inc();
            quarantine(&mut kept.entry, &why);
            self.writer.relog(&mut self.group, kept)?
        } else {
            self.tally.requeued += 1;
            if ahead { self.writer.relog(&mut self.group, kept)? } else { trail.place }
        };
        self.settle(id, place);
        Ok(())
    }

    fn settle(&mut self, id: MessageId, place: Place) {
        let trail = Trail { place, last: place.at, unsound: false, settled: true };
        self.fold.messages.insert(id, Fate::Live(trail));
        self.mended.push(id);
    }

    fn tell_of_mended(&mut self) -> Done {
        for id in std::mem::take(&mut self.mended) {
            let kept = self.writer.shared.index.message(id).map_err(Stop::Index)?;
            let Some(Ok(kept)) = kept else {
                let why = format!("what was just written about message {id} cannot be read");
                return Err(Stop::Index(why));
            };
            self.audience.message(kept.entry);
        }
        Ok(())
    }

    /// Removes all values of a message, found by their keys when the row does not tell.
    fn erase(&mut self, id: MessageId) -> Done {
        let id = id.0.to_be_bytes();
        for prefix in [b"m|", b"r|", b"x|"] {
            let prefix = [prefix.as_slice(), &id].concat();
            let mut keys = Vec::new();
            let scan = self.writer.shared.index.scan(&prefix, &prefix, |key, _| {
                keys.push((key.to_vec(), None));
                true
            });
            scan.map_err(Stop::Index)?;
            self.group.write(keys);
        }
        Ok(())
    }

    /// Messages of the log without a row.
    fn missing(&mut self) -> Done {
        let open = |(id, fate): (&MessageId, &Fate)| match fate {
            Fate::Live(trail) if !trail.settled => Some(*id),
            _ => None,
        };
        let mut ids: Vec<MessageId> = self.fold.messages.iter().filter_map(open).collect();
        ids.sort_unstable();
        for id in ids {
            let fate = self.fold.messages.get(&id).copied();
            self.doubt(fate, None)?;
            if let Some(Fate::Live(trail)) = fate {
                self.mend(id, trail, None)?;
            }
            self.page_full()?;
        }
        Ok(())
    }

    fn fact_rows(&mut self) -> Done {
        let mut from = b"l|".to_vec();
        loop {
            let page = self.page(b"l|", &from)?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            from = [last.as_slice(), b"\0"].concat();
            for (key, value) in page {
                let name = std::str::from_utf8(&key[2..]).map(str::to_owned);
                match (name, FactRow::decode(&value)) {
                    (Ok(name), Some(row)) => self.fact_row(&name, row)?,
                    // The log writes it anew, if it knows it.
                    _ => self.group.write([(key, None)]),
                }
                self.page_full()?;
            }
        }
    }

    fn fact_row(&mut self, name: &str, row: FactRow) -> Done {
        let mut keep_row = self.fold.facts_damaged;
        let told = self.fold.facts.get(name).map(|at| (at.kept, at.place));
        if told != Some((true, row.place)) {
            let told = told.map_or(row.place, |(_, place)| place);
            self.doubt_segment(Some(told.at.segment))?;
        }
        if let Some(at) = self.fold.facts.get_mut(name) {
            if at.kept && at.place == row.place {
                at.settled = true;
                self.report.facts += 1;
                self.writer.log.born(row.place);
                return Ok(());
            }
            keep_row = row.place.at > at.place.at;
            at.settled = keep_row;
        }
        if keep_row {
            self.report.facts += 1;
            self.writer.log.born(row.place);
            return Ok(self.writer.relog_fact(&mut self.group, name, row)?);
        }
        self.group.write([(row::fact_key(name), None)]);
        Ok(())
    }

    /// Facts that came with a message and whose own records are not there: they are written now,
    /// before anything can become of the message.
    fn promised_facts(&mut self) -> Done {
        let shared = self.writer.shared.clone();
        let now = shared.clock.now();
        let promises = std::mem::take(&mut self.fold.promises);
        let forgotten = self.fold.behind && self.report.rebuilt.is_none();
        for at in promises.into_iter().filter(|_| !forgotten) {
            let meta = replay::meta_at(&shared.readers, shared.seal, at).map_err(Trouble::Later)?;
            for fact in meta.map(|(header, meta)| header.facts_in(&meta)).unwrap_or_default() {
                let over = fact.expires.is_some_and(|expires| expires <= now);
                // Of a log that has lost records the index knows the later half.
                let row = || shared.index.fact(&fact.key).map_err(Stop::Index);
                if over
                    || self.fold.facts.contains_key(&fact.key)
                    || (self.fold.facts_damaged && row()?.is_some())
                {
                    continue;
                }
                self.report.facts += 1;
                let record = shared.encoder().fact(&fact);
                let record = record.ok_or_else(|| "a fact is larger than a record".to_owned());
                let record = record.map_err(Trouble::Failed)?;
                let kept = self.writer.keep(&mut self.group, &fact, record, None);
                kept.map_err(Trouble::Failed)?;
            }
            self.page_full()?;
        }
        Ok(())
    }

    fn missing_facts(&mut self) -> Done {
        let now = self.writer.shared.clock.now();
        let fresh = |expires: Option<Timestamp>| expires.is_none_or(|expires| expires > now);
        let facts = std::mem::take(&mut self.fold.facts);
        for (key, at) in facts {
            if at.settled || !at.kept || !fresh(at.expires) {
                continue;
            }
            self.doubt_segment(Some(at.place.at.segment))?;
            if self.fold.behind && self.report.rebuilt.is_none() {
                self.forget_fact(key)?;
                continue;
            }
            let shared = &self.writer.shared;
            let fact = replay::meta_at(&shared.readers, shared.seal, at.place.at)
                .map_err(Trouble::Later)?
                .and_then(|(_, meta)| postcard::from_bytes::<Fact>(&meta).ok());
            let Some(value) = fact.and_then(|fact| fact.value) else { continue };
            let row = FactRow { place: at.place, expires: at.expires, value };
            let value = postcard::to_stdvec(&row);
            let value = value.map_err(|error| Trouble::Failed(error.to_string()))?;
            self.report.facts += 1;
            self.writer.log.born(at.place);
            self.group.write([(row::fact_key(&key), Some(value))]);
            self.page_full()?;
        }
        Ok(())
    }

    /// The index is ahead of the log and has no such fact: it was forgotten, and the log is told again.
    fn forget_fact(&mut self, key: String) -> Done {
        let fact = Fact { key, value: None, expires: None };
        let record = self.writer.shared.encoder().fact(&fact);
        let record = record.ok_or_else(|| "a fact is larger than a record".to_owned());
        self.group.add(&self.writer.log, record.map_err(Trouble::Failed)?, None);
        self.page_full()
    }

    /// Earlier versions kept here when messages are due, which the queue knows by itself.
    fn moments(&mut self) -> Done {
        loop {
            let page = self.page(b"s|", b"s|")?;
            if page.is_empty() {
                return Ok(());
            }
            self.group.write(page.into_iter().map(|(key, _)| (key, None)));
            self.commit()?;
        }
    }

    /// Body files of messages that are gone. Where the log is damaged, one may belong to a message
    /// that nobody knows any more: a person decides.
    fn bodies(&self) {
        let shared = &self.writer.shared;
        let Ok(names) = shared.disk.names(&shared.bodies) else { return };
        for name in names {
            let path = shared.bodies.join(&name);
            let id = name.to_str().and_then(|name| name.parse::<MessageId>().ok());
            let fate = id.and_then(|id| self.fold.messages.get(&id));
            let result = match fate {
                Some(Fate::Live(_)) => continue,
                None if self.report.damaged > 0 => {
                    let aside = shared.bodies.with_file_name("damaged");
                    let made = shared.disk.make_dir(&aside);
                    made.and_then(|()| shared.disk.rename(&path, &aside.join(name)))
                }
                _ => shared.disk.remove(&path),
            };
            if let Err(error) = result {
                tracing::warn!(path = %path.display(), %error, "a body file cannot be removed");
            }
        }
    }
}

/// True when a row is exactly what the log says.
fn agree(trail: &Trail, kept: &Kept) -> bool {
    !trail.unsound && kept.place == trail.place && kept.last == trail.last
}

fn cannot_lay_out() -> String {
    "an entry cannot be laid out".to_owned()
}
