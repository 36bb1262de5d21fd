//! The whole story of one message, waiting or past: what is known of it now, and all that was told of it.

use std::fmt;

use serde::{Deserialize, Serialize};
use waypost_history::{About, Found, Told};
use waypost_mail::visible::plain;
use waypost_mail::{MessageId, Timestamp};
use waypost_queue::standing::{Recipient, Way};
use waypost_queue::{RecipientStanding, Standing};

/// The story of one message: `GET /v1/messages/{id}/why`. Its text form is what `waypost why` prints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Story {
    /// The message.
    pub id: MessageId,
    /// The moment of which the story tells.
    pub now: Timestamp,
    /// What waits of it, and for what; absent when nothing of it is in the queue.
    pub standing: Option<Standing>,
    /// What happened to it, in order; empty when no history is kept, or when it was too long ago.
    pub history: Found,
    /// A history is kept.
    pub is_kept: bool,
    /// The relay runs: what is said of what it waits for holds.
    pub is_running: bool,
}

impl Story {
    /// A story of what is known now. What happened to the relay after a message was gone is no part of it.
    pub fn new(
        id: MessageId,
        now: Timestamp,
        standing: Option<Standing>,
        history: Option<Found>,
    ) -> Story {
        let is_kept = history.is_some();
        let mut history = history.unwrap_or_default();
        if standing.is_none() {
            history.end();
        }
        Story { id, now, standing, history, is_kept, is_running: true }
    }

    /// The same while no relay runs.
    #[must_use]
    pub fn at_rest(self) -> Story {
        Story { is_running: false, ..self }
    }

    /// True when there is nothing to tell.
    pub fn is_unknown(&self) -> bool {
        self.standing.is_none() && self.history.is_empty()
    }

    /// Why there is nothing to tell, and what to do.
    pub fn unknown(&self) -> String {
        let id = self.id;
        match self.is_kept {
            true => format!(
                "nothing is known of the message {id}: it is not in the queue, and the history has nothing about it. \
                 Is the id right? Older notes are removed, see [history] in the configuration"
            ),
            false => format!(
                "the message {id} is not in the queue, and no history is kept of those that are gone: \
                 [history] in the configuration turns it on"
            ),
        }
    }
}

impl fmt::Display for Story {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "message {}", self.id)?;
        self.events(f)?;
        match &self.standing {
            Some(standing) => self.standing(f, standing),
            None => writeln!(f, "{}  nothing of it is in the queue any more", self.now),
        }
    }
}

impl Story {
    fn events(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Found { notes, left_out, unread } = &self.history;
        let half = notes.len().div_ceil(2);
        let (first, last) = notes.split_at(if *left_out > 0 { half } else { notes.len() });
        first.iter().try_for_each(|told| write!(f, "{told}"))?;
        if *left_out > 0 {
            writeln!(f, "({left_out} events in the middle are left out)")?;
        }
        last.iter().try_for_each(|told| write!(f, "{told}"))?;
        if *unread > 0 {
            writeln!(f, "({unread} events cannot be read: damaged, or of another version)")?;
        }
        let own = |told: &Told| told.about != About::Relay;
        if !self.is_kept {
            writeln!(f, "(no history is kept: [history] in the configuration turns it on)")?;
        } else if !notes.iter().any(own) {
            writeln!(f, "(the history has nothing about it, or nothing any more)")?;
        }
        Ok(())
    }

    fn standing(&self, f: &mut fmt::Formatter<'_>, standing: &Standing) -> fmt::Result {
        let Standing { expires, ways, recipients, more } = standing;
        let (at, indent) = (self.now, "                          ");
        let running = if self.is_running { "" } else { ", and no relay runs" };
        writeln!(f, "{at}  it is in the queue{running}; what is left of it bounces at {expires}")?;
        for way in ways {
            let Way { destination, class, tenant, waiting, wait } = way;
            write!(f, "{indent}{waiting} waiting for {}, class {class}", plain(destination))?;
            if !tenant.is_empty() {
                write!(f, ", tenant {}", plain(tenant))?;
            }
            match wait {
                Some(wait) => writeln!(f, "; held by {}", plain(&wait.to_string()))?,
                None => writeln!(f)?,
            }
        }
        for recipient in recipients {
            let Recipient { address, destination, standing, tries, due, why } = recipient;
            let standing = match standing {
                RecipientStanding::Waiting => "waits",
                RecipientStanding::Held => "is held",
                RecipientStanding::InFlight => "is being tried now",
                RecipientStanding::Done => "is done",
            };
            let due = due.map(|due| format!(", next at {due}")).unwrap_or_default();
            let why = why.as_ref().map(|why| format!(": {}", plain(why))).unwrap_or_default();
            let (address, by) = (plain(address), plain(destination));
            writeln!(f, "{indent}<{address}> {standing} (by {by}, {tries} tries{due}){why}")?;
        }
        if *more > 0 {
            writeln!(f, "{indent}and {more} more recipients")?;
        }
        Ok(())
    }
}
