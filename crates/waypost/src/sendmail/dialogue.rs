//! What is said to the relay: SMTP, a line and a reply at a time, as nothing is far away.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use waypost_smtp::{Extensions, Reply, ReplyParser, Stuffer};

use super::exit::{Exit, Failure};
use super::message::Outgoing;
use super::options::Delivery;

/// How long a reply may take (RFC 5321 §4.5.3.2.6).
const PATIENCE: Duration = Duration::from_secs(600);
/// Octets of a message encoded and written at once.
const BLOCK: usize = 64 * 1024;

/// From whom to whom. Addresses may lack a domain: the relay knows it.
#[derive(Debug)]
pub(super) struct Letter {
    /// Empty for the null sender.
    pub(super) sender: String,
    pub(super) recipients: Vec<String>,
    pub(super) delivery: Delivery,
}

/// The relay, greeted.
#[derive(Debug)]
pub(super) struct Daemon {
    stream: UnixStream,
    replies: ReplyParser,
    offers: Extensions,
    verbose: bool,
}

impl Daemon {
    pub(super) fn greet(stream: UnixStream, verbose: bool) -> Result<Daemon, Failure> {
        let limited = stream
            .set_read_timeout(Some(PATIENCE))
            .and_then(|()| stream.set_write_timeout(Some(PATIENCE)));
        limited.map_err(|error| lost(&error))?;
        let (replies, offers) = (ReplyParser::new(), Extensions::none());
        let mut daemon = Daemon { stream, replies, offers, verbose };
        let greeting = daemon.reply()?;
        wanted(&greeting, "the relay takes no mail now")?;
        let hello = daemon.say("EHLO localhost")?;
        wanted(&hello, "the relay refuses this session")?;
        daemon.offers = Extensions::parse(&hello);
        Ok(daemon)
    }

    /// Hands a message in. Recipients that are not taken, and why.
    pub(super) fn submit(
        &mut self,
        letter: &Letter,
        outgoing: &Outgoing,
    ) -> Result<Vec<(String, Reply)>, Failure> {
        let octets = outgoing.octets();
        let mut needs_utf8 = outgoing.has_wide_header() || !letter.sender.is_ascii();
        needs_utf8 |= !letter.recipients.iter().all(|recipient| recipient.is_ascii());
        let mail = self.mail(letter, &octets, needs_utf8);
        wanted(&self.say(&mail)?, &format!("the sender <{}> is refused", letter.sender))?;
        let (mut refused, mut taken) = (Vec::new(), 0);
        for recipient in &letter.recipients {
            let reply = self.rcpt(recipient, &letter.delivery)?;
            match reply.is_positive() {
                true => taken += 1,
                false => refused.push((recipient.clone(), reply)),
            }
        }
        if taken > 0 {
            let data = self.say("DATA")?;
            if data.code.get() != 354 {
                return Err(refusal(&data, "the message is refused"));
            }
            self.body(&octets).map_err(|error| lost(&error))?;
            wanted(&self.reply()?, "the message is refused")?;
        }
        // The mail is settled; how the relay says goodbye changes nothing.
        let _ = self.say("QUIT");
        Ok(refused)
    }

    fn mail(&self, letter: &Letter, octets: &[u8], needs_utf8: bool) -> String {
        let mut line = format!("MAIL FROM:<{}>", letter.sender);
        if self.offers.declares_size {
            line += &format!(" SIZE={}", octets.len());
        }
        if self.offers.eight_bit_mime && !octets.is_ascii() {
            line += " BODY=8BITMIME";
        }
        if self.offers.smtputf8 && needs_utf8 {
            line += " SMTPUTF8";
        }
        if self.offers.dsn {
            let Delivery { ret, envid, .. } = &letter.delivery;
            line += &ret.as_ref().map(|ret| format!(" RET={ret}")).unwrap_or_default();
            line += &envid.as_ref().map(|id| format!(" ENVID={}", xtext(id))).unwrap_or_default();
        }
        line
    }

    fn rcpt(&mut self, recipient: &str, delivery: &Delivery) -> Result<Reply, Failure> {
        let notify = delivery.notify.as_ref().filter(|_| self.offers.dsn);
        let notify = notify.map(|notify| format!(" NOTIFY={notify}")).unwrap_or_default();
        self.say(&format!("RCPT TO:<{recipient}>{notify}"))
    }

    fn body(&mut self, octets: &[u8]) -> std::io::Result<()> {
        let mut stuffer = Stuffer::new();
        let mut out = Vec::with_capacity(BLOCK + BLOCK / 8);
        for block in octets.chunks(BLOCK) {
            out.clear();
            stuffer.encode(block, &mut out);
            self.stream.write_all(&out)?;
        }
        out.clear();
        stuffer.finish(&mut out);
        self.stream.write_all(&out)
    }

    fn say(&mut self, line: &str) -> Result<Reply, Failure> {
        if line.chars().any(char::is_control) {
            // An address must not say more than itself.
            return Err(Failure::new(Exit::DataError, "an address has a control character in it"));
        }
        if self.verbose {
            eprintln!(">>> {line}");
        }
        self.stream.write_all(format!("{line}\r\n").as_bytes()).map_err(|error| lost(&error))?;
        self.reply()
    }

    fn reply(&mut self) -> Result<Reply, Failure> {
        let mut buffer = [0; 4096];
        loop {
            let pulled = self.replies.pull();
            let pulled = pulled.map_err(|error| Failure::new(Exit::Protocol, error.to_string()))?;
            if let Some(reply) = pulled {
                if self.verbose {
                    eprintln!("{reply}");
                }
                return Ok(reply);
            }
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err(lost(&std::io::ErrorKind::UnexpectedEof.into())),
                Ok(count) => self.replies.push(&buffer[..count]),
                Err(error) => return Err(lost(&error)),
            }
        }
    }
}

/// As RFC 3461 §4 has it.
fn xtext(text: &str) -> String {
    let escaped = |byte: u8| match byte {
        b'+' | b'=' | 0..=b' ' | 127.. => format!("+{byte:02X}"),
        _ => char::from(byte).to_string(),
    };
    text.bytes().map(escaped).collect()
}

fn wanted(reply: &Reply, otherwise: &str) -> Result<(), Failure> {
    if reply.is_positive() { Ok(()) } else { Err(refusal(reply, otherwise)) }
}

fn refusal(reply: &Reply, what: &str) -> Failure {
    Failure::new(Exit::of(reply), format!("{what}: {reply}"))
}

/// The caller tries again: whether the relay had it all is not known.
fn lost(error: &std::io::Error) -> Failure {
    Failure::new(Exit::TempFail, format!("the connection to the relay broke: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_envelope_id_is_xtext() {
        assert_eq!(xtext("a+b=c d"), "a+2Bb+3Dc+20d");
    }
}
