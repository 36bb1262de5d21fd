//! Where recipients go next.

use waypost_mail::{Attr, Facts, MessageId, Recipient, Route, Timestamp};
use waypost_smtp::{PermanentReply, ReversePath};

use crate::Reason;

/// A message whose recipients want a route.
#[derive(Debug, Clone, Copy)]
pub struct RouteView<'a> {
    /// Its id.
    pub id: MessageId,
    /// When it was received.
    pub received: Timestamp,
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
}

/// Decision about some recipients' way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RouteDecision {
    /// This way, not before the given moment if there is one.
    Route {
        /// The way.
        route: Route,
        /// Earliest first attempt.
        not_before: Option<Timestamp>,
    },
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
