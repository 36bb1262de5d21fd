//! A compiler for guests from the distribution's packages, for machines where rustup may not download.
//!
//! Debian's rustc-web, its standard library and the sources of that are unpacked, not installed, into
//! `~/.cache/waypost-wasm`, and the library is compiled for the target once: about 140 MB to download,
//! 550 MB on disk, a minute or two. A toolchain is made beside its place and moved there when it
//! has compiled something, so that an interrupted one is never used.

use std::collections::BTreeSet;
use std::env;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail, ensure};

use super::toolchain::{Compiler, LINKER, TARGET, cargo_home, renamed};
use super::{answer, finish, remove};

const COMPILER: &str = "rustc-web";
const SOURCES: &str = "rust-web-src";

/// Programs that Debian's compiler lacks and ours lends.
const LENT: &[&str] = &["rust-lld", "gcc-ld", LINKER, "rust-objcopy"];

/// The compiler, made now if need be. None when the distribution does not offer one.
pub(super) fn compiler(own: &Compiler) -> anyhow::Result<Option<PathBuf>> {
    let lent = own.programs()?;
    let home = env::home_dir().context("HOME is not set: there is no place for a toolchain")?;
    let place = home.join(".cache/waypost-wasm");
    fs::create_dir_all(home.join(".cache"))?;
    // Whoever else makes it is waited for.
    let lock = File::create(place.with_extension("lock"))?;
    lock.lock()?;
    let ready = Unpacked { place: place.clone() };
    if ready.is_usable(&lent) {
        return Ok(Some(ready.rustc()));
    }
    let Some(packages) = Packages::offered()? else {
        return Ok(None);
    };
    if let Some(missing) = LENT.iter().find(|program| !lent.join(program).exists()) {
        bail!(
            "{} has no {missing}, without which components cannot be linked: this Rust is none of \
             rustup's. With one of those, or a Rust that has the target {TARGET}, it works",
            lent.display()
        );
    }
    let partial = Unpacked { place: place.with_extension("partial") };
    remove(&partial.place)?;
    partial.make(&lent, &packages)?;
    remove(&place)?;
    fs::rename(&partial.place, &place)?;
    Ok(Some(ready.rustc()))
}

/// A toolchain in a folder.
struct Unpacked {
    place: PathBuf,
}

impl Unpacked {
    fn rustc(&self) -> PathBuf {
        self.place.join("rustc")
    }

    fn usr(&self) -> PathBuf {
        self.place.join("root/usr")
    }

    /// Written when something was compiled with it.
    fn seal(&self) -> PathBuf {
        self.place.join("proved")
    }

    /// Whoever made it: what has no seal must prove itself.
    fn is_usable(&self, lent: &Path) -> bool {
        let compiler = Compiler::at(&self.rustc());
        if !self.rustc().exists() || !compiler.has_std() {
            return false;
        }
        let proved = self.lend(lent).and_then(|()| match self.seal().exists() {
            true => Ok(()),
            false => self.prove(),
        });
        if let Err(error) = &proved {
            eprintln!("{} is not usable and is made anew: {error:#}", self.place.display());
        }
        proved.is_ok()
    }

    fn make(&self, lent: &Path, packages: &Packages) -> anyhow::Result<()> {
        packages.unpack(&self.place)?;
        self.wrap()?;
        self.lend(lent)?;
        self.build_std()?;
        self.prove()
    }

    /// A rustc that finds its libraries, wherever the folder is moved.
    fn wrap(&self) -> anyhow::Result<()> {
        // Named like the machine: x86_64-linux-gnu.
        let libraries = fs::read_dir(self.usr().join("lib"))?
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .find(|name| name.ends_with("-linux-gnu"))
            .with_context(|| format!("{COMPILER} brought no libraries"))?;
        let script = format!(
            "#!/bin/sh\n\
             root=${{0%/*}}/root\n\
             LD_LIBRARY_PATH=$root/usr/lib/{libraries}:$root/lib/{libraries}\
             ${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}} exec \"$root/usr/bin/rustc\" \"$@\"\n"
        );
        fs::write(self.rustc(), script)?;
        Ok(fs::set_permissions(self.rustc(), Permissions::from_mode(0o755))?)
    }

    /// Links to the programs of the compiler at hand, which may have moved since.
    fn lend(&self, programs: &Path) -> anyhow::Result<()> {
        let place = Compiler::at(&self.rustc()).programs()?;
        fs::create_dir_all(&place)?;
        for program in LENT {
            let (to, link) = (programs.join(program), place.join(program));
            if fs::read_link(&link).is_ok_and(|old| old == to) {
                continue;
            }
            if fs::symlink_metadata(&link).is_ok() {
                fs::remove_file(&link)?;
            }
            symlink(to, link)?;
        }
        Ok(())
    }

    fn build_std(&self) -> anyhow::Result<()> {
        eprintln!("building the standard library for {TARGET} (about a minute)");
        let stub = self.place.join("stub");
        fs::create_dir_all(stub.join("src"))?;
        fs::write(stub.join("src/lib.rs"), "")?;
        fs::write(
            stub.join("Cargo.toml"),
            "[package]\nname = \"stub\"\nversion = \"0.0.0\"\nedition = \"2024\"\n[workspace]\n\
             [profile.release]\nopt-level = 3\ndebug = false\n",
        )?;
        finish(
            Command::new("cargo")
                .args(["build", "--quiet", "--release", "--target", TARGET])
                // Procedural macros have libraries in common with guests.
                .arg("-Zbuild-std=std,panic_abort,proc_macro")
                .env("RUSTC", self.rustc())
                .env("RUSTC_BOOTSTRAP", "1")
                .env("CARGO_TARGET_DIR", stub.join("target"))
                // Without bitcode, guests with link-time optimisation do not link.
                .env_remove("RUSTFLAGS")
                .env("CARGO_ENCODED_RUSTFLAGS", self.std_flags())
                .current_dir(&stub),
        )?;
        let library = self.usr().join("lib/rustlib").join(TARGET).join("lib");
        fs::create_dir_all(&library)?;
        for file in fs::read_dir(stub.join("target").join(TARGET).join("release/deps"))?.flatten() {
            let name = file.file_name();
            let text = name.to_string_lossy();
            if text.starts_with("lib") && text.ends_with(".rlib") && !text.starts_with("libstub-") {
                fs::copy(file.path(), library.join(name))?;
            }
        }
        Ok(fs::remove_dir_all(stub)?)
    }

    /// As the Rust project builds it: without this machine's places in messages of panics.
    fn std_flags(&self) -> String {
        let sources = self.usr().join("lib/rustlib/src/rust");
        let places = [(sources, "/rustc"), (cargo_home(), "/cargo")];
        let flags = ["-Cembed-bitcode=yes".to_owned()].into_iter().chain(renamed(places));
        flags.collect::<Vec<_>>().join("\u{1f}")
    }

    /// Compiles a guest as guests are compiled.
    fn prove(&self) -> anyhow::Result<()> {
        const PROOF: &str = "extern crate proc_macro;\n#[unsafe(no_mangle)] pub extern \"C\" fn proof() \
                             -> usize { std::env::args().count() }\n";
        let scratch = tempfile::tempdir()?;
        let source = scratch.path().join("proof.rs");
        fs::write(&source, PROOF)?;
        let compiler = Compiler::at(&self.rustc());
        finish(
            compiler
                .command()
                .args(["--edition=2024", "--crate-type=cdylib", "--target", TARGET])
                .args(["-Copt-level=s", "-Clto", "-Cpanic=abort"])
                .arg(format!("-Clinker={LINKER}"))
                .arg(&source)
                .arg("-o")
                .arg(scratch.path().join("proof.wasm")),
        )?;
        Ok(fs::write(self.seal(), "compiled a guest with link-time optimisation\n")?)
    }
}

/// What to fetch.
struct Packages(Vec<String>);

impl Packages {
    fn offered() -> anyhow::Result<Option<Self>> {
        if answer(Command::new("apt-get").arg("--version")).is_err() {
            return Ok(None);
        }
        if !is_known(COMPILER) {
            if !nix::unistd::geteuid().is_root() {
                return Ok(None);
            }
            crate::setup::apt_get(&["update", "-qq"])?;
            if !is_known(COMPILER) {
                return Ok(None);
            }
        }
        let development = dependency(COMPILER, "libstd-rust-web-dev")?;
        let std = dependency(&development, "libstd-rust-web-")?;
        let mut packages = vec![COMPILER.into(), SOURCES.into(), development];
        packages.extend(missing_libraries(&std)?);
        Ok(Some(Self(packages)))
    }

    fn unpack(&self, place: &Path) -> anyhow::Result<()> {
        eprintln!("fetching {} (not installing them)", self.0.join(" "));
        let (archives, root) = (place.join("archives"), place.join("root"));
        fs::create_dir_all(&archives)?;
        fs::create_dir_all(&root)?;
        finish(
            Command::new("apt-get").args(["download", "-qq"]).args(&self.0).current_dir(&archives),
        )
        .context("apt-get could not download them. When its lists are old: apt-get update")?;
        for archive in fs::read_dir(&archives)? {
            let archive = archive?.path();
            let name = archive.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name.starts_with(SOURCES) {
                unpack_sources(&archive, &root)?;
            } else {
                finish(Command::new("dpkg").arg("--extract").args([&archive, &root]))?;
            }
        }
        Ok(fs::remove_dir_all(archives)?)
    }
}

/// Of the compiler's sources, which are large, those of the standard library.
fn unpack_sources(archive: &Path, root: &Path) -> anyhow::Result<()> {
    let mut reader = Command::new("dpkg-deb")
        .arg("--fsys-tarfile")
        .arg(archive)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("dpkg-deb did not start")?;
    let mut tar = Command::new("tar");
    tar.args(["--extract", "--wildcards", "--directory"]).arg(root).args([
        "./usr/lib/rustlib/src*",
        "./usr/src/rustc-*/library/*",
        "./usr/src/rustc-*/src/llvm-project/libunwind*",
    ]);
    if let Some(stream) = reader.stdout.take() {
        tar.stdin(Stdio::from(stream));
    }
    // It complains of a pattern without a file: libunwind is not in every release.
    tar.stderr(Stdio::null()).status().context("tar did not start")?;
    ensure!(reader.wait()?.success(), "dpkg-deb could not read {}", archive.display());
    Ok(())
}

fn is_known(package: &str) -> bool {
    answer(Command::new("apt-cache").args(["show", "--no-all-versions", package])).is_ok()
}

/// The first dependency whose name begins so.
fn dependency(of: &str, prefix: &str) -> anyhow::Result<String> {
    let list = answer(Command::new("apt-cache").args([
        "depends",
        "--no-recommends",
        "--no-suggests",
        of,
    ]))?;
    list.lines()
        .filter_map(|line| line.trim_start().strip_prefix("Depends: "))
        .find(|name| name.starts_with(prefix))
        .map(String::from)
        .with_context(|| {
            format!("the package {of} depends on no {prefix}*: this distribution is new to us")
        })
}

/// This library and those it needs, as far as they are not installed.
fn missing_libraries(library: &str) -> anyhow::Result<Vec<String>> {
    let closure = answer(
        Command::new("apt-cache")
            .args(["depends", "--recurse", "--no-recommends", "--no-suggests", "--no-conflicts"])
            .args(["--no-breaks", "--no-replaces", "--no-enhances", library]),
    )?;
    Ok(libraries(&closure)
        .into_iter()
        .filter(|name| !is_installed(name))
        .map(String::from)
        .collect())
}

/// Each once. What they are needed by stands indented below them, virtual ones in brackets.
fn libraries(closure: &str) -> BTreeSet<&str> {
    closure.lines().filter(|line| line.starts_with("lib")).collect()
}

fn is_installed(package: &str) -> bool {
    let status =
        answer(Command::new("dpkg-query").args(["-W", "-f", "${db:Status-Status}", package]));
    status.is_ok_and(|status| status.starts_with("installed"))
}
