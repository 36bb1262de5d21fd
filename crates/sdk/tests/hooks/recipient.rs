use serde::Deserialize;
use waypost_sdk::prelude::*;

/// Its own section of the configuration.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Limit {
    bucket: String,
}

impl Plugin for Limit {
    type Config = Limit;

    fn new(config: Limit) -> Result<Limit, String> {
        Ok(config)
    }
}

impl OnRecipients for Limit {
    /// Grants: `limits` for the bucket.
    fn on_recipient(&self, asked: &Asked<'_>, _: &Recipient) -> Decision<RecipientAnswer> {
        let Some(user) = &asked.session.identity else { return Ok(RecipientAnswer::proceed()) };
        let left = limits::take(&self.bucket, user, 1)?;
        if left.allowed {
            return Ok(RecipientAnswer::proceed());
        }
        let seconds = left.retry_after_ms.div_ceil(1000);
        Ok(RecipientAnswer::refuse(tempfail(format!("Too many, try again in {seconds} s")))
            .because("limited", format!("{user} has no tokens left in {}", self.bucket)))
    }
}

waypost_sdk::export!(Limit: recipients);

#[test]
fn who_has_no_tokens_left_waits() {
    use waypost_sdk::testing::{Host, call, envelope, recipient, session};
    let plugin = Limit { bucket: "users".to_owned() };
    let session = Session { identity: Some("anna".to_owned()), ..session() };
    let (call, envelope) = (call(), envelope(None, &[]));
    let asked = Asked { call: &call, session: &session, envelope: &envelope };
    let ask = |host: Host| {
        host.run(|| plugin.on_recipient(&asked, &recipient(0, "b@b.example"))).unwrap().verdict
    };
    assert!(matches!(ask(Host::new().limit("users", true, 9, 0)), Verdict::Proceed));
    let Verdict::Refuse(Refusal::Tempfail(reply)) = ask(Host::new().limit("users", false, 0, 1500))
    else {
        panic!("it is refused for now");
    };
    assert_eq!(reply.text, "Too many, try again in 2 s");
}
