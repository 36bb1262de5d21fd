//! What refusals of an attempt mean, and what that means for its way.

use tracing::{error, info};
use waypost_dns::Host;
use waypost_mail::rulebook::Said;
use waypost_mail::{Category, Why};
use waypost_smtp::Phase;
use waypost_smtp::client::RecipientResult;

use super::Attempt;
use crate::SourceAddress;
use crate::reaction::slows_others;
use crate::restraint::Way;

impl Attempt<'_> {
    /// From where to whom, as providers see it.
    pub(super) fn way(&self, host: &Host, source: Option<&SourceAddress>) -> Way {
        let provider = self.rulebook.provider(&host.name).map(str::to_owned);
        Way {
            source: source.map(|source| source.address),
            to: provider.unwrap_or_else(|| self.ticket.destination.clone()),
        }
    }

    /// The cause with what it means. When it says that we send too much, the way rests from now on.
    pub(super) fn diagnosed(&mut self, why: Why, host: &Host, way: &Way) -> Why {
        let Why::Refused { phase, reply, hop } = &why else { return why };
        let found = self.rulebook.read(&Said { reply, phase: *phase, host: &host.name });
        let diagnosis = found.diagnosis;
        self.delivery.metrics.reply(diagnosis, found.provider);
        let (wait, rule) = (
            found.rule.and_then(|rule| rule.wait),
            found.rule.map_or_else(String::new, |rule| rule.name.clone()),
        );
        if slows_others(diagnosis) {
            let now = self.delivery.parts.clock.now();
            let until = self.delivery.restraints.restrain(way.clone(), wait, now);
            self.rest = self.rest.max(Some(until));
            info!(hop, to = way.to, source = ?way.source, %until, %reply, rule, "too much mail: the way rests");
        } else if diagnosis.disposition == waypost_mail::Disposition::LocalFault {
            error!(hop, %reply, rule, "the next hop wants what the configuration does not give; its mail waits");
        }
        Why::Diagnosed { diagnosis, rule, why: Box::new(why) }
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
