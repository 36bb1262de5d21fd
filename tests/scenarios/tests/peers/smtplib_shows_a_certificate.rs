//! Python's smtplib logs in by the certificate of its channel (EXTERNAL), for as long as somebody vouches for
//! it: files of authorities and of what they revoked are read again when they change.

use std::fs;

use tokio::time::Instant;
use waypost_harness::authority::Authority;
use waypost_scenarios::{Door, Home, PATIENCE, Running};

use crate::program::run;

const SCRIPT: &str = r#"
import smtplib, ssl, sys
port, authority, chain, key = sys.argv[1:]
context = ssl.create_default_context(cafile=authority)
context.load_cert_chain(chain, key)
class Client(smtplib.SMTP):
    # The certificate is for a name, the port is on loopback.
    def _get_socket(self, host, port, timeout):
        return super()._get_socket("127.0.0.1", port, timeout)
client = Client("relay.example", int(port), local_hostname="peer.example", timeout=20)
client.starttls(context=context)
client.ehlo()
if "EXTERNAL" not in client.esmtp_features["auth"].split():
    print("not offered")
    sys.exit()
print("in", client.auth("EXTERNAL", lambda challenge=None: "printer"))
print(client.docmd("MAIL FROM:<printer@example.org>"))
client.quit()
"#;

/// A home that asks for certificates, perhaps with a list of those that are revoked.
fn home(revokes: bool) -> Home {
    let home = Home::new().users().set("tls", "look-at-files", "\"100ms\"");
    let file = home.path("clients.pem");
    fs::write(&file, home.authority().pem()).unwrap();
    let logins = "[{ certificate = \"printer.example.org\", user = \"printer\" }]";
    let list = home.path("clients.crl");
    let list = if revokes { format!(", crl-file = {list:?}") } else { String::new() };
    home.doors_say(&format!("client-certificates = {{ mode = \"ask\", ca-file = {file:?}{list} }}"))
        .set("auth", "certificate", logins)
}

/// A certificate of the printer, kept under this name.
fn identity(home: &Home, authority: &Authority, serial: u64, name: &str) {
    let (chain, key) = authority.numbered(serial, &["printer.example.org"]).unwrap();
    fs::write(home.path(&format!("{name}.crt")), chain).unwrap();
    fs::write(home.path(&format!("{name}.key")), key).unwrap();
}

/// True when who shows this certificate is in; false when the mechanism is not offered.
async fn is_in(home: &Home, relay: &Running, name: &str) -> bool {
    let port = relay.address(Door::Submission).port().to_string();
    let file = |end| home.path(&format!("{name}.{end}")).display().to_string();
    let (authority, own, key) =
        (home.authority_file().display().to_string(), file("crt"), file("key"));
    let arguments = ["-c", SCRIPT, &port, &authority, &own, &key];
    let ended = run("python3", "/usr/bin/python3", &arguments, "").await;
    assert!(ended.success, "{}", ended.said);
    let is_in = ended.said.contains("in (235, ") && ended.said.contains("(250, ");
    assert!(is_in || ended.said.contains("not offered"), "{}", ended.said);
    is_in
}

async fn becomes(home: &Home, relay: &Running, name: &str, wanted: bool) {
    let began = Instant::now();
    while is_in(home, relay, name).await != wanted {
        assert!(began.elapsed() < PATIENCE, "{name} is not {wanted}");
    }
}

#[tokio::test]
async fn and_is_in_while_its_authority_is_listed() {
    let home = home(false);
    let other = Authority::new().unwrap();
    identity(&home, home.authority(), 1, "first");
    identity(&home, &other, 1, "second");
    let relay = home.start().await;
    assert!(is_in(&home, &relay, "first").await);
    assert!(!is_in(&home, &relay, "second").await);
    let mut idle = relay.peer(Door::Submission).await;
    // Half a file changes nothing.
    let whole = other.pem();
    fs::write(home.path("clients.pem"), &whole[..whole.len() / 2]).unwrap();
    assert!(is_in(&home, &relay, "first").await);
    fs::write(home.path("clients.pem"), whole).unwrap();
    becomes(&home, &relay, "second", true).await;
    assert!(!is_in(&home, &relay, "first").await);
    idle.expect("NOOP", "250").await;
    relay.stop().await;
}

#[tokio::test]
async fn and_is_not_when_it_is_revoked() {
    let home = home(true);
    let list = home.path("clients.crl");
    let revoke = |serials: &[u64], until| {
        fs::write(&list, home.authority().revoking(serials, until).unwrap()).unwrap();
    };
    revoke(&[1], 2100);
    identity(&home, home.authority(), 1, "first");
    identity(&home, home.authority(), 2, "second");
    let relay = home.start().await;
    assert!(!is_in(&home, &relay, "first").await);
    assert!(is_in(&home, &relay, "second").await);
    revoke(&[1, 2], 2100);
    becomes(&home, &relay, "second", false).await;
    revoke(&[], 2100);
    becomes(&home, &relay, "first", true).await;
    // An outdated list tells nothing.
    revoke(&[], 2021);
    becomes(&home, &relay, "first", false).await;
    relay.stop().await;
}
