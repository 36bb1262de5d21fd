//! The machine's clock is set to another year, while the program runs and while it does not: nothing
//! bounces by that, and nothing waits for years.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use waypost_harness::upstream::{Act, Upstream};
use waypost_smtp::Phase;

use crate::daemon::{Daemon, Home, until};

/// Where the library is that tells a program another time.
fn faketime() -> PathBuf {
    let places = fs::read_dir("/usr/lib").unwrap().flatten().map(|entry| entry.path());
    let library = |place: PathBuf| place.join("faketime/libfaketimeMT.so.1");
    let found = places.map(library).find(|library| library.exists());
    found.unwrap_or_else(|| {
        panic!("there is no libfaketime: as root, apt-get install faketime (or cargo xtask setup)")
    })
}

struct World {
    home: Home,
    _busy: Upstream,
    library: PathBuf,
    clock: PathBuf,
}

impl World {
    async fn new() -> World {
        let busy = Upstream::new().on(Phase::Mail, Act::Say("450 4.2.1 busy".to_owned()));
        let hop = busy.listen().await.unwrap();
        let home = Home::new(hop, "[queue]\nfirst-retry = \"1h\"\n");
        let clock = home.file("clock");
        World { home, _busy: busy, library: faketime(), clock }
    }

    /// The machine's clock is wrong by so much; time itself runs on evenly.
    fn set_clock(&self, wrong: &str) {
        let next = self.clock.with_extension("new");
        fs::write(&next, format!("{wrong}\n")).unwrap();
        fs::rename(next, &self.clock).unwrap();
    }

    fn start(&self) -> Daemon {
        self.home.start_with(&[
            ("LD_PRELOAD", &self.library),
            ("FAKETIME_TIMESTAMP_FILE", &self.clock),
            ("FAKETIME_NO_CACHE", Path::new("1")),
            ("FAKETIME_DONT_FAKE_MONOTONIC", Path::new("1")),
            ("DONT_FAKE_MONOTONIC", Path::new("1")),
        ])
    }

    /// Sends a message and waits until it was tried.
    fn waiting(&self, relay: &Daemon, subject: &str) {
        let before = self.home.queue().len();
        relay.peer().submit("alice@home.example", "b@there.example", subject).unwrap();
        until("a message that waits", || {
            let queue = self.home.queue();
            let tried =
                |message: &Value| message["tries"].as_u64() > Some(0) && message["in_flight"] == 0;
            (queue.len() == before + 1 && queue.iter().all(tried)).then_some(())
        });
    }

    fn jumped(&self) -> Option<i64> {
        self.home.json(&["status"])["queue"]["clock"]["milliseconds"].as_i64()
    }

    /// Every message is still on its way to its recipient, and none is a bounce.
    fn all_wait(&self, count: usize) {
        let queue = self.home.queue();
        assert_eq!(queue.len(), count, "{queue:#?}");
        for message in queue {
            assert_eq!(message["done"], 0, "{message}");
            assert_eq!(message["sender"], "alice@home.example");
            let number = |key: &str| message[key].as_i64().unwrap();
            let day = 86_400_000;
            assert!(number("expires") - number("due") > 4 * day, "{message}");
        }
    }
}

const YEAR: i64 = 365 * 86_400_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_set_ten_years_ahead_and_back_bounces_nothing() {
    let world = World::new().await;
    world.set_clock("+0");
    let relay = world.start();
    world.waiting(&relay, "one");
    assert_eq!(world.jumped(), None);
    world.set_clock("+10y");
    world.waiting(&relay, "two");
    let by = world.jumped().unwrap();
    assert!((9 * YEAR..11 * YEAR).contains(&by), "{by}");
    assert!(world.home.log().contains("the clock jumped"));
    world.all_wait(2);
    relay.kill();

    // It starts in the wrong year again, and knows what happened.
    let relay = world.start();
    world.all_wait(2);
    relay.kill();

    // The clock is right again when it starts.
    world.set_clock("+0");
    let relay = world.start();
    let by = world.jumped().unwrap();
    assert!((-11 * YEAR..-9 * YEAR).contains(&by), "{by}");
    world.all_wait(2);
    for message in world.home.queue() {
        let wait = message["due"].as_i64().unwrap() - message["received"].as_i64().unwrap();
        assert!(wait < 2 * 3_600_000, "due within a retry's wait, not in years: {message}");
    }

    // And it falls back while it runs.
    world.set_clock("-2y");
    world.waiting(&relay, "three");
    world.all_wait(3);
    let tries = || -> Vec<u64> {
        world.home.queue().iter().map(|message| message["tries"].as_u64().unwrap()).collect()
    };
    let before = tries();
    let retried: Value = world.home.json(&["queue", "retry", "--all"]);
    assert_eq!(retried["recipients"], 3, "{retried}");
    until("another attempt at each", || {
        tries().iter().zip(&before).all(|(now, before)| now > before).then_some(())
    });
}
