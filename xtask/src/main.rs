//! Chores of the workspace: `cargo xtask setup`, `cargo xtask guests`, `cargo xtask docs`, `cargo xtask test`,
//! `cargo xtask mutants`, `cargo xtask bench`.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "a chore speaks to the person who started it")]

mod bench;
mod docs;
mod guests;
mod peers;
mod setup;

use std::path::PathBuf;
use std::process::{Command, ExitCode, ExitStatus};

use anyhow::Context;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Chores of the Waypost workspace")]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Install the foreign programs of the tests (Postfix, swaks, gsasl, curl, strace, openssl, GnuTLS, haproxy,
    /// Mail::DKIM, aiosmtpd, dkimpy, schemathesis; Exim and OpenSMTPD in roots of their own), and what builds
    /// guests.
    Setup,
    /// Compile the policies of this tree (plugins, starters, what the tests use) to WebAssembly components.
    Guests(guests::Options),
    /// Write the pages about the plugins' contract, docs/plugins/contract, from the doc comments in wit/.
    Docs(docs::Options),
    /// Set up, build the guests, then `cargo test --workspace --no-fail-fast`; further arguments go to cargo.
    Test {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        further: Vec<String>,
    },
    /// Plant one bug after another and show that the simulation finds each (docs/simulation.md).
    Mutants,
    /// Measure Waypost beside Postfix on this machine.
    Bench(bench::Options),
}

fn main() -> anyhow::Result<ExitCode> {
    match Arguments::parse().chore {
        Chore::Setup => set_up().map(|()| ExitCode::SUCCESS),
        Chore::Guests(options) => guests::run(&options).map(|()| ExitCode::SUCCESS),
        Chore::Docs(options) => docs::run(&options).map(|()| ExitCode::SUCCESS),
        Chore::Test { further } => test(&further),
        Chore::Mutants => mutants(),
        Chore::Bench(options) => bench::run(&options).map(|()| ExitCode::SUCCESS),
    }
}

fn set_up() -> anyhow::Result<()> {
    setup::run()?;
    peers::unpack()?;
    guests::prepare()
}

fn test(further: &[String]) -> anyhow::Result<ExitCode> {
    let python = setup::run()?;
    let peers = peers::unpack()?;
    let guests = guests::all()?;
    let status = Command::new("cargo")
        .args(["test", "--workspace", "--no-fail-fast"])
        .args(further)
        .current_dir(workspace())
        .env("WAYPOST_TEST_PYTHON", python)
        .env("WAYPOST_TEST_PEERS", peers)
        .env("WAYPOST_GUESTS", guests)
        .status()
        .context("cargo test did not start")?;
    Ok(code(status))
}

/// Builds the simulation with its planted bugs, in the workspace's own set of features so that
/// nothing foreign is built anew, and runs it.
fn mutants() -> anyhow::Result<ExitCode> {
    let build = Command::new("cargo")
        .args(["build", "--quiet", "--workspace", "--bin", "waypost-mutants"])
        .args(["--features", "waypost-simulation/mutants"])
        .current_dir(workspace())
        .status()
        .context("cargo build did not start")?;
    if !build.success() {
        return Ok(ExitCode::FAILURE);
    }
    let program = target().join("debug/waypost-mutants");
    let status = Command::new(&program).status();
    Ok(code(status.with_context(|| format!("{} did not start", program.display()))?))
}

fn code(status: ExitStatus) -> ExitCode {
    if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The root of the checkout.
fn workspace() -> PathBuf {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    here.parent().map(PathBuf::from).unwrap_or(here)
}

/// Where cargo puts what it builds, and we what we install or measure.
fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), PathBuf::from)
}
