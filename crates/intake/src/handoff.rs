//! Cut-through: a message is given to its next hop while its submitter waits.
//!
//! Policy has spoken and the message is sealed: nothing else differs from mail that waits. What can be
//! answered in the next hop's own words is; all else becomes durable first. Where one next hop cannot
//! speak for the whole message, or somebody is to be told more than its reply says, the message takes the
//! queue at once.

use std::fmt;
use std::sync::{Arc, Weak};

use async_trait::async_trait;
use tracing::{debug, error};
use waypost_mail::{MessageId, Recipient, RecipientState};
use waypost_queue::{Prepared, SpoolError};
use waypost_smtp::{Priority, Reply};

use crate::answers::Answers;
use crate::{Intake, Ready, queued_as, storage_reply};

/// Who makes an attempt at a message that is not durable yet.
#[async_trait]
pub trait Handoff: Send + Sync + fmt::Debug {
    /// Makes one attempt, and answers each of `groups` of recipients by the time that the submitter has
    /// patience for. Each has somebody of the message. What was begun goes on when the future is dropped.
    async fn hand(self: Arc<Self>, prepared: Prepared, groups: Vec<Vec<u32>>) -> Handed;
}

/// What came of it.
#[derive(Debug)]
pub enum Handed {
    /// Nothing was tried: the message is to wait like any other.
    Back(Box<Prepared>),
    /// One for each group.
    Answered(Vec<Said>),
}

/// What a group of recipients is told.
#[derive(Debug, Clone)]
pub enum Said {
    /// What the next hop said of all of them, or that it said nothing: nothing more will happen.
    Passed(Reply),
    /// The message is durable and ours for them.
    Kept,
    /// It could not be made durable.
    Lost(SpoolError),
}

impl Intake {
    /// Says who makes attempts while submitters wait; before that, and when it is gone, all mail waits in
    /// the queue. What is said first holds.
    pub fn set_handoff(&self, handoff: Weak<dyn Handoff>) {
        // A second word would part what is under way from those who end it.
        let _ = self.handoff.set(handoff);
    }

    /// Hands the message over if it may go through, and answers its groups; else it comes back.
    pub(crate) async fn go_through(
        &self,
        ready: Box<Ready>,
        answers: &Answers<'_>,
    ) -> Result<Vec<Reply>, Box<Ready>> {
        let handoff = self.handoff.get().and_then(Weak::upgrade);
        let Some(handoff) = handoff.filter(|_| may_go_through(&ready, answers)) else {
            return Err(ready);
        };
        let Ready { prepared, lowered, .. } = *ready;
        let id = prepared.id();
        match handoff.hand(prepared, answers.open_groups()).await {
            Handed::Back(prepared) => {
                debug!(message = %id, "not the time for cut-through, the message is queued");
                Err(Box::new(Ready { prepared: *prepared, lowered, through: false }))
            }
            Handed::Answered(said) => {
                let reply = |said| reply(id, said, lowered);
                Ok(answers.each(said.into_iter().map(reply)))
            }
        }
    }
}

fn reply(id: MessageId, said: Said, lowered: Option<Priority>) -> Reply {
    match said {
        Said::Passed(reply) => reply,
        Said::Kept => queued_as(id, lowered),
        Said::Lost(failure) => {
            error!(message = %id, error = %failure, "message not accepted, storage failed");
            storage_reply(&failure)
        }
    }
}

/// True when the reply of one next hop is all that anybody is to hear of this message.
fn may_go_through(ready: &Ready, answers: &Answers<'_>) -> bool {
    let entry = ready.prepared.entry();
    let answered = |recipient: &Recipient| answers.answers_for(recipient.id);
    ready.through
        // The field asked for more than it got, which the reply has to say.
        && ready.lowered.is_none()
        && entry.terms.deliver_by.is_none()
        && entry.recipients.iter().all(|entry| {
            let fresh = matches!(entry.state, RecipientState::Waiting { tries: 0, last: None, .. });
            fresh && answered(&entry.recipient) && !entry.recipient.notify.on_success()
        })
        && answers.each_has_one_of(entry.recipients.iter().map(|entry| entry.recipient.id))
}

#[cfg(test)]
mod tests;
