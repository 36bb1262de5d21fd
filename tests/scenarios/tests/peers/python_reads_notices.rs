//! Python's email package takes our notices apart, flufl.bounce (Mailman's) knows whom they are about, and
//! dkimpy finds their signatures good.

use waypost_harness::upstream::Upstream;
use waypost_identity::keygen::{Algorithm, dns_record, generate};
use waypost_scenarios::{Door, Home, eventually};

use crate::program::run;
use crate::python::python;

const SCRIPT: &str = r#"
import sys, email, email.policy, dkim
from flufl.bounce import all_failures
octets = sys.stdin.buffer.read()
record = sys.argv[1].encode()
message = email.message_from_bytes(octets, policy=email.policy.SMTP)
print("defects", [str(defect) for part in message.walk() for defect in part.defects])
print("type", message.get_content_type(), message.get_param("report-type"))
print("parts", [part.get_content_type() for part in message.iter_parts()])
groups = message.get_payload()[1].get_payload()
for group in groups:
    for name in ("Reporting-MTA", "Final-Recipient", "Action", "Status", "Original-Envelope-Id"):
        if group[name]:
            print(name, "=", group[name])
text = message.get_payload()[0].get_content()
print("says", "What to do:" in text)
temporary, permanent = all_failures(email.message_from_bytes(octets))
print("temporary", sorted(temporary), "permanent", sorted(permanent))
print("signed", dkim.DKIM(octets).verify(dnsfunc=lambda name, timeout=5: record))
"#;

const GLOBAL: &str = r#"
import sys, email, email.policy
message = email.message_from_bytes(sys.stdin.buffer.read(), policy=email.policy.SMTPUTF8)
print("defects", [str(defect) for part in message.walk() for defect in part.defects])
print("to", message["To"])
parts = list(message.iter_parts())
print("parts", [part.get_content_type() for part in parts])
print(parts[1].as_bytes().decode())
print("subject", parts[2].get_payload(0)["Subject"])
"#;

/// Addresses beyond ASCII are told as they are (RFC 6533 §4).
#[tokio::test]
async fn of_internationalized_mail_too() {
    let (upstream, senders) = (Upstream::new(), Upstream::new());
    let upstream = upstream.refusing("jörg@there.example", "550 5.1.1 no such user");
    let home = Home::new()
        .trusting()
        .route("home.example", senders.listen().await.unwrap())
        .route("*", upstream.listen().await.unwrap());
    let relay = home.start().await;
    let mut peer = relay.peer(Door::Relay).await;
    peer.hello().await;
    peer.expect("MAIL FROM:<älice@home.example> SMTPUTF8 BODY=8BITMIME RET=HDRS", "250").await;
    let rcpt = "RCPT TO:<jörg@there.example> ORCPT=utf-8;j\\x{F6}rg@first.example";
    peer.expect(rcpt, "250").await;
    peer.expect("DATA", "354").await;
    peer.expect("Subject: Grüße\r\n\r\nText\r\n.", "250").await;
    eventually("the notice", || !senders.mails().is_empty()).await;
    let notice = senders.mails().remove(0).content;
    let ended = run("python3-venv", &python(), &["-c", GLOBAL], &notice).await;
    assert!(ended.success, "{}", ended.said);
    for line in [
        "defects []",
        "to älice@home.example",
        "parts ['text/plain', 'message/global-delivery-status', 'message/global-headers']",
        "Original-Recipient: utf-8; jörg@first.example",
        "Final-Recipient: utf-8; jörg@there.example",
        "subject Grüße",
    ] {
        assert!(ended.said.contains(line), "{line} is not in\n{}\n{notice}", ended.said);
    }
    relay.stop().await;
}

#[tokio::test]
async fn and_understands_them() {
    let (upstream, alice) = (Upstream::new(), Upstream::new());
    let upstream = upstream
        .refusing("bob@there.example", "550 5.1.1 no such user")
        .refusing("eve@there.example", "552 5.2.2 mailbox full");
    let key = generate(Algorithm::Rsa2048).unwrap();
    let record = dns_record("s1", "relay.example", key.public()).unwrap().value;
    let home = Home::new().trusting();
    let file = home.path("notices.pem");
    std::fs::write(&file, key.private_pem()).unwrap();
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let home = home
        .set("keys.notices", "file", &format!("{file:?}"))
        .set(
            "notices",
            "sign",
            "[{ key = \"notices\", domain = \"relay.example\", selector = \"s1\" }]",
        )
        .route("home.example", alice.listen().await.unwrap())
        .route("*", upstream.listen().await.unwrap());
    let relay = home.start().await;
    let mut peer = relay.peer(Door::Relay).await;
    peer.hello().await;
    peer.say("MAIL FROM:<alice@home.example> ENVID=QQ314 RET=HDRS").await;
    for (name, notify) in [("bob", ""), ("eve", ""), ("nobody", " NOTIFY=NEVER")] {
        let said = peer.say(&format!("RCPT TO:<{name}@there.example>{notify}")).await;
        assert!(said.starts_with("250"), "{said}");
    }
    peer.say("DATA").await;
    peer.say("From: alice@home.example\r\nSubject: Hello\r\n\r\nText.\r\n.").await;
    eventually("alice is told", || !alice.mails().is_empty()).await;
    let notice = alice.mails().remove(0).content;
    let ended = run("python3-venv", &python(), &["-c", SCRIPT, &record], &notice).await;
    assert!(ended.success, "{}", ended.said);
    for line in [
        "defects []",
        "type multipart/report delivery-status",
        "parts ['text/plain', 'message/delivery-status', 'text/rfc822-headers']",
        "Original-Envelope-Id = QQ314",
        "Reporting-MTA = dns; relay.example",
        "Final-Recipient = rfc822; bob@there.example",
        "Final-Recipient = rfc822; eve@there.example",
        "Action = failed",
        "Status = 5.1.1",
        "Status = 5.2.2",
        "says True",
        "temporary [] permanent [b'bob@there.example', b'eve@there.example']",
        "signed True",
    ] {
        assert!(ended.said.contains(line), "{line} is not in\n{}\n{notice}", ended.said);
    }
    relay.stop().await;
}
