//! The writer's care for its files.

use std::sync::atomic::{AtomicBool, Ordering};

use waypost_mail::{Clock as _, ManualClock, MessageId};

use super::*;
use crate::{Archive, Dialogue, Found, History};

const DAY: Duration = Duration::from_secs(86_400);

struct World {
    dir: tempfile::TempDir,
    clock: Arc<ManualClock>,
}

impl World {
    fn new() -> World {
        let clock = Arc::new(ManualClock::at(Timestamp(1_700_000_000_000)));
        World { dir: tempfile::tempdir().unwrap(), clock }
    }

    fn config(&self) -> Config {
        Config { size: 16 * SMALLEST, age: 14 * DAY, ..Config::beside(self.dir.path()) }
    }

    fn open(&self) -> History {
        History::open(self.config(), "test", self.clock.clone())
    }

    fn numbers(&self) -> Vec<u64> {
        files::numbers(&self.config().directory).unwrap()
    }

    /// An id that was given out now.
    fn id(&self, low: u64) -> MessageId {
        MessageId((self.clock.now().0 << 20) | low)
    }

    fn read(&self, id: MessageId) -> Found {
        Archive::at(self.config().directory).about(id).unwrap()
    }
}

fn tell(history: &History, id: MessageId, reason: &str) {
    let reason = reason.to_owned();
    history.pen().tell(About::Message(id), reason.len(), || Note::Discarded { reason });
}

fn reasons(found: &Found) -> Vec<&str> {
    found
        .notes
        .iter()
        .filter_map(|told| match &told.note {
            Note::Discarded { reason } => Some(reason.as_str()),
            _ => None,
        })
        .collect()
}

#[test]
fn what_was_told_is_found_while_it_is_written_and_afterwards() {
    let world = World::new();
    let history = world.open();
    let (mine, other) = (world.id(1), world.id(2));
    tell(&history, mine, "first");
    tell(&history, other, "another's");
    assert_eq!(reasons(&history.about(mine).unwrap()), ["first"]);
    tell(&history, mine, "second");
    assert_eq!(reasons(&history.about(mine).unwrap()), ["first", "second"]);
    assert_eq!(reasons(&world.read(mine)), ["first", "second"], "without the one who writes");
    history.close();
    assert!(files::index(&world.config().directory, 1).exists());
    assert_eq!(reasons(&world.read(mine)), ["first", "second"], "by the index");
    assert!(world.read(world.id(3)).is_empty());
    let history = world.open();
    tell(&history, mine, "third");
    let found = history.about(mine).unwrap();
    assert_eq!(reasons(&found), ["first", "second", "third"]);
    let restarts = found.notes.iter().filter(|told| told.about == About::Relay).count();
    assert_eq!(restarts, 3, "started, ended, started: {found:?}");
}

#[test]
fn a_torn_end_is_cut_off_and_what_is_before_it_stays() {
    let world = World::new();
    let id = world.id(1);
    let history = world.open();
    for reason in ["one", "two"] {
        tell(&history, id, reason);
    }
    history.close();
    let path = files::segment(&world.config().directory, 1);
    fs::remove_file(files::index(&world.config().directory, 1)).unwrap();
    let whole = fs::read(&path).unwrap();
    let sound = files::survey(&whole).end as usize;
    assert_eq!(sound, whole.len());
    for torn in [whole.len() - 1, whole.len() - 40, START + 3, 5, 0] {
        fs::write(&path, &whole[..torn]).unwrap();
        let before = reasons(&world.read(id)).len();
        let history = world.open();
        tell(&history, id, "after");
        let found = history.about(id).unwrap();
        assert_eq!(reasons(&found).len(), before + 1, "cut at {torn}");
        history.close();
        // One in which nothing is sound has no note that is young enough: it is gone.
        assert!(fs::metadata(&path).map_or(0, |file| file.len()) as usize <= torn);
        for number in world.numbers() {
            let _ = fs::remove_file(files::index(&world.config().directory, number));
            if number > 1 {
                fs::remove_file(files::segment(&world.config().directory, number)).unwrap();
            }
        }
    }
}

#[test]
fn damage_in_the_middle_takes_one_note_where_there_is_an_index() {
    let world = World::new();
    let id = world.id(1);
    let history = world.open();
    for reason in ["one", "two", "three"] {
        tell(&history, id, reason);
    }
    history.close();
    let path = files::segment(&world.config().directory, 1);
    let mut octets = fs::read(&path).unwrap();
    let at = octets.windows(3).position(|three| three == b"two").unwrap();
    octets[at] = b'T';
    fs::write(&path, octets).unwrap();
    let found = world.read(id);
    assert_eq!((reasons(&found), found.unread), (vec!["one", "three"], 1));
}

#[test]
fn the_oldest_go_when_there_is_too_much() {
    let world = World::new();
    let history = world.open();
    let first = world.id(1);
    tell(&history, first, "first");
    let big = "x".repeat(20_000);
    for id in 0..200 {
        tell(&history, world.id(100 + id), &big);
        history.desk.flush();
    }
    let config = world.config();
    let octets: u64 = world
        .numbers()
        .iter()
        .map(|number| fs::metadata(files::segment(&config.directory, *number)).unwrap().len())
        .sum();
    assert!(octets <= config.size, "{octets}");
    assert!(octets > config.size - 2 * SMALLEST, "no more goes than must: {octets}");
    assert!(reasons(&history.about(first).unwrap()).is_empty());
    assert_eq!(reasons(&history.about(world.id(299)).unwrap()).len(), 1);
}

#[test]
fn what_is_too_old_goes() {
    let world = World::new();
    let history = world.open();
    let (old, young) = (world.id(1), world.id(2));
    tell(&history, old, "old");
    history.desk.flush();
    for _ in 0..13 {
        world.clock.advance(DAY);
        tell(&history, young, "young");
        history.desk.flush();
    }
    assert_eq!(reasons(&history.about(old).unwrap()), ["old"]);
    world.clock.advance(2 * DAY);
    tell(&history, young, "young");
    history.desk.flush();
    assert!(reasons(&history.about(old).unwrap()).is_empty());
    assert_eq!(reasons(&history.about(young).unwrap()).len(), 13);
}

#[test]
fn a_disk_that_fails_costs_notes_and_the_story_says_so() {
    let world = World::new();
    let directory = world.config().directory;
    fs::write(&directory, "no directory").unwrap();
    let history = world.open();
    let id = world.id(1);
    for reason in ["one", "two"] {
        tell(&history, id, reason);
        history.desk.flush();
    }
    assert_eq!(history.desk.metrics.lost.get(), 3, "with the start of the relay");
    fs::remove_file(&directory).unwrap();
    tell(&history, id, "three");
    history.desk.flush();
    assert_eq!(history.desk.metrics.lost.get(), 4, "the disk is left alone for a while");
    world.clock.advance(PAUSE);
    tell(&history, id, "four");
    let found = history.about(id).unwrap();
    assert_eq!(reasons(&found), ["four"]);
    let lost = found.notes.iter().find_map(|told| match told.note {
        Note::Lost { count, .. } => Some(count),
        _ => None,
    });
    assert_eq!(lost, Some(4));
    tell(&history, id, "five");
    let found = history.about(id).unwrap();
    let losses = found.notes.iter().filter(|told| matches!(told.note, Note::Lost { .. })).count();
    assert_eq!((losses, history.desk.metrics.lost.get()), (1, 4), "told once");
}

#[test]
fn nobody_waits_for_the_thread_that_writes() {
    let world = World::new();
    let history = world.open();
    let (go, gate) = (Arc::new(AtomicBool::new(false)), std::sync::mpsc::channel::<()>());
    let (open, closed) = gate;
    let (flag, id) = (go.clone(), world.id(1));
    history.pen().tell(About::Message(id), 0, move || {
        flag.store(true, Ordering::SeqCst);
        // Until somebody opens it, or is gone.
        let _ = closed.recv();
        Note::Ended
    });
    while !go.load(Ordering::SeqCst) {
        std::thread::yield_now();
    }
    for _ in 0..100_000 {
        tell(&history, id, "said while nothing is written");
    }
    assert!(history.desk.metrics.lost.get() > 80_000, "they are lost, and nobody waited");
    drop(open);
    history.close();
    assert!(reasons(&world.read(id)).len() > 10_000 / 8);
}

#[test]
fn files_are_for_their_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let world = World::new();
    let history = world.open();
    tell(&history, world.id(1), "private");
    history.desk.flush();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let directory = world.config().directory;
    assert_eq!(mode(&directory), 0o700);
    assert_eq!(mode(&files::segment(&directory, 1)), 0o600);
    assert_eq!(history.pen().dialogue(), Dialogue::All);
}
