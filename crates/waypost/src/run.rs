//! `waypost run`: the relay in the foreground, until a signal or an operator ends it.

use anyhow::{Context, Result};
use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info, warn};
use waypost_config::Settings;

use crate::args::ConfigArgs;
use crate::relay::{Choices, Relay, Sockets, THIS_PROGRAM};
use crate::{privileges, telemetry};

/// Runs the relay. Ports are bound and privileges dropped before the runtime has any thread.
pub fn run(args: &ConfigArgs) -> Result<()> {
    let settings = Settings::load(&args.config)?.compiled_by(THIS_PROGRAM);
    telemetry::start(&settings.startup.log)?;
    open_file_limit();
    let given = privileges::activated(&settings.startup.doors)?;
    let sockets = Sockets::bind(&settings.startup, given)?;
    privileges::drop(&settings.startup)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("the runtime cannot start")?;
    let file = Some(args.config.clone());
    runtime.block_on(serve(settings, sockets, Choices { file, ..Choices::default() }))
}

/// Every session and connection takes a descriptor; the usual soft limit of 1024 is less than the
/// sessions we allow.
fn open_file_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        warn!(%error, "the limit on open files stays as it is");
    }
}

async fn serve(settings: Settings, sockets: Sockets, choices: Choices) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    let relay = Relay::start_with(settings, sockets, choices).await?;
    for (config, place) in relay.addresses() {
        info!(listener = config.name, kind = %config.kind, address = %place, "listening");
    }
    let failure = loop {
        tokio::select! {
            ended = relay.ended() => break ended.err(),
            _ = terminate.recv() => break None,
            _ = interrupt.recv() => break None,
            _ = hang_up.recv() => {
                // What came of it is in the log.
                let _ = relay.controls().reload_told("signal").await;
            }
        }
    };
    if let Some(failure) = &failure {
        error!(%failure, "the relay ends so that a supervisor can start it anew");
    }
    match failure {
        None => relay.drain().await,
        Some(_) => relay.abandon().await,
    }
    failure.map_or(Ok(()), Err)
}
