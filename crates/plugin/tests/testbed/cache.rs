//! Compiled code that all tests share: each has a directory of its own, but compiles only what none
//! before it has compiled.

use std::fs;
use std::path::{Path, PathBuf};

const KEY: &str = "cache.key";

pub struct Cache(PathBuf);

impl Cache {
    pub fn shared() -> Cache {
        let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("plugin-code");
        fs::create_dir_all(&place).unwrap();
        if !place.join(KEY).exists() {
            // Who comes second keeps the first one's.
            let own = tempfile::NamedTempFile::new_in(&place).unwrap();
            fs::write(own.path(), [7; 32]).unwrap();
            drop(own.persist_noclobber(place.join(KEY)));
        }
        Cache(place)
    }

    /// Puts what is known into a test's directory.
    pub fn lend(&self, directory: &Path) {
        fs::copy(self.0.join(KEY), directory.join(KEY)).unwrap();
        link(&self.0, directory);
    }

    /// Keeps what a test has compiled.
    pub fn learn(&self, directory: &Path) {
        link(directory, &self.0);
    }
}

fn link(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap().flatten() {
        let path = entry.path();
        if path.extension().is_some_and(|extension| extension == "code") {
            // It may be there already.
            drop(fs::hard_link(&path, to.join(entry.file_name())));
        }
    }
}
