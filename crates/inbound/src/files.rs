//! Small files with secrets in them, written so that nobody sees half of one.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// All or nothing, readable by the owner alone. Who owns the file stays as it was, because the one
/// who edits it (root) may not be the one who reads it (the relay).
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{:016x}", rand::random::<u64>()));
    let fresh = path.with_file_name(name);
    let written = write_new(&fresh, &path, bytes).and_then(|()| fs::rename(&fresh, &path));
    if written.is_err() {
        // What is left over has no use; the first error is the one that counts.
        let _ = fs::remove_file(&fresh);
    }
    written?;
    match path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        Some(parent) => File::open(parent)?.sync_all(),
        None => File::open(".")?.sync_all(),
    }
}

fn write_new(fresh: &Path, old: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(fresh)?;
    if let Ok(old) = fs::metadata(old) {
        let new = file.metadata()?;
        if (old.uid(), old.gid()) != (new.uid(), new.gid()) {
            std::os::unix::fs::fchown(&file, Some(old.uid()), Some(old.gid()))?;
        }
        // A group that could read it may go on doing so; others never.
        file.set_permissions(fs::Permissions::from_mode(0o600 | (old.mode() & 0o040)))?;
    }
    file.write_all(bytes)?;
    file.sync_all()
}
