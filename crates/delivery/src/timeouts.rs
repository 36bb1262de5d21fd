//! How long a next hop may take for what (RFC 5321 §4.5.3.2).

use std::time::Duration;

use waypost_smtp::Phase;

/// The longest wait in each phase.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeouts {
    /// Until the TCP connection is there.
    pub connect: Duration,
    /// Until the 220 greeting (RFC 5321 §4.5.3.2.1).
    pub greeting: Duration,
    /// For the reply to EHLO or HELO.
    pub ehlo: Duration,
    /// For the reply to STARTTLS, and again for the handshake behind it.
    pub starttls: Duration,
    /// For each reply during AUTH.
    pub auth: Duration,
    /// For the reply to MAIL (RFC 5321 §4.5.3.2.2).
    pub mail: Duration,
    /// For each reply to RCPT (RFC 5321 §4.5.3.2.3).
    pub rcpt: Duration,
    /// For the 354 to DATA (RFC 5321 §4.5.3.2.4).
    pub data: Duration,
    /// Until 64 KiB of the message are taken (RFC 5321 §4.5.3.2.5).
    pub block: Duration,
    /// For the reply to the final dot (RFC 5321 §4.5.3.2.6). Short values make duplicates.
    pub dot: Duration,
    /// For the reply to RSET.
    pub rset: Duration,
    /// For the reply to QUIT.
    pub quit: Duration,
}

impl Default for Timeouts {
    fn default() -> Timeouts {
        let minutes = |count: u64| Duration::from_secs(60 * count);
        Timeouts {
            connect: Duration::from_secs(30),
            greeting: minutes(5),
            ehlo: minutes(5),
            starttls: minutes(1),
            auth: minutes(2),
            mail: minutes(5),
            rcpt: minutes(5),
            data: minutes(2),
            block: minutes(3),
            dot: minutes(10),
            rset: Duration::from_secs(20),
            quit: Duration::from_secs(5),
        }
    }
}

impl Timeouts {
    /// The longest wait in `phase`.
    pub fn of(&self, phase: Phase) -> Duration {
        match phase {
            Phase::Connect => self.connect,
            Phase::Greeting => self.greeting,
            Phase::Ehlo => self.ehlo,
            Phase::StartTls => self.starttls,
            Phase::Auth => self.auth,
            Phase::Mail => self.mail,
            Phase::Rcpt => self.rcpt,
            Phase::Data => self.data,
            Phase::Body => self.block,
            Phase::Eod => self.dot,
            Phase::Rset => self.rset,
            Phase::Quit => self.quit,
        }
    }
}
