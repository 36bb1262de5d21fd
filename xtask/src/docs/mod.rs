//! `cargo xtask docs`: the pages about the contract, made of the doc comments in `wit/`.
//!
//! The pages are in the tree, so that they can be read without building anything; `--check` and a test
//! tell when they are not what the contract says.

mod contract;
mod fault;
mod page;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use contract::Contract;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Write nothing; fail when the pages are not what the contract says.
    #[arg(long)]
    check: bool,
}

/// Pages by the name of their file.
type Pages = BTreeMap<String, String>;

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let root = crate::workspace();
    let (pages, place) = (made(&root)?, place(&root));
    let stale = stale(&pages, &kept(&place)?);
    if options.check {
        if stale.is_empty() {
            return Ok(());
        }
        bail!("pages about the contract are stale: {}. Run: cargo xtask docs", stale.join(", "));
    }
    fs::create_dir_all(&place)?;
    for name in &stale {
        match pages.get(name) {
            Some(page) => fs::write(place.join(name), page)?,
            None => fs::remove_file(place.join(name))?,
        }
    }
    println!("{}: {} pages, {} of them written", place.display(), pages.len(), stale.len());
    Ok(())
}

/// Where the pages are.
fn place(root: &Path) -> PathBuf {
    root.join("docs/plugins/contract")
}

/// The pages as they should be.
fn made(root: &Path) -> anyhow::Result<Pages> {
    let contract = Contract::read(&root.join("wit"))?;
    let examples = |name: &str| {
        let file = root.join(format!("crates/sdk/tests/hooks/{name}.rs"));
        fs::read_to_string(&file)
            .with_context(|| format!("the hook needs an example, {}", file.display()))
    };
    page::all(&contract, examples)
}

/// The pages as they are.
fn kept(place: &Path) -> anyhow::Result<Pages> {
    let entries = match fs::read_dir(place) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Pages::new()),
        Err(error) => return Err(error.into()),
    };
    let mut pages = Pages::new();
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        pages.insert(name, fs::read_to_string(&path)?);
    }
    Ok(pages)
}

/// Names of pages that are missing, different, or nobody's any more.
fn stale(made: &Pages, kept: &Pages) -> Vec<String> {
    let names: BTreeSet<&String> = made.keys().chain(kept.keys()).collect();
    names.into_iter().filter(|name| made.get(*name) != kept.get(*name)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pages_are_what_the_contract_says() {
        let root = crate::workspace();
        let stale = stale(&made(&root).unwrap(), &kept(&place(&root)).unwrap());
        assert!(stale.is_empty(), "run `cargo xtask docs`: {stale:?}");
    }

    #[test]
    fn what_is_missing_different_or_too_much_is_stale() {
        let pages = |pages: &[(&str, &str)]| -> Pages {
            pages.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
        };
        let made = pages(&[("a", "1"), ("b", "1"), ("c", "1")]);
        assert_eq!(stale(&made, &pages(&[("a", "1"), ("b", "2"), ("d", "1")])), ["b", "c", "d"]);
    }
}
