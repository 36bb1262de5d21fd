//! Bounces and notices that do not fit with the rest.

use crate::file::File;
use crate::mistake::Notes;

pub(super) fn check(file: &File, notes: &mut Notes<'_>) {
    let all = file.queue.classes.iter().map(|class| &class.verp).chain([&file.queue.verp]);
    let verp = all.flatten().find(|verp| verp.value);
    if let (Some(verp), None) = (verp, &file.bounces) {
        let hint = "[bounces] with domain = \"bounces.example.org\", whose mail comes here";
        notes.add(&verp.at, "'verp' sends from addresses of a domain that nobody named", hint);
    }
    if let Some(bounces) = &file.bounces
        && file.domains.iter().any(|domain| domain.value.matches(&bounces.domain.value))
    {
        let message = format!("mail for {} would be relayed on", bounces.domain.value);
        let hint = "take it out of relay.domains: what comes back ends here";
        notes.add(&bounces.domain.at, message, hint);
    }
    for sign in &file.notices {
        if !file.keys.iter().any(|(name, _)| name.value.0 == sign.key.value.0) {
            let message = format!("there is no key '{}' to sign notices with", sign.key.value.0);
            notes.add(&sign.key.at, message, "[keys.NAME] with file = \"FILE\"");
        }
    }
}
