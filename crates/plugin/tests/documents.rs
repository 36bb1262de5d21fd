//! What the documents say about stages is what the code does.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail the test")]

use std::fs;
use std::path::Path;

use waypost_plugin::{OnError, STAGES, Stage};

fn read(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The cells of the row about a stage in the operators' guide.
fn row(stage: Stage) -> Vec<String> {
    let guide = read("docs/plugins.md");
    let begin = format!("| `{stage}` | ");
    let row = guide.lines().find(|line| line.starts_with(&begin));
    let row = row.unwrap_or_else(|| panic!("the guide has no row for {stage}"));
    row.split('|').map(|cell| cell.trim().to_owned()).collect()
}

/// The words of `on-error` in a text.
fn named(text: &str) -> Vec<OnError> {
    let words = ["tempfail", "open", "closed", "disconnect", "quarantine"];
    let named = words.iter().filter(|word| text.contains(&format!("`{word}`")));
    named.map(|word| word.parse().unwrap()).collect()
}

#[test]
fn the_guide_knows_budgets_and_remedies_of_each_stage() {
    for stage in STAGES {
        let cells = row(stage);
        let budget = stage.usual_budget();
        let told = format!("{:?},{:?}", budget.cpu, budget.wall);
        assert_eq!(cells[3].replace(' ', ""), told, "{stage}");
        // "Never `open`" says what is not there.
        let told = cells[4].split("Never").next().unwrap();
        assert_eq!(named(told), stage.remedies(), "{stage}");
    }
}

/// The table on a hook's page is made of the contract's words: they must be those of the code.
#[test]
fn the_contract_knows_the_remedies_of_each_stage() {
    for stage in STAGES {
        let page = read(&format!("docs/plugins/contract/{}.md", stage.interface()));
        let table = page.split("## What a fault does").nth(1).unwrap();
        let table = table.split("\n## ").next().unwrap();
        let heads: String = table
            .lines()
            .filter(|line| line.starts_with("| `") && !line.contains("on-error"))
            .map(|line| line.split('|').nth(1).unwrap())
            .collect();
        assert_eq!(named(&heads), stage.remedies(), "{stage}");
    }
}
