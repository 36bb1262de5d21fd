//! Python's smtplib submits with STARTTLS and a login, and believes the certificate.

use waypost_harness::upstream::Upstream;
use waypost_scenarios::{Door, Home, PASSWORD, USER};

use crate::program::run;

const SCRIPT: &str = r#"
import smtplib, ssl, sys
port, authority, user, password = sys.argv[1:]
class Client(smtplib.SMTP):
    # The certificate is for a name, the port is on loopback.
    def _get_socket(self, host, port, timeout):
        return super()._get_socket("127.0.0.1", port, timeout)
client = Client("relay.example", int(port), local_hostname="peer.example", timeout=20)
client.starttls(context=ssl.create_default_context(cafile=authority))
try:
    client.login(user, "wrong")
except smtplib.SMTPAuthenticationError as refused:
    print("refused", refused.smtp_code, refused.smtp_error.decode())
client.login(user, password)
content = "Subject: caf\u00e9\r\nFrom: a@sender.example\r\n\r\n.dot\r\ncaf\u00e9\r\n".encode()
refused = client.sendmail("a@sender.example", ["b@dest.example", "c@dest.example"], content,
                          mail_options=["BODY=8BITMIME", "SMTPUTF8"])
print("sent", refused)
client.quit()
"#;

#[tokio::test]
async fn with_starttls_and_a_login() {
    let upstream = Upstream::new();
    let home = Home::new().users().route("*", upstream.listen().await.unwrap());
    let relay = home.start().await;
    let port = relay.address(Door::Submission).port().to_string();
    let authority = home.authority_file().display().to_string();
    let arguments = ["-c", SCRIPT, port.as_str(), authority.as_str(), USER, PASSWORD];
    let ended = run("python3", "/usr/bin/python3", &arguments, "").await;
    assert!(ended.success, "{}", ended.said);
    assert!(ended.said.contains("refused 535 5.7.8 "), "{}", ended.said);
    assert!(ended.said.contains("sent {}"), "{}", ended.said);
    relay.empty().await;
    let mail = upstream.mails().pop().unwrap();
    assert_eq!(mail.to, ["b@dest.example", "c@dest.example"]);
    let unfolded = mail.content.replace("\r\n ", " ");
    assert!(unfolded.contains(" with UTF8SMTPSA id "), "{unfolded}");
    assert!(unfolded.contains(" (using TLSv1.3 with cipher TLS_"), "{unfolded}");
    let rest = "Subject: caf\u{e9}\r\nFrom: a@sender.example\r\n\r\n.dot\r\ncaf\u{e9}\r\n";
    assert!(mail.content.ends_with(rest), "{}", mail.content);
}
