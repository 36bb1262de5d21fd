//! MX records as a set: what they say together, and in which order they are tried.

use std::net::IpAddr;

use rand::Rng;
use rand::seq::SliceRandom;

/// One mail exchanger of a domain (RFC 1035 §3.3.9).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mx {
    /// The lowest is tried first.
    pub preference: u16,
    /// Host name in lower case without trailing dot; empty for the root, which is no host.
    pub exchange: String,
}

/// What a domain says about where its mail goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MxAnswer {
    /// These hosts, in the order of the answer. Empty when the domain has MX records but none of
    /// them names a host; its own address must not be used then (RFC 5321 §5.1).
    Exchangers(Vec<Mx>),
    /// Nowhere: the domain takes no mail (RFC 7505 §3).
    Null,
    /// Nothing: the domain itself is the host (RFC 5321 §5.1).
    Implicit,
    /// There is no such domain.
    NoSuchDomain,
}

impl MxAnswer {
    /// What a set of MX records means. A record that names no host (the root among others, an
    /// address, text that is no host name) is passed over.
    pub fn from_records(mut records: Vec<Mx>) -> MxAnswer {
        match records.as_slice() {
            [] => return MxAnswer::Implicit,
            [only] if only.exchange.is_empty() => return MxAnswer::Null,
            _ => {}
        }
        records.retain(|mx| is_host_name(&mx.exchange));
        MxAnswer::Exchangers(records)
    }
}

/// Sorts by preference; equals come in random order, which spreads the load (RFC 5321 §5.1).
pub(crate) fn ordered(mut exchangers: Vec<Mx>, random: &mut impl Rng) -> Vec<Mx> {
    exchangers.shuffle(random);
    exchangers.sort_by_key(|mx| mx.preference);
    exchangers
}

/// True for text that can be looked up and shown: letters, digits, hyphens, underscores and dots,
/// no address. Underscores are no legal host names but exist.
pub(crate) fn is_host_name(name: &str) -> bool {
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    !name.is_empty()
        && name.len() <= 253
        && name.bytes().all(legal)
        && name.parse::<IpAddr>().is_err()
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    fn mx(preference: u16, exchange: &str) -> Mx {
        Mx { preference, exchange: exchange.to_owned() }
    }

    #[test]
    fn records_mean_hosts_nothing_or_nowhere() {
        assert_eq!(MxAnswer::from_records(vec![]), MxAnswer::Implicit);
        assert_eq!(MxAnswer::from_records(vec![mx(0, "")]), MxAnswer::Null);
        let good = mx(10, "mx.example");
        for bad in ["", "192.0.2.1", "a b.example", "a\\032b"] {
            let answer = MxAnswer::from_records(vec![mx(5, bad), good.clone()]);
            assert_eq!(answer, MxAnswer::Exchangers(vec![good.clone()]), "{bad:?}");
        }
        let none = MxAnswer::from_records(vec![mx(5, "192.0.2.1")]);
        assert_eq!(none, MxAnswer::Exchangers(vec![]), "not implicit: it has an MX");
    }

    #[test]
    fn preference_decides_and_chance_among_equals() {
        let set = vec![mx(20, "c"), mx(10, "a"), mx(10, "b"), mx(0, "first")];
        let mut seen = std::collections::HashSet::new();
        for seed in 0..32 {
            let order = ordered(set.clone(), &mut StdRng::seed_from_u64(seed));
            assert_eq!((&order[0], &order[3]), (&mx(0, "first"), &mx(20, "c")));
            seen.insert(order[1].exchange.clone());
        }
        assert_eq!(seen.len(), 2, "both equals come first at times");
    }
}
