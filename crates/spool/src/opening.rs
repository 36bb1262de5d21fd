//! Opening a spool: the log is read, the index opened, and both are brought to one opinion.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use tokio::sync::watch;
use tokio::time::Instant;
use waypost_mail::Clock;

use crate::Audience;
use crate::config::{Config, OpenError, Report};
use crate::dirs::{Dirs, open_index};
use crate::index::{Index, Lost};
use crate::log::Log;
use crate::metrics::Metrics;
use crate::reconcile::{Reconciliation, Stop, Tally};
use crate::replay::{Digests, Fold, Reading};
use crate::rows::RowsPlace;
use crate::space::Space;
use crate::spool::Shared;
use crate::waiting::Queue;
use crate::writer::{Group, Trouble, Writer};

/// A spool that is being opened.
#[derive(Debug)]
pub(crate) struct Opening<'a> {
    pub(crate) config: &'a Config,
    pub(crate) dirs: Dirs,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) place: &'a dyn RowsPlace,
    /// The mark of its records, if it is new.
    pub(crate) seal: u64,
}

/// What is known after one look at log and index, for the next.
#[derive(Debug)]
struct Known {
    digests: Digests,
    /// Why the index could not be read just now.
    unread: Option<String>,
    /// How many times it could not be read.
    failures: u32,
    /// It was asked where the log should end.
    compared: bool,
    /// The log has lost records.
    behind: bool,
    report: Report,
    metrics: Metrics,
}

impl Opening<'_> {
    /// Answers the writer, with everything in order. When index and log differ in what digests tell of
    /// the log, that is read itself; when the index cannot be read, it is made anew out of a sound log.
    pub(crate) fn run(self, audience: &mut dyn Audience) -> Result<(Writer, Report), OpenError> {
        let began = Instant::now();
        self.dirs.wipe_incoming()?;
        let mut known = Known {
            digests: Digests::Believed,
            unread: None,
            failures: 0,
            compared: false,
            behind: false,
            report: Report::default(),
            metrics: Metrics::default(),
        };
        loop {
            match self.attempt(&mut known, audience) {
                Ok(writer) => {
                    known.report.took = began.elapsed();
                    known.report.log(&self.config.path);
                    return Ok((writer, known.report));
                }
                Err(Stop::Doubt) => known.digests = Digests::Renewed,
                Err(Stop::Index(why)) => {
                    tracing::error!(why, "the index cannot be read: all of the log is read");
                    (known.unread, known.digests) = (Some(why), Digests::Renewed);
                    known.failures += 1;
                }
                Err(Stop::Trouble(trouble)) => return Err(trouble.into()),
                Err(Stop::Refused(error)) => return Err(error),
            }
        }
    }

    /// Brings log and index to one opinion, unless that stops.
    fn attempt(&self, known: &mut Known, audience: &mut dyn Audience) -> Result<Writer, Stop> {
        audience.begin();
        let space = self.space();
        let (fold, index) = self.read(known)?;
        let mut writer = self.writer(&fold, index, space, known.metrics.clone())?;
        known.report.note(&fold);
        let (group, mended, tally) = (Group::default(), Vec::new(), Tally::default());
        let (of, report) = (&mut writer, &mut known.report);
        let both = Reconciliation { writer: of, fold, report, group, tally, audience, mended };
        match both.run() {
            Ok(()) => Ok(writer),
            Err(Stop::Index(why)) => {
                let index = writer.shared.index.clone();
                drop(writer);
                self.part_with(index)?;
                Err(Stop::Index(why))
            }
            Err(stop) => Err(stop),
        }
    }

    /// The log and the index, each as it is.
    fn read(&self, known: &mut Known) -> Result<(Fold, Index), Stop> {
        let mut read = self.fold(false, known.digests)?;
        self.give_up(known, &read)?;
        let (index, why) = open_index(self.place, &read, self.clock.now())?;
        known.report.rebuilt = known.report.rebuilt.take().or(why);
        if let Err(stop) = self.compare(known, &index, &mut read) {
            self.part_with(index)?;
            return Err(stop);
        }
        self.dirs.cut(&read).map_err(OpenError::io("repairing", &self.dirs.log))?;
        read.seal.get_or_insert(self.seal);
        Ok((read, index))
    }

    fn fold(&self, acknowledged: bool, digests: Digests) -> Result<Fold, OpenError> {
        let reading = Reading { acknowledged, digests };
        Fold::read_with(&*self.config.disk, &self.dirs.log, reading)
            .map_err(OpenError::io("reading", &self.dirs.log))
    }

    /// Reads the log anew as what the index says of it makes necessary.
    fn compare(&self, known: &mut Known, index: &Index, read: &mut Fold) -> Result<(), Stop> {
        let checkpoint = index.checkpoint().map_err(Stop::Index)?;
        let told = index.lost().map_err(Stop::Index)?;
        let ahead = |read: &Fold| checkpoint.is_some_and(|checkpoint| checkpoint > read.end());
        let acknowledged = ahead(read);
        if acknowledged {
            // Two of them need not be in memory.
            *read = Fold::default();
            *read = self.fold(acknowledged, known.digests)?;
        }
        known.compared = true;
        known.behind |= told.is_some() || ahead(read);
        if let Some(lost) = &told {
            let rebuilt = known.report.rebuilt.take();
            known.report.rebuilt = rebuilt.or_else(|| lost.rebuilt.clone());
        }
        let alone = known.behind || known.report.rebuilt.is_some();
        known.digests = if alone { Digests::Renewed } else { known.digests };
        if alone && !read.digested.is_empty() {
            // The index cannot speak against a digest, so that nothing is believed but the log.
            *read = Fold::default();
            *read = self.fold(acknowledged, known.digests)?;
        }
        if known.behind {
            tracing::error!("acknowledged records at the end of the log are lost");
            let rebuilt = known.report.rebuilt.clone();
            let lost = Lost { from: told.map_or_else(|| read.end(), |lost| lost.from), rebuilt };
            index.keep_lost(&lost).map_err(Stop::Index)?;
            read.lost_from(lost.from);
        }
        Ok(())
    }

    /// Puts an index away that could not be read, if the log tells all that it told. Otherwise it is
    /// opened once more: it alone knows what was in a damaged part of the log, and whether anything is lost.
    fn give_up(&self, known: &mut Known, read: &Fold) -> Result<(), OpenError> {
        let Some(why) = known.unread.take() else { return Ok(()) };
        let again = known.failures > 1;
        let sound = read.damaged == 0 && !known.behind && (known.compared || again);
        if sound && known.report.rebuilt.is_none() {
            let aside = self.place.set_aside(self.clock.now());
            let aside = aside.map_err(|error| OpenError::Index(error.to_string()))?;
            tracing::error!(why, aside, "the index cannot be read; it is rebuilt from the log");
            known.report.rebuilt = Some(why);
        } else if again {
            return Err(OpenError::Index(known.helpless(why)));
        }
        Ok(())
    }

    /// Closes an index that failed: sled may hang when it ends then.
    fn part_with(&self, index: Index) -> Result<(), OpenError> {
        let ending = std::thread::Builder::new().name("spool-index-end".to_owned());
        let ended = ending.spawn(move || drop(index));
        ended.map_err(OpenError::io("starting a thread for", &self.config.path)).map(drop)
    }

    fn space(&self) -> Space {
        let Config { disk, path, keep_free, reserve, .. } = self.config;
        let space = Space::new(disk.clone(), path.clone(), *keep_free, *reserve);
        space.ask();
        // sled writes when it opens, and must meet no full disk.
        space.balance();
        space
    }

    /// Everything the writer needs, without its thread.
    fn writer(
        &self,
        fold: &Fold,
        index: Index,
        space: Space,
        metrics: Metrics,
    ) -> Result<Writer, OpenError> {
        let (config, dirs) = (self.config, &self.dirs);
        let seal = fold.seal.unwrap_or_default();
        dirs.keep_seal(seal).map_err(OpenError::io("writing the seal of", &config.path))?;
        let log = Log::open(
            config.disk.clone(),
            dirs.log.clone(),
            seal,
            config.segment_size.clamp(4096, 1 << 30),
            fold.segments.clone(),
            (fold.draft.clone(), fold.old),
            fold.highest,
            self.clock.now(),
            config.faults.clone(),
        );
        let log = log.map_err(OpenError::io("opening", &dirs.log))?;
        let shared = Shared {
            disk: config.disk.clone(),
            clock: self.clock.clone(),
            index,
            readers: log.readers(),
            seal,
            queue: Queue::default(),
            space,
            metrics,
            faults: config.faults.clone(),
            log_dir: dirs.log.clone(),
            bodies: dirs.bodies.clone(),
            incoming: dirs.incoming.clone(),
            highest: AtomicU64::new(fold.highest),
            failure: watch::Sender::new(None),
        };
        Ok(Writer::new(Arc::new(shared), log))
    }
}

impl Known {
    /// The index could not be read again: what to do about it.
    fn helpless(&self, why: String) -> String {
        if self.report.rebuilt.is_some() {
            return why;
        }
        format!(
            "{why}; parts of the log are damaged or lost, and it alone may know what they said: check the disk and \
             start again. If that does not help, `waypost spool repair --index` makes another out of what is left of \
             the log"
        )
    }
}

impl Report {
    /// The log was read, perhaps once more; a torn end was cut off.
    fn note(&mut self, fold: &Fold) {
        self.damaged = self.damaged.max(fold.damaged);
        self.torn += fold.torn;
        self.facts = 0;
    }
}

impl From<Trouble> for OpenError {
    fn from(trouble: Trouble) -> OpenError {
        match trouble {
            Trouble::Full => OpenError::Index("the disk is full".to_owned()),
            Trouble::Later(text) | Trouble::Failed(text) => OpenError::Index(text),
        }
    }
}
