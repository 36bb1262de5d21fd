//! Ways that are decided in the course of delivery: of recipients about whom policy could not decide
//! before, and anew of those that were tried in vain.

use waypost_hooks::RouteView;
use waypost_intake::RoutePlan;
use waypost_mail::{Recipient, RecipientEntry, RecipientState, Route};

use super::{Attempt, Fate};
use crate::stored::Stored;

impl Attempt<'_> {
    /// Asks policy for the way of recipients, by their places. Who gets one is due by it at once, under
    /// the limits of its destination.
    pub(super) async fn find_ways(&mut self, places: &[usize]) {
        let plan = self.plan(places).await;
        for (at, planned) in places.iter().zip(&plan.recipients) {
            self.fates[*at] = Some(self.planned(planned, &plan.routes));
        }
    }

    /// Decides anew about recipients that failed since their way was decided, by the configuration and
    /// policy of now. Answers who goes the ticket's way; the others have their fate. A way that
    /// somebody chose for waiting mail stays.
    pub(super) async fn decide_anew(&mut self, places: Vec<usize>) -> Vec<usize> {
        if self.ticket.route.fixed {
            return places;
        }
        // A new way forgets the last failure, so that ways cannot change for ever without a try.
        let failed = |at: &usize| {
            matches!(
                self.ticket.recipients[*at].state,
                RecipientState::Waiting { last: Some(_), .. }
            )
        };
        let (failed, mut staying): (Vec<usize>, Vec<usize>) = places.into_iter().partition(failed);
        if failed.is_empty() {
            return staying;
        }
        let plan = self.plan(&failed).await;
        for (at, planned) in failed.into_iter().zip(&plan.recipients) {
            match self.changed(planned, &plan.routes) {
                Some(fate) => self.fates[at] = Some(fate),
                None => staying.push(at),
            }
        }
        staying.sort_unstable();
        staying
    }

    async fn plan(&self, places: &[usize]) -> RoutePlan {
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
            text: &Stored { delivery: self.delivery, entry, copy: None },
        };
        self.delivery.parts.intake.plan_again(&view).await
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

    /// What becomes of a recipient that has a way already; nothing when it keeps that. When it begins
    /// and who is held was said when it came, and a release of operators stands.
    fn changed(&self, planned: &RecipientEntry, routes: &[Route]) -> Option<Fate> {
        if let RecipientState::Waiting { last: Some(why), .. } = &planned.state {
            return Some(Fate::Doomed(why.clone()));
        }
        let route = routes.get(planned.route as usize)?;
        let moves = !route.hops.is_empty() && *route != self.ticket.route;
        moves.then(|| Fate::Routed(route.clone(), self.delivery.parts.clock.now()))
    }
}
