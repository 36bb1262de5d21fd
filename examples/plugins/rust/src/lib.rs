//! `guard`: refuses recipients of blocked domains, resolves aliases, marks what it has seen, and
//! quarantines what calls itself internal.

mod bindings {
    wit_bindgen::generate!({
        path: "../../../wit",
        inline: "
            package example:guard;
            world guard {
                export waypost:policy/lifecycle@0.1.0;
                export waypost:policy/recipient-hook@0.1.0;
                export waypost:policy/message-hook@0.1.0;
            }
        ",
        world: "example:guard/guard",
        generate_all,
    });
}

use std::sync::OnceLock;

use bindings::exports::waypost::policy::lifecycle::{self, Interest, PluginInfo};
use bindings::exports::waypost::policy::{message_hook, recipient_hook};
use bindings::waypost::policy::types::{
    CallInfo, Envelope, HeaderPlace, Mailbox, MessageEdit, MessageInfo, MessageOutcome,
    MessageVerdict, NewHeader, PermanentCode, PermanentReply, Reason, Recipient, RecipientOutcome,
    Refusal, Session, TransientCode, TransientReply, Verdict,
};
use serde_json::Value;

struct Guard;

/// An instance serves one configuration all its life.
static SETTINGS: OnceLock<Settings> = OnceLock::new();

impl lifecycle::Guest for Guard {
    fn init(config: String) -> Result<PluginInfo, String> {
        let settings = Settings::parse(&config)?;
        SETTINGS.get_or_init(|| settings);
        Ok(PluginInfo {
            name: "guard".into(),
            version: "0.1.0".into(),
            interest: Interest {
                headers: vec!["subject".into()],
                events: Vec::new(),
                timers: Vec::new(),
            },
        })
    }
}

impl recipient_hook::Guest for Guard {
    fn on_recipients(
        _: CallInfo,
        _: Session,
        _: Envelope,
        recipients: Vec<Recipient>,
    ) -> Result<Vec<RecipientOutcome>, String> {
        let settings = settings()?;
        Ok(recipients.into_iter().filter_map(|recipient| settings.decide(recipient)).collect())
    }
}

impl message_hook::Guest for Guard {
    fn on_message(
        _: CallInfo,
        _: Session,
        _: Envelope,
        info: MessageInfo,
    ) -> Result<MessageOutcome, String> {
        let mark = MessageEdit::AddHeader(NewHeader {
            name: settings()?.tag.clone(),
            value: "checked by guard in Rust".into(),
            place: HeaderPlace::Top,
        });
        let internal = info.headers.iter().any(|header| {
            header.name.eq_ignore_ascii_case("subject") && header.value.contains("[internal]")
        });
        let (verdict, reasons) = if internal {
            let why = "internal subject";
            let reasons = vec![reason("internal-subject", why, None)];
            (MessageVerdict::Quarantine(why.into()), reasons)
        } else {
            (MessageVerdict::Proceed, Vec::new())
        };
        Ok(MessageOutcome { verdict, recipients: Vec::new(), edits: vec![mark], reasons })
    }
}

bindings::export!(Guard with_types_in bindings);

/// The section `[plugin.guard.config]`.
struct Settings {
    blocked: Vec<String>,
    tag: String,
}

impl Settings {
    fn parse(config: &str) -> Result<Self, String> {
        let Ok(Value::Object(config)) = serde_json::from_str(config) else {
            return Err("the configuration is no JSON object".into());
        };
        let blocked = match config.get("blocked") {
            None => Vec::new(),
            Some(value) => domains(value).ok_or("blocked must be a list of domains")?,
        };
        let tag = match config.get("tag") {
            None => "X-Guard",
            Some(value) => value.as_str().ok_or("tag must be the name of a header field")?,
        };
        Ok(Self { blocked, tag: tag.into() })
    }

    /// None where there is nothing to say: such a recipient proceeds.
    fn decide(&self, recipient: Recipient) -> Option<RecipientOutcome> {
        let Mailbox { local, domain } = recipient.address;
        let mut outcome = RecipientOutcome {
            id: recipient.id,
            verdict: Verdict::Proceed,
            replace_with: Vec::new(),
            meta: Vec::new(),
            reasons: Vec::new(),
        };
        if self.blocked.contains(&domain) {
            let text = format!("{domain} is not served here");
            outcome.reasons.push(reason("blocked-domain", &text, Some("blocked")));
            outcome.verdict = Verdict::Refuse(Refusal::Reject(PermanentReply {
                code: PermanentCode::R550,
                enhanced: Some((7, 1)),
                text,
            }));
        } else if local == "later" {
            let text = "the mailbox is not ready";
            outcome.reasons.push(reason("try-later", text, None));
            outcome.verdict = Verdict::Refuse(Refusal::Tempfail(TransientReply {
                code: TransientCode::R450,
                enhanced: None,
                text: text.into(),
            }));
        } else {
            let user = local.strip_prefix("alias-").filter(|user| !user.is_empty())?;
            outcome.reasons.push(reason("alias", &format!("alias of {user}"), None));
            outcome.replace_with.push(Mailbox { local: user.into(), domain });
        }
        Some(outcome)
    }
}

fn settings() -> Result<&'static Settings, String> {
    SETTINGS.get().ok_or_else(|| "asked before init".into())
}

/// In lower case, as the relay writes them.
fn domains(value: &Value) -> Option<Vec<String>> {
    value.as_array()?.iter().map(|domain| domain.as_str().map(str::to_ascii_lowercase)).collect()
}

fn reason(code: &str, text: &str, rule: Option<&str>) -> Reason {
    Reason { code: code.into(), text: text.into(), rule: rule.map(Into::into) }
}
