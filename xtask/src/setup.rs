//! What the tests need from outside: foreign mail programs from the system's packages, aiosmtpd,
//! dkimpy and schemathesis from PyPI in a virtual environment of our own. Installs when it may, says the line
//! when not.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail, ensure};

/// A tool the tests call, the Debian package that brings it, and how its presence is seen.
struct Peer {
    package: &'static str,
    probe: &'static [&'static str],
}

const PEERS: &[Peer] = &[
    Peer { package: "postfix", probe: &["/usr/sbin/smtp-source", "-?"] },
    Peer { package: "swaks", probe: &["swaks", "--version"] },
    Peer { package: "libnet-ssleay-perl", probe: &["perl", "-MNet::SSLeay", "-e", "1"] },
    Peer { package: "libauthen-sasl-perl", probe: &["perl", "-MAuthen::SASL", "-e", "1"] },
    Peer { package: "libmail-dkim-perl", probe: &["perl", "-MMail::DKIM::Verifier", "-e", "1"] },
    Peer { package: "openssl", probe: &["openssl", "version"] },
    Peer { package: "gnutls-bin", probe: &["gnutls-cli", "--version"] },
    Peer { package: "haproxy", probe: &["/usr/sbin/haproxy", "-v"] },
    Peer { package: "microsocks", probe: &["microsocks", "-h"] },
    Peer { package: "gsasl", probe: &["gsasl", "--version"] },
    Peer { package: "curl", probe: &["curl", "--version"] },
    Peer { package: "faketime", probe: &["faketime", "--version"] },
    Peer { package: "knot", probe: &["/usr/sbin/knotd", "--version"] },
    Peer { package: "strace", probe: &["strace", "-V"] },
    Peer { package: "python3-venv", probe: &["/usr/bin/python3", "-c", "import venv, ensurepip"] },
];

/// From PyPI; dkimpy needs PyNaCl for Ed25519.
const MODULES: &[&str] = &[
    "aiosmtpd==1.4.6",
    "dkimpy==1.1.8",
    "flufl.bounce==4.0",
    "PyNaCl==1.6.2",
    "pyspf==2.0.14",
    "authheaders==0.16.3",
    "schemathesis==4.32.5",
];

/// Makes everything present and returns the Python that has the modules.
pub(crate) fn run() -> anyhow::Result<PathBuf> {
    let missing: Vec<&str> = missing();
    if !missing.is_empty() {
        install(&missing)?;
    }
    python(&crate::target().join("test-venv"))
}

fn missing() -> Vec<&'static str> {
    PEERS.iter().filter(|peer| !answers(peer.probe)).map(|peer| peer.package).collect()
}

/// smtp-source and microsocks end unhappily however they are asked about themselves: that they start is all
/// they can say.
fn answers(probe: &[&str]) -> bool {
    let Some((program, arguments)) = probe.split_first() else {
        return false;
    };
    let ended = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    let unhappy = ["smtp-source", "microsocks"].iter().any(|name| program.ends_with(name));
    ended.is_ok_and(|status| status.success() || unhappy)
}

fn install(packages: &[&str]) -> anyhow::Result<()> {
    let line = format!("apt-get install --no-install-recommends {}", packages.join(" "));
    let may = nix::unistd::geteuid().is_root() && Path::new("/usr/bin/apt-get").exists();
    ensure!(may, "the tests need packages that are not installed. As root: {line}");
    eprintln!("installing: {}", packages.join(" "));
    let _quiet = NoServices::declare()?;
    if packages.contains(&"postfix") {
        leave_postfix_unconfigured()?;
    }
    apt_get(&["update", "-qq"])?;
    let install = ["install", "-y", "-qq", "--no-install-recommends"];
    apt_get(&[&install, packages].concat())?;
    let still = missing();
    ensure!(still.is_empty(), "installed, but still not usable: {}", still.join(" "));
    Ok(())
}

pub(crate) fn apt_get(arguments: &[&str]) -> anyhow::Result<()> {
    let status = Command::new("apt-get")
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null())
        .stdout(Stdio::from(std::io::stderr()))
        .status()
        .context("apt-get did not start")?;
    ensure!(status.success(), "apt-get {} failed", arguments.join(" "));
    Ok(())
}

/// A Postfix without main.cf cannot start, now or at the next boot: the tests bring their own.
fn leave_postfix_unconfigured() -> anyhow::Result<()> {
    let mut child = Command::new("debconf-set-selections")
        .stdin(Stdio::piped())
        .spawn()
        .context("debconf-set-selections did not start")?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(b"postfix postfix/main_mailer_type select No configuration\n")?;
    }
    ensure!(child.wait()?.success(), "debconf-set-selections failed");
    Ok(())
}

/// While it lives, Debian's packages start no service (policy-rc.d answers 101, "not allowed").
struct NoServices(Option<&'static Path>);

impl NoServices {
    fn declare() -> anyhow::Result<Self> {
        let policy = Path::new("/usr/sbin/policy-rc.d");
        if policy.exists() {
            return Ok(Self(None));
        }
        fs::write(policy, "#!/bin/sh\nexit 101\n")?;
        fs::set_permissions(policy, fs::Permissions::from_mode(0o755))?;
        Ok(Self(Some(policy)))
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if let Some(policy) = self.0
            && let Err(error) = fs::remove_file(policy)
        {
            eprintln!("{} stays behind: {error}", policy.display());
        }
    }
}

fn python(venv: &Path) -> anyhow::Result<PathBuf> {
    let python = venv.join("bin/python");
    let import =
        ["-c", "import aiosmtpd, dkim, flufl.bounce, nacl, spf, authheaders, schemathesis"];
    if silent(&python, &import) {
        return Ok(python);
    }
    let modules = MODULES.join(" ");
    eprintln!("installing: {modules} in {}", venv.display());
    // A half-made environment is never repaired by venv: begin anew.
    if venv.exists() {
        fs::remove_dir_all(venv)?;
    }
    let status = Command::new("/usr/bin/python3").args(["-m", "venv"]).arg(venv).status()?;
    ensure!(status.success(), "python3 -m venv {} failed", venv.display());
    let status = Command::new(&python)
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"])
        .args(MODULES)
        .stdin(Stdio::null())
        .status()?;
    if !status.success() || !silent(&python, &import) {
        bail!("pip could not install {modules}: see its message above");
    }
    Ok(python)
}

fn silent(program: &Path, arguments: &[&str]) -> bool {
    let program = program.to_string_lossy();
    let probe: Vec<&str> = [&[program.as_ref()], arguments].concat();
    answers(&probe)
}
