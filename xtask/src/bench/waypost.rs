//! Waypost as the bench runs it: one listener, one smart host, as little else as a file can say.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};

use super::places;
use super::relay::{Relay, Running};
use super::setting::{DOMAIN, Duty, NAME, SELECTOR, Setting};

/// The counter of commit groups that `waypost-spool` serves at `/metrics`.
const GROUPS: &str = "waypost_spool_groups_total ";

/// One instance, ready to start.
pub(crate) struct Waypost {
    name: String,
    program: PathBuf,
    home: PathBuf,
    port: u16,
    duty: Duty,
}

/// A plugin that is asked about every message.
pub(crate) struct Policy {
    /// What the relay is called in the report.
    pub(crate) name: &'static str,
    /// The component, among the guests that `cargo xtask guests` builds.
    pub(crate) guest: &'static str,
}

impl Policy {
    /// Five hooks, answered by a Rust guest that has no objection: what asking costs.
    pub(crate) const FIVE_HOOKS: Policy = Policy { name: "waypost, 5 hooks", guest: "five-hooks" };
    /// The starters: two hooks that decide and one field that is added, in each language.
    pub(crate) const LANGUAGES: [Policy; 4] = [
        Policy { name: "guard in Rust", guest: "guard-rust" },
        Policy { name: "guard in C", guest: "guard-c" },
        Policy { name: "guard in JS", guest: "guard-javascript" },
        Policy { name: "guard in Python", guest: "guard-python" },
    ];

    fn section(&self) -> anyhow::Result<String> {
        let guests = crate::guests::directory()?;
        let file = guests.join(format!("{}.wasm", self.guest));
        ensure!(file.exists(), "{} is missing: cargo xtask guests", file.display());
        Ok(format!(
            "\n[[plugin]]\nname = \"bench\"\nfile = {file:?}\n\
             [plugin.grants]\nedit = {{ add = [\"*\"], recipients = true }}\n"
        ))
    }
}

/// Starts a program with a configuration of its own.
pub(crate) fn launch(program: &Path, configuration: &Path, port: u16) -> anyhow::Result<Running> {
    let file = configuration.with_extension("log");
    let log = fs::File::create(&file)?;
    let mut command = Command::new(program);
    command.args(["run", "--config"]).arg(configuration);
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    Running::launch(command, port, None)
        .with_context(|| fs::read_to_string(&file).unwrap_or_default())
}

impl Waypost {
    /// The program given, or a release build of this tree.
    pub(crate) fn program(given: Option<&Path>) -> anyhow::Result<PathBuf> {
        match given {
            Some(program) => Ok(program.canonicalize()?),
            None => build(),
        }
    }

    /// Writes the configuration; builds the program unless one is given.
    pub(crate) fn prepare(
        setting: Setting<'_>,
        program: Option<&Path>,
        policy: Option<&Policy>,
    ) -> anyhow::Result<Self> {
        let name = policy.map_or("waypost", |policy| policy.name).to_owned();
        let plugins = policy.map(Policy::section).transpose()?.unwrap_or_default();
        let program = Self::program(program)?;
        let home = setting.home.join(name.replace([' ', ','], "-"));
        fs::create_dir_all(&home)?;
        let text = configuration(&home, &setting)? + &plugins;
        fs::write(home.join("waypost.toml"), text)?;
        Ok(Self { name, program, home, port: setting.port, duty: setting.duty })
    }

    fn metrics(&self) -> anyhow::Result<String> {
        let mut stream = UnixStream::connect(self.home.join("admin.sock"))?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: waypost\r\nConnection: close\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    }
}

impl Relay for Waypost {
    fn name(&self) -> &str {
        &self.name
    }

    fn settings(&self) -> Vec<String> {
        let version = Command::new(&self.program).arg("--version").output();
        let version = version.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        let version = version.unwrap_or_default();
        let mut settings = vec![format!("{}, no DNS, log level warn", version.trim())];
        if self.duty == Duty::Places {
            settings.push("first-retry and max-retry 5 s".to_owned());
        }
        settings.push("everything else as it is by default".to_owned());
        settings
    }

    fn start(&self, trace: Option<&Path>) -> anyhow::Result<Running> {
        let log = fs::File::create(self.home.join("waypost.log"))?;
        let mut command = Command::new(&self.program);
        command
            .args(["run", "--config"])
            .arg(self.home.join("waypost.toml"))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        Running::launch(command, self.port, trace)
            .with_context(|| fs::read_to_string(self.home.join("waypost.log")).unwrap_or_default())
    }

    fn groups(&self) -> anyhow::Result<Option<u64>> {
        let text = self.metrics()?;
        let value = text.lines().find_map(|line| line.strip_prefix(GROUPS));
        let value = value.with_context(|| format!("/metrics has no {GROUPS}"))?;
        Ok(Some(value.trim().parse()?))
    }
}

fn configuration(home: &Path, setting: &Setting<'_>) -> anyhow::Result<String> {
    let Setting { port, duty, .. } = setting;
    let (spool, socket) = (home.join("spool"), home.join("admin.sock"));
    let mut text = format!(
        r#"hostname = "{NAME}"

[spool]
path = {spool:?}

[admin]
socket = {socket:?}

[log]
level = "warn"

[[listener]]
name = "relay"
kind = "relay"
address = "127.0.0.1:{port}"

[relay]
networks = ["127.0.0.0/8"]
"#
    );
    if *duty == Duty::Places {
        text.push_str("\n[queue]\nfirst-retry = \"5s\"\nmax-retry = \"5s\"\n");
    }
    if duty.is_secure() {
        let (chain, key) = (&setting.keys.chain, &setting.keys.key);
        text.push_str(&format!("\n[[tls.certificate]]\nchain = {chain:?}\nkey = {key:?}\n"));
    }
    if *duty == Duty::Signed {
        text.push_str(&signature(setting)?);
    }
    text.push_str(&routes(setting));
    Ok(text)
}

/// The plugin of this tree that asks for signatures.
fn signature(setting: &Setting<'_>) -> anyhow::Result<String> {
    let file = crate::guests::directory()?.join("sign.wasm");
    ensure!(file.exists(), "{} is missing: cargo xtask guests", file.display());
    Ok(format!(
        r#"
[keys.bench]
file = {:?}

[[plugin]]
name = "sign"
file = {file:?}

[plugin.grants]
sign = ["bench"]

[[plugin.config.rules]]
name = "ours"
from = ["{DOMAIN}"]
signatures = [{{ selector = "{SELECTOR}", key = "bench" }}]
"#,
        setting.keys.dkim
    ))
}

fn routes(setting: &Setting<'_>) -> String {
    let Setting { sink, duty, .. } = setting;
    let tls = if duty.is_secure() { "encrypt" } else { "never" };
    let ways = if *duty == Duty::Places { places::ways() } else { Vec::new() };
    let cut_through = *duty == Duty::Through;
    let rest = (duty.place(), vec!["*".to_owned()]);
    let route = |(place, domains): (places::Place, Vec<String>)| {
        let host = place.address();
        format!(
            "\n[[route]]\ndomains = {domains:?}\n\
             via = [{{ host = \"{host}\", port = {sink} }}]\ntls = {tls:?}\n\
             cut-through = {cut_through}\n"
        )
    };
    ways.into_iter().chain([rest]).map(route).collect()
}

fn build() -> anyhow::Result<PathBuf> {
    eprintln!("building waypost (release)");
    let status = Command::new("cargo")
        .args(["build", "--release", "--package", "waypost"])
        .current_dir(crate::workspace())
        .status()?;
    ensure!(status.success(), "waypost does not build");
    Ok(crate::target().join("release/waypost"))
}
