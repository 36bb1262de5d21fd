//! The stages at which plugins are asked, and what follows when one fails there.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A stage of a message's way; one hook each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// A peer connected.
    Connect,
    /// EHLO or HELO.
    Helo,
    /// AUTH.
    Auth,
    /// MAIL.
    Sender,
    /// RCPT.
    Recipients,
    /// The end of data.
    Message,
    /// Which way to go.
    Route,
    /// A copy is about to leave.
    Prepare,
    /// An attempt was made.
    Attempt,
    /// Something happened.
    Events,
    /// A period is over.
    Timer,
}

/// All stages, in the order of a message's way.
pub const STAGES: [Stage; 11] = [
    Stage::Connect,
    Stage::Helo,
    Stage::Auth,
    Stage::Sender,
    Stage::Recipients,
    Stage::Message,
    Stage::Route,
    Stage::Prepare,
    Stage::Attempt,
    Stage::Events,
    Stage::Timer,
];

impl Stage {
    /// Its name in configuration, logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Stage::Connect => "connect",
            Stage::Helo => "helo",
            Stage::Auth => "auth",
            Stage::Sender => "sender",
            Stage::Recipients => "recipients",
            Stage::Message => "message",
            Stage::Route => "route",
            Stage::Prepare => "prepare",
            Stage::Attempt => "attempt",
            Stage::Events => "events",
            Stage::Timer => "timer",
        }
    }

    /// The interface of the contract whose one function is asked.
    pub fn interface(self) -> &'static str {
        match self {
            Stage::Connect => "connect-hook",
            Stage::Helo => "helo-hook",
            Stage::Auth => "auth-hook",
            Stage::Sender => "sender-hook",
            Stage::Recipients => "recipient-hook",
            Stage::Message => "message-hook",
            Stage::Route => "route-hook",
            Stage::Prepare => "prepare-hook",
            Stage::Attempt => "attempt-hook",
            Stage::Events => "event-hook",
            Stage::Timer => "timer-hook",
        }
    }

    pub(crate) fn index(self) -> usize {
        self as usize
    }

    /// Processor time and wall time of one call, where the configuration says nothing else.
    pub fn usual_budget(self) -> Budget {
        let (cpu, wall) = match self {
            Stage::Connect | Stage::Helo | Stage::Auth | Stage::Sender | Stage::Recipients => {
                (Duration::from_millis(5), Duration::from_secs(2))
            }
            Stage::Message | Stage::Route | Stage::Prepare | Stage::Attempt => {
                (Duration::from_millis(50), Duration::from_secs(10))
            }
            Stage::Events | Stage::Timer => (Duration::from_secs(1), Duration::from_secs(30)),
        };
        Budget { cpu, wall }
    }

    /// What may be configured to happen when a plugin fails here; the first is what happens otherwise.
    pub fn remedies(self) -> &'static [OnError] {
        use OnError::{Closed, Disconnect, Open, Quarantine, Usual};
        match self {
            Stage::Connect | Stage::Helo => &[Usual, Open, Closed],
            Stage::Auth => &[Usual, Closed],
            Stage::Sender | Stage::Recipients => &[Usual, Open, Closed, Disconnect],
            Stage::Message => &[Usual, Open, Quarantine],
            Stage::Route | Stage::Prepare => &[Usual, Open],
            Stage::Attempt | Stage::Events | Stage::Timer => &[Usual],
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Stage {
    type Err = String;
    fn from_str(text: &str) -> Result<Stage, String> {
        let known = STAGES.into_iter().find(|stage| stage.name() == text);
        known.ok_or_else(|| format!("{text:?} is no stage"))
    }
}

/// How long one call may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Of a processor, in steps of a millisecond.
    pub cpu: Duration,
    /// By the clock, waiting included.
    pub wall: Duration,
}

/// What follows when a plugin fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnError {
    /// What the stage does by itself: refused for now, or tried again later.
    #[default]
    Usual,
    /// As if the plugin had no objection.
    Open,
    /// Refused for good.
    Closed,
    /// Refused for now, and the connection closed.
    Disconnect,
    /// The message is taken and held.
    Quarantine,
}

impl OnError {
    /// Its name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            OnError::Usual => "tempfail",
            OnError::Open => "open",
            OnError::Closed => "closed",
            OnError::Disconnect => "disconnect",
            OnError::Quarantine => "quarantine",
        }
    }
}

impl FromStr for OnError {
    type Err = String;
    fn from_str(text: &str) -> Result<OnError, String> {
        use OnError::{Closed, Disconnect, Open, Quarantine, Usual};
        let all = [Usual, Open, Closed, Disconnect, Quarantine];
        let known = all.into_iter().find(|remedy| remedy.name() == text);
        known.ok_or_else(|| {
            format!("{text:?} is none of tempfail, open, closed, disconnect, quarantine")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_login_is_never_open() {
        assert!(!Stage::Auth.remedies().contains(&OnError::Open));
        for stage in STAGES {
            assert_eq!(stage.remedies().first(), Some(&OnError::Usual));
            assert_eq!(stage.name().parse(), Ok(stage));
        }
    }
}
