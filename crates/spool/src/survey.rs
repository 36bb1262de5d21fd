//! Every octet of a spool looked at, while no program has it and without changing anything.

use std::sync::Arc;

use waypost_mail::MessageId;

use crate::SpoolError;
use crate::config::{Config, OpenError};
use crate::inspect::Inspector;
use crate::record::Kind;
use crate::segment::{self, Health, Item, Scan};

/// What is in a spool, and what is wrong with it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Survey {
    /// Segments of the log.
    pub segments: u64,
    /// Sound records in them.
    pub records: u64,
    /// Messages kept, damaged ones included.
    pub messages: u64,
    /// What is wrong, in order of place; messages after the log.
    pub problems: Vec<Problem>,
    /// Octets of a last write that a crash cut off. That is no problem: nobody was told that it is here.
    pub torn: u64,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Problem {
    /// The segment of the log; absent for what is not in the log.
    pub segment: Option<u32>,
    /// Where it begins there.
    pub offset: u64,
    /// Octets concerned.
    pub octets: u64,
    /// The message concerned, where it is known.
    pub message: Option<MessageId>,
    /// What is wrong, in words.
    pub what: String,
}

impl Survey {
    /// Looks at all of the spool in `config.path`. Reads everything in it; blocking.
    ///
    /// # Errors
    /// When a program has the spool, there is none, or the system refuses to read it.
    pub fn of(config: &Config) -> Result<Survey, OpenError> {
        let inspector = Inspector::open(config)?;
        let log = config.path.join("log");
        let mut survey = Survey { torn: inspector.torn(), ..Survey::default() };
        let reading = || OpenError::io("reading", &log);
        let numbers = segment::list(&*config.disk, &log).map_err(reading())?;
        for pair in numbers.windows(2) {
            if let [before, after] = pair
                && before + 1 < *after
            {
                let what = format!("segments {} to {} are gone", before + 1, after - 1);
                survey.note(Some(before + 1), (0, 0), None, what);
            }
        }
        for number in numbers {
            let end = inspector.end_of(number);
            survey.segment(config, &log, number, inspector.seal(), end).map_err(reading())?;
        }
        survey.messages(&inspector);
        Ok(survey)
    }

    /// The last segment in which something is wrong.
    pub fn last_damaged(&self) -> Option<u32> {
        self.problems.iter().filter_map(|problem| problem.segment).max()
    }

    fn segment(
        &mut self,
        config: &Config,
        log: &std::path::Path,
        number: u32,
        seal: u64,
        end: u64,
    ) -> std::io::Result<()> {
        self.segments += 1;
        let file = config.disk.open(&segment::file_of(log, number))?;
        if !segment::has_head(&*file, number) {
            self.note(Some(number), (0, segment::START), None, "the segment's head".to_owned());
        }
        let mut scan = Scan::new(Arc::clone(&file), number, seal, true)?;
        while let Some(item) = scan.next()? {
            match item {
                Item::Record { health: Health::Sound, .. } => self.records += 1,
                Item::Record { place, header, .. } if u64::from(place.at.offset) < end => {
                    let what = match header.kind {
                        Kind::Message => "the record of a message",
                        Kind::State | Kind::Done => "a record of what became of a message",
                        Kind::Tomb => "a record that a message is gone",
                        Kind::Ledger => "a record of the ledger",
                    };
                    let message = Some(header.id).filter(|id| id.0 > 0);
                    let place = (u64::from(place.at.offset), place.len);
                    self.note(Some(number), place, message, format!("{what} is damaged"));
                }
                Item::Gap { from, len } if u64::from(from.offset) < end => {
                    let place = (u64::from(from.offset), len.min(end - u64::from(from.offset)));
                    self.note(Some(number), place, None, "octets that are no record".to_owned());
                }
                // A write that was cut off.
                Item::Record { .. } | Item::Gap { .. } => {}
            }
        }
        Ok(())
    }

    /// Messages whose record is sound and whose body is a file that is not, and those that are lost.
    fn messages(&mut self, inspector: &Inspector) {
        for id in inspector.ids() {
            self.messages += 1;
            let known = self.problems.iter().any(|problem| problem.message == Some(id));
            let damaged = |error| match error {
                SpoolError::Unknown(_) => None,
                SpoolError::Damaged(_, why) => Some(why),
                error => Some(error.to_string()),
            };
            let wrong = inspector.content(id).err().and_then(damaged);
            if let Some(what) = wrong.filter(|_| !known) {
                self.note(None, (0, 0), Some(id), what);
            }
        }
    }

    fn note(
        &mut self,
        segment: Option<u32>,
        (offset, octets): (u64, u64),
        message: Option<MessageId>,
        what: String,
    ) {
        self.problems.push(Problem { segment, offset, octets, message, what });
    }
}
