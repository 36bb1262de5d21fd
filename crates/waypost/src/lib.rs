//! The program: reads arguments, wires the rooms, runs them, drains them.
//!
//! [`relay::Relay`] is the whole house in one value, so that two of them fit in one test.

#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "a command line answers on standard output")]

pub mod args;
pub mod ban;
pub mod check;
pub mod control;
pub mod demo;
pub mod dkim;
pub mod explain;
pub mod guests;
pub mod offline;
pub mod operate;
pub mod plugin;
mod policy;
pub mod privileges;
pub mod probe;
pub mod relay;
pub mod run;
pub mod send;
pub mod sendmail;
pub mod sink;
pub mod spool;
mod stores;
pub mod submit;
pub mod suppress;
pub mod table;
pub mod telemetry;
pub mod token;
pub mod user;
pub mod why;

use std::process::ExitCode;

use anyhow::Result;

use crate::args::{Cli, Command, PluginCommand, ProbeCommand};

/// Carries out what the command line says.
///
/// # Errors
/// Whatever went wrong, in words for the person who typed it.
pub fn carry_out(cli: Cli) -> Result<()> {
    match cli.command {
        Command::Run(args) => run::run(&args),
        Command::Check(args) => check::check(&args),
        Command::User(command) => user::user(command),
        Command::Token(command) => token::token(command),
        Command::Ban(command) => block_on(ban::ban(command)),
        Command::Plugin(PluginCommand::Compile { from, to }) => plugin::compile(&from, &to),
        Command::Plugin(command) => block_on(plugin::plugin(command)),
        Command::Explain(args) => block_on(explain::explain(&args)),
        Command::Dkim(command) => dkim::dkim(command),
        Command::Demo(args) => block_on(demo::demo(&args)),
        // Taken before arguments are read as ours; see `sendmail::called`.
        Command::Sendmail { .. } => anyhow::bail!("call it as: waypost sendmail …"),
        Command::Send(args) => block_on(send::send(&args)),
        Command::Probe(ProbeCommand::Tls(args)) => block_on(probe::tls(&args)),
        Command::Probe(ProbeCommand::Route(args)) => block_on(probe::route::route(&args)),
        Command::Probe(ProbeCommand::Reply(args)) => probe::reply::reply(&args),
        Command::Suppress(command) => block_on(suppress::suppress(command)),
        Command::Status(args) => block_on(operate::status(&args)),
        Command::Why(args) => block_on(why::why(&args)),
        Command::Queue(command) => block_on(operate::queue(command)),
        Command::Spool(command) => block_on(spool::spool(command)),
        Command::Reload(args) => block_on(operate::reload(&args)),
        Command::Drain(args) => block_on(operate::drain(&args)),
    }
}

/// The exit code for an error: 1, unless scripts are to tell it from others.
pub fn exit_code(error: &anyhow::Error) -> ExitCode {
    let found = error.downcast_ref::<probe::Found>();
    found.map_or(ExitCode::FAILURE, |found| found.code().into())
}

fn block_on(work: impl Future<Output = Result<()>>) -> Result<()> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(work)
}
