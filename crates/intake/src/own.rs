//! Mail that this relay writes itself and that answers nobody's.

use bytes::Bytes;
use tracing::warn;
use waypost_mail::{Envelope, Facts, HeaderBlock, MessageId, Recipient, SignRequest};
use waypost_smtp::{Mailbox, Reply, ReversePath};

use crate::answers::Answers;
use crate::content::Content;
use crate::policy::Waiting;
use crate::trace;
use crate::{Finish, Intake};

/// A message of our own, such as a report. Its sender is `<>`: nobody waits to hear that it did not
/// arrive.
#[derive(Debug, Clone)]
pub struct OwnMail {
    /// Whom it is for.
    pub to: Mailbox,
    /// Header fields, without the blank line.
    pub header: Bytes,
    /// The blank line and the body.
    pub body: Bytes,
    /// The signatures it is to have. One that cannot be made is left out, and the log says so.
    pub sign: Vec<SignRequest>,
    /// To arrive is more important than to be encrypted (RFC 8689 §3).
    pub tls_optional: bool,
}

impl Intake {
    /// Puts a message of our own into the queue, durable when this returns. Policy routes it and is not
    /// asked about its content.
    ///
    /// # Errors
    /// The reply that a peer would get: there is no way for it, or no room.
    pub async fn post(&self, mail: OwnMail) -> Result<MessageId, Reply> {
        self.accepting()?;
        let now = self.clock.now();
        let facts = Facts::internal(self.ids.session());
        let (id, recipient) = (self.ids.message(), Recipient::new(0, mail.to));
        let envelope = Envelope::new(id, ReversePath::Null, vec![recipient]);
        let mut envelope = envelope.ok_or(Reply::LOCAL_ERROR)?;
        envelope.terms.tls_optional = mail.tls_optional;
        let body = mail.body.strip_prefix(b"\r\n").map_or(0, |_| 2);
        let mut content = Content::new(HeaderBlock::parse(mail.header), mail.body.slice(body..));
        let mut sign = mail.sign;
        if let Err(error) = self.sign(&sign, &mut content, now).await {
            warn!(message = %id, %error, "a message of our own goes out unsigned");
            sign.clear();
        }
        content.put_on_top(&trace::received(&self.config.hostname, &facts, &envelope, now));
        let waiting = Waiting::default();
        let stage = Finish { envelope, facts, content, waiting, sign, received: now };
        let groups = [vec![0]];
        let (prepared, _) = self.finish(&*self.hooks, stage, &mut Answers::new(&groups)).await?;
        let reply = self.commit(prepared, None).await;
        if reply.is_positive() { Ok(id) } else { Err(reply) }
    }
}
