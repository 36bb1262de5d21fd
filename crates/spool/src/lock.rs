//! One program to a spool.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::config::OpenError;

/// How long a program waits for those who only look into its spool.
const LOOKERS: Duration = Duration::from_secs(60);
/// How often it tries meanwhile.
const AGAIN: Duration = Duration::from_millis(20);

/// Holds the spool until it is dropped, or the process ends in any way.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: Flock<File>,
}

impl Lock {
    /// For a program: nobody else has the spool. Waits for those who look into it, so that a look
    /// at the wrong moment keeps no relay from starting.
    pub(crate) fn take(dir: &Path) -> Result<Lock, OpenError> {
        let path = dir.join("lock");
        let mut file = open(&path)?;
        for _ in 0..LOOKERS.as_millis() / AGAIN.as_millis() {
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(mut file) => {
                    let pid = format!("{}\n", std::process::id());
                    let written = file.set_len(0).and_then(|()| file.write_all(pid.as_bytes()));
                    written.map_err(OpenError::io("writing", &path))?;
                    return Ok(Lock { _file: file });
                }
                Err((there, Errno::EWOULDBLOCK)) => file = there,
                Err((_, errno)) => return Err(OpenError::io("locking", &path)(errno.into())),
            }
            drop(Lock::share(dir)?);
            std::thread::sleep(AGAIN);
        }
        Err(taken(dir, file))
    }

    /// For those who only look: no program has the spool, others may look too.
    pub(crate) fn share(dir: &Path) -> Result<Lock, OpenError> {
        let path = dir.join("lock");
        match Flock::lock(open(&path)?, FlockArg::LockSharedNonblock) {
            Ok(file) => Ok(Lock { _file: file }),
            Err((file, Errno::EWOULDBLOCK)) => Err(taken(dir, file)),
            Err((_, errno)) => Err(OpenError::io("locking", &path)(errno.into())),
        }
    }
}

fn open(path: &Path) -> Result<File, OpenError> {
    let mut options = OpenOptions::new();
    let options = options.read(true).write(true).create(true).truncate(false).mode(0o600);
    options.open(path).map_err(OpenError::io("opening", path))
}

fn taken(dir: &Path, mut file: File) -> OpenError {
    let mut pid = String::new();
    let _ = file.read_to_string(&mut pid);
    OpenError::Locked { path: dir.to_owned(), pid: pid.trim().to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_waits_for_a_look_and_not_for_another_program() {
        let dir = tempfile::tempdir().unwrap();
        let look = Lock::share(dir.path()).unwrap();
        let another = Lock::share(dir.path()).unwrap();
        std::thread::scope(|scope| {
            let program = scope.spawn(|| Lock::take(dir.path()).map(drop));
            std::thread::sleep(AGAIN * 3);
            assert!(!program.is_finished());
            drop((look, another));
            assert!(program.join().unwrap().is_ok());
        });
        let program = Lock::take(dir.path()).unwrap();
        let pid = std::process::id().to_string();
        for refused in [Lock::take(dir.path()), Lock::share(dir.path())] {
            assert!(matches!(refused, Err(OpenError::Locked { pid: p, .. }) if p == pid));
        }
        drop(program);
        Lock::take(dir.path()).unwrap();
    }
}
