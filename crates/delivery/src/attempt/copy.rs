//! One copy of a message as its next hop gets it: what policy puts in front, and from which sender.

use std::sync::Arc;

use tokio::sync::OnceCell;
use waypost_identity::Verp;
use waypost_intake::SENDER_FIELD;
use waypost_mail::header::field;
use waypost_mail::{Outcome, Recipient, Route, Terms, Why};
use waypost_queue::{Content, SpoolError};
use waypost_smtp::client::{Addressee, Letter};
use waypost_smtp::{BodyType, Extensions, Mailbox, Priority, ReversePath};

use super::convert::Halt;
use super::prepare::Prepared;
use super::{Attempt, Fate};
use crate::connection::Copy;

impl<'a> Attempt<'a> {
    /// The message as this hop is to get it; absent when it is not to be sent now, and then all
    /// `members` have their fate.
    ///
    /// # Errors
    /// This hop is not to have it; another one may.
    pub(super) async fn copy(
        &mut self,
        route: &Route,
        extensions: &Extensions,
        hop: &str,
        members: &[usize],
    ) -> Result<Option<Copy>, Why> {
        match self.made(route, extensions, hop, members).await {
            Ok(copy) => return Ok(Some(self.returnable(copy))),
            Err(Halt::Why(why)) => return Err(why),
            Err(Halt::Until(until)) => {
                for index in members {
                    self.fates[*index] = Some(Fate::Postponed(until));
                }
            }
            // Trying again reads the same: a person is to see it.
            Err(Halt::Unread(error @ SpoolError::Damaged(..))) => {
                for index in members {
                    self.fates[*index] = Some(Fate::Held(error.to_string()));
                }
            }
            Err(Halt::Unread(error)) => {
                let why = Why::Unreadable(error.to_string()).bounded();
                self.all(members, || Outcome::Deferred(why.clone()));
            }
        }
        Ok(None)
    }

    async fn made(
        &mut self,
        route: &Route,
        extensions: &Extensions,
        hop: &str,
        members: &[usize],
    ) -> Result<Copy, Halt> {
        let converted = match self.converting {
            true => Some(self.converted(route, extensions, hop).await?),
            false => None,
        };
        let prepared = self.preparation(route, hop, members, converted.as_deref()).await;
        let Prepared { mut prefix, sender } = prepared.map_err(Halt::Until)?;
        // Told by MAIL where it is understood (RFC 6710).
        if !extensions.mt_priority {
            prefix.splice(0..0, self.tunnel());
        }
        let form = converted.as_ref().map_or_else(|| self.form(), |copy| self.form_of(copy));
        let content = match converted {
            Some(copy) => copy,
            None => self.content().await.map_err(Halt::Unread)?,
        };
        Ok(Copy { prefix, sender, content, form, verp: false, whole: OnceCell::new() })
    }

    /// The copy with what bounces of it are known by, where the class of this mail has that.
    fn returnable(&self, mut copy: Copy) -> Copy {
        if let (Some(verp), Some(sender)) = (self.verp(), self.ticket.entry.sender.mailbox())
            && copy.sender == self.ticket.entry.sender
        {
            // Unfolded: bounces quote it line by line.
            let seal = verp.vouch(self.ticket.id, sender);
            let sender_field = format!("{SENDER_FIELD}: {seal}\r\n").into_bytes();
            copy.prefix.splice(0..0, sender_field);
            copy.verp = true;
        }
        copy
    }

    /// Makes the senders of single copies, where the class of this mail has them.
    fn verp(&self) -> Option<&'a Verp> {
        let returns = self.delivery.parts.intake.returns()?;
        self.delivery.parts.queue.verp(self.ticket).then_some(&returns.verp)
    }

    /// The envelope sender of a copy for these recipients.
    fn sender(&self, copy: &Copy, members: &[usize]) -> ReversePath {
        match (self.verp(), members) {
            (Some(verp), [only]) if copy.verp => {
                let recipient = &self.ticket.recipients[*only].recipient.mailbox;
                verp.sender(self.ticket.id, recipient, self.delivery.parts.clock.now())
            }
            _ => copy.sender.clone(),
        }
    }

    /// The field that carries the priority past a host that does not know the extension, unless it is
    /// the usual one (RFC 6758 §3.3).
    fn tunnel(&self) -> Vec<u8> {
        let priority = self.ticket.entry.terms.priority;
        match self.delivery.config.priority_field && priority != Priority::default() {
            true => field("MT-Priority", &priority.to_string()),
            false => Vec::new(),
        }
    }

    pub(super) async fn content(&mut self) -> Result<Arc<dyn Content>, SpoolError> {
        if let Some(content) = &self.content {
            return Ok(content.clone());
        }
        let content = self.delivery.content(&self.ticket.entry).await?;
        self.content = Some(content.clone());
        Ok(content)
    }

    pub(super) fn letter(&self, route: &Route, copy: &Copy, members: &[usize]) -> Letter {
        let entry = &self.ticket.entry;
        let Terms { ret, ref envid, require_tls, deliver_by, priority, .. } = entry.terms;
        let added = !copy.prefix.is_ascii();
        let sender_is_ascii = copy.sender.mailbox().is_none_or(Mailbox::is_ascii);
        let addressee = |index: &usize| {
            let Recipient { mailbox, notify, original, .. } =
                self.ticket.recipients[*index].recipient.clone();
            Addressee { mailbox, notify, original }
        };
        let recipients = members.iter().map(addressee).collect();
        let now = self.delivery.parts.clock.now();
        // RFC 4954 §5: said to whom we are known.
        let known = route.credentials.is_some();
        Letter {
            body: match added {
                true => copy.form.body.max(BodyType::EightBitMime),
                false => copy.form.body,
            },
            smtputf8: copy.form.smtputf8 || added || !sender_is_ascii,
            ret,
            envid: envid.clone(),
            require_tls,
            deliver_by: deliver_by.map(|by| by.left(now)),
            priority,
            submitter: entry.terms.submitter.clone().filter(|_| known),
            ..Letter::new(self.sender(copy, members), recipients, copy.len())
        }
    }
}
