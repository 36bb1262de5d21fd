//! Messages of many shapes go to servers that take 7 bits only: Python reads the same parts, names and
//! subjects from what they got as from what was sent.

use std::path::Path;

use waypost_scenarios::{Door, Home};

use crate::aiosmtpd::{Aiosmtpd, kept, stuffed};
use crate::postfix::Postfix;
use crate::program::run;
use crate::python::python;

/// Prints what differs between the message in the first file and its copy in the second.
const COMPARE: &str = r#"
import email, email.policy, sys
from email.header import decode_header, make_header
sent, got = (open(name, "rb").read() for name in sys.argv[1:])
assert got.isascii(), "not ASCII"
assert all(len(line) <= 998 for line in got.split(b"\r\n")), "long lines"
def leaves(raw):
    for part in email.message_from_bytes(raw).walk():
        if not part.is_multipart():
            yield part.get_content_type(), part.get_payload(decode=True)
def named(raw):
    text = raw.decode("utf-8", "surrogateescape")
    return [part.get_filename() for part in email.message_from_string(text, policy=email.policy.default).walk()]
def header(raw):
    text = raw.decode("utf-8", "surrogateescape")
    message = email.message_from_string(text, policy=email.policy.default)
    yield str(message["subject"])
    for name in ("from", "to", "cc"):
        for address in message[name].addresses if message[name] else ():
            yield address.display_name, address.username, address.domain.encode("idna")
for kind, see in (("leaf", leaves), ("name", named), ("header", header)):
    here, there = list(see(sent)), list(see(got))
    assert here == there, (kind, here, there)
print("the same")
"#;

const SHAPES: [&str; 8] = [
    "Subject: gr\u{fc}n\r\nFrom: \"J\u{fc}rgen M.\" <a@sender.example>\r\nTo: b@dest.example\r\n\
     MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\
     Content-Transfer-Encoding: 8bit\r\n\r\nGr\u{fc}\u{df}e \r\n.\r\n..\r\n-- \r\n=3D\t\r\n\r\n",
    "Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n\
     \u{4f60}\u{597d}\u{ff0c}\u{4e16}\u{754c}\u{3002}\u{4f60}\u{597d}\r\n",
    "Subject: mixed =?utf-8?q?h=C3=A4?= \u{fc}\r\nTo: Gr\u{fc}ppe: b@dest.example, c@dest.example;\r\n\
     MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=\"o o\"\r\n\r\npre\u{e4}mble\r\n--o o\r\n\
     Content-Type: multipart/alternative; boundary=i\r\n\r\n--i\r\n\
     Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n\u{fc}\r\n\r\n--i\r\n\
     Content-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n\
     <p>=C3=BC</p>\r\n--i--\r\n\r\n--o o\r\nContent-Type: application/octet-stream\r\n\
     Content-Disposition: attachment; filename=\"gr\u{fc}n und blau.bin\"\r\n\
     Content-Transfer-Encoding: 8bit\r\n\r\n\u{80}\u{90}\u{fc}\r\n\r\n\u{e4}\r\n--o o--\r\nepil\u{f6}gue\r\n",
    "Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=o\r\n\r\n--o\r\n\
     Content-Type: message/rfc822\r\n\r\nSubject: inner\r\nMIME-Version: 1.0\r\n\
     Content-Type: multipart/mixed; boundary=oo\r\n\r\n--oo\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n\
     inside \u{fc}\r\n--oo\r\n\r\nplain\r\n--oo--\r\n\r\n--o--\r\n",
    "Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: multipart/digest; boundary=d\r\n\r\n--d\r\n\r\n\
     Subject: one\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n\u{fc}\r\n\
     --d\r\n\r\nSubject: two\r\n\r\nplain\r\n--d--\r\n",
    "Subject: not closed\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=o\r\n\r\n--o\r\n\
     Content-Type: text/plain; charset=utf-8\r\n\r\n\u{fc}\r\n",
    "Subject: the outer delimiter ends the inner one\r\nMIME-Version: 1.0\r\n\
     Content-Type: multipart/mixed; boundary=o\r\n\r\n--o\r\n\
     Content-Type: multipart/mixed; boundary=i\r\n\r\n--i\r\n\
     Content-Type: text/plain; charset=utf-8\r\n\r\n\u{fc}\r\n--o\r\n\
     Content-Type: text/plain; charset=utf-8\r\n\r\n\u{e4}\r\n--o--\r\n",
    "Subject: unnamed\r\n\r\nraw \u{fc}\r\n",
];

async fn same(place: &Path, number: usize, sent: &str, got: &[u8]) {
    let [sent_at, got_at] = ["sent", "got"].map(|name| place.join(format!("{name}-{number}")));
    std::fs::write(&sent_at, sent).unwrap();
    std::fs::write(&got_at, got).unwrap();
    let (sent_at, got_at) = (sent_at.display().to_string(), got_at.display().to_string());
    let ended = run("python", &python(), &["-c", COMPARE, &sent_at, &got_at], "").await;
    let got = String::from_utf8_lossy(got);
    assert!(ended.success && ended.said.contains("the same"), "{number}: {}\n{got}", ended.said);
}

#[tokio::test]
async fn by_aiosmtpd() {
    let (directory, place) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let aiosmtpd = Aiosmtpd::of_seven_bits(directory.path());
    let relay = Home::new().trusting().route("*", aiosmtpd.address).start().await;
    let mut peer = relay.peer(Door::Relay).await;
    peer.hello().await;
    for (index, shape) in SHAPES.iter().enumerate() {
        peer.expect("MAIL FROM:<a@sender.example> SMTPUTF8 BODY=8BITMIME", "250").await;
        peer.expect("RCPT TO:<b@dest.example>", "250").await;
        let reply = peer.data(stuffed(shape.as_bytes())).await;
        assert!(reply.starts_with("250"), "{reply}");
        let got = kept(directory.path(), index + 1).await;
        same(place.path(), index, shape, &got).await;
    }
    relay.empty().await;
    relay.stop().await;
}

/// Postfix puts it into a mailbox as it came, and never had to convert anything itself.
#[tokio::test]
async fn by_a_postfix_that_lacks_everything() {
    let (directory, place) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mail = directory.path().join("mail");
    std::fs::create_dir(&mail).unwrap();
    std::os::unix::fs::chown(&mail, Some(65534), Some(65534)).unwrap();
    let lines = format!(
        "local_header_rewrite_clients =\n\
         virtual_mailbox_domains = dest.example\n\
         virtual_mailbox_base = {}\n\
         virtual_mailbox_maps = inline:{{ {{ b@dest.example = b/ }} }}\n\
         virtual_minimum_uid = 1\n\
         virtual_uid_maps = static:65534\n\
         virtual_gid_maps = static:65534\n\
         strict_7bit_headers = yes\n\
         disable_mime_output_conversion = yes\n\
         smtpd_discard_ehlo_keywords = 8bitmime, smtputf8, chunking\n",
        mail.display()
    );
    let postfix = Postfix::start(directory, &lines).await;
    let relay = Home::new().trusting().route("*", postfix.address).start().await;
    let mut peer = relay.peer(Door::Relay).await;
    peer.hello().await;
    let new = mail.join("b/new");
    let count = || std::fs::read_dir(&new).map_or(0, |files| files.count());
    for (index, shape) in SHAPES.iter().enumerate() {
        peer.expect("MAIL FROM:<a@sender.example> SMTPUTF8 BODY=8BITMIME", "250").await;
        peer.expect("RCPT TO:<b@dest.example>", "250").await;
        let reply = peer.data(stuffed(shape.as_bytes())).await;
        assert!(reply.starts_with("250"), "{reply}");
        waypost_scenarios::eventually("it is in the mailbox", || count() == 1).await;
        let file = std::fs::read_dir(&new).unwrap().next().unwrap().unwrap().path();
        // Mailboxes have LF.
        let got = String::from_utf8(std::fs::read(&file).unwrap()).unwrap().replace('\n', "\r\n");
        same(place.path(), index, shape, got.as_bytes()).await;
        std::fs::remove_file(file).unwrap();
    }
    relay.empty().await;
    relay.stop().await;
}
