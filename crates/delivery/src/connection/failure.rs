//! Why a connection is of no use, or of none any more.

use waypost_mail::Why;
use waypost_smtp::client::{ProtocolError, SessionFailure};
use waypost_smtp::{Phase, Severity};

use crate::demand::Demand;
use crate::tls::HandshakeError;

/// Why a connection is of no use, or of none any more.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The source address, or the proxy that has it, is of no use.
    CannotLeave(String),
    /// There is no TCP connection.
    Unreachable(String),
    TimedOut(Phase),
    Lost(Phase),
    /// The session could not be made ready.
    Session(Phase, SessionFailure),
    /// The handshake failed, behind STARTTLS or on a port with implicit TLS.
    Handshake(HandshakeError),
    /// What came is not SMTP.
    Protocol(Phase, ProtocolError),
    /// Our own fault: the message cannot be read.
    Unreadable(String),
}

impl Failure {
    /// The same as the cause kept with the recipients.
    pub(crate) fn why(self, hop: &str, demand: &Demand) -> Why {
        let hop = hop.to_owned();
        match self {
            Failure::CannotLeave(error) | Failure::Unreachable(error) => {
                Why::Unreachable { hop, error }
            }
            Failure::TimedOut(phase) => Why::TimedOut { hop, phase },
            Failure::Lost(phase) => Why::ConnectionLost { hop, phase },
            Failure::Handshake(error) => {
                Why::TlsRequired { hop, error: format!("{error}{}", demand.reason()) }
            }
            Failure::Protocol(phase, error) => {
                Why::ProtocolError { hop, phase, error: error.to_string() }
            }
            Failure::Unreadable(error) => Why::Unreadable(error),
            Failure::Session(phase, failure) => session_why(hop, phase, failure, demand),
        }
    }

    /// True when the host spoke SMTP with us and may do so again for another message.
    pub(crate) fn is_answer(&self) -> bool {
        match self {
            Failure::Session(_, SessionFailure::Refused { phase, .. }) => *phase != Phase::Auth,
            Failure::Lost(phase) | Failure::TimedOut(phase) => *phase > Phase::Auth,
            Failure::Protocol(..) => true,
            _ => false,
        }
    }

    /// True when the host began to speak with us and would not go on: it may be that we asked too much.
    pub(crate) fn is_trouble(&self) -> bool {
        match self {
            Failure::Lost(phase) => *phase > Phase::Connect,
            // A host that does not say a word is down.
            Failure::TimedOut(phase) => *phase > Phase::Auth,
            Failure::Session(_, SessionFailure::Refused { phase, reply }) => {
                *phase < Phase::Auth && reply.severity() == Severity::Transient
            }
            _ => false,
        }
    }

    /// True when another source may fare better: this one is of no use, or the host takes nothing from it.
    pub(crate) fn is_about_source(&self) -> bool {
        match self {
            Failure::CannotLeave(_) => true,
            Failure::Session(
                Phase::Greeting | Phase::Ehlo,
                SessionFailure::Refused { reply, .. },
            ) => reply.severity() == Severity::Permanent,
            _ => false,
        }
    }

    /// True when STARTTLS is what failed, so that clear text may still work.
    pub(crate) fn is_about_starttls(&self) -> bool {
        match self {
            Failure::TimedOut(phase) | Failure::Lost(phase) => *phase == Phase::StartTls,
            // Somebody meddles with this connection: nothing better comes of a second one.
            Failure::Session(_, SessionFailure::Protocol(ProtocolError::InjectedBeforeTls)) => {
                false
            }
            Failure::Session(phase, _) => *phase == Phase::StartTls,
            Failure::Handshake(_) => true,
            Failure::CannotLeave(_)
            | Failure::Unreachable(_)
            | Failure::Protocol(..)
            | Failure::Unreadable(_) => false,
        }
    }
}

fn session_why(hop: String, phase: Phase, failure: SessionFailure, demand: &Demand) -> Why {
    match failure {
        SessionFailure::Refused { phase: Phase::Auth, reply } => {
            Why::AuthFailed { hop, error: reply.to_string() }
        }
        SessionFailure::Refused { phase, reply } => Why::Refused { hop, phase, reply },
        SessionFailure::StartTlsNotOffered | SessionFailure::StartTlsRefused(_) => {
            Why::TlsRequired { hop, error: format!("{failure}{}", demand.reason()) }
        }
        SessionFailure::Protocol(error) => {
            Why::ProtocolError { hop, phase, error: error.to_string() }
        }
        SessionFailure::AuthNotOffered
        | SessionFailure::NoCommonMechanism { .. }
        | SessionFailure::AuthNeedsTls
        | SessionFailure::ServerUnproven => Why::AuthFailed { hop, error: failure.to_string() },
    }
}
