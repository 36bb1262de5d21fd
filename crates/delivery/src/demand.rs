//! What a connection to one host must prove before mail goes over it: the strongest of what the route,
//! the host's TLSA records and the recipient domain's policy ask for.

use waypost_dns::{Binding, Dane};
use waypost_mail::{Protection, TlsLevel};

/// What a host must prove. Connections are shared only between mails that demand the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Demand {
    /// No TLS.
    Never,
    /// Nothing: TLS where it is offered and works.
    Opportunistic,
    /// TLS, with any certificate.
    Encrypt,
    /// TLS, and its name by an authority of the configuration.
    Verify,
    /// The same, because the policy of the recipient's domain asks for it (RFC 8461 §4.2).
    Sts,
    /// TLS with a certificate that its TLSA records name.
    Dane(Named),
}

/// The records, and the names that a certificate below a named authority may carry.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Named {
    pub(crate) binding: Binding,
    pub(crate) names: Vec<String>,
}

impl From<TlsLevel> for Demand {
    fn from(level: TlsLevel) -> Demand {
        match level {
            TlsLevel::Never => Demand::Never,
            TlsLevel::Opportunistic => Demand::Opportunistic,
            TlsLevel::Encrypt => Demand::Encrypt,
            TlsLevel::Verify => Demand::Verify,
        }
    }
}

impl Demand {
    /// The route's level, or more where DNSSEC or an `enforced` policy says so, never less. DNSSEC comes
    /// first (RFC 8461 §2). `others` are names beside the records' own that a certificate may carry
    /// (RFC 7672 §3.2.2).
    pub(crate) fn of(level: TlsLevel, dane: Dane, enforced: bool, others: Option<&str>) -> Demand {
        match dane {
            _ if level == TlsLevel::Never => Demand::Never,
            Dane::Absent | Dane::Unusable(_) if enforced => Demand::Sts,
            Dane::Absent => level.into(),
            // RFC 7672 §2.2: there is TLS, or there would be no records.
            Dane::Unusable(_) => level.max(TlsLevel::Encrypt).into(),
            Dane::Required(binding) => {
                let mut names = vec![binding.base.clone()];
                names.extend(others.map(str::to_owned).filter(|other| *other != binding.base));
                Demand::Dane(Named { binding, names })
            }
        }
    }

    /// What is proven when it is met over TLS.
    pub(crate) fn protection(&self) -> Protection {
        match self {
            Demand::Never | Demand::Opportunistic | Demand::Encrypt => Protection::Encrypted,
            Demand::Verify => Protection::Verified,
            Demand::Sts => Protection::MtaSts,
            Demand::Dane(_) => Protection::Dane,
        }
    }

    /// What it is, for a person.
    pub(crate) fn words(&self) -> &'static str {
        match self {
            Demand::Never => "no TLS",
            Demand::Opportunistic => "TLS where it is offered, whatever the certificate",
            Demand::Encrypt => "TLS, whatever the certificate",
            Demand::Verify => "TLS, its name vouched for by an authority",
            Demand::Sts => "TLS, its name vouched for by an authority (MTA-STS)",
            Demand::Dane(_) => "TLS, with a certificate that its TLSA records name (DANE)",
        }
    }

    /// Who demands it, for a person.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Demand::Never | Demand::Opportunistic | Demand::Encrypt | Demand::Verify => "",
            Demand::Sts => " (demanded by the policy of the recipient's domain, MTA-STS)",
            Demand::Dane(_) => " (demanded by DANE: its TLSA records are secured by DNSSEC)",
        }
    }
}

/// What a host would have to prove, for a person: by a route's level, its TLSA records, and whether the policy
/// of the recipient's domain is enforced at it.
pub fn demanded(level: TlsLevel, dane: Dane, enforced: bool) -> &'static str {
    Demand::of(level, dane, enforced, None).words()
}

#[cfg(test)]
mod tests {
    use waypost_dns::Tlsa;

    use super::*;

    fn tlsa(usage: u8) -> Tlsa {
        Tlsa { usage, selector: 1, matching: 1, data: vec![7; 32] }
    }

    #[test]
    fn the_stronger_side_decides() {
        use TlsLevel::{Encrypt, Never, Opportunistic, Verify};
        let with = |level, usages: &[u8], enforced| {
            let records = usages.iter().map(|usage| tlsa(*usage)).collect();
            let dane = Dane::of("mx.example", records);
            Demand::of(level, dane, enforced, Some("there.example"))
        };
        let of = |level, usages: &[u8]| with(level, usages, false);
        for level in [Never, Opportunistic, Encrypt, Verify] {
            assert_eq!(of(level, &[]), level.into());
        }
        assert_eq!(
            [Never, Opportunistic, Encrypt, Verify].map(|level| of(level, &[1])),
            [Demand::Never, Demand::Encrypt, Demand::Encrypt, Demand::Verify]
        );
        for level in [Opportunistic, Encrypt, Verify] {
            let Demand::Dane(named) = of(level, &[0, 3]) else { panic!("{level:?}") };
            assert_eq!(named.binding.records, [tlsa(3)]);
            assert_eq!(named.names, ["mx.example", "there.example"]);
        }
        assert_eq!(of(Never, &[3]), Demand::Never, "the operator has the last word");
        for level in [Opportunistic, Encrypt, Verify] {
            assert_eq!(
                [with(level, &[], true), with(level, &[1], true)],
                [Demand::Sts, Demand::Sts]
            );
            assert_eq!(with(level, &[3], true), of(level, &[3]), "DNSSEC comes first");
        }
        assert_eq!(with(Never, &[], true), Demand::Never);
    }
}
