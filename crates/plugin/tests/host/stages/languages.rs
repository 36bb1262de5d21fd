//! The same policy in four languages gives the same answers.

use waypost_plugin::{PluginConfig, Stage};

use crate::testbed::mail::{facts, letter, text};
use crate::testbed::{Bed, guest};

const LANGUAGES: [(&str, &str); 4] =
    [("rust", "Rust"), ("c", "C"), ("javascript", "JavaScript"), ("python", "Python")];

fn guard(language: &str, config: &str) -> PluginConfig {
    let file = guest(&format!("guard-{language}"));
    let mut plugin = PluginConfig::new("guard", file);
    plugin.config = config.to_owned();
    plugin.grants.edit.recipients = true;
    // Under load an interpreter may be kept from the processor for a while.
    let budget = waypost_plugin::Budget {
        cpu: std::time::Duration::from_millis(500),
        wall: std::time::Duration::from_secs(10),
    };
    plugin.budgets.extend([(Stage::Recipients, budget), (Stage::Message, budget)]);
    plugin
}

/// Everything that one language answers, in words.
async fn answers(language: &str, name: &str) -> Vec<String> {
    let config = r#"{"blocked": ["spam.example", "Other.Example"], "tag": "X-Checked"}"#;
    let bed = Bed::with([guard(language, config)]).await;
    let mut said = Vec::new();
    let facts = facts("mx");
    let to: [&[&str]; 6] = [
        &["a@example.org"],
        &["a@spam.example", "later@example.org", "alias-bob@example.org", "b@example.org"],
        &["alias-@example.org", "LATER@example.org", "x@other.example"],
        &["later@spam.example", "alias-later@example.org"],
        &["\"quoted user\"@example.org", "alias-\u{fc}ml\u{e4}ut@example.org"],
        &["a@[192.0.2.1]"],
    ];
    for to in to {
        said.push(format!("{:?}", bed.recipients(&facts, to).await));
    }
    let letters = [
        letter(),
        text("Subject: about [internal] things\r\n", "x\r\n"),
        text("sUbJeCt: =?utf-8?q?x?=\r\n [internal]\r\n", "x\r\n"),
        text("X-Subject: [internal]\r\n", ""),
        text("Subject: gr\u{fc}\u{df}e [INTERNAL]\r\nSubject: [internal]\r\n", "\u{fc}\r\n"),
    ];
    for letter in letters {
        let answer = format!("{:?}", bed.message(&facts, &letter).await);
        said.push(answer.replace(&format!("guard in {name}"), "guard in LANGUAGE"));
    }
    said
}

#[tokio::test(flavor = "multi_thread")]
async fn four_languages_one_answer() {
    let (first, name) = LANGUAGES[0];
    let expected = answers(first, name).await;
    assert!(expected[1].contains("spam.example is not served here"), "{expected:?}");
    assert!(expected[7].contains("Quarantine"), "{expected:?}");
    assert!(expected.iter().all(|said| said.starts_with("Ok")), "{expected:?}");
    for (language, name) in &LANGUAGES[1..] {
        let said = answers(language, name).await;
        for (said, expected) in said.iter().zip(&expected) {
            assert_eq!(said, expected, "{language}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn four_languages_refuse_the_same_configurations() {
    for (language, _) in LANGUAGES {
        for config in ["[]", r#"{"blocked": 5}"#, r#"{"blocked": [5]}"#, r#"{"tag": 5}"#] {
            let said = Bed::refused([guard(language, config)]).await;
            assert!(said.contains("plugin guard does not begin"), "{language} {config}: {said}");
        }
    }
}

/// All four in one policy: the room is made for each, those with dozens of core instances too; and
/// slots are used to the last one.
#[tokio::test(flavor = "multi_thread")]
async fn four_languages_in_one_policy() {
    let plugins = LANGUAGES.map(|(language, _)| {
        let mut plugin = guard(language, r#"{"tag": "X-TAG"}"#.replace("TAG", language).as_str());
        plugin.name = format!("guard-{language}");
        plugin.slots = 8;
        plugin
    });
    let bed = std::sync::Arc::new(Bed::with(plugins).await);
    let calls: Vec<_> = (0..8)
        .map(|_| {
            let bed = bed.clone();
            tokio::spawn(async move {
                for _ in 0..5 {
                    let answer = bed.message(&facts("mx"), &letter()).await.unwrap();
                    assert_eq!(answer.edits.len(), 4);
                }
            })
        })
        .collect();
    for call in calls {
        call.await.unwrap();
    }
}
