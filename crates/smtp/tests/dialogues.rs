//! Every file in `tests/dialogues` is replayed whole, byte by byte, and at every split into two.

mod script;
mod smuggling;

use std::fs;
use std::path::Path;

use script::{Script, Seen};

#[test]
fn every_dialogue_is_the_same_for_every_way_of_cutting_it() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dialogues");
    let mut names: Vec<_> =
        fs::read_dir(&folder).unwrap().map(|file| file.unwrap().path()).collect();
    names.sort();
    assert!(names.len() >= 50, "dialogues are missing");
    let mut failures = Vec::new();
    for name in &names {
        let script = Script::parse(&fs::read_to_string(name).unwrap());
        let name = name.file_name().unwrap().to_string_lossy();
        if let Err(failure) = replay(&script) {
            failures.push(format!("{name}: {failure}"));
        }
    }
    assert!(failures.is_empty(), "\n{}", failures.join("\n\n"));
}

fn replay(script: &Script) -> Result<(), String> {
    compare(script, "whole", |_, bytes| vec![bytes.to_vec()])?;
    for size in [1, 2, 3, 7] {
        compare(script, &format!("in pieces of {size}"), |group, bytes| {
            let size = if script.groups[group].together { bytes.len().max(1) } else { size };
            bytes.chunks(size).map(<[u8]>::to_vec).collect()
        })?;
    }
    let cuttable = |group: &&script::Group| !group.together;
    let longest = script.groups.iter().filter(cuttable).map(|group| group.bytes.len()).max();
    for at in 1..longest.unwrap_or(0) {
        compare(script, &format!("split at {at}"), |group, bytes| {
            if script.groups[group].together || at >= bytes.len() {
                return vec![bytes.to_vec()];
            }
            vec![bytes[..at].to_vec(), bytes[at..].to_vec()]
        })?;
    }
    Ok(())
}

fn compare(
    script: &Script,
    how: &str,
    cut: impl Fn(usize, &[u8]) -> Vec<Vec<u8>>,
) -> Result<(), String> {
    for (number, (seen, group)) in script.play(cut).iter().zip(&script.groups).enumerate() {
        if !fits(seen, &group.expected) {
            let sent = String::from_utf8_lossy(&group.bytes);
            let sent: String = sent.chars().take(300).collect();
            return Err(format!(
                "group {number}, {how}, after {sent:?}\n  is      {seen:?}\n  written {:?}",
                group.expected
            ));
        }
    }
    Ok(())
}

/// Lines of replies are compared as far as they are written.
fn fits(seen: &Seen, expected: &Seen) -> bool {
    let reply_fits = |(is, should): (&String, &String)| {
        is.strip_prefix(should.as_str())
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
    };
    seen.events == expected.events
        && seen.replies.len() == expected.replies.len()
        && seen.replies.iter().zip(&expected.replies).all(reply_fits)
}
