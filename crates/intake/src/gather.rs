//! Where a body gathers while it comes in: in memory, then in an unsynced file.

use std::path::PathBuf;

use bytes::{Bytes, BytesMut};
use tokio::fs::File;
use tokio::io::AsyncWriteExt;
use waypost_mail::{Body, IncomingFile};
use waypost_smtp::Reply;

/// Why a body could not be kept.
#[derive(Debug, thiserror::Error)]
pub enum GatherError {
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
    directory: PathBuf,
    memory_limit: usize,
    memory: BytesMut,
    file: Option<(File, IncomingFile)>,
    len: u64,
}

impl Gather {
    pub(crate) fn new(directory: PathBuf, memory_limit: usize) -> Gather {
        Gather { directory, memory_limit, memory: BytesMut::new(), file: None, len: 0 }
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
        if self.file.is_none() && self.memory.len() + chunk.len() <= self.memory_limit {
            self.memory.extend_from_slice(&chunk);
            return Ok(());
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
            file.write_all(&std::mem::take(&mut self.memory)).await?;
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
    use super::*;

    #[tokio::test]
    async fn large_bodies_move_to_a_file_and_vanish_with_their_owner() {
        let directory = tempfile::tempdir().unwrap();
        let mut gather = Gather::new(directory.path().to_owned(), 10);
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
        let mut gather = Gather::new("/nonexistent".into(), 10);
        gather.push(Bytes::from_static(b"0123456789")).await.unwrap();
        assert!(matches!(gather.finish().await.unwrap(), Body::Memory(b) if b.len() == 10));
    }

    #[tokio::test]
    async fn a_failing_disk_is_an_error_and_no_panic() {
        let mut gather = Gather::new("/nonexistent".into(), 1);
        assert!(gather.push(Bytes::from_static(b"0123456789")).await.is_err());
    }
}
