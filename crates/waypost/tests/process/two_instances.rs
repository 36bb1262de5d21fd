//! One spool serves one program.

use waypost_harness::upstream::Upstream;

use crate::daemon::{Home, text};

#[tokio::test(flavor = "multi_thread")]
async fn the_second_is_refused_and_the_first_goes_on() {
    let upstream = Upstream::new();
    let hop = upstream.listen().await.unwrap();
    let home = Home::new(hop, "");
    let first = home.start();

    let same_socket = home.command(&["run"]);
    assert_eq!(same_socket.status.code(), Some(1), "{}", text(&same_socket.stderr));
    let said = text(&same_socket.stderr);
    assert!(said.contains("another waypost answers on"), "{said}");

    home.configure("second", &[("*", hop)], "");
    let same_spool = home.command_of("second", &["run"]);
    assert_eq!(same_spool.status.code(), Some(1), "{}", text(&same_spool.stderr));
    let said = text(&same_spool.stderr);
    let pid = home.json(&["status"])["pid"].to_string();
    assert!(said.contains(&format!("in use by process {pid}")), "{said}");

    first.peer().submit("a@peer.example", "b@there.example", "still here").unwrap();
    crate::daemon::until("the mail", || (upstream.mails().len() == 1).then_some(()));
}
