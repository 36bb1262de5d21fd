//! Postfix is the next hop of a route for cut-through: swaks hears what Postfix says.

use std::fs;

use waypost_harness::upstream::Upstream;
use waypost_scenarios::{Door, Home, eventually};

use crate::postfix::Postfix;
use crate::program::run;

#[tokio::test]
async fn of_a_mailbox_that_is_there_and_of_one_that_is_not() {
    let senders = Upstream::new();
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().display();
    let lines = format!(
        "virtual_mailbox_domains = dest.example\n\
         virtual_mailbox_base = {place}/mail\n\
         virtual_mailbox_maps = inline:{{ {{ b@dest.example = b/ }} }}\n\
         virtual_minimum_uid = 1\n\
         virtual_uid_maps = static:65534\n\
         virtual_gid_maps = static:65534\n\
         smtpd_relay_restrictions = reject_unauth_destination\n"
    );
    fs::create_dir(directory.path().join("mail")).unwrap();
    std::os::unix::fs::chown(directory.path().join("mail"), Some(65534), Some(65534)).unwrap();
    let postfix = Postfix::start(directory, &lines).await;
    let (ip, port) = (postfix.address.ip(), postfix.address.port());
    let route = format!("via = [{{ host = \"{ip}\", port = {port} }}]\ncut-through = true\n");
    let home = Home::new()
        .trusting()
        .route_as("dest.example", &route)
        .route("*", senders.listen().await.unwrap());
    let relay = home.start().await;
    let server = relay.address(Door::Relay).to_string();
    let swaks = async |to: &str| {
        let arguments =
            ["--server", &server, "--from", "a@sender.example", "--to", to, "--timeout", "60"];
        run("swaks", "swaks", &arguments, "").await
    };

    let taken = swaks("b@dest.example").await;
    assert!(taken.success, "{}", taken.said);
    // It says how many octets came by BDAT.
    let words = format!("delivered to [{ip}]:{port}: Ok: ");
    assert!(taken.said.contains(&words) && taken.said.contains("queued as "), "{}", taken.said);
    postfix.logs("status=sent (delivered to maildir)").await;
    let inbox = postfix.path("mail/b/new");
    eventually("it is in the mailbox", || {
        fs::read_dir(&inbox).is_ok_and(|mut all| all.next().is_some())
    })
    .await;

    let refused = swaks("nobody@dest.example").await;
    assert!(!refused.success, "{}", refused.said);
    let words = format!(": [{ip}]:{port} said: <nobody@dest.example>: Recipient address rejected");
    assert!(
        refused.said.contains("550 5.1.1 ") && refused.said.contains(&words),
        "{}",
        refused.said
    );

    // Both at once have different fates, and a notice tells of one.
    let both = swaks("b@dest.example,nobody@dest.example").await;
    assert!(both.success && both.said.contains("OK queued as"), "{}", both.said);
    relay.empty().await;
    eventually("the sender is told", || !senders.mails().is_empty()).await;
    assert_eq!(senders.mails().len(), 1);
    let notice = senders.mails().pop().unwrap().content;
    assert!(notice.contains("nobody@dest.example"), "{notice}");
    assert_eq!(relay.counter("waypost_queue_committed_total").await, 1, "the other two never were");
    relay.stop().await;
}
