//! Priorities come in by MAIL or by a field, are lowered to what the submitter may ask for, and go on
//! by MAIL or by a field (RFC 6710, RFC 6758).

use waypost_harness::upstream::{Act, Mail, Upstream};
use waypost_scenarios::{Door, Home, Peer};
use waypost_smtp::Phase;
use waypost_smtp::server::Offers;

const TO: &str = "b@inside.example";

fn knowing() -> Upstream {
    Upstream::new().offering(Offers { mt_priority: true, ..Offers::default() })
}

async fn send(peer: &mut Peer, parameters: &str, reply: &str, content: &str) -> String {
    peer.expect(&format!("MAIL FROM:<a@sender.example>{parameters}"), reply).await;
    peer.expect(&format!("RCPT TO:<{TO}>"), "250").await;
    peer.data(content).await
}

fn unfolded(mail: &Mail) -> String {
    mail.content.replace("\r\n ", " ")
}

#[tokio::test]
async fn users_up_to_what_is_urgent() {
    let (upstream, plain) = (knowing(), Upstream::new());
    let home = Home::new()
        .users()
        .route("far.example", plain.listen().await.unwrap())
        .route("*", upstream.listen().await.unwrap());
    let relay = home.start().await;
    let mut peer = relay.peer(Door::Submissions).await;
    assert!(peer.hello().await.contains(&"MT-PRIORITY MIXER".to_owned()));
    peer.login().await;
    for (parameters, reply, field, end, told) in [
        (" MT-PRIORITY=3", "250 2.1.0", "", "250 2.0.0 OK queued as ", "3"),
        (" MT-PRIORITY=-9", "250 2.1.0", "", "250 2.0.0 OK queued as ", "-9"),
        (" MT-PRIORITY=9", "250 2.3.6 4 is the new priority", "", "250 2.0.0 OK queued as ", "4"),
        ("", "250 2.1.0", "MT-Priority: 2 (soon)\r\n", "250 2.0.0 OK queued as ", "2"),
        ("", "250 2.1.0", "MT-Priority: 7\r\n", "250 2.3.6 4 is the new priority", "4"),
        (" MT-PRIORITY=1", "250 2.1.0", "MT-Priority: 4\r\n", "250 2.0.0 OK queued as ", "1"),
        ("", "250 2.1.0", "MT-Priority: 44\r\n", "250 2.0.0 OK queued as ", "0"),
        ("", "250 2.1.0", "X-Priority: 1\r\n", "250 2.0.0 OK queued as ", "0"),
    ] {
        let content = format!("Subject: x\r\n{field}\r\ny\r\n");
        let said = send(&mut peer, parameters, reply, &content).await;
        assert!(said.starts_with(end), "{parameters} {field}: {said}");
        relay.empty().await;
        let mail = upstream.mails().pop().unwrap();
        let heard = upstream.heard();
        let last = heard.lines().rfind(|line| line.starts_with("MAIL")).unwrap();
        assert!(last.ends_with(&format!(" MT-PRIORITY={told}")), "{parameters} {field}: {last}");
        let text = unfolded(&mail);
        assert!(!text.contains("MT-Priority:"), "{text}");
        let clause = format!(" PRIORITY {told};");
        assert_eq!(text.contains(&clause), told != "0", "{text}");
    }
    // Where the next hop does not know it, it is told by the field, on top.
    peer.expect("MAIL FROM:<a@sender.example> MT-PRIORITY=4", "250").await;
    peer.expect("RCPT TO:<b@far.example>", "250").await;
    peer.data("MT-Priority: -1\r\nSubject: x\r\n\r\ny\r\n").await;
    relay.empty().await;
    let mail = plain.mails().pop().unwrap();
    assert!(mail.content.starts_with("MT-Priority: 4\r\nReceived: "), "{}", mail.content);
    assert_eq!(mail.content.matches("MT-Priority").count(), 1, "{}", mail.content);
    assert!(!plain.heard().contains("MT-PRIORITY"), "{}", plain.heard());
    relay.stop().await;
}

#[tokio::test]
async fn but_strangers_only_that_it_is_not() {
    let upstream = knowing();
    let home = Home::new().route("*", upstream.listen().await.unwrap());
    let relay = home.start().await;
    let mut peer = relay.peer(Door::Relay).await;
    assert!(!peer.hello().await.iter().any(|line| line.starts_with("MT-PRIORITY")));
    peer.expect("MAIL FROM:<a@sender.example> MT-PRIORITY=4", "555 5.5.4").await;
    // A field that would make the next hop, which trusts us, believe a stranger.
    send(&mut peer, "", "250 2.1.0", "MT-Priority: 9\r\nSubject: x\r\n\r\ny\r\n").await;
    relay.empty().await;
    assert!(!upstream.mails()[0].content.contains("MT-Priority"));
    assert!(upstream.heard().contains(" MT-PRIORITY=0\r\n"), "{}", upstream.heard());
    relay.stop().await;

    let home = home.doors_say("priority = { offer = true, highest = 9 }");
    let relay = home.start().await;
    let mut peer = relay.peer(Door::Relay).await;
    assert!(peer.hello().await.contains(&"MT-PRIORITY MIXER".to_owned()));
    for (parameters, reply, told) in [
        (" MT-PRIORITY=9", "250 2.3.6 0 is the new priority", "0"),
        (" MT-PRIORITY=-5", "250 2.1.0", "-5"),
        ("", "250 2.1.0", "0"),
    ] {
        let field = "MT-Priority: 9\r\nSubject: x\r\n\r\ny\r\n";
        assert!(send(&mut peer, parameters, reply, field).await.starts_with("250 2.0.0"));
        relay.empty().await;
        assert!(upstream.heard().contains(&format!(" MT-PRIORITY={told}\r\n")));
        assert!(!upstream.mails().pop().unwrap().content.contains("MT-Priority"));
    }
    assert!(!upstream.heard().contains("MT-PRIORITY=9"), "{}", upstream.heard());
    relay.stop().await;

    // A listed network is trusted, as far as the listener says.
    let home = home.trusting().doors_say("priority = { offer = true, highest = 1 }");
    let relay = home.start().await;
    let mut peer = relay.peer(Door::Relay).await;
    peer.hello().await;
    send(&mut peer, " MT-PRIORITY=9", "250 2.3.6 1 is the new", "Subject: x\r\n\r\ny\r\n").await;
    relay.empty().await;
    assert!(upstream.heard().contains(" MT-PRIORITY=1\r\n"), "{}", upstream.heard());
    relay.stop().await;
}

/// RFC 6710 §4.6: a notice is as urgent as what it is about; and a field can be done without.
#[tokio::test]
async fn notices_are_as_urgent_and_fields_are_not_for_everybody() {
    let refusing = Upstream::new().on(Phase::Rcpt, Act::Say("550 5.1.1 no".into()));
    let (senders, plain) = (knowing(), Upstream::new());
    let home = Home::new()
        .users()
        .set("delivery", "priority-field", "false")
        .route("inside.example", refusing.listen().await.unwrap())
        .route("far.example", plain.listen().await.unwrap())
        .route("*", senders.listen().await.unwrap());
    let relay = home.start().await;
    let mut peer = relay.peer(Door::Submissions).await;
    peer.hello().await;
    peer.login().await;
    send(&mut peer, " MT-PRIORITY=4", "250 2.1.0", "Subject: x\r\n\r\ny\r\n").await;
    peer.expect("MAIL FROM:<a@sender.example> MT-PRIORITY=4", "250").await;
    peer.expect("RCPT TO:<b@far.example>", "250").await;
    peer.data("Subject: x\r\n\r\ny\r\n").await;
    relay.empty().await;
    let heard = senders.heard();
    assert!(heard.contains("MAIL FROM:<>") && heard.contains(" MT-PRIORITY=4\r\n"), "{heard}");
    assert!(!plain.mails()[0].content.contains("MT-Priority"));
    relay.stop().await;
}
