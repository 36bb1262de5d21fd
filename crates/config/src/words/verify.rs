//! What is verified on the way in, in plain language.

use std::fmt::Write as _;

use waypost_identity::verify::Checks;
use waypost_intake::{Action, Whose};

use crate::Settings;

pub(super) fn verification(settings: &Settings) -> String {
    let verification = &settings.reload.verification;
    let at = |name: &String| verification.listeners.get(name).unwrap_or(&verification.mail);
    let doors = || settings.startup.doors.iter().map(|door| &door.config.name);
    if doors().all(|name| *at(name) == Whose::Nobodys) {
        return String::new();
    }
    let (id, checks) = (&verification.id, checks(verification.checks));
    let mut text = format!("Who vouches for mail is verified ({checks}), and told as {id}\n");
    for name in doors() {
        let whose = match at(name) {
            Whose::Nobodys => continue,
            Whose::Strangers => "of who may not send to anybody",
            Whose::Everybodys => "of everybody",
        };
        let _ = writeln!(text, "  on {name}: the mail {whose}");
    }
    let fails = &verification.on_fail;
    for (what, action) in [
        ("fails DMARC, and its author's domain asks for it", fails.dmarc),
        ("fails SPF", fails.spf),
        ("comes from a server without a matching name", fails.iprev),
    ] {
        let action = match action {
            Action::Nothing => continue,
            Action::Hold => "held",
            Action::Refuse => "refused",
        };
        let _ = writeln!(text, "  what {what} is {action}");
    }
    if let Some(seal) = &verification.seal {
        let _ = writeln!(text, "  what was verified is sealed (ARC) by {}", seal.domain);
    }
    text
}

fn checks(checks: Checks) -> String {
    let names = [
        ("SPF", checks.spf),
        ("DKIM", checks.dkim),
        ("DMARC", checks.dmarc),
        ("ARC", checks.arc),
        ("iprev", checks.iprev),
    ];
    let made: Vec<&str> = names.iter().filter(|(_, made)| *made).map(|(name, _)| *name).collect();
    if made.is_empty() { "no checks".to_owned() } else { made.join(", ") }
}
