//! Where a body gathers while it comes in: in memory, then in an unsynced file.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use tokio::fs::File;
use tokio::io::AsyncWriteExt;
use waypost_mail::{Body, IncomingFile};
use waypost_queue::Queue;
use waypost_smtp::Reply;

use crate::budget::Room;

/// Why a body could not be kept.
#[derive(Debug, thiserror::Error)]
pub enum GatherError {
    /// The disk is filling up; see `spool.keep-free`.
    #[error("the spool's disk is nearly full while a body is being received")]
    NoSpace,
    /// The file under `incoming/` could not be written.
    #[error("cannot write a body that is being received: {0}; check the spool's disk")]
    Write(#[from] std::io::Error),
}

impl GatherError {
    /// What to tell the peer.
    pub fn reply(&self) -> Reply {
        Reply::INSUFFICIENT_STORAGE
    }
}

/// One body that is coming in. Dropping it leaves nothing behind.
#[derive(Debug)]
pub struct Gather {
    queue: Arc<Queue>,
    directory: PathBuf,
    memory: Room,
    file: Option<(File, IncomingFile)>,
    len: u64,
    /// The length at which the disk is looked at next.
    look_at: u64,
}

/// How many octets go to the disk between two looks at what is free there.
const BETWEEN_LOOKS: u64 = 1024 * 1024;

impl Gather {
    pub(crate) fn new(queue: Arc<Queue>, directory: PathBuf, memory: Room) -> Gather {
        Gather { queue, directory, memory, file: None, len: 0, look_at: 0 }
    }

    /// Octets so far.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// True before the first octet.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds a piece.
    ///
    /// # Errors
    /// When the disk is full or fails; the body is lost then and the message must be refused.
    pub async fn push(&mut self, chunk: Bytes) -> Result<(), GatherError> {
        self.len += chunk.len() as u64;
        if self.file.is_none() && self.memory.push(&chunk) {
            return Ok(());
        }
        // The look at MAIL is long ago: bodies that never end must not fill the disk.
        if self.len >= self.look_at {
            self.look_at = self.len + BETWEEN_LOOKS;
            self.queue.accepting().map_err(|_| GatherError::NoSpace)?;
        }
        let file = self.spill().await?;
        file.write_all(&chunk).await?;
        Ok(())
    }

    /// The whole body.
    ///
    /// # Errors
    /// As [`Gather::push`].
    pub async fn finish(mut self) -> Result<Body, GatherError> {
        match self.file.take() {
            None => Ok(Body::Memory(self.memory.freeze())),
            Some((mut file, incoming)) => {
                file.flush().await?;
                Ok(Body::File { file: incoming, offset: 0, len: self.len })
            }
        }
    }

    /// The file, made now if there was none, with everything so far in it.
    async fn spill(&mut self) -> Result<&mut File, GatherError> {
        if self.file.is_none() {
            let path = self.directory.join(format!("{:032x}", rand::random::<u128>()));
            let mut file = File::create_new(&path).await?;
            let incoming = IncomingFile::new(path);
            file.write_all(&self.memory.take()).await?;
            self.file = Some((file, incoming));
        }
        match &mut self.file {
            Some((file, _)) => Ok(file),
            None => Err(GatherError::Write(std::io::ErrorKind::NotFound.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use waypost_mail::{ManualClock, Timestamp};
    use waypost_spool::MemorySpool;

    use super::*;
    use crate::budget::Budget;

    async fn gather_on(
        spool: Arc<MemorySpool>,
        directory: &std::path::Path,
        limit: usize,
    ) -> Gather {
        let clock = Arc::new(ManualClock::at(Timestamp(1)));
        let config = waypost_queue::Config::default();
        let queue = Queue::open(spool, config, clock, 1).await.unwrap();
        Gather::new(queue, directory.to_owned(), Budget::new(1 << 20).room(limit))
    }

    async fn gather(directory: &std::path::Path, limit: usize) -> Gather {
        gather_on(Arc::new(MemorySpool::new()), directory, limit).await
    }

    #[tokio::test]
    async fn a_body_that_comes_while_the_disk_fills_up_is_put_off() {
        let directory = tempfile::tempdir().unwrap();
        let spool = Arc::new(MemorySpool::new());
        let mut gather = gather_on(spool.clone(), directory.path(), 10).await;
        let piece = Bytes::from(vec![b'x'; 600 * 1024]);
        gather.push(piece.clone()).await.unwrap();
        spool.set_full(true);
        gather.push(piece.clone()).await.unwrap();
        assert!(matches!(gather.push(piece).await, Err(GatherError::NoSpace)));
    }

    #[tokio::test]
    async fn large_bodies_move_to_a_file_and_vanish_with_their_owner() {
        let directory = tempfile::tempdir().unwrap();
        let mut gather = gather(directory.path(), 10).await;
        for _ in 0..3 {
            gather.push(Bytes::from_static(b"0123456789")).await.unwrap();
        }
        let body = gather.finish().await.unwrap();
        let Body::File { ref file, len: 30, .. } = body else { panic!("{body:?}") };
        assert_eq!(std::fs::read(file.path()).unwrap(), b"0123456789".repeat(3));
        drop(body);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn small_bodies_stay_in_memory() {
        let mut gather = gather("/nonexistent".as_ref(), 10).await;
        gather.push(Bytes::from_static(b"0123456789")).await.unwrap();
        assert!(matches!(gather.finish().await.unwrap(), Body::Memory(b) if b.len() == 10));
    }

    #[tokio::test]
    async fn a_failing_disk_is_an_error_and_no_panic() {
        let mut gather = gather("/nonexistent".as_ref(), 1).await;
        assert!(gather.push(Bytes::from_static(b"0123456789")).await.is_err());
    }
}
