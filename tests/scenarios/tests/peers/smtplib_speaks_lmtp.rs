//! Python's smtplib delivers by LMTP, over TCP and over a Unix socket.

use waypost_harness::upstream::Upstream;
use waypost_scenarios::{Door, Home};

use crate::program::run;

const SCRIPT: &str = r#"
import smtplib, sys
host, port = sys.argv[1:]
client = smtplib.LMTP(host, int(port), local_hostname="peer.example")
print("offers", client.has_extn("pipelining"))
content = "Subject: hi\r\n\r\n.dot\r\n"
refused = client.sendmail("a@sender.example", ["b@inside.example", "c@far.example"], content)
print("refused", refused)
client.quit()
"#;

#[tokio::test]
async fn over_tcp() {
    let upstream = Upstream::new();
    let home = Home::new().door(Door::Lmtp).route("*", upstream.listen().await.unwrap());
    let relay = home.start().await;
    let port = relay.address(Door::Lmtp).port().to_string();
    let arguments = ["-c", SCRIPT, "127.0.0.1", port.as_str()];
    let ended = run("python3", "/usr/bin/python3", &arguments, "").await;
    assert!(ended.success, "{}", ended.said);
    assert!(ended.said.contains("refused {'c@far.example': (550, b'5.7.1 "), "{}", ended.said);
    relay.empty().await;
    let mail = upstream.mails().pop().unwrap();
    assert_eq!(mail.to, ["b@inside.example"]);
    assert!(mail.content.ends_with("Subject: hi\r\n\r\n.dot\r\n"), "{}", mail.content);
    relay.stop().await;
}

/// Who may write to the socket is known, and may send to anybody.
#[tokio::test]
async fn over_a_unix_socket() {
    let upstream = Upstream::new();
    let home = Home::new().lmtp_socket().route("*", upstream.listen().await.unwrap());
    let relay = home.start().await;
    let socket = home.local_socket().display().to_string();
    let ended = run("python3", "/usr/bin/python3", &["-c", SCRIPT, &socket, "0"], "").await;
    assert!(ended.success, "{}", ended.said);
    assert!(ended.said.contains("refused {}"), "{}", ended.said);
    relay.empty().await;
    let mail = upstream.mails().pop().unwrap();
    assert_eq!(mail.to, ["b@inside.example", "c@far.example"]);
    assert!(mail.content.replace("\r\n ", " ").contains(" with LMTPA id "), "{}", mail.content);
    relay.stop().await;
}
