//! Policy edits header and body: what it did arrives at a program of others octet by octet, and so does
//! what it left alone.

use bytes::Bytes;
use waypost_hooks::{HeaderPlace, MessageAnswer, MessageEdit};
use waypost_scenarios::{Door, Home};

use crate::aiosmtpd::{Aiosmtpd, below_received, kept, stuffed};
use crate::says::{Says, field};

fn splice(offset: u64, remove: u64, insert: &[u8]) -> MessageEdit {
    MessageEdit::Splice { offset, remove, insert: Bytes::copy_from_slice(insert) }
}

/// Octets over 127 that are no UTF-8, in lines.
fn eight_bits(octets: usize) -> Vec<u8> {
    let line: Vec<u8> = (128..=255).filter(|octet| *octet != 0xa0).take(98).collect();
    let line = [&line[..], b"\r\n"].concat();
    let mut body = line.repeat(octets / line.len() + 1);
    body.truncate(octets / line.len() * line.len());
    body
}

/// Bodies that stay in memory, gather in a file, and are longer than any buffer.
#[tokio::test]
async fn bodies_of_every_size_are_spliced() {
    let directory = tempfile::tempdir().unwrap();
    let aiosmtpd = Aiosmtpd::start(directory.path());
    let policy = Says::new().of_a_message(|view| {
        let len = view.text.body.len();
        let middle = len / 2 / 100 * 100;
        let edits = vec![
            splice(0, 0, b"Put in front: \xff\xfe\r\n"),
            // Each finds the body as the one before left it.
            splice(middle + 18, 100, b".a dot\r\n"),
            splice(len + 18 - 100 + 8, 0, b"At the end\r\n.\r\n"),
        ];
        MessageAnswer { edits, ..MessageAnswer::default() }
    });
    let home = Home::new().trusting().hooks(policy.ready()).route("*", aiosmtpd.address);
    let relay = home.start().await;
    let mut peer = relay.peer(Door::Relay).await;
    peer.hello().await;
    for (number, size) in [(1, 1000), (2, 300 * 1024), (3, 9 << 20)] {
        let body = eight_bits(size);
        let content = [b"Subject: eight bits\r\n\r\n", &body[..]].concat();
        peer.envelope("a@sender.example", &["b@dest.example"]).await;
        let reply = peer.data(stuffed(&content)).await;
        assert!(reply.starts_with("250 2.0.0 OK queued as "), "{reply}");
        let middle = body.len() / 2 / 100 * 100;
        let expected = [
            b"Subject: eight bits\r\n\r\nPut in front: \xff\xfe\r\n",
            &body[..middle],
            b".a dot\r\n",
            &body[middle + 100..],
            b"At the end\r\n.\r\n",
        ]
        .concat();
        let got = kept(directory.path(), number).await;
        let got = below_received(&got);
        assert!(got == expected, "{size}: {} octets, not {}", got.len(), expected.len());
    }
    relay.empty().await;
    // Nothing is left of the files in which bodies gathered and were written anew.
    let left = std::fs::read_dir(home.spool().join("incoming")).unwrap().count();
    assert_eq!(left, 0);
    relay.stop().await;
}

/// A body that policy empties, lines that it left open, and a message that never had a body.
#[tokio::test]
async fn what_is_left_is_a_message_all_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let aiosmtpd = Aiosmtpd::start(directory.path());
    let policy = Says::new().of_a_message(|view| {
        let len = view.text.body.len();
        let edit = match view.text.header.first("Subject").as_deref() {
            Some("empty") => splice(0, len, b""),
            Some("open") => splice(len, 0, b"one\ntwo\rthree"),
            _ => splice(0, 0, b"a body\r\n"),
        };
        MessageAnswer { edits: vec![edit], ..MessageAnswer::default() }
    });
    let home = Home::new().trusting().hooks(policy.ready()).route("*", aiosmtpd.address);
    let relay = home.start().await;
    let mut peer = relay.peer(Door::Relay).await;
    peer.hello().await;
    let cases = [
        ("Subject: empty\r\n\r\ntext\r\n", "Subject: empty\r\n\r\n"),
        ("Subject: open\r\n\r\ntext\r\n", "Subject: open\r\n\r\ntext\r\none\r\ntwo\r\nthree\r\n"),
        ("Subject: none\r\n", "Subject: none\r\n\r\na body\r\n"),
        ("\r\nno header\r\n", "\r\na body\r\nno header\r\n"),
    ];
    for (number, (content, expected)) in (1..).zip(cases) {
        peer.envelope("a@sender.example", &["b@dest.example"]).await;
        peer.send(format!("BDAT {} LAST\r\n{content}", content.len())).await;
        peer.hear("250 2.0.0 OK queued as ").await;
        let got = kept(directory.path(), number).await;
        let got = String::from_utf8_lossy(below_received(&got)).into_owned();
        assert_eq!(got, expected);
    }
    relay.empty().await;
    relay.stop().await;
}

#[tokio::test]
async fn fields_are_added_changed_and_removed_one_by_one() {
    let directory = tempfile::tempdir().unwrap();
    let aiosmtpd = Aiosmtpd::start(directory.path());
    let policy = Says::new().of_a_message(|view| {
        let header = &view.text.header;
        let ids: Vec<u32> = header
            .views()
            .filter(|field| field.name.eq_ignore_ascii_case("x-spam"))
            .map(|field| field.id)
            .collect();
        let edits = vec![
            field("X-Top", "one"),
            // Ids stay what they are, whatever comes or goes.
            MessageEdit::RemoveHeader(ids[0]),
            MessageEdit::ChangeHeader { id: ids[2], value: "changed".to_owned() },
            MessageEdit::RemoveHeaders("x-secret".to_owned()),
            MessageEdit::AddHeader {
                name: "X-Bottom".to_owned(),
                value: "two".to_owned(),
                place: HeaderPlace::Bottom,
            },
            field("X-First", "three"),
        ];
        MessageAnswer { edits, ..MessageAnswer::default() }
    });
    let home = Home::new().trusting().hooks(policy.ready()).route("*", aiosmtpd.address);
    let relay = home.start().await;
    let mut peer = relay.peer(Door::Relay).await;
    peer.hello().await;
    let content = "X-Spam: a\r\nX-Secret: 1\r\nSubject:  as \r\n\tit was\r\nX-spam: b\r\n\
        X-SECRET:2\r\n\t3\r\nX-SPAM: c\r\n\r\nbody\r\n";
    peer.deliver("a@sender.example", &["b@dest.example"], content).await;
    let got = kept(directory.path(), 1).await;
    let expected = "X-First: three\r\nX-Top: one\r\nSubject:  as \r\n\tit was\r\nX-spam: b\r\n\
        X-SPAM: changed\r\nX-Bottom: two\r\n\r\nbody\r\n";
    assert_eq!(String::from_utf8_lossy(below_received(&got)), expected);
    relay.empty().await;
    relay.stop().await;
}

/// All edits of an answer, or none of its mail.
#[tokio::test]
async fn an_edit_that_is_illegal_puts_the_message_off() {
    let directory = tempfile::tempdir().unwrap();
    let aiosmtpd = Aiosmtpd::start(directory.path());
    let policy = Says::new().edits(vec![field("X-Fine", "yes"), splice(1000, 1, b"")]);
    let home = Home::new().trusting().hooks(policy.ready()).route("*", aiosmtpd.address);
    let relay = home.start().await;
    let mut peer = relay.peer(Door::Relay).await;
    peer.hello().await;
    peer.envelope("a@sender.example", &["b@dest.example"]).await;
    let reply = peer.data("Subject: x\r\n\r\ny\r\n").await;
    assert!(reply.starts_with("451 4.3.0"), "{reply}");
    assert!(relay.queued().is_empty());
    relay.stop().await;
}
