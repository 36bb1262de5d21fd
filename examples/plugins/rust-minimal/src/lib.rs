//! Puts a tag in front of the Subject of what comes from peers that did not log in.

use serde::Deserialize;
use waypost_sdk::prelude::*;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Tagger {
    tag: String,
}

impl Plugin for Tagger {
    type Config = Tagger;

    fn new(config: Tagger) -> Result<Tagger, String> {
        Ok(config)
    }
}

impl OnMessage for Tagger {
    fn on_message(&self, asked: &Asked<'_>, _: &MessageInfo) -> Decision<MessageOutcome> {
        let subject = message::headers_named("subject").into_iter().next();
        match subject {
            Some(subject) if asked.session.identity.is_none() => Ok(MessageOutcome::proceed()
                .change_header(subject.id, format!("{} {}", self.tag, subject.value))
                .because("tagged", "nobody logged in")),
            _ => Ok(MessageOutcome::proceed()),
        }
    }
}

waypost_sdk::export!(Tagger: message);
