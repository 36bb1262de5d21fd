//! What operators change.
//!
//! Whoever changes recipients leases them first, like an attempt does, so a change and an attempt
//! never meet. What is being attempted right now is left alone and counted.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use waypost_mail::{Entry, MessageId, Outcome, RecipientEntry, RecipientState};
use waypost_spool::{Change, Detours, SpoolError};

use crate::finish::finish;
use crate::metrics::SettledLabels;
use crate::schedule::Job;
use crate::settle::bounded;
use crate::shared::Shared;
use crate::ticket::{Fate, Lease};
use crate::view::tries;
use crate::{Queue, Ticket, expired};

/// What an operator's change did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Touched {
    /// Recipients changed.
    pub changed: usize,
    /// Recipients left alone because an attempt was under way.
    pub in_flight: usize,
}

/// Why an operator's change was not made.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AdminError {
    /// There is no such message, or nothing of it is left to change.
    #[error("there is no message {0} in the queue")]
    Unknown(MessageId),
    /// Every recipient it would change is being attempted right now.
    #[error("{1} recipients of message {0} are being delivered right now; try again in a moment")]
    InFlight(MessageId, usize),
    /// Storage failed.
    #[error(transparent)]
    Spool(SpoolError),
}

impl From<SpoolError> for AdminError {
    fn from(error: SpoolError) -> AdminError {
        match error {
            SpoolError::Unknown(id) => AdminError::Unknown(id),
            other => AdminError::Spool(other),
        }
    }
}

impl Queue {
    /// Holds every recipient that waits, for a reason that operators are shown. Those that policy
    /// refused wait for their bounce and are left alone: a release would deliver to them.
    ///
    /// # Errors
    /// See [`AdminError`]; nothing is changed then.
    pub async fn hold(&self, id: MessageId, reason: String) -> Result<Touched, AdminError> {
        let reason = bounded(reason);
        self.change(id, may_be_held, Kind::Administer, move |old| {
            (RecipientState::Held { tries: tries(old), reason: reason.clone() }, Fate::Held)
        })
        .await
    }

    /// Lets go every recipient that is held: it is due now. A message whose time is over bounces.
    ///
    /// # Errors
    /// See [`AdminError`]; nothing is changed then.
    pub async fn release(&self, id: MessageId) -> Result<Touched, AdminError> {
        let due = self.shared.clock.now();
        self.change(id, is_held, Kind::Administer, move |old| {
            (RecipientState::Waiting { due, tries: tries(old), last: None }, Fate::Due(due))
        })
        .await
    }

    /// Makes every recipient that waits due now, and ends the rest of its destination.
    ///
    /// # Errors
    /// See [`AdminError`]; nothing is changed then.
    pub async fn retry(&self, id: MessageId) -> Result<Touched, AdminError> {
        let due = self.shared.clock.now();
        self.change(id, is_waiting, Kind::Retry, move |old| {
            let last = match old {
                RecipientState::Waiting { last, .. } => last.clone(),
                _ => None,
            };
            (RecipientState::Waiting { due, tries: tries(old), last }, Fate::Due(due))
        })
        .await
    }

    /// Removes every recipient that is not done, without a notice to anybody. A damaged message goes
    /// as a whole.
    ///
    /// # Errors
    /// See [`AdminError`]; nothing is changed then.
    pub async fn delete(&self, id: MessageId) -> Result<Touched, AdminError> {
        if matches!(self.shared.spool.load(id), Err(SpoolError::Damaged(..))) {
            let shared = self.shared.clone();
            return finish(async move { remove(&shared, id).await }).await;
        }
        self.change(id, is_open, Kind::Settle, |_| {
            (RecipientState::Done(Outcome::Deleted), Fate::Done)
        })
        .await
    }

    /// Leases everything that is not done, held recipients included, whether due or not and however
    /// busy the destination: one ticket per route. The caller settles them, as bounced for instance,
    /// with a notice.
    ///
    /// # Errors
    /// See [`AdminError`].
    pub async fn lease(&self, id: MessageId) -> Result<Vec<Ticket>, AdminError> {
        let Claim { entry, parts, in_flight } = claim(&self.shared, id, is_open)?;
        if parts.is_empty() {
            return Err(nothing_left(id, in_flight));
        }
        let over = expired(&entry, self.shared.clock.now());
        let ticket = |(lease, recipients): (Lease, Vec<RecipientEntry>)| {
            let route = recipients.first().and_then(|first| entry.route_of(first))?.clone();
            let destination = lease.destination.clone();
            let entry = entry.clone();
            Some(Ticket { id, destination, route, entry, recipients, expired: over, lease })
        };
        Ok(parts.into_iter().filter_map(ticket).collect())
    }

    /// Changes the recipients of `id` that are `wanted` to what `state` makes of the old state.
    async fn change(
        &self,
        id: MessageId,
        wanted: fn(&RecipientState) -> bool,
        kind: Kind,
        state: impl Fn(&RecipientState) -> (RecipientState, Fate) + Send + 'static,
    ) -> Result<Touched, AdminError> {
        let shared = self.shared.clone();
        finish(async move {
            let Claim { parts, in_flight, .. } = claim(&shared, id, wanted)?;
            let (mut states, mut fates) = (Vec::new(), HashMap::new());
            for recipient in parts.iter().flat_map(|(_, recipients)| recipients) {
                let (state, fate) = state(&recipient.state);
                states.push((recipient.recipient.id, state));
                fates.insert(recipient.recipient.id, fate);
            }
            let changed = states.len();
            if changed == 0 && in_flight > 0 {
                return Err(AdminError::InFlight(id, in_flight));
            }
            if changed > 0 {
                shared.change(kind.change(id, states)).await?;
            }
            for (lease, _) in parts {
                kind.note(&shared, &lease);
                lease.end(&fates, None);
            }
            Ok(Touched { changed, in_flight })
        })
        .await
    }
}

/// What kind of change it is.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Administer,
    Retry,
    Settle,
}

impl Kind {
    fn change(self, id: MessageId, states: Vec<(u32, RecipientState)>) -> Change {
        match self {
            Kind::Administer | Kind::Retry => Change::Administer { id, states },
            Kind::Settle => {
                Change::Settle { id, states, detours: Detours::default(), notice: None }
            }
        }
    }

    /// What else follows from the change.
    fn note(self, shared: &Shared, lease: &Lease) {
        match self {
            Kind::Administer => {}
            Kind::Retry => {
                let now = shared.clock.now();
                shared.state().schedule.rouse(&lease.destination, now);
            }
            Kind::Settle => {
                let label = SettledLabels { outcome: Outcome::Deleted.label(), cause: "" };
                let count = lease.recipients.len() as u64;
                shared.metrics.settled.get_or_create(&label).inc_by(count);
            }
        }
    }
}

/// Recipients of one message in an operator's hand, route by route.
struct Claim {
    entry: Arc<Entry>,
    parts: Vec<(Lease, Vec<RecipientEntry>)>,
    /// Wanted recipients that somebody else has in hand.
    in_flight: usize,
}

fn claim(
    shared: &Arc<Shared>,
    id: MessageId,
    wanted: fn(&RecipientState) -> bool,
) -> Result<Claim, AdminError> {
    let (mut state, loaded) = shared.load(id);
    let entry = loaded?;
    if state.arriving.contains(&id) {
        return Err(AdminError::Unknown(id));
    }
    let leased = state.leases.of(id);
    let mut in_flight = 0;
    let mut routes: BTreeMap<u16, Vec<RecipientEntry>> = BTreeMap::new();
    for recipient in entry.recipients.iter().filter(|r| wanted(&r.state)) {
        if leased.is_some_and(|leased| leased.contains(&recipient.recipient.id)) {
            in_flight += 1;
        } else {
            routes.entry(recipient.route).or_default().push(recipient.clone());
        }
    }
    let mut parts = Vec::new();
    for (route, recipients) in routes {
        let lease = shared.take(&mut state, &entry, Job { id, route }, &recipients, false);
        parts.push((lease, recipients));
    }
    shared.publish(&state);
    Ok(Claim { entry, parts, in_flight })
}

async fn remove(shared: &Shared, id: MessageId) -> Result<Touched, AdminError> {
    shared.change(Change::Remove { id }).await?;
    shared.state().damaged.remove(&id);
    Ok(Touched::default())
}

fn nothing_left(id: MessageId, in_flight: usize) -> AdminError {
    if in_flight > 0 { AdminError::InFlight(id, in_flight) } else { AdminError::Unknown(id) }
}

fn is_open(state: &RecipientState) -> bool {
    !state.is_done()
}

fn is_waiting(state: &RecipientState) -> bool {
    matches!(state, RecipientState::Waiting { .. })
}

/// It waits, and not for the bounce that intake decided.
fn may_be_held(state: &RecipientState) -> bool {
    match state {
        RecipientState::Waiting { tries: 0, last: Some(why), .. } => !why.is_permanent(),
        state => is_waiting(state),
    }
}

fn is_held(state: &RecipientState) -> bool {
    matches!(state, RecipientState::Held { .. })
}

#[cfg(test)]
mod tests;
