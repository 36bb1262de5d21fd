//! Notices of our own come through the same door as anybody's mail.

use bytes::Bytes;
use tracing::{error, warn};
use waypost_mail::{Envelope, Facts, HeaderBlock, MessageId, Recipient};
use waypost_queue::Prepared;
use waypost_smtp::{Mailbox, Priority, ReversePath};

use crate::answers::Answers;
use crate::content::Content;
use crate::policy::{Judge, Ruling, Waiting};
use crate::trace;
use crate::{Finish, Intake};

/// A message this relay makes itself, such as a bounce. Its sender is always `<>`.
#[derive(Debug, Clone)]
pub struct Notice {
    /// Whom it tells.
    pub to: Mailbox,
    /// Header fields, without the blank line.
    pub header: Bytes,
    /// The blank line and the body.
    pub body: Bytes,
    /// The message it is about.
    pub about: MessageId,
    /// That message required TLS, and so does this (RFC 8689 §5).
    pub require_tls: bool,
    /// How urgent that message was, and so is this (RFC 6710 §4.6).
    pub priority: Priority,
}

impl Intake {
    /// Prepares a notice; it is committed in the record that settles the message it is about.
    /// Policy may change, hold or discard it. When policy fails or refuses, or what it wants cannot be
    /// done, the notice goes out as it is: nobody is there to be refused, and a bounce must not be lost
    /// to policy.
    pub async fn notice(&self, notice: Notice) -> Option<Prepared> {
        let now = self.clock.now();
        let facts = Facts::internal(self.ids.session());
        let recipient = Recipient::new(0, notice.to);
        let mut envelope = Envelope::new(self.ids.message(), ReversePath::Null, vec![recipient])?;
        envelope.terms.require_tls = notice.require_tls;
        envelope.terms.priority = notice.priority;
        let header = HeaderBlock::parse(notice.header);
        let body = notice.body.strip_prefix(b"\r\n").map_or(0, |_| 2);
        let mut content = Content::new(header, notice.body.slice(body..));
        let judge = Judge { hooks: &*self.hooks, may_send_to: &|_| true };
        let groups = [vec![0]];
        let mut answers = Answers::new(&groups);
        let asked =
            self.ask_message(judge, &facts, &mut envelope, &mut content, &mut answers).await;
        let (waiting, mut sign) = match asked {
            Ok(Ruling::Proceed(waiting, sign)) => (waiting, sign),
            Ok(Ruling::Discard(reason)) => {
                warn!(message = %notice.about, reason, "policy discards the notice");
                return None;
            }
            Err(reply) => {
                warn!(message = %notice.about, %reply, "policy refuses a notice, sent unchanged");
                (Waiting::default(), Vec::new())
            }
        };
        if sign.is_empty() {
            sign.clone_from(&self.config.sign_notices);
        }
        if let Err(error) = self.sign(&sign, &mut content, now).await {
            warn!(message = %notice.about, %error, "a notice goes out unsigned");
            sign.clear();
        }
        content.put_on_top(&trace::received(&self.config.hostname, &facts, &envelope, now));
        let stage = Finish { envelope, facts, content, waiting, sign, received: now };
        match self.finish(&*self.hooks, stage, &mut Answers::new(&groups)).await {
            Ok((prepared, _)) => Some(prepared),
            Err(reply) => {
                error!(message = %notice.about, %reply, "a notice cannot be read back, dropped");
                None
            }
        }
    }
}
