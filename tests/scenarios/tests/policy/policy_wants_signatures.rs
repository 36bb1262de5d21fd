//! Policy asks for DKIM signatures (RFC 6376): dkimpy finds them good on what aiosmtpd got, whatever
//! else policy did to the message. What cannot be signed is not sent unsigned.

use std::io::Write as _;
use std::process::{Command, Stdio};

use bytes::Bytes;
use waypost_harness::upstream::Upstream;
use waypost_hooks::{MessageAnswer, MessageEdit, Preparation, Remedy};
use waypost_identity::keygen::{Algorithm, GeneratedKey, dns_record, generate};
use waypost_identity::{Keyring, SigningKey};
use waypost_mail::SignRequest;
use waypost_scenarios::{Door, Home, eventually};

use crate::aiosmtpd::{Aiosmtpd, kept, stuffed};
use crate::python::python;
use crate::says::{Says, field};

/// One line: pass or fail for each signature from the top, `RECORD` under every name.
const VERIFY: &str = r#"
import sys, dkim
message = sys.stdin.buffer.read()
record = sys.argv[1].encode()
def verdict(index):
    try:
        return dkim.DKIM(message).verify(idx=index, dnsfunc=lambda name, timeout=5: record)
    except dkim.DKIMException as reason:
        print(reason, file=sys.stderr)
        return False
headers, _ = dkim.rfc822_parse(message)
count = sum(name.lower() == b"dkim-signature" for name, _ in headers)
print(" ".join("pass" if verdict(index) else "fail" for index in range(count)))
"#;

pub(crate) async fn dkimpy(record: String, message: Vec<u8>) -> String {
    let verified = tokio::task::spawn_blocking(move || {
        let mut command = Command::new(python());
        command.args(["-c", VERIFY, &record]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(&message).unwrap();
        child.wait_with_output().unwrap()
    });
    String::from_utf8(verified.await.unwrap().stdout).unwrap().trim().to_owned()
}

pub(crate) struct Key {
    key: GeneratedKey,
}

impl Key {
    pub(crate) fn new() -> Key {
        Key { key: generate(Algorithm::Rsa2048).unwrap() }
    }

    pub(crate) fn record(&self) -> String {
        dns_record("s1", "sender.example", self.key.public()).unwrap().value
    }

    /// The home with this key under the name `main`.
    pub(crate) fn given_to(&self, home: Home) -> Home {
        let key = SigningKey::from_pem(self.key.private_pem().as_bytes()).unwrap();
        home.amended(move |settings| {
            settings.reload.keys = Keyring::from_iter([("main".to_owned(), key.clone())]);
        })
    }
}

pub(crate) fn sign(domain: &str, key: &str) -> SignRequest {
    SignRequest {
        domain: domain.to_owned(),
        selector: "s1".to_owned(),
        key: key.to_owned(),
        headers: Vec::new(),
        oversign: Vec::new(),
        expire_after: None,
    }
}

/// The names of a message's fields, in order.
fn names(message: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(message);
    let header = text.split("\r\n\r\n").next().unwrap();
    let lines = header.split("\r\n").filter(|line| !line.starts_with([' ', '\t']));
    lines.map(|line| line.split(':').next().unwrap().to_owned()).collect()
}

const MESSAGE: &str = "From: a@sender.example\r\nTo: b@dest.example\r\nX-Gone: 1\r\n\
    Subject: as it was\r\n\r\nThe text.\r\n.\r\n \r\n";

#[tokio::test]
async fn over_what_it_made_of_the_message() {
    let directory = tempfile::tempdir().unwrap();
    let (aiosmtpd, key) = (Aiosmtpd::start(directory.path()), Key::new());
    let policy = Says::new().of_a_message(|view| {
        let subject = view.text.header.views().find(|field| field.name == "Subject").unwrap().id;
        // Signatures are made after the last edit, wherever they stand among them.
        let edits = vec![
            MessageEdit::Sign(sign("sender.example", "main")),
            field("Reply-To", "c@sender.example"),
            MessageEdit::ChangeHeader { id: subject, value: "as it is".to_owned() },
            MessageEdit::RemoveHeaders("X-Gone".to_owned()),
            MessageEdit::Splice {
                offset: view.text.body.len(),
                remove: 0,
                insert: Bytes::from_static(b"-- \r\nfooter \xe4 without end\nof line"),
            },
            MessageEdit::Sign(sign("also.example", "main")),
        ];
        MessageAnswer { edits, ..MessageAnswer::default() }
    });
    let home = key.given_to(Home::new().trusting().hooks(policy.ready()));
    let relay = home.route("*", aiosmtpd.address).start().await;
    let mut peer = relay.peer(Door::Relay).await;
    peer.hello().await;
    let large = format!("{MESSAGE}{}", format!("{}\r\n", "y".repeat(76)).repeat(5000));
    for (number, content) in [(1, MESSAGE), (2, large.as_str())] {
        peer.envelope("a@sender.example", &["b@dest.example"]).await;
        let reply = peer.data(stuffed(content.as_bytes())).await;
        assert!(reply.starts_with("250"), "{reply}");
        let got = kept(directory.path(), number).await;
        // Below our trace field, above everything else, the first that was asked for on top.
        let expected =
            ["Received", "DKIM-Signature", "DKIM-Signature", "Reply-To", "From", "To", "Subject"];
        assert_eq!(names(&got), expected);
        let text = String::from_utf8_lossy(&got).into_owned();
        let at = |domain: &str| text.find(&format!("d={domain};")).unwrap();
        assert!(at("sender.example") < at("also.example"));
        assert_eq!(dkimpy(key.record(), got.clone()).await, "pass pass");
        let forged = [&got[..], b"more\r\n"].concat();
        assert_eq!(dkimpy(key.record(), forged).await, "fail fail");
    }
    relay.empty().await;
    relay.stop().await;
}

#[tokio::test]
async fn over_one_copy() {
    let directory = tempfile::tempdir().unwrap();
    let (aiosmtpd, key) = (Aiosmtpd::start(directory.path()), Key::new());
    let policy = Says::new().of_a_copy(|_| {
        let names = ["List-Unsubscribe", "Reply-To"];
        let add_headers = names.map(|name| (name.to_owned(), "<mailto:x@sender.example>".into()));
        let sign = vec![sign("sender.example", "main")];
        Ok(Preparation { add_headers: add_headers.into(), sign, ..Preparation::default() })
    });
    let home = key.given_to(Home::new().trusting().hooks(policy.ready()));
    let relay = home.route("*", aiosmtpd.address).start().await;
    let mut peer = relay.peer(Door::Relay).await;
    peer.hello().await;
    peer.envelope("a@sender.example", &["b@dest.example"]).await;
    let reply = peer.data(stuffed(MESSAGE.as_bytes())).await;
    assert!(reply.starts_with("250"), "{reply}");
    let got = kept(directory.path(), 1).await;
    // The last field that was added stands first, the signature above them.
    let expected = ["DKIM-Signature", "Reply-To", "List-Unsubscribe", "Received", "From", "To"];
    assert_eq!(names(&got)[..6], expected);
    assert_eq!(dkimpy(key.record(), got).await, "pass");
    relay.empty().await;
    relay.stop().await;
}

/// 451: the submitter keeps the message until the key is there.
#[tokio::test]
async fn and_a_message_that_cannot_be_signed_is_put_off() {
    let upstream = Upstream::new();
    let policy = Says::new().edits(vec![MessageEdit::Sign(sign("sender.example", "no such key"))]);
    let home = Key::new().given_to(Home::new().trusting().hooks(policy.ready()));
    let relay = home.route("*", upstream.listen().await.unwrap()).start().await;
    let mut peer = relay.peer(Door::Relay).await;
    peer.hello().await;
    peer.envelope("a@sender.example", &["b@dest.example"]).await;
    let reply = peer.data(stuffed(MESSAGE.as_bytes())).await;
    assert!(reply.starts_with("451 4.3.0"), "{reply}");
    assert!(relay.queued().is_empty());
    assert_eq!(upstream.connections(), 0);
    relay.stop().await;
}

/// The message was taken and is never sent without the signature that policy wants.
#[tokio::test]
async fn and_a_copy_that_cannot_be_signed_waits() {
    let upstream = Upstream::new();
    let policy = Says::new()
        .of_a_copy(|_| {
            let sign = vec![sign("sender.example", "no such key")];
            Ok(Preparation { sign, ..Preparation::default() })
        })
        .remedy(Remedy::Hold("not an attempt, so not asked".to_owned()));
    let home = Key::new().given_to(Home::new().trusting().hooks(policy.ready()));
    let relay = home.route("*", upstream.listen().await.unwrap()).start().await;
    let mut peer = relay.peer(Door::Relay).await;
    peer.hello().await;
    peer.deliver("a@sender.example", &["b@dest.example"], "Subject: x\r\n\r\ny\r\n").await;
    eventually("a connection is ready", || upstream.heard().contains("EHLO")).await;
    eventually("it waits", || relay.queued()[0].in_flight == 0).await;
    assert_eq!((relay.queued()[0].tries, relay.queued()[0].held), (0, 0));
    assert!(!upstream.heard().contains("MAIL"), "{}", upstream.heard());
    relay.stop().await;
}

/// A bounce must not be lost because a key is: it goes out unsigned.
#[tokio::test]
async fn but_a_notice_goes_out_without() {
    let upstream = Upstream::new().refusing("b@dest.example", "550 5.1.1 nobody");
    let (senders, key) = (Upstream::new(), Key::new());
    let policy = Says::new().of_a_message(|view| {
        let notice = view.transaction.session.listener == "internal";
        let wanted = if notice { "no such key" } else { "main" };
        let edits = vec![MessageEdit::Sign(sign("sender.example", wanted))];
        MessageAnswer { edits, ..MessageAnswer::default() }
    });
    let home = key.given_to(Home::new().trusting().hooks(policy.ready()));
    let home = home.route("sender.example", senders.listen().await.unwrap());
    let relay = home.route("*", upstream.listen().await.unwrap()).start().await;
    let mut peer = relay.peer(Door::Relay).await;
    peer.hello().await;
    peer.envelope("a@sender.example", &["b@dest.example"]).await;
    let reply = peer.data(stuffed(MESSAGE.as_bytes())).await;
    assert!(reply.starts_with("250"), "{reply}");
    relay.empty().await;
    let [notice] = &senders.mails()[..] else { panic!("{:?}", senders.mails()) };
    assert!(!names(notice.content.as_bytes()).contains(&"DKIM-Signature".to_owned()));
    assert!(notice.content.contains("550 5.1.1 nobody"), "{}", notice.content);
    relay.stop().await;
}
