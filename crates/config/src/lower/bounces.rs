//! From the model to what bounces do.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use waypost_intake::SuppressionSettings;
use waypost_mail::SignRequest;
use waypost_mail::suppression::Ground;

use crate::file::File;
use crate::settings::Bounces;

/// A day.
const DAY: Duration = Duration::from_secs(86_400);

/// Who is put on the list, and for how long.
pub(super) fn suppression(file: &File) -> SuppressionSettings {
    let given = &file.suppression;
    let lasts = |ground: Ground| match ground {
        Ground::BadAddress => given.bad_address.map_or(Some(30 * DAY), |lasting| lasting.0),
        Ground::Inactive => given.inactive.map_or(Some(14 * DAY), |lasting| lasting.0),
        Ground::Complaint | Ground::Manual => given.complaint.and_then(|lasting| lasting.0),
    };
    let feed: HashMap<_, _> = given.feed.iter().map(|ground| (*ground, lasts(*ground))).collect();
    SuppressionSettings { feed, reach: given.reach.unwrap_or_default() }
}

/// Where mail comes back to.
pub(super) fn bounces(file: &File, spool: &Path) -> Option<Bounces> {
    let given = file.bounces.as_ref()?;
    Some(Bounces {
        domain: given.domain.value.clone(),
        secret: spool.join("bounces.secret"),
        days: given.days,
        feedback: given.feedback.clone(),
        forward: given.forward,
    })
}

/// What our own notices are signed with.
pub(super) fn signatures(file: &File) -> Vec<SignRequest> {
    let request = |sign: &crate::file::NoticeSign| SignRequest {
        domain: sign.domain.value.to_string(),
        selector: sign.selector.value.clone(),
        key: sign.key.value.0.clone(),
        headers: Vec::new(),
        oversign: Vec::new(),
        expire_after: None,
    };
    file.notices.iter().map(request).collect()
}
