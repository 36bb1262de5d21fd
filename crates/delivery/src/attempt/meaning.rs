//! What refusals of an attempt mean, and what that means for its way.

use std::net::IpAddr;

use tracing::{error, info};
use waypost_dns::Host;
use waypost_mail::rulebook::Said;
use waypost_mail::{Category, Diagnosis, Disposition, NextHop, Scope, Why};
use waypost_smtp::client::RecipientResult;
use waypost_smtp::{Phase, Severity};

use super::Attempt;
use crate::SourceAddress;
use crate::reaction::slows_others;
use crate::restraint::Way;

impl Attempt<'_> {
    /// From where to whom, as providers see it. Who is no known provider is the hop itself: a domain,
    /// or one of several smart hosts.
    pub(super) fn way(&self, hop: &NextHop, host: &Host, source: Option<&SourceAddress>) -> Way {
        let provider = self.rulebook.provider(&host.name).map(str::to_owned);
        Way {
            source: source.map(|source| source.address),
            to: provider.or_else(|| self.site.clone()).unwrap_or_else(|| hop.to_string()),
        }
    }

    /// The cause with what it means. When it says that we send too much, the way rests from now on.
    pub(super) fn diagnosed(&mut self, why: Why, host: &Host, way: &Way) -> Why {
        let Why::Refused { phase, reply, hop } = &why else { return why };
        let found = self.rulebook.read(&Said { reply, phase: *phase, host: &host.name });
        let mut diagnosis = found.diagnosis;
        let login = diagnosis.category == Category::AuthNeeded;
        if login && self.foreign && reply.severity() == Severity::Permanent {
            // Nobody here has an account there, and nobody can get one for every domain.
            diagnosis = Diagnosis::new(Disposition::Permanent, Category::AuthNeeded);
        }
        self.delivery.metrics.reply(diagnosis, found.provider);
        let (wait, rule) = (
            found.rule.and_then(|rule| rule.wait),
            found.rule.map_or_else(String::new, |rule| rule.name.clone()),
        );
        if slows_others(diagnosis) {
            let now = self.delivery.parts.clock.now();
            let restrained = self.delivery.restraints.restrain(way.clone(), wait, now);
            let until = restrained.restraint.until;
            if restrained.anew {
                self.delivery.keep_rest(way, restrained.restraint);
            }
            self.rest = self.rest.max(Some(until));
            self.trouble = Some(why.to_string());
            info!(hop, to = way.to, source = ?way.source, %until, %reply, rule, "too much mail: the way rests");
        } else if diagnosis.disposition == Disposition::LocalFault {
            error!(hop, %reply, rule, "the next hop wants what the configuration does not give; its mail waits");
        }
        Why::Diagnosed { diagnosis, rule, why: Box::new(why) }
    }

    /// True when a refusal is about the address of ours that we came from, and others of its pool may
    /// do better: it rests at this destination from now on. What a host says of a content that it has
    /// seen is no matter of addresses alone.
    pub(super) fn spurns(&mut self, why: &Why, phase: Phase, from: Option<IpAddr>) -> bool {
        let diagnosis = why.diagnosis();
        let Some(from) = from.filter(|_| {
            diagnosis.scope == Scope::Source && !slows_others(diagnosis) && phase < Phase::Data
        }) else {
            return false;
        };
        self.spurned = true;
        self.delivery.resting.rest(from, &self.ticket.destination, &why.to_string());
        true
    }

    /// True when the host took as many recipients as it takes at once, this one not among them
    /// (RFC 5321 §4.5.3.1.10).
    pub(super) fn is_crowded_out(&self, answer: &RecipientResult, host: &Host) -> bool {
        let RecipientResult { phase: Phase::Rcpt, reply } = answer else { return false };
        let said = Said { reply, phase: Phase::Rcpt, host: &host.name };
        !reply.is_positive()
            && self.rulebook.read(&said).diagnosis.category == Category::TooManyRecipients
    }
}
