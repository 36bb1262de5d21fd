//! `waypost suppress …`: who gets no more mail.

use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use waypost_admin::Client;
use waypost_admin::api::{
    Entries, ListSuppressions, ShowSuppressions, Suppress, SuppressionPage, Unsuppress,
};
use waypost_mail::suppression::{Ground, Target};
use waypost_mail::{Clock, Suppression, SystemClock, Timestamp};

use crate::args::{ConfigArgs, SuppressListArgs, SuppressShowArgs};
use crate::args::{SuppressAddArgs, SuppressCommand, SuppressImportArgs, SuppressRemoveArgs};
use crate::table::{Table, span, until};

/// Entries sent at once.
const BATCH: usize = 500;
/// Entries asked for at once.
const PAGE: usize = 1000;

/// Carries out a `waypost suppress` command.
///
/// # Errors
/// When the relay does not run or refuses.
pub async fn suppress(command: SuppressCommand) -> Result<()> {
    match command {
        SuppressCommand::List(args) => list(&args).await,
        SuppressCommand::Show(args) => show(args).await,
        SuppressCommand::Add(args) => add(args).await,
        SuppressCommand::Remove(args) => remove(args).await,
        SuppressCommand::Export(config) => export(&config).await,
        SuppressCommand::Import(args) => import(&args).await,
    }
}

fn client(config: &ConfigArgs) -> Result<Client> {
    Ok(Client::new(&waypost_config::places(&config.config)?.socket))
}

/// The list, page by page.
struct Pages {
    client: Client,
    next: Option<String>,
    is_over: bool,
}

impl Pages {
    fn of(config: &ConfigArgs) -> Result<Pages> {
        Ok(Pages { client: client(config)?, next: None, is_over: false })
    }

    /// The entries of the next page; nothing behind the last one.
    async fn page(&mut self) -> Result<Option<Vec<Suppression>>> {
        if self.is_over {
            return Ok(None);
        }
        let request = ListSuppressions { limit: Some(PAGE), after: self.next.take() };
        let page: SuppressionPage = self.client.post("/v1/suppressions/list", &request).await?;
        self.is_over = page.next.is_none();
        self.next = page.next;
        Ok(Some(page.entries))
    }
}

async fn list(args: &SuppressListArgs) -> Result<()> {
    let word = args.containing.as_deref().unwrap_or_default().to_lowercase();
    let mut pages = Pages::of(&args.output.config)?;
    let mut entries = Vec::new();
    let mut is_cut = false;
    while let Some(page) = pages.page().await? {
        entries.extend(page.into_iter().filter(|e| e.target.to_string().contains(&word)));
        is_cut = entries.len() > args.limit || (entries.len() == args.limit && !pages.is_over);
        if is_cut {
            entries.truncate(args.limit);
            break;
        }
    }
    shown(&entries, args.output.json)?;
    if is_cut {
        eprintln!("there may be more; --limit {} shows no more than these", args.limit);
    }
    Ok(())
}

async fn show(args: SuppressShowArgs) -> Result<()> {
    let request = ShowSuppressions { target: args.target, sender: args.from, user: args.user };
    let client = client(&args.output.config)?;
    let entries: Vec<Suppression> = client.post("/v1/suppressions/show", &request).await?;
    shown(&entries, args.output.json)
}

fn shown(entries: &[Suppression], json: bool) -> Result<()> {
    match json {
        true => println!("{}", serde_json::to_string_pretty(entries)?),
        false => print!("{}", for_people(entries, SystemClock.now())),
    }
    Ok(())
}

async fn add(args: SuppressAddArgs) -> Result<()> {
    let now = SystemClock.now();
    let lifetime = args.days.map(|days| Duration::from_secs(86_400 * u64::from(days)));
    let entry = |target: &Target| Suppression {
        target: target.clone(),
        owner: args.owner.clone(),
        ground: args.ground,
        since: now,
        expires: lifetime.map(|lifetime| now.after(lifetime)),
        note: args.note.clone(),
    };
    let entries = args.targets.iter().map(entry).collect();
    told(send(&client(&args.config)?, entries).await?, "put on the list");
    Ok(())
}

async fn remove(args: SuppressRemoveArgs) -> Result<()> {
    let request = Unsuppress { targets: args.targets, owner: args.owner };
    let client = client(&args.config)?;
    let Entries { entries } = client.post("/v1/suppressions/remove", &request).await?;
    if entries == 0 {
        bail!("there is no such entry; `waypost suppress list` shows them");
    }
    told(entries, "taken off the list");
    Ok(())
}

async fn export(config: &ConfigArgs) -> Result<()> {
    let mut pages = Pages::of(config)?;
    while let Some(entries) = pages.page().await? {
        for entry in entries {
            println!("{}", serde_json::to_string(&entry)?);
        }
    }
    Ok(())
}

async fn import(args: &SuppressImportArgs) -> Result<()> {
    let text = read(&args.file)?;
    let entries = entries(&text, args, SystemClock.now())?;
    let client = client(&args.config)?;
    let mut count = 0;
    for batch in entries.chunks(BATCH) {
        count += send(&client, batch.to_vec()).await?;
    }
    told(count, "put on the list");
    Ok(())
}

fn read(file: &Path) -> Result<String> {
    if file == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text)?;
        return Ok(text);
    }
    std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
}

/// Lines of JSON as `export` writes them, or addresses and domains alone.
fn entries(text: &str, args: &SuppressImportArgs, now: Timestamp) -> Result<Vec<Suppression>> {
    let mut entries = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let entry = if line.starts_with('{') {
            serde_json::from_str(line).map_err(anyhow::Error::from)
        } else {
            line.parse().map_err(anyhow::Error::from).map(|target| Suppression {
                target,
                owner: args.owner.clone(),
                ground: Ground::Manual,
                since: now,
                expires: None,
                note: "imported".to_owned(),
            })
        };
        entries.push(entry.with_context(|| format!("line {} of the file", number + 1))?);
    }
    Ok(entries)
}

async fn send(client: &Client, entries: Vec<Suppression>) -> Result<usize> {
    let Entries { entries } = client.post("/v1/suppressions/add", &Suppress { entries }).await?;
    Ok(entries)
}

fn told(count: usize, what: &str) {
    match count {
        1 => println!("1 entry {what}"),
        count => println!("{count} entries {what}"),
    }
}

fn for_people(entries: &[Suppression], now: Timestamp) -> String {
    if entries.is_empty() {
        return "nobody there is on the suppression list\n".to_owned();
    }
    let mut table = Table::new(&["TARGET", "FOR MAIL OF", "GROUND", "SINCE", "ENDS", "NOTE"]);
    for entry in entries {
        table.row(vec![
            entry.target.to_string(),
            entry.owner.to_string(),
            entry.ground.to_string(),
            format!("{} ago", span(now.since(entry.since))),
            entry.expires.map_or_else(|| "never".to_owned(), |at| until(at, now)),
            crate::table::plain(&entry.note),
        ]);
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use waypost_mail::suppression::Owner;

    use super::*;

    fn args() -> SuppressImportArgs {
        SuppressImportArgs {
            file: "-".into(),
            owner: Owner::Everybody,
            config: ConfigArgs { config: "w.toml".into() },
        }
    }

    #[test]
    fn lists_are_read_as_they_are_written_and_as_plain_addresses() {
        let now = Timestamp(1_000);
        let plain =
            entries("# old list\nBob@example.net\n\n@gone.example\n", &args(), now).unwrap();
        let lines: Vec<String> =
            plain.iter().map(|entry| serde_json::to_string(entry).unwrap()).collect();
        assert_eq!(entries(&lines.join("\n"), &args(), Timestamp(9)).unwrap(), plain);
        let wrong = entries("bob@example.net\nnobody\n", &args(), now).unwrap_err();
        assert!(format!("{wrong:#}").contains("line 2"), "{wrong:#}");
        let text = for_people(&plain, Timestamp(61_000));
        assert!(text.contains("bob@example.net") && text.contains("everybody"), "{text}");
    }
}
