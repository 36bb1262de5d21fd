//! Mending a spool that no program runs: a new index, and a log without damaged segments.

use std::sync::Arc;

use waypost_mail::{Clock, Timestamp};

use crate::config::{Config, OpenError, Report};
use crate::spool::LogSpool;
use crate::survey::Survey;

/// What a repair found and did.
#[derive(Debug)]
pub struct Repair {
    /// What was found before.
    pub before: Survey,
    /// What was done; absent when only a look was wanted, or when nothing was wrong.
    pub done: Option<Done>,
}

/// What was done.
#[derive(Debug)]
pub struct Done {
    /// Where the old index is now, if there was one.
    pub index: Option<String>,
    /// What came of making the index anew.
    pub report: Report,
    /// Segments that are in `damaged/` now.
    pub set_aside: u32,
}

impl Repair {
    /// Looks at the spool in `config.path`, and unless `dry` mends what is wrong, or with `anyway` makes its index
    /// anew even when nothing is. What can be read of damaged messages is held, and moves with everything else out
    /// of damaged segments, which go to `damaged/`. Nothing is removed. Blocking.
    ///
    /// # Errors
    /// When a program has the spool, there is none, or the system refuses something.
    pub fn of(
        config: &Config,
        clock: Arc<dyn Clock>,
        dry: bool,
        anyway: bool,
    ) -> Result<Repair, OpenError> {
        let before = Survey::of(config)?;
        if dry || (before.problems.is_empty() && !anyway) {
            return Ok(Repair { before, done: None });
        }
        let index = set_index_aside(config, clock.now())?;
        let (mut writer, report, _lock) = LogSpool::prepare_alone(config, clock, &mut ())?;
        let damaged: Vec<u32> = before.problems.iter().filter_map(|p| p.segment).collect();
        let moved = writer.empty_through(&damaged);
        let set_aside = moved.map_err(OpenError::from)?;
        Ok(Repair { before, done: Some(Done { index, report, set_aside }) })
    }
}

fn set_index_aside(config: &Config, now: Timestamp) -> Result<Option<String>, OpenError> {
    let index = config.path.join("index");
    let aside = config.path.join(format!("index.damaged-{}", now.0));
    match config.disk.rename(&index, &aside) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(OpenError::io("moving", &index)(error)),
    }
    config.disk.sync_dir(&config.path).map_err(OpenError::io("syncing", &config.path))?;
    Ok(Some(aside.display().to_string()))
}
