//! The command line of Waypost.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser as _;
use waypost::args::Cli;
use waypost::sendmail;

/// Gives memory back, also what another thread took: after a flood of logins (19 MiB for each hash, on
/// many threads) the system's allocator kept 400 MB, and mimalloc kept 700 MB and more of the pieces
/// of a hundred large messages.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// The error and its causes, without those whose words are in it already.
fn told(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |text, cause| {
        if text.is_empty() {
            cause
        } else if text.contains(&cause) {
            text
        } else {
            format!("{text}: {cause}")
        }
    })
}

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    if let Some(arguments) = sendmail::called(&arguments) {
        return sendmail::sendmail(arguments);
    }
    match waypost::carry_out(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("waypost: {}", told(&error));
            waypost::exit_code(&error)
        }
    }
}
