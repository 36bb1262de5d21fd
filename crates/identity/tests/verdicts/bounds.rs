//! What a stranger's message costs has an end.

use std::time::Duration;

use tokio::time::Instant;
use waypost_harness::zone::Fault;
use waypost_identity::verify::{AuthResult, Limits, MEMORY};
use waypost_mail::{Clock, SystemClock};

use crate::world::World;

const SIGNED: &str =
    "DKIM-Signature: v=1; a=rsa-sha256; d=a.example; s=s; h=from; bh=AAAA; b=AAAA\r\n";

/// Every server is silent: all is known when the time is up, and is a temporary error.
#[tokio::test(flavor = "multi_thread")]
async fn silence_ends_with_the_time_that_there_is() {
    let world = World::new("$ORIGIN example.\n@ NS ns\n").await;
    for name in ["a.example", "_dmarc.a.example", "_dmarc.example", "s._domainkey.a.example"] {
        world.zone.fault(name, "ANY", Fault::Silence);
    }
    world.zone.fault("1.2.0.192.in-addr.arpa", "ANY", Fault::Silence);
    let hash = "bh=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";
    let signed = SIGNED.replace("bh=AAAA", hash).replace("s=s;", "s=s; c=relaxed/relaxed;");
    let message = format!("{signed}From: a@a.example\r\n\r\n");
    let limits = Limits { time: Duration::from_millis(300), ..Limits::default() };
    let began = Instant::now();
    let from = Some(("192.0.2.1", "h.example"));
    let now = SystemClock.now();
    let found = world.finds_at(message.as_bytes(), from, "a@a.example", now, limits).await;
    // The resolver would wait two seconds for each question.
    assert!(began.elapsed() < Duration::from_millis(1900), "{:?}", began.elapsed());
    let late = AuthResult::TempError;
    assert_eq!(found.spf.as_ref().unwrap().result, late);
    assert_eq!(found.dkim_result(), Some(late), "{found:?}");
    assert_eq!(found.dmarc.as_ref().unwrap().result, late);
    assert_eq!(found.iprev.as_ref().unwrap().result, late);
    assert_eq!(found.arc.unwrap().result, AuthResult::None);
}

/// One message has all the memory that there is, and waits for DNS.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_waits_for_room_no_longer_than_for_answers() {
    let world = World::new("$ORIGIN example.\n@ NS ns\n").await;
    world.zone.fault("s._domainkey.a.example", "ANY", Fault::Silence);
    let hash = "bh=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";
    let signed = SIGNED.replace("bh=AAAA", hash).replace("s=s;", "s=s; c=relaxed/relaxed;");
    let large = format!("{signed}From: a@a.example\r\nX: {}\r\n\r\n", "x".repeat(MEMORY / 16));
    let now = SystemClock.now();
    let limits = |millis| Limits { time: Duration::from_millis(millis), ..Limits::default() };
    let finds = |message: String, millis| {
        let world = &world;
        async move {
            let from = Some(("192.0.2.1", "h.example"));
            let limits = limits(millis);
            let found = world.finds_at(message.as_bytes(), from, "a@a.example", now, limits).await;
            (found, Instant::now())
        }
    };
    let small = "From: a@a.example\r\n\r\n".to_owned();
    let ((_, large_done), (found, small_done)) =
        tokio::join!(finds(large, 1800), finds(small, 100));
    assert!(small_done < large_done, "it did not wait for the other");
    let late = AuthResult::TempError;
    assert_eq!(found.dkim_result(), Some(late));
    let results = [found.spf.unwrap().result, found.dmarc.unwrap().result];
    assert_eq!(results, [late, late]);
    assert_eq!([found.arc.unwrap().result, found.iprev.unwrap().result], [late, late]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_full_of_signatures_and_seals_is_followed_only_so_far() {
    let world = World::new("$ORIGIN example.\n@ NS ns\n").await;
    let long = format!("h=from:{};", "x:".repeat(4000));
    let seals: String = (1..=60)
        .map(|i| {
            format!(
                "ARC-Seal: i={i}; a=rsa-sha256; cv=pass; d=s{i}.example; s=s; b=AAAA\r\n\
                 ARC-Message-Signature: i={i}; a=rsa-sha256; d=s{i}.example; s=s; h=from; bh=AAAA; b=AAAA\r\n\
                 ARC-Authentication-Results: i={i}; x; none\r\n"
            )
        })
        .collect();
    let signatures: String =
        (0..100).map(|n| SIGNED.replace("d=a.example", &format!("d=d{n}.example"))).collect();
    let message = format!(
        "{}{signatures}{seals}From: a@a.example\r\n\r\nx\r\n",
        SIGNED.replace("h=from;", &long)
    );
    let from = Some(("192.0.2.1", "h.example"));
    let found = world.finds(message.as_bytes(), from, "a@a.example").await;
    let dkim = found.dkim.unwrap();
    assert_eq!(dkim.len(), Limits::default().signatures);
    assert_eq!(dkim[0].result, AuthResult::Policy);
    assert_eq!(found.arc.unwrap().result, AuthResult::Fail);
    for i in 1..=60 {
        assert_eq!(world.zone.asked(&format!("s._domainkey.s{i}.example"), "TXT"), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_hardly_a_message_is_looked_at_all_the_same() {
    let world = World::new("$ORIGIN example.\n@ NS ns\n").await;
    for header in [
        "",
        "nonsense\r\n",
        ": nothing\r\n",
        "From:\r\n",
        "From: (\r\n",
        "DKIM-Signature:\r\n",
        "DKIM-Signature: ;;;;=;=;=\r\nARC-Seal: i=99999999999999999999\r\n",
        "ARC-Seal: i=1; cv=none; a=rsa-sha256; d=a; s=b; b=c\r\n",
        "DKIM2-Signature: i=1\r\nMessage-Instance: m=1\r\n",
    ] {
        let message = format!("{header}\r\nx\r\n");
        let from = Some(("192.0.2.1", "\u{0}"));
        let found = world.finds(message.as_bytes(), from, "").await;
        assert_eq!(found.spf.unwrap().result, AuthResult::None, "{header:?}");
    }
}
