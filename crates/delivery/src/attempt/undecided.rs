//! Recipients whose way policy could not decide: it is asked again, less and less often.

use waypost_hooks::RouteView;
use waypost_mail::{Recipient, RecipientEntry, RecipientState, Route};

use super::{Attempt, Fate};
use crate::stored::Stored;

impl Attempt<'_> {
    /// Asks policy for the way of recipients, by their places. Who gets one is due by it at once, under
    /// the limits of its destination.
    pub(super) async fn find_ways(&mut self, places: &[usize]) {
        let entry = &self.ticket.entry;
        let recipients: Vec<Recipient> =
            places.iter().map(|at| self.ticket.recipients[*at].recipient.clone()).collect();
        let view = RouteView {
            id: entry.id,
            received: entry.received,
            expires: Some(entry.expires),
            session: &entry.facts,
            sender: &entry.sender,
            recipients: &recipients,
            size: entry.size,
            meta: &entry.meta,
            text: &Stored { delivery: self.delivery, entry },
        };
        let plan = self.delivery.parts.intake.plan_again(&view).await;
        for (at, planned) in places.iter().zip(&plan.recipients) {
            self.fates[*at] = Some(self.planned(planned, &plan.routes));
        }
    }

    fn planned(&self, planned: &RecipientEntry, routes: &[Route]) -> Fate {
        let now = self.delivery.parts.clock.now();
        let route = routes.get(planned.route as usize).filter(|route| !route.hops.is_empty());
        match (&planned.state, route) {
            (RecipientState::Held { reason, .. }, _) => Fate::Held(reason.clone()),
            (RecipientState::Waiting { last: Some(why), .. }, _) => Fate::Doomed(why.clone()),
            (RecipientState::Waiting { due, .. }, Some(route)) => {
                Fate::Routed(route.clone(), (*due).max(now))
            }
            _ => Fate::Postponed(self.later()),
        }
    }
}
