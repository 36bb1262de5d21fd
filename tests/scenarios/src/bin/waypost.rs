//! The program, built together with the stories that run it.

#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser as _;
use waypost::args::{Cli, Command};
use waypost::relay::{Choices, Relay, Sockets};
use waypost::sendmail;
use waypost_config::Settings;
use waypost_spool::Faults;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    if let Some(arguments) = sendmail::called(&arguments) {
        return sendmail::sendmail(arguments);
    }
    let ends = std::env::var(waypost_scenarios::STORY_ENDS);
    let ended = match (Cli::parse(), ends) {
        (Cli { command: Command::Run(args) }, Ok(ends)) => run_to_an_end(&args.config, &ends),
        (cli, _) => waypost::carry_out(cli),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("waypost: {error:#}");
            waypost::exit_code(&error)
        }
    }
}

/// Runs the relay, which ends at once when the spool comes to a step, `Synced:/a/file`, and the file is
/// there.
fn run_to_an_end(config: &Path, ends: &str) -> anyhow::Result<()> {
    let (step, marker) = ends.split_once(':').unwrap_or((ends, ""));
    let (step, marker) = (step.to_owned(), PathBuf::from(marker));
    let mut settings = Settings::load(config)?;
    settings.startup.spool.faults = Faults::new(move |point| {
        if format!("{point:?}") == step && marker.exists() {
            std::process::abort();
        }
        Ok(())
    });
    let sockets = Sockets::bind(&settings.startup, Vec::new())?;
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
        let _relay = Relay::start_with(settings, sockets, Choices::default()).await?;
        std::future::pending().await
    })
}
