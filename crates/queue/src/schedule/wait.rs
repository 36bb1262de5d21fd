//! What a job waits for, for a person.

use waypost_mail::Timestamp;

use super::flow::Stage;
use super::{Job, Schedule};
use crate::standing::Wait;

impl Schedule {
    /// What keeps a job from being handed out now; nothing when it is not here.
    pub(crate) fn wait(&mut self, job: Job, now: Timestamp) -> Option<Wait> {
        let slot = *self.jobs.get(&job)?;
        let flow = self.flows.get(slot.flow)?.as_ref()?;
        let (stage, share) = (flow.stage, flow.share);
        let place = self.places.get(flow.place)?.as_ref()?;
        let site = self.sites.get_mut(place.site)?.as_mut()?;
        let own = place.rest.as_ref().filter(|_| place.is_resting(now));
        let shared = site.rest.as_ref().filter(|_| site.is_resting(now));
        let rest = own.into_iter().chain(shared).max_by_key(|rest| rest.until);
        Some(match (rest, stage) {
            (Some(rest), _) if rest.until >= slot.due => {
                Wait::Rest { until: rest.until, why: rest.why.clone() }
            }
            _ if slot.due > now => Wait::Time { until: slot.due },
            (_, Stage::HeldBack) => {
                let class = self.shares.class_of(share);
                Wait::Class { until: self.shares.opens(class, now) }
            }
            (_, Stage::Parked) => Wait::Tenant,
            (_, Stage::Offered { .. }) => {
                Wait::Turn { in_flight: self.in_flight, most: self.limits.in_flight }
            }
            (_, Stage::Queued | Stage::Idle) => {
                let most = place.most(now);
                match (place.has_slot(now), site.has_slot(), site.opens(now)) {
                    (false, ..) => Wait::Slot { in_flight: place.in_flight, most },
                    (true, true, until) if until > now => Wait::Rate { until },
                    _ => Wait::Slot { in_flight: site.in_flight, most: site.slots().min(most) },
                }
            }
        })
    }
}
