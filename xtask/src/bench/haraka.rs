//! Haraka as the bench runs it: from npm, with its own queue in front of the sink (not queue/smtp_forward, which keeps
//! nothing), a process for each processor.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};

use super::places;
use super::relay::{Relay, Running};
use super::setting::{DOMAIN, Duty, NAME, SELECTOR, Setting};

/// With the plugin that signs. `redis` is never spoken to.
const PACKAGES: &[&str] = &["Haraka@3.3.4", "haraka-plugin-dkim@1.3.1"];

/// One instance, ready to start.
pub(crate) struct Haraka {
    program: PathBuf,
    path: OsString,
    home: PathBuf,
    port: u16,
}

impl Haraka {
    pub(crate) fn prepare(setting: Setting<'_>) -> anyhow::Result<Haraka> {
        let path = path()?;
        let modules = install(&path)?;
        let home = setting.home.join("haraka");
        fs::create_dir_all(home.join("config"))?;
        fs::create_dir_all(home.join("plugins"))?;
        fs::create_dir_all(home.join("queue"))?;
        std::os::unix::fs::symlink(&modules, home.join("node_modules"))?;
        // It has no defaults but these files.
        for name in ["connection.ini", "log.ini"] {
            let text = fs::read_to_string(modules.join("Haraka/config").join(name))?;
            let text = text.replace("level=info", "level=error");
            fs::write(home.join("config").join(name), text)?;
        }
        for (name, text) in files(&setting)? {
            let file = home.join(name);
            if let Some(directory) = file.parent() {
                fs::create_dir_all(directory)?;
            }
            fs::write(file, text)?;
        }
        let program = modules.join("Haraka/bin/haraka");
        Ok(Haraka { program, path, home, port: setting.port })
    }
}

impl Relay for Haraka {
    fn name(&self) -> &str {
        "haraka"
    }

    fn settings(&self) -> Vec<String> {
        vec![
            format!("{}, log level error", PACKAGES.join(" ")),
            "nodes = cpus; outbound with its queue on disk; retried after 5 s; a plugin that lets everybody \
             relay and names the next hop"
                .to_owned(),
            "everything else as it is by default".to_owned(),
        ]
    }

    fn start(&self, trace: Option<&Path>) -> anyhow::Result<Running> {
        let file = self.home.join("log");
        let log = fs::File::create(&file)?;
        let mut command = Command::new("node");
        command.arg(&self.program).arg("-c").arg(&self.home).env("PATH", &self.path);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        Running::launch(command, self.port, trace)
            .with_context(|| fs::read_to_string(&file).unwrap_or_default())
    }

    fn groups(&self) -> anyhow::Result<Option<u64>> {
        Ok(None)
    }
}

/// What it reads, by name below its home.
fn files(setting: &Setting<'_>) -> anyhow::Result<Vec<(&'static str, String)>> {
    let Setting { port, duty, keys, .. } = setting;
    let mut plugins = String::new();
    if duty.is_secure() {
        plugins += "tls\n";
    }
    plugins += "bench\n";
    if *duty == Duty::Signed {
        plugins += "dkim\n";
    }
    let files = vec![
        ("config/plugins", plugins),
        ("config/me", format!("{NAME}\n")),
        ("config/smtp.ini", format!("listen=127.0.0.1:{port}\nnodes=cpus\ndaemonize=false\n")),
        (
            "config/outbound.ini",
            format!("enable_tls={}\ntemp_fail_intervals=5s*100\n", duty.is_secure()),
        ),
        ("config/tls.ini", "key=key.pem\ncert=chain.pem\n".to_owned()),
        ("config/key.pem", fs::read_to_string(&keys.key)?),
        ("config/chain.pem", fs::read_to_string(&keys.chain)?),
        (
            "config/dkim.ini",
            format!(
                "[main]\n[sign]\nenabled=true\ndomain={DOMAIN}\nselector={SELECTOR}\n\
                 headers=From,To,Subject,Date,Message-ID\n[verify]\nenabled=false\n"
            ),
        ),
        ("config/dkim/bench.example/private", fs::read_to_string(&keys.dkim)?),
        ("config/dkim/bench.example/selector", format!("{SELECTOR}\n")),
        ("plugins/bench.js", plugin(setting)),
    ];
    Ok(files)
}

/// How Haraka is told such things: in JavaScript.
fn plugin(setting: &Setting<'_>) -> String {
    let Setting { sink, duty, .. } = setting;
    let ways = if *duty == Duty::Places { places::lines("\": \"", "\",") } else { String::new() };
    let ways: String = ways.lines().map(|line| format!("    \"{line}\n")).collect();
    format!(
        "'use strict'\n\
         const ways = {{\n{ways}}}\n\
         exports.hook_connect = (next, connection) => {{ connection.relaying = true; next() }}\n\
         exports.hook_rcpt = (next) => next(OK)\n\
         exports.hook_get_mx = (next, hmail, domain) =>\n    \
         next(OK, {{ priority: 0, exchange: ways[domain] || '{}', port: {sink} }})\n",
        duty.place().address()
    )
}

/// Where `node` and `npm` are: the machine's, or what builds guests.
fn path() -> anyhow::Result<OsString> {
    let own = env::var_os("PATH").unwrap_or_default();
    let guests = crate::guests::directory()?.join("venv/bin");
    Ok(env::join_paths(env::split_paths(&own).chain([guests]))?)
}

/// Installs it once; the directory of its modules.
fn install(path: &OsString) -> anyhow::Result<PathBuf> {
    let home = crate::target().join("peers/haraka");
    let (stamp, wanted) = (home.join("installed"), PACKAGES.join(" "));
    if !fs::read_to_string(&stamp).is_ok_and(|text| text == wanted) {
        eprintln!("installing: {wanted} in {}", home.display());
        if home.exists() {
            fs::remove_dir_all(&home)?;
        }
        fs::create_dir_all(&home)?;
        fs::write(home.join("package.json"), "{\"private\": true}\n")?;
        let status = Command::new("npm")
            .args(["install", "--omit=optional", "--ignore-scripts", "--no-audit", "--no-fund"])
            .args(["--save-exact", "--loglevel=error"])
            .args(PACKAGES)
            .env("PATH", path)
            .current_dir(&home)
            .stdin(Stdio::null())
            .stdout(Stdio::from(std::io::stderr()))
            .status()
            .context("npm is not installed: cargo xtask setup, or leave Haraka out with --only")?;
        ensure!(status.success(), "npm could not install {wanted}: see its message above");
        fs::write(stamp, wanted)?;
    }
    Ok(home.join("node_modules").canonicalize()?)
}
