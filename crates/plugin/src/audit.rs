//! Who put which policy in force and what came of it: one JSON object a line, only ever added to.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use serde::Serialize;
use tracing::error;
use waypost_mail::Timestamp;

/// One line.
#[derive(Debug, Serialize)]
pub(crate) struct Line<'a> {
    pub(crate) at: String,
    /// Who asked: `start`, `operator`, `signal`, `file watch`, `canary`.
    pub(crate) who: &'a str,
    /// `loaded`, `refused`, `canary`, `promoted`, `rolled back`.
    pub(crate) what: &'a str,
    /// Number of the generation.
    pub(crate) generation: u64,
    /// Name and digest of each plugin.
    pub(crate) plugins: Vec<(String, String)>,
    /// Why, or how.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(crate) detail: &'a str,
}

/// The file.
#[derive(Debug)]
pub(crate) struct Audit(Mutex<File>);

impl Audit {
    pub(crate) fn open(path: &Path) -> io::Result<Audit> {
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
        Ok(Audit(Mutex::new(file)))
    }

    /// Adds a line, durably. What cannot be written is in the log at least.
    pub(crate) fn add(&self, line: &Line<'_>) {
        let written = serde_json::to_string(line).map_err(io::Error::from).and_then(|mut text| {
            text.push('\n');
            let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            file.write_all(text.as_bytes())?;
            file.sync_data()
        });
        if let Err(error) = written {
            error!(%error, ?line, "the audit log of policy cannot be written");
        }
    }
}

/// A moment as lines write it.
pub(crate) fn moment(at: Timestamp) -> String {
    at.to_string()
}
