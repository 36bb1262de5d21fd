//! What was promised, what became of it, and the laws that must hold between the two.

mod notices;
mod tale;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use waypost_mail::{Entry, MessageId, RecipientState, Timestamp};
use waypost_smtp::Mailbox;
use waypost_spool::{Spool, SpoolError};

pub use self::notices::Settling;
use self::tale::Part;
pub use self::tale::{End, Standing, Tale};
use crate::relay::LIFETIME;
use crate::witness::Letter;

/// What must hold after every step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Law {
    /// What was accepted is delivered, bounced, deleted by order, held or waiting.
    AcceptedIsKept,
    /// What was refused is neither kept nor delivered.
    RefusedIsGone,
    /// Nobody gets a message again after its delivery was settled, nor from two attempts at once.
    SettledOnce,
    /// What is held is not attempted.
    HeldStays,
    /// What operators are told is done, is.
    OrdersAreObeyed,
    /// Octets leave as they came.
    ContentIsWhole,
    /// A bounce and the notice about it are one.
    BounceIsTold,
    /// Senders are told what they asked for and what is so, once, and nobody is told of a notice.
    NoticesAreTrue,
    /// Nothing bounces for its age that is not old.
    NotTooOld,
    /// Nothing bounces that may still pass, and nothing is given up in silence.
    EndsAreJust,
    /// Nothing is tried before it is due.
    NotTooEarly,
    /// A fact of the ledger is as it was put, crashes included.
    FactsAreKept,
    /// What operators are shown is what is in the spool.
    ListsTell,
    /// No more at once than is allowed.
    Limits,
    /// What nobody has in hand, nobody has leased.
    LeasesReturn,
    /// A crash alone damages nothing.
    CrashesHarmNothing,
    /// When all is well, everything comes to an end.
    EverythingEnds,
}

/// A law that was broken.
#[derive(Debug, Clone)]
pub struct Violation {
    /// Which.
    pub law: Law,
    /// In what way.
    pub text: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.law, self.text)
    }
}

/// Whether all is lawful.
pub type Lawful = Result<(), Violation>;

/// An error, unless `holds`.
pub fn demand(law: Law, holds: bool, text: impl FnOnce() -> String) -> Lawful {
    if holds { Ok(()) } else { Err(Violation { law, text: text() }) }
}

/// Every message there ever was, by its id.
#[derive(Debug, Default)]
pub struct Book {
    tales: BTreeMap<MessageId, Tale>,
    /// Messages by their octets, as next hops see them.
    by_content: HashMap<Bytes, MessageId>,
    in_hand: BTreeSet<(MessageId, u32)>,
    leeway: Duration,
    /// Reads failed: contents may be lost without anybody's fault.
    pub hurt: bool,
}

impl Book {
    /// The spool is asked to take a message; as a notice, about the bounce of others.
    pub fn coming(
        &mut self,
        letter: &Letter,
        about: Option<(MessageId, Vec<u32>)>,
        lived: Duration,
    ) {
        let id = letter.entry.id;
        self.by_content.insert(letter.content.clone(), id);
        self.tales.insert(id, Tale::of(letter, about, lived));
    }

    /// A message is tried before it is durable.
    pub fn passing(&mut self, letter: &Letter, lived: Duration) {
        self.coming(letter, None, lived);
        if let Some(tale) = self.tales.get_mut(&letter.entry.id) {
            (tale.standing, tale.through) = (Standing::Passing, true);
        }
    }

    /// True while a message is tried before it is durable.
    pub fn is_passing(&self, id: MessageId) -> bool {
        self.tales.get(&id).is_some_and(|tale| tale.standing == Standing::Passing)
    }

    /// The spool is asked to take what is left of such a message, or all of it while it is tried.
    ///
    /// # Errors
    /// When it is another one.
    pub fn left(&mut self, letter: &Letter) -> Lawful {
        let Letter { entry, content } = letter;
        let Some(tale) = self.tales.get_mut(&entry.id) else { return Ok(()) };
        tale.is_left(entry);
        demand(Law::ContentIsWhole, tale.content == *content, || {
            format!("{} is another message than the one that went through", entry.id)
        })
    }

    /// Nobody tries it any more. What the spool was not asked to take is gone.
    pub fn passed(&mut self, id: MessageId) {
        if let Some(tale) = self.tales.get_mut(&id).filter(|t| t.standing == Standing::Passing) {
            tale.standing = Standing::Passed;
            tale.parts.values_mut().for_each(|part| part.end = End::Done);
        }
    }

    /// The message of these octets.
    pub fn find(&self, content: &[u8]) -> Option<MessageId> {
        self.by_content.get(content).copied()
    }

    /// The message that a peer calls so, if it ever came to the spool.
    pub fn called(&self, token: u64) -> Option<&Tale> {
        self.tales.values().find(|tale| tale.token == Some(token))
    }

    /// What was decided about a message.
    pub fn stands(&mut self, id: MessageId, standing: Standing) {
        if let Some(tale) = self.tales.get_mut(&id) {
            tale.standing = standing;
            tale.doubted |= standing == Standing::Doubtful;
        }
    }

    /// Nothing of a message is left.
    pub fn removed(&mut self, id: MessageId) {
        let parts = self.tales.get_mut(&id).map(|tale| &mut tale.parts);
        parts.into_iter().flatten().for_each(|(_, part)| part.end = End::Done);
    }

    /// All recipients of a message begin held.
    pub fn quarantined(&mut self, id: MessageId) {
        let parts = self.tales.get_mut(&id).map(|tale| &mut tale.parts);
        parts.into_iter().flatten().for_each(|(_, part)| part.end = End::Held);
    }

    /// A recipient was refused by policy and will bounce.
    pub fn doomed(&mut self, id: MessageId, recipient: u32) {
        self.part(id, recipient, |part| part.doomed = true);
    }

    /// A message, if it is known.
    pub fn tale(&self, id: MessageId) -> Option<&Tale> {
        self.tales.get(&id)
    }

    /// The recipient of this address.
    pub fn recipient(&self, id: MessageId, mailbox: &Mailbox) -> Option<u32> {
        let parts = &self.tales.get(&id)?.parts;
        parts.iter().find(|(_, part)| part.mailbox == *mailbox).map(|(recipient, _)| *recipient)
    }

    /// How a recipient stands.
    pub fn end(&self, id: MessageId, recipient: u32) -> Option<End> {
        self.tales.get(&id)?.parts.get(&recipient).map(|part| part.end)
    }

    /// How many recipients are in hand.
    pub fn in_hand(&self) -> usize {
        self.in_hand.len()
    }

    /// True when somebody has a recipient in hand.
    pub fn has_in_hand(&self, id: MessageId, recipient: u32) -> bool {
        self.in_hand.contains(&(id, recipient))
    }

    /// Somebody has a recipient in hand now.
    ///
    /// # Errors
    /// When somebody else has it, or it is settled.
    pub fn take_in_hand(&mut self, id: MessageId, recipient: u32) -> Lawful {
        demand(Law::SettledOnce, self.in_hand.insert((id, recipient)), || {
            format!("{id} {recipient} is in two hands at once")
        })?;
        let end = self.end(id, recipient);
        demand(Law::SettledOnce, end.is_some_and(|end| end != End::Done), || {
            format!("{id} {recipient} is given out, but stands as {end:?}")
        })
    }

    /// A recipient was given out to be attempted, or `excused`: because its time is over, or so that its
    /// sender is told that it is late.
    ///
    /// # Errors
    /// When that is against a law.
    pub fn leased(
        &mut self,
        id: MessageId,
        recipient: u32,
        state: &RecipientState,
        excused: bool,
        now: Timestamp,
    ) -> Lawful {
        let standing = self.tales.get_mut(&id).map(|tale| {
            tale.turns_out_to_be_there();
            tale.standing
        });
        demand(Law::RefusedIsGone, standing == Some(Standing::Kept), || {
            format!("{id} is given out, but stands as {standing:?}")
        })?;
        self.take_in_hand(id, recipient)?;
        let Some(part) = self.tales.get(&id).and_then(|tale| tale.parts.get(&recipient)) else {
            return Ok(());
        };
        demand(Law::HeldStays, part.end != End::Held, || format!("{id} {recipient} is held"))?;
        let early = match state {
            RecipientState::Waiting { due, .. } => *due > now || part.not_before > now,
            _ => true,
        };
        demand(Law::NotTooEarly, excused || !early, || {
            format!("{id} {recipient} is given out at {now} in state {state:?}")
        })
    }

    /// A recipient is in nobody's hand any more.
    pub fn give_back(&mut self, id: MessageId, recipient: u32) {
        self.in_hand.remove(&(id, recipient));
    }

    /// A next hop took responsibility for a recipient.
    ///
    /// # Errors
    /// When it had done so before, without an excuse, or should not have been asked.
    pub fn taken(&mut self, id: MessageId, recipient: u32) -> Lawful {
        let in_hand = self.in_hand.contains(&(id, recipient));
        let Some(tale) = self.tales.get_mut(&id) else { return Ok(()) };
        let may_be_taken = tale.may_be_taken();
        let Some(part) = tale.parts.get_mut(&recipient) else { return Ok(()) };
        demand(Law::RefusedIsGone, may_be_taken && !part.doomed, || {
            format!("{id} {recipient} was refused and is delivered")
        })?;
        demand(Law::SettledOnce, in_hand, || format!("{id} {recipient} is in nobody's hand"))?;
        demand(Law::SettledOnce, part.taken == 0 || part.excused, || {
            format!("{id} {recipient} is delivered again")
        })?;
        part.taken += 1;
        part.excused = false;
        Ok(())
    }

    /// A message bounces for its age.
    ///
    /// # Errors
    /// When it is not old.
    pub fn check_age(&self, id: MessageId, lived: Duration) -> Lawful {
        let Some(tale) = self.tales.get(&id) else { return Ok(()) };
        let age = lived.saturating_sub(tale.born);
        demand(Law::NotTooOld, age + self.leeway >= LIFETIME, || {
            format!("{id} bounces for its age, which is {age:?}")
        })
    }

    /// So much may be taken for time that went by, though the clock was set: what a relay that did not run
    /// cannot tell from a pause.
    pub fn allow(&mut self, time: Duration) {
        self.leeway += time;
    }

    /// The clock was set: moments from before mean nothing any more.
    pub fn clock_set(&mut self) {
        let parts = self.tales.values_mut().flat_map(|tale| tale.parts.values_mut());
        parts.for_each(|part| part.not_before = Timestamp(0));
    }

    /// It may have been delivered, and may be again: RFC 1047, or a settlement that was not written.
    pub fn excuse(&mut self, id: MessageId, recipient: u32) {
        self.part(id, recipient, |part| part.excused = true);
    }

    /// A next hop said yes for a recipient, as we understood it.
    ///
    /// # Errors
    /// When no next hop took it.
    pub fn counts_as_delivered(&self, id: MessageId, recipient: u32) -> Lawful {
        let part = self.tales.get(&id).and_then(|tale| tale.parts.get(&recipient));
        demand(Law::AcceptedIsKept, part.is_none_or(|part| part.taken > 0), || {
            format!("{id} {recipient} counts as delivered, but nobody took it")
        })
    }

    /// A change of a recipient was written.
    pub fn becomes(&mut self, id: MessageId, recipient: u32, end: End, not_before: Timestamp) {
        self.part(id, recipient, |part| {
            part.end = end;
            part.not_before = not_before;
            // What is settled needs no excuse, and has none.
            part.excused &= end != End::Done;
        });
    }

    /// The program ended: nobody has anything in hand, and whatever was under way is unsure.
    pub fn crashed(&mut self) {
        for tale in self.tales.values_mut().filter(|t| t.standing == Standing::Passing) {
            tale.standing = Standing::Refused;
        }
        for (id, recipient) in std::mem::take(&mut self.in_hand) {
            self.part(id, recipient, |part| {
                part.end = End::Unsure;
                part.excused = true;
                part.not_before = Timestamp(0);
            });
        }
    }

    /// After a restart, what the spool says of what was unsure is so from now on. What was sure must
    /// be as it was.
    ///
    /// # Errors
    /// When something was lost, or has come back.
    pub fn adopt(&mut self, spool: &dyn Spool) -> Lawful {
        let before: BTreeMap<_, _> = self.tales.iter().map(|(id, t)| (*id, t.ends())).collect();
        let open = |tale: &Tale| matches!(tale.standing, Standing::Coming | Standing::Doubtful);
        let told = self.tales.iter().filter(|(_, t)| t.about.is_some() && open(t));
        let told: Vec<MessageId> = told.map(|(id, _)| *id).collect();
        for (id, tale) in &mut self.tales {
            let entry = load(spool, *id)?;
            match (tale.standing, &entry) {
                (Standing::Coming | Standing::Doubtful, Some(_)) => tale.standing = Standing::Kept,
                (Standing::Coming | Standing::Doubtful, None) => tale.standing = Standing::Refused,
                (Standing::Kept | Standing::Refused | Standing::Passing | Standing::Passed, _) => {}
            }
            if tale.standing == Standing::Kept {
                tale.adopt(entry.as_ref());
            }
        }
        for id in told {
            let tale = self.tales.get(&id);
            if let Some((tale, (about, recipients))) =
                tale.and_then(|t| Some((t, t.about.as_ref()?)))
            {
                self.check_told(id, tale, *about, recipients, &before)?;
            }
        }
        self.check(spool)
    }

    /// After a restart, a notice is there exactly when the bounce is.
    fn check_told(
        &self,
        id: MessageId,
        tale: &Tale,
        about: MessageId,
        recipients: &[u32],
        before: &BTreeMap<MessageId, BTreeMap<u32, End>>,
    ) -> Lawful {
        let Some(other) = self.tales.get(&about) else { return Ok(()) };
        let unsure = |r: &&u32| before.get(&about).and_then(|e| e.get(r)) == Some(&End::Unsure);
        let told = tale.standing == Standing::Kept;
        for recipient in recipients.iter().filter(unsure) {
            let done = other.parts.get(recipient).is_some_and(|part| part.end == End::Done);
            demand(Law::BounceIsTold, done == told, || {
                format!("{about} {recipient} bounced: {done}; notice {id} is there: {told}")
            })?;
        }
        Ok(())
    }

    /// Everything in the spool is as it should be.
    ///
    /// # Errors
    /// When it is not.
    pub fn check(&mut self, spool: &dyn Spool) -> Lawful {
        for id in spool.ids(None, usize::MAX).unwrap_or_default() {
            self.tales.get_mut(&id).map(Tale::turns_out_to_be_there).unwrap_or_default();
        }
        for (id, tale) in &self.tales {
            if tale.standing == Standing::Kept && !tale.is_over() {
                tale.check(*id, load(spool, *id)?.as_ref(), self.hurt)?;
            }
        }
        let ids = spool.ids(None, usize::MAX).unwrap_or_default();
        for id in ids {
            let standing = self.tales.get(&id).map(|tale| tale.standing);
            let gone = [Standing::Refused, Standing::Passing, Standing::Passed];
            demand(Law::RefusedIsGone, standing.is_some_and(|s| !gone.contains(&s)), || {
                format!("{id} is in the spool, but stands as {standing:?}")
            })?;
            let over = self.tales.get(&id).is_some_and(Tale::is_over);
            demand(Law::SettledOnce, !over, || format!("{id} is over, but in the spool"))?;
        }
        Ok(())
    }

    /// Recipients in the spool that wait, that are held, and that somebody has in hand.
    pub fn standings(&self, spool: &dyn Spool) -> [usize; 3] {
        let mut standings = [0; 3];
        for id in spool.ids(None, usize::MAX).unwrap_or_default() {
            for recipient in spool.load(id).iter().flat_map(|entry| &entry.recipients) {
                let at = match &recipient.state {
                    RecipientState::Done(_) => continue,
                    _ if self.has_in_hand(id, recipient.recipient.id) => 2,
                    RecipientState::Held { .. } => 1,
                    RecipientState::Waiting { .. } => 0,
                };
                standings[at] += 1;
            }
        }
        standings
    }

    /// Nothing is open any more.
    ///
    /// # Errors
    /// When something is.
    pub fn check_over(&self) -> Lawful {
        let open = self.tales.iter().find(|(_, t)| t.standing == Standing::Kept && !t.is_over());
        demand(Law::EverythingEnds, open.is_none(), || format!("{open:?} is still open"))
    }

    /// Messages that were accepted, for the summary.
    pub fn accepted(&self) -> usize {
        self.tales.values().filter(|tale| tale.standing == Standing::Kept).count()
    }

    /// Deliveries, for the summary.
    pub fn deliveries(&self) -> u32 {
        self.tales.values().flat_map(|tale| tale.parts.values()).map(|part| part.taken).sum()
    }

    fn part(&mut self, id: MessageId, recipient: u32, change: impl FnOnce(&mut Part)) {
        let tale = self.tales.get_mut(&id);
        tale.and_then(|tale| tale.parts.get_mut(&recipient)).map(change).unwrap_or_default();
    }
}

/// A message of the spool, absent when there is none.
fn load(spool: &dyn Spool, id: MessageId) -> Result<Option<Entry>, Violation> {
    match spool.load(id) {
        Ok(entry) => Ok(Some(entry)),
        Err(SpoolError::Unknown(_)) => Ok(None),
        Err(error) => Err(Violation { law: Law::AcceptedIsKept, text: error.to_string() }),
    }
}
