//! What is proven about a way: which exchangers are a domain's own, and what their hosts must prove
//! (RFC 7672).

use waypost_dns::{Host, Search, Vouched, dane, hosts};
use waypost_mail::{NextHop, Route, TlsLevel, Why};
use waypost_smtp::Domain;

use super::{Attempt, label};
use crate::demand::Demand;

/// The hosts of a hop.
pub(super) struct Found {
    pub(super) hosts: Vec<Host>,
    /// Their names come from the configuration, or from DNS with DNSSEC, or are addresses.
    pub(super) secure: bool,
}

impl Attempt<'_> {
    /// The hosts of a hop, best first.
    pub(super) async fn find(&self, route: &Route, hop: &NextHop) -> Result<Found, Why> {
        let config = &self.delivery.config;
        let search = Search::new(config.mx_port, &config.own_addresses, rand::random());
        let (plain, dnssec) = (&*self.delivery.parts.resolver, &*self.delivery.parts.dnssec);
        let by_name = matches!(hop, NextHop::Mx(Domain::Name(_)));
        let asks = self.heeds_dane(route, hop) || self.ticket.entry.terms.require_tls;
        if by_name && asks && dnssec.works().await {
            let vouched = Vouched::new(plain, dnssec);
            let hosts = hosts(&vouched, hop, &search).await?;
            return Ok(Found { hosts, secure: vouched.is_secure() });
        }
        Ok(Found { hosts: hosts(plain, hop, &search).await?, secure: !by_name })
    }

    /// What a host must prove; the error says why that cannot be known.
    pub(super) async fn demand(
        &self,
        route: &Route,
        hop: &NextHop,
        host: &Host,
        secure: bool,
    ) -> Result<Demand, Why> {
        // Who logs in does so encrypted, where the route leaves the choice.
        let level = match route.tls {
            TlsLevel::Opportunistic if route.credentials.is_some() => TlsLevel::Encrypt,
            level => level,
        };
        let dnssec = &*self.delivery.parts.dnssec;
        if !self.heeds_dane(route, hop) || !dnssec.works().await {
            return Ok(level.into());
        }
        let found = dane(dnssec, &host.name, host.address.port()).await.map_err(|error| {
            let host = label(host);
            Why::DnsFailed(format!("{error}: so it is not known what {host} must prove (DANE)"))
        })?;
        // RFC 7672 §3.2.2: the domain's own name will do where its exchangers are proven.
        let domain = match hop {
            NextHop::Mx(Domain::Name(domain)) if secure => Some(domain.as_str()),
            _ => None,
        };
        Ok(Demand::of(level, found, domain))
    }

    /// True when TLSA records count for this hop: where nobody says otherwise by MX alone, since names of
    /// the operator's own network are often no part of the signed tree.
    fn heeds_dane(&self, route: &Route, hop: &NextHop) -> bool {
        let terms = &self.ticket.entry.terms;
        // RFC 8689 §4.3
        let waived = terms.tls_optional && !terms.require_tls && route.credentials.is_none();
        let usual = self.delivery.config.dane && matches!(hop, NextHop::Mx(_));
        route.tls != TlsLevel::Never && !waived && route.heed.dane.unwrap_or(usual)
    }
}
