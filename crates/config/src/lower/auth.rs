//! From the model to how users log in.

use waypost_inbound::{AuthSettings, FailureRules, SenderRule, SenderRules, Wildcard};

use crate::file::{AuthSection, File};

pub(super) fn auth(file: &File) -> AuthSettings {
    AuthSettings {
        scram_sha_1: file.auth.scram_sha_1,
        senders: senders(&file.auth),
        failures: failures(&file.auth),
    }
}

fn senders(auth: &AuthSection) -> SenderRules {
    let rules = auth.senders.iter().map(|given| SenderRule {
        users: given.users.iter().cloned().map(Wildcard).collect(),
        may: given.may.clone(),
    });
    let rules = rules.collect();
    SenderRules { free: auth.free_senders, from_field: auth.from_field, rules }
}

fn failures(auth: &AuthSection) -> FailureRules {
    let (given, usual) = (&auth.failures, FailureRules::default());
    let delay = given.delay.unwrap_or(usual.delay);
    FailureRules {
        delay,
        max_delay: given.max_delay.as_ref().map_or(usual.max_delay.max(delay), |max| max.value),
        ban_after: given.ban_after.unwrap_or(usual.ban_after),
        window: given.window.unwrap_or(usual.window),
        ban: given.ban.unwrap_or(usual.ban),
        never_ban: given.never_ban.clone(),
    }
}
