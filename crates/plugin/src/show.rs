//! How the plugins in force fare, for operators.

use serde::{Deserialize, Serialize};
use waypost_mail::Timestamp;

use crate::plugin::Plugin;
use crate::{Policy, STAGES};

/// One plugin of the current generation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Shown {
    /// Its name in the configuration.
    pub name: String,
    /// The component.
    pub file: String,
    /// Its SHA-256.
    pub digest: String,
    /// What it calls itself, and its version.
    pub says: Option<(String, String)>,
    /// `enforce`, `dry-run` or `shadow`.
    pub mode: String,
    /// Number of its generation.
    pub generation: u64,
    /// Octets that an instance takes, when one is free to be looked at.
    pub memory: Option<usize>,
    /// Where it is asked.
    pub stages: Vec<ShownStage>,
    /// Its last fault: when, where, what.
    pub last_fault: Option<(Timestamp, String, String)>,
}

/// One plugin at one stage, since its generation came into force.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ShownStage {
    /// The stage.
    pub stage: String,
    /// Calls.
    pub calls: u64,
    /// Of those, failed.
    pub failed: u64,
    /// Refused for good, refused for now, dropped or held.
    pub refused: u64,
    /// See `refused`.
    pub later: u64,
    /// See `refused`.
    pub taken: u64,
    /// Half of the calls took at most so many microseconds.
    pub median_us: u64,
    /// 99 of 100 did.
    pub p99_us: u64,
    /// It kept failing and is not asked since then.
    pub open_since: Option<Timestamp>,
}

impl Policy {
    /// The plugins of the current generation, in the order in which they are asked.
    pub fn plugins(&self) -> Vec<Shown> {
        self.current().plugins.iter().map(|plugin| shown(plugin)).collect()
    }
}

fn shown(plugin: &Plugin) -> Shown {
    let stage = |stage: &crate::Stage| {
        let counts = plugin.tallies[stage.index()].counts();
        let microseconds = |share| counts.quantile(share).as_micros() as u64;
        ShownStage {
            stage: stage.to_string(),
            calls: counts.calls(),
            failed: counts.failed,
            refused: counts.refused,
            later: counts.later,
            taken: counts.taken,
            median_us: microseconds(0.5),
            p99_us: microseconds(0.99),
            open_since: plugin.breaker(*stage).open_since(),
        }
    };
    let last = plugin.last_fault.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    Shown {
        name: plugin.name().to_owned(),
        file: plugin.config.file.display().to_string(),
        digest: plugin.digest.to_string(),
        says: plugin.info.as_ref().map(|info| (info.name.clone(), info.version.clone())),
        mode: plugin.config.mode.name().to_owned(),
        generation: plugin.generation,
        memory: plugin.pool.memory_of_one(),
        stages: STAGES.iter().filter(|s| plugin.stages.contains(s)).map(stage).collect(),
        last_fault: last.as_ref().map(|(at, stage, text)| (*at, stage.to_string(), text.clone())),
    }
}
