//! What a submitter wants to hear of its message (RFC 3461) is passed on to Postfix, which then tells
//! it itself; or Postfix does not know how, and we tell that it was passed on.

use std::fs;
use std::net::SocketAddr;

use waypost_harness::upstream::{Mail, Upstream};
use waypost_scenarios::{Door, Home, Running, eventually};
use waypost_smtp::server::Offers;

use crate::postfix::Postfix;
use crate::program::run;

/// A foreign submitter, with every parameter of the extension.
const SCRIPT: &str = r#"
import smtplib, sys
kind, port, recipient, mail, rcpt = sys.argv[1:]
client = {"SMTP": smtplib.SMTP, "LMTP": smtplib.LMTP}[kind]("127.0.0.1", int(port), local_hostname="peer.example")
client.ehlo_or_helo_if_needed()
assert client.has_extn("dsn")
print(client.mail("a@sender.example", mail.split()))
print(client.rcpt(recipient, rcpt.split()))
print(client.data("Subject: told\r\nMessage-ID: <told@sender.example>\r\n\r\nThe text.\r\n"))
client.quit()
"#;

/// Postfix with one mailbox, for which all other mail goes back to where our notices go.
async fn postfix(senders: &Upstream, more: &str) -> Postfix {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().display();
    let back = senders.listen().await.unwrap();
    let lines = format!(
        "virtual_mailbox_domains = dest.example\n\
         virtual_mailbox_base = {place}/mail\n\
         virtual_mailbox_maps = inline:{{ {{ b@dest.example = b/ }} }}\n\
         virtual_minimum_uid = 1\n\
         virtual_uid_maps = static:65534\n\
         virtual_gid_maps = static:65534\n\
         smtpd_relay_restrictions = permit_mynetworks, reject_unauth_destination\n\
         relayhost = [127.0.0.1]:{}\n{more}",
        back.port()
    );
    fs::create_dir(directory.path().join("mail")).unwrap();
    std::os::unix::fs::chown(directory.path().join("mail"), Some(65534), Some(65534)).unwrap();
    Postfix::start(directory, &lines).await
}

async fn relay(postfix: &Postfix, senders: &Upstream) -> Running {
    relay_by(postfix, senders, "").await
}

async fn relay_by(postfix: &Postfix, senders: &Upstream, line: &str) -> Running {
    let (ip, port) = (postfix.address.ip(), postfix.address.port());
    let route = format!("via = [{{ host = \"{ip}\", port = {port} }}]\n{line}");
    Home::new()
        .trusting()
        .door(Door::Lmtp)
        .route_as("dest.example", &route)
        .route("*", senders.listen().await.unwrap())
        .start()
        .await
}

async fn submit(relay: &Running, door: Door, mail: &str, rcpt: &str) {
    let kind = if door == Door::Lmtp { "LMTP" } else { "SMTP" };
    let port = relay.address(door).port().to_string();
    let arguments = ["-c", SCRIPT, kind, port.as_str(), "b@dest.example", mail, rcpt];
    let ended = run("python3", "/usr/bin/python3", &arguments, "").await;
    assert!(ended.success, "{}", ended.said);
    assert_eq!(ended.said.matches("(250, ").count(), 3, "{}", ended.said);
}

/// The only thing that came back.
async fn told(relay: &Running, senders: &Upstream) -> Mail {
    relay.empty().await;
    eventually("the notice", || !senders.mails().is_empty()).await;
    let mails = senders.mails();
    assert_eq!(mails.len(), 1, "{mails:?}");
    assert_eq!((mails[0].from.as_str(), &mails[0].to[..]), ("", &["a@sender.example".into()][..]));
    mails.into_iter().next().unwrap()
}

#[tokio::test]
async fn itself_where_it_knows_the_extension() {
    for door in [Door::Relay, Door::Lmtp] {
        let senders = Upstream::new();
        let postfix = postfix(&senders, "").await;
        let relay = relay(&postfix, &senders).await;
        let rcpt = "NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;Bob+2Bx@first.example";
        submit(&relay, door, "RET=HDRS ENVID=QQ314+2B", rcpt).await;
        let text = told(&relay, &senders).await.content.replace("\r\n ", " ");
        for part in [
            "Reporting-MTA: dns; postfix.example\r\n",
            "Original-Envelope-Id: QQ314+\r\n",
            "Original-Recipient: rfc822;Bob+x@first.example\r\n",
            "Final-Recipient: rfc822; b@dest.example\r\n",
            "Action: delivered\r\nStatus: 2.0.0\r\n",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(text.contains("Subject: told") && !text.contains("The text."), "{text}");
        relay.stop().await;
    }
}

#[tokio::test]
async fn or_we_tell_that_it_was_passed_on() {
    for (door, notify, wanted) in [
        (Door::Relay, "NOTIFY=SUCCESS", true),
        (Door::Lmtp, "NOTIFY=SUCCESS,DELAY", true),
        (Door::Relay, "NOTIFY=FAILURE", false),
        (Door::Relay, "NOTIFY=NEVER", false),
    ] {
        let senders = Upstream::new();
        let postfix = postfix(&senders, "smtpd_discard_ehlo_keywords = dsn\n").await;
        let relay = relay(&postfix, &senders).await;
        let rcpt = format!("{notify} ORCPT=rfc822;Bob@first.example");
        submit(&relay, door, "RET=FULL ENVID=QQ315", &rcpt).await;
        postfix.logs("status=sent (delivered to maildir)").await;
        if !wanted {
            relay.empty().await;
            assert!(senders.mails().is_empty(), "{notify}");
            relay.stop().await;
            continue;
        }
        let text = told(&relay, &senders).await.content.replace("\r\n ", " ");
        for part in [
            "Reporting-MTA: dns; relay.example\r\n",
            "Original-Envelope-Id: QQ315\r\n",
            "Original-Recipient: rfc822; Bob@first.example\r\n",
            "Action: relayed\r\nStatus: 2.1.9\r\n",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains("The text."), "what was delivered does not come back: {text}");
        relay.stop().await;
    }
}

/// RFC 8689: TLS and a certificate that is known are not enough, the host must promise the same.
#[tokio::test]
async fn nor_what_it_does_not_promise() {
    let home = Home::new().users().trusting();
    let directory = tempfile::tempdir().unwrap();
    let (chain, key) = home.authority().pair(&["127.0.0.1"]).unwrap();
    fs::write(directory.path().join("chain"), chain).unwrap();
    fs::write(directory.path().join("key"), key).unwrap();
    let place = directory.path().display();
    let lines = format!(
        "smtpd_tls_security_level = encrypt\n\
         smtpd_tls_cert_file = {place}/chain\n\
         smtpd_tls_key_file = {place}/key\n\
         smtpd_relay_restrictions = permit_mynetworks, reject\n\
         smtpd_discard_ehlo_keywords = requiretls\n"
    );
    let postfix = Postfix::start(directory, &lines).await;
    let senders = Upstream::new()
        .with_tls(home.authority().server("127.0.0.1").unwrap())
        .offering(Offers { require_tls: true, ..Offers::default() });
    let route = |to: SocketAddr| {
        let (ip, port) = (to.ip(), to.port());
        format!("via = [{{ host = \"{ip}\", port = {port} }}]\ntls = \"verify\"\n")
    };
    let authority = home.authority_file().display().to_string();
    let home = home
        .set("tls", "ca-file", &format!("{authority:?}"))
        .route_as("dest.example", &route(postfix.address))
        .route_as("*", &route(senders.listen().await.unwrap()));
    let relay = home.start().await;
    let mut peer = relay.peer(Door::Relay).await;
    peer.hello().await;
    let mut peer = peer.starttls(&home.roots()).await;
    peer.expect("MAIL FROM:<a@sender.example> REQUIRETLS", "250").await;
    peer.expect("RCPT TO:<b@dest.example>", "250").await;
    peer.data("Subject: x\r\n\r\ny\r\n").await;
    let text = told(&relay, &senders).await.content;
    assert!(text.contains("\r\nAction: failed\r\nStatus: 5.7.30\r\n"), "{text}");
    assert!(senders.heard().contains(" REQUIRETLS\r\n"), "{}", senders.heard());
    assert!(!postfix.log().contains("from=<a@sender.example>"), "{}", postfix.log());
    relay.stop().await;
}

/// What Postfix does not offer is not asked of it, and the mail comes back where it is not converted.
#[tokio::test]
async fn but_not_what_it_cannot_keep() {
    let senders = Upstream::new();
    let postfix = postfix(&senders, "smtpd_discard_ehlo_keywords = chunking\n").await;
    let relay = relay_by(&postfix, &senders, "convert = \"never\"\n").await;
    let mut peer = relay.peer(Door::Relay).await;
    peer.hello().await;
    peer.expect("MAIL FROM:<a@sender.example> BODY=BINARYMIME RET=FULL", "250").await;
    peer.expect("RCPT TO:<b@dest.example>", "250").await;
    let content = b"Subject: x\r\n\r\n\0one\ntwo\xff";
    let chunk = [format!("BDAT {} LAST\r\n", content.len()).as_bytes(), content].concat();
    peer.send(chunk).await;
    peer.hear("250 2.0.0").await;
    let text = told(&relay, &senders).await.content;
    assert!(text.contains("\r\nAction: failed\r\nStatus: 5.6.3\r\n"), "{text}");
    assert!(text.contains("Content-Type: message/global\r\n") && text.is_ascii(), "{text}");
    assert!(!postfix.log().contains("from=<a@sender.example>"), "{}", postfix.log());
    relay.stop().await;
}
