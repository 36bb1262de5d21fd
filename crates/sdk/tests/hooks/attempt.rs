use serde::Deserialize;
use waypost_sdk::prelude::*;

/// Its own section of the configuration.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Full {
    days: u64,
}

impl Plugin for Full {
    type Config = Full;

    fn new(config: Full) -> Result<Full, String> {
        Ok(config)
    }
}

impl OnAttempt for Full {
    fn on_attempt(&self, call: &CallInfo, attempt: &Attempt) -> Decision<AttemptOutcome> {
        let mut outcome = AttemptOutcome::as_planned();
        for result in &attempt.results {
            // 4.2.2: the mailbox is full (RFC 3463). An hour later it still will be.
            let full = result.reply.as_ref().is_some_and(|r| r.enhanced == Some((4, 2, 2)));
            if full {
                let again = call.now_ms + self.days * 24 * 3_600_000;
                let recipients = result.recipients.clone();
                outcome = outcome.group(
                    AttemptGroup::new(recipients, AttemptDecision::RetryAt(again))
                        .because("full", "the mailbox is full"),
                );
            }
        }
        Ok(outcome)
    }
}

waypost_sdk::export!(Full: attempt);

#[test]
fn a_full_mailbox_gets_time() {
    use waypost_sdk::testing::{call, queued};
    use waypost_sdk::types::RemoteReply;
    let reply = RemoteReply { code: 452, enhanced: Some((4, 2, 2)), lines: Vec::new() };
    let attempt = Attempt {
        message: queued(None, &["b@b.example"]),
        target: None,
        lane: "b.example".to_owned(),
        results: vec![AttemptResult {
            recipients: vec![0],
            disposition: "transient".to_owned(),
            category: "refused".to_owned(),
            phase: "rcpt".to_owned(),
            reply: Some(reply),
            error: None,
            attempts: 1,
            planned_retry_ms: None,
        }],
    };
    let said = Full { days: 1 }.on_attempt(&call(), &attempt).unwrap();
    let AttemptDecision::RetryAt(at) = said.groups[0].decision else { panic!("it is tried again") };
    assert_eq!(at, call().now_ms + 86_400_000);
}
