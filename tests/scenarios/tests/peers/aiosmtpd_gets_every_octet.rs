//! aiosmtpd receives what was handed in, octet by octet.

use waypost_scenarios::{Door, Home};

use crate::aiosmtpd::{Aiosmtpd, below_received, kept, stuffed};

fn contents() -> Vec<Vec<u8>> {
    let eight: Vec<u8> = (128..=255).collect();
    let long = "x".repeat(998);
    let large = format!("{}\r\n", "y".repeat(76)).repeat(4000);
    vec![
        b"Subject: dots\r\n\r\n.\r\n..\r\n...three\r\n.end\r\n".to_vec(),
        [b"Subject: eight bits\r\n\r\n", &eight[..], b"\r\n"].concat(),
        format!("Subject: a long line\r\n\r\n{long}\r\n").into_bytes(),
        b"Subject: empty body\r\n\r\n".to_vec(),
        b"\r\nno header\r\n".to_vec(),
        b"Subject: empty lines at the end\r\n\r\nx\r\n\r\n\r\n".to_vec(),
        b"Subject: spaces and tabs \t \r\nX-Folded: a\r\n\tb\r\n\r\n  x \t\r\n".to_vec(),
        format!("Subject: large\r\n\r\n.{large}").into_bytes(),
    ]
}

#[tokio::test]
async fn by_data_and_by_chunks() {
    let directory = tempfile::tempdir().unwrap();
    let aiosmtpd = Aiosmtpd::start(directory.path());
    let home = Home::new().trusting().route("*", aiosmtpd.address);
    let relay = home.start().await;
    let mut peer = relay.peer(Door::Relay).await;
    peer.hello().await;
    let mut number = 0;
    for content in contents() {
        peer.envelope("a@sender.example", &["b@dest.example"]).await;
        let reply = peer.data(stuffed(&content)).await;
        assert!(reply.starts_with("250 2.0.0 OK queued as "), "{reply}");
        peer.envelope("a@sender.example", &["b@dest.example"]).await;
        peer.send([format!("BDAT {} LAST\r\n", content.len()).as_bytes(), &content].concat()).await;
        peer.hear("250 2.0.0 OK queued as ").await;
        for _ in 0..2 {
            number += 1;
            let got = kept(directory.path(), number).await;
            let (got, content) = (below_received(&got), content.as_slice());
            let same = got.escape_ascii().to_string() == content.escape_ascii().to_string();
            assert!(same, "{} became {}", content.escape_ascii(), got.escape_ascii());
        }
    }
    // A message that is all header gets its empty line, and only DATA is sent on, which ends a line
    // that a chunk left open.
    for (chunk, content) in [
        ("Subject: no body\r\n", "Subject: no body\r\n\r\n"),
        ("Subject: x\r\n\r\nno end", "Subject: x\r\n\r\nno end\r\n"),
    ] {
        peer.envelope("a@sender.example", &["b@dest.example"]).await;
        peer.send(format!("BDAT {} LAST\r\n{chunk}", chunk.len())).await;
        peer.hear("250 2.0.0 OK queued as ").await;
        number += 1;
        let got = kept(directory.path(), number).await;
        assert_eq!(below_received(&got), content.as_bytes());
    }
    relay.empty().await;
}
