//! Which plugins would be asked, and why the others would not.

use serde::Serialize;
use waypost_mail::{Facts, HeaderBlock, Recipient};
use waypost_smtp::ReversePath;

use crate::when::Known;
use crate::{Mode, Policy, STAGES, Stage};

/// A message that somebody wonders about.
#[derive(Debug, Clone)]
pub struct Case {
    /// The session it would come by.
    pub session: Facts,
    /// The reverse path.
    pub sender: ReversePath,
    /// The recipients.
    pub recipients: Vec<Recipient>,
    /// Octets of the message.
    pub size: Option<u64>,
    /// Its header.
    pub header: Option<HeaderBlock>,
}

/// One stage: every plugin of the generation, in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explained {
    /// The stage.
    pub stage: Stage,
    /// Name of each plugin, and why it is not asked; nothing when it is.
    pub plugins: Vec<(String, Option<String>)>,
}

impl Policy {
    /// Goes through the stages as they would be, without asking anybody.
    pub fn explain(&self, case: &Case) -> Vec<Explained> {
        let generation = self.current();
        let stage = |stage: Stage| {
            let known = known_at(stage, case);
            let plugins = generation.plugins.iter().map(|plugin| {
                let why = if !plugin.stages.contains(&stage) {
                    Some(format!("it has no {}", stage.interface()))
                } else if !plugin.answers(stage) {
                    Some("it is not granted auth".to_owned())
                } else if let Some(objection) = plugin.config.when.objection(&known) {
                    Some(objection)
                } else {
                    let open = plugin.breaker(stage).open_since();
                    open.map(|since| format!("it kept failing and is not asked since {since}"))
                };
                let name = match plugin.config.mode {
                    Mode::Enforce => plugin.name().to_owned(),
                    mode => format!("{} ({})", plugin.name(), mode.name()),
                };
                (name, why)
            });
            Explained { stage, plugins: plugins.collect() }
        };
        STAGES.into_iter().map(stage).collect()
    }
}

/// What is known of the case at a stage.
fn known_at(stage: Stage, case: &Case) -> Known<'_> {
    let mut known = Known::session(&case.session);
    if stage >= Stage::Sender {
        known.sender = Some(&case.sender);
        known.size = case.size;
    }
    if stage >= Stage::Recipients {
        known.recipients = Some(&case.recipients);
    }
    if stage >= Stage::Message {
        known.header = case.header.as_ref();
    }
    known
}
