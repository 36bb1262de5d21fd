//! What policy wants of one copy before it leaves: fields and signatures on top, another sender.

use std::fmt;

use tracing::warn;
use waypost_convert::ascii_fields;
use waypost_hooks::{PreparedCopy, Readable as _, SenderChange};
use waypost_identity::BodyHash;
use waypost_mail::header::field;
use waypost_mail::{RecipientEntry, Route, SignRequest, Timestamp};
use waypost_smtp::{Mailbox, ReversePath};

use super::Attempt;
use crate::converted::Converted;
use crate::stored::Stored;

/// How much of a body is hashed in one go.
const BODY_PIECE: usize = 256 * 1024;

/// What policy wants of one copy.
pub(super) struct Prepared {
    pub(super) prefix: Vec<u8>,
    pub(super) sender: ReversePath,
}

impl Attempt<'_> {
    /// Asks policy about this copy: what to put in front of it, or until when to wait.
    pub(super) async fn preparation(
        &self,
        route: &Route,
        hop: &str,
        members: &[usize],
        copy: Option<&Converted>,
    ) -> Result<Prepared, Timestamp> {
        let some: Vec<RecipientEntry>;
        let recipients = if members.len() == self.ticket.recipients.len() {
            &self.ticket.recipients
        } else {
            some = members.iter().map(|index| self.ticket.recipients[*index].clone()).collect();
            &some
        };
        let entry = &*self.ticket.entry;
        let text = Stored { delivery: self.delivery, entry, copy };
        let question = PreparedCopy {
            entry,
            recipients,
            hop,
            destination: &self.ticket.destination,
            source: route.source.as_deref(),
            text: &text,
        };
        let message = self.ticket.id;
        let preparation =
            self.delivery.parts.hooks.on_prepare(&question).await.map_err(|fault| {
                warn!(%message, hop, %fault, "policy could not prepare the copy, trying later");
                self.later()
            })?;
        if let Some(until) = preparation.postpone_until {
            return Err(until);
        }
        let mut prefix = prefix(&preparation.add_headers);
        if copy.is_some_and(Converted::has_ascii_header)
            && let Ok(ascii) = ascii_fields(&prefix)
        {
            prefix = ascii;
        }
        if !preparation.sign.is_empty() {
            let signed = self.signatures(&preparation.sign, &prefix, &text).await;
            let fields = signed.map_err(|error| {
                warn!(%message, hop, error, "the copy cannot be signed and is not sent, trying later");
                self.later()
            })?;
            prefix.splice(0..0, fields);
        }
        let sender = match preparation.sender {
            SenderChange::Keep => entry.sender.clone(),
            SenderChange::To(path) => path,
        };
        if let Some(fields) = self.copy_signature(&sender, recipients, &prefix, &text).await? {
            prefix.splice(0..0, fields);
        }
        Ok(Prepared { prefix, sender })
    }

    /// DKIM2 fields over this copy and its envelope, where the configuration has them for this sender.
    async fn copy_signature(
        &self,
        sender: &ReversePath,
        recipients: &[RecipientEntry],
        prefix: &[u8],
        text: &Stored<'_>,
    ) -> Result<Option<Vec<u8>>, Timestamp> {
        let keys = self.delivery.parts.intake.keys();
        if keys.copy_signer(sender).is_none() {
            return Ok(None);
        }
        let later = |error: &(dyn fmt::Display + Sync)| {
            let message = self.ticket.id;
            warn!(%message, %error, "the copy cannot be signed and is not sent, trying later");
            self.later()
        };
        let text = text.text().await.map_err(|error| later(&error.to_string()))?;
        let header = text.header.with_top(prefix);
        let sender = sender.clone();
        let recipients: Vec<Mailbox> =
            recipients.iter().map(|entry| entry.recipient.mailbox.clone()).collect();
        let signed = tokio::task::spawn_blocking(move || {
            let signer = keys.copy_signer(&sender)?;
            let recipients: Vec<&Mailbox> = recipients.iter().collect();
            Some(signer.sign(&header, &text.body, &sender, &recipients))
        });
        match signed.await.map_err(|failed| later(&failed.to_string()))? {
            None => Ok(None),
            Some(signed) => signed.map_err(|error| later(&error.to_string())),
        }
    }

    /// Signature fields over this copy.
    async fn signatures(
        &self,
        requests: &[SignRequest],
        prefix: &[u8],
        text: &Stored<'_>,
    ) -> Result<Vec<u8>, String> {
        let text = text.text().await.map_err(|error| error.to_string())?;
        let header = text.header.with_top(prefix);
        let (keys, requests) = (self.delivery.parts.intake.keys(), requests.to_vec());
        let now = self.delivery.parts.clock.now();
        let signed = tokio::task::spawn_blocking(move || {
            let body = BodyHash::of(text.body.chunks(BODY_PIECE)).map_err(|e| e.to_string())?;
            keys.sign(&requests, &header, &body, now).map_err(|error| error.to_string())
        });
        let fields = signed.await.map_err(|failed| failed.to_string())??;
        Ok(fields.concat())
    }
}

/// Fields for the wire, the last one first. A name that is none (RFC 5322 §2.2) is left out: it could end the header.
fn prefix(fields: &[(String, String)]) -> Vec<u8> {
    let legal =
        |name: &str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic() && b != b':');
    let mut prefix = Vec::new();
    for (name, value) in fields.iter().rev() {
        if legal(name) {
            prefix.extend(field(name, value));
        } else {
            warn!(name, "policy adds a header field whose name is illegal, left out");
        }
    }
    prefix
}
