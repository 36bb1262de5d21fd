//! Secrets come from files or the environment, never from the configuration itself.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::file::Secret;
use crate::mistake::Notes;

/// Longest secret taken from a file.
const MAX_SECRET: u64 = 64 * 1024;

/// The secret's text, without the line end behind it.
pub(crate) fn read(secret: &Secret, notes: &mut Notes<'_>) -> Option<String> {
    match secret {
        Secret::File(file) => match from_file(&file.value) {
            Ok(text) => Some(text),
            Err(problem) => {
                notes.add(&file.at, problem, "put the secret alone in a file of mode 0600");
                None
            }
        },
        Secret::Environment(name) => match std::env::var(&name.value) {
            Ok(text) => Some(text),
            Err(_) => {
                let message = format!("the environment variable {} is not set", name.value);
                notes.add(&name.at, message, "set it for waypost, for commands like check too");
                None
            }
        },
    }
}

fn from_file(path: &Path) -> Result<String, String> {
    let shown = path.display();
    let metadata = fs::metadata(path).map_err(|error| format!("cannot read {shown}: {error}"))?;
    if metadata.mode() & 0o004 != 0 {
        return Err(format!("everybody on this machine can read {shown}"));
    }
    if metadata.len() > MAX_SECRET {
        return Err(format!("{shown} is too large for a secret"));
    }
    let text = fs::read_to_string(path).map_err(|e| format!("cannot read {shown}: {e}"))?;
    let text = text.trim_end_matches(['\r', '\n']);
    if text.is_empty() { Err(format!("{shown} is empty")) } else { Ok(text.to_owned()) }
}
