//! `waypost plugin …`: looks at components, and at the plugins of a running relay, and changes which are in
//! force.

use std::path::Path;

use anyhow::{Context as _, Result, anyhow, bail};
use waypost_admin::Client;
use waypost_admin::api::{Generation, Plugin, PolicyReload, PolicyRollback, PolicyView};
use waypost_config::Settings;
use waypost_mail::{Clock, SystemClock, Timestamp};

use crate::args::{CheckPluginArgs, OutputArgs, PluginCommand, ReloadPluginArgs};
use crate::table::{Table, octets, span};

/// Carries out a `waypost plugin` command.
///
/// # Errors
/// Whatever went wrong, in words for the person who typed it.
pub async fn plugin(command: PluginCommand) -> Result<()> {
    match command {
        PluginCommand::Check(args) => check(&args).await,
        PluginCommand::Unpack { directory } => {
            for path in crate::guests::unpack(&directory)? {
                println!("{}", path.display());
            }
            Ok(())
        }
        PluginCommand::List(output) => list(&output).await,
        PluginCommand::Show { name, output } => show(&name, &output).await,
        PluginCommand::Reload(args) => reload(&args).await,
        PluginCommand::Rollback { generation, output } => rollback(generation, &output).await,
        PluginCommand::Log { limit, output } => log(limit, &output),
        PluginCommand::Compile { from, to } => compile(&from, &to),
    }
}

/// What a relay starts as a child: compiles within limits, after all others have had the processors.
///
/// # Errors
/// What the compiler complains of.
pub fn compile(from: &Path, to: &Path) -> Result<()> {
    // What is left for others comes first.
    if let Err(error) = rustix::process::nice(19) {
        eprintln!("not nice: {error}");
    }
    waypost_plugin::compile_as_child(from, to).map_err(|complaint| anyhow!(complaint))
}

async fn check(args: &CheckPluginArgs) -> Result<()> {
    let config = match (&args.plugin_config, &args.name) {
        (Some(file), _) => std::fs::read_to_string(file)
            .with_context(|| format!("cannot read {}", file.display()))?,
        (None, Some(name)) => {
            let settings = Settings::load(&args.config.config)?;
            let plugin = settings.reload.policy.plugins.into_iter().find(|p| p.name == *name);
            let plugin =
                plugin.with_context(|| format!("the configuration has no plugin {name:?}"))?;
            plugin.config
        }
        (None, None) => "{}".to_owned(),
    };
    let scratch = tempfile::tempdir()?;
    let report = waypost_plugin::check::check(&args.file, &config, scratch.path()).await;
    let report = report.map_err(|problem| anyhow!(problem))?;
    print!("{report}");
    match report.problems.len() {
        0 => {
            println!("{}: this relay can run it", args.file.display());
            Ok(())
        }
        1 => bail!("{} has a problem", args.file.display()),
        count => bail!("{} has {count} problems", args.file.display()),
    }
}

async fn view(output: &OutputArgs) -> Result<PolicyView> {
    let places = waypost_config::places(&output.config.config)?;
    Ok(Client::new(&places.socket).get("/v1/policy").await?)
}

async fn list(output: &OutputArgs) -> Result<()> {
    let view = view(output).await?;
    if output.json {
        println!("{}", serde_json::to_string_pretty(&view)?);
        return Ok(());
    }
    let now = SystemClock.now();
    let mut table =
        Table::new(&["PLUGIN", "MODE", "VERSION", "DIGEST", "CALLS", "FAILED", "ASKED AT"]);
    for plugin in &view.plugins {
        let calls: u64 = plugin.stages.iter().map(|stage| stage.calls).sum();
        let failed: u64 = plugin.stages.iter().map(|stage| stage.failed).sum();
        let stages: Vec<&str> = plugin.stages.iter().map(|stage| stage.stage.as_str()).collect();
        table.row(vec![
            plugin.name.clone(),
            plugin.mode.clone(),
            plugin.says.as_ref().map_or_else(String::new, |(_, version)| version.clone()),
            short(&plugin.digest),
            calls.to_string(),
            failed.to_string(),
            stages.join(", "),
        ]);
    }
    print!("{table}");
    if view.plugins.is_empty() {
        println!("no plugins");
    }
    println!();
    let mut table = Table::new(&["GENERATION", "STATE", "SINCE", "BY", "PLUGINS"]);
    for generation in &view.generations {
        let plugins: Vec<String> = generation
            .plugins
            .iter()
            .map(|(name, digest)| format!("{name} {}", short(digest)))
            .collect();
        table.row(vec![
            generation.id.to_string(),
            generation.state.clone(),
            ago(generation.since, now),
            generation.who.clone(),
            plugins.join(", "),
        ]);
    }
    print!("{table}");
    Ok(())
}

fn short(digest: &str) -> String {
    digest.chars().take(12).collect()
}

fn ago(then: Timestamp, now: Timestamp) -> String {
    format!("{} ago", span(now.since(then)))
}

async fn show(name: &str, output: &OutputArgs) -> Result<()> {
    let view = view(output).await?;
    let plugin = view.plugins.iter().find(|plugin| plugin.name == name);
    let Some(plugin) = plugin else {
        let known: Vec<&str> = view.plugins.iter().map(|plugin| plugin.name.as_str()).collect();
        bail!("there is no plugin {name:?}; in force are: {}", known.join(", "));
    };
    if output.json {
        println!("{}", serde_json::to_string_pretty(plugin)?);
        return Ok(());
    }
    print!("{}", for_people(plugin, SystemClock.now()));
    Ok(())
}

fn for_people(plugin: &Plugin, now: Timestamp) -> String {
    let mut text = format!("plugin      {}\nfile        {}\n", plugin.name, plugin.file);
    text += &format!("digest      sha256:{}\nmode        {}\n", plugin.digest, plugin.mode);
    if let Some((name, version)) = &plugin.says {
        text += &format!("says        {name} {version}\n");
    }
    text += &format!("generation  {}\n", plugin.generation);
    if let Some(memory) = plugin.memory {
        text += &format!("instance    {}\n", octets(memory as u64));
    }
    if let Some((at, stage, fault)) = &plugin.last_fault {
        text += &format!("last fault  {}, at {stage}: {fault}\n", ago(*at, now));
    }
    let heads = [
        "STAGE",
        "CALLS",
        "FAILED",
        "REFUSED",
        "LATER",
        "HELD/DROPPED",
        "MEDIAN",
        "P99",
        "BREAKER",
    ];
    let mut table = Table::new(&heads);
    for stage in &plugin.stages {
        table.row(vec![
            stage.stage.clone(),
            stage.calls.to_string(),
            stage.failed.to_string(),
            stage.refused.to_string(),
            stage.later.to_string(),
            stage.taken.to_string(),
            format!("≤ {} µs", stage.median_us),
            format!("≤ {} µs", stage.p99_us),
            match stage.open_since {
                Some(since) => format!("open since {}", ago(since, now)),
                None => "closed".to_owned(),
            },
        ]);
    }
    format!("{text}\n{table}")
}

async fn reload(args: &ReloadPluginArgs) -> Result<()> {
    // Mistakes are told here at once, and the running relay is not bothered with them.
    Settings::load(&args.output.config.config)?;
    let places = waypost_config::places(&args.output.config.config)?;
    let request = PolicyReload {
        canary_percent: args.canary,
        canary_seconds: args.canary.map(|_| args.seconds),
    };
    let client = Client::new(&places.socket);
    let generation: Generation = client.post("/v1/policy/reload", &request).await?;
    tell(&generation, &args.output)
}

async fn rollback(id: Option<u64>, output: &OutputArgs) -> Result<()> {
    let places = waypost_config::places(&output.config.config)?;
    let client = Client::new(&places.socket);
    let request = PolicyRollback { id };
    let generation: Generation = client.post("/v1/policy/rollback", &request).await?;
    tell(&generation, output)
}

fn tell(generation: &Generation, output: &OutputArgs) -> Result<()> {
    if output.json {
        println!("{}", serde_json::to_string_pretty(generation)?);
    } else {
        let plugins: Vec<String> = generation
            .plugins
            .iter()
            .map(|(name, digest)| format!("{name} {}", short(digest)))
            .collect();
        let (id, state) = (generation.id, &generation.state);
        println!("generation {id} is {state}: {}", plugins.join(", "));
    }
    Ok(())
}

/// The last lines of the audit log.
fn log(limit: usize, output: &OutputArgs) -> Result<()> {
    let settings = Settings::load(&output.config.config)?;
    let path = settings.startup.policy.directory.join("audit.log");
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("cannot read the audit log {}", path.display()))?;
    let lines: Vec<&str> = text.lines().collect();
    for line in &lines[lines.len().saturating_sub(limit)..] {
        if output.json {
            println!("{line}");
            continue;
        }
        let value: serde_json::Value = serde_json::from_str(line)?;
        let of = |key: &str| value.get(key).and_then(|v| v.as_str()).unwrap_or_default().to_owned();
        let generation = value.get("generation").and_then(serde_json::Value::as_u64).unwrap_or(0);
        let detail = of("detail");
        let colon = if detail.is_empty() { "" } else { ": " };
        println!(
            "{}  {} generation {generation} by {}{colon}{detail}",
            of("at"),
            of("what"),
            of("who")
        );
    }
    Ok(())
}
