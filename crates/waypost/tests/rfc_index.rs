//! Documents keep their promises: each RFC the code cites is in `docs/rfc.md`, and each test that
//! `SAFETY.md` names exists.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail the test")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All Rust sources below `dir`.
fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    let entries = fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The numbers behind each `RFC ` in a text.
fn cited(text: &str) -> Vec<u32> {
    let numbers = text
        .split("RFC ")
        .skip(1)
        .map(|rest| rest.chars().take_while(char::is_ascii_digit).collect::<String>());
    numbers.filter_map(|digits| digits.parse().ok()).collect()
}

#[test]
fn every_rfc_the_code_cites_is_in_the_table() {
    let table = read(&root().join("docs/rfc.md"));
    // Rows alone: a number in running text says nothing about its status.
    let rows = table.lines().filter(|line| line.starts_with("| RFC "));
    let known: BTreeSet<u32> = rows.flat_map(|row| cited(row.split('|').nth(1).unwrap())).collect();
    assert!(known.contains(&5321), "the table is not read as it should be: {known:?}");

    let mut files = Vec::new();
    sources(&root().join("crates"), &mut files);
    let mut missing = Vec::new();
    let mut count = 0;
    for file in files {
        for (number, line) in (1..).zip(read(&file).lines()) {
            for rfc in cited(line) {
                count += 1;
                if !known.contains(&rfc) {
                    let file = file.strip_prefix(root()).unwrap();
                    missing.push(format!("{}:{number}: RFC {rfc}", file.display()));
                }
            }
        }
    }
    assert!(count > 100, "only {count} citations were found");
    assert!(missing.is_empty(), "not in docs/rfc.md:\n{}", missing.join("\n"));
}

#[test]
fn every_test_that_safety_names_exists() {
    let text = read(&root().join("SAFETY.md"));
    let quoted = text.split('`').skip(1).step_by(2);
    let named: Vec<&str> =
        quoted.filter(|name| name.starts_with("crates/") || name.starts_with("tests/")).collect();
    assert!(named.len() > 30, "SAFETY.md names only {} tests", named.len());
    let mut missing = Vec::new();
    for name in named {
        let (file, function) = name.split_once("::").unwrap_or((name, ""));
        let there = fs::read_to_string(root().join(file));
        let declares =
            |source: String| function.is_empty() || source.contains(&format!("fn {function}("));
        if !there.is_ok_and(declares) {
            missing.push(name);
        }
    }
    assert!(
        missing.is_empty(),
        "SAFETY.md names tests that are not there (moved or renamed?):\n{}",
        missing.join("\n")
    );
}
