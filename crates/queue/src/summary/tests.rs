use std::time::Duration;

use waypost_mail::{Attr, Clock, Outcome, Why};
use waypost_smtp::{Phase, Reply, ReversePath};

use super::*;
use crate::house::{House, house, seconds};
use crate::samples::{START, entry, recipient, route};
use crate::{Config, Settled, Settlement};

fn refused(code: u16) -> Why {
    let reply = Reply::fixed(code, (4, 7, 1), "later");
    Why::Refused { hop: "mx".into(), phase: Phase::Rcpt, reply }
}

/// Ten messages at busy.example, of which seven were refused, and one for two domains, of which one is
/// done.
async fn crowd() -> House {
    let house = house(Config::default()).await;
    for id in 0..10 {
        let mut message = entry(1 + id, "busy.example", 1);
        message.sender = ReversePath::Mailbox(format!("s{}@x.example", id % 2).parse().unwrap());
        message.size = 1000;
        house.commit(message).await;
        let ticket = house.next().await;
        let at = START.after(seconds(4000));
        let settled = match id {
            0..5 => Settled::Again { at, why: refused(451) },
            5..7 => Settled::Again { at, why: refused(450) },
            _ => Settled::Later { at },
        };
        house.settle_all(ticket, settled).await.unwrap();
    }
    tokio::time::advance(Duration::from_secs(600)).await;
    let mut both = entry(50, "a.example", 1);
    both.received = START.after(seconds(600));
    both.routes.push(route("b.example"));
    both.recipients.push(recipient(1, "b.example", 1));
    both.meta.push(Attr { name: "router/tag".into(), value: "news, big".into() });
    both.meta.push(Attr { name: "router/tenant".into(), value: "shop".into() });
    house.commit(both).await;
    let ticket = house.next().await;
    let gone = Settled::Done(Outcome::Bounced(refused(550)));
    let states = vec![(ticket.recipients[0].recipient.id, gone)];
    house.queue.settle(ticket, Settlement { states, ..Settlement::default() }).await.unwrap();
    house
}

fn groups(house: &House, selector: &str, by: Field) -> Vec<(String, usize, u64)> {
    let groups = house.queue.summary(&selector.parse().unwrap(), by, 10);
    groups.into_iter().map(|group| (group.name, group.recipients, group.bytes)).collect()
}

#[tokio::test(start_paused = true)]
async fn a_summary_says_what_waits_for_whom_how_old_and_why() {
    let house = crowd().await;
    let busy = &house.queue.summary(&Selector::everything(), Field::Destination, 10)[0];
    assert_eq!(
        (&*busy.name, busy.messages, busy.recipients, busy.bytes),
        ("busy.example", 10, 10, 10_000)
    );
    assert_eq!((busy.oldest, busy.held), (START, 0));
    assert_eq!((&*busy.reply, busy.replies), ("451 4.7.1", 5));
}

#[tokio::test(start_paused = true)]
async fn a_summary_goes_by_any_field() {
    let house = crowd().await;
    let name = |name: &str| name.to_owned();
    assert_eq!(
        groups(&house, "", Field::Domain),
        [(name("busy.example"), 10, 10_000), (name("b.example"), 1, 19)],
        "who is done does not wait"
    );
    assert_eq!(
        groups(&house, "", Field::Reply),
        [(name("451 4.7.1"), 5, 5000), (name("none"), 4, 3019), (name("450 4.7.1"), 2, 2000)]
    );
    assert_eq!(groups(&house, "", Field::Age)[0], (name("5m to 1h"), 10, 10_000));
    assert_eq!(groups(&house, "tenant:shop", Field::Tag), [(name("news big"), 1, 19)]);
    assert_eq!(groups(&house, "tag:big", Field::Tenant), [(name("shop"), 1, 19)]);
    assert_eq!(groups(&house, "attempts:1 reply:4*", Field::Sender).len(), 2);
    for field in Field::ALL {
        let total: usize = groups(&house, "", field).iter().map(|(_, count, _)| count).sum();
        assert_eq!(total, 11, "{field}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_in_no_large_group_is_added_up() {
    let house = crowd().await;
    let groups = house.queue.summary(&Selector::everything(), Field::Id, 3);
    let sizes: Vec<usize> = groups.iter().map(|group| group.recipients).collect();
    assert_eq!((sizes, &*groups[3].name), (vec![1, 1, 1, 8], "(others)"));
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_does_not_run_says_the_same() {
    let house = crowd().await;
    let mut at_rest = AtRest::new(&Config::default());
    for id in house.queue.list(&Selector::everything(), None, 100).unwrap().messages {
        at_rest.add(&house.queue.show(id.id).unwrap());
    }
    let now = house.clock.now();
    for (selector, field) in
        [("", Field::Destination), ("reply:451", Field::Sender), ("", Field::Tag)]
    {
        let selector = selector.parse().unwrap();
        assert_eq!(
            at_rest.summary(&selector, field, 10, now),
            house.queue.summary(&selector, field, 10)
        );
    }
}
