//! `cargo xtask guests`: every guest of this tree, a policy compiled to a WebAssembly component, into
//! `target/guests/NAME.wasm`.
//!
//! Guests in Rust are cargo's business, in workspaces of their own; those in other languages are
//! built when what they are made of has changed.

mod embedded;
mod inputs;
mod packages;
mod rust;
mod starters;
mod toolchain;
mod tools;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, anyhow, ensure};
use clap::ValueEnum;

use starters::Starter;
use toolchain::Toolchain;
use tools::Tools;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Build only these guests.
    #[arg(long, value_name = "NAME", num_args = 1..)]
    only: Vec<String>,
    /// Build only guests in these languages.
    #[arg(long, value_enum, value_delimiter = ',')]
    languages: Vec<Language>,
    /// Build the plugins that the program carries and put them where it takes them from.
    #[arg(long)]
    embed: bool,
    /// Build nothing: make the compiler ready, and print what a shell must know to use it by hand.
    #[arg(long)]
    toolchain: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Language {
    Rust,
    #[value(alias = "js")]
    Javascript,
    Python,
    C,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    if options.toolchain {
        print!("{}", Toolchain::find()?.exports());
        return Ok(());
    }
    if options.embed {
        return embedded::refresh();
    }
    let selection = Selection::of(&options.only, &options.languages)?;
    selection.build()?;
    println!("{}", directory()?.display());
    Ok(())
}

/// Builds all guests and returns the directory they are in.
pub(crate) fn all() -> anyhow::Result<PathBuf> {
    Selection::of(&[], &[])?.build()?;
    let directory = directory()?;
    sweep(&directory)?;
    Ok(directory)
}

/// Installs what building them needs.
pub(crate) fn prepare() -> anyhow::Result<()> {
    let _alone = alone()?;
    Toolchain::find()?;
    Tools::install().map(drop)
}

/// What to build this time.
struct Selection {
    rust: Vec<rust::Guest>,
    starters: Vec<&'static Starter>,
}

impl Selection {
    /// All that are named and in one of the languages; an empty list stands for all.
    fn of(only: &[String], languages: &[Language]) -> anyhow::Result<Self> {
        let rust = rust::guests()?;
        let known =
            || rust.iter().map(|g| g.name.as_str()).chain(Starter::ALL.iter().map(|s| s.name));
        for name in only {
            let names = || known().collect::<Vec<_>>().join(", ");
            ensure!(
                known().any(|one| one == name),
                "no guest is named {name}. There are: {}",
                names()
            );
        }
        let wanted = |name: &str, language| {
            (only.is_empty() || only.iter().any(|one| one == name))
                && (languages.is_empty() || languages.contains(&language))
        };
        let starters = Starter::ALL.iter().filter(|one| wanted(one.name, one.language)).collect();
        let rust = rust.into_iter().filter(|one| wanted(&one.name, Language::Rust)).collect();
        Ok(Self { rust, starters })
    }

    /// Rust keeps the processors busy while the others wait for the network.
    fn build(&self) -> anyhow::Result<()> {
        let _alone = alone()?;
        let directory = directory()?;
        std::thread::scope(|scope| {
            let rust = scope.spawn(|| self.build_rust(&directory));
            let starters = self.build_starters(&directory);
            rust.join().map_err(|_| anyhow!("building the guests in Rust ended in a panic"))??;
            starters
        })
    }

    fn build_rust(&self, directory: &Path) -> anyhow::Result<()> {
        if self.rust.is_empty() {
            return Ok(());
        }
        rust::build(&Toolchain::find()?, &self.rust, directory)
    }

    fn build_starters(&self, directory: &Path) -> anyhow::Result<()> {
        let mut stale = Vec::new();
        for starter in &self.starters {
            if !starter.is_fresh(directory)? {
                stale.push(*starter);
            }
        }
        if stale.is_empty() {
            return Ok(());
        }
        let tools = Tools::install()?;
        stale.into_iter().try_for_each(|starter| starter.build(&tools, directory))
    }
}

/// Where the components are.
pub(crate) fn directory() -> anyhow::Result<PathBuf> {
    Ok(std::path::absolute(crate::target())?.join("guests"))
}

/// Makes the directory. Who else builds in it waits until the answer is dropped.
fn alone() -> anyhow::Result<File> {
    let directory = directory()?;
    fs::create_dir_all(&directory)?;
    let lock = File::create(directory.join("lock"))?;
    lock.lock()?;
    Ok(lock)
}

/// Removes the components of guests that are in the tree no more.
fn sweep(directory: &Path) -> anyhow::Result<()> {
    let all = Selection::of(&[], &[])?;
    let kept = |name: &str| {
        all.rust.iter().any(|one| one.name == name)
            || all.starters.iter().any(|one| one.name == name)
    };
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        if path.extension().is_some_and(|extension| extension == "wasm") && !kept(&name) {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

/// Removes a folder, if it is there.
fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Runs a command to its end; what it says goes to standard error.
fn finish(command: &mut Command) -> anyhow::Result<()> {
    let status = command
        .stdin(Stdio::null())
        .stdout(Stdio::from(io::stderr()))
        .status()
        .with_context(|| format!("{} did not start", command.get_program().display()))?;
    ensure!(status.success(), "failed: {command:?}");
    Ok(())
}

/// What a command prints, without the last line end.
fn answer(command: &mut Command) -> anyhow::Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("{} did not start", command.get_program().display()))?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "failed: {command:?}\n{complaint}");
    Ok(String::from_utf8(output.stdout)?.trim_end().to_string())
}
