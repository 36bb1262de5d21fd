//! `waypost token …`: who may submit by HTTP.

use std::path::PathBuf;

use anyhow::{Context, Result};
use waypost_inbound::BearersFile;

use crate::args::{TokenCommand, TokensFileArgs};
use crate::table::Table;

/// Carries out a `waypost token` command.
///
/// # Errors
/// When the tokens file cannot be read or changed, or the name cannot be used.
pub fn token(command: TokenCommand) -> Result<()> {
    match command {
        TokenCommand::Add(args) => {
            let mut file = BearersFile::load_or_empty(&place(&args.file)?)?;
            println!("{}", file.add(&args.name)?);
            eprintln!("It is shown this once. A running waypost takes it up at `waypost reload`.");
        }
        TokenCommand::Remove(args) => {
            BearersFile::load(&place(&args.file)?)?.remove(&args.name)?;
            eprintln!("A running waypost takes this up at `waypost reload`.");
        }
        TokenCommand::List(args) => list(&BearersFile::load(&place(&args)?)?),
    }
    Ok(())
}

fn place(args: &TokensFileArgs) -> Result<PathBuf> {
    if let Some(tokens) = &args.tokens {
        return Ok(tokens.clone());
    }
    waypost_config::places(&args.config.config)?.tokens.with_context(|| {
        format!(
            "{} names no tokens file: add [http] with tokens = \"/etc/waypost/tokens\", or give --tokens",
            args.config.config.display()
        )
    })
}

fn list(file: &BearersFile) {
    let mut users: Vec<&str> = file.users().collect();
    users.sort_unstable();
    let mut table = Table::new(&["USER", "TOKENS"]);
    for same in users.chunk_by(|one, other| one == other) {
        table.row(vec![same[0].to_owned(), same.len().to_string()]);
    }
    match users.is_empty() {
        true => println!("no tokens"),
        false => print!("{table}"),
    }
}
