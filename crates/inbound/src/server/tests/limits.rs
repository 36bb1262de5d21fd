//! Limits of number and time, and the end of the program.

use std::sync::Arc;
use std::time::Duration;

use waypost_hooks::Pass;
use waypost_spool::SpoolError;

use super::setup::{House, Peer, b64};
use crate::ListenerKind::{Relay, Submissions};
use crate::metrics::{ListenerLabel, RefusedLabels};

const SHORT: Duration = Duration::from_millis(150);

#[tokio::test]
async fn too_many_sessions_are_turned_away_until_one_ends() {
    let house = House::open(|s| s.limits.max_sessions = 2).await;
    let mut first = house.knock(Relay).await;
    let _second = house.knock(Relay).await;
    let mut third = house.connect(Relay).await;
    assert_eq!(third.reply().await, "421 4.3.2 Too many sessions, try again later");
    assert!(third.is_over().await);
    assert!(house.connect(Submissions).await.is_over().await);
    first.expect("QUIT", "221").await;
    assert!(first.is_over().await);
    drop(first);
    let label = ListenerLabel { listener: "relay".into() };
    let open = house.server.metrics().open.get_or_create_owned(&label);
    while open.get() > 1 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    house.knock(Relay).await;
    let refused = RefusedLabels { listener: "relay".into(), reason: "sessions" };
    assert_eq!(house.server.metrics().refused.get_or_create_owned(&refused).get(), 1);
}

#[tokio::test]
async fn one_address_has_its_share() {
    let house = House::open(|s| s.limits.max_sessions_per_address = 1).await;
    let _first = house.knock(Relay).await;
    let reply = house.connect(Relay).await.reply().await;
    assert_eq!(reply, "421 4.7.0 Too many sessions from your address");
}

#[tokio::test]
async fn who_says_nothing_or_too_little_is_sent_home() {
    let house = House::open(|s| s.limits.command_timeout = SHORT).await;
    let mut silent = house.knock(Relay).await;
    assert_eq!(silent.reply().await, "421 4.4.2 Waited too long, closing");
    assert!(silent.is_over().await);
    let mut dripping = house.knock(Relay).await;
    for _ in 0..3 {
        dripping.send(b"N").await;
        tokio::time::sleep(SHORT / 4).await;
    }
    assert!(dripping.reply().await.starts_with("421 4.4.2"));
}

#[tokio::test]
async fn a_body_that_stops_is_sent_home_and_leaves_nothing() {
    let house = House::open(|s| {
        s.relay.networks.push("127.0.0.0/8".parse().unwrap());
        s.limits.data_timeout = SHORT;
    })
    .await;
    let mut peer = house.knock(Relay).await;
    peer.expect("EHLO peer.example", "250-").await;
    peer.send(b"MAIL FROM:<>\r\nRCPT TO:<x@y.example>\r\nDATA\r\n").await;
    for expected in ["250", "250", "354"] {
        assert!(peer.reply().await.starts_with(expected));
    }
    peer.send(b"Subject: half").await;
    assert!(peer.reply().await.starts_with("421 4.4.2"));
    assert_eq!(house.spool.commits(), 0);
}

#[tokio::test]
async fn a_body_that_drips_is_too_slow() {
    let house = House::open(|s| {
        s.relay.networks.push("127.0.0.0/8".parse().unwrap());
        s.limits.data_timeout = 4 * SHORT;
        s.limits.minimum_rate = 1000;
    })
    .await;
    let mut peer = house.knock(Relay).await;
    peer.expect("EHLO peer.example", "250-").await;
    peer.send(b"MAIL FROM:<>\r\nRCPT TO:<x@y.example>\r\nDATA\r\n").await;
    for expected in ["250", "250", "354"] {
        assert!(peer.reply().await.starts_with(expected));
    }
    let dripping = async {
        loop {
            peer.send(b"x").await;
            tokio::time::sleep(SHORT / 10).await;
        }
    };
    // Never silent for as long as silence is borne, and still too slow.
    let slow = tokio::time::timeout(6 * SHORT, dripping).await;
    assert!(slow.is_err());
    assert_eq!(peer.reply().await, "421 4.4.2 Message comes too slowly, closing");
    assert_eq!(house.spool.commits(), 0);
}

#[tokio::test]
async fn who_speaks_before_the_greeting_is_sent_home() {
    let house = House::open(|s| s.limits.greet_pause = 20 * SHORT).await;
    let mut early = house.connect(Relay).await;
    early.send(b"EHLO peer.example\r\n").await;
    assert!(early.reply().await.starts_with("554 5.5.1 "));
    assert!(early.is_over().await);
    let mut patient = house.knock(Relay).await;
    patient.expect("EHLO peer.example", "250-").await;
    patient.send(b"NOOP\r\nEHLO peer.example\r\nMAIL FROM:<>\r\n").await;
    assert!(patient.reply().await.starts_with("250 "));
    assert!(patient.reply().await.starts_with("554 5.5.1 "));
    assert!(patient.is_over().await);
}

#[tokio::test]
async fn who_speaks_early_under_tls_is_sent_home_too() {
    let house = House::open(|s| s.limits.greet_pause = 20 * SHORT).await;
    let peer = house.connect(Submissions).await;
    let mut peer = peer.encrypt(&house.roots, "mx.example.org").await;
    peer.send(b"EHLO peer.example\r\n").await;
    assert!(peer.reply().await.starts_with("554 5.5.1 "));
}

#[tokio::test]
async fn out_of_turn_may_be_taken() {
    let house = House::open(|s| {
        s.limits.greet_pause = 20 * SHORT;
        s.strict.out_of_turn = waypost_smtp::server::OutOfTurn::Take;
    })
    .await;
    let mut early = house.connect(Relay).await;
    early.send(b"EHLO peer.example\r\nNOOP\r\n").await;
    for expected in ["220", "250-", "250"] {
        assert!(early.reply().await.starts_with(expected));
    }
}

#[tokio::test]
async fn no_session_lasts_for_ever() {
    let house = House::open(|s| s.limits.session_lifetime = SHORT).await;
    let mut peer = house.knock(Relay).await;
    peer.expect("EHLO peer.example", "250-").await;
    assert_eq!(peer.reply().await, "421 4.4.2 Session lasted too long, closing");
}

#[tokio::test]
async fn a_handshake_takes_only_so_long() {
    let house = House::open(|s| s.limits.handshake_timeout = SHORT).await;
    assert!(house.connect(Submissions).await.is_over().await);
}

#[tokio::test]
async fn a_full_or_failing_spool_puts_mail_off() {
    let house = House::open(|s| s.relay.networks.push("127.0.0.0/8".parse().unwrap())).await;
    let mut peer = house.knock(Relay).await;
    peer.expect("EHLO peer.example", "250-").await;
    house.spool.set_full(true);
    peer.expect("MAIL FROM:<>", "452 4.3.1").await;
    house.spool.set_full(false);
    house.spool.fail_next(SpoolError::Failed("test".into()));
    assert!(peer.deliver("x@y.example").await.starts_with("451 4.3.0"));
    assert!(peer.deliver("x@y.example").await.starts_with("250"));
    assert_eq!(house.spool.commits(), 1);
}

#[tokio::test]
async fn at_the_end_idle_sessions_leave_and_transactions_finish() {
    let mut house = House::open(|s| s.relay.networks.push("127.0.0.0/8".parse().unwrap())).await;
    let mut idle = house.knock(Relay).await;
    let mut busy = house.knock(Relay).await;
    busy.expect("EHLO peer.example", "250-").await;
    busy.expect("MAIL FROM:<>", "250").await;
    house.stop();
    assert_eq!(idle.reply().await, "421 4.3.2 Service shutting down, try again later");
    assert!(idle.is_over().await);
    drop(idle);
    let late = tokio::net::TcpStream::connect(house.address(Relay)).await;
    assert!(late.is_err(), "a new peer came in");
    busy.expect("RCPT TO:<x@y.example>", "250").await;
    busy.expect("DATA", "354").await;
    busy.expect("Subject: last\r\n\r\n.", "250 2.0.0").await;
    assert!(busy.reply().await.starts_with("421 4.3.2"));
    drop(busy);
    assert_eq!(house.spool.commits(), 1);
    assert_eq!(house.end().await, 0);
}

#[tokio::test]
async fn at_the_end_patience_ends_too() {
    let mut house = House::with(Arc::new(Pass), SHORT, |_| {}).await;
    let mut busy = house.knock(Relay).await;
    busy.expect("EHLO peer.example", "250-").await;
    busy.expect("MAIL FROM:<>", "250").await;
    house.stop();
    assert!(busy.is_over().await);
    assert_eq!(house.end().await, 1);
}

#[tokio::test]
async fn a_session_that_is_of_use_outlives_the_command_timeout() {
    let house = House::open(|s| s.limits.command_timeout = 2 * SHORT).await;
    let mut peer = house.knock(Relay).await;
    for _ in 0..8 {
        tokio::time::sleep(SHORT / 2).await;
        peer.expect("NOOP", "250").await;
    }
}

#[tokio::test]
async fn silent_sessions_make_room_for_newcomers() {
    let house = House::open(|s| {
        s.limits.max_sessions = 2;
        s.limits.prefixes.v4_network = 32;
    })
    .await;
    let mut silent = house.knock(Relay).await;
    let mut spoken = Peer::from("127.0.1.1", house.address(Relay)).await;
    spoken.reply().await;
    spoken.expect("EHLO peer.example", "250-").await;
    let at = house.address(Relay);
    // Not at once: its first words may be on their way.
    let mut early = Peer::from("127.0.2.1", at).await;
    assert!(early.reply().await.starts_with("421 4.3.2"));
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let mut newcomer = Peer::from("127.0.2.1", at).await;
    assert!(newcomer.reply().await.starts_with("220"));
    assert!(silent.reply().await.starts_with("421 4.3.2"));
    spoken.expect("NOOP", "250").await;
    assert_eq!(house.server.metrics().sent_home.get(), 1);
}

#[tokio::test]
async fn new_sessions_and_messages_have_rates() {
    let one = |per| crate::Rate { count: 1, per: Duration::from_secs(per) };
    let house = House::open(|s| {
        s.relay.domains.push("y.example".parse().unwrap());
        s.limits.session_rate_per_address =
            Some(crate::Rate { count: 3, per: Duration::from_secs(3600) });
        s.limits.message_rates_per_address = vec![one(3600)];
    })
    .await;
    let mut peer = house.knock(Relay).await;
    peer.expect("EHLO peer.example", "250-").await;
    assert!(peer.deliver("x@y.example").await.starts_with("250"));
    peer.expect("MAIL FROM:<>", "450 4.7.1").await;
    for _ in 0..2 {
        let mut user = house.encrypted(Submissions).await;
        user.expect(&format!("AUTH PLAIN {}", b64("\0alice\0wonder")), "235").await;
        assert!(user.deliver("x@y.example").await.starts_with("250"));
    }
    let mut user = house.connect(Relay).await;
    assert!(user.reply().await.starts_with("421 4.7.0 Too many new sessions"));
    let metrics = house.server.metrics();
    assert_eq!(metrics.refused_for("relay", "message-rate"), 1);
    let refused = RefusedLabels { listener: "relay".into(), reason: "session-rate-per-address" };
    assert_eq!(metrics.refused.get_or_create_owned(&refused).get(), 1);
}

#[tokio::test]
async fn a_user_has_a_rate_of_messages_whatever_the_session() {
    let house = House::open(|s| {
        s.limits.message_rates_per_user =
            vec![crate::Rate { count: 2, per: Duration::from_secs(3600) }];
    })
    .await;
    for _ in 0..2 {
        let mut user = house.encrypted(Submissions).await;
        user.expect(&format!("AUTH PLAIN {}", b64("\0alice\0wonder")), "235").await;
        assert!(user.deliver("x@y.example").await.starts_with("250"));
    }
    let mut user = house.encrypted(Submissions).await;
    user.expect(&format!("AUTH PLAIN {}", b64("\0alice\0wonder")), "235").await;
    user.expect("MAIL FROM:<>", "450 4.7.1").await;
    let mut other = house.encrypted(Submissions).await;
    other.expect(&format!("AUTH PLAIN {}", b64("\0carol\0both")), "235").await;
    assert!(other.deliver("x@y.example").await.starts_with("250"));
}

#[tokio::test]
async fn under_pressure_what_is_here_goes_on_and_the_rest_is_put_off() {
    let mut settings = None;
    let house = House::open(|s| {
        s.relay.networks.push("127.0.0.0/8".parse().unwrap());
        settings = Some(s.clone());
    })
    .await;
    let mut busy = house.knock(Relay).await;
    busy.expect("EHLO peer.example", "250-").await;
    busy.expect("MAIL FROM:<>", "250").await;
    busy.expect("RCPT TO:<x@y.example>", "250").await;
    let mut pressed = settings.clone().unwrap();
    pressed.limits.max_memory = Some(1);
    house.server.reload(pressed).unwrap();
    let mut newcomer = house.connect(Relay).await;
    assert!(newcomer.reply().await.starts_with("421 4.3.1"));
    assert!(newcomer.is_over().await);
    busy.expect("DATA", "354").await;
    busy.expect("Subject: here\r\n\r\n.", "250 2.0.0").await;
    busy.expect("MAIL FROM:<>", "452 4.3.1 Not enough memory").await;
    house.server.reload(settings.unwrap()).unwrap();
    assert!(busy.deliver("x@y.example").await.starts_with("250"));
    house.knock(Relay).await;
    let refused = RefusedLabels { listener: "relay".into(), reason: "memory" };
    assert_eq!(house.server.metrics().refused.get_or_create_owned(&refused).get(), 1);
}

#[tokio::test]
async fn what_is_refused_in_a_session_is_counted_by_its_limit() {
    let house = House::open(|s| {
        s.relay.networks.push("127.0.0.0/8".parse().unwrap());
        s.limits.max_recipients = 1;
        s.limits.max_message_size = 1000;
        s.limits.max_errors = 4;
    })
    .await;
    let mut peer = house.knock(Relay).await;
    peer.expect("EHLO peer.example", "250-").await;
    peer.expect("MAIL FROM:<> SIZE=2000", "552").await;
    peer.expect("MAIL FROM:<>", "250").await;
    peer.expect("RCPT TO:<x@y.example>", "250").await;
    peer.expect("RCPT TO:<x@y.example>", "452").await;
    peer.expect("DATA", "354").await;
    peer.send(format!("{}\r\n.\r\n", "x".repeat(999)).as_bytes()).await;
    assert!(peer.reply().await.starts_with("552"));
    peer.expect("VRFY", "501").await;
    peer.expect("NOOP\nNOOP", "500").await;
    peer.expect("WIZ", "500").await;
    assert!(peer.reply().await.starts_with("421"));
    assert!(peer.is_over().await);
    for (reason, times) in
        [("message-size", 2), ("recipients", 1), ("bad-line", 1), ("501", 1), ("errors", 1)]
    {
        let counted = house.server.metrics().refused_for("relay", reason);
        assert_eq!(counted, times, "{reason}");
    }
}

#[tokio::test]
async fn everything_is_counted() {
    let house = House::open(|s| s.relay.networks.push("127.0.0.0/8".parse().unwrap())).await;
    let mut peer = house.knock(Relay).await;
    peer.expect("EHLO peer.example", "250-").await;
    peer.deliver("x@y.example").await;
    let mut registry = prometheus_client::registry::Registry::default();
    house.server.metrics().register(&mut registry);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    for line in [
        "waypost_inbound_sessions_total{listener=\"relay\"} 1",
        "waypost_inbound_sessions_open{listener=\"relay\"} 1",
        "waypost_inbound_messages_total{listener=\"relay\",result=\"accepted\"} 1",
        "waypost_inbound_bytes_total{listener=\"relay\"} 106",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
}
