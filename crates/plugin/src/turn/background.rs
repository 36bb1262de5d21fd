//! Off the mail path: what happened, and periodic work.

use std::sync::Arc;

use waypost_hooks::Event;

use super::{Turn, put};
use crate::about::About;
use crate::decision::Word;
use crate::plugin::Plugin;
use crate::question::{OnEvents, OnTimer};
use crate::{Stage, told};

/// Most events of one call.
const MOST_EVENTS: usize = 256;

impl Turn<'_> {
    /// Tells every plugin what it wants to know. A fault is counted and logged; the batch is not told
    /// again.
    pub(crate) async fn events(self, events: &[Event]) {
        for plugin in self.generation.at(Stage::Events) {
            let wanted: Vec<_> = events
                .iter()
                .filter(|event| plugin.wants(told::event_kind(event.kind)))
                .map(told::event)
                .collect();
            for batch in wanted.chunks(MOST_EVENTS) {
                let about = format!("{} events", batch.len());
                let call = self.info(plugin, Stage::Events);
                let question = OnEvents { call, events: batch.to_vec() };
                let (question, about) = (Box::new(question), About::Named(None, &about));
                // What went wrong is counted and in the log.
                let put = put(plugin, self.journal, about, question, None, |_, ()| silence());
                let _ = Box::pin(put).await;
            }
        }
    }

    /// One timer of one plugin is due.
    pub(crate) async fn timer(self, plugin: &Arc<Plugin>, name: &str) {
        let mut call = self.info(plugin, Stage::Timer);
        call.dry_run = false;
        let question = Box::new(OnTimer { call, name: name.to_owned() });
        let about = About::Named(None, name);
        // What went wrong is counted and in the log; the timer goes on.
        let _ = put(plugin, self.journal, about, question, None, |_, ()| silence()).await;
    }
}

fn silence() -> Result<((), Word), String> {
    Ok(((), Word::default()))
}
