//! One trait for each hook. When each is called, what it sees and what becomes of a fault is written
//! in the contract, `wit/hooks.wit`.

use crate::RecipientAnswer;
use crate::plugin::{Decision, Plugin};
use crate::types::{
    Attempt, AttemptOutcome, AuthDecision, CallInfo, Credentials, Delivery, Envelope, Event,
    MessageInfo, MessageOutcome, PrepareOutcome, Queued, Recipient, RecipientOutcome, RouteGroup,
    Session, SessionOutcome,
};

/// What a hook of a transaction is told about where it stands.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// Facts about this very call: time, seed, budget.
    pub call: &'a CallInfo,
    /// The submitter's session.
    pub session: &'a Session,
    /// The transaction so far.
    pub envelope: &'a Envelope,
}

/// Finds out about itself before a generation of the policy is put in force; exported as `self_test`.
pub trait SelfTest: Plugin {
    /// Complaints. Any refuses the generation.
    fn self_test(&self) -> Vec<String>;
}

/// A peer has connected; exported as `connect`.
pub trait OnConnect: Plugin {
    /// Called before the greeting.
    ///
    /// # Errors
    /// The plugin could not decide: 421 by default.
    fn on_connect(&self, call: &CallInfo, session: &Session) -> Decision<SessionOutcome>;
}

/// A peer has introduced itself; exported as `helo`.
pub trait OnHelo: Plugin {
    /// Called after each EHLO or HELO.
    ///
    /// # Errors
    /// The plugin could not decide: 421 by default.
    fn on_helo(&self, call: &CallInfo, session: &Session) -> Decision<SessionOutcome>;
}

/// A peer logs in; exported as `auth`. Needs the grant `auth`.
pub trait OnAuth: Plugin {
    /// Called with a password, before the configured users are looked up.
    ///
    /// # Errors
    /// The plugin could not decide: 454 by default.
    fn on_auth(
        &self,
        call: &CallInfo,
        session: &Session,
        credentials: &Credentials,
    ) -> Decision<AuthDecision>;
}

/// MAIL FROM; exported as `sender`.
pub trait OnSender: Plugin {
    /// Called once address and parameters were found legal.
    ///
    /// # Errors
    /// The plugin could not decide: 451 by default.
    fn on_sender(&self, asked: &Asked<'_>) -> Decision<SessionOutcome>;
}

/// RCPT TO; exported as `recipients`. Write one of the two functions.
pub trait OnRecipients: Plugin {
    /// About one recipient. No objection by default.
    ///
    /// # Errors
    /// The plugin could not decide: 451 by default, for every recipient of the call.
    fn on_recipient(&self, asked: &Asked<'_>, recipient: &Recipient) -> Decision<RecipientAnswer> {
        let _ = (asked, recipient);
        Ok(RecipientAnswer::proceed())
    }

    /// About recipients that were pipelined and come in one call; those that the answer leaves out
    /// proceed. By default asks about one after the other, and leaves out those with no more to say
    /// about.
    ///
    /// # Errors
    /// As [`on_recipient`](OnRecipients::on_recipient).
    fn on_recipients(
        &self,
        asked: &Asked<'_>,
        recipients: &[Recipient],
    ) -> Decision<Vec<RecipientOutcome>> {
        let mut answers = Vec::new();
        for recipient in recipients {
            let answer = self.on_recipient(asked, recipient)?;
            if answer != RecipientAnswer::proceed() {
                answers.push(answer.about(recipient.id));
            }
        }
        Ok(answers)
    }
}

/// The end of data; exported as `message`.
pub trait OnMessage: Plugin {
    /// Called after the final dot, before the reply. Read the message through
    /// [`message`](crate::message).
    ///
    /// # Errors
    /// The plugin could not decide: 451 by default.
    fn on_message(&self, asked: &Asked<'_>, info: &MessageInfo) -> Decision<MessageOutcome>;
}

/// Which way recipients go; exported as `route`.
pub trait OnRoute: Plugin {
    /// Called before a message is committed, and again for recipients not decided then.
    /// [`group_routes`](crate::group_routes) makes the groups.
    ///
    /// # Errors
    /// The plugin could not decide: it is asked again later.
    fn on_route(&self, call: &CallInfo, message: &Queued) -> Decision<Vec<RouteGroup>>;
}

/// One copy leaves; exported as `prepare`.
pub trait OnPrepare: Plugin {
    /// Called when a connection to the next hop is ready, before MAIL.
    ///
    /// # Errors
    /// The plugin could not decide: the attempt is postponed.
    fn on_prepare(&self, call: &CallInfo, delivery: &Delivery) -> Decision<PrepareOutcome>;
}

/// One try was made; exported as `attempt`.
pub trait OnAttempt: Plugin {
    /// Called about the recipients that were tried.
    /// [`group_attempts`](crate::group_attempts) makes the groups.
    ///
    /// # Errors
    /// The plugin could not decide: the host's own plan stands.
    fn on_attempt(&self, call: &CallInfo, attempt: &Attempt) -> Decision<AttemptOutcome>;
}

/// What happened; exported as `events`.
pub trait OnEvents: Plugin {
    /// Called with up to 256 events of the kinds in [`Interest::events`](crate::Interest::events).
    ///
    /// # Errors
    /// The batch is dropped and counted.
    fn on_events(&self, call: &CallInfo, events: &[Event]) -> Decision<()>;
}

/// Periodic work; exported as `timer`.
pub trait OnTimer: Plugin {
    /// Called every period named in [`Interest::timer`](crate::Interest::timer).
    ///
    /// # Errors
    /// Counted; the timer goes on.
    fn on_timer(&self, call: &CallInfo, name: &str) -> Decision<()>;
}
