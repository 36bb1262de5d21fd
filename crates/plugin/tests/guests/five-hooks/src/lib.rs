//! Is asked five times about every message and has no objection: what asking costs.

use serde::Deserialize;
use waypost_sdk::prelude::*;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {}

impl Plugin for Content {
    type Config = Content;

    fn new(config: Content) -> Result<Content, String> {
        Ok(config)
    }
}

impl OnSender for Content {
    fn on_sender(&self, _: &Asked<'_>) -> Decision<SessionOutcome> {
        Ok(SessionOutcome::proceed())
    }
}

/// Proceeds, by default.
impl OnRecipients for Content {}

impl OnMessage for Content {
    fn on_message(&self, _: &Asked<'_>, _: &MessageInfo) -> Decision<MessageOutcome> {
        Ok(MessageOutcome::proceed())
    }
}

impl OnRoute for Content {
    fn on_route(&self, _: &CallInfo, _: &Queued) -> Decision<Vec<RouteGroup>> {
        Ok(Vec::new())
    }
}

impl OnAttempt for Content {
    fn on_attempt(&self, _: &CallInfo, _: &Attempt) -> Decision<AttemptOutcome> {
        Ok(AttemptOutcome::as_planned())
    }
}

waypost_sdk::export!(Content: sender, recipients, message, route, attempt);
