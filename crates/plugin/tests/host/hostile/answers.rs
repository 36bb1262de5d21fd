//! Answers that are legal for the engine and wrong for mail: refused whole.

use waypost_hooks::FaultKind;
use waypost_plugin::Stage;

use crate::testbed::mail::facts;
use crate::testbed::{Bed, hostile};

async fn refused(stage: Stage, deeds: &[&str]) {
    for deed in deeds {
        let mut plugin = hostile("p", deed);
        // What is wrong is the answer, not the lack of a grant.
        let edit = &mut plugin.grants.edit;
        (edit.recipients, edit.body, edit.sender) = (true, true, true);
        edit.remove = vec!["*".to_owned()];
        plugin.grants.sign = vec!["key".to_owned()];
        let budget = waypost_plugin::Budget {
            cpu: std::time::Duration::from_secs(2),
            wall: std::time::Duration::from_secs(10),
        };
        plugin.budgets.insert(stage, budget);
        let mut bed = Bed::with([plugin]).await;
        let fault = bed.fails(stage, FaultKind::BadAnswer).await;
        assert!(!fault.text.is_empty() && fault.text.len() <= 1024, "{deed}");
    }
}

/// 14: a reply carries no protocol and has an end. 15, codes of another class, cannot be said at all:
/// the contract's types have no words for them.
#[tokio::test]
async fn replies_carry_no_protocol() {
    let deeds = ["reply-crlf", "reply-nul", "reply-lines", "reply-line", "reply-enhanced"];
    for stage in [Stage::Connect, Stage::Sender, Stage::Recipients, Stage::Message, Stage::Route] {
        refused(stage, &deeds).await;
    }
}

/// 13: a header field has a name and a value and nothing else.
#[tokio::test]
async fn fields_are_fields() {
    let deeds = [
        "header-crlf",
        "header-nul",
        "header-colon",
        "header-space",
        "header-nameless",
        "header-long",
        "header-absent",
        "meta-name",
    ];
    refused(Stage::Message, &deeds).await;
    refused(Stage::Prepare, &["header-crlf", "header-colon", "header-bottom"]).await;
}

/// 16, 17: addresses are addresses, and not too many.
#[tokio::test]
async fn addresses_are_addresses() {
    let deeds = [
        "address-newline",
        "address-domain",
        "address-long",
        "address-injection",
        "addresses",
        "foreign",
        "twice",
        "huge",
    ];
    refused(Stage::Recipients, &deeds).await;
    let deeds = [
        "recipients-many",
        "recipients-huge",
        "recipient-illegal",
        "recipient-foreign",
        "recipients-none",
    ];
    refused(Stage::Message, &deeds).await;
    refused(Stage::Sender, &["sender-illegal"]).await;
}

/// 18: splices lie within the body, rise, and do not overlap.
#[tokio::test]
async fn splices_fit() {
    let deeds = ["splice-overlap", "splice-falling", "splice-range", "splice-end"];
    refused(Stage::Message, &deeds).await;
}

/// 10, 11: an answer has an end.
#[tokio::test]
async fn answers_have_an_end() {
    refused(Stage::Message, &["edits-huge", "edits-many", "splice-huge"]).await;
}

/// Reasons and metadata are printable and have an end.
#[tokio::test]
async fn reasons_and_metadata_have_an_end() {
    let reasons = ["reason-control", "reason-long", "reason-nameless", "reasons-many"];
    let metas = ["meta-name", "meta-long", "meta-many"];
    refused(Stage::Connect, &[&reasons[..], &metas].concat()).await;
    refused(Stage::Recipients, &[&reasons[..], &metas].concat()).await;
    refused(Stage::Message, &reasons).await;
}

/// Ways lead to hosts, and are for recipients that were asked about.
#[tokio::test]
async fn ways_lead_somewhere() {
    refused(Stage::Route, &["foreign", "twice", "hop-port", "hop-name", "lane"]).await;
    refused(Stage::Attempt, &["foreign", "hop-port", "advice"]).await;
}

/// 19, 20 and what else wants a grant.
#[tokio::test]
async fn nothing_is_changed_without_a_grant() {
    let ungranted = [
        (Stage::Message, "received", "remove"),
        (Stage::Message, "received-by-id", "remove"),
        (Stage::Message, "header-change", "remove"),
        (Stage::Message, "authentication-results", "add"),
        (Stage::Message, "return-path", "add"),
        (Stage::Message, "sign", "sign"),
        (Stage::Message, "sender", "edit.sender"),
        (Stage::Message, "recipients-many", "edit.recipients"),
        (Stage::Message, "splice-range", "edit.body"),
        (Stage::Message, "discard", "discard"),
        (Stage::Sender, "sender", "edit.sender"),
        (Stage::Recipients, "elsewhere", "edit.recipients"),
        (Stage::Prepare, "received", "add"),
        (Stage::Prepare, "sign", "sign"),
        (Stage::Prepare, "sender", "edit.sender"),
        (Stage::Attempt, "drop", "discard"),
    ];
    for (stage, deed, grant) in ungranted {
        let mut bed = Bed::with([hostile("p", deed)]).await;
        let fault = bed.fails(stage, FaultKind::BadAnswer).await;
        assert!(
            fault.text.contains(&format!("without the grant {grant}"))
                || fault.text.contains(&format!("without the grant edit.{grant}")),
            "{fault}"
        );
    }
}

/// 51: who accepts everything opens nothing. The answer is no objection, never a right to relay; and
/// a recipient elsewhere is one that the peer itself must be allowed to reach.
#[tokio::test]
async fn accepting_everything_opens_no_relay() {
    use waypost_hooks::Verdict;
    let mut plugin = hostile("p", "accept");
    plugin.grants.accept = true;
    let bed = Bed::with([plugin]).await;
    let facts = facts("bad");
    let answers = bed.recipients(&facts, &["victim@elsewhere.example"]).await.unwrap();
    assert_eq!(answers[0].verdict, Verdict::Proceed);
    assert!(answers[0].replace_with.is_empty());

    let mut plugin = hostile("p", "elsewhere");
    plugin.grants.edit.recipients = true;
    plugin.grants.recipients = vec!["ours.example".parse().unwrap()];
    let bed = Bed::with([plugin]).await;
    let answers = bed.recipients(&facts, &["a@example.org"]).await.unwrap();
    assert!(!answers[0].replace_with[0].granted);
}

/// 43, 44, 45: what the mail path keeps within bounds reaches it as it was said, and within the range of
/// its types.
#[tokio::test]
async fn delays_moments_and_reroutes_are_passed_on() {
    use waypost_hooks::Remedy;
    use waypost_mail::Timestamp;
    let bed = Bed::with([hostile("p", "delay")]).await;
    let answer = bed.connect(&facts("bad")).await.unwrap();
    assert_eq!(answer.delay.as_millis(), u128::from(u32::MAX));
    for (deed, moment) in [("past", 0), ("far", u64::MAX)] {
        let bed = Bed::with([hostile("p", deed)]).await;
        let text = crate::testbed::mail::letter();
        let answer = bed.attempt(&facts("bad"), &text).await.unwrap();
        assert_eq!(answer.remedies[0].1, Remedy::RetryAt(Timestamp(moment)));
    }
    let bed = Bed::with([hostile("p", "advice-long")]).await;
    let answer = bed.attempt(&facts("bad"), &crate::testbed::mail::letter()).await.unwrap();
    let advice = &answer.advice[0];
    assert_eq!((advice.pause, advice.max_concurrent), (Some(advice.valid), Some(1)));
    assert_eq!(advice.valid.as_secs(), 86_400);
}
