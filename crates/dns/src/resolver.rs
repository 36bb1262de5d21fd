//! The questions that mail asks of DNS.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use async_trait::async_trait;

use crate::mx::MxAnswer;

/// Who knows about names. Names are host names in ASCII (A-labels), with or without a trailing dot.
#[async_trait]
pub trait Resolver: fmt::Debug + Send + Sync {
    /// What the domain says about where its mail goes. CNAMEs are followed (RFC 5321 §5.1).
    async fn mx(&self, domain: &str) -> Result<MxAnswer, DnsError>;

    /// The addresses of a host, in the order of the configured [`Family`]; none when there is no
    /// such host or it has no address. When one family's answer is lost but the other's is not,
    /// that other one is the answer.
    ///
    /// A name without any dot is looked up as the system does, with its search list; every other
    /// name, and one with a trailing dot, is taken as complete.
    async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, DnsError>;

    /// The texts at a name, which may have labels that hosts cannot have (`_mta-sts`); the strings of one
    /// record joined. None when there are none.
    async fn txt(&self, name: &str) -> Result<Vec<String>, DnsError>;

    /// The host name of an address that itself has that address (RFC 8601 §2.7.3), for trace
    /// fields and policy. Absent when there is none that is confirmed.
    async fn reverse(&self, ip: IpAddr) -> Result<Option<String>, DnsError>;
}

/// Which addresses of a host to use, and which of them first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Family {
    /// IPv6 and IPv4 by turns, IPv6 first: when one of them does not work here, the second
    /// attempt already uses the other.
    #[default]
    Both,
    /// All IPv4 addresses, then IPv6.
    V4First,
    /// All IPv6 addresses, then IPv4.
    V6First,
    /// IPv4 alone; AAAA is not asked.
    V4Only,
    /// IPv6 alone; A is not asked.
    V6Only,
}

impl Family {
    /// The addresses in the order in which they are tried.
    pub(crate) fn order(self, v4: Vec<IpAddr>, v6: Vec<IpAddr>) -> Vec<IpAddr> {
        match self {
            Family::V4Only => v4,
            Family::V6Only => v6,
            Family::V4First => v4.into_iter().chain(v6).collect(),
            Family::V6First => v6.into_iter().chain(v4).collect(),
            Family::Both => by_turns(v6, v4),
        }
    }
}

/// Why a question has no answer: not even that there is nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DnsError {
    /// The text cannot be a name in DNS, so nothing was asked.
    #[error("{0:?} is no host name")]
    BadName(String),
    /// The signatures of the answer do not lead to the trust anchor.
    #[error("the answer for {kind} {name} fails DNSSEC validation")]
    Bogus {
        /// Record type asked for.
        kind: &'static str,
        /// Name asked for.
        name: String,
    },
    /// No server answered in time.
    #[error("no answer for {kind} {name} within {after:?}")]
    TimedOut {
        /// Record type asked for.
        kind: &'static str,
        /// Name asked for.
        name: String,
        /// How long it was waited for.
        after: Duration,
    },
    /// The servers answered with an error (such as SERVFAIL) or could not be spoken to.
    #[error("lookup of {kind} {name} failed: {error}")]
    Failed {
        /// Record type asked for.
        kind: &'static str,
        /// Name asked for.
        name: String,
        /// What the server or the system said.
        error: String,
    },
}

fn by_turns(first: Vec<IpAddr>, second: Vec<IpAddr>) -> Vec<IpAddr> {
    let mut mixed = Vec::with_capacity(first.len() + second.len());
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    loop {
        let pair = (first.next(), second.next());
        if pair == (None, None) {
            return mixed;
        }
        mixed.extend(pair.0);
        mixed.extend(pair.1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_ordered_as_configured() {
        let ips = |texts: &[&str]| -> Vec<IpAddr> {
            texts.iter().map(|text| text.parse().unwrap()).collect()
        };
        let v4 = || ips(&["192.0.2.1", "192.0.2.2", "192.0.2.3"]);
        let v6 = || ips(&["2001:db8::1"]);
        let mixed = ips(&["2001:db8::1", "192.0.2.1", "192.0.2.2", "192.0.2.3"]);
        assert_eq!(Family::Both.order(v4(), v6()), mixed);
        assert_eq!(Family::V6First.order(v4(), v6()), mixed);
        assert_eq!(Family::V4First.order(v4(), v6())[3], v6()[0]);
        assert_eq!(Family::V4Only.order(v4(), v6()), v4());
        assert_eq!(Family::V6Only.order(v4(), v6()), v6());
        let four = ips(&["2001:db8::1", "2001:db8::2"]);
        assert_eq!(Family::Both.order(v4(), four)[2], v6_second());
    }

    fn v6_second() -> IpAddr {
        "2001:db8::2".parse().unwrap()
    }
}
