//! The program, built together with the stories that run it.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser as _;
use waypost::args::Cli;
use waypost::sendmail;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    if let Some(arguments) = sendmail::called(&arguments) {
        return sendmail::sendmail(arguments);
    }
    match waypost::carry_out(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("waypost: {error:#}");
            waypost::exit_code(&error)
        }
    }
}
