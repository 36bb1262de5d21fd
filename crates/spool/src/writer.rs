//! The one thread that writes. It takes all changes that wait, and makes them durable together:
//! append to the log, sync the log, let readers see it, answer. sled is given what came together now and then, in
//! one batch, and flushed: what it loses in a crash is in the segment being written, which a start reads.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use waypost_mail::{Entry, MessageId, RecipientState};

use crate::compact::Tidying;
use crate::content::body_file;
use crate::fault::FaultPoint;
use crate::index::{FactRow, checkpoint};
use crate::job::{Job, Work};
use crate::log::Log;
use crate::record::{Fact, Record};
use crate::row::{self, Kept, Writes};
use crate::scrub::Scrub;
use crate::segment::{Place, Position};
use crate::spool::Shared;
use crate::{Detours, SpoolError};
use waypost_mutant::planted;

/// A group ends when it has this many octets.
const GROUP: u64 = 16 * 1024 * 1024;
/// How long the writer sleeps when nothing waits.
const IDLE: Duration = Duration::from_secs(1);
/// How far sled on the disk may be behind the log while changes come one after the other.
const LAG: Duration = Duration::from_millis(200);
/// The same when no change comes.
const QUIET: Duration = Duration::from_millis(20);
/// Recipients remembered between groups, so that settling need not read sled.
const REMEMBERED: usize = 10_000;

/// The writer and what it knows.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) shared: Arc<Shared>,
    pub(crate) log: Log,
    pub(crate) tidying: Tidying,
    pub(crate) scrub: Scrub,
    recent: HashMap<MessageId, Kept>,
    /// Recipients of all those.
    remembered: usize,
    /// Since when there is something that sled does not have on the disk.
    unflushed: Option<Instant>,
    /// sled is flushed with each group: while index and log are brought to one opinion, and by tools. So it is
    /// while the disk is nearly full.
    pub(crate) eager: bool,
}

/// A record, and the number of the job it is of; none for those the writer adds.
type Owned = (Option<usize>, Record);

/// Changes that become durable together.
#[derive(Debug, Default)]
pub(crate) struct Group {
    records: Vec<Owned>,
    len: u64,
    writes: Writes,
    born: Vec<Place>,
    died: Vec<Place>,
    /// Where facts changed in this group are now.
    facts: HashMap<String, Option<Place>>,
    /// New mail whose sender waits for an answer.
    mail: Vec<MessageId>,
    /// Facts that come with it.
    promises: Vec<String>,
    /// Bodies of messages that are gone.
    bodies: Vec<PathBuf>,
}

/// Why a group did not become durable.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// The disk is full; the log is as it was.
    Full,
    /// What had to be read could not be, this time; nothing was changed.
    Later(String),
    /// Nothing more can be promised.
    Failed(String),
}

/// Why a job is not part of its group.
enum Refusal {
    /// What was asked cannot be.
    Caller(SpoolError),
    /// Storage failed.
    Storage(String),
}

impl From<String> for Refusal {
    fn from(text: String) -> Refusal {
        Refusal::Storage(text)
    }
}

impl From<String> for Trouble {
    fn from(text: String) -> Trouble {
        Trouble::Failed(text)
    }
}

impl Writer {
    pub(crate) fn new(shared: Arc<Shared>, log: Log) -> Writer {
        let (tidying, recent) = (Tidying::default(), HashMap::new());
        let scrub = Scrub::here(&shared);
        let (remembered, unflushed, eager) = (0, None, true);
        Writer { shared, log, tidying, scrub, recent, remembered, unflushed, eager }
    }

    /// Serves until the spool is closed.
    pub(crate) fn run(mut self) {
        self.eager = false;
        while let Some(jobs) = self.shared.queue.take(self.unflushed.map_or(IDLE, |_| QUIET)) {
            self.turn(jobs);
        }
        if self.shared.failure().is_none()
            && let Err(text) = self.flush()
        {
            self.shared.fail(&text);
        }
    }

    /// Serves jobs, then tidies a little. After a failure it only says so.
    pub(crate) fn turn(&mut self, jobs: Vec<Job>) {
        if let Some(text) = self.shared.failure() {
            return refuse(jobs, &text);
        }
        let most = if jobs.is_empty() { QUIET } else { LAG };
        if self.serve(jobs).is_err() {
            return;
        }
        let tidied = self.tidy().and_then(|()| match self.unflushed {
            Some(since) if since.elapsed() >= most => Ok(self.flush()?),
            _ => Ok(()),
        });
        match tidied {
            Ok(()) => {}
            Err(Trouble::Full) => self.tidying.pause(),
            Err(Trouble::Later(text)) => {
                tracing::warn!(error = text, "the log cannot be tidied now; trying again");
                self.tidying.pause();
            }
            Err(Trouble::Failed(text)) => self.shared.fail(&text),
        }
    }

    /// Makes jobs durable, in groups of bearable size, and answers them.
    fn serve(&mut self, mut jobs: Vec<Job>) -> Result<(), Trouble> {
        self.shared.space.balance();
        while !jobs.is_empty() {
            let mut len = 0;
            let fitting = jobs.iter().take_while(|job| {
                let fits = len < GROUP;
                len += job.record.as_ref().map_or(0, Record::len);
                fits
            });
            let later = jobs.split_off(fitting.count());
            self.serve_group(std::mem::replace(&mut jobs, later))?;
        }
        Ok(())
    }

    fn serve_group(&mut self, mut jobs: Vec<Job>) -> Result<(), Trouble> {
        let mut done = self.attempt(&mut jobs);
        if let Err((Trouble::Full, records)) = done {
            // What was staged is not so: what the rows say is.
            self.forget_all();
            jobs = self.without_new_mail(jobs, records);
            done = self.attempt(&mut jobs);
        }
        match done {
            Ok(bodies) => {
                self.shared.metrics.commits.inc_by(jobs.len() as u64);
                answer(jobs, &Ok(()));
                for body in bodies {
                    // One that stays is removed at the next start.
                    let _ = self.shared.disk.remove(&body);
                }
                Ok(())
            }
            Err((trouble, _)) => {
                let text = match &trouble {
                    Trouble::Full => "the disk is full and the reserve is used",
                    Trouble::Later(text) | Trouble::Failed(text) => text,
                };
                // Before anybody hears of it, so that nothing is acknowledged afterwards.
                self.shared.fail(text);
                answer(jobs, &Err(SpoolError::Failed(text.into())));
                Err(trouble)
            }
        }
    }

    /// Stages and finishes what can be; jobs that ask what cannot be are answered and dropped.
    fn attempt(&mut self, jobs: &mut Vec<Job>) -> Result<Vec<PathBuf>, (Trouble, Vec<Owned>)> {
        let mut group = Group::default();
        if let Err(trouble) = self.roll() {
            return Err((trouble, group.records));
        }
        for mut job in std::mem::take(jobs) {
            match self.stage(&mut group, &mut job, jobs.len()) {
                Ok(()) => jobs.push(job),
                Err(Refusal::Caller(error)) => job.refuse(error),
                // Those after it are told by the loss of their sender.
                Err(Refusal::Storage(text)) => return Err((Trouble::Failed(text), group.records)),
            }
        }
        self.finish(group)
    }

    /// sled has on the disk what was applied when this returns.
    pub(crate) fn flush(&mut self) -> Result<(), String> {
        if self.unflushed.is_some() {
            let shared = &self.shared;
            let point = |point| shared.faults.hit(point).map_err(|error| error.to_string());
            shared.space.guard();
            shared.index.give()?;
            point(FaultPoint::Given)?;
            shared.index.flush()?;
            self.unflushed = None;
            shared.metrics.syncs.inc();
            point(FaultPoint::Flushed)?;
        }
        Ok(())
    }

    /// Begins another segment when the present one is full. sled is flushed first: a start reads the
    /// digests of finished segments only, and must find no difference there.
    pub(crate) fn roll(&mut self) -> Result<(), Trouble> {
        if self.log.is_full() {
            self.flush()?;
        }
        match self.log.roll(self.shared.highest(), self.shared.clock.now()) {
            Err(error) if is_want(&error) && self.log.has_room() => {
                tracing::warn!(%error, "another segment of the log cannot be begun now");
                Ok(())
            }
            rolled => rolled.map_err(|error| trouble("beginning a segment of the log", &error)),
        }
    }

    /// Takes records back from a group that did not fit, gives up the reserve, and turns new mail
    /// away.
    fn without_new_mail(&mut self, jobs: Vec<Job>, records: Vec<Owned>) -> Vec<Job> {
        self.shared.space.give_up();
        let owned = records.into_iter().filter_map(|(owner, record)| Some((owner?, record)));
        let mut records: HashMap<usize, Record> = owned.collect();
        let mut kept = Vec::new();
        for (number, mut job) in jobs.into_iter().enumerate() {
            job.record = job.record.or_else(|| records.remove(&number));
            if matches!(job.work, Work::Accept(..)) {
                self.shared.metrics.refused.inc();
                job.refuse(SpoolError::NoSpace);
            } else {
                kept.push(job);
            }
        }
        kept
    }

    /// Adds a job to the group.
    fn stage(&mut self, group: &mut Group, job: &mut Job, number: usize) -> Result<(), Refusal> {
        let Some(record) = job.record.take() else { return Ok(()) };
        let large = job.body.is_some();
        let owner = Some(number);
        match &mut job.work {
            Work::Accept(entry, facts) => {
                let Some(entry) = entry.take() else { return Ok(()) };
                self.check_new(entry.id)?;
                let place = group.add(&self.log, record, owner);
                group.mail.push(entry.id);
                self.arrive(group, entry, place, large)?;
                for fact in facts {
                    let record = self.shared.encoder().fact(fact);
                    let record =
                        record.ok_or_else(|| "a fact is larger than a record".to_owned())?;
                    self.keep(group, fact, record, None)?;
                    group.promises.push(fact.key.clone());
                }
                Ok(())
            }
            Work::Settle { id, states, detours, notice } => {
                let mut kept = self.recall(*id)?;
                if let Some(entry) = notice {
                    let known = self.check_new(entry.id);
                    if known.is_err() {
                        self.remember(kept);
                        return known;
                    }
                }
                let unlogged = planted!("a row goes without DONE and TOMB") && notice.is_none();
                let place = match unlogged {
                    true => kept.place,
                    false => group.add(&self.log, record, owner),
                };
                self.settle(group, &mut kept, states, detours, place.at)?;
                if unlogged && kept.entry.is_done() {
                    self.leave(group, &kept);
                } else if kept.entry.is_done() {
                    let now = self.shared.clock.now();
                    group.add(&self.log, Record::tomb(self.log.seal(), *id, now), None);
                    self.leave(group, &kept);
                } else {
                    self.remember(kept);
                }
                match notice {
                    Some(entry) => self.arrive(group, entry.clone(), place, large),
                    None => Ok(()),
                }
            }
            Work::Remove(id) => {
                let kept = self.recall(*id)?;
                group.add(&self.log, record, owner);
                self.leave(group, &kept);
                Ok(())
            }
            Work::Keep(fact) => Ok(self.keep(group, fact, record, owner)?),
        }
    }

    fn check_new(&self, id: MessageId) -> Result<(), Refusal> {
        let known = self.recent.contains_key(&id)
            || id.0 <= self.shared.highest() && self.shared.index.get(&row::row_key(id))?.is_some();
        if known {
            let why = "there is a message of this id already".to_owned();
            return Err(Refusal::Caller(SpoolError::Damaged(id, why)));
        }
        self.shared.saw(id.0);
        Ok(())
    }

    fn arrive(
        &mut self,
        group: &mut Group,
        entry: Entry,
        place: Place,
        large: bool,
    ) -> Result<(), Refusal> {
        let laid_out = Kept::lay_out(entry, place, place.at, large);
        let (kept, writes) = laid_out.ok_or_else(|| "an entry cannot be laid out".to_owned())?;
        group.writes.extend(writes);
        group.born.push(place);
        self.remember(kept);
        Ok(())
    }

    /// Gives recipients their states, and the index the values that change.
    fn settle(
        &self,
        group: &mut Group,
        kept: &mut Kept,
        states: &[(u32, RecipientState)],
        detours: &Detours,
        at: Position,
    ) -> Result<(), String> {
        let writes = kept.advance(states, detours, at).ok_or("an entry cannot be laid out")?;
        group.writes.extend(writes);
        Ok(())
    }

    /// Takes a message out of the index.
    pub(crate) fn leave(&self, group: &mut Group, kept: &Kept) {
        group.writes.extend(kept.removal());
        group.died.push(kept.place);
        if kept.large {
            group.bodies.push(body_file(&self.shared.bodies, kept.entry.id));
        }
    }

    /// The message as it is with all that is staged, out of memory or the index.
    fn recall(&mut self, id: MessageId) -> Result<Kept, Refusal> {
        if let Some(kept) = self.forget(id) {
            return Ok(kept);
        }
        match self.shared.index.message(id)? {
            Some(Ok(kept)) => Ok(kept),
            Some(Err(())) => {
                let why = "its values in the index do not fit together; restart to repair it";
                Err(Refusal::Caller(SpoolError::Damaged(id, why.to_owned())))
            }
            None => Err(Refusal::Caller(SpoolError::Unknown(id))),
        }
    }

    fn remember(&mut self, kept: Kept) {
        self.remembered += kept.entry.recipients.len();
        self.recent.insert(kept.entry.id, kept);
    }

    pub(crate) fn forget(&mut self, id: MessageId) -> Option<Kept> {
        let kept = self.recent.remove(&id)?;
        self.remembered = self.remembered.saturating_sub(kept.entry.recipients.len());
        Some(kept)
    }

    fn forget_all(&mut self) {
        self.recent.clear();
        self.remembered = 0;
    }

    pub(crate) fn keep(
        &self,
        group: &mut Group,
        fact: &Fact,
        record: Record,
        owner: Option<usize>,
    ) -> Result<(), String> {
        let old = match group.facts.get(&fact.key) {
            Some(place) => *place,
            None => self.shared.index.fact(&fact.key)?.map(|row| row.place),
        };
        if old.is_none() && fact.value.is_none() {
            return Ok(());
        }
        let place = group.add(&self.log, record, owner);
        group.died.extend(old);
        let row = fact.value.clone().map(|value| FactRow { place, expires: fact.expires, value });
        let value = row.as_ref().map(postcard::to_stdvec).transpose();
        let value = value.map_err(|error| error.to_string())?;
        group.born.extend(row.as_ref().map(|_| place));
        group.facts.insert(fact.key.clone(), row.map(|row| row.place));
        group.writes.push((row::fact_key(&fact.key), value));
        Ok(())
    }

    /// The order of everything. Answers which body files have become garbage.
    pub(crate) fn finish(&mut self, group: Group) -> Result<Vec<PathBuf>, (Trouble, Vec<Owned>)> {
        let (began, before) = (Instant::now(), self.log.position(0));
        if !group.records.is_empty()
            && let Err((error, uncut)) = self.log.append(&group.records)
        {
            let mut why = trouble("appending to the log", &error);
            if let Some(error) = uncut {
                why = Trouble::Failed(format!("cutting the log: {error}"));
            }
            return Err((why, group.records));
        }
        let (mail, promises) = (group.mail.clone(), group.promises.clone());
        self.finish_appended(group, began).map_err(|text| {
            self.disown(&mail, promises, before);
            (Trouble::Failed(text), Vec::new())
        })
    }

    /// Records of new mail are in the log, and its senders are told that it is not taken: says so
    /// in the log too, as well as it still can, or the next start would find it. The facts that came
    /// with it go first: they would say of mail that is gone that it was taken.
    fn disown(&mut self, mail: &[MessageId], promises: Vec<String>, before: Position) {
        if mail.is_empty() {
            return;
        }
        let (seal, now) = (self.log.seal(), self.shared.clock.now());
        // None is the first of a group: before it nothing is known to be on the disk.
        let encoder = self.shared.encoder();
        let forget = |key| encoder.fact(&Fact { key, value: None, expires: None });
        let forgotten = promises.into_iter().filter_map(forget);
        let tombs = mail.iter().map(|id| Record::tomb(seal, *id, now));
        let tombs: Vec<Owned> = forgotten.chain(tombs).map(|record| (None, record)).collect();
        let mut append = || self.log.append(&tombs).map_err(|(error, _)| error);
        let written = append()
            .or_else(|error| if self.shared.space.give_up() { append() } else { Err(error) });
        // A full disk has no room for that, and can still be cut.
        let undone = written.or_else(|_| self.log.take_back(before));
        if let Err(error) = undone.and_then(|()| self.log.sync()) {
            let messages = mail.len();
            tracing::warn!(%error, messages, "refused mail may be found at the next start");
        }
    }

    fn finish_appended(
        &mut self,
        mut group: Group,
        began: Instant,
    ) -> Result<Vec<PathBuf>, String> {
        let shared = &self.shared;
        if !group.records.is_empty() && !planted!("acknowledged before the log is synced") {
            // A failed sync is never tried again: the kernel may have dropped the pages.
            let synced = self.log.sync().map_err(|error| format!("syncing the log: {error}"));
            if !planted!("a failed sync is taken for one that worked") {
                synced?;
            }
            shared.metrics.syncs.inc();
            shared.metrics.groups.inc();
        }
        let point = |point| shared.faults.hit(point).map_err(|error| error.to_string());
        group.writes.push(checkpoint(self.log.position(0)));
        shared.index.apply(group.writes);
        point(FaultPoint::Applied)?;
        shared.space.spend(group.len);
        shared.metrics.bytes.inc_by(group.len);
        shared.metrics.group_seconds.observe(began.elapsed().as_secs_f64());
        group.born.into_iter().for_each(|place| self.log.born(place));
        group.died.into_iter().for_each(|place| self.log.died(place));
        self.unflushed.get_or_insert_with(Instant::now);
        if self.eager || self.shared.index.is_heavy() || self.shared.space.is_scarce() {
            self.flush()?;
        }
        if self.remembered > REMEMBERED {
            self.forget_all();
        }
        Ok(group.bodies)
    }
}

impl Group {
    pub(crate) fn is_empty(&self) -> bool {
        self.records.is_empty() && self.writes.is_empty()
    }

    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// True when it is time to finish it, while more is to come.
    pub(crate) fn is_large(&self, writes: usize) -> bool {
        self.len >= GROUP || self.writes.len() >= writes
    }

    /// Adds a record; answers where it will stand.
    pub(crate) fn add(&mut self, log: &Log, mut record: Record, owner: Option<usize>) -> Place {
        record.set_first(self.records.is_empty());
        let place = Place { at: log.position(self.len), len: record.len() };
        self.len += place.len;
        self.records.push((owner, record));
        place
    }

    /// Puts a message under a new place in the index.
    pub(crate) fn relocate(&mut self, kept: &Kept, place: Place, large: bool) -> Option<()> {
        self.writes.extend(kept.removal());
        let (_, writes) = Kept::lay_out(kept.entry.clone(), place, place.at, large)?;
        self.writes.extend(writes);
        self.died.push(kept.place);
        self.born.push(place);
        Some(())
    }

    /// Changes the index without a record.
    pub(crate) fn write(&mut self, writes: impl IntoIterator<Item = (Vec<u8>, Option<Vec<u8>>)>) {
        self.writes.extend(writes);
    }

    pub(crate) fn lose(&mut self, place: Place) {
        self.died.push(place);
    }
}

/// Answers jobs whose records were, or may have been, written: their bodies stay.
fn answer(jobs: Vec<Job>, result: &Result<(), SpoolError>) {
    for job in jobs {
        if let Some(body) = job.body {
            body.keep();
        }
        // Whoever asked may be gone; what was written stands.
        drop(job.answer.send(result.clone()));
    }
}

fn refuse(jobs: Vec<Job>, text: &Arc<str>) {
    for job in jobs {
        drop(job.answer.send(Err(SpoolError::Failed(text.clone()))));
    }
}

pub(crate) fn trouble(what: &str, error: &io::Error) -> Trouble {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Trouble::Full,
        _ if is_want(error) => Trouble::Later(format!("{what}: {error}")),
        _ => Trouble::Failed(format!("{what}: {error}")),
    }
}

/// The system has no descriptors or memory to spare now, which says nothing about the disk.
fn is_want(error: &io::Error) -> bool {
    use nix::libc::{EMFILE, ENFILE, ENOMEM};
    matches!(error.raw_os_error(), Some(EMFILE | ENFILE | ENOMEM))
}
