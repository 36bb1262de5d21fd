//! The command line of Waypost.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser as _;
use waypost::args::Cli;
use waypost::sendmail;

/// Gives memory back: after a flood of logins (19 MiB for each hash, on many threads) the system's
/// allocator kept 800 MB.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

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
