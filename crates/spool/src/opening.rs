//! Opening a spool: the log is read, the index opened, and both are brought to one opinion.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use tokio::sync::watch;
use tokio::time::Instant;
use waypost_mail::Clock;

use crate::Audience;
use crate::config::{Config, OpenError, Report};
use crate::dirs::{Dirs, open_index};
use crate::index::Index;
use crate::log::Log;
use crate::metrics::Metrics;
use crate::reconcile::{Reconciliation, Stop};
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

impl Opening<'_> {
    /// Answers the writer, with everything in order. When index and log differ in what digests tell of
    /// the log, that is read itself; when the index cannot be read, it is made anew.
    pub(crate) fn run(self, audience: &mut dyn Audience) -> Result<(Writer, Report), OpenError> {
        let began = Instant::now();
        self.dirs.wipe_incoming()?;
        let (mut digests, mut rebuilt) = (Digests::Believed, None);
        loop {
            audience.begin();
            let space = self.space();
            let (fold, index) = self.read(digests, &mut rebuilt)?;
            let mut writer = self.writer(&fold, index, space)?;
            let report = Report { rebuilt: rebuilt.clone(), ..Report::of(&fold) };
            let mended = Vec::new();
            let (group, of) = (Group::default(), &mut writer);
            let both = Reconciliation { writer: of, fold, report, group, audience, mended };
            match both.run() {
                Ok(mut report) => {
                    report.took = began.elapsed();
                    report.log(&self.config.path);
                    return Ok((writer, report));
                }
                Err(Stop::Doubt) => digests = Digests::Renewed,
                Err(Stop::Index(why)) if rebuilt.is_none() => {
                    self.give_up(writer, &why)?;
                    rebuilt = Some(why);
                }
                Err(Stop::Index(why)) => return Err(OpenError::Index(why)),
                Err(Stop::Trouble(trouble)) => return Err(trouble.into()),
            }
        }
    }

    /// The log and the index, each as it is.
    fn read(
        &self,
        digests: Digests,
        rebuilt: &mut Option<String>,
    ) -> Result<(Fold, Index), OpenError> {
        let fold = |acknowledged, digests| {
            let reading = Reading { acknowledged, digests };
            Fold::read_with(&*self.config.disk, &self.dirs.log, reading)
                .map_err(OpenError::io("reading", &self.dirs.log))
        };
        let mut read = fold(false, digests)?;
        let (index, why) = open_index(self.place, &read, self.clock.now())?;
        *rebuilt = rebuilt.take().or(why);
        // Without an index to compare it with, nothing is believed but the log.
        let digests = if rebuilt.is_some() { Digests::Renewed } else { digests };
        if rebuilt.is_some() && !read.digested.is_empty() {
            read = fold(false, digests)?;
        }
        let checkpoint = index.checkpoint().unwrap_or_default();
        if checkpoint.is_some_and(|checkpoint| checkpoint > read.end()) {
            read = fold(true, digests)?;
            if checkpoint.is_some_and(|checkpoint| checkpoint > read.end()) {
                tracing::error!("acknowledged records at the end of the log are lost");
                read.lost_after_end();
            }
        }
        self.dirs.cut(&read).map_err(OpenError::io("repairing", &self.dirs.log))?;
        read.seal.get_or_insert(self.seal);
        Ok((read, index))
    }

    /// Puts away an index that cannot be read.
    fn give_up(&self, writer: Writer, why: &str) -> Result<(), OpenError> {
        let index = writer.shared.index.clone();
        drop(writer);
        // sled may hang when it ends after a failure.
        let ending = std::thread::Builder::new().name("spool-index-end".to_owned());
        let ended = ending.spawn(move || drop(index));
        ended.map_err(OpenError::io("starting a thread for", &self.config.path))?;
        let aside = self.place.set_aside(self.clock.now());
        let aside = aside.map_err(|error| OpenError::Index(error.to_string()))?;
        tracing::error!(why, aside, "the index cannot be read; it is rebuilt from the log");
        Ok(())
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
    fn writer(&self, fold: &Fold, index: Index, space: Space) -> Result<Writer, OpenError> {
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
            metrics: Metrics::default(),
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

impl Report {
    fn of(fold: &Fold) -> Report {
        Report { damaged: fold.damaged, torn: fold.torn, ..Report::default() }
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
