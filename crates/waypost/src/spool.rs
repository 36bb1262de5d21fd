//! `waypost spool …`: looks at, mends, empties into files and fills the spool of a relay that does not run.

use std::fs;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use waypost_mail::ledger::Fact;
use waypost_mail::{Body, Clock, Entry, IdSource, Ledger, MessageId, SystemClock};
use waypost_spool::{
    Arrival, Change, Config, Content, Inspector, LogSpool, OpenError, Repair, Spool, SpoolError,
    Survey,
};

use crate::args::{ConfigArgs, SpoolCommand};

/// The file in an archive that says what each message is.
const INDEX: &str = "messages.jsonl";
/// The form of an archive.
const FORMAT: u32 = 1;
/// How long it is remembered that a message was imported, so that it is not delivered twice.
const REMEMBERED: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// Octets of a message copied at once.
const PIECE: usize = 256 * 1024;

/// Carries out a `waypost spool` command.
///
/// # Errors
/// When something is wrong with the spool and was not mended, a program has it, there is none, or files
/// cannot be read or written.
pub async fn spool(command: SpoolCommand) -> Result<()> {
    carry_out(command).await.map_err(|error| match error.downcast_ref::<OpenError>() {
        Some(OpenError::Locked { .. }) => error.context(
            "a relay runs on this spool: stop it first (`waypost drain`), and start it again behind this",
        ),
        _ => error,
    })
}

async fn carry_out(command: SpoolCommand) -> Result<()> {
    match command {
        SpoolCommand::Check(args) => {
            ensure!(check(&there(&args.config)?, args.json)?, "something is wrong with the spool");
        }
        SpoolCommand::Repair(args) => {
            let mended = repair(&there(&args.config)?, args.dry_run, args.index)?;
            ensure!(mended, "something is wrong with the spool, and nothing was changed");
        }
        SpoolCommand::Export(args) => {
            let count = export(&there(&args.config)?, &args.ids, &args.to)?;
            println!("{count} messages are in {}", args.to.display());
        }
        SpoolCommand::Import(args) => {
            let config = Config::new(waypost_config::places(&args.config.config)?.spool);
            let Imported { new, known } = import(config, &args.from, args.new_ids).await?;
            println!("{new} messages are in the spool now, {known} were there or had been");
        }
    }
    Ok(())
}

/// One line of an archive.
#[derive(Debug, Serialize, Deserialize)]
struct Line {
    format: u32,
    /// Envelope, state and all else that is known of it.
    entry: Entry,
    /// Its octets, beside the index; absent when they cannot be read.
    file: Option<String>,
    /// Why they cannot.
    damaged: Option<String>,
}

fn there(args: &ConfigArgs) -> Result<Config> {
    let places = waypost_config::places(&args.config)?;
    if matches!(places.spool.try_exists(), Ok(false)) {
        bail!("there is no spool {}", places.spool.display());
    }
    Ok(Config::new(places.spool))
}

/// Answers whether all is well.
fn check(config: &Config, json: bool) -> Result<bool> {
    let survey = Survey::of(config)?;
    if json {
        for problem in &survey.problems {
            println!("{}", serde_json::to_string(problem)?);
        }
    } else {
        print!("{}", survey_for_people(&survey));
    }
    Ok(survey.problems.is_empty())
}

fn survey_for_people(survey: &Survey) -> String {
    let mut text = String::new();
    for problem in &survey.problems {
        let place = match problem.segment {
            Some(segment) => {
                format!("segment {segment} at {}, {} octets: ", problem.offset, problem.octets)
            }
            None => String::new(),
        };
        let message = problem.message.map(|id| format!(" (message {id})")).unwrap_or_default();
        text.push_str(&format!("{place}{}{message}\n", problem.what));
    }
    let Survey { segments, records, messages, problems, torn } = survey;
    text.push_str(&format!(
        "{messages} messages, {records} sound records in {segments} segments\n"
    ));
    if *torn > 0 {
        text.push_str(&format!(
            "{torn} octets of a last write were cut off: nobody was told it is here\n"
        ));
    }
    match problems.len() {
        0 => text.push_str("nothing is wrong\n"),
        1 => text.push_str("1 problem: see `waypost spool repair`\n"),
        count => text.push_str(&format!("{count} problems: see `waypost spool repair`\n")),
    }
    text
}

/// Answers whether all is well now.
fn repair(config: &Config, dry_run: bool, index: bool) -> Result<bool> {
    let repair = Repair::of(config, Arc::new(SystemClock), dry_run, index)?;
    print!("{}", survey_for_people(&repair.before));
    let Some(done) = repair.done else {
        if dry_run && !repair.before.problems.is_empty() {
            println!(
                "a repair would make the index anew, hold messages that are damaged, and move"
            );
            println!("damaged segments to {}", config.path.join("damaged").display());
        }
        return Ok(repair.before.problems.is_empty());
    };
    if let Some(index) = done.index {
        println!("the old index is in {index}; it can be deleted");
    }
    let report = done.report;
    println!("the index is made anew: {} messages", report.messages);
    println!("{} damaged messages are held: `waypost queue list state:held`", report.quarantined);
    if done.set_aside > 0 {
        let aside = config.path.join("damaged");
        println!("{} damaged segments are in {} now", done.set_aside, aside.display());
    }
    Ok(true)
}

/// Writes messages, or all, and answers how many.
fn export(config: &Config, wanted: &[MessageId], to: &Path) -> Result<usize> {
    let inspector = Inspector::open(config)?;
    let all = wanted.is_empty();
    let ids = if all { inspector.ids() } else { wanted.to_vec() };
    fs::create_dir_all(to).with_context(|| format!("making {}", to.display()))?;
    let index = to.join(INDEX);
    let file = fs::File::create_new(&index).with_context(|| {
        format!("making {}: an archive needs a directory of its own", index.display())
    })?;
    let mut out = BufWriter::new(file);
    let mut exported = 0;
    for id in ids {
        let entry = match inspector.load(id) {
            Ok(entry) => entry,
            Err(SpoolError::Unknown(_)) if all => continue,
            Err(error) if all => {
                eprintln!("{error}");
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        let name = format!("{id}.eml");
        let written = match inspector.content(id) {
            Ok(content) => write_out(&*content, &to.join(&name)),
            Err(error) => Err(error.into()),
        };
        let damaged = written.err().map(|error| format!("{error:#}"));
        if let Some(why) = &damaged {
            eprintln!("{id}: {why}");
        }
        let file = damaged.is_none().then_some(name);
        serde_json::to_writer(&mut out, &Line { format: FORMAT, entry, file, damaged })?;
        out.write_all(b"\n")?;
        exported += 1;
    }
    out.into_inner().map_err(|error| error.into_error())?.sync_all()?;
    Ok(exported)
}

fn write_out(content: &dyn Content, to: &Path) -> Result<()> {
    let mut file = fs::File::create_new(to).with_context(|| format!("making {}", to.display()))?;
    let mut at = 0;
    while at < content.len() {
        let piece = content.read_at(at, PIECE)?;
        ensure!(!piece.is_empty(), "the stored message ends early");
        file.write_all(&piece)?;
        at += piece.len() as u64;
    }
    Ok(file.sync_all()?)
}

/// How many messages an import brought, and how many it left out because they were there or had been.
#[derive(Debug, Default, PartialEq, Eq)]
struct Imported {
    new: usize,
    known: usize,
}

async fn import(config: Config, from: &Path, new_ids: bool) -> Result<Imported> {
    let index = from.join(INDEX);
    let file = fs::File::open(&index).with_context(|| format!("reading {}", index.display()))?;
    let clock = Arc::new(SystemClock);
    let (spool, _) = LogSpool::open(config, clock.clone())?;
    let ids = IdSource::above(spool.highest_id(), clock);
    let mut imported = Imported::default();
    for line in BufReader::new(file).lines() {
        let line: Line = serde_json::from_str(&line?)
            .with_context(|| format!("a line of {} is none of an archive", index.display()))?;
        ensure!(
            line.format == FORMAT,
            "the archive has form {}, this program reads {FORMAT}",
            line.format
        );
        match bring(&spool, from, line, new_ids.then_some(&ids)).await? {
            Brought::New => imported.new += 1,
            Brought::Known => imported.known += 1,
            Brought::Damaged(id) => eprintln!("{id} has no content in the archive: left out"),
        }
    }
    Ok(imported)
}

/// What became of one line.
enum Brought {
    New,
    Known,
    Damaged(MessageId),
}

async fn bring(
    spool: &LogSpool,
    from: &Path,
    line: Line,
    ids: Option<&IdSource>,
) -> Result<Brought> {
    let Line { mut entry, file, .. } = line;
    let Some(file) = file else { return Ok(Brought::Damaged(entry.id)) };
    ensure!(!file.contains('/'), "{file:?} is no name of a file in the archive");
    let (key, now) = (format!("import/{}", entry.id), SystemClock.now());
    let there = ids.is_none() && !matches!(spool.load(entry.id), Err(SpoolError::Unknown(_)));
    if there || spool.get(&key, now).await?.is_some() {
        return Ok(Brought::Known);
    }
    if let Some(ids) = ids {
        entry.id = ids.message();
    }
    let path = from.join(file);
    let whole = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
    let whole = Bytes::from(whole);
    ensure!(whole.len() as u64 == entry.size, "{} has not the size it had", path.display());
    let header = waypost_mail::header::header_len(&whole).unwrap_or(whole.len());
    // That it was brought is durable with it: an end in between brings nothing twice.
    let expires = Some(now.after(REMEMBERED));
    let arrival = Arrival {
        entry,
        header: whole.slice(..header),
        body: Body::Memory(whole.slice(header..)),
        facts: vec![Fact { key, value: Bytes::new(), expires }],
    };
    spool.commit(Change::Accept(Box::new(arrival))).await?;
    Ok(Brought::New)
}

#[cfg(test)]
mod tests {
    use waypost_mail::{
        Facts, NextHop, Recipient, RecipientEntry, RecipientState, Route, SessionId, Terms,
        Timestamp, TlsLevel,
    };
    use waypost_smtp::ReversePath;

    use super::*;

    fn arrival(id: u64) -> Arrival {
        let (header, body) = ("Subject: a test\r\n\r\n", format!("This is message {id}.\r\n"));
        let host = NextHop::Host { host: "mx.example".into(), port: 25, implicit_tls: false };
        let state = match id {
            2 => RecipientState::Held { tries: 3, reason: "a person looks at it".into() },
            _ => RecipientState::fresh(Timestamp(1000)),
        };
        let recipient = Recipient::new(0, "to@example.org".parse().unwrap());
        let entry = Entry {
            id: MessageId(id),
            received: Timestamp(1000),
            expires: Timestamp(9_000_000),
            sender: ReversePath::Mailbox("from@example.com".parse().unwrap()),
            eight_bit: false,
            smtputf8: false,
            terms: Terms::default(),
            size: (header.len() + body.len()) as u64,
            facts: Facts::internal(SessionId(id)),
            meta: vec![],
            sign: vec![],
            routes: vec![Route::new(host, TlsLevel::Opportunistic)],
            reroutes: 0,
            recipients: vec![RecipientEntry { recipient, route: 0, told: 0, state }],
        };
        let (header, body) = (Bytes::from(header), Body::Memory(body.into()));
        Arrival { entry, header, body, facts: Vec::new() }
    }

    fn config(path: &Path) -> Config {
        Config { keep_free: 0, reserve: 0, ..Config::new(path) }
    }

    async fn filled(path: &Path) -> Config {
        let (spool, _) = LogSpool::open(config(path), Arc::new(SystemClock)).unwrap();
        for id in 1..=3 {
            spool.commit(Change::Accept(Box::new(arrival(id)))).await.unwrap();
        }
        config(path)
    }

    #[tokio::test]
    async fn what_is_exported_is_imported_once() {
        let dir = tempfile::tempdir().unwrap();
        let from = filled(&dir.path().join("from")).await;
        let (archive, to) = (dir.path().join("archive"), config(&dir.path().join("to")));
        assert_eq!(export(&from, &[], &archive).unwrap(), 3);
        assert!(export(&from, &[], &archive).is_err(), "another archive is never overwritten");
        let again = import(to.clone(), &archive, false).await.unwrap();
        assert_eq!(again, Imported { new: 3, known: 0 });
        let again = import(to.clone(), &archive, false).await.unwrap();
        assert_eq!(again, Imported { new: 0, known: 3 });
        let (before, after) = (Inspector::open(&from).unwrap(), Inspector::open(&to).unwrap());
        assert_eq!(before.ids(), after.ids());
        for id in before.ids() {
            assert_eq!(before.load(id).unwrap(), after.load(id).unwrap());
            let bytes = |from: &Inspector| from.content(id).unwrap().read_at(0, 1000).unwrap();
            assert_eq!(bytes(&before), bytes(&after));
        }
    }

    #[tokio::test]
    async fn what_was_delivered_meanwhile_is_not_imported_again() {
        let dir = tempfile::tempdir().unwrap();
        let from = filled(&dir.path().join("from")).await;
        let (archive, to) = (dir.path().join("archive"), config(&dir.path().join("to")));
        assert_eq!(export(&from, &[MessageId(2)], &archive).unwrap(), 1);
        assert_eq!(import(to.clone(), &archive, true).await.unwrap().new, 1);
        let (spool, _) = LogSpool::open(to.clone(), Arc::new(SystemClock)).unwrap();
        let ids = spool.ids(None, 10).unwrap();
        assert!(ids.len() == 1 && ids[0] != MessageId(2), "{ids:?} has an id of its own");
        let state = spool.load(ids[0]).unwrap().recipients[0].state.clone();
        assert!(matches!(state, RecipientState::Held { tries: 3, .. }), "{state:?}");
        spool.commit(Change::Remove { id: ids[0] }).await.unwrap();
        drop(spool);
        for new_ids in [true, false] {
            let again = import(to.clone(), &archive, new_ids).await.unwrap();
            assert_eq!(again, Imported { new: 0, known: 1 });
        }
    }

    #[tokio::test]
    async fn damage_is_found_repaired_and_told() {
        let dir = tempfile::tempdir().unwrap();
        let config = filled(&dir.path().join("spool")).await;
        assert!(check(&config, false).unwrap());
        let segment = config.path.join("log/0000000001.log");
        let mut bytes = fs::read(&segment).unwrap();
        let at = bytes.windows(20).position(|w| w == b"This is message 2.\r\n").unwrap();
        bytes[at] ^= 1;
        fs::write(&segment, bytes).unwrap();
        assert!(!check(&config, true).unwrap());
        let text = survey_for_people(&Survey::of(&config).unwrap());
        assert!(text.contains("segment 1 at ") && text.contains("1 problem"), "{text}");
        assert!(!repair(&config, true, false).unwrap(), "a dry run mends nothing");
        assert!(repair(&config, false, false).unwrap());
        let inspector = Inspector::open(&config).unwrap();
        let held = &inspector.load(MessageId(2)).unwrap().recipients[0].state;
        assert!(matches!(held, RecipientState::Held { .. }));
        assert!(inspector.content(MessageId(1)).is_ok());
        assert!(config.path.join("damaged").is_dir());
    }
}
