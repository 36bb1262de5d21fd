//! What is proven about a way: which exchangers are a domain's own, and what their hosts must prove
//! (RFC 7672, RFC 8461).

use waypost_dns::sts::{Advice, Mode, Policy};
use waypost_dns::{Dane, Host, Mx, Search, Validation, Vouched, Ways, dane, ways};
use waypost_mail::{NextHop, Route, TlsLevel, Why};
use waypost_smtp::Domain;

use super::{Attempt, findings, label};
use crate::demand::Demand;
use crate::reports::{Applied, FailureKind, Finding};

/// The hosts of a hop, and what its domain says about them.
pub(super) struct Found {
    pub(super) hosts: Vec<Host>,
    /// All exchangers that the domain names.
    pub(super) exchangers: Vec<Mx>,
    /// The domain whose exchangers they are, if they are a domain's.
    pub(super) domain: Option<String>,
    /// Their names come from the configuration, or from DNS with DNSSEC, or are addresses.
    secure: bool,
    /// DNSSEC was to be asked and cannot be at the moment.
    unproven: bool,
    pub(super) sts: Advice,
}

impl Found {
    fn new(ways: Ways, domain: Option<String>, secure: bool, sts: Advice) -> Found {
        let Ways { hosts, exchangers } = ways;
        Found { hosts, exchangers, domain, secure, unproven: false, sts }
    }

    /// RFC 8689 §4.2.1: the name that a certificate must carry comes from the configuration, from DNS with
    /// DNSSEC or from a policy, or is the address itself.
    pub(super) fn is_trusted(&self) -> bool {
        self.secure || self.enforced().is_some()
    }

    /// True when hosts are looked at for a report: a policy is being tested.
    pub(super) fn is_tested(&self) -> bool {
        self.sts.policy.as_ref().is_some_and(|policy| policy.mode == Mode::Testing)
    }

    /// DNSSEC vouches for the names of the hosts, or nobody needs to.
    pub(super) fn is_secure(&self) -> bool {
        self.secure
    }

    /// What the policy of the domain says, for a person; nothing where there is none.
    pub(super) fn policy_words(&self) -> Option<String> {
        match (&self.sts.policy, &self.sts.trouble) {
            (Some(policy), _) => {
                let mode = match policy.mode {
                    Mode::Enforce => "enforced",
                    Mode::Testing => "testing",
                    Mode::None => "none",
                };
                let named: Vec<&str> = policy.mx.iter().take(5).map(String::as_str).collect();
                Some(format!("{mode}, for {}", named.join(", ")))
            }
            (None, Some(trouble)) => Some(trouble.to_string()),
            (None, None) => None,
        }
    }

    /// Why it may be known later who vouches for the hosts, if nobody does now; nothing where the domain has
    /// nothing that would.
    pub(super) fn doubt(&self) -> Option<String> {
        match &self.sts.trouble {
            _ if self.unproven => Some(
                "answers of DNS cannot be validated here at the moment (DNSSEC), which is tried again"
                    .to_owned(),
            ),
            _ if self.enforced().is_some() => None,
            _ if self.sts.unknown => {
                Some("it is not known whether its domain has a policy (MTA-STS)".to_owned())
            }
            trouble => trouble.as_ref().map(|trouble| format!("{trouble} (MTA-STS)")),
        }
    }

    /// The policy that hosts must meet.
    fn enforced(&self) -> Option<&Policy> {
        self.sts.policy.as_ref().filter(|policy| policy.mode == Mode::Enforce)
    }
}

impl Attempt<'_> {
    /// The hosts of a hop, best first.
    pub(super) async fn find(&self, route: &Route, hop: &NextHop) -> Result<Found, Why> {
        let config = &self.delivery.config;
        let search = Search::new(config.mx_port, &config.own_addresses, rand::random());
        let (plain, dnssec) = (&*self.delivery.parts.resolver, &*self.delivery.parts.dnssec);
        let NextHop::Mx(Domain::Name(domain)) = hop else {
            let (ways, sts) = (ways(plain, hop, &search).await?, Advice::default());
            return Ok(Found::new(ways, None, true, sts));
        };
        let asks = self.heeds_dane(route, hop) || self.ticket.entry.terms.require_tls;
        let validation = if asks { dnssec.validation().await } else { Validation::Off };
        let (ways, secure) = if validation == Validation::Works {
            let vouched = Vouched::new(plain, dnssec);
            (ways(&vouched, hop, &search).await?, vouched.is_secure())
        } else {
            (ways(plain, hop, &search).await?, false)
        };
        let sts = match &self.delivery.parts.policies {
            Some(policies) if self.heeds_policies(route) => policies.advice(domain).await,
            _ => Advice::default(),
        };
        let unproven = validation == Validation::Fails;
        Ok(Found { unproven, ..Found::new(ways, Some(domain.clone()), secure, sts) })
    }

    /// What a host must prove; the error says why that cannot be known, or cannot be proven.
    pub(super) async fn demand(
        &self,
        route: &Route,
        hop: &NextHop,
        found: &Found,
        host: &Host,
    ) -> Result<Demand, Why> {
        // Who logs in does so encrypted, where the route leaves the choice.
        let level = match route.tls {
            TlsLevel::Opportunistic if route.credentials.is_some() => TlsLevel::Encrypt,
            level => level,
        };
        let dane = self.dane(route, hop, host).await.inspect_err(|why| {
            let failure = Finding::new(FailureKind::DnssecInvalid, &why.to_string());
            self.count_refused(found, host, Applied::tlsa(&[]), failure);
        })?;
        if let Dane::Unusable(records) = &dane {
            let failure = Finding::new(FailureKind::TlsaInvalid, "no record can be used by SMTP");
            self.count_refused(found, host, Applied::tlsa(records), failure);
        }
        // RFC 7672 §3.2.2: the domain's own name will do where its exchangers are proven.
        let domain = found.domain.as_deref().filter(|_| found.secure);
        // Where they are not, a key proves that it is this host, and not that it is one of the domain's.
        let proven = found.secure && matches!(dane, Dane::Required(_));
        let policy = found.enforced().filter(|_| !proven);
        if let Some(policy) = policy.filter(|policy| !policy.names(&host.name)) {
            self.count_refused(found, host, Applied::sts(policy), findings::unnamed());
            return Err(unnamed(host, policy));
        }
        Ok(Demand::of(level, dane, policy.is_some(), domain))
    }

    async fn dane(&self, route: &Route, hop: &NextHop, host: &Host) -> Result<Dane, Why> {
        let dnssec = &*self.delivery.parts.dnssec;
        if !self.heeds_dane(route, hop) || !dnssec.works().await {
            return Ok(Dane::Absent);
        }
        dane(dnssec, &host.name, host.address.port()).await.map_err(|error| {
            let host = label(host);
            Why::DnsFailed(format!("{error}: so it is not known what {host} must prove (DANE)"))
        })
    }

    /// True when TLSA records count for this hop: where nobody says otherwise by MX alone, since names of
    /// the operator's own network are often no part of the signed tree.
    fn heeds_dane(&self, route: &Route, hop: &NextHop) -> bool {
        let usual = self.delivery.config.dane && matches!(hop, NextHop::Mx(_));
        !self.waives(route) && route.heed.dane.unwrap_or(usual)
    }

    fn heeds_policies(&self, route: &Route) -> bool {
        !self.waives(route) && route.heed.mta_sts.unwrap_or(self.delivery.config.mta_sts)
    }

    /// True when the operator wants no TLS here, or the sender wants what the recipient's side asks for set
    /// aside (RFC 8689 §4.3).
    fn waives(&self, route: &Route) -> bool {
        let terms = &self.ticket.entry.terms;
        let waived = terms.tls_optional && !terms.require_tls && route.credentials.is_none();
        route.tls == TlsLevel::Never || waived
    }
}

/// RFC 8461 §4.1
fn unnamed(host: &Host, policy: &Policy) -> Why {
    let named: Vec<&str> = policy.mx.iter().take(5).map(String::as_str).collect();
    let error = format!(
        "the policy of the recipient's domain (MTA-STS) does not name it but {}",
        named.join(", ")
    );
    Why::TlsRequired { hop: label(host), error }
}
