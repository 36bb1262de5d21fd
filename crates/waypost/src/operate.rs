//! `waypost status` and `waypost queue …`: asks the running relay, or reads its spool.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use serde::Serialize;
use waypost_admin::api::{
    Applied, ChangeRequest, Groups, ListRequest, Overview, Page, SummaryRequest, Words,
};
use waypost_admin::{Client, ClientError};
use waypost_mail::{Clock, Entry, MessageId, RecipientState, SystemClock, Timestamp};
use waypost_queue::{DestinationStatus, Field, Selector, SelectorError, Summary};

use crate::args::{ChangeArgs, ConfigArgs, OutputArgs, QueueCommand, SelectorArgs};
use crate::offline;
use crate::table::{Table, octets, plain, span, until};

/// Carries out a `waypost queue` command.
pub async fn queue(command: QueueCommand) -> Result<()> {
    match command {
        QueueCommand::List { which, limit, after, output } => {
            list(&which, limit, after, &output).await
        }
        QueueCommand::Summary { which, by, limit, output } => {
            summary(&which, by, limit, &output).await
        }
        QueueCommand::Show { id, output } => show(&id, &output).await,
        QueueCommand::Hold(args) => change("hold", "held", args, Particular::default()).await,
        QueueCommand::Release(args) => {
            change("release", "released", args, Particular::default()).await
        }
        QueueCommand::Retry(args) => change("retry", "due now", args, Particular::default()).await,
        QueueCommand::Reroute { to, change: args } => {
            let how = Particular { to, ..Particular::default() };
            change("reroute", "rerouted", args, how).await
        }
        QueueCommand::Bounce(args) => {
            change("bounce", "bounced", args, Particular::default()).await
        }
        QueueCommand::Expire(args) => {
            change("expire", "expired", args, Particular::default()).await
        }
        QueueCommand::Extend { by, change: args } => {
            let how = Particular { by, ..Particular::default() };
            change("extend", "given more time", args, how).await
        }
        QueueCommand::Delete(args) => {
            change("delete", "deleted", args, Particular::default()).await
        }
    }
}

/// Carries out `waypost status`.
pub async fn status(output: &OutputArgs) -> Result<()> {
    let settings = waypost_config::places(&output.config.config)?;
    let client = Client::new(&settings.socket);
    match client.get::<Overview>("/v1/status").await {
        Ok(overview) if output.json => print_json(&overview),
        Ok(overview) => {
            print!("{}", overview_for_people(&overview, SystemClock.now()));
            Ok(())
        }
        Err(ClientError::NotRunning(_)) => {
            let everything = Selector::everything();
            let listed = offline::list(&settings, &everything, None, usize::MAX).await?;
            bail!("waypost is not running; {} messages wait in its spool", listed.messages.len());
        }
        Err(error) => Err(error.into()),
    }
}

/// Carries out `waypost reload`.
pub async fn reload(config: &ConfigArgs) -> Result<()> {
    // Mistakes are told here at once, and the running relay is not bothered with them.
    waypost_config::Settings::load(&config.config)?;
    ask(config, "/v1/reload").await
}

/// Carries out `waypost drain`.
pub async fn drain(config: &ConfigArgs) -> Result<()> {
    ask(config, "/v1/drain").await
}

async fn ask(config: &ConfigArgs, path: &str) -> Result<()> {
    let places = waypost_config::places(&config.config)?;
    let words: Words = Client::new(&places.socket).post(path, &()).await?;
    println!("{}", words.message);
    Ok(())
}

async fn list(
    which: &SelectorArgs,
    limit: usize,
    after: Option<MessageId>,
    output: &OutputArgs,
) -> Result<()> {
    let selector = selector(which)?;
    let places = waypost_config::places(&output.config.config)?;
    let request = ListRequest { selector: selector.to_string(), after, limit: Some(limit) };
    let listed = Client::new(&places.socket).post::<Page>("/v1/queue/list", &request).await;
    let page = match listed {
        Err(ClientError::NotRunning(_)) => {
            not_running(&places.spool);
            offline::list(&places, &selector, after, limit).await?
        }
        listed => listed?,
    };
    if output.json {
        return print_json(&page);
    }
    print!("{}", list_for_people(&page.messages, SystemClock.now()));
    match (page.messages.len(), page.next) {
        (0, _) => println!("no messages"),
        (count, Some(last)) => println!("{count} messages; there are more: --after {last}"),
        (1, None) => println!("1 message"),
        (count, None) => println!("{count} messages"),
    }
    Ok(())
}

async fn summary(which: &SelectorArgs, by: Field, limit: usize, output: &OutputArgs) -> Result<()> {
    let selector = selector(which)?;
    let places = waypost_config::places(&output.config.config)?;
    let request = SummaryRequest { selector: selector.to_string(), by, limit: Some(limit) };
    let summed = Client::new(&places.socket).post::<Groups>("/v1/queue/summary", &request).await;
    let groups = match summed {
        Err(ClientError::NotRunning(_)) => {
            not_running(&places.spool);
            Groups { by, groups: offline::summary(&places, &selector, by, limit).await? }
        }
        summed => summed?,
    };
    if output.json {
        return print_json(&groups);
    }
    print!("{}", groups_for_people(&groups, SystemClock.now()));
    Ok(())
}

async fn show(id: &str, output: &OutputArgs) -> Result<()> {
    let id: MessageId = id.parse().with_context(|| format!("'{id}' is no message id"))?;
    let places = waypost_config::places(&output.config.config)?;
    let path = format!("/v1/queue/message/{id}");
    let entry = match Client::new(&places.socket).get::<Entry>(&path).await {
        Err(ClientError::NotRunning(_)) => {
            not_running(&places.spool);
            offline::show(&places.spool, id).await?
        }
        shown => shown?,
    };
    if output.json {
        return print_json(&entry);
    }
    print!("{}", entry_for_people(&entry, SystemClock.now()));
    Ok(())
}

/// What one verb alone asks for.
#[derive(Default)]
struct Particular {
    to: String,
    by: Duration,
}

async fn change(verb: &str, done: &str, args: ChangeArgs, how: Particular) -> Result<()> {
    let selector = selector(&args.which)?;
    if selector.is_everything() && !args.all {
        bail!("say which messages: ids, a selector such as domain:example.net, or --all");
    }
    let places = waypost_config::places(&args.output.config.config)?;
    let request = ChangeRequest {
        selector: selector.to_string(),
        all: args.all,
        dry_run: args.dry_run,
        reason: args.reason,
        to: how.to,
        by_seconds: how.by.as_secs(),
    };
    let client = Client::new(&places.socket);
    let applied: Applied = client.post(&format!("/v1/queue/{verb}"), &request).await?;
    if args.output.json {
        print_json(&applied)?;
    } else {
        let (messages, recipients) = (applied.messages, applied.recipients);
        let would = if applied.dry_run { "would be " } else { "" };
        println!("{recipients} recipients of {messages} messages {would}{done}");
        if applied.in_flight > 0 {
            let left = if applied.dry_run { "would be left" } else { "were left" };
            println!("{} recipients are being delivered right now and {left}", applied.in_flight);
        }
        for problem in &applied.problems {
            eprintln!("{}", plain(problem));
        }
    }
    if !applied.problems.is_empty() {
        bail!("not everything was done");
    }
    Ok(())
}

fn selector(which: &SelectorArgs) -> Result<Selector> {
    let text = which.selector.join(" ");
    text.parse().map_err(|error: SelectorError| anyhow!("{}", error.pointed(&text)))
}

fn not_running(spool: &Path) {
    eprintln!("waypost is not running; reading its spool {}", spool.display());
}

fn overview_for_people(overview: &Overview, now: Timestamp) -> String {
    let mut text = format!(
        "waypost {} on {}, process {}, up {}{}\n",
        overview.version,
        overview.hostname,
        overview.pid,
        span(now.since(overview.started)),
        if overview.draining { ", draining" } else { "" },
    );
    let mut doors = Table::new(&["LISTENER", "KIND", "ADDRESS", "SESSIONS"]);
    for door in &overview.listeners {
        let sessions = door.sessions.to_string();
        doors.row(vec![door.name.clone(), door.kind.clone(), door.address.clone(), sessions]);
    }
    let queue = &overview.queue;
    text += &format!("\n{doors}\n");
    text += &format!(
        "recipients: {} waiting, {} in flight, {} held",
        queue.waiting, queue.leased, queue.held
    );
    if queue.damaged > 0 {
        text += &format!("; {} messages are damaged", queue.damaged);
    }
    text += "\n";
    if let Some(jumped) = queue.clock {
        let way = if jumped.milliseconds < 0 { "back" } else { "forward" };
        let by = span(Duration::from_millis(jumped.milliseconds.unsigned_abs()));
        text += &format!(
            "the clock JUMPED {way} by {by} ({} ago by the clock): look at it; what waits moved with it\n",
            span(now.since(jumped.at))
        );
    }
    if queue.failed {
        text += "the spool FAILED: no mail is taken or sent until a restart; see the log\n";
    }
    if !queue.destinations.is_empty() {
        let mut table = Table::new(&[
            "DESTINATION",
            "SITE",
            "WAITING",
            "IN FLIGHT",
            "OPEN",
            "MOST",
            "NEXT",
            "RESTS",
            "WHY",
        ]);
        for d in &queue.destinations {
            table.row(vec![
                d.name.clone(),
                d.site.clone().unwrap_or_default(),
                d.waiting.to_string(),
                d.in_flight.to_string(),
                d.slots.to_string(),
                most(d, now),
                d.next_due.map_or(String::new(), |due| until(due, now)),
                d.resting_until.map_or(String::new(), |end| until(end, now)),
                d.why.clone().unwrap_or_default(),
            ]);
        }
        text += &format!("\n{table}");
    }
    text
}

/// What policy asked for: at most so many at once, until then.
fn most(destination: &DestinationStatus, now: Timestamp) -> String {
    match (destination.most, destination.limited_until) {
        (Some(most), Some(end)) => format!("{most} ({})", until(end, now)),
        _ => String::new(),
    }
}

fn list_for_people(messages: &[Summary], now: Timestamp) -> String {
    if messages.is_empty() {
        return String::new();
    }
    let headings = ["ID", "AGE", "SIZE", "SENDER", "RECIPIENTS", "TRIES", "NEXT", "WHY"];
    let mut table = Table::new(&headings);
    for m in messages {
        let others = (m.waiting + m.held + m.in_flight).saturating_sub(1);
        let more = if others > 0 { format!(" +{others}") } else { String::new() };
        let next = match (m.in_flight, m.due) {
            (1.., _) => "being sent".to_owned(),
            (0, Some(due)) => until(due, now),
            (0, None) => "held".to_owned(),
        };
        table.row(vec![
            m.id.to_string(),
            span(now.since(m.received)),
            octets(m.size),
            format!("<{}>", m.sender),
            format!("{}{more}", m.recipient),
            m.tries.to_string(),
            next,
            m.why.clone().unwrap_or_default(),
        ]);
    }
    table.to_string()
}

fn groups_for_people(groups: &Groups, now: Timestamp) -> String {
    if groups.groups.is_empty() {
        return "nobody waits\n".to_owned();
    }
    let by = groups.by.name().to_uppercase();
    let headings = [&*by, "MESSAGES", "RECIPIENTS", "HELD", "SIZE", "OLDEST", "MOSTLY", "OF THEM"];
    let mut table = Table::new(&headings);
    for group in &groups.groups {
        let name = if group.name.is_empty() { "<>" } else { &group.name };
        table.row(vec![
            name.to_owned(),
            group.messages.to_string(),
            group.recipients.to_string(),
            group.held.to_string(),
            octets(group.bytes),
            span(now.since(group.oldest)),
            group.reply.clone(),
            group.replies.to_string(),
        ]);
    }
    table.to_string()
}

fn entry_for_people(entry: &Entry, now: Timestamp) -> String {
    let facts = &entry.facts;
    let mut text = format!(
        "message   {}\nreceived  {} ({} ago)\nexpires   {}\nsize      {} bytes\nsender    <{}>\n",
        entry.id,
        entry.received,
        span(now.since(entry.received)),
        entry.expires,
        entry.size,
        entry.sender,
    );
    text += &format!("came by   {} from {}", facts.listener, facts.client);
    if let Some(helo) = &facts.helo {
        text += &format!(", helo {}", plain(helo));
    }
    if let Some(user) = &facts.identity {
        text += &format!(", user {}", plain(user));
    }
    text += "\n\n";
    let mut table = Table::new(&["RECIPIENT", "ROUTE", "STATE", "DETAILS"]);
    for recipient in &entry.recipients {
        let route = entry.route_of(recipient).map(|r| r.destination()).unwrap_or_default();
        let (state, details) = match &recipient.state {
            RecipientState::Waiting { due, tries, last } => {
                let last = last
                    .as_ref()
                    .map(|why| format!("; {why} ({})", why.diagnosis()))
                    .unwrap_or_default();
                (format!("waiting, {}", until(*due, now)), format!("{tries} tries{last}"))
            }
            RecipientState::Held { reason, .. } => ("held".to_owned(), reason.clone()),
            RecipientState::Done(outcome) => {
                let why = outcome.why().map(ToString::to_string).unwrap_or_default();
                (outcome.label().to_owned(), why)
            }
        };
        table.row(vec![recipient.recipient.mailbox.to_string(), route, state, details]);
    }
    text + &table.to_string()
}

fn print_json(value: &impl Serialize) -> Result<()> {
    println!("{}", serde_json::to_string_pretty(value)?);
    Ok(())
}
