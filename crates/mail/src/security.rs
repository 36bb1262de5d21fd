//! How well a connection was protected.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a message travelled over, as it is kept with the outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Security {
    /// What was proven about the host.
    pub protection: Protection,
    /// Absent in clear text.
    pub version: Option<TlsVersion>,
}

/// What was proven about the host, the least first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Protection {
    /// Nothing, and anybody on the way could read.
    Clear,
    /// Nothing: encrypted to whoever answered (RFC 7435).
    Encrypted,
    /// Its name, by an authority of the configuration, because the route asks for that.
    Verified,
    /// Its name, by an authority, and the recipient's domain names it in its policy (RFC 8461).
    MtaSts,
    /// Its key, by DNSSEC (RFC 7672).
    Dane,
}

/// Versions of TLS that are spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum TlsVersion {
    /// RFC 5246.
    V1_2,
    /// RFC 8446.
    V1_3,
}

impl Security {
    /// No TLS.
    pub const CLEAR: Security = Security { protection: Protection::Clear, version: None };
}

impl Protection {
    /// The label used in logs and metrics.
    pub fn label(self) -> &'static str {
        match self {
            Protection::Clear => "clear",
            Protection::Encrypted => "encrypted",
            Protection::Verified => "verified",
            Protection::MtaSts => "mta-sts",
            Protection::Dane => "dane",
        }
    }
}

impl TlsVersion {
    /// `1.2` or `1.3`.
    pub fn label(self) -> &'static str {
        match self {
            TlsVersion::V1_2 => "1.2",
            TlsVersion::V1_3 => "1.3",
        }
    }
}

impl fmt::Display for Security {
    /// `dane/1.3`, or `clear`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.protection.label())?;
        match self.version {
            Some(version) => write!(f, "/{}", version.label()),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_in_one_word() {
        let security = |protection, version| Security { protection, version }.to_string();
        assert_eq!(security(Protection::Dane, Some(TlsVersion::V1_3)), "dane/1.3");
        assert_eq!(security(Protection::Encrypted, Some(TlsVersion::V1_2)), "encrypted/1.2");
        assert_eq!(Security::CLEAR.to_string(), "clear");
        assert!(Protection::Dane > Protection::MtaSts && Protection::Verified > Protection::Clear);
    }
}
