use serde::Deserialize;
use waypost_sdk::prelude::*;

/// Its own section of the configuration.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Footer {
    text: String,
}

impl Plugin for Footer {
    type Config = Footer;

    fn new(config: Footer) -> Result<Footer, String> {
        Ok(config)
    }
}

impl OnMessage for Footer {
    /// Grants: `edit = { add = ["X-Footer"], body = true }`.
    fn on_message(&self, asked: &Asked<'_>, _: &MessageInfo) -> Decision<MessageOutcome> {
        let is_plain = message::parts().first().is_some_and(|part| part.media_type == "text/plain");
        if asked.session.identity.is_none() || !is_plain {
            return Ok(MessageOutcome::proceed());
        }
        let footer = format!("\r\n-- \r\n{}\r\n", self.text);
        Ok(MessageOutcome::proceed()
            .splice(message::body_size(), 0, footer)
            .add_header("X-Footer", "added"))
    }
}

waypost_sdk::export!(Footer: message);

#[test]
fn plain_text_gets_a_footer() {
    use waypost_sdk::testing::{Host, call, edited, envelope, session};
    let plugin = Footer { text: "Acme".to_owned() };
    let text = "Subject: x\r\nContent-Type: text/plain\r\n\r\nhello\r\n";
    let host = Host::new().message(text);
    let session = Session { identity: Some("anna".to_owned()), ..session() };
    let (call, envelope) = (call(), envelope(None, &["b@b.example"]));
    let asked = Asked { call: &call, session: &session, envelope: &envelope };
    let info = host.message_info(&plugin.interest());
    let said = host.run(|| plugin.on_message(&asked, &info)).unwrap();
    let text = String::from_utf8(edited(text.as_bytes(), &said.edits)).unwrap();
    assert!(text.starts_with("X-Footer: added\r\n"), "{text}");
    assert!(text.ends_with("hello\r\n\r\n-- \r\nAcme\r\n"), "{text}");
}
