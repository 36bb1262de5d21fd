//! Does what no plugin should, when the listener is called `bad` (or an event says so); otherwise it
//! answers with the number of calls that this instance has had, so that tests see a fresh one.

mod answers;
mod deeds;

use std::cell::{Cell, RefCell};

use serde::Deserialize;
use waypost_sdk::prelude::*;
use waypost_sdk::types::Reason;

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// What to do wrong.
    r#do: String,
    /// What to do wrong in `init`.
    init: String,
    /// A number that some deeds want.
    number: u64,
    events: Vec<String>,
    timers: Vec<(String, u32)>,
    complaints: Vec<String>,
}

struct Hostile {
    config: Config,
    calls: Cell<u64>,
    /// What a call left behind.
    left: RefCell<String>,
    interest: Interest,
}

impl Plugin for Hostile {
    type Config = Config;

    fn new(config: Config) -> Result<Hostile, String> {
        let mut interest = Interest::default().events(config.events.clone());
        for (name, seconds) in &config.timers {
            interest = interest.timer(name, std::time::Duration::from_secs((*seconds).into()));
        }
        match config.init.as_str() {
            "" => {}
            "refuse" => return Err("it does not like its configuration".to_owned()),
            "trap-later" if clock::now_ms() >= config.number => deeds::trap(),
            "trap-later" => {}
            "change" => {
                interest = interest.headers([format!("x-{}", clock::now_ms() / 1000)]);
            }
            "ask" => {
                let denied = kv::get("ns", "key") == Err(HostError::Denied)
                    && dns::lookup("example.org", "a") == Err(HostError::Denied)
                    && secrets::hmac_sha256("s", b"x") == Err(HostError::Denied)
                    && limits::take("b", "k", 1) == Err(HostError::Denied);
                if !denied {
                    return Err("init may ask for more than it should".to_owned());
                }
                tables::get("t", "key").map_err(|error| error.in_words())?;
            }
            other => deeds::commit(other, &config),
        }
        Ok(Hostile { config, calls: Cell::new(0), left: RefCell::default(), interest })
    }

    fn interest(&self) -> Interest {
        self.interest.clone()
    }
}

impl Hostile {
    /// Counts the call; misbehaves when it should. True when the answer should be bad, too.
    fn called(&self, listener: &str) -> Result<bool, Undecided> {
        self.calls.set(self.calls.get() + 1);
        let bad = listener == "bad";
        if !bad {
            return Ok(false);
        }
        match self.config.r#do.as_str() {
            "time-bomb" if self.calls.get() > self.config.number => deeds::trap(),
            "memory-refused" if self.calls.get() > 2 => deeds::trap(),
            "date-bomb" if clock::now_ms() >= self.config.number => deeds::trap(),
            "report" => return Err("it cannot decide".into()),
            "report-long" => return Err(("\u{1b}[2J\r\n".to_owned() + &"x".repeat(2 << 20)).into()),
            "report-huge" => return Err("x".repeat(100 << 20).into()),
            other => deeds::commit(other, &self.config),
        }
        Ok(true)
    }

    /// Which call of this instance this is.
    fn reason(&self) -> Reason {
        because("call", self.calls.get().to_string())
    }
}

impl SelfTest for Hostile {
    fn self_test(&self) -> Vec<String> {
        self.config.complaints.clone()
    }
}

impl OnConnect for Hostile {
    fn on_connect(&self, _: &CallInfo, session: &Session) -> Decision<SessionOutcome> {
        let bad = self.called(&session.listener)?;
        Ok(answers::session(bad, &self.config, self.reason()))
    }
}

impl OnHelo for Hostile {
    fn on_helo(&self, _: &CallInfo, session: &Session) -> Decision<SessionOutcome> {
        let bad = self.called(&session.listener)?;
        Ok(answers::session(bad, &self.config, self.reason()))
    }
}

impl OnAuth for Hostile {
    fn on_auth(&self, _: &CallInfo, session: &Session, _: &Credentials) -> Decision<AuthDecision> {
        match self.called(&session.listener)? {
            true => Ok(AuthDecision::Allow("root\r\n".to_owned())),
            false => Ok(AuthDecision::Allow("somebody".to_owned())),
        }
    }
}

impl OnSender for Hostile {
    fn on_sender(&self, asked: &Asked<'_>) -> Decision<SessionOutcome> {
        let bad = self.called(&asked.session.listener)?;
        Ok(answers::session(bad, &self.config, self.reason()))
    }
}

impl OnRecipients for Hostile {
    fn on_recipients(
        &self,
        asked: &Asked<'_>,
        recipients: &[Recipient],
    ) -> Decision<Vec<RecipientOutcome>> {
        let bad = self.called(&asked.session.listener)?;
        if bad && self.config.r#do == "alternate" && self.calls.get().is_multiple_of(2) {
            let no = RecipientAnswer::refuse(reject("every second one"));
            return Ok(recipients.iter().map(|one| no.clone().about(one.id)).collect());
        }
        Ok(answers::recipients(bad, &self.config, recipients, self.reason()))
    }
}

impl OnMessage for Hostile {
    fn on_message(&self, asked: &Asked<'_>, _: &MessageInfo) -> Decision<MessageOutcome> {
        let bad = self.called(&asked.session.listener)?;
        if bad && self.config.r#do == "peek" {
            let body = String::from_utf8_lossy(&message::read_body(0, 900)).trim().to_owned();
            let left = self.left.replace(body);
            return Ok(MessageOutcome::proceed().because("left", left));
        }
        Ok(answers::message(bad, &self.config, self.reason()))
    }
}

impl OnRoute for Hostile {
    fn on_route(&self, _: &CallInfo, message: &Queued) -> Decision<Vec<RouteGroup>> {
        let bad = self.called(&message.session.listener)?;
        Ok(answers::route(bad, &self.config, message, self.reason()))
    }
}

impl OnPrepare for Hostile {
    fn on_prepare(&self, _: &CallInfo, delivery: &Delivery) -> Decision<PrepareOutcome> {
        let bad = self.called(&delivery.message.session.listener)?;
        Ok(answers::prepare(bad, &self.config, self.reason()))
    }
}

impl OnAttempt for Hostile {
    fn on_attempt(&self, _: &CallInfo, attempt: &Attempt) -> Decision<AttemptOutcome> {
        let bad = self.called(&attempt.message.session.listener)?;
        Ok(answers::attempt(bad, &self.config, attempt, self.reason()))
    }
}

impl OnEvents for Hostile {
    fn on_events(&self, _: &CallInfo, events: &[Event]) -> Decision<()> {
        let bad = events.iter().any(|event| event.text == "bad");
        self.called(if bad { "bad" } else { "good" }).map(drop)
    }
}

impl OnTimer for Hostile {
    fn on_timer(&self, _: &CallInfo, name: &str) -> Decision<()> {
        self.called(name).map(drop)
    }
}

waypost_sdk::export!(Hostile:
    self_test, connect, helo, auth, sender, recipients, message, route, prepare, attempt, events, timer);
