//! Several plugins at one stage.

use serde_json::json;
use waypost_hooks::{Draft, MessageEdit, MessageVerdict, MessageView, Verdict};
use waypost_mail::MessageId;
use waypost_plugin::{Budget, PluginConfig, Stage};

use crate::testbed::mail::{TO, facts, letter, number, recipients, sender, transaction};
use crate::testbed::{Bed, hostile, remedied, witness};

fn editor(name: &str, config: serde_json::Value) -> PluginConfig {
    let mut plugin = witness(name, config);
    let edit = &mut plugin.grants.edit;
    (edit.sender, edit.recipients, edit.body) = (true, true, true);
    edit.remove = vec!["*".to_owned()];
    plugin
}

/// Each sees the message as the one before it left it, and all edits together make that message.
#[tokio::test]
async fn edits_compose() {
    let first = json!({"message": {
        "add": [["X-First", "1"]],
        "remove": ["X-A"],
        "splice": [[0, 1, "AN"], [2, 4, "email"]],
        "add_recipient": ["third@example.org"],
        "remove_recipient": [0],
        "sender": "<>",
        "meta": [["seen", "yes"]],
    }});
    let second = json!({
        "answers": {"message": {"splice": [[0, 2, "the"]], "add": [["X-Second", "2"]]}},
        "headers": ["*"],
        "calls": {"message": [["message.read-body", 0, 8], ["message.body-size"]]},
    });
    let mut bed = Bed::with([editor("a", json!({"answers": first})), editor("b", second)]).await;
    let (facts, letter, sender, to) = (facts("mx"), letter(), sender(), recipients(&TO));
    let answer = bed.message(&facts, &letter).await.unwrap();
    let decisions = bed.decisions();
    let saw: Vec<&str> = decisions[1].reasons.iter().map(|reason| reason.text.as_str()).collect();
    assert!(saw[0].contains("sender <>") && saw[0].ends_with("meta a/seen=yes"), "{saw:?}");
    assert!(saw[1].contains("X-First=1|0=Received=by a|1=Subject"), "{saw:?}");
    assert_eq!(
        saw[2..4],
        ["recipient 1 two@example.org meta ", "recipient 2 third@example.org meta "]
    );
    assert_eq!(saw[4], "414e20656d61696c", "AN email");
    assert_eq!(saw[5], (letter.body.len() + 2).to_string());

    let transaction = transaction(&facts, &sender, &to);
    let view = MessageView { transaction, id: MessageId(number()), text: &letter };
    let mut draft = Draft::of(&view);
    draft.edit(&answer.edits).unwrap();
    assert_eq!(draft.text.body.read_at(0, 99).unwrap(), "the email\r\nof two lines\r\n");
    let header = String::from_utf8(draft.text.header.as_bytes().to_vec()).unwrap();
    assert_eq!(header, "X-Second: 2\r\nX-First: 1\r\nReceived: by a\r\nSubject: a subject\r\n");
}

/// The first who refuses ends the stage.
#[tokio::test]
async fn the_first_refusal_ends_the_stage() {
    for stage in [Stage::Connect, Stage::Sender, Stage::Recipients, Stage::Message] {
        let answers = json!({"answers": {stage.name(): {"verdict": "550 no"}}});
        let plugins = [witness("a", json!({})), witness("b", answers), witness("c", json!({}))];
        let mut bed = Bed::with(plugins).await;
        let answer = bed.ask(stage, "mx").await.unwrap();
        assert!(answer.contains("550"), "{answer}");
        let asked: Vec<String> = bed.decisions().into_iter().map(|d| d.plugin).collect();
        assert_eq!(asked, ["a", "b"], "{stage}");
    }
}

/// `accept` ends it too, for who may.
#[tokio::test]
async fn accept_ends_the_stage_with_a_grant() {
    for granted in [false, true] {
        for stage in [Stage::Helo, Stage::Recipients, Stage::Message] {
            let answers = json!({"answers": {stage.name(): {"verdict": "accept"}}});
            let mut first = witness("a", answers);
            first.grants.accept = granted;
            let mut bed = Bed::with([first, witness("b", json!({}))]).await;
            let answer = bed.ask(stage, "mx").await.unwrap();
            assert!(answer.contains("Proceed"), "{answer}");
            let asked = bed.decisions().len();
            assert_eq!(asked, if granted { 1 } else { 2 }, "{stage}");
        }
    }
}

/// Recipients go on by themselves: who is refused, or taken for good, is not shown to the next one.
#[tokio::test]
async fn recipients_go_on_by_themselves() {
    let first = json!({"recipients": {
        "recipients": [["one", "550 no"], ["two", "accept"]],
        "meta": [["list", "yes"]],
    }});
    let mut first = witness("a", json!({"answers": first}));
    first.grants.accept = true;
    let mut second =
        editor("b", json!({"answers": {"recipients": {"replace_with": ["x@example.net"]}}}));
    second.grants.recipients = vec!["example.net".parse().unwrap()];
    let mut bed = Bed::with([first, second, witness("c", json!({}))]).await;
    let to = ["one@example.org", "two@example.org", "three@example.org"];
    let answers = bed.recipients(&facts("mx"), &to).await.unwrap();
    assert!(matches!(answers[0].verdict, Verdict::Refuse(_)));
    assert_eq!((&answers[1].verdict, answers[1].replace_with.len()), (&Verdict::Proceed, 0));
    assert!(answers[2].replace_with[0].granted);
    let told = bed.decisions();
    let saw = |place: usize| -> Vec<&str> {
        told[place].reasons.iter().skip(2).map(|reason| reason.text.as_str()).collect()
    };
    assert_eq!(saw(1), ["recipient 2 three@example.org meta a/list=yes"]);
    assert_eq!(saw(2), ["recipient 2 x@example.net meta a/list=yes"]);
}

/// The sender and the session's metadata as those before left them.
#[tokio::test]
async fn sessions_compose() {
    let first =
        json!({"sender": {"sender": "new@example.net", "meta": [["k", "v"]], "delay_ms": 10}});
    let second = json!({"sender": {"delay_ms": 20}});
    let plugins =
        [editor("a", json!({"answers": first})), witness("b", json!({"answers": second}))];
    let mut bed = Bed::with(plugins).await;
    let (answer, _) = bed.sender(&facts("mx")).await.unwrap();
    assert_eq!(answer.delay.as_millis(), 30);
    let told = bed.decisions();
    assert!(told[1].reasons[0].text.ends_with("meta a/k=v"), "{told:?}");
    assert!(told[1].reasons[1].text.contains("sender new@example.net"), "{told:?}");
}

/// The first who decides about a recipient wins.
#[tokio::test]
async fn the_first_way_wins() {
    let way = |local: &str, host: &str| json!({"route": {"hops": [[local, host, 25]]}});
    let plugins = [
        witness("a", json!({"answers": way("one", "a.example")})),
        witness("b", json!({"answers": way("*", "b.example")})),
        witness("c", json!({"answers": way("*", "c.example")})),
    ];
    let mut bed = Bed::with(plugins).await;
    let groups = bed.route(&facts("mx"), &letter()).await.unwrap();
    let ways: Vec<String> =
        groups.iter().map(|g| format!("{:?} {:?}", g.recipients, g.decision)).collect();
    assert!(ways[0].starts_with("[0]") && ways[0].contains("a.example"), "{ways:?}");
    assert!(ways[1].starts_with("[1]") && ways[1].contains("b.example"), "{ways:?}");
    assert_eq!((groups.len(), bed.decisions().len()), (2, 2), "nobody is left for the third");
}

/// A fault with `open` counts for nothing, with the usual remedy for everything: what others said is
/// gone with it, and the mail path does not apply half an answer.
#[tokio::test]
async fn a_fault_among_others() {
    let good = || editor("a", json!({"answers": {"message": {"add": [["X-Good", "1"]]}}}));
    let bad = |remedy| remedied(hostile("b", "header-crlf"), Stage::Message, remedy);
    let bed =
        Bed::with([good(), bad(waypost_plugin::OnError::Open), witness("c", json!({}))]).await;
    let answer = bed.message(&facts("bad"), &letter()).await.unwrap();
    let names: Vec<&str> = answer
        .edits
        .iter()
        .map(|edit| match edit {
            MessageEdit::AddHeader { name, .. } => name.as_str(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!((names, answer.verdict), (vec!["X-Good"], MessageVerdict::Proceed));
    let bed = Bed::with([good(), bad(waypost_plugin::OnError::Usual)]).await;
    bed.message(&facts("bad"), &letter()).await.unwrap_err();
}

/// Budgets of the configuration hold.
#[tokio::test]
async fn budgets_are_configured() {
    let mut plugin = witness("w", json!({}));
    let budget = Budget {
        cpu: std::time::Duration::from_millis(123),
        wall: std::time::Duration::from_secs(1),
    };
    plugin.budgets.insert(Stage::Connect, budget);
    let mut bed = Bed::with([plugin]).await;
    bed.connect(&facts("mx")).await.unwrap();
    assert!(bed.reasons()[0].contains("budget 123000"));
}
