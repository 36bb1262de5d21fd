//! Where recipients go next.

use std::fmt;

use async_trait::async_trait;
use waypost_mail::{Attr, Facts, MessageId, Recipient, Text, Timestamp, TlsLevel};
use waypost_smtp::{Domain, PermanentReply, ReversePath};

use crate::Reason;

/// A message whose recipients want a route.
#[derive(Debug, Clone, Copy)]
pub struct RouteView<'a> {
    /// Its id.
    pub id: MessageId,
    /// When it was received.
    pub received: Timestamp,
    /// When it bounces; absent before it is committed.
    pub expires: Option<Timestamp>,
    /// The peer it came from.
    pub session: &'a Facts,
    /// The reverse path.
    pub sender: &'a ReversePath,
    /// The recipients in question.
    pub recipients: &'a [Recipient],
    /// Octets of header and body.
    pub size: u64,
    /// Message metadata.
    pub meta: &'a [Attr],
    /// Header and body.
    pub text: &'a dyn Readable,
}

/// Header and body that are read when somebody asks for them: a message in the queue lies on disk, and
/// most policy does not look into it.
#[async_trait]
pub trait Readable: Send + Sync + fmt::Debug {
    /// Header and body.
    ///
    /// # Errors
    /// When they cannot be read now.
    async fn text(&self) -> std::io::Result<Text>;
}

#[async_trait]
impl Readable for Text {
    async fn text(&self) -> std::io::Result<Text> {
        Ok(self.clone())
    }
}

/// One next hop, as policy names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Hop {
    /// The mail exchangers of this domain.
    Mx(Domain),
    /// This host, without MX lookup.
    Host {
        /// A host name, or an address in text form.
        host: String,
        /// TCP port.
        port: u16,
        /// TLS from the first byte.
        implicit_tls: bool,
    },
    /// A next hop of the configuration, with its login.
    Named(String),
}

/// A way that policy chose. What it leaves open the configuration fills in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Way {
    /// Tried in order; none means the mail exchangers of the recipient's domain.
    pub hops: Vec<Hop>,
    /// Queue lane.
    pub lane: Option<String>,
    /// Pool of source addresses.
    pub source: Option<String>,
    /// The least the connection must offer; absent for what the configured routes say.
    pub tls: Option<TlsLevel>,
    /// Earliest first attempt.
    pub not_before: Option<Timestamp>,
}

/// Decision about some recipients' way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RouteDecision {
    /// This way.
    Route(Way),
    /// Bounce now.
    Fail(PermanentReply),
    /// Keep until an operator releases it. The text is the reason.
    Hold(String),
}

/// One decision for a group of recipients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteGroup {
    /// Recipient ids, each at most once over all groups.
    pub recipients: Vec<u32>,
    /// The decision.
    pub decision: RouteDecision,
    /// Why.
    pub reasons: Vec<Reason>,
}
