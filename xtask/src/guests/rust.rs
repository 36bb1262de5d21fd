//! Guests in Rust: packages with a `cdylib`, in workspaces of their own.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::Deserialize;

use super::toolchain::{TARGET, Toolchain};

/// Folders of guests. The hostile ones come with the room they attack.
const WORKSPACES: &[&str] = &[
    "plugins",
    "crates/plugin/tests/guests",
    "examples/plugins/rust",
    "examples/plugins/rust-minimal",
];

pub(super) struct Guest {
    /// Of the package, and of the component.
    pub(super) name: String,
    /// What cargo calls the file.
    file: String,
    workspace: PathBuf,
}

/// All there are.
pub(super) fn guests() -> anyhow::Result<Vec<Guest>> {
    let mut guests = Vec::new();
    for folder in WORKSPACES {
        let workspace = crate::workspace().join(folder);
        if !workspace.join("Cargo.toml").exists() {
            continue;
        }
        let metadata = super::answer(
            Toolchain::bare_cargo("metadata")
                .args(["--no-deps", "--format-version=1"])
                .current_dir(&workspace),
        )?;
        let metadata: Metadata = serde_json::from_str(&metadata).context("cargo metadata")?;
        for package in metadata.packages {
            let library = package.targets.into_iter().find(Target::is_component);
            guests.extend(library.map(|library| Guest {
                name: package.name,
                file: format!("{}.wasm", library.name.replace('-', "_")),
                workspace: workspace.clone(),
            }));
        }
    }
    Ok(guests)
}

pub(super) fn build(toolchain: &Toolchain, guests: &[Guest], into: &Path) -> anyhow::Result<()> {
    // One directory for all: what their dependencies share is compiled once.
    let built = into.join("build");
    let mark = built.join("toolchain");
    let identity = toolchain.identity()?;
    if !fs::read_to_string(&mark).is_ok_and(|known| known == identity) {
        super::remove(&built)?;
        fs::create_dir_all(&built)?;
        fs::write(mark, identity)?;
    }
    for group in guests.chunk_by(|one, next| one.workspace == next.workspace) {
        let Some(first) = group.first() else { continue };
        let mut cargo = toolchain.cargo("build");
        cargo.args(["--quiet", "--release", "--target", TARGET]).current_dir(&first.workspace);
        cargo.arg("--target-dir").arg(&built);
        cargo.args(group.iter().flat_map(|guest| ["--package", &guest.name]));
        super::finish(&mut cargo)?;
        for guest in group {
            let component = built.join(TARGET).join("release").join(&guest.file);
            replace(&component, &into.join(format!("{}.wasm", guest.name)))?;
        }
    }
    Ok(())
}

/// Leaves a component alone that is the same: compiled forms of it are kept by its age or digest.
fn replace(new: &Path, old: &Path) -> anyhow::Result<()> {
    let content = fs::read(new).with_context(|| format!("cargo made no {}", new.display()))?;
    if fs::read(old).is_ok_and(|old| old == content) {
        return Ok(());
    }
    let partial = old.with_extension("partial");
    fs::write(&partial, content)?;
    Ok(fs::rename(partial, old)?)
}

/// As much as we read of what `cargo metadata` prints.
#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    targets: Vec<Target>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    crate_types: Vec<String>,
}

impl Target {
    fn is_component(&self) -> bool {
        self.crate_types.iter().any(|kind| kind == "cdylib")
    }
}
