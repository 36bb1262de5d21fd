//! A client that speaks SMTP line by line, and blocks.

use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// A connection to the relay.
pub(crate) struct Peer {
    stream: BufReader<TcpStream>,
}

impl Peer {
    /// Connects and says EHLO.
    pub(crate) fn connect(address: SocketAddr) -> io::Result<Peer> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        stream.set_nodelay(true)?;
        let mut peer = Peer { stream: BufReader::new(stream) };
        peer.expect("220")?;
        peer.say("EHLO peer.example")?;
        Ok(peer)
    }

    /// Says a line and hears the last line of the reply.
    pub(crate) fn say(&mut self, line: &str) -> io::Result<String> {
        self.write(&format!("{line}\r\n"))?;
        self.hear()
    }

    /// Sends octets as they are.
    pub(crate) fn write(&mut self, octets: &str) -> io::Result<()> {
        self.stream.get_mut().write_all(octets.as_bytes())
    }

    /// The last line of the next reply.
    pub(crate) fn hear(&mut self) -> io::Result<String> {
        loop {
            let mut line = String::new();
            if self.stream.read_line(&mut line)? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            if line.as_bytes().get(3) != Some(&b'-') {
                return Ok(line.trim_end().to_owned());
            }
        }
    }

    /// Sends a message for one recipient; the reply to its end, or to what was refused before.
    pub(crate) fn send(&mut self, from: &str, to: &str, message: &str) -> io::Result<String> {
        for line in [format!("MAIL FROM:<{from}>"), format!("RCPT TO:<{to}>"), "DATA".to_owned()] {
            let reply = self.say(&line)?;
            if !reply.starts_with(['2', '3']) {
                return Ok(reply);
            }
        }
        self.write(message)?;
        self.say("\r\n.")
    }

    /// Sends a message that is to be taken.
    pub(crate) fn submit(&mut self, from: &str, to: &str, subject: &str) -> io::Result<()> {
        let message = format!("From: <{from}>\r\nSubject: {subject}\r\n\r\ntext");
        let reply = self.send(from, to, &message)?;
        if reply.starts_with("250") { Ok(()) } else { Err(io::Error::other(reply)) }
    }

    fn expect(&mut self, code: &str) -> io::Result<()> {
        let reply = self.hear()?;
        if reply.starts_with(code) { Ok(()) } else { Err(io::Error::other(reply)) }
    }
}
