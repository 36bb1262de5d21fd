//! Waypost as the bench runs it: one listener, one smart host, as little else as a file can say.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};

use super::relay::{Relay, Running};

/// The counter of commit groups that `waypost-spool` serves at `/metrics`.
const GROUPS: &str = "waypost_spool_groups_total ";

/// One instance, ready to start.
pub(crate) struct Waypost {
    program: PathBuf,
    home: PathBuf,
    port: u16,
}

impl Waypost {
    /// Writes the configuration below `directory`; builds the program unless one is given.
    pub(crate) fn prepare(
        directory: &Path,
        port: u16,
        sink: u16,
        program: Option<&Path>,
    ) -> anyhow::Result<Self> {
        let program = match program {
            Some(program) => program.canonicalize()?,
            None => build()?,
        };
        let home = directory.join("waypost");
        fs::create_dir_all(&home)?;
        let spool = home.join("spool");
        let socket = home.join("admin.sock");
        let configuration = format!(
            r#"hostname = "relay.bench.example"

[spool]
path = "{spool}"

[admin]
socket = "{socket}"

[log]
level = "warn"

[[listener]]
name = "relay"
kind = "relay"
address = "127.0.0.1:{port}"

[relay]
networks = ["127.0.0.0/8"]

[[route]]
domains = ["*"]
via = [{{ host = "127.0.0.1", port = {sink} }}]
tls = "never"
"#,
            spool = spool.display(),
            socket = socket.display(),
        );
        fs::write(home.join("waypost.toml"), configuration)?;
        Ok(Self { program, home, port })
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
        "waypost"
    }

    fn settings(&self) -> Vec<String> {
        let version = Command::new(&self.program).arg("--version").output();
        let version = version.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        let version = version.unwrap_or_default();
        vec![
            format!("{}, no TLS, no DNS, log level warn", version.trim()),
            "everything else as it is by default".to_owned(),
        ]
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

fn build() -> anyhow::Result<PathBuf> {
    eprintln!("building waypost (release)");
    let status = Command::new("cargo")
        .args(["build", "--release", "--package", "waypost"])
        .current_dir(crate::workspace())
        .status()?;
    ensure!(status.success(), "waypost does not build");
    Ok(crate::target().join("release/waypost"))
}
