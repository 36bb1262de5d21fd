//! A copy of a root that `cargo xtask setup` unpacked ([`crate::peers`]), on the file system that is measured.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};

/// Where a program runs by chroot(8).
pub(crate) struct Jail {
    root: PathBuf,
}

impl Jail {
    /// Copies the root of this name to a place that does not exist yet.
    pub(crate) fn copy(name: &str, to: &Path) -> anyhow::Result<Jail> {
        let from = crate::peers::root(name)?;
        let status = Command::new("cp").arg("-a").arg(&from).arg(to).status()?;
        ensure!(status.success(), "{} cannot be copied", from.display());
        fs::set_permissions(to, fs::Permissions::from_mode(0o755))?;
        Ok(Jail { root: to.to_path_buf() })
    }

    /// Writes a file that this user within it alone can read.
    pub(crate) fn put(&self, name: &str, text: &str, user: u32) -> anyhow::Result<()> {
        let path = self.root.join(name);
        fs::write(&path, text).with_context(|| path.display().to_string())?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        Ok(chown(&path, Some(user), Some(user))?)
    }

    /// The same with what another file says.
    pub(crate) fn put_file(&self, name: &str, from: &Path, user: u32) -> anyhow::Result<()> {
        self.put(name, &fs::read_to_string(from)?, user)
    }

    /// Runs a program in it; what it says goes to the file `log`.
    pub(crate) fn command(&self, line: &[&str]) -> anyhow::Result<Command> {
        let log = fs::File::create(self.root.join("log"))?;
        let mut command = Command::new("chroot");
        command.arg(&self.root).args(line).stdin(Stdio::null());
        command.stdout(log.try_clone()?).stderr(log);
        Ok(command)
    }

    /// The end of what was logged, for the person who has to find out.
    pub(crate) fn log(&self) -> String {
        let text = fs::read(self.root.join("log")).unwrap_or_default();
        String::from_utf8_lossy(&text[text.len().saturating_sub(2000)..]).into_owned()
    }
}
