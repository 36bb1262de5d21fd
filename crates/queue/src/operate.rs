//! What operators change.
//!
//! Whoever changes recipients leases them first, like an attempt does, so a change and an attempt
//! never meet. What is being attempted right now is left alone and counted.

use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use waypost_mail::{Entry, MessageId, Outcome, RecipientEntry, RecipientState, Route};
use waypost_mutant::planted;
use waypost_smtp::Domain;
use waypost_spool::{Change, Detours, SpoolError};

use crate::finish::finish;
use crate::index::marks;
use crate::metrics::SettledLabels;
use crate::schedule::Job;
use crate::selector::{RecipientStanding, Selector};
use crate::settle::bounded;
use crate::shared::Shared;
use crate::ticket::{Fate, Lease};
use crate::view::tries;
use crate::{Queue, Ticket, expired};

/// One message and whom of it a change is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selected {
    /// The message.
    pub id: MessageId,
    /// The recipients; all of them when absent.
    pub recipients: Option<Vec<u32>>,
}

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
    /// There is no such way to go.
    #[error("{0}")]
    NoWay(String),
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

/// What a change would do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Preview {
    /// Messages of which somebody would be changed.
    pub messages: usize,
    /// Recipients that would be changed.
    pub recipients: usize,
    /// Recipients that would be left alone because an attempt is under way.
    pub in_flight: usize,
}

impl Preview {
    fn add(&mut self, recipients: usize) {
        self.messages += usize::from(recipients > 0);
        self.recipients += recipients;
    }
}

impl From<MessageId> for Selected {
    fn from(id: MessageId) -> Selected {
        Selected { id, recipients: None }
    }
}

impl Selected {
    fn has(&self, recipient: u32) -> bool {
        self.recipients.as_ref().is_none_or(|recipients| recipients.contains(&recipient))
    }
}

/// What can be done to mail that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// [`Queue::hold`].
    Hold,
    /// [`Queue::release`].
    Release,
    /// [`Queue::retry`].
    Retry,
    /// [`Queue::reroute`].
    Reroute,
    /// [`Queue::lease`], then settled as bounced.
    Bounce,
    /// [`Queue::lease`], then settled as expired.
    Expire,
    /// [`Queue::extend`].
    Extend,
    /// [`Queue::delete`].
    Delete,
}

impl Verb {
    /// True when it changes a recipient that stands so, attempts under way aside.
    pub fn concerns(self, standing: RecipientStanding) -> bool {
        use RecipientStanding::{Held, InFlight, Waiting};
        match self {
            Verb::Hold | Verb::Retry => matches!(standing, Waiting | InFlight),
            Verb::Release => standing == Held,
            Verb::Reroute | Verb::Bounce | Verb::Expire | Verb::Extend | Verb::Delete => {
                matches!(standing, Waiting | Held | InFlight)
            }
        }
    }
}

impl Queue {
    /// The messages above `after` of which `verb` would change somebody who is selected, at most
    /// `limit`, oldest first.
    pub fn select(
        &self,
        selector: &Selector,
        verb: Verb,
        after: Option<MessageId>,
        limit: usize,
    ) -> Vec<Selected> {
        let mut all = Vec::new();
        self.shared.scan(selector, after, |found| {
            let concerned = found.recipients.iter().filter(|(r, l)| verb.concerns(r.standing(*l)));
            let recipients: Vec<u32> = concerned.map(|(recipient, _)| recipient.id()).collect();
            if all.len() == limit {
                return ControlFlow::Break(());
            }
            if !recipients.is_empty() {
                all.push(Selected { id: found.message.id(), recipients: Some(recipients) });
            }
            ControlFlow::Continue(())
        });
        all
    }

    /// Whom `verb` would change if it were said now, and whom it would leave alone because an attempt is
    /// under way. Reads the spool for those of whom the index does not say whether they may be held:
    /// call it where blocking is allowed.
    pub fn preview(&self, selector: &Selector, verb: Verb) -> Preview {
        let (mut preview, mut doubtful) = (Preview::default(), Vec::new());
        self.shared.scan(selector, None, |found| {
            let concerned = found.recipients.iter().filter(|(r, l)| verb.concerns(r.standing(*l)));
            // Whatever is under way, the message's time is another.
            let busy = |leased: bool| leased && verb != Verb::Extend;
            let (busy, free): (Vec<_>, Vec<_>) = concerned.partition(|(_, l)| busy(*l));
            preview.in_flight += busy.len();
            if verb == Verb::Hold && free.iter().any(|(r, _)| r.may_be_doomed()) {
                doubtful.push((found.message.id(), free.iter().map(|(r, _)| r.id()).collect()));
            } else {
                preview.add(free.len());
            }
            ControlFlow::Continue(())
        });
        for (id, recipients) in doubtful {
            let recipients: Vec<u32> = recipients;
            let Ok(entry) = self.shared.spool.load(id) else { continue };
            let held = entry
                .recipients
                .iter()
                .filter(|r| recipients.contains(&r.recipient.id) && may_be_held(&r.state));
            preview.add(held.count());
        }
        preview
    }

    /// The message that came last of those that are kept.
    pub fn newest(&self) -> Option<MessageId> {
        self.shared.state().index.newest()
    }

    /// Holds every recipient that waits, for a reason that operators are shown. Those that policy
    /// refused wait for their bounce and are left alone: a release would deliver to them.
    ///
    /// # Errors
    /// See [`AdminError`]; nothing is changed then.
    pub async fn hold(
        &self,
        whom: impl Into<Selected>,
        reason: String,
    ) -> Result<Touched, AdminError> {
        let reason = bounded(reason);
        self.change(whom.into(), may_be_held, Kind::Administer, move |_, old| {
            (RecipientState::Held { tries: tries(old), reason: reason.clone() }, Fate::Held)
        })
        .await
    }

    /// Lets go every recipient that is held: it is due now, or within a quarter of an hour when much is
    /// let go for one destination. A message whose time is over bounces.
    ///
    /// # Errors
    /// See [`AdminError`]; nothing is changed then.
    pub async fn release(&self, whom: impl Into<Selected>) -> Result<Touched, AdminError> {
        let shared = self.shared.clone();
        self.change(whom.into(), is_held, Kind::Administer, move |destination, old| {
            let due = shared.paced(destination);
            (RecipientState::Waiting { due, tries: tries(old), last: None }, Fate::Due(due))
        })
        .await
    }

    /// Makes every recipient that waits due now, or within a quarter of an hour when there are many for
    /// one destination, and ends the rest of its destination.
    ///
    /// # Errors
    /// See [`AdminError`]; nothing is changed then.
    pub async fn retry(&self, whom: impl Into<Selected>) -> Result<Touched, AdminError> {
        let shared = self.shared.clone();
        self.change(whom.into(), is_waiting, Kind::Retry, move |destination, old| {
            let due = shared.paced(destination);
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
    pub async fn delete(&self, whom: impl Into<Selected>) -> Result<Touched, AdminError> {
        let whom = whom.into();
        if matches!(self.shared.spool.load(whom.id), Err(SpoolError::Damaged(..))) {
            let shared = self.shared.clone();
            return finish(async move { remove(&shared, whom.id).await }).await;
        }
        self.change(whom, is_open, Kind::Settle, |_, _| {
            (RecipientState::Done(Outcome::Deleted), Fate::Done)
        })
        .await
    }

    /// Leases everything that is not done, held recipients included, whether due or not and however
    /// busy the destination: one ticket per route, and how many recipients somebody else has in hand. The
    /// caller settles them, as bounced for instance, with a notice.
    ///
    /// # Errors
    /// See [`AdminError`].
    pub async fn lease(
        &self,
        whom: impl Into<Selected>,
    ) -> Result<(Vec<Ticket>, usize), AdminError> {
        let whom = whom.into();
        let id = whom.id;
        let Claim { entry, parts, in_flight } = claim(&self.shared, &whom, is_open)?;
        if parts.is_empty() {
            return Err(nothing_left(id, in_flight));
        }
        let over = expired(&entry, self.shared.clock.now());
        let ticket = |(lease, recipients): (Lease, Vec<RecipientEntry>)| {
            let route = recipients.first().and_then(|first| entry.route_of(first))?.clone();
            let destination = lease.destination.clone();
            let entry = entry.clone();
            Some(Ticket {
                id,
                destination,
                route,
                entry,
                recipients,
                expired: over,
                out_of_turn: false,
                late: Vec::new(),
                held: Vec::new(),
                lease,
            })
        };
        Ok((parts.into_iter().filter_map(ticket).collect(), in_flight))
    }

    /// Gives a message so much more time, from its end on, or from now when that is over. The time is that
    /// of all its recipients, those included that are being attempted; the selected ones are counted.
    ///
    /// # Errors
    /// See [`AdminError`]; nothing is changed then.
    pub async fn extend(
        &self,
        whom: impl Into<Selected>,
        by: Duration,
    ) -> Result<Touched, AdminError> {
        let (shared, whom) = (self.shared.clone(), whom.into());
        finish(async move {
            let id = whom.id;
            let (changed, expires, stored) = {
                let (state, loaded) = shared.load(id);
                let entry = loaded?;
                let meant = |r: &&RecipientEntry| is_open(&r.state) && whom.has(r.recipient.id);
                let expires = entry.expires.max(state.time.now()).after(by);
                let stored = state.time.moved(id).stored(expires);
                (entry.recipients.iter().filter(meant).count(), expires, stored)
            };
            if changed == 0 {
                return Err(AdminError::Unknown(id));
            }
            let detours = Detours { expires: Some(stored), ..Detours::default() };
            shared.change(Change::Settle { id, states: Vec::new(), detours, notice: None }).await?;
            let mut state = shared.state();
            state.cache.remove(id);
            state.index.set_expires(id, expires);
            Ok(Touched { changed, in_flight: 0 })
        })
        .await
    }

    /// Gives every recipient that is not done another way: what waits is due now, what is held stays
    /// held. `way` says where mail for a domain goes, or why it cannot.
    ///
    /// # Errors
    /// See [`AdminError`]; nothing is changed then.
    pub async fn reroute(
        &self,
        whom: impl Into<Selected>,
        way: impl Fn(&Domain) -> Result<Route, String> + Send + 'static,
    ) -> Result<Touched, AdminError> {
        let (shared, whom) = (self.shared.clone(), whom.into());
        finish(async move {
            let Claim { parts, in_flight, .. } = claim(&shared, &whom, is_open)?;
            let (mut states, mut fates, mut detours) =
                <(Vec<_>, HashMap<_, _>, Detours)>::default();
            for recipient in parts.iter().flat_map(|(_, recipients)| recipients) {
                let id = recipient.recipient.id;
                let route = way(recipient.recipient.mailbox.domain()).map_err(AdminError::NoWay)?;
                let route = Route { fixed: true, ..route };
                let (state, fate) = match &recipient.state {
                    RecipientState::Waiting { tries, last, .. } => {
                        let due = shared.paced(&route.destination());
                        let (tries, last) = (*tries, last.clone());
                        (RecipientState::Waiting { due, tries, last }, Fate::Elsewhere(due))
                    }
                    RecipientState::Held { tries, .. } if planted!("a reroute releases") => {
                        let due = shared.clock.now();
                        let state = RecipientState::Waiting { due, tries: *tries, last: None };
                        (state, Fate::Elsewhere(due))
                    }
                    other => (other.clone(), Fate::Held),
                };
                detours.routes.push((id, route));
                states.push((id, state));
                fates.insert(id, fate);
            }
            let (id, changed) = (whom.id, states.len());
            if changed == 0 {
                return Err(nothing_left(id, in_flight));
            }
            shared.change(Change::Settle { id, states, detours, notice: None }).await?;
            let mut moved = shared.spool.load(id)?;
            {
                let mut state = shared.state();
                state.put_right(&mut moved, |id| fates.contains_key(&id));
                state.index.insert(&moved);
            }
            for (lease, _) in parts {
                lease.end(&fates, Some(&moved));
            }
            Ok(Touched { changed, in_flight })
        })
        .await
    }

    /// Changes the recipients that are `wanted` to what `state` makes of destination and old state.
    async fn change(
        &self,
        whom: Selected,
        wanted: fn(&RecipientState) -> bool,
        kind: Kind,
        state: impl Fn(&str, &RecipientState) -> (RecipientState, Fate) + Send + 'static,
    ) -> Result<Touched, AdminError> {
        let (shared, id) = (self.shared.clone(), whom.id);
        finish(async move {
            let Claim { parts, in_flight, .. } = claim(&shared, &whom, wanted)?;
            let (mut states, mut fates) = (Vec::new(), HashMap::new());
            for (lease, recipients) in &parts {
                for recipient in recipients {
                    let (state, fate) = state(&lease.destination, &recipient.state);
                    states.push((recipient.recipient.id, state));
                    fates.insert(recipient.recipient.id, fate);
                }
            }
            let changed = states.len();
            if changed == 0 && in_flight > 0 {
                return Err(AdminError::InFlight(id, in_flight));
            }
            if changed > 0 {
                let marks = marks(&states);
                shared.change(kind.change(id, states)).await?;
                shared.state().index.set(id, marks);
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
    whom: &Selected,
    wanted: fn(&RecipientState) -> bool,
) -> Result<Claim, AdminError> {
    let id = whom.id;
    let (mut state, loaded) = shared.load(id);
    let entry = loaded?;
    if state.arriving.contains(&id) {
        return Err(AdminError::Unknown(id));
    }
    let leased = state.leases.of(id);
    let mut in_flight = 0;
    let mut routes: BTreeMap<u16, Vec<RecipientEntry>> = BTreeMap::new();
    let meant = |r: &&RecipientEntry| wanted(&r.state) && whom.has(r.recipient.id);
    for recipient in entry.recipients.iter().filter(meant) {
        if leased.is_some_and(|leased| leased.contains(&recipient.recipient.id)) {
            in_flight += 1;
        } else {
            routes.entry(recipient.route).or_default().push(recipient.clone());
        }
    }
    let mut parts = Vec::new();
    for (route, recipients) in routes {
        let lease = shared.take(&mut state, &entry, Job { id, route }, &recipients, None);
        parts.push((lease, recipients));
    }
    shared.publish(&state);
    Ok(Claim { entry, parts, in_flight })
}

async fn remove(shared: &Shared, id: MessageId) -> Result<Touched, AdminError> {
    shared.change(Change::Remove { id }).await?;
    let mut state = shared.state();
    state.damaged.remove(&id);
    state.index.remove(id);
    drop(state);
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
