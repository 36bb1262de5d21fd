//! The plugins that the program carries, compiled: kept in the tree, so that whoever builds the program need
//! not compile to WebAssembly first.

use std::fs;
use std::path::PathBuf;

use super::inputs::Inputs;
use super::{Selection, directory};

/// Their names.
const NAMES: [&str; 4] = ["rewrite", "route", "sign", "retry"];
/// What they are made of.
const SOURCES: [&str; 7] = [
    "plugins/rewrite/src",
    "plugins/route/src",
    "plugins/sign/src",
    "plugins/retry/src",
    "plugins/retry/providers",
    "crates/sdk/src",
    "wit",
];

/// Builds them and puts them, and what they were made of, beside the program's sources.
pub(super) fn refresh() -> anyhow::Result<()> {
    let names = NAMES.map(str::to_owned);
    Selection::of(&names, &[])?.build()?;
    let home = home();
    fs::create_dir_all(&home)?;
    for name in NAMES {
        let file = format!("{name}.wasm");
        fs::copy(directory()?.join(&file), home.join(&file))?;
    }
    fs::write(home.join("SOURCES"), format!("{}\n", sources()?))?;
    println!("{}", home.display());
    Ok(())
}

/// What they are made of, as one number.
fn sources() -> anyhow::Result<String> {
    let inputs = Inputs::of("embedded", &SOURCES, &home().join("none"))?;
    Ok(inputs.digest().to_owned())
}

fn home() -> PathBuf {
    crate::workspace().join("crates/waypost/guests")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_carries_what_the_tree_says() {
        let recorded = fs::read_to_string(home().join("SOURCES")).unwrap();
        assert_eq!(recorded.trim(), sources().unwrap(), "stale: cargo xtask guests --embed");
    }

    #[test]
    fn it_carries_nothing_of_the_machine_that_built_them() {
        for name in NAMES {
            let octets = fs::read(home().join(format!("{name}.wasm"))).unwrap();
            let text = String::from_utf8_lossy(&octets);
            for (place, name_of_it) in [
                ("/crates/sdk/src/", "/waypost"),
                ("/registry/src/", "/cargo"),
                ("/library/core/src/", "/rustc"),
                ("/library/std/src/", "/rustc"),
            ] {
                for (at, _) in text.match_indices(place) {
                    assert!(text[..at].ends_with(name_of_it), "{name} has a path with {place}");
                }
            }
            for place in ["/.cargo/", "/.cache/", "/home/", "/target/"] {
                assert!(!text.contains(place), "{name} has a path with {place}");
            }
        }
    }
}
