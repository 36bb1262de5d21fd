//! What others notice of a plugin that does its worst, on a host that is idle and on one that is busy.
//! A test of its own, so that no other test is what it measures.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "tests fail by panicking, and measure real time"
)]

#[path = "../testbed/mod.rs"]
mod testbed;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use testbed::mail::facts;
use testbed::{Bed, hostile, policy};
use waypost_plugin::when::Filter;
use waypost_plugin::{Access, Budget, PluginConfig, Stage};

/// Calls of the good plugin that are measured at a time.
const CALLS: usize = 200;
/// What a bad one does. A budget this long would be felt by others, if it did not give way.
const DEEDS: [&str; 5] = ["loop", "host-calls", "recursion", "dns-slow", "kv-flood"];
const LONG: Budget = Budget { cpu: Duration::from_millis(400), wall: Duration::from_millis(400) };

fn at(listener: &str, mut plugin: PluginConfig) -> PluginConfig {
    plugin.when = Filter { listeners: vec![listener.to_owned()], ..Filter::default() };
    plugin
}

fn bad(deed: &str) -> PluginConfig {
    let mut plugin = at("bad", hostile(&format!("bad-{deed}"), deed));
    plugin.budgets.insert(Stage::Recipients, LONG);
    plugin.grants.dns = Some(10);
    plugin.grants.kv.insert("ns".to_owned(), Access::Write);
    plugin.slots = 2;
    plugin
}

/// How long calls of the good plugin take, the slowest last.
async fn latencies(bed: &Bed) -> Vec<Duration> {
    let facts = facts("good");
    let mut all = Vec::with_capacity(CALLS);
    for _ in 0..CALLS {
        let began = Instant::now();
        bed.recipients(&facts, &["a@example.org"]).await.unwrap();
        all.push(began.elapsed());
        tokio::time::sleep(Duration::from_micros(200)).await;
    }
    all.sort_unstable();
    all
}

fn p99(sorted: &[Duration]) -> Duration {
    sorted[sorted.len() * 99 / 100]
}

/// Processors that have other things to do, until it is dropped.
struct Spinning(Arc<AtomicBool>, Vec<std::thread::JoinHandle<()>>);

impl Spinning {
    fn threads(count: usize) -> Spinning {
        let ended = Arc::new(AtomicBool::new(false));
        let spin = |_| {
            let ended = ended.clone();
            std::thread::spawn(move || {
                while !ended.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            })
        };
        let threads = (0..count).map(spin).collect();
        Spinning(ended, threads)
    }
}

impl Drop for Spinning {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
        self.1.drain(..).for_each(|thread| thread.join().unwrap());
    }
}

async fn others_are_not_kept_waiting(spinning: usize) {
    let _spinning = Spinning::threads(spinning);
    for deed in DEEDS {
        let good = at("good", hostile("good", ""));
        let bed = Arc::new(Bed::of(policy([bad(deed), good])).await);
        let alone = latencies(&bed).await;
        let ended = Arc::new(AtomicBool::new(false));
        let callers: Vec<_> = (0..2)
            .map(|_| {
                let (bed, ended) = (bed.clone(), ended.clone());
                tokio::spawn(async move {
                    let (facts, mut failed) = (facts("bad"), 0);
                    while !ended.load(Ordering::Relaxed) {
                        let answer = bed.recipients(&facts, &["a@example.org"]).await;
                        failed += usize::from(answer.is_err());
                        // The breaker would spare it: it gets another chance each time.
                        bed.advance(Duration::from_secs(600));
                        // As a session does when it reads the next command.
                        tokio::task::yield_now().await;
                    }
                    failed
                })
            })
            .collect();
        let beside = latencies(&bed).await;
        ended.store(true, Ordering::Relaxed);
        for caller in callers {
            let failed = caller.await.unwrap();
            assert!(failed > 0 || deed == "kv-flood", "{deed} did nothing bad");
        }
        let (alone, beside) = (p99(&alone), p99(&beside));
        println!("{deed}, {spinning} threads spinning: p99 alone {alone:?}, beside {beside:?}");
        // Two of the bad one's calls may run before it, a tick each, whatever else the machine does.
        let bound = alone * 5 + Duration::from_millis(60);
        assert!(beside < bound, "beside {deed}: {beside:?}, alone {alone:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn others_are_not_kept_waiting_idle_and_busy() {
    others_are_not_kept_waiting(0).await;
    others_are_not_kept_waiting(2).await;
}
