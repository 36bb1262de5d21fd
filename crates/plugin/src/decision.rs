//! What was decided, by whom and why: told to the log, to counters, and to whoever watches.

use std::sync::OnceLock;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::broadcast;
use tracing::{debug, info};
use waypost_history::{Decided, Note, Pen};
use waypost_hooks::Reason;
use waypost_mail::Timestamp;

use crate::Stage;
use crate::about::About;
use crate::plugin::Plugin;
use crate::tally::Verdict;

/// Octets of a text, and changes and reasons of one answer, that a history keeps.
const MAX_WORDS: usize = 512;
const MAX_KEPT: usize = 50;
/// Decisions that a slow watcher may lag behind.
const BEHIND: usize = 1024;

/// One answer of one plugin.
#[derive(Debug, Clone, Serialize)]
pub struct Decision {
    /// When.
    pub at: Timestamp,
    /// Whose.
    pub plugin: String,
    /// Number of its generation.
    pub generation: u64,
    /// Digest of its component, short.
    pub digest: String,
    /// At which stage.
    pub stage: Stage,
    /// The session or message it is about.
    pub about: String,
    /// `enforce`, `dry-run` or `shadow`.
    pub mode: &'static str,
    /// What it came to, in words.
    pub verdict: String,
    /// Changes, in words.
    pub edits: Vec<String>,
    /// Why, as the plugin says.
    pub reasons: Vec<Reason>,
    /// How long it took.
    pub took: Duration,
}

/// Where decisions are told.
#[derive(Debug)]
pub(crate) struct Journal {
    watchers: broadcast::Sender<Decision>,
    history: OnceLock<Pen>,
}

impl Default for Journal {
    fn default() -> Journal {
        Journal { watchers: broadcast::Sender::new(BEHIND), history: OnceLock::new() }
    }
}

/// What there is to say of an answer.
#[derive(Debug, Default)]
pub(crate) struct Word {
    pub(crate) verdict: String,
    pub(crate) edits: Vec<String>,
    pub(crate) reasons: Vec<Reason>,
    pub(crate) weight: Option<Verdict>,
}

impl Word {
    /// No objection, no change.
    pub(crate) fn is_silent(&self) -> bool {
        self.verdict.is_empty() && self.edits.is_empty() && self.reasons.is_empty()
    }
}

impl Journal {
    /// Decisions from now on.
    pub(crate) fn watch(&self) -> broadcast::Receiver<Decision> {
        self.watchers.subscribe()
    }

    /// Decisions go into a history from now on. The first one that is given stays.
    pub(crate) fn keep(&self, pen: Pen) {
        // There is one history for a program.
        let _ = self.history.set(pen);
    }

    /// Tells what a plugin decided about `about`.
    pub(crate) fn tell(
        &self,
        plugin: &Plugin,
        stage: Stage,
        about: About<'_>,
        word: Word,
        took: Duration,
    ) {
        if let Some(weight) = word.weight {
            plugin.tallies[stage.index()].judge(weight);
        }
        let (name, generation) = (plugin.name(), plugin.generation);
        let mode = plugin.config.mode.name();
        if word.is_silent() {
            debug!(%about, plugin = name, generation, %stage, mode, ?took, "policy: no objection");
        } else {
            let reasons = Reasons(&word.reasons);
            let verdict = if word.verdict.is_empty() { "proceed" } else { &word.verdict };
            info!(
                %about, plugin = name, generation, %stage, mode, verdict,
                edits = word.edits.join("; "), %reasons, ?took, "policy"
            );
        }
        self.write_down(plugin, stage, about, &word, took);
        if self.watchers.receiver_count() > 0 {
            let decision = Decision {
                at: plugin.clock_now(),
                plugin: name.to_owned(),
                generation,
                digest: plugin.digest.short(),
                stage,
                about: about.to_string(),
                mode,
                verdict: if word.verdict.is_empty() { "proceed".to_owned() } else { word.verdict },
                edits: word.edits,
                reasons: word.reasons,
                took,
            };
            // Nobody may be left to hear it.
            let _ = self.watchers.send(decision);
        }
    }
}

impl Journal {
    /// Of what was asked before anybody sent anything only objections are kept: strangers connect often.
    fn write_down(
        &self,
        plugin: &Plugin,
        stage: Stage,
        about: About<'_>,
        word: &Word,
        took: Duration,
    ) {
        let early = matches!(stage, Stage::Connect | Stage::Helo | Stage::Auth);
        let (Some(pen), Some(whose)) = (self.history.get(), about.whose()) else { return };
        if pen.is_idle() || (early && word.is_silent()) {
            return;
        }
        let shorten = |text: &String| text[..text.floor_char_boundary(MAX_WORDS)].to_owned();
        let reasons = word.reasons.iter().take(MAX_KEPT);
        let decided = Decided {
            stage: stage.to_string(),
            plugin: plugin.name().to_owned(),
            generation: plugin.generation,
            digest: plugin.digest.short(),
            mode: plugin.config.mode.name().to_owned(),
            about: shorten(&about.some()),
            verdict: match word.verdict.as_str() {
                "" => "proceed".to_owned(),
                _ => shorten(&word.verdict),
            },
            edits: word.edits.iter().take(MAX_KEPT).map(shorten).collect(),
            reasons: reasons.map(|reason| shorten(&in_words(reason))).collect(),
            took_us: u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
        };
        let weight = 300 + 64 * (decided.edits.len() + decided.reasons.len());
        pen.tell(whose, weight, || Note::Decided(Box::new(decided)));
    }
}

fn in_words(reason: &Reason) -> String {
    Reasons(std::slice::from_ref(reason)).to_string()
}

/// Reasons in one line.
struct Reasons<'a>(&'a [Reason]);

impl std::fmt::Display for Reasons<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, reason) in self.0.iter().enumerate() {
            let comma = if index > 0 { ", " } else { "" };
            write!(f, "{comma}{}: {}", reason.code, reason.text)?;
            if let Some(rule) = &reason.rule {
                write!(f, " (rule {rule})")?;
            }
        }
        Ok(())
    }
}
