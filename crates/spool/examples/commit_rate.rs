//! Durable acknowledgements per second: `commit_rate DIRECTORY [WRITERS] [SECONDS] [OCTETS]`.
//!
//! Each writer accepts a message, waits, settles it, waits, and so on; both count. DIRECTORY must
//! be on a real file system: tmpfs knows no sync.

#![expect(clippy::print_stdout, reason = "a program that prints what it measured")]

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;
use waypost_mail::{
    Body, Entry, Facts, IdSource, MessageId, NextHop, Outcome, Recipient, RecipientEntry,
    RecipientState, Route, SessionId, SystemClock, Terms, Timestamp, TlsLevel,
};
use waypost_smtp::ReversePath;
use waypost_spool::{Arrival, Change, Config, Detours, LogSpool, Spool};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, otherwise: u64| -> Result<u64, std::num::ParseIntError> {
        arguments.get(at).map_or(Ok(otherwise), |text| text.parse())
    };
    let directory = arguments.first().ok_or("which directory?")?;
    let (writers, seconds, octets) = (number(1, 20)?, number(2, 5)?, number(3, 4096)?);
    let config = Config::new(PathBuf::from(directory));
    let (spool, report) = LogSpool::open(config, Arc::new(SystemClock))?;
    println!("{report:?}");
    for settling in [false, true] {
        let (rate, group) =
            run(&spool, writers, Duration::from_secs(seconds), octets, settling).await?;
        let what = if settling { "accepts and settlements" } else { "accepts" };
        println!("{writers} writers, {octets} octets: {rate:.0} {what}/s, {group:.1} to a group");
    }
    Ok(())
}

async fn run(
    spool: &Arc<LogSpool>,
    writers: u64,
    time: Duration,
    octets: u64,
    settling: bool,
) -> Result<(f64, f64), Box<dyn Error + Send + Sync>> {
    let ids = IdSource::above(spool.highest_id(), Arc::new(SystemClock));
    let body = Bytes::from(vec![b'x'; octets as usize]);
    let count = Arc::new(AtomicU64::new(0));
    let metrics = spool.metrics();
    let (began, groups) = (Instant::now(), metrics.groups.get());
    let mut tasks = Vec::new();
    for _ in 0..writers {
        let (spool, ids, body, count) = (spool.clone(), ids.clone(), body.clone(), count.clone());
        tasks.push(tokio::spawn(async move {
            while began.elapsed() < time {
                let id = ids.message();
                let entry = entry(id)?;
                let header = Bytes::from_static(b"Subject: a measurement\r\n");
                let arrival = Arrival { entry, header, body: Body::Memory(body.clone()) };
                spool.commit(Change::Accept(Box::new(arrival))).await?;
                count.fetch_add(1, Ordering::Relaxed);
                if settling {
                    let states = vec![(0, RecipientState::Done(Outcome::Deleted))];
                    spool
                        .commit(Change::Settle {
                            id,
                            states,
                            detours: Detours::default(),
                            notice: None,
                        })
                        .await?;
                    count.fetch_add(1, Ordering::Relaxed);
                }
            }
            Ok::<(), Box<dyn Error + Send + Sync>>(())
        }));
    }
    for task in tasks {
        task.await??;
    }
    let count = count.load(Ordering::Relaxed) as f64;
    let groups = (metrics.groups.get() - groups) as f64;
    Ok((count / began.elapsed().as_secs_f64(), count / groups))
}

fn entry(id: MessageId) -> Result<Entry, Box<dyn Error + Send + Sync>> {
    let hop = NextHop::Host { host: "mx.example".into(), port: 25, implicit_tls: false };
    let recipient = Recipient::new(0, "to@example.org".parse()?);
    let state = RecipientState::fresh(Timestamp(id.0 >> 20));
    Ok(Entry {
        id,
        received: Timestamp(id.0 >> 20),
        expires: Timestamp(u64::MAX),
        sender: ReversePath::Mailbox("from@example.com".parse()?),
        eight_bit: false,
        smtputf8: false,
        size: 4096,
        facts: Facts::internal(SessionId(id.0)),
        meta: vec![],
        sign: Vec::new(),
        terms: Terms::default(),
        reroutes: 0,
        routes: vec![Route::new(hop, TlsLevel::Opportunistic)],
        recipients: vec![RecipientEntry { recipient, route: 0, told: 0, state }],
    })
}
