//! Answers every hook as its configuration says, and tells what it was told: in the reasons of its
//! answers, and where an answer has none, in `kv`.

mod answers;
mod calls;
mod sights;

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use waypost_sdk::prelude::*;
use waypost_sdk::types::Reason;

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct Config {
    /// Answers by stage.
    answers: BTreeMap<String, answers::Script>,
    /// Calls of the host by stage: the name of a function, then its arguments.
    calls: BTreeMap<String, Vec<Vec<Value>>>,
    headers: Vec<String>,
    events: Vec<String>,
    timers: Vec<(String, u32)>,
}

struct Witness(Config);

impl Plugin for Witness {
    type Config = Config;

    fn new(config: Config) -> Result<Witness, String> {
        Ok(Witness(config))
    }

    fn interest(&self) -> Interest {
        let interest =
            Interest::default().headers(self.0.headers.clone()).events(self.0.events.clone());
        let timers = self.0.timers.iter();
        timers.fold(interest, |interest, (name, seconds)| {
            interest.timer(name, std::time::Duration::from_secs((*seconds).into()))
        })
    }
}

impl Witness {
    fn script(&self, stage: &str) -> answers::Script {
        self.0.answers.get(stage).cloned().unwrap_or_default()
    }

    /// What was seen, and what came of the calls.
    fn reasons(&self, stage: &str, saw: Vec<String>) -> Vec<Reason> {
        let saw = saw.into_iter().map(|text| because("saw", text));
        let calls = self.0.calls.get(stage).into_iter().flatten();
        saw.chain(calls.map(|call| calls::made(call))).collect()
    }

    /// The same where an answer has no reasons.
    fn keep(&self, stage: &str, saw: Vec<String>) -> Decision<()> {
        for Reason { code, text, .. } in self.reasons(stage, saw) {
            let count = kv::add("witness", &format!("{stage}/count"), 1, None)?;
            kv::set(
                "witness",
                &format!("{stage}/{count}"),
                format!("{code}: {text}").as_bytes(),
                None,
            )?;
        }
        Ok(())
    }
}

impl OnConnect for Witness {
    fn on_connect(&self, call: &CallInfo, session: &Session) -> Decision<SessionOutcome> {
        let reasons = self.reasons("connect", vec![sights::call(call), sights::session(session)]);
        Ok(self.script("connect").session(reasons))
    }
}

impl OnHelo for Witness {
    fn on_helo(&self, call: &CallInfo, session: &Session) -> Decision<SessionOutcome> {
        let reasons = self.reasons("helo", vec![sights::call(call), sights::session(session)]);
        Ok(self.script("helo").session(reasons))
    }
}

impl OnAuth for Witness {
    fn on_auth(
        &self,
        _: &CallInfo,
        session: &Session,
        asked: &Credentials,
    ) -> Decision<AuthDecision> {
        let Credentials { mechanism, authzid, authcid, secret } = asked;
        let saw = format!("{mechanism} {authzid:?} {authcid} {}", secret.len());
        self.keep("auth", vec![sights::session(session), saw])?;
        Ok(self.script("auth").auth())
    }
}

impl OnSender for Witness {
    fn on_sender(&self, asked: &Asked<'_>) -> Decision<SessionOutcome> {
        let saw = vec![sights::session(asked.session), sights::envelope(asked.envelope)];
        Ok(self.script("sender").session(self.reasons("sender", saw)))
    }
}

impl OnRecipients for Witness {
    fn on_recipients(
        &self,
        asked: &Asked<'_>,
        recipients: &[Recipient],
    ) -> Decision<Vec<RecipientOutcome>> {
        let mut saw = vec![sights::session(asked.session), sights::envelope(asked.envelope)];
        saw.extend(recipients.iter().map(sights::recipient));
        Ok(self.script("recipients").recipients(recipients, self.reasons("recipients", saw)))
    }
}

impl OnMessage for Witness {
    fn on_message(&self, asked: &Asked<'_>, info: &MessageInfo) -> Decision<MessageOutcome> {
        let mut saw = vec![sights::envelope(asked.envelope), sights::info(info)];
        saw.extend(asked.envelope.recipients.iter().map(sights::recipient));
        Ok(self.script("message").message(self.reasons("message", saw)))
    }
}

impl OnRoute for Witness {
    fn on_route(&self, _: &CallInfo, message: &Queued) -> Decision<Vec<RouteGroup>> {
        let reasons = self.reasons("route", sights::queued(message));
        Ok(self.script("route").route(message, reasons))
    }
}

impl OnPrepare for Witness {
    fn on_prepare(&self, _: &CallInfo, delivery: &Delivery) -> Decision<PrepareOutcome> {
        let mut saw = sights::queued(&delivery.message);
        saw.push(format!("{} {} {:?}", delivery.target, delivery.lane, delivery.source));
        Ok(self.script("prepare").prepare(self.reasons("prepare", saw)))
    }
}

impl OnAttempt for Witness {
    fn on_attempt(&self, _: &CallInfo, attempt: &Attempt) -> Decision<AttemptOutcome> {
        let mut saw = sights::queued(&attempt.message);
        saw.push(format!("{:?} {}", attempt.target, attempt.lane));
        saw.extend(attempt.results.iter().map(sights::result));
        Ok(self.script("attempt").attempt(attempt, self.reasons("attempt", saw)))
    }
}

impl OnEvents for Witness {
    fn on_events(&self, _: &CallInfo, events: &[Event]) -> Decision<()> {
        let saw = events.iter().map(|event| {
            format!("{} {} {:?} {}", event.kind, event.at_ms, event.message_id, event.text)
        });
        self.keep("events", saw.collect())
    }
}

impl OnTimer for Witness {
    fn on_timer(&self, call: &CallInfo, name: &str) -> Decision<()> {
        self.keep("timer", vec![format!("{name} {}", call.dry_run)])
    }
}

waypost_sdk::export!(Witness:
    connect, helo, auth, sender, recipients, message, route, prepare, attempt, events, timer);
