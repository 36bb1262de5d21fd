//! Rules that can never match, because an earlier one takes all they would.

use waypost_sdk::patterns::{AddressPattern, Glob, Network};

use crate::config::{Field, Rule};

/// The first earlier rule that hides this one.
pub(crate) fn by<'a>(earlier: &'a [Rule], rule: &Rule) -> Option<(usize, &'a Rule)> {
    earlier.iter().enumerate().find(|(_, earlier)| hides(earlier, rule))
}

/// Sure only: a rule with a table hides only rules with the same table.
fn hides(earlier: &Rule, later: &Rule) -> bool {
    (earlier.recipient_table.is_none() || earlier.recipient_table == later.recipient_table)
        && covered(&earlier.recipient, &later.recipient, AddressPattern::covers)
        && covers_senders(&earlier.sender, &later.sender)
        && covered(&earlier.identity, &later.identity, Glob::covers)
        && covered(&earlier.listener, &later.listener, Glob::covers)
        && covered(&earlier.client, &later.client, Network::covers)
        && earlier.header.iter().all(|a| later.header.iter().any(|b| implies(b, a)))
        && earlier.meta.iter().all(|(key, a)| later.meta.get(key).is_some_and(|b| a.covers(b)))
        && earlier.larger_than.is_none_or(|a| later.larger_than.is_some_and(|b| a <= b))
        && earlier.smaller_than.is_none_or(|a| later.smaller_than.is_some_and(|b| a >= b))
}

fn covers_senders(earlier: &[AddressPattern], later: &[AddressPattern]) -> bool {
    let everybody = ["*", "<>"].map(AddressPattern::parse);
    let all = everybody.iter().flatten().all(|any| earlier.contains(any));
    all || covered(earlier, later, AddressPattern::covers)
}

/// An empty list of conditions is no condition.
fn covered<T>(earlier: &[T], later: &[T], covers: impl Fn(&T, &T) -> bool) -> bool {
    earlier.is_empty()
        || (!later.is_empty() && later.iter().all(|b| earlier.iter().any(|a| covers(a, b))))
}

/// Whenever the condition `b` holds, `a` does.
fn implies(b: &Field, a: &Field) -> bool {
    if !a.name.eq_ignore_ascii_case(&b.name) || a.absent != b.absent {
        return false;
    }
    let wider = match (&a.glob, &a.contains) {
        (None, None) => return true,
        (Some(glob), _) => glob.clone(),
        (_, Some(needle)) => Glob::new(&format!("*{needle}*")),
    };
    let narrower = match (&b.glob, &b.contains) {
        (Some(glob), _) => glob.clone(),
        (_, Some(needle)) => Glob::new(&format!("*{needle}*")),
        (None, None) => return false,
    };
    wider.covers(&narrower)
}
