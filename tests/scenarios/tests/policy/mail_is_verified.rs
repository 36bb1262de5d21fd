//! A stranger brings mail, by smtplib and with dkimpy's signature: what is found out is told to policy,
//! to the next hop in one field, and has the consequences that the configuration says.

use std::fs::Permissions;
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use mail_auth::dkim2::sign::Envelope;
use mail_auth::{AuthenticatedMessage, Dkim2Result, MessageAuthenticator};
use waypost_dns::{Config, Hickory};
use waypost_harness::upstream::Upstream;
use waypost_harness::zone::{Fault, Zone};
use waypost_hooks::MessageAnswer;
use waypost_identity::keygen::{Algorithm, GeneratedKey, dns_record, generate};
use waypost_identity::{CopyRequest, Keyring, SigningKey};
use waypost_mail::Attr;
use waypost_scenarios::{Door, Home};

use crate::python::python;
use crate::says::Says;

/// Signs what comes on standard input as `DOMAIN` unless that is `-`, sends it, and says what came of it.
const SEND: &str = r#"
import smtplib, sys, dkim
port, domain, key, sender, *login = sys.argv[1:]
message = sys.stdin.buffer.read()
if domain != "-":
    message = dkim.sign(message, b"s", domain.encode(), open(key, "rb").read()) + message
with smtplib.SMTP("127.0.0.1", int(port), local_hostname="peer.sender.example", timeout=60) as client:
    try:
        if login:
            client.login(*login)
        client.sendmail(sender, ["b@inside.example"], message)
        print("sent")
    except smtplib.SMTPResponseException as refused:
        print(refused.smtp_code, refused.smtp_error.decode())
"#;

/// Reads every Authentication-Results with authres.
const READ: &str = r#"
import email, sys, authres
message = email.message_from_bytes(sys.stdin.buffer.read())
for field in message.get_all("Authentication-Results", []):
    read = authres.AuthenticationResultsHeader.parse("Authentication-Results: " + field)
    print(read.authserv_id, *(f"{result.method}={result.result}" for result in read.results))
"#;

const ZONE: &str = r#"
$ORIGIN sender.example.
@      TXT "v=spf1 ip4:127.0.0.1 -all"
_dmarc TXT "v=DMARC1; p=reject"
$ORIGIN strict.example.
@      TXT "v=spf1 -all"
_dmarc TXT "v=DMARC1; p=reject"
$ORIGIN careful.example.
_dmarc TXT "v=DMARC1; p=quarantine"
"#;

struct World {
    zone: Zone,
    key: GeneratedKey,
    directory: tempfile::TempDir,
    upstream: Upstream,
}

impl World {
    async fn new() -> World {
        let key = generate(Algorithm::Rsa2048).unwrap();
        let record = dns_record("s", "sender.example", key.public()).unwrap();
        let zone = ZONE.replacen("\n@ ", &format!("\n{}@ ", record.zone_text), 1);
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("key"), key.private_pem()).unwrap();
        World { zone: Zone::serve(&zone).await, key, directory, upstream: Upstream::new() }
    }

    async fn home(&self) -> Home {
        let home = Home::new().dns(self.zone.addr, 25).set("verify", "mail", "\"strangers\"");
        home.route("*", self.upstream.listen().await.unwrap())
    }

    async fn send(
        &self,
        to: SocketAddr,
        signer: &str,
        sender: &str,
        login: &[&str],
        message: &str,
    ) -> String {
        let key = self.directory.path().join("key").display().to_string();
        let port = to.port().to_string();
        let arguments = [&["-c", SEND, &port, signer, &key, sender][..], login].concat();
        run(&arguments, message.as_bytes()).await
    }

    fn signing_key(&self) -> SigningKey {
        SigningKey::from_pem(self.key.private_pem().as_bytes()).unwrap()
    }
}

async fn run(arguments: &[&str], input: &[u8]) -> String {
    let mut command = Command::new(python());
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
    let input = input.to_vec();
    let ended = tokio::task::spawn_blocking(move || {
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(&input).unwrap();
        child.wait_with_output().unwrap()
    });
    String::from_utf8(ended.await.unwrap().stdout).unwrap().trim().to_owned()
}

fn message(author: &str) -> String {
    format!(
        "From: A <{author}>\r\nTo: b@inside.example\r\nSubject: s\r\n\
         Date: Mon, 23 Nov 2026 18:41:00 +0000\r\nMessage-ID: <1@a>\r\n\r\nThe  text.\r\n \r\n"
    )
}

/// The names of a message's fields, in order.
fn names(content: &str) -> Vec<&str> {
    let header = content.split("\r\n\r\n").next().unwrap();
    let lines = header.split("\r\n").filter(|line| !line.starts_with([' ', '\t']));
    lines.map(|line| line.split(':').next().unwrap()).collect()
}

#[tokio::test]
async fn what_was_found_is_told_once_and_nobody_else_says_it_for_us() {
    let world = World::new().await;
    let told: Arc<Mutex<Vec<Attr>>> = Arc::default();
    let hears = told.clone();
    let policy = Says::new().of_a_message(move |view| {
        *hears.lock().unwrap() = view.transaction.meta.to_vec();
        MessageAnswer::default()
    });
    let home = world.home().await.hooks(policy.ready());
    let relay = home.start().await;
    let forged = "Authentication-Results: mx.elsewhere.example; dmarc=pass header.from=a.example\r\n\
        AUTHENTICATION-results: (x) \"Relay.Example\"\r\n 1; dmarc=pass header.from=sender.example\r\n";
    let text = format!("{forged}{}", message("a@sender.example"));
    let to = relay.address(Door::Relay);
    let said = world.send(to, "sender.example", "a@sender.example", &[], &text).await;
    assert_eq!(said, "sent");
    relay.empty().await;
    let content = world.upstream.mails().pop().unwrap().content;
    let expected =
        ["Received", "Authentication-Results", "DKIM-Signature", "Authentication-Results"];
    assert_eq!(names(&content)[..4], expected, "{content}");
    let read = run(&["-c", READ], content.as_bytes()).await;
    let lines: Vec<&str> = read.lines().collect();
    let ours = "relay.example spf=pass dkim=pass dmarc=pass arc=none iprev=pass";
    assert_eq!(lines, [ours, "mx.elsewhere.example dmarc=pass"], "{content}");
    let told = told.lock().unwrap().clone();
    let fact =
        |name: &str| told.iter().find(|fact| fact.name == name).map(|fact| fact.value.as_str());
    assert_eq!(fact("verify/dmarc"), Some("pass"));
    assert_eq!(fact("verify/dkim.domains"), Some("sender.example"));
    assert_eq!(fact("verify/dmarc.policy"), Some("reject"));
    // The resolver answers for loopback itself.
    assert_eq!(fact("verify/iprev.name"), Some("localhost"));
    let counted = "waypost_verified_total{method=\"dmarc\",result=\"pass\"}";
    assert_eq!(relay.counter(counted).await, 1);
}

#[tokio::test]
async fn what_fails_is_told_and_goes_on_unless_the_configuration_says_otherwise() {
    let world = World::new().await;
    let home = world.home().await;
    let relay = home.start().await;
    let to = relay.address(Door::Relay);
    let said = world.send(to, "-", "a@strict.example", &[], &message("a@strict.example")).await;
    assert_eq!(said, "sent");
    relay.empty().await;
    let content = world.upstream.mails().pop().unwrap().content;
    let read = run(&["-c", READ], content.as_bytes()).await;
    assert_eq!(read, "relay.example spf=fail dkim=none dmarc=fail arc=none iprev=pass");
}

#[tokio::test]
async fn what_fails_is_refused_or_held_as_its_domain_asks() {
    let world = World::new().await;
    let home = world.home().await.set("verify", "dmarc-fail", "\"refuse\"");
    let relay = home.start().await;
    let to = relay.address(Door::Relay);
    let send =
        async |sender: &str, author: &str| world.send(to, "-", sender, &[], &message(author)).await;
    let refused = send("a@strict.example", "a@strict.example").await;
    assert!(refused.starts_with("550 5.7.26 "), "{refused}");
    let two = format!("From: x@sender.example\r\n{}", message("a@strict.example"));
    let refused = world.send(to, "-", "a@sender.example", &[], &two).await;
    assert!(refused.starts_with("550 5.7.26 "), "{refused}");
    assert_eq!(send("a@sender.example", "a@careful.example").await, "sent");
    let held = relay.queued();
    assert_eq!(held.len(), 1, "{held:?}");
    assert_eq!(relay.overview().await.queue.held, 1);
    // What DNS does not say now is no failure.
    world.zone.fault("_dmarc.strict.example", "TXT", Fault::ServFail);
    assert_eq!(send("a@strict.example", "a@strict.example").await, "sent");
}

#[tokio::test]
async fn users_are_not_verified_and_bring_no_results_of_ours() {
    let world = World::new().await;
    let home = world.home().await.users().set("verify", "spf-fail", "\"refuse\"");
    let relay = home.start().await;
    let mut peer = relay.peer(Door::Submissions).await;
    peer.hello().await;
    peer.login().await;
    peer.envelope("a@strict.example", &["b@inside.example"]).await;
    let text = format!(
        "Authentication-Results: relay.example; spf=pass\r\n{}",
        message("a@strict.example")
    );
    assert!(peer.data(text).await.starts_with("250"));
    relay.empty().await;
    let content = world.upstream.mails().pop().unwrap().content;
    assert!(!content.contains("Authentication-Results"), "{content}");
    assert_eq!(world.zone.asked("strict.example", "TXT"), 0);
}

#[tokio::test]
async fn a_seal_is_put_on_where_it_is_asked_for() {
    let world = World::new().await;
    let key = world.directory.path().join("seal");
    std::fs::write(&key, world.key.private_pem()).unwrap();
    std::fs::set_permissions(&key, Permissions::from_mode(0o600)).unwrap();
    let home = world
        .home()
        .await
        .set("keys", "main", &format!("{{ file = {:?} }}", key.display().to_string()))
        .set("verify", "seal", "{ key = \"main\", domain = \"sender.example\", selector = \"s\" }");
    let relay = home.start().await;
    let to = relay.address(Door::Relay);
    let text = message("a@sender.example");
    let said = world.send(to, "sender.example", "a@sender.example", &[], &text).await;
    assert_eq!(said, "sent");
    relay.empty().await;
    let content = world.upstream.mails().pop().unwrap().content;
    let expected = [
        "Received",
        "ARC-Seal",
        "ARC-Message-Signature",
        "ARC-Authentication-Results",
        "Authentication-Results",
        "DKIM-Signature",
    ];
    assert_eq!(names(&content)[..6], expected, "{content}");
    let record = dns_record("s", "sender.example", world.signing_key().public()).unwrap().value;
    const CHAIN: &str = "import sys, dkim\n\
        print(dkim.ARC(sys.stdin.buffer.read()).verify(dnsfunc=lambda n, timeout=5: sys.argv[1].encode())[0].decode())";
    assert_eq!(run(&["-c", CHAIN, &record], content.as_bytes()).await, "pass");
}

#[tokio::test]
async fn a_copy_is_signed_by_dkim2_where_it_is_asked_for() {
    let world = World::new().await;
    let ring = Keyring::from_iter([("main".to_owned(), world.signing_key())]);
    let request = CopyRequest {
        key: "main".to_owned(),
        domain: "sender.example".to_owned(),
        selector: "s".to_owned(),
    };
    let home = world.home().await.amended(move |settings| {
        let signing = ring.clone().with_copy_signers(std::slice::from_ref(&request));
        settings.reload.keys = signing.unwrap();
    });
    let relay = home.start().await;
    let to = relay.address(Door::Relay);
    for sender in ["a@sender.example", "a@careful.example"] {
        assert_eq!(world.send(to, "-", sender, &[], &message(sender)).await, "sent");
    }
    relay.empty().await;
    let mails = world.upstream.mails();
    let of = |sender: &str| &mails.iter().find(|mail| mail.from == sender).unwrap().content;
    assert!(!of("a@careful.example").contains("DKIM2-Signature"));
    let content = of("a@sender.example");
    assert!(content.starts_with("DKIM2-Signature:"), "{content}");
    let config = Config { servers: vec![world.zone.addr], ..Config::default() };
    let verifier = MessageAuthenticator(Hickory::new(config).unwrap().beneath());
    let parsed = AuthenticatedMessage::parse(content.as_bytes()).unwrap();
    let envelope = Envelope::new("a@sender.example", ["b@inside.example"]);
    let output = verifier.verify_dkim2(&parsed, envelope).await;
    assert_eq!(output.result(), &Dkim2Result::Pass, "{content}");
}
