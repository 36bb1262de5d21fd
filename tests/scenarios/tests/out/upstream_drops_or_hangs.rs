//! The upstream closes the connection, or falls silent, at each phase.

use std::time::Duration;

use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, timeout};
use waypost_harness::upstream::{Act, Upstream};
use waypost_mail::Why;
use waypost_smtp::Phase;

use crate::way::{Way, home_to, patient};

const BEFORE_THE_DOT: [Phase; 5] =
    [Phase::Greeting, Phase::Ehlo, Phase::Mail, Phase::Rcpt, Phase::Data];

#[tokio::test]
async fn a_closed_connection_is_tried_again() {
    for phase in BEFORE_THE_DOT {
        let upstream = Upstream::new().once(phase, Act::Drop);
        let way = Way::patiently_to(&upstream).await;
        let id = way.send().await;
        let why = way.deferred(&id).await;
        assert!(
            matches!(why, Why::ConnectionLost { phase: at, .. } if at == phase),
            "{phase}: {why}"
        );
        assert!(upstream.mails().is_empty());
        way.retry(&id).await;
        way.settled(&id).await;
        assert_eq!(upstream.mails().len(), 1, "{phase}");
        way.relay.stop().await;
    }
}

/// Without pipelining, so that the phase that hangs is the phase that is waited for.
#[tokio::test]
async fn silence_is_not_waited_for_longer_than_configured() {
    for phase in [&BEFORE_THE_DOT[..], &[Phase::Eod]].concat() {
        let upstream = Upstream::new().without("PIPELINING").once(phase, Act::Hang);
        let home = patient(home_to(upstream.listen().await.unwrap()));
        let way = Way::through(home.set("delivery", "reply-timeout", "\"300ms\"")).await;
        let began = Instant::now();
        let id = way.send().await;
        let why = way.deferred(&id).await;
        assert!(matches!(why, Why::TimedOut { phase: at, .. } if at == phase), "{phase}: {why}");
        assert!(began.elapsed() >= Duration::from_millis(300), "{phase}");
        assert!(began.elapsed() < Duration::from_secs(5), "{phase}");
        way.retry(&id).await;
        way.settled(&id).await;
        assert_eq!(upstream.mails().len(), 1, "{phase}");
        way.relay.stop().await;
    }
}

/// A host whose queue of connections is full answers nobody.
#[tokio::test]
async fn a_host_that_does_not_answer_at_all() {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut unanswered = Vec::new();
    while let Ok(stream) = timeout(Duration::from_millis(200), TcpStream::connect(address)).await {
        unanswered.push(stream.unwrap());
        assert!(unanswered.len() < 100, "the queue does not fill");
    }
    let home = patient(home_to(address)).set("delivery", "connect-timeout", "\"300ms\"");
    let way = Way::through(home).await;
    let id = way.send().await;
    let why = way.deferred(&id).await;
    assert!(matches!(why, Why::TimedOut { phase: Phase::Connect, .. }), "{why}");
    way.relay.stop().await;
}
