//! `waypost ban …`: who is shut out after failed logins.

use anyhow::{Result, bail};
use waypost_admin::Client;
use waypost_admin::api::{Ban, LiftBans, Lifted};
use waypost_mail::{Clock, SystemClock, Timestamp};

use crate::args::{BanCommand, LiftArgs, OutputArgs};
use crate::table::{Table, span, until};

/// Carries out a `waypost ban` command.
///
/// # Errors
/// When the relay does not run or refuses.
pub async fn ban(command: BanCommand) -> Result<()> {
    match command {
        BanCommand::List(output) => list(&output).await,
        BanCommand::Lift(args) => lift(args).await,
    }
}

async fn list(output: &OutputArgs) -> Result<()> {
    let places = waypost_config::places(&output.config.config)?;
    let bans: Vec<Ban> = Client::new(&places.socket).get("/v1/bans").await?;
    if output.json {
        println!("{}", serde_json::to_string_pretty(&bans)?);
        return Ok(());
    }
    print!("{}", for_people(&bans, SystemClock.now()));
    Ok(())
}

async fn lift(args: LiftArgs) -> Result<()> {
    if args.network.is_some() == args.all {
        bail!("say which address or network, or --all");
    }
    let places = waypost_config::places(&args.config.config)?;
    let request = LiftBans { network: args.network, all: args.all };
    let Lifted { lifted } = Client::new(&places.socket).post("/v1/bans/lift", &request).await?;
    match lifted {
        0 => bail!("nobody there is shut out; `waypost ban list` shows who is"),
        1 => println!("1 ban lifted"),
        count => println!("{count} bans lifted"),
    }
    Ok(())
}

fn for_people(bans: &[Ban], now: Timestamp) -> String {
    if bans.is_empty() {
        return "nobody is shut out\n".to_owned();
    }
    let mut table = Table::new(&["NETWORK", "SINCE", "ENDS"]);
    for ban in bans {
        let since = format!("{} ago", span(now.since(ban.since)));
        table.row(vec![ban.network.clone(), since, until(ban.until, now)]);
    }
    table.to_string()
}
