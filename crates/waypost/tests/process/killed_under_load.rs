//! Nothing that got a 250 is lost when the program is killed, again and again, while mail flows.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use waypost_harness::upstream::Upstream;

use crate::daemon::{Home, until};
use crate::peer::Peer;

const SUBMITTERS: usize = 4;
const KILLS: usize = 4;
/// Acknowledgements between two kills.
const ROUND: usize = 150;
/// Messages on their way at once.
const IN_FLIGHT: usize = 4;

/// What the submitters know.
#[derive(Default)]
struct Notes {
    door: Mutex<Option<SocketAddr>>,
    acknowledged: Mutex<Vec<String>>,
    sent: AtomicUsize,
    stop: AtomicBool,
}

impl Notes {
    fn count(&self) -> usize {
        self.acknowledged.lock().unwrap().len()
    }
}

/// Submits until told to stop, from the beginning whenever the connection is lost.
fn submitter(notes: Arc<Notes>) -> JoinHandle<()> {
    thread::spawn(move || {
        while !notes.stop.load(Ordering::Relaxed) {
            let door = *notes.door.lock().unwrap();
            let Some(mut peer) = door.and_then(|door| Peer::connect(door).ok()) else {
                thread::sleep(std::time::Duration::from_millis(5));
                continue;
            };
            while !notes.stop.load(Ordering::Relaxed) {
                let token = format!("token-{:06}", notes.sent.fetch_add(1, Ordering::Relaxed));
                if peer.submit("a@peer.example", "b@there.example", &token).is_err() {
                    break;
                }
                notes.acknowledged.lock().unwrap().push(token);
            }
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn every_acknowledged_message_arrives() {
    let upstream = Upstream::new();
    let more = format!("[queue]\nper-destination = {IN_FLIGHT}\n");
    let home = Home::new(upstream.listen().await.unwrap(), &more);
    let notes = Arc::new(Notes::default());
    let submitters: Vec<_> = (0..SUBMITTERS).map(|_| submitter(notes.clone())).collect();
    for _ in 0..KILLS {
        let relay = home.start();
        *notes.door.lock().unwrap() = Some(relay.door);
        let before = notes.count();
        until("some acknowledgements", || (notes.count() >= before + ROUND).then_some(()));
        relay.kill();
    }
    notes.stop.store(true, Ordering::Relaxed);
    for submitter in submitters {
        submitter.join().unwrap();
    }
    let _relay = home.start();
    until("an empty queue", || home.queue().is_empty().then_some(()));

    let mut arrived: HashMap<String, usize> = HashMap::new();
    for mail in upstream.mails() {
        let token = mail.content.lines().find_map(|line| line.strip_prefix("Subject: ")).unwrap();
        assert!(mail.content.ends_with("\r\n\r\ntext\r\n"), "a message arrives whole");
        *arrived.entry(token.to_owned()).or_default() += 1;
    }
    let acknowledged = notes.acknowledged.lock().unwrap();
    assert!(acknowledged.len() >= KILLS * ROUND);
    let lost: Vec<_> = acknowledged.iter().filter(|token| !arrived.contains_key(*token)).collect();
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
    // Only what was on its way when the program died may come twice.
    let twice: usize = arrived.values().map(|copies| copies - 1).sum();
    assert!(twice <= KILLS * IN_FLIGHT, "{twice} copies too many");
    // Only what was being taken when the program died may come without having been acknowledged.
    let surplus = arrived.len() - acknowledged.len();
    assert!(surplus <= KILLS * SUBMITTERS, "{surplus} arrived that nobody sent to its end");
}
