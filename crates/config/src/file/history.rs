//! What is kept of what happened to messages.

use std::time::Duration;

use waypost_history::Dialogue;

use super::{OCTETS, one_of, span};
use crate::mistake::Notes;
use crate::section::Section;
use crate::units::Octets;

/// Below this a history forgets before anybody asks.
const SMALLEST: u64 = 1024 * 1024;

#[derive(Debug, Default)]
pub(crate) struct History {
    pub(crate) enabled: Option<bool>,
    pub(crate) size: Option<u64>,
    pub(crate) age: Option<Duration>,
    pub(crate) dialogue: Option<Dialogue>,
}

pub(super) fn history(section: Option<Section<'_>>, notes: &mut Notes<'_>) -> History {
    let Some(mut section) = section else { return History::default() };
    let dialogue = one_of(&mut section, "dialogue", &["all", "failures", "none"], notes);
    let history = History {
        enabled: section.boolean("enabled", notes).map(|enabled| enabled.value),
        size: size(&mut section, notes),
        age: span(&mut section, "age", notes),
        dialogue: dialogue.map(|which| match which.as_str() {
            "failures" => Dialogue::Failures,
            "none" => Dialogue::None,
            _ => Dialogue::All,
        }),
    };
    section.end(notes);
    history
}

fn size(section: &mut Section<'_>, notes: &mut Notes<'_>) -> Option<u64> {
    let size = section.parsed::<Octets>("size", OCTETS, notes)?;
    if size.value.0 < SMALLEST {
        let hint = "enabled = false keeps no history at all";
        notes.add(&size.at, "'history.size' must be 1MiB or more".to_owned(), hint);
        return None;
    }
    Some(size.value.0)
}
