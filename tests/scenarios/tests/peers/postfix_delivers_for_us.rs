//! Postfix is the next hop: it puts mail into a mailbox, and refuses recipients it does not know.

use std::fs;

use waypost_harness::upstream::Upstream;
use waypost_scenarios::{Door, Home, eventually};

use crate::postfix::Postfix;

#[tokio::test]
async fn into_a_mailbox_and_back_to_the_sender() {
    let senders = Upstream::new();
    let home = Home::new().trusting();
    let directory = tempfile::tempdir().unwrap();
    // The certificate is for the address, because that is what the route names.
    let (chain, key) = home.authority().pair(&["127.0.0.1"]).unwrap();
    fs::write(directory.path().join("chain"), chain).unwrap();
    fs::write(directory.path().join("key"), key).unwrap();
    let place = directory.path().display();
    let lines = format!(
        "virtual_mailbox_domains = dest.example\n\
         virtual_mailbox_base = {place}/mail\n\
         virtual_mailbox_maps = inline:{{ {{ b@dest.example = b/ }} }}\n\
         virtual_minimum_uid = 1\n\
         virtual_uid_maps = static:65534\n\
         virtual_gid_maps = static:65534\n\
         smtpd_relay_restrictions = reject_unauth_destination\n\
         smtpd_tls_security_level = encrypt\n\
         smtpd_tls_loglevel = 1\n\
         smtpd_tls_cert_file = {place}/chain\n\
         smtpd_tls_key_file = {place}/key\n"
    );
    fs::create_dir(directory.path().join("mail")).unwrap();
    std::os::unix::fs::chown(directory.path().join("mail"), Some(65534), Some(65534)).unwrap();
    let postfix = Postfix::start(directory, &lines).await;

    let (ip, port) = (postfix.address.ip(), postfix.address.port());
    let route = format!("via = [{{ host = \"{ip}\", port = {port} }}]\ntls = \"verify\"\n");
    let authority = home.authority_file().display().to_string();
    let home = home
        .set("tls", "ca-file", &format!("{authority:?}"))
        .route_as("dest.example", &route)
        .route("*", senders.listen().await.unwrap());
    let relay = home.start().await;
    let mut peer = relay.peer(Door::Relay).await;
    peer.hello().await;
    let content =
        "Subject: to Postfix\r\n\r\n.\r\n..dots\r\ncaf\u{e9}\r\n".replace("\r\n.", "\r\n..");
    peer.deliver("a@sender.example", &["b@dest.example", "nobody@dest.example"], &content).await;
    relay.empty().await;
    postfix.logs("status=sent (delivered to maildir)").await;
    // It says so when the connection ends: the message came by BDAT, since CHUNKING is offered.
    postfix.logs(" bdat=1 ").await;

    let inbox = postfix.path("mail/b/new");
    eventually("it is in the mailbox", || {
        fs::read_dir(&inbox).is_ok_and(|mut all| all.next().is_some())
    })
    .await;
    let mail = fs::read_dir(&inbox).unwrap().next().unwrap().unwrap();
    let mail = fs::read_to_string(mail.path()).unwrap();
    assert!(mail.contains("\nSubject: to Postfix\n"), "{mail}");
    assert!(mail.ends_with("\n\n.\n..dots\ncaf\u{e9}\n"), "{mail}");
    assert!(mail.contains("Received: from relay.example "), "{mail}");
    assert!(mail.contains(" with ESMTPS id "), "{mail}");

    assert_eq!(senders.mails().len(), 1);
    let notice = senders.mails().pop().unwrap();
    assert_eq!((notice.from.as_str(), notice.to), ("", vec!["a@sender.example".to_owned()]));
    let text = notice.content.replace("\r\n ", " ");
    assert!(text.contains("Final-Recipient: rfc822; nobody@dest.example\r\n"), "{text}");
    assert!(text.contains("\r\nAction: failed\r\nStatus: 5.1.1\r\n"), "{text}");
    assert!(text.contains("Diagnostic-Code: smtp; 550 5.1.1 <nobody@dest.example>"), "{text}");
    assert!(!text.contains("Final-Recipient: rfc822; b@dest.example"), "{text}");
}
