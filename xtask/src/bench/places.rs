//! Where the workloads' mail goes: domains, and the addresses of this machine at which the sink takes it. The
//! sink knows by the address how to behave; every relay is told the same ways.

use std::net::Ipv4Addr;

/// An address of the sink. All have the same port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Place {
    /// Takes everything at once.
    Quick,
    /// The same, for one of the four addresses behind [`DOMAINS`] domains.
    Shared(u8),
    /// Takes its time over every message.
    Slow,
    /// Offers STARTTLS.
    Secure,
    /// Nobody is there.
    Dead,
}

/// Domains of the workload with many destinations.
pub(crate) const DOMAINS: usize = 200;
/// Domains whose mail waits.
pub(crate) const DEAD_DOMAINS: usize = 50;
/// Addresses that the many domains share.
const SHARED: u8 = 4;

impl Place {
    /// Those at which the sink listens besides [`Place::Quick`].
    pub(crate) fn listening() -> impl Iterator<Item = Place> {
        (0..SHARED).map(Place::Shared).chain([Place::Slow, Place::Secure])
    }

    pub(crate) fn address(self) -> Ipv4Addr {
        let last = match self {
            Place::Quick => 1,
            Place::Shared(number) => 2 + number,
            Place::Slow => 6,
            Place::Dead => 7,
            Place::Secure => 8,
        };
        Ipv4Addr::new(127, 0, 0, last)
    }

    pub(crate) fn is_secure(self) -> bool {
        self == Place::Secure
    }
}

/// A recipient in the domain `number` of the many.
pub(crate) fn one_of_many(number: usize) -> String {
    format!("to@d{}.many.bench.example", number % DOMAINS)
}

/// A recipient in a domain whose mail waits.
pub(crate) fn dead(number: usize) -> String {
    format!("to{number}@dead{}.bench.example", number % DEAD_DOMAINS)
}

/// A recipient in a domain that takes its time.
pub(crate) fn slow() -> &'static str {
    "to@slow.bench.example"
}

/// Domains, and where their mail goes; that of all others goes to [`Place::Quick`].
pub(crate) fn ways() -> Vec<(Place, Vec<String>)> {
    let mut ways: Vec<(Place, Vec<String>)> = (0..SHARED)
        .map(|number| {
            let first = usize::from(number);
            let domains = (first..DOMAINS).step_by(usize::from(SHARED));
            let domains = domains.map(|number| format!("d{number}.many.bench.example"));
            (Place::Shared(number), domains.collect())
        })
        .collect();
    ways.push((Place::Slow, vec!["slow.bench.example".to_owned()]));
    let dead = (0..DEAD_DOMAINS).map(|number| format!("dead{number}.bench.example"));
    ways.push((Place::Dead, dead.collect()));
    ways
}

/// The same as lines `domain<between>address<end>`.
pub(crate) fn lines(between: &str, end: &str) -> String {
    let mut text = String::new();
    for (place, domains) in ways() {
        for domain in domains {
            text.push_str(&format!("{domain}{between}{}{end}\n", place.address()));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_recipient_has_its_way() {
        let ways = ways();
        let known = |recipient: &str| {
            let domain = recipient.split_once('@').unwrap().1;
            ways.iter().filter(|(_, all)| all.iter().any(|known| known == domain)).count()
        };
        for number in 0..1000 {
            assert_eq!(known(&one_of_many(number)), 1);
            assert_eq!(known(&dead(number)), 1);
        }
        assert_eq!(known(slow()), 1);
    }
}
