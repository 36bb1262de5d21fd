use tokio::time::Instant;
use waypost_mail::{Clock, Deadline, RecipientState, Terms, Timestamp};
use waypost_smtp::ByMode;
use waypost_spool::Spool;

use super::*;
use crate::house::{House, SlowSpool, delivered, house, house_by, seconds, why};
use crate::samples::{LIFETIME, START, TestClock, entry};
use crate::{Config, JumpLabels, Settled, Ticket, expired};

/// Ten years, in seconds.
const YEARS: i64 = 10 * 365 * 86_400;
/// Eight hours, in seconds: the tests begin eleven days after the beginning of time.
const HOURS: i64 = 8 * 3600;

fn again(at: Timestamp) -> Settled {
    Settled::Again { at, why: why() }
}

/// What waits there after a failed attempt, due in an hour.
async fn tried(house: &House, id: u64) {
    house.commit(entry(id, "a.example", 1)).await;
    let at = house.clock.now().after(seconds(3600));
    house.settle_all(house.next().await, again(at)).await.unwrap();
}

/// The same spool after a restart, when the clock is wrong by so many seconds.
async fn restarted(house: House, wrong: i64) -> House {
    let House { queue, spool, clock } = house;
    // What the last run had to tell is told.
    tokio::time::sleep(seconds(1)).await;
    let now = clock.now();
    drop(queue);
    let clock = TestClock::new();
    clock.jump(((now.0 as i64 - START.0 as i64) / 1000) + wrong);
    house_by(clock, spool, Config::default()).await
}

fn jumps(house: &House) -> (u64, u64) {
    let jumps = &house.queue.metrics().clock_jumps;
    let count = |direction| jumps.get_or_create(&JumpLabels { direction }).get();
    (count("forward"), count("back"))
}

/// How long the next ticket takes, which is there within the time and not expired.
async fn wait(house: &House, longest: u64) -> (Ticket, u64) {
    let began = Instant::now();
    let ticket = house.next_after(seconds(longest)).await;
    assert!(!ticket.expired && !expired(&ticket.entry, house.clock.now()), "{ticket:?}");
    (ticket, began.elapsed().as_secs())
}

#[tokio::test(start_paused = true)]
async fn small_steps_of_the_clock_are_followed() {
    let house = house(Config::default()).await;
    tried(&house, 1).await;
    house.clock.jump(200);
    house.quiet().await;
    let (_, waited) = wait(&house, 3600).await;
    assert!((3370..=3401).contains(&waited), "{waited}");
    assert_eq!(house.queue.status().clock, None);
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_jumps_expires_nothing_and_puts_off_nothing() {
    for jump in [YEARS, -HOURS] {
        let house = house(Config { delay_notices: Vec::new(), ..Config::default() }).await;
        tried(&house, 1).await;
        house.clock.jump(jump);
        house.quiet().await;
        let status = house.queue.status();
        assert_eq!(status.clock.map(|jumped| jumped.milliseconds / 1000), Some(jump));
        assert_eq!(jumps(&house), if jump > 0 { (1, 0) } else { (0, 1) });
        let (shown, now) = (house.queue.show(MessageId(1)).unwrap(), house.clock.now());
        assert!(now.since(shown.received) < seconds(60) && shown.received <= now.after(seconds(1)));
        assert!(shown.expires > now.after(LIFETIME - seconds(60)));
        assert!(shown.expires <= now.after(LIFETIME));
        let (ticket, waited) = wait(&house, 3601).await;
        assert!((3590..=3601).contains(&waited), "the retry has its hour: {waited}");
        // And after the time that was left, it does expire.
        let at = house.clock.now().after(2 * LIFETIME);
        house.settle_all(ticket, again(at)).await.unwrap();
        assert!(house.next_after(LIFETIME - seconds(3600)).await.expired);
    }
}

#[tokio::test(start_paused = true)]
async fn the_clock_jumps_while_an_attempt_is_under_way() {
    for jump in [YEARS, -HOURS] {
        let house = house(Config::default()).await;
        house.commit(entry(1, "a.example", 1)).await;
        let ticket = house.next().await;
        let at = house.clock.now().after(seconds(300));
        house.clock.jump(jump);
        house.quiet().await;
        house.settle_all(ticket, again(at)).await.unwrap();
        let (_, waited) = wait(&house, 4000).await;
        assert!(waited <= 3961, "a retry's wait at most, not years: {waited}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_clock_jumps_while_an_outcome_is_written() {
    for jump in [YEARS, -HOURS] {
        let slow = SlowSpool { pause: seconds(2), ..SlowSpool::default() };
        let house = house_by(TestClock::new(), Arc::new(slow), Config::default()).await;
        house.commit(entry(1, "a.example", 1)).await;
        let ticket = house.next().await;
        let at = house.clock.now().after(seconds(300));
        let set = async {
            tokio::time::sleep(seconds(1)).await;
            house.clock.jump(jump);
        };
        let (settled, ()) = tokio::join!(house.settle_all(ticket, again(at)), set);
        settled.unwrap();
        let (_, waited) = wait(&house, 4000).await;
        assert!(waited <= 3961, "a retry's wait at most, not years: {waited}");
    }
}

#[tokio::test(start_paused = true)]
async fn mail_on_its_way_in_keeps_its_time() {
    for jump in [YEARS, -HOURS] {
        let house = house(Config::default()).await;
        house.commit(entry(1, "a.example", 1)).await;
        house.settle_all(house.next().await, delivered()).await.unwrap();
        house.clock.jump(jump);
        house.quiet().await;
        // Received before the jump.
        house.commit(entry(2, "a.example", 1)).await;
        let (ticket, _) = wait(&house, 1).await;
        assert!(ticket.entry.expires <= house.clock.now().after(LIFETIME));
        drop(ticket);
        let house = restarted(house, 0).await;
        wait(&house, 2).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_jump_is_remembered_over_restarts() {
    let mut house = house(Config::default()).await;
    tried(&house, 1).await;
    house.clock.jump(YEARS);
    house.quiet().await;
    for _ in 0..2 {
        house = restarted(house, 0).await;
        assert_eq!(jumps(&house), (0, 0), "it is not a new one");
        let (ticket, _) = wait(&house, 1).await;
        house.settle_all(ticket, again(house.clock.now())).await.unwrap();
    }
    // The clock is right again.
    house = restarted(house, -YEARS).await;
    assert_eq!(jumps(&house), (0, 1));
    let (ticket, waited) = wait(&house, 4000).await;
    assert!(waited <= 3961, "due within a retry's wait, not in years: {waited}");
    assert!(ticket.entry.expires < house.clock.now().after(LIFETIME));
    house.settle_all(ticket, delivered()).await.unwrap();
    tokio::time::sleep(2 * HEARTBEAT).await;
    let ledger = house.spool.ledger().unwrap();
    let kept = ledger.get(KEY, house.clock.now()).await.unwrap().and_then(Kept::parse);
    let none = crate::timekeeper::Timekeeper::default().kept(None, Timestamp(0));
    assert_eq!(kept.unwrap().to_bytes().len(), none.to_bytes().len(), "nothing matters any more");
}

#[tokio::test(start_paused = true)]
async fn a_start_in_the_future_loses_nothing_before_and_after_the_clock_is_set() {
    let house = house(Config::default()).await;
    tried(&house, 1).await;
    let house = restarted(house, YEARS).await;
    assert_eq!(jumps(&house), (1, 0));
    let (ticket, _) = wait(&house, 1).await;
    house.settle_all(ticket, again(house.clock.now().after(seconds(60)))).await.unwrap();
    house.clock.jump(-YEARS);
    house.quiet().await;
    assert_eq!(jumps(&house), (1, 1));
    let (ticket, waited) = wait(&house, 100).await;
    assert!(waited <= 61);
    let received = ticket.entry.received;
    assert!(START.0.abs_diff(received.0) < 60_000, "it is as old as it is: {received}");
    let old = house.queue.count(&"age>1d".parse().unwrap());
    assert_eq!(old.messages, 0, "in the lists as well");
}

/// What comes just now, by the clock there is: due at once, or when its sender wants it.
async fn fresh(house: &House, id: u64, hold: Option<Duration>) {
    let (mut fresh, now) = (entry(id, "a.example", 1), house.clock.now());
    let due = hold.map_or(now, |hold| now.after(hold));
    (fresh.received, fresh.expires) = (now, due.after(LIFETIME));
    fresh.terms.hold_until = hold.map(|_| due);
    fresh.recipients[0].state = RecipientState::fresh(due);
    house.commit(fresh).await;
}

#[tokio::test(start_paused = true)]
async fn what_comes_while_the_clock_lies_is_tried_when_it_is_right_again() {
    for restart in [false, true] {
        let mut house = house(Config { delay_notices: Vec::new(), ..Config::default() }).await;
        house.clock.jump(YEARS);
        house.quiet().await;
        fresh(&house, 1, None).await;
        fresh(&house, 2, Some(seconds(7200))).await;
        if restart {
            house = restarted(house, -YEARS).await;
        } else {
            house.clock.jump(-YEARS);
        }
        let (ticket, waited) = wait(&house, 100).await;
        assert_eq!(ticket.id, MessageId(1));
        assert!(waited <= 1, "at once: {waited}");
        house.settle_all(ticket, delivered()).await.unwrap();
        let (ticket, waited) = wait(&house, 7300).await;
        assert_eq!(ticket.id, MessageId(2));
        assert!((7100..=7201).contains(&waited), "its sender's two hours: {waited}");
    }
}

#[tokio::test(start_paused = true)]
async fn time_while_the_relay_is_off_does_not_count() {
    let house = house(Config::default()).await;
    tried(&house, 1).await;
    let mut strict = entry(2, "b.example", 1);
    strict.expires = START.after(seconds(7200));
    let at = strict.expires;
    strict.terms = Terms {
        deliver_by: Some(Deadline { at, mode: ByMode::Return, trace: false }),
        ..Terms::default()
    };
    house.commit(strict).await;
    house.settle_all(house.next().await, again(at)).await.unwrap();
    let house = restarted(house, 30 * 86_400).await;
    let mut expired = [house.next().await, house.next().await].map(|t| (t.id.0, t.expired));
    expired.sort_unstable();
    assert_eq!(expired, [(1, false), (2, true)], "but for who asked for it back by then");
    let shown = house.queue.show(MessageId(1)).unwrap();
    assert!(START.0.abs_diff(shown.received.0) < 60_000, "it is that old");
}

#[tokio::test(start_paused = true)]
async fn a_spool_that_keeps_no_facts_is_served() {
    let spool: Arc<SlowSpool> = Arc::default();
    let house = house_by(TestClock::new(), spool, Config::default()).await;
    tried(&house, 1).await;
    house.spool.inner.ledger().unwrap().remove(KEY).await.unwrap();
    let House { queue, spool, .. } = house;
    drop(queue);
    let house = house_by(TestClock::new(), spool, Config::default()).await;
    wait(&house, 3601).await;
}
