//! The bytes of a message before they are durable.

use std::path::{Path, PathBuf};

use bytes::Bytes;

/// A message's bytes: small ones in memory, others in an unsynced file.
#[derive(Debug)]
pub enum Body {
    /// Held in memory.
    Memory(Bytes),
    /// `len` octets from `offset` of a file that is ours alone.
    File {
        /// The file.
        file: IncomingFile,
        /// Where the bytes begin.
        offset: u64,
        /// How many there are.
        len: u64,
    },
}

impl Body {
    /// How many octets.
    pub fn len(&self) -> u64 {
        match self {
            Body::Memory(bytes) => bytes.len() as u64,
            Body::File { len, .. } => *len,
        }
    }

    /// True when there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A file under `incoming/` that is removed when nobody keeps it: whatever was refused leaves
/// nothing behind.
#[derive(Debug)]
pub struct IncomingFile {
    path: Option<PathBuf>,
}

impl IncomingFile {
    /// Takes charge of the file at `path`.
    pub fn new(path: PathBuf) -> IncomingFile {
        IncomingFile { path: Some(path) }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.path.as_deref().unwrap_or_else(|| Path::new(""))
    }

    /// Gives the file to the caller, who has moved it or will remove it.
    pub fn keep(mut self) -> PathBuf {
        self.path.take().unwrap_or_default()
    }
}

impl Drop for IncomingFile {
    fn drop(&mut self) {
        if let Some(path) = self.path.take() {
            // A file that cannot be removed now is wiped at the next start.
            let _ = std::fs::remove_file(path);
        }
    }
}
