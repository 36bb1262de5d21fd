//! When policy could not answer.

use serde::{Deserialize, Serialize};

/// Policy failed to answer. It is never the peer's fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("policy {who} failed ({kind:?}): {text}")]
pub struct Fault {
    /// Whose policy.
    pub who: String,
    /// In what way.
    pub kind: FaultKind,
    /// The details, for the operator.
    pub text: String,
}

/// How policy failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultKind {
    /// It crashed.
    Trap,
    /// It used up its processor time.
    Cpu,
    /// It took too long.
    Wall,
    /// It used too much memory.
    Memory,
    /// It asked too much of the host.
    Quota,
    /// Its answer is illegal.
    BadAnswer,
    /// It says itself that it could not decide.
    Reported,
    /// All its instances were busy.
    Busy,
    /// It could not be started.
    Init,
    /// The host failed.
    Host,
}
