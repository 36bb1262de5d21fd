//! What a guest is made of, as one number: it is built when that has changed.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use sha2::{Digest, Sha256};

/// Beside the component, what it was made of.
pub(super) struct Inputs {
    digest: String,
    record: PathBuf,
}

impl Inputs {
    /// `recipe` says what is done with the files under `folders` of the tree.
    pub(super) fn of(recipe: &str, folders: &[&str], component: &Path) -> anyhow::Result<Self> {
        let mut hash = Sha256::new();
        hash.update(recipe);
        for folder in folders {
            let mut files = Vec::new();
            gather(&crate::workspace().join(folder), &mut files)
                .with_context(|| format!("{folder} cannot be read"))?;
            files.sort();
            for file in files {
                let content = fs::read(&file)?;
                // The same wherever the tree lies.
                let name = file.strip_prefix(crate::workspace()).unwrap_or(&file);
                hash.update(name.to_string_lossy().as_bytes());
                hash.update((content.len() as u64).to_le_bytes());
                hash.update(content);
            }
        }
        let digest = hash.finalize().iter().map(|octet| format!("{octet:02x}")).collect();
        Ok(Self { digest, record: component.with_extension("inputs") })
    }

    /// The number.
    pub(super) fn digest(&self) -> &str {
        &self.digest
    }

    pub(super) fn are_unchanged(&self) -> bool {
        fs::read_to_string(&self.record).is_ok_and(|recorded| recorded == self.digest)
    }

    pub(super) fn record(&self) -> anyhow::Result<()> {
        Ok(fs::write(&self.record, &self.digest)?)
    }
}

fn gather(folder: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            if !is_leftover(&path) {
                gather(&path, files)?;
            }
        } else if is_source(&path) {
            files.push(path);
        }
    }
    Ok(())
}

/// What building by hand leaves behind.
fn is_leftover(folder: &Path) -> bool {
    ["node_modules", "target", ".venv", "__pycache__"].iter().any(|name| folder.ends_with(name))
}

fn is_source(file: &Path) -> bool {
    file.extension().is_none_or(|extension| extension != "wasm" && extension != "md")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(folder: &Path) -> String {
        let folder = folder.to_string_lossy();
        Inputs::of("recipe", &[&folder], Path::new("x.wasm")).unwrap().digest
    }

    #[test]
    fn sources_count_and_leftovers_do_not() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, content: &str| {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
            digest(folder.path())
        };
        let before = write("guard.c", "one");
        assert_eq!(write("README.md", "words"), before);
        assert_eq!(write("guard.wasm", "component"), before);
        assert_eq!(write("node_modules/jco/index.js", "tool"), before);
        assert_ne!(write("bindings/guard.h", "types"), before);
        assert_ne!(write("guard.c", "two"), write("guard.c", "one"));
    }

    #[test]
    fn another_recipe_is_another_guest() {
        let folder = tempfile::tempdir().unwrap();
        let component = folder.path().join("guard.wasm");
        let inputs = |recipe| Inputs::of(recipe, &[], &component).unwrap();
        inputs("one").record().unwrap();
        assert!(inputs("one").are_unchanged());
        assert!(!inputs("two").are_unchanged());
    }
}
