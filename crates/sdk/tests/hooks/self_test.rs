use serde::Deserialize;
use waypost_sdk::prelude::*;

/// Its own section of the configuration.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Aliases {
    to: String,
}

impl Plugin for Aliases {
    type Config = Aliases;

    fn new(config: Aliases) -> Result<Aliases, String> {
        Ok(config)
    }
}

impl OnRecipients for Aliases {
    fn on_recipient(&self, _: &Asked<'_>, recipient: &Recipient) -> Decision<RecipientAnswer> {
        let to = Mailbox::new(recipient.address.local.clone(), self.to.clone());
        Ok(RecipientAnswer::proceed().replace_with(vec![to]))
    }
}

impl SelfTest for Aliases {
    fn self_test(&self) -> Vec<String> {
        match self.to.contains('.') {
            true => Vec::new(),
            false => vec![format!("to: {:?} is no whole domain", self.to)],
        }
    }
}

waypost_sdk::export!(Aliases: self_test, recipients);

#[test]
fn half_a_domain_is_complained_of() {
    assert_eq!(Aliases { to: "b.example".to_owned() }.self_test(), Vec::<String>::new());
    assert_eq!(Aliases { to: "b".to_owned() }.self_test().len(), 1);
}
