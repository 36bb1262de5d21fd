//! Verification that cannot do what it is told.

use std::time::Duration;

use waypost_identity::verify::Checks;
use waypost_intake::Action;

use crate::file::File;
use crate::mistake::Notes;
use crate::section::At;

/// A peer waits ten minutes for the reply to the end of data (RFC 5321 §4.5.3.2.6), and some wait
/// less.
const LONGEST: Duration = Duration::from_secs(120);
/// Names of plugins that would be mistaken for facts of ours.
const RESERVED: &str = "verify";

pub(super) fn check(file: &File, notes: &mut Notes<'_>) {
    let given = &file.verify;
    let checks = given.checks.as_ref().map_or(Checks::ALL, |checks| checks.value);
    let mut needs = |action: &Option<At<Action>>, is_made: bool, name: &str| {
        if let Some(action) = action
            && action.value > Action::Nothing
            && !is_made
        {
            let message = format!("'verify.{name}-fail' waits for a check that is not made");
            notes.add(&action.at, message, &format!("add \"{name}\" to verify.checks"));
        }
    };
    needs(&given.dmarc_fail, checks.dmarc, "dmarc");
    needs(&given.spf_fail, checks.spf, "spf");
    needs(&given.iprev_fail, checks.iprev, "iprev");
    if let Some(seal) = &given.seal
        && !checks.arc
    {
        let hint = "add \"arc\" to verify.checks: a seal says whether the chain before it was good";
        notes.add(&seal.key.at, "'verify.seal' needs a check that is not made", hint);
    }
    if let Some(timeout) = &given.timeout
        && timeout.value > LONGEST
    {
        notes.add(&timeout.at, "'verify.timeout' is too long", "at most 2m: peers wait meanwhile");
    }
    for plugin in file.plugins.iter().filter(|plugin| plugin.config.name == RESERVED) {
        let message = format!("no plugin can be called '{RESERVED}'");
        let hint = "metadata of this name is what verification found; choose another name";
        notes.add(&plugin.name, message, hint);
    }
}
