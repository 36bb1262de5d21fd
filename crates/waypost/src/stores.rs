//! Spool and queue, opened at once: while one thread compares the spool's index with its log, another
//! enters what is found into the queue.

use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};

use anyhow::Result;
use waypost_mail::{Clock, Entry};
use waypost_queue::Loading;
use waypost_spool::{Audience, Config, LogSpool};

/// Messages handed over at a time.
const BATCH: usize = 256;
/// Batches on the way.
const AHEAD: usize = 8;

/// The spool, and the queue that has heard of all of its messages.
pub(crate) async fn open(
    config: Config,
    mut loading: Loading,
    clock: Arc<dyn Clock>,
) -> Result<(Arc<LogSpool>, Loading)> {
    let (to, heard) = sync_channel(AHEAD);
    let opening = tokio::task::spawn_blocking(move || {
        let mut teller = Teller { to, batch: Vec::with_capacity(BATCH) };
        let opened = LogSpool::open_before(config, clock, &mut teller);
        teller.send();
        opened
    });
    let loaded = tokio::task::spawn_blocking(move || {
        for word in heard {
            match word {
                Word::Begin => loading.begin(),
                Word::Messages(messages) => {
                    messages.into_iter().for_each(|message| loading.message(message));
                }
            }
        }
        loading
    });
    // What was found is in the spool's own log line.
    let (spool, _) = opening.await??;
    Ok((spool, loaded.await?))
}

/// What the spool tells the queue.
enum Word {
    Begin,
    Messages(Vec<Entry>),
}

struct Teller {
    to: SyncSender<Word>,
    batch: Vec<Entry>,
}

impl Teller {
    fn send(&mut self) {
        let batch = std::mem::replace(&mut self.batch, Vec::with_capacity(BATCH));
        self.say(Word::Messages(batch));
    }

    fn say(&self, word: Word) {
        // Nobody hears when the other thread panicked, which its handle tells.
        let _ = self.to.send(word);
    }
}

impl Audience for Teller {
    fn begin(&mut self) {
        self.batch.clear();
        self.say(Word::Begin);
    }

    fn message(&mut self, entry: Entry) {
        self.batch.push(entry);
        if self.batch.len() >= BATCH {
            self.send();
        }
    }
}
