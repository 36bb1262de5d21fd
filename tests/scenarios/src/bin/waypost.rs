//! The program, built together with the stories that run it.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser as _;
use waypost::args::Cli;

fn main() -> ExitCode {
    match waypost::carry_out(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("waypost: {error:#}");
            ExitCode::FAILURE
        }
    }
}
