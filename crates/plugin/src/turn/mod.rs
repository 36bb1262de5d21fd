//! One stage, plugin after plugin: who is asked, what each sees of the ones before it, and what their
//! answers come to together. One file for each kind of stage.

mod attempt;
mod background;
mod message;
mod recipients;
mod route;
mod session;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tracing::{debug, warn};
use waypost_hooks::Fault;
use waypost_mail::Text;

use crate::about::About;
use crate::bindings::waypost::policy::types as wit;
use crate::decision::{Journal, Word};
use crate::generation::Generation;
use crate::heard::Ear;
use crate::plugin::Plugin;
use crate::question::Question;
use crate::when::Known;
use crate::{Mode, OnError, Stage};

/// A generation at work.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Turn<'a> {
    pub(crate) generation: &'a Arc<Generation>,
    pub(crate) journal: &'a Arc<Journal>,
    pub(crate) calls: &'a AtomicU64,
}

/// What asking one plugin came to.
enum Asked<T> {
    /// Its answer counts.
    Answer(T),
    /// It has none that counts.
    Nothing,
    /// It failed, and its configuration says what follows; not `Open`.
    Failed(Fault, OnError),
}

impl<'a> Turn<'a> {
    /// Those to ask at a stage about what is known.
    fn asked(self, stage: Stage, known: Known<'a>) -> impl Iterator<Item = &'a Arc<Plugin>> {
        self.generation.at(stage).filter(move |plugin| plugin.config.when.holds(&known))
    }

    fn info(self, plugin: &Plugin, stage: Stage) -> wit::CallInfo {
        let budget = plugin.config.budget(stage).cpu.as_micros();
        wit::CallInfo {
            call_id: self.calls.fetch_add(1, Ordering::Relaxed),
            generation: self.generation.id,
            now_ms: plugin.clock_now().0,
            seed: rand::random(),
            budget_us: u32::try_from(budget).unwrap_or(u32::MAX),
            dry_run: plugin.config.mode != Mode::Enforce,
        }
    }

    /// Asks one plugin in its mode. `read` makes an answer of what the guest says, or refuses it.
    async fn ask<Q, T, R>(
        self,
        plugin: &Arc<Plugin>,
        about: About<'_>,
        question: Box<Q>,
        text: Option<Text>,
        read: R,
    ) -> Asked<T>
    where
        Q: Question + 'static,
        T: Send + 'static,
        R: FnOnce(Ear<'_>, Q::Answer) -> Result<(T, Word), String> + Send + 'static,
    {
        match plugin.config.mode {
            Mode::Shadow(share) => {
                if rand::random::<f64>() < share {
                    let (plugin, journal) = (plugin.clone(), self.journal.clone());
                    let (whose, name) = (about.whose(), about.to_string());
                    tokio::spawn(async move {
                        let about = About::Named(whose, &name);
                        put(&plugin, &journal, about, question, text, read).await
                    });
                }
                Asked::Nothing
            }
            // Boxed here and below: where nobody is asked, nobody carries the room that a call takes.
            Mode::DryRun => {
                let put = Box::pin(put(plugin, self.journal, about, question, text, read));
                let answer = put.await;
                debug!(plugin = plugin.name(), ok = answer.is_ok(), "dry run");
                Asked::Nothing
            }
            Mode::Enforce => {
                let put = Box::pin(put(plugin, self.journal, about, question, text, read));
                match put.await {
                    Ok(answer) => Asked::Answer(answer),
                    Err(fault) => failed(plugin, Q::STAGE, about, fault),
                }
            }
        }
    }
}

async fn put<Q, T, R>(
    plugin: &Plugin,
    journal: &Journal,
    about: About<'_>,
    question: Box<Q>,
    text: Option<Text>,
    read: R,
) -> Result<T, Fault>
where
    Q: Question,
    T: Send,
    R: FnOnce(Ear<'_>, Q::Answer) -> Result<(T, Word), String> + Send,
{
    let ear = Ear { plugin: plugin.name(), grants: &plugin.config.grants };
    let (answer, took) = plugin.ask(&*question, text, |said| read(ear, said)).await;
    match answer {
        Ok((answer, word)) => {
            journal.tell(plugin, Q::STAGE, about, word, took);
            Ok(answer)
        }
        Err(fault) => {
            let verdict = format!("failed ({:?}): {}", fault.kind, fault.text);
            let word = Word { verdict, ..Word::default() };
            journal.tell(plugin, Q::STAGE, about, word, took);
            Err(fault)
        }
    }
}

fn failed<T>(plugin: &Plugin, stage: Stage, about: About<'_>, fault: Fault) -> Asked<T> {
    match plugin.config.remedy(stage) {
        OnError::Open => {
            warn!(%about, plugin = plugin.name(), %stage, "goes on without a plugin that failed (on-error = open)");
            Asked::Nothing
        }
        remedy => Asked::Failed(fault, remedy),
    }
}
