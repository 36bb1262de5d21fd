//! Opens a spool and prints what is there, for tests that compare it with what `power_child`
//! acknowledged: `power_check DIRECTORY`.
//!
//! First `report KEY=VALUE …`, then for each message `message ID STATE STATE … CONTENT`, where a
//! state is `waiting`, `held` or `done` by recipient, and CONTENT is `sound`, `wrong` (not the
//! bytes the child wrote) or `unreadable`, then `fact ID` for each fact. Exits with 1 when the spool cannot be opened.

#![expect(clippy::print_stdout, reason = "a program that prints what it found")]

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;

use waypost_mail::{Ledger, MessageId, RecipientState, SystemClock, Timestamp};
use waypost_spool::{Config, LogSpool, Spool};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let directory = std::env::args().nth(1).ok_or("which directory?")?;
    let mut config = Config::new(PathBuf::from(directory));
    (config.keep_free, config.reserve) = (1 << 20, 1 << 20);
    let (spool, report) = LogSpool::open(config, Arc::new(SystemClock))?;
    println!(
        "report messages={} requeued={} removed={} quarantined={} facts={} damaged={} torn={} \
         rebuilt={}",
        report.messages,
        report.requeued,
        report.removed,
        report.quarantined,
        report.facts,
        report.damaged,
        report.torn,
        report.rebuilt.is_some(),
    );
    for id in spool.ids(None, usize::MAX)? {
        let entry = spool.load(id)?;
        let states = entry.recipients.iter().map(|recipient| match recipient.state {
            RecipientState::Waiting { .. } => "waiting",
            RecipientState::Held { .. } => "held",
            RecipientState::Done(_) => "done",
        });
        let states: Vec<_> = states.collect();
        println!("message {} {} {}", id.0, states.join(" "), content(&*spool, id));
    }
    for (key, _) in spool.list("power/", usize::MAX, Timestamp(0)).await? {
        println!("fact {}", key.trim_start_matches("power/"));
    }
    Ok(())
}

fn content(spool: &dyn Spool, id: MessageId) -> &'static str {
    let content = spool.content(id).and_then(|content| content.read_at(0, usize::MAX));
    let expected = [
        format!("Subject: {}\r\n", id.0).as_bytes(),
        &vec![id.0 as u8; (id.0 * 131 % 6000) as usize],
    ]
    .concat();
    match content {
        Ok(bytes) if bytes == expected => "sound",
        Ok(_) => "wrong",
        Err(_) => "unreadable",
    }
}
