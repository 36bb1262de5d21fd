//! aiosmtpd receives what was handed in, octet by octet.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use waypost_scenarios::{Door, Home};

use crate::program::python;

/// Writes each message it takes to a file of its own, named by a counter.
const SCRIPT: &str = r#"
import asyncio, os, sys
from aiosmtpd.smtp import SMTP
class Keep:
    count = 0
    async def handle_DATA(self, server, session, envelope):
        Keep.count += 1
        place = os.path.join(sys.argv[1], str(Keep.count))
        with open(place + ".part", "wb") as file:
            file.write(envelope.original_content)
        os.rename(place + ".part", place)
        return "250 2.0.0 kept"
async def main():
    handler = Keep()
    make = lambda: SMTP(handler, enable_SMTPUTF8=True, hostname="aiosmtpd.example")
    server = await asyncio.get_running_loop().create_server(make, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()
asyncio.run(main())
"#;

struct Aiosmtpd {
    child: Child,
    address: SocketAddr,
}

impl Aiosmtpd {
    fn start(directory: &Path) -> Aiosmtpd {
        let mut child = Command::new(python())
            .args(["-c", SCRIPT])
            .arg(directory)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let port = line.trim().parse();
        let port = port.expect("aiosmtpd does not start: see above, and cargo xtask setup");
        Aiosmtpd { child, address: SocketAddr::from(([127, 0, 0, 1], port)) }
    }
}

impl Drop for Aiosmtpd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

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

/// Dots doubled at the beginning of lines, as DATA wants them.
fn stuffed(content: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for line in content.split_inclusive(|octet| *octet == b'\n') {
        if line.starts_with(b".") {
            out.push(b'.');
        }
        out.extend_from_slice(line);
    }
    out
}

async fn kept(directory: &Path, number: usize) -> Vec<u8> {
    let place = directory.join(number.to_string());
    waypost_scenarios::eventually("aiosmtpd has it", || place.exists()).await;
    std::fs::read(place).unwrap()
}

/// What stands below the field that says how the message came.
fn below_received(content: &[u8]) -> &[u8] {
    let ends =
        |at: &usize| content[*at..].starts_with(b"\r\n") && !b" \t".contains(&content[at + 2]);
    let end = (0..content.len()).find(ends).unwrap();
    assert!(content.starts_with(b"Received: from peer.example"));
    &content[end + 2..]
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
