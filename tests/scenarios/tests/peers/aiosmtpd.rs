//! aiosmtpd as a next hop.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::python::python;

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
    # It offers 8BITMIME unless it decodes what it gets.
    seven = sys.argv[2] == "7bit"
    make = lambda: SMTP(handler, enable_SMTPUTF8=not seven, decode_data=seven, hostname="aiosmtpd.example")
    server = await asyncio.get_running_loop().create_server(make, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()
asyncio.run(main())
"#;

/// Takes everything; ends with its story.
pub(crate) struct Aiosmtpd {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Aiosmtpd {
    pub(crate) fn start(directory: &Path) -> Aiosmtpd {
        Aiosmtpd::taking(directory, "8bit")
    }

    /// One that lacks 8BITMIME and SMTPUTF8, and takes nothing but ASCII.
    pub(crate) fn of_seven_bits(directory: &Path) -> Aiosmtpd {
        Aiosmtpd::taking(directory, "7bit")
    }

    fn taking(directory: &Path, most: &str) -> Aiosmtpd {
        let mut child = Command::new(python())
            .args(["-c", SCRIPT])
            .arg(directory)
            .arg(most)
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

/// Dots doubled at the beginning of lines, as DATA wants them.
pub(crate) fn stuffed(content: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for line in content.split_inclusive(|octet| *octet == b'\n') {
        if line.starts_with(b".") {
            out.push(b'.');
        }
        out.extend_from_slice(line);
    }
    out
}

/// The message of this number, from 1 on, once it is there.
pub(crate) async fn kept(directory: &Path, number: usize) -> Vec<u8> {
    let place = directory.join(number.to_string());
    waypost_scenarios::eventually("aiosmtpd has it", || place.exists()).await;
    std::fs::read(place).unwrap()
}

/// What stands below the field that says how the message came.
pub(crate) fn below_received(content: &[u8]) -> &[u8] {
    let ends =
        |at: &usize| content[*at..].starts_with(b"\r\n") && !b" \t".contains(&content[at + 2]);
    let end = (0..content.len()).find(ends).unwrap();
    assert!(content.starts_with(b"Received: from peer.example"));
    &content[end + 2..]
}
