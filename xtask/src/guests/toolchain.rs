//! The compiler for guests in Rust: one that has a standard library for `wasm32-unknown-unknown`.
//!
//! The compiler at hand when it has one; else the distribution's (see [`packages`]); else rustup is
//! asked to fetch it. `WAYPOST_WASM_TARGET=rustup` asks rustup before the distribution.

use std::env::{self, VarError};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::UNIX_EPOCH;

use anyhow::{Context, bail, ensure};

use super::packages;

pub(super) const TARGET: &str = "wasm32-unknown-unknown";
/// Comes with every toolchain of rustup; as the linker it makes cargo's output a component.
pub(super) const LINKER: &str = "wasm-component-ld";

pub(super) struct Toolchain {
    rustc: PathBuf,
}

impl Toolchain {
    pub(super) fn find() -> anyhow::Result<Self> {
        let own = Compiler::own();
        if own.has_std() {
            ensure!(
                own.programs().is_ok_and(|programs| programs.join(LINKER).exists())
                    || on_path(LINKER),
                "{LINKER}, the linker of components, did not come with this Rust. Install it: \
                 cargo install {LINKER}"
            );
            return Ok(Self { rustc: own.rustc });
        }
        let rustc = match Preference::read()? {
            Preference::Packages => match packages::compiler(&own)? {
                Some(rustc) => Some(rustc),
                None => rustup(&own)?,
            },
            Preference::Rustup => match rustup(&own)? {
                Some(rustc) => Some(rustc),
                None => packages::compiler(&own)?,
            },
        };
        match rustc {
            Some(rustc) => Ok(Self { rustc }),
            None => bail!(
                "no Rust here compiles for {TARGET}: there is no rustup, and no package rustc-web \
                 of the distribution (Debian has it; apt-get update may be needed). Install the \
                 target for this Rust, with rustup: rustup target add {TARGET}"
            ),
        }
    }

    /// Cargo that compiles with it.
    pub(super) fn cargo(&self, subcommand: &str) -> Command {
        let mut cargo = Self::bare_cargo(subcommand);
        cargo.env("RUSTC", &self.rustc).env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", LINKER);
        // A component tells nothing of the machine that built it.
        let places = [(crate::workspace(), "/waypost"), (cargo_home(), "/cargo")];
        let flags = renamed(places).collect::<Vec<_>>().join("\u{1f}");
        cargo.env("CARGO_ENCODED_RUSTFLAGS", flags);
        cargo
    }

    /// Cargo without what was meant for the relay and its machine.
    pub(super) fn bare_cargo(subcommand: &str) -> Command {
        let mut cargo = Command::new("cargo");
        cargo.arg(subcommand);
        for variable in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_TARGET"] {
            cargo.env_remove(variable);
        }
        cargo
    }

    /// Which standard library guests are linked with: cargo knows it by the compiler's version only.
    pub(super) fn identity(&self) -> anyhow::Result<String> {
        let std = Compiler::at(&self.rustc).std().context("the standard library went away")?;
        let made = std.metadata()?.modified()?.duration_since(UNIX_EPOCH)?;
        Ok(format!("{} {}", std.display(), made.as_nanos()))
    }

    /// For a shell's `eval`. Not `RUSTC`: the relay keeps its own compiler.
    pub(super) fn exports(&self) -> String {
        let rustc = self.rustc.display();
        format!(
            "export WASM_RUSTC='{rustc}'\n\
             export CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER={LINKER}\n"
        )
    }
}

/// Whom to ask first for a standard library that is not there.
#[derive(Debug, PartialEq, Eq)]
enum Preference {
    Packages,
    Rustup,
}

impl Preference {
    fn read() -> anyhow::Result<Self> {
        match env::var("WAYPOST_WASM_TARGET") {
            Err(VarError::NotPresent) => Ok(Self::Packages),
            Ok(word) => Self::parse(&word),
            Err(error) => Err(error.into()),
        }
    }

    fn parse(word: &str) -> anyhow::Result<Self> {
        match word {
            "packages" => Ok(Self::Packages),
            "rustup" => Ok(Self::Rustup),
            _ => bail!("WAYPOST_WASM_TARGET is `{word}`: it may be `packages` or `rustup`"),
        }
    }
}

/// None when there is no rustup.
fn rustup(own: &Compiler) -> anyhow::Result<Option<PathBuf>> {
    if !on_path("rustup") {
        return Ok(None);
    }
    eprintln!("installing: {TARGET}, by rustup");
    let add = super::finish(
        Command::new("rustup").args(["target", "add", TARGET]).current_dir(crate::workspace()),
    );
    if let Err(error) = add {
        bail!(
            "{error:#}\nrustup could not install {TARGET}: see its message above. Where it may not \
             download, Debian's packages serve instead: WAYPOST_WASM_TARGET=packages"
        );
    }
    ensure!(
        own.has_std(),
        "rustup installed {TARGET}, but not for the rustc that is first in PATH. Let rustup's come first"
    );
    Ok(Some(own.rustc.clone()))
}

/// Where cargo keeps the sources of dependencies.
pub(super) fn cargo_home() -> PathBuf {
    let default = || env::home_dir().unwrap_or_default().join(".cargo");
    env::var_os("CARGO_HOME").map_or_else(default, PathBuf::from)
}

/// Flags by which places have other names in what is compiled.
pub(super) fn renamed<const N: usize>(
    places: [(PathBuf, &'static str); N],
) -> impl Iterator<Item = String> {
    places
        .into_iter()
        .map(|(place, name)| format!("--remap-path-prefix={}={name}", place.display()))
}

fn on_path(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|folder| folder.join(program).exists())
}

/// A rustc, and what it says of itself.
pub(super) struct Compiler {
    rustc: PathBuf,
}

impl Compiler {
    /// The one that compiles the relay.
    fn own() -> Self {
        Self { rustc: "rustc".into() }
    }

    pub(super) fn at(rustc: &Path) -> Self {
        Self { rustc: rustc.into() }
    }

    pub(super) fn command(&self) -> Command {
        let mut command = Command::new(&self.rustc);
        command.current_dir(crate::workspace());
        command
    }

    /// It has a standard library for guests.
    pub(super) fn has_std(&self) -> bool {
        self.std().is_some()
    }

    /// The file of that library.
    fn std(&self) -> Option<PathBuf> {
        let mut print = self.command();
        let directory =
            super::answer(print.args(["--print=target-libdir", "--target", TARGET])).ok()?;
        let mut files = std::fs::read_dir(directory).ok()?.flatten();
        files.find(|file| is_std(&file.file_name())).map(|file| file.path())
    }

    /// The folder of programs that came with it.
    pub(super) fn programs(&self) -> anyhow::Result<PathBuf> {
        let sysroot = PathBuf::from(super::answer(self.command().args(["--print", "sysroot"]))?);
        // The machine it runs on, such as x86_64-unknown-linux-gnu.
        let host = super::answer(self.command().args(["--print", "host-tuple"]))?;
        Ok(sysroot.join("lib/rustlib").join(host).join("bin"))
    }
}

fn is_std(file: &OsStr) -> bool {
    let name = file.to_string_lossy();
    name.starts_with("libstd-") && name.ends_with(".rlib")
}
