//! `waypost user …`: who may log in. Passwords come from the terminal or standard input, never from
//! the command line, where others could see them.

use std::io::{self, IsTerminal, Read};
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;
use waypost_inbound::{Account, UsersFile};

use crate::args::{UserCommand, UserListArgs, UsersFileArgs};
use crate::table::Table;

/// Octets of standard input taken for a password, its line end included.
const MAX_PASSWORD: u64 = 4096;

/// Carries out a `waypost user` command.
///
/// # Errors
/// When the users file cannot be read or changed, or the name or password cannot be used.
pub fn user(command: UserCommand) -> Result<()> {
    match command {
        UserCommand::Add(args) => {
            let path = place(&args.file)?;
            let mut file = UsersFile::load_or_empty(&path)?.with_sha_1(args.scram_sha_1);
            file.add(&args.name, &password(&args.name)?)?;
            if !args.send_as.is_empty() {
                file.set_send_as(&args.name, args.send_as)?;
            }
            changed(&path, &format!("{} may log in", args.name));
        }
        UserCommand::Passwd(args) => {
            let path = place(&args.file)?;
            let mut file = UsersFile::load(&path)?.with_sha_1(args.scram_sha_1);
            file.set_password(&args.name, &password(&args.name)?)?;
            if !args.send_as.is_empty() {
                file.set_send_as(&args.name, args.send_as)?;
            }
            changed(&path, &format!("{} has another password", args.name));
        }
        UserCommand::SendAs(args) => {
            let path = place(&args.file)?;
            UsersFile::load(&path)?.set_send_as(&args.name, args.patterns)?;
            changed(&path, &format!("{} has other addresses to send as", args.name));
        }
        UserCommand::Remove(args) => {
            let path = place(&args.file)?;
            UsersFile::load(&path)?.remove(&args.name)?;
            changed(&path, &format!("{} may not log in any more", args.name));
        }
        UserCommand::List(args) => list(&args)?,
    }
    Ok(())
}

fn place(args: &UsersFileArgs) -> Result<PathBuf> {
    if let Some(users) = &args.users {
        return Ok(users.clone());
    }
    waypost_config::places(&args.config.config)?.users.with_context(|| {
        format!(
            "{} names no users file: add [users] with file = \"/etc/waypost/users\", or give --users",
            args.config.config.display()
        )
    })
}

fn changed(path: &std::path::Path, what: &str) {
    println!("{what} ({})", path.display());
    eprintln!("A running waypost takes this up at `waypost reload`.");
}

/// Asks twice at a terminal; takes the first line of anything else.
fn password(name: &str) -> Result<String> {
    if !io::stdin().is_terminal() {
        return first_line(io::stdin().lock());
    }
    let password = rpassword::prompt_password(format!("Password for {name}: "))?;
    let again = rpassword::prompt_password("The same again: ")?;
    ensure!(password == again, "the two passwords differ; nothing was changed");
    Ok(password)
}

fn first_line(input: impl Read) -> Result<String> {
    let mut text = String::new();
    input.take(MAX_PASSWORD).read_to_string(&mut text).context("cannot read the password")?;
    let line = text.lines().next().unwrap_or_default();
    if line.is_empty() {
        bail!("no password came from standard input");
    }
    ensure!((text.len() as u64) < MAX_PASSWORD, "this is too long for a password");
    Ok(line.to_owned())
}

/// One user as JSON shows it.
#[derive(Debug, Serialize)]
struct Listed<'a> {
    name: &'a str,
    mechanisms: Vec<&'static str>,
    send_as: Vec<String>,
}

fn list(args: &UserListArgs) -> Result<()> {
    let file = UsersFile::load(&place(&args.file)?)?;
    let users = file.users().map(|(name, held)| Listed {
        name,
        mechanisms: mechanisms(held),
        send_as: held.send_as.iter().map(ToString::to_string).collect(),
    });
    let users: Vec<Listed<'_>> = users.collect();
    if args.json {
        println!("{}", serde_json::to_string_pretty(&users)?);
        return Ok(());
    }
    let mut table = Table::new(&["USER", "MECHANISMS", "SENDS ALSO AS"]);
    for user in &users {
        let row = [user.name.to_owned(), user.mechanisms.join(" "), user.send_as.join(" ")];
        table.row(row.into());
    }
    if !users.is_empty() {
        print!("{table}");
    }
    match users.len() {
        0 => println!("no users"),
        1 => println!("1 user"),
        count => println!("{count} users"),
    }
    Ok(())
}

/// What the user's verifiers are for, best first.
fn mechanisms(held: &Account) -> Vec<&'static str> {
    let scram = held.scram.is_some().then_some("SCRAM-SHA-256");
    let clear = held.argon2id.is_some().then_some(["PLAIN", "LOGIN"]);
    let old = held.scram_sha_1.is_some().then_some("SCRAM-SHA-1");
    scram.into_iter().chain(old).chain(clear.into_iter().flatten()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_the_first_line() {
        assert_eq!(first_line("geheim wie nie\r\nmore".as_bytes()).unwrap(), "geheim wie nie");
        assert_eq!(first_line("geheim".as_bytes()).unwrap(), "geheim");
        assert!(first_line("\nx".as_bytes()).is_err());
        assert!(first_line("x".repeat(5000).as_bytes()).is_err());
    }
}
