//! DANE for SMTP: which certificates a host's TLSA records allow (RFC 6698, RFC 7671, RFC 7672).
//! Nothing here asks DNS or speaks TLS.

use std::fmt;

use sha2::{Digest, Sha256, Sha512};

use crate::dnssec::Dnssec;
use crate::mx::is_host_name;
use crate::resolver::DnsError;

/// Most TLSA records of one host that are looked at; a host that has more has none that is known.
pub(crate) const MAX_RECORDS: usize = 32;

/// One TLSA record (RFC 6698 §2.1).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tlsa {
    /// 0 PKIX-TA, 1 PKIX-EE, 2 DANE-TA, 3 DANE-EE.
    pub usage: u8,
    /// 0 the whole certificate, 1 its public key.
    pub selector: u8,
    /// 0 as it is, 1 SHA-256, 2 SHA-512.
    pub matching: u8,
    /// What must be the same.
    pub data: Vec<u8>,
}

/// The authority in the chain must be this one.
pub const DANE_TA: u8 = 2;
/// The host's own certificate or key must be this one.
pub const DANE_EE: u8 = 3;

impl Tlsa {
    /// True when SMTP can go by it: RFC 7672 §3.1.3 has no use for the usages 0 and 1, and what has
    /// unknown numbers or a digest of the wrong length can match nothing (RFC 6698 §4.1).
    pub fn is_usable(&self) -> bool {
        let length = match self.matching {
            0 => !self.data.is_empty(),
            1 => self.data.len() == 32,
            2 => self.data.len() == 64,
            _ => false,
        };
        matches!(self.usage, DANE_TA | DANE_EE) && self.selector <= 1 && length
    }

    /// True when the record names this certificate, of which `certificate` is the DER and `key` that
    /// of its public key (SubjectPublicKeyInfo), where it has one that can be read.
    pub fn matches(&self, certificate: &[u8], key: Option<&[u8]>) -> bool {
        let selected = match (self.selector, key) {
            (0, _) => certificate,
            (1, Some(key)) => key,
            _ => return false,
        };
        match self.matching {
            0 => self.data == selected,
            1 => self.data == Sha256::digest(selected).as_slice(),
            2 => self.data == Sha512::digest(selected).as_slice(),
            _ => false,
        }
    }
}

impl fmt::Display for Tlsa {
    /// As in a zone file; long data are cut.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {} ", self.usage, self.selector, self.matching)?;
        for octet in self.data.iter().take(64) {
            write!(f, "{octet:02x}")?;
        }
        if self.data.len() > 64 { f.write_str("…") } else { Ok(()) }
    }
}

/// What DNSSEC demands of connections to a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dane {
    /// Nothing: there are no TLSA records that DNSSEC vouches for.
    Absent,
    /// TLS, with any certificate: there are records, and none of them can be used (RFC 7672 §2.2).
    Unusable(Vec<Tlsa>),
    /// TLS with a certificate that one of these records names.
    Required(Binding),
}

/// Records that a host's certificate is held against.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Binding {
    /// The name under which the records are: sent as SNI, and one that certificates below a named
    /// authority may carry (RFC 7672 §3.2.2).
    pub base: String,
    /// Usable ones, sorted, at least one.
    pub records: Vec<Tlsa>,
}

impl Dane {
    /// What a host's records demand together.
    pub fn of(base: &str, mut records: Vec<Tlsa>) -> Dane {
        if records.is_empty() {
            return Dane::Absent;
        }
        let mut usable: Vec<Tlsa> = records.iter().filter(|r| r.is_usable()).cloned().collect();
        if usable.is_empty() || records.len() > MAX_RECORDS {
            records.truncate(MAX_RECORDS);
            return Dane::Unusable(records);
        }
        usable.sort();
        usable.dedup();
        Dane::Required(Binding { base: base.to_owned(), records: strongest(usable) })
    }
}

/// RFC 7671 §9: of several digests for one usage and selector only the strongest counts.
fn strongest(records: Vec<Tlsa>) -> Vec<Tlsa> {
    let best = |record: &Tlsa| {
        let same = |other: &&Tlsa| (other.usage, other.selector) == (record.usage, record.selector);
        records.iter().filter(same).map(|other| other.matching).max()
    };
    let counts = |record: &&Tlsa| record.matching == 0 || Some(record.matching) == best(record);
    records.iter().filter(counts).cloned().collect()
}

/// What DNSSEC demands of connections to port `port` of `host`.
///
/// # Errors
/// When that cannot be known: then the host must not be spoken to, or whoever can make an answer fail
/// could turn protection off (RFC 7672 §2.1.2).
pub async fn dane(dnssec: &dyn Dnssec, host: &str, port: u16) -> Result<Dane, DnsError> {
    if !is_host_name(host.strip_suffix('.').unwrap_or(host)) {
        return Ok(Dane::Absent);
    }
    // RFC 7672 §2.2.2: TLSA is asked for only where the address is vouched for; broken servers of
    // unsigned zones fail at it.
    for base in dnssec.tlsa_bases(host).await? {
        let records = dnssec.tlsa(&base, port).await?;
        if !records.is_empty() {
            return Ok(Dane::of(&base, records));
        }
    }
    Ok(Dane::Absent)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CERTIFICATE: &[u8] = b"a certificate";
    const KEY: &[u8] = b"its key";

    fn tlsa(usage: u8, selector: u8, matching: u8, of: &[u8]) -> Tlsa {
        let data = match matching {
            1 => Sha256::digest(of).to_vec(),
            2 => Sha512::digest(of).to_vec(),
            _ => of.to_vec(),
        };
        Tlsa { usage, selector, matching, data }
    }

    #[test]
    fn every_combination_matches_its_own_and_nothing_else() {
        for usage in 0..=4 {
            for selector in 0..=2 {
                for matching in 0..=3 {
                    let of = if selector == 1 { KEY } else { CERTIFICATE };
                    let record = tlsa(usage, selector, matching, of);
                    let known = selector <= 1 && matching <= 2;
                    assert_eq!(record.matches(CERTIFICATE, Some(KEY)), known, "{record}");
                    assert!(!record.matches(b"another", Some(b"another key")), "{record}");
                    let swapped = tlsa(usage, 1 - selector.min(1), matching, of);
                    let swaps = selector <= 1 && swapped.matches(CERTIFICATE, Some(KEY));
                    assert!(!swaps, "{swapped}");
                    let usable = known && matches!(usage, 2 | 3);
                    assert_eq!(record.is_usable(), usable, "{record}");
                }
            }
        }
        assert!(!tlsa(3, 1, 1, KEY).matches(CERTIFICATE, None), "no key can be read");
    }

    #[test]
    fn digests_of_the_wrong_length_and_empty_data_are_unusable() {
        for (matching, length) in [(0, 0), (1, 31), (1, 33), (1, 64), (2, 32), (2, 63)] {
            let record = Tlsa { usage: 3, selector: 1, matching, data: vec![0; length] };
            assert!(!record.is_usable(), "{record}");
        }
    }

    #[test]
    fn records_demand_proof_or_encryption_or_nothing() {
        assert_eq!(Dane::of("mx", vec![]), Dane::Absent);
        let unusable = tlsa(1, 1, 1, KEY);
        assert_eq!(Dane::of("mx", vec![unusable.clone()]), Dane::Unusable(vec![unusable.clone()]));
        let usable = tlsa(3, 1, 1, KEY);
        let Dane::Required(binding) =
            Dane::of("mx", vec![unusable, usable.clone(), usable.clone()])
        else {
            panic!("one record is usable")
        };
        assert_eq!(binding, Binding { base: "mx".into(), records: vec![usable] });
        let many = (0..40u8).map(|n| tlsa(3, 1, 1, &[n])).collect();
        assert!(matches!(Dane::of("mx", many), Dane::Unusable(records) if records.len() == 32));
    }

    #[test]
    fn the_strongest_digest_counts_and_what_is_no_digest_too() {
        let records = [
            tlsa(3, 1, 1, KEY),
            tlsa(3, 1, 2, KEY),
            tlsa(3, 1, 0, KEY),
            tlsa(3, 0, 1, KEY),
            tlsa(2, 1, 1, KEY),
        ];
        let Dane::Required(Binding { records: kept, .. }) = Dane::of("mx", records.to_vec()) else {
            panic!("all are usable")
        };
        let [weak, others @ ..] = &records;
        assert!(!kept.contains(weak));
        assert!(others.iter().all(|record| kept.contains(record)), "{kept:?}");
    }
}
