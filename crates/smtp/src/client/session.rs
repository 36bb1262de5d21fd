//! From the greeting to a session that takes transactions.

use super::auth::Exchange;
use super::{Credentials, ProtocolError, Wire, closes};
use crate::{Domain, Extensions, Phase, Reply, Severity};

/// When a session is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartTls {
    /// Never: STARTTLS is not sent even where it is offered.
    Never,
    /// Where it is offered; a refused STARTTLS leaves the session in clear text.
    IfOffered,
    /// Always: without it the session fails.
    Required,
    /// From the first byte: the caller did the handshake before (RFC 8314 §3).
    Active,
}

/// How to open a session.
#[derive(Debug, Clone)]
pub struct SessionConfig {
    /// Who we say we are (RFC 5321 §4.1.4).
    pub ehlo_name: Domain,
    /// The other end speaks LMTP: it is greeted by LHLO (RFC 2033 §4.1).
    pub lmtp: bool,
    /// When to encrypt.
    pub tls: StartTls,
    /// Who we prove to be, if anybody.
    pub credentials: Option<Credentials>,
    /// Lets a password go over an unencrypted connection.
    pub allow_plaintext_auth: bool,
    /// Fresh random octets for SCRAM, used once.
    pub nonce: [u8; 18],
}

/// What a [`Session`] wants now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionStep {
    /// Write the output, then push more bytes.
    NeedInput,
    /// Do the TLS handshake, then call [`Session::upgraded`].
    Upgrade,
    /// Transactions may begin.
    Ready,
    /// The session cannot be used: close the connection.
    Failed(SessionFailure),
}

/// Why a session did not become ready.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SessionFailure {
    /// The next hop refused with 4xx or 5xx; 421 means that it closes the connection.
    #[error("refused at {phase}: {reply}")]
    Refused {
        /// What was refused: greeting, EHLO, STARTTLS (421 only) or AUTH.
        phase: Phase,
        /// The words.
        reply: Reply,
    },
    /// TLS is required and STARTTLS is not offered.
    #[error("TLS is required and the server does not offer STARTTLS")]
    StartTlsNotOffered,
    /// TLS is required and STARTTLS was refused.
    #[error("TLS is required and the server refused STARTTLS: {0}")]
    StartTlsRefused(Reply),
    /// There are credentials and AUTH is not offered.
    #[error("credentials are configured and the server does not offer AUTH")]
    AuthNotOffered,
    /// None of SCRAM-SHA-256, PLAIN and LOGIN is offered.
    #[error("the server offers only AUTH mechanisms that are not supported: {}", offered.join(" "))]
    NoCommonMechanism {
        /// What is offered.
        offered: Vec<String>,
    },
    /// Only mechanisms that reveal the password are offered, and the connection is not encrypted.
    #[error("the server wants the password over an unencrypted connection")]
    AuthNeedsTls,
    /// The server accepted us by SCRAM without proving that it knows the password
    /// (RFC 5802 §5.1): it is not who it should be.
    #[error("the server could not prove that it knows the password")]
    ServerUnproven,
    /// The next hop does not speak SMTP as we know it.
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
}

impl SessionFailure {
    /// What the next hop said, if it refused.
    pub fn reply(&self) -> Option<&Reply> {
        match self {
            SessionFailure::Refused { reply, .. } | SessionFailure::StartTlsRefused(reply) => {
                Some(reply)
            }
            _ => None,
        }
    }
}

/// Opens a session: greeting, EHLO or HELO, STARTTLS, EHLO again, AUTH.
#[derive(Debug)]
pub struct Session {
    config: SessionConfig,
    wire: Wire,
    state: State,
    phase: Phase,
    encrypted: bool,
    extensions: Extensions,
}

/// Which reply comes next.
#[derive(Debug)]
enum State {
    Greeting,
    Ehlo,
    Helo,
    StartTls,
    /// 220 to STARTTLS came; the caller does the handshake.
    Upgrade,
    Auth(Exchange),
    Ready,
    Failed(SessionFailure),
}

impl Session {
    /// A session over a connection that was just opened.
    pub fn new(config: SessionConfig) -> Session {
        Session {
            encrypted: config.tls == StartTls::Active,
            config,
            wire: Wire::default(),
            state: State::Greeting,
            phase: Phase::Greeting,
            extensions: Extensions::none(),
        }
    }

    /// Bytes arrived.
    pub fn push(&mut self, bytes: &[u8]) {
        self.wire.replies.push(bytes);
    }

    /// What now. With SCRAM one step may compute for a good tenth of a second, as the next hop's
    /// iteration count demands.
    pub fn step(&mut self) -> SessionStep {
        loop {
            let moved = match &self.state {
                State::Failed(failure) => return SessionStep::Failed(failure.clone()),
                State::Upgrade if self.wire.is_quiet() => return SessionStep::Upgrade,
                State::Upgrade => Err(ProtocolError::InjectedBeforeTls.into()),
                State::Ready if self.wire.is_quiet() => return SessionStep::Ready,
                _ => match self.wire.reply() {
                    Ok(Some(reply)) => self.take(reply),
                    Ok(None) if matches!(self.state, State::Ready) => Err(self.unsolicited()),
                    Ok(None) => return SessionStep::NeedInput,
                    Err(error) => Err(error.into()),
                },
            };
            if let Err(failure) = moved {
                self.state = State::Failed(failure);
            }
        }
    }

    /// What is to be written.
    pub fn take_output(&mut self) -> Vec<u8> {
        self.wire.take_output()
    }

    /// The TLS handshake that [`SessionStep::Upgrade`] asked for is done. All that was learned
    /// before is forgotten (RFC 3207 §4.2).
    pub fn upgraded(&mut self) {
        if !matches!(self.state, State::Upgrade) {
            return;
        }
        if !self.wire.is_quiet() {
            self.state = State::Failed(ProtocolError::InjectedBeforeTls.into());
            return;
        }
        self.encrypted = true;
        self.extensions = Extensions::none();
        self.hello();
    }

    /// What the next hop offers; final once the session is ready.
    pub fn extensions(&self) -> &Extensions {
        &self.extensions
    }

    /// True when the session is ready in clear text although STARTTLS was offered: it was refused,
    /// or not wanted.
    pub fn declined_starttls(&self) -> bool {
        matches!(self.state, State::Ready) && !self.encrypted && self.extensions.starttls
    }

    /// What is going on, or where it ended.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    fn take(&mut self, reply: Reply) -> Result<(), SessionFailure> {
        let reply = self.discreet(reply);
        if closes(&reply) {
            return Err(self.refused(reply));
        }
        match &self.state {
            State::Greeting => self.greeted(reply),
            State::Ehlo => self.ehlo_answered(reply),
            State::Helo => self.helo_answered(reply),
            State::StartTls => self.starttls_answered(reply),
            State::Auth(_) => self.auth_answered(reply),
            State::Upgrade | State::Ready | State::Failed(_) => Err(self.unsolicited()),
        }
    }

    /// The reply without what we logged in with: it is kept and told.
    fn discreet(&self, reply: Reply) -> Reply {
        let credentials = self.config.credentials.as_ref().filter(|_| self.phase == Phase::Auth);
        match credentials {
            Some(known) if known.are_in(&reply.text) => reply.with_text("(it repeats the login)"),
            _ => reply,
        }
    }

    fn greeted(&mut self, reply: Reply) -> Result<(), SessionFailure> {
        self.positive(reply)?;
        self.hello();
        Ok(())
    }

    fn hello(&mut self) {
        self.phase = Phase::Ehlo;
        self.state = State::Ehlo;
        let verb = if self.config.lmtp { "LHLO" } else { "EHLO" };
        self.wire.command(&format!("{verb} {}", self.config.ehlo_name));
    }

    fn ehlo_answered(&mut self, reply: Reply) -> Result<(), SessionFailure> {
        // RFC 5321 §4.1.4: HELO for who does not know EHLO. A refusal for another reason stands.
        let unknown = matches!(reply.code.get(), 500..=504);
        if unknown && self.config.lmtp {
            return Err(self.unexpected(reply));
        }
        if unknown {
            self.state = State::Helo;
            self.wire.command(&format!("HELO {}", self.config.ehlo_name));
            return Ok(());
        }
        self.extensions = Extensions::parse(&self.positive(reply)?);
        self.secure()
    }

    fn helo_answered(&mut self, reply: Reply) -> Result<(), SessionFailure> {
        self.positive(reply)?;
        self.extensions = Extensions::none();
        self.secure()
    }

    fn secure(&mut self) -> Result<(), SessionFailure> {
        match (self.config.tls, self.extensions.starttls) {
            _ if self.encrypted => self.authenticate(),
            (StartTls::Required | StartTls::IfOffered, true) => {
                self.phase = Phase::StartTls;
                self.state = State::StartTls;
                self.wire.command("STARTTLS");
                Ok(())
            }
            (StartTls::Required, false) => Err(SessionFailure::StartTlsNotOffered),
            _ => self.authenticate(),
        }
    }

    fn starttls_answered(&mut self, reply: Reply) -> Result<(), SessionFailure> {
        match reply.severity() {
            Severity::Positive => {
                self.state = State::Upgrade;
                Ok(())
            }
            Severity::Intermediate => Err(self.unexpected(reply)),
            _ if self.config.tls == StartTls::Required => {
                Err(SessionFailure::StartTlsRefused(reply))
            }
            _ => self.authenticate(),
        }
    }

    fn authenticate(&mut self) -> Result<(), SessionFailure> {
        let Some(credentials) = &self.config.credentials else {
            self.state = State::Ready;
            return Ok(());
        };
        self.phase = Phase::Auth;
        let may_reveal = self.encrypted || self.config.allow_plaintext_auth;
        let (exchange, command) =
            Exchange::begin(&self.extensions, credentials, may_reveal, &self.config.nonce)?;
        self.state = State::Auth(exchange);
        self.wire.command(&command);
        Ok(())
    }

    fn auth_answered(&mut self, reply: Reply) -> Result<(), SessionFailure> {
        let (State::Auth(exchange), Some(credentials)) =
            (&mut self.state, &self.config.credentials)
        else {
            return Err(self.unsolicited());
        };
        if reply.code.get() == 334 {
            let response = exchange.answer(&reply.text, credentials)?;
            self.wire.command(&response);
            return Ok(());
        }
        let complete = exchange.is_complete();
        self.positive(reply)?;
        if !complete {
            return Err(SessionFailure::ServerUnproven);
        }
        self.state = State::Ready;
        Ok(())
    }

    fn positive(&self, reply: Reply) -> Result<Reply, SessionFailure> {
        match reply.severity() {
            Severity::Positive => Ok(reply),
            Severity::Intermediate => Err(self.unexpected(reply)),
            Severity::Transient | Severity::Permanent => Err(self.refused(reply)),
        }
    }

    fn refused(&self, reply: Reply) -> SessionFailure {
        SessionFailure::Refused { phase: self.phase, reply }
    }

    fn unexpected(&self, reply: Reply) -> SessionFailure {
        ProtocolError::Unexpected { phase: self.phase, reply }.into()
    }

    fn unsolicited(&self) -> SessionFailure {
        ProtocolError::Unsolicited { phase: self.phase }.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_that_repeats_the_login_is_not_kept() {
        for line in
            ["500 what is AUTH PLAIN AHJlbGF5AHMzY3JldA==?", "421 s3cret is wrong", "535 czNjcmV0"]
        {
            let mut session = Session::new(SessionConfig {
                ehlo_name: Domain::Name("relay.example".into()),
                tls: StartTls::Active,
                lmtp: false,
                credentials: Credentials::new("relay", "s3cret").ok(),
                allow_plaintext_auth: false,
                nonce: [7; 18],
            });
            for said in ["220 mx\r\n", "250-mx\r\n250 AUTH PLAIN\r\n", &format!("{line}\r\n")] {
                session.push(said.as_bytes());
                session.step();
            }
            let SessionStep::Failed(failure) = session.step() else { panic!("{line} was taken") };
            let told = failure.to_string();
            assert!(told.contains("it repeats the login"), "{told}");
            assert!(!format!("{failure:?}").contains("s3cret"));
        }
    }

    /// The dialogues inject what arrives with the 220; this arrives while the caller gets ready
    /// for the handshake.
    #[test]
    fn plaintext_before_the_handshake_is_an_injection() {
        let mut session = Session::new(SessionConfig {
            ehlo_name: Domain::Name("relay.example".into()),
            tls: StartTls::Required,
            lmtp: false,
            credentials: None,
            allow_plaintext_auth: false,
            nonce: [7; 18],
        });
        for said in ["220 mx\r\n", "250-mx\r\n250 STARTTLS\r\n", "220 go\r\n"] {
            session.push(said.as_bytes());
            session.step();
        }
        assert_eq!((session.step(), session.phase()), (SessionStep::Upgrade, Phase::StartTls));
        session.take_output();
        session.push(b"2");
        session.upgraded();
        let injected = SessionFailure::Protocol(ProtocolError::InjectedBeforeTls);
        assert_eq!(session.step(), SessionStep::Failed(injected));
        assert!(session.take_output().is_empty());
    }
}
