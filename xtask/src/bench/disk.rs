//! The file system under both spools: a real one, or the numbers mean nothing.

use std::fs;
use std::path::Path;

use anyhow::{Context, bail};
use nix::sys::statfs::{FsType, OVERLAYFS_SUPER_MAGIC, TMPFS_MAGIC, statfs};
use serde::Serialize;

/// ramfs has no name in nix: linux/magic.h.
const RAMFS_MAGIC: i64 = 0x8584_58f6;

/// Where a directory's bytes end up.
#[derive(Serialize, Clone, Debug)]
pub(crate) struct Disk {
    directory: String,
    /// Name of the file system as the kernel mounts it, such as ext4.
    pub(crate) kind: String,
    device: String,
    options: String,
}

impl Disk {
    /// Names the file system of `directory`; refuses those that never reach a disk, or reach it by
    /// a layer of their own.
    pub(crate) fn of(directory: &Path) -> anyhow::Result<Self> {
        let kind = statfs(directory)
            .with_context(|| format!("statfs {}", directory.display()))?
            .filesystem_type();
        if [TMPFS_MAGIC, OVERLAYFS_SUPER_MAGIC, FsType(RAMFS_MAGIC)].contains(&kind) {
            bail!(
                "{} lies on tmpfs, ramfs or overlay, where a sync costs nothing or something else: \
                 give --spool DIR on a real file system",
                directory.display()
            );
        }
        let directory = directory.canonicalize()?;
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        mounts
            .lines()
            .filter_map(mount)
            .filter(|(point, _)| directory.starts_with(point))
            // Of two mounts on one point the later one is seen.
            .enumerate()
            .max_by_key(|(order, (point, _))| (point.len(), *order))
            .map(|(_, (_, disk))| Self { directory: directory.display().to_string(), ..disk })
            .context("the directory is on no mounted file system")
    }
}

impl std::fmt::Display for Disk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { directory, kind, device, options } = self;
        write!(f, "{directory} on {kind} ({device}, {options})")
    }
}

/// proc_pid_mountinfo(5): `36 35 98:0 /root /point options … - kind device super-options`.
fn mount(line: &str) -> Option<(&str, Disk)> {
    let (ours, theirs) = line.split_once(" - ")?;
    let ours: Vec<&str> = ours.split(' ').collect();
    let mut theirs = theirs.split(' ');
    let disk = Disk {
        directory: String::new(),
        kind: theirs.next()?.to_owned(),
        device: theirs.next()?.to_owned(),
        options: (*ours.get(5)?).to_owned(),
    };
    Some((ours.get(4)?, disk))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_refused_and_a_disk_is_named() {
        let refused = Disk::of(Path::new("/dev/shm")).unwrap_err().to_string();
        assert!(refused.contains("--spool"), "{refused}");
        let (point, disk) =
            mount("29 1 253:0 / /srv rw,relatime shared:1 - ext4 /dev/vda rw").unwrap();
        assert_eq!((point, disk.kind.as_str()), ("/srv", "ext4"));
        assert_eq!(disk.device, "/dev/vda");
    }
}
