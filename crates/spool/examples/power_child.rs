//! Works on a spool until it is killed, and prints what was acknowledged: for tests that record
//! its system calls and replay them up to a power loss.
//!
//! `power_child DIRECTORY [THREADS] [FIRST_ID] [SEGMENT_KIB]`. Every line is written at once:
//! `begin WORD ID` before a change is asked for and `done WORD ID` after it was acknowledged, with
//! the words `accept`, `hold`, `settle` (one of two recipients), `finish` (the other), `remove`
//! and `fact` (the ledger key `power/ID`). Built with the feature `stock-flush` it is the negative
//! control, which loses what it acknowledged.

use std::error::Error;
use std::fmt;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use waypost_mail::{
    Body, Entry, Facts, Ledger, MessageId, NextHop, Outcome, Recipient, RecipientEntry,
    RecipientState, Route, SessionId, SystemClock, Timestamp, TlsLevel,
};
use waypost_smtp::ReversePath;
use waypost_spool::{Arrival, Change, Config, LogSpool, Spool};

type Anything = Box<dyn Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Anything> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, otherwise: u64| -> Result<u64, std::num::ParseIntError> {
        arguments.get(at).map_or(Ok(otherwise), |text| text.parse())
    };
    let directory = arguments.first().ok_or("which directory?")?;
    let (threads, first, segment) = (number(1, 4)?, number(2, 1)?, number(3, 256)?);
    let mut config = Config::new(PathBuf::from(directory));
    config.segment_size = segment * 1024;
    (config.keep_free, config.reserve) = (1 << 20, 1 << 20);
    let (spool, _) = LogSpool::open(config, Arc::new(SystemClock))?;
    say("open", &0)?;
    let tasks = (0..threads).map(|n| tokio::spawn(work(spool.clone(), first + n * 1_000_000)));
    for task in tasks.collect::<Vec<_>>() {
        task.await??;
    }
    Ok(())
}

async fn work(spool: Arc<LogSpool>, first: u64) -> Result<(), Anything> {
    for id in first.. {
        commit(&spool, "accept", id, accept(id)?).await?;
        let message = MessageId(id);
        let done = |recipient| vec![(recipient, RecipientState::Done(Outcome::Deleted))];
        match id % 4 {
            0 => {
                let held = RecipientState::Held { tries: 0, reason: "by the test".to_owned() };
                let states = vec![(0, held.clone()), (1, held)];
                commit(&spool, "hold", id, Change::Administer { id: message, states }).await?;
            }
            1 => {
                let change = Change::Settle { id: message, states: done(0), notice: None };
                commit(&spool, "settle", id, change).await?;
                let change = Change::Settle { id: message, states: done(1), notice: None };
                commit(&spool, "finish", id, change).await?;
            }
            2 => commit(&spool, "remove", id, Change::Remove { id: message }).await?,
            _ => {}
        }
        if id % 8 == 3 {
            say("begin fact", &id)?;
            spool.put(&format!("power/{id}"), Bytes::from_static(b"kept"), None).await?;
            say("done fact", &id)?;
        }
        if id >= first + 40 && id % 4 == 0 {
            // Old held mail goes at last, so that segments do too.
            let old = id - 40;
            commit(&spool, "remove", old, Change::Remove { id: MessageId(old) }).await?;
        }
    }
    Ok(())
}

async fn commit(spool: &LogSpool, word: &str, id: u64, change: Change) -> Result<(), Anything> {
    say(&format!("begin {word}"), &id)?;
    spool.commit(change).await?;
    say(&format!("done {word}"), &id)?;
    Ok(())
}

/// One write, so that a recorder sees it in its place among the others.
fn say(words: &str, id: &dyn fmt::Display) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("{words} {id}\n").as_bytes())?;
    out.flush()
}

/// A message of two recipients whose body is made of its id.
fn accept(id: u64) -> Result<Change, Anything> {
    let size = (id * 131 % 6000) as usize;
    let hop = NextHop::Host { host: "mx.example".into(), port: 25, implicit_tls: false };
    let recipient = |n: u32| -> Result<RecipientEntry, Anything> {
        let mailbox = format!("to{n}@example.org").parse()?;
        let recipient = Recipient { id: n, mailbox, meta: vec![] };
        Ok(RecipientEntry { recipient, route: 0, state: RecipientState::fresh(Timestamp(1)) })
    };
    let entry = Entry {
        id: MessageId(id),
        received: Timestamp(1),
        expires: Timestamp(u64::MAX),
        sender: ReversePath::Mailbox("from@example.com".parse()?),
        eight_bit: false,
        smtputf8: false,
        size: size as u64,
        facts: Facts::internal(SessionId(id)),
        meta: vec![],
        routes: vec![Route::new(hop, TlsLevel::Opportunistic)],
        recipients: vec![recipient(0)?, recipient(1)?],
    };
    let header = Bytes::from(format!("Subject: {id}\r\n"));
    let body = Body::Memory(Bytes::from(vec![id as u8; size]));
    Ok(Change::Accept(Box::new(Arrival { entry, header, body })))
}
