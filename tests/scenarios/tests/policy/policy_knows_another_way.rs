//! A next hop does not take a message, and policy sends it another way at once: those recipients that
//! failed and no others, and not for ever.

use std::path::{Path, PathBuf};

use waypost_harness::upstream::{Act, Upstream};
use waypost_hooks::{AttemptAnswer, MAX_REROUTES, Remedy};
use waypost_mail::{MessageId, RecipientState};
use waypost_scenarios::{Door, Home, Running, eventually};
use waypost_smtp::Phase;

use crate::says::{Says, by_name, fault, with_hop};

const TO: [&str; 2] = ["b@dest.example", "c@dest.example"];

struct World {
    spool: PathBuf,
    relay: Running,
    first: Upstream,
    second: Upstream,
}

/// Mail goes to `first`; policy knows `second`, and its other ways do not come by time.
async fn world(policy: Says, first: Upstream, second: Upstream) -> World {
    let home = Home::new()
        .trusting()
        .set("queue", "first-retry", "\"1h\"")
        .set("queue", "max-retry", "\"1h\"")
        .hooks(policy.ready())
        .route("*", first.listen().await.unwrap());
    let home = with_hop(home, "second", second.listen().await.unwrap());
    World { spool: home.spool(), relay: home.start().await, first, second }
}

impl World {
    async fn send(&self) -> String {
        let mut peer = self.relay.peer(Door::Relay).await;
        peer.hello().await;
        peer.deliver("a@sender.example", &TO, "Subject: x\r\n\r\ny\r\n").await
    }
}

#[tokio::test]
async fn for_those_that_failed() {
    let first = Upstream::new().refusing(TO[1], "450 4.2.1 not here");
    // It says so of all; who was delivered stays delivered.
    let policy = Says::new().remedy(Remedy::Reroute(by_name("second")));
    let world = world(policy, first, Upstream::new()).await;
    world.send().await;
    world.relay.empty().await;
    let to =
        |upstream: &Upstream| upstream.mails().iter().map(|m| m.to.clone()).collect::<Vec<_>>();
    assert_eq!(
        (to(&world.first), to(&world.second)),
        (vec![vec![TO[0].into()]], vec![vec![TO[1].into()]])
    );
    world.relay.stop().await;
}

/// It softens a bounce as well, and a host that cannot be reached.
#[tokio::test]
async fn whatever_it_was() {
    for (phase, act) in [
        (Phase::Mail, Act::Say("550 5.7.1 go away".to_owned())),
        (Phase::Greeting, Act::Say("554 5.3.2 no service".to_owned())),
        (Phase::Body, Act::Drop),
    ] {
        let policy = Says::new().remedy(Remedy::Reroute(by_name("second")));
        // By BDAT a small message would be there whole before it could be dropped in the middle.
        let first = Upstream::new().without("CHUNKING").on(phase, act);
        let world = world(policy, first, Upstream::new()).await;
        world.send().await;
        world.relay.empty().await;
        assert_eq!(world.second.mails()[0].to, TO, "{phase}");
        assert_eq!(world.second.mails().len(), 1, "no notice, no second copy");
        world.relay.stop().await;
    }
}

#[tokio::test]
async fn and_not_for_ever() {
    let refusing = || Upstream::new().on(Phase::Rcpt, Act::Say("450 4.2.1 not here".to_owned()));
    let policy = Says::new().remedy(Remedy::Reroute(by_name("second")));
    let world = world(policy, refusing(), refusing()).await;
    let id = world.send().await;
    eventually("it is held", || world.relay.queue().status().held == 2).await;
    let tries = |upstream: &Upstream| upstream.heard().matches("MAIL FROM").count();
    assert_eq!((tries(&world.first), tries(&world.second)), (1, MAX_REROUTES));
    let entry = world.relay.queue().show(id.parse().unwrap()).unwrap();
    for recipient in &entry.recipients {
        let RecipientState::Held { reason, .. } = &recipient.state else { panic!("{recipient:?}") };
        assert_eq!(reason, "policy rerouted the message 5 times, no more");
    }
    assert_eq!(entry.reroutes as usize, MAX_REROUTES);
    // An operator decides, and the way it took last is free now.
    world.second.relent();
    world.relay.queue().release(id.parse::<MessageId>().unwrap()).await.unwrap();
    world.relay.empty().await;
    assert_eq!((world.first.mails().len(), world.second.mails().len()), (0, 1));
    world.relay.stop().await;
}

/// What is on the disk while the other way is being gone is all that a crash would leave: a relay that
/// begins with that, without the policy and without an index, goes the other way too.
#[tokio::test]
async fn and_a_crash_does_not_forget_it() {
    let first = Upstream::new().refusing(TO[1], "450 4.2.1 not here");
    let second = Upstream::new().once(Phase::Mail, Act::Hang);
    let policy = Says::new().remedy(Remedy::Reroute(by_name("second")));
    let world = world(policy, first, second).await;
    let id = world.send().await.parse().unwrap();
    eventually("the other way is being gone", || world.second.connections() == 1).await;

    let elsewhere = world.first.listen().await.unwrap();
    let survivor = Home::new().trusting().route("*", elsewhere);
    copy(&world.spool, &survivor.spool());
    let tries = world.first.heard().matches("MAIL FROM").count();
    let again = survivor.start().await;
    again.empty().await;
    assert_eq!(world.second.mails()[0].to, [TO[1]]);
    assert_eq!(world.second.mails().len(), 1);
    assert_eq!(world.first.heard().matches("MAIL FROM").count(), tries, "nothing goes the old way");
    assert!(again.queue().show(id).is_err(), "it is settled");
    again.stop().await;
    drop(world.relay);
}

/// Copies a spool but its index, whose files come and go.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        if entry.file_name() == "index" {
            continue;
        }
        let place = to.join(entry.file_name());
        match entry.file_type().unwrap() {
            kind if kind.is_dir() => copy(&entry.path(), &place),
            kind if kind.is_file() => drop(std::fs::copy(entry.path(), place).unwrap()),
            _ => {}
        }
    }
}

/// A way that the configuration does not know changes nothing, and neither does a policy that fails.
#[tokio::test]
async fn or_it_does_not() {
    for policy in [
        Says::new().remedy(Remedy::Reroute(by_name("nowhere"))),
        Says::new().of_an_attempt(|_| Err(fault())),
        Says::new().of_an_attempt(|_| Ok(AttemptAnswer::default())),
    ] {
        let first = Upstream::new().once(Phase::Mail, Act::Say("450 4.2.1 not now".to_owned()));
        let world = world(policy, first, Upstream::new()).await;
        let id = world.send().await;
        let waits = || world.relay.queued().iter().any(|m| m.tries == 1 && m.in_flight == 0);
        eventually("it waits as the host planned", waits).await;
        world.relay.queue().retry(id.parse::<MessageId>().unwrap()).await.unwrap();
        world.relay.empty().await;
        assert_eq!((world.first.mails().len(), world.second.connections()), (1, 0));
        world.relay.stop().await;
    }
}
