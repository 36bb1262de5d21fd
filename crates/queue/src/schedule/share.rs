//! Who is next while attempts are scarce: classes by their weights and the urgent of them more, tenants in turn,
//! destinations of a tenant in turn. And what holds a class back: its rate and its windows.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use waypost_mail::Timestamp;
use waypost_mutant::planted;

use super::Lane;
use super::bucket::Bucket;
use crate::classes::{Band, ClassId, Classes};

/// No tenant has more attempts under way than this many times those that are still free: one alone
/// leaves a quarter, and there is always one left for who comes new.
const GREED: usize = 3;
/// So many every tenant may have, where attempts are free at all.
const FEW: usize = 16;

/// A tenant within a class, by number: valid while it has flows or attempts under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ShareId(usize);

/// All classes and tenants.
#[derive(Debug)]
pub(super) struct Shares {
    classes: Arc<Classes>,
    gates: Vec<Gate>,
    /// Of each class one for each band.
    lanes: Vec<Turns>,
    /// Lanes that have something to hand out, by their place in line.
    turns: BTreeSet<(u64, usize)>,
    /// The place of the lane that had the last turn: one that comes new stands there.
    pass: u64,
    shares: Vec<Option<Share>>,
    vacant: Vec<usize>,
    /// Flows offered in all.
    offered: usize,
    /// Shares with parked flows.
    greedy: BTreeSet<ShareId>,
}

/// What holds a class back.
#[derive(Debug)]
struct Gate {
    /// Flows that wait until the class may go on.
    waiting: VecDeque<usize>,
    timer: Option<Timestamp>,
    bucket: Option<Bucket>,
    /// Attempts that were given leave and have not begun.
    promised: u32,
}

/// The tenants of one class and band.
#[derive(Debug)]
struct Turns {
    weight: u32,
    /// Its place in line: the lowest is next, and each turn moves it back, the less the more it weighs.
    pass: u64,
    enrolled: bool,
    tenants: HashMap<Arc<str>, ShareId>,
    /// Shares with offered flows, next one first.
    ring: VecDeque<ShareId>,
}

#[derive(Debug)]
struct Share {
    class: ClassId,
    /// Where its turns are counted.
    lane: usize,
    tenant: Arc<str>,
    flows: usize,
    in_flight: usize,
    /// Flows that have a slot of their destination and wait for the share's turn.
    offered: VecDeque<usize>,
    /// Flows that had their turn while the share had more than its part.
    parked: VecDeque<usize>,
}

/// Whose turn it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// This flow's, for one job.
    Take(ShareId, usize),
    /// This flow's, whose share has more than its part: it is to be parked.
    Park(ShareId, usize),
}

impl Shares {
    pub(super) fn new(classes: Arc<Classes>) -> Shares {
        let ids = || (0..classes.len()).map(|id| ClassId(id as u8));
        let gate = |id| Gate {
            waiting: VecDeque::new(),
            timer: None,
            bucket: classes.get(id).rate.map(Bucket::new),
            promised: 0,
        };
        let turns = |id, band: Band| Turns {
            weight: classes.get(id).weight.max(1) * band.factor(),
            pass: 0,
            enrolled: false,
            tenants: HashMap::new(),
            ring: VecDeque::new(),
        };
        let gates = ids().map(gate).collect();
        let lanes = ids().flat_map(|id| Band::ALL.map(|band| turns(id, band))).collect();
        Shares {
            classes,
            gates,
            lanes,
            turns: BTreeSet::new(),
            pass: 0,
            shares: Vec::new(),
            vacant: Vec::new(),
            offered: 0,
            greedy: BTreeSet::new(),
        }
    }

    /// The share of a tenant within a class and band, which has one flow more from now on.
    pub(super) fn attach(&mut self, lane: Lane<'_>) -> ShareId {
        if let Some(id) = self.known(lane) {
            if let Some(share) = self.share_mut(id) {
                share.flows += 1;
            }
            return id;
        }
        let (class, tenant) = (self.within(lane.class), lane.tenant);
        let lane = lane_of(class, lane.band);
        let tenant: Arc<str> = tenant.into();
        let share = Some(Share {
            class,
            lane,
            tenant: tenant.clone(),
            flows: 1,
            in_flight: 0,
            offered: VecDeque::new(),
            parked: VecDeque::new(),
        });
        let id = match self.vacant.pop() {
            Some(at) => {
                self.shares[at] = share;
                ShareId(at)
            }
            None => {
                self.shares.push(share);
                ShareId(self.shares.len() - 1)
            }
        };
        self.lanes[lane].tenants.insert(tenant, id);
        id
    }

    /// The share has one flow less.
    pub(super) fn detach(&mut self, id: ShareId) {
        if let Some(share) = self.share_mut(id) {
            share.flows = share.flows.saturating_sub(1);
        }
        self.forget_if_idle(id);
    }

    /// The share of a tenant, if it has flows or attempts under way.
    pub(super) fn known(&self, lane: Lane<'_>) -> Option<ShareId> {
        let at = lane_of(self.within(lane.class), lane.band);
        self.lanes.get(at)?.tenants.get(lane.tenant).copied()
    }

    /// The class, or the default one when there is no such class.
    fn within(&self, class: ClassId) -> ClassId {
        if usize::from(class.0) < self.gates.len() { class } else { ClassId::default() }
    }

    /// True when the share has less than its part under way, so many attempts being free.
    pub(super) fn has_room(&self, ShareId(at): ShareId, free: usize) -> bool {
        let share = self.shares.get(at).and_then(Option::as_ref);
        share.is_some_and(|share| share.in_flight < part(free))
    }

    /// An attempt of the share begins.
    pub(super) fn begin(&mut self, id: ShareId) {
        if let Some(share) = self.share_mut(id) {
            share.in_flight += 1;
        }
    }

    /// One has ended.
    pub(super) fn end(&mut self, id: ShareId) {
        if let Some(share) = self.share_mut(id) {
            share.in_flight = share.in_flight.saturating_sub(1);
        }
        self.forget_if_idle(id);
    }

    /// The flow has something to hand out and a slot of its destination.
    pub(super) fn offer(&mut self, id: ShareId, flow: usize) {
        let Some(share) = self.share_mut(id) else { return };
        share.offered.push_back(flow);
        let (first, at) = (share.offered.len() == 1, share.lane);
        self.offered += 1;
        let lane = &mut self.lanes[at];
        if first {
            lane.ring.push_back(id);
        }
        if !std::mem::replace(&mut lane.enrolled, true) {
            lane.pass = lane.pass.max(self.pass);
            self.turns.insert((lane.pass, at));
        }
    }

    /// What a flow of the share weighs.
    pub(super) fn weight(&self, ShareId(at): ShareId) -> u32 {
        let lane = self.shares.get(at).and_then(Option::as_ref).map(|share| share.lane);
        lane.and_then(|lane| self.lanes.get(lane)).map_or(1, |lane| lane.weight)
    }

    /// True when nothing is offered.
    pub(super) fn is_quiet(&self) -> bool {
        self.offered == 0
    }

    /// Takes the offered flow whose turn it is; `free` attempts could begin.
    pub(super) fn turn(&mut self, free: usize) -> Option<Turn> {
        loop {
            let (pass, at) = *self.turns.first()?;
            let lane = &mut self.lanes[at];
            let Some(id) = lane.ring.pop_front() else {
                lane.enrolled = false;
                self.turns.pop_first();
                continue;
            };
            let Some(share) = self.shares[id.0].as_mut() else { continue };
            let Some(flow) = share.offered.pop_front() else { continue };
            self.offered -= 1;
            if !share.offered.is_empty() {
                lane.ring.push_back(id);
            }
            if share.in_flight >= part(free) {
                return Some(Turn::Park(id, flow));
            }
            self.turns.pop_first();
            self.pass = pass;
            lane.pass = pass + stride(lane.weight);
            self.turns.insert((lane.pass, at));
            return Some(Turn::Take(id, flow));
        }
    }

    /// The flow waits until its share has less under way.
    pub(super) fn park(&mut self, id: ShareId, flow: usize) {
        if let Some(share) = self.share_mut(id) {
            share.parked.push_back(flow);
            self.greedy.insert(id);
        }
    }

    /// Parked flows that may be offered again while so many attempts could begin.
    pub(super) fn unpark(&mut self, free: usize) -> Vec<usize> {
        let mut flows = Vec::new();
        let Shares { shares, greedy, .. } = self;
        greedy.retain(|id| {
            let Some(share) = &mut shares[id.0] else { return false };
            let room = part(free).saturating_sub(share.in_flight + share.offered.len());
            flows.extend(share.parked.drain(..room.min(share.parked.len())));
            !share.parked.is_empty()
        });
        flows
    }

    /// Gives one attempt of a share's class leave to begin, if rate and windows do.
    pub(super) fn admit(&mut self, id: ShareId, now: Timestamp) -> bool {
        let class = self.class_of(id);
        let admitted = self.opens(class, now) <= now;
        self.gate(class).promised += u32::from(admitted);
        admitted
    }

    /// The attempt that was given leave begins now, if the class's windows still let it: time may have
    /// passed. Otherwise it has leave no more.
    pub(super) fn enter(&mut self, id: ShareId, now: Timestamp) -> bool {
        self.refund(id);
        let class = self.class_of(id);
        if self.classes.get(class).opens(now) > now {
            return false;
        }
        if let Some(bucket) = &mut self.gate(class).bucket {
            let spent = if planted!("an attempt beyond its rate") { 0.5 } else { 1.0 };
            bucket.spend(spent, now);
        }
        true
    }

    /// An attempt that was given leave does not begin.
    pub(super) fn refund(&mut self, id: ShareId) {
        let gate = self.gate(self.class_of(id));
        gate.promised = gate.promised.saturating_sub(1);
    }

    /// The first moment from `now` on at which an attempt of the class may be given leave.
    pub(super) fn opens(&mut self, class: ClassId, now: Timestamp) -> Timestamp {
        let Gate { bucket, promised, .. } = self.gate(class);
        let promised = f64::from(*promised);
        let earliest = bucket.as_mut().map_or(now, |bucket| bucket.next(now, promised));
        self.classes.get(class).opens(earliest)
    }

    /// Until when an attempt of the share's class waits that comes out of turn; nothing when its class
    /// never holds anybody back.
    pub(super) fn out_of_turn(&mut self, id: ShareId, now: Timestamp) -> Option<Timestamp> {
        let class = self.class_of(id);
        let gated =
            self.gate(class).bucket.is_some() || !self.classes.get(class).windows.is_empty();
        gated.then(|| self.opens(class, now))
    }

    fn gate(&mut self, class: ClassId) -> &mut Gate {
        &mut self.gates[usize::from(class.0)]
    }

    /// The flow waits until its class may go on; answers the class.
    pub(super) fn hold_back(&mut self, id: ShareId, flow: usize) -> ClassId {
        let class = self.class_of(id);
        self.gates[usize::from(class.0)].waiting.push_back(flow);
        class
    }

    /// Notes when the class is looked at again; answers what was noted before.
    pub(super) fn set_timer(&mut self, class: ClassId, time: Timestamp) -> Option<Timestamp> {
        self.gates[usize::from(class.0)].timer.replace(time)
    }

    /// Every class.
    pub(super) fn classes(&self) -> impl Iterator<Item = ClassId> + use<> {
        (0..self.gates.len()).map(|class| ClassId(class as u8))
    }

    /// The next flow that waits for its class.
    pub(super) fn held_back(&mut self, class: ClassId) -> Option<usize> {
        self.gates[usize::from(class.0)].waiting.pop_front()
    }

    /// How many wait for their class.
    pub(super) fn count_held_back(&self, class: ClassId) -> usize {
        self.gates[usize::from(class.0)].waiting.len()
    }

    pub(super) fn class_of(&self, ShareId(at): ShareId) -> ClassId {
        self.shares.get(at).and_then(Option::as_ref).map_or(ClassId::default(), |share| share.class)
    }

    /// What the class of a share is called.
    pub(super) fn class_name(&self, id: ShareId) -> &str {
        self.classes.name(self.class_of(id))
    }

    /// Whose share it is.
    pub(super) fn tenant(&self, ShareId(at): ShareId) -> Option<Arc<str>> {
        Some(self.shares.get(at)?.as_ref()?.tenant.clone())
    }

    fn share_mut(&mut self, ShareId(at): ShareId) -> Option<&mut Share> {
        self.shares.get_mut(at)?.as_mut()
    }

    /// Strangers cannot fill memory with names of tenants.
    fn forget_if_idle(&mut self, id: ShareId) {
        let idle = |share: &&mut Share| share.flows == 0 && share.in_flight == 0;
        let Some(share) = self.share_mut(id).filter(idle) else { return };
        let (lane, tenant) = (share.lane, share.tenant.clone());
        self.lanes[lane].tenants.remove(&tenant);
        self.greedy.remove(&id);
        self.shares[id.0] = None;
        self.vacant.push(id.0);
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.shares.iter().flatten().count()
    }
}

/// How far one turn moves back in line who weighs so much.
pub(super) fn stride(weight: u32) -> u64 {
    (1 << 24) / u64::from(weight.max(1))
}

/// Where the turns of a class and band are counted.
fn lane_of(class: ClassId, band: Band) -> usize {
    usize::from(class.0) * Band::ALL.len() + band as usize
}

/// What one tenant may have under way while so many attempts could begin.
fn part(free: usize) -> usize {
    (GREED * free).max(FEW)
}
