//! Routing by what is proven, where something is.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;

use crate::dnssec::Dnssec;
use crate::mx::MxAnswer;
use crate::resolver::{DnsError, Resolver};

/// A resolver whose mail exchangers are those that DNSSEC proves, where it proves them: else a forged
/// answer could lead mail to a host that nobody demands anything of. What is provably unsigned comes from
/// the plain resolver, and so do addresses: a host that must prove itself may be anywhere.
#[derive(Debug)]
pub struct Vouched<'a> {
    plain: &'a dyn Resolver,
    dnssec: &'a dyn Dnssec,
    secure: AtomicBool,
}

impl<'a> Vouched<'a> {
    /// `dnssec` must [work](Dnssec::works).
    pub fn new(plain: &'a dyn Resolver, dnssec: &'a dyn Dnssec) -> Vouched<'a> {
        Vouched { plain, dnssec, secure: AtomicBool::new(false) }
    }

    /// True when the exchangers that were asked for last are proven.
    pub fn is_secure(&self) -> bool {
        self.secure.load(Ordering::Relaxed)
    }
}

#[async_trait]
impl Resolver for Vouched<'_> {
    async fn mx(&self, domain: &str) -> Result<MxAnswer, DnsError> {
        let (answer, secure) = self.dnssec.mx(domain).await?;
        self.secure.store(secure, Ordering::Relaxed);
        if secure { Ok(answer) } else { self.plain.mx(domain).await }
    }

    async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, DnsError> {
        self.plain.addresses(host).await
    }

    async fn txt(&self, name: &str) -> Result<Vec<String>, DnsError> {
        self.plain.txt(name).await
    }

    async fn reverse(&self, ip: IpAddr) -> Result<Option<String>, DnsError> {
        self.plain.reverse(ip).await
    }
}
