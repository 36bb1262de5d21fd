//! Other domains for senders, in the envelope and in header fields.

use waypost_sdk::patterns::DomainPattern;
use waypost_sdk::prelude::*;

use crate::config::{self, When};

/// Which addresses become which.
#[derive(Debug)]
pub(crate) struct Masquerade {
    addresses: Vec<(Mailbox, Mailbox)>,
    domains: Vec<(DomainPattern, String)>,
    pub(crate) headers: Vec<String>,
    envelope: bool,
    when: When,
}

impl Masquerade {
    pub(crate) fn of(config: &config::Masquerade) -> Result<Masquerade, String> {
        let mut addresses = Vec::new();
        for (from, to) in &config.addresses {
            let place = format!("masquerade.addresses.{from}");
            addresses.push((config::address(&place, from)?, config::address(&place, to)?));
        }
        let mut domains = Vec::new();
        for (from, to) in &config.domains {
            let place = format!("masquerade.domains.{from}");
            let pattern =
                DomainPattern::parse(from).map_err(|wrong| format!("{place}: {wrong}"))?;
            domains.push((pattern, config::domain(&place, to)?));
        }
        // The map has no order: the nearest pattern goes first.
        let nearness = |pattern: &DomainPattern| match pattern {
            DomainPattern::Exact(_) => 1000,
            DomainPattern::Below(suffix) => suffix.len(),
            DomainPattern::Any => 0,
        };
        domains.sort_by_key(|(pattern, _)| std::cmp::Reverse(nearness(pattern)));
        let nothing = addresses.is_empty() && domains.is_empty();
        let usual = || ["From", "Sender", "Reply-To"].map(str::to_owned).to_vec();
        let headers = config.headers.clone().unwrap_or_else(usual);
        for (at, name) in headers.iter().enumerate() {
            crate::fields::must_be_free(name)
                .map_err(|wrong| format!("masquerade.headers[{at}]: {wrong}"))?;
        }
        Ok(Masquerade {
            addresses,
            domains,
            headers: if nothing { Vec::new() } else { headers },
            envelope: config.envelope && !nothing,
            when: config.when.clone(),
        })
    }

    pub(crate) fn apply(
        &self,
        asked: &Asked<'_>,
        headers: &[Header],
        mut outcome: MessageOutcome,
    ) -> MessageOutcome {
        if self.headers.is_empty() && !self.envelope || !self.when.holds(asked) {
            return outcome;
        }
        let sender = asked.envelope.sender.as_ref().filter(|_| self.envelope);
        if let Some(other) = sender.and_then(|sender| self.other(sender)) {
            let why = format!("the envelope sender is now {other}");
            outcome = outcome
                .edit(MessageEdit::SetSender(SenderChange::To(other)))
                .because("masqueraded", why);
        }
        for header in headers {
            if !self.headers.iter().any(|name| name.eq_ignore_ascii_case(&header.name)) {
                continue;
            }
            outcome = match self.value(header) {
                Ok(None) => outcome,
                Ok(Some(value)) => outcome
                    .change_header(header.id, value)
                    .because("masqueraded", format!("addresses in {}", header.name)),
                Err(why) => outcome.because("left-alone", format!("{}: {why}", header.name)),
            };
        }
        outcome
    }

    /// Another address, when there is one.
    fn other(&self, address: &Mailbox) -> Option<Mailbox> {
        let single = self.addresses.iter().find(|(from, _)| from.same(address));
        let domain = || {
            let (_, to) = self.domains.iter().find(|(from, _)| from.matches(&address.domain))?;
            Some(Mailbox::new(address.local.clone(), to.clone()))
        };
        single.map(|(_, to)| to.clone()).or_else(domain).filter(|other| !other.same(address))
    }

    /// The value with other addresses, all else as it was; absent when it stays.
    fn value(&self, header: &Header) -> Result<Option<String>, String> {
        if header.lossy || header.value.contains(['\r', '\n', '\0']) {
            return Err("it has octets that could not be written again".to_owned());
        }
        let found = field_addresses(&header.value).map_err(|wrong| wrong.to_string())?;
        let mut value = String::with_capacity(header.value.len());
        let mut at = 0;
        for address in &found {
            let Some(other) = self.other(&address.mailbox) else { continue };
            value.push_str(&header.value[at..address.place.start]);
            value.push_str(&other.to_string());
            at = address.place.end;
        }
        if at == 0 {
            return Ok(None);
        }
        value.push_str(&header.value[at..]);
        Ok(Some(value))
    }
}
