//! The questions whose answers must be proven.

use std::fmt;

use async_trait::async_trait;

use crate::dane::Tlsa;
use crate::mx::MxAnswer;
use crate::resolver::DnsError;

/// Whether answers can be validated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validation {
    /// They can.
    Works,
    /// They cannot at the moment: it is found out again after a while, so that what must be proven may be
    /// later.
    Fails,
    /// Nobody here does that, nor will.
    Off,
}

/// Who knows what DNSSEC proves. Names are host names in A-labels, with or without a trailing dot,
/// always complete.
///
/// An answer whose signatures are wrong, or that is lost, is an error and never "unsigned": who can
/// forge or drop answers must not be able to turn protection off (RFC 7672 §2.1).
#[async_trait]
pub trait Dnssec: fmt::Debug + Send + Sync {
    /// Whether answers can be validated here. Where not, nothing else should be asked.
    async fn validation(&self) -> Validation;

    /// True when answers can be validated here at all.
    async fn works(&self) -> bool {
        self.validation().await == Validation::Works
    }

    /// What the domain says about where its mail goes, and whether that is proven.
    ///
    /// # Errors
    /// See [`Dnssec`].
    async fn mx(&self, domain: &str) -> Result<(MxAnswer, bool), DnsError>;

    /// The names under which TLSA records count for this host, the best first: where its aliases
    /// lead to, then itself (RFC 7672 §2.2.2). None when its address is not proven.
    ///
    /// # Errors
    /// See [`Dnssec`].
    async fn tlsa_bases(&self, host: &str) -> Result<Vec<String>, DnsError>;

    /// The proven TLSA records for TCP port `port` of `base`; none when there are none, or none that is
    /// proven.
    ///
    /// # Errors
    /// See [`Dnssec`].
    async fn tlsa(&self, base: &str, port: u16) -> Result<Vec<Tlsa>, DnsError>;
}

/// Where nothing is validated.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoDnssec;

#[async_trait]
impl Dnssec for NoDnssec {
    async fn validation(&self) -> Validation {
        Validation::Off
    }

    async fn mx(&self, _: &str) -> Result<(MxAnswer, bool), DnsError> {
        Ok((MxAnswer::Implicit, false))
    }

    async fn tlsa_bases(&self, _: &str) -> Result<Vec<String>, DnsError> {
        Ok(Vec::new())
    }

    async fn tlsa(&self, _: &str, _: u16) -> Result<Vec<Tlsa>, DnsError> {
        Ok(Vec::new())
    }
}
