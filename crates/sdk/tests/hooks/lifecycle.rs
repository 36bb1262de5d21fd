use std::time::Duration;

use serde::Deserialize;
use waypost_sdk::prelude::*;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    words: Vec<String>,
}

struct Subjects {
    words: Vec<String>,
}

/// `init` is made of this: the SDK reads the configuration, and tells name and version of the crate.
impl Plugin for Subjects {
    type Config = Config;

    fn new(config: Config) -> Result<Subjects, String> {
        if config.words.is_empty() {
            return Err("words: name at least one".to_owned());
        }
        Ok(Subjects { words: config.words })
    }

    fn interest(&self) -> Interest {
        Interest::default().headers(["Subject"]).timer("sweep", Duration::from_secs(600))
    }
}

impl OnMessage for Subjects {
    fn on_message(&self, _: &Asked<'_>, info: &MessageInfo) -> Decision<MessageOutcome> {
        // What `interest` names is here without asking the host.
        let seen =
            info.headers.iter().any(|h| self.words.iter().any(|word| h.value.contains(word)));
        Ok(if seen {
            MessageOutcome::quarantine("a word in the subject")
        } else {
            MessageOutcome::proceed()
        })
    }
}

waypost_sdk::export!(Subjects: message);

#[test]
fn the_subject_is_looked_at() {
    use waypost_sdk::testing::{Host, call, envelope, session};
    assert!(Subjects::new(Config { words: Vec::new() }).is_err());
    let plugin = Subjects::new(Config { words: vec!["[internal]".to_owned()] }).unwrap();
    let info = Host::new().message("Subject: [internal] x\n\ny\n").message_info(&plugin.interest());
    let (call, session, envelope) = (call(), session(), envelope(None, &["b@b.example"]));
    let asked = Asked { call: &call, session: &session, envelope: &envelope };
    let said = plugin.on_message(&asked, &info).unwrap();
    assert!(matches!(said.verdict, MessageVerdict::Quarantine(_)));
}
