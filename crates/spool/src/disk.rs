//! The seam between the log and the file system: few operations, whose errors and crashes another
//! implementation can choose. sled keeps its files by itself.

use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use nix::sys::statvfs::statvfs;

/// A file system as the log uses it. What a name in a directory stands for is durable after
/// [`Disk::sync_dir`], what is in a file after [`DiskFile::sync_data`] or [`DiskFile::sync_all`].
pub trait Disk: Send + Sync + fmt::Debug {
    /// A file that is there, to be read.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;
    /// A file that is there, to be read and written at its end.
    fn extend(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;
    /// An empty file, for nobody but its owner, to be read and written at its end. One that is
    /// there already is emptied, or is an error when this one must be `new`.
    fn create(&self, path: &Path, new: bool) -> io::Result<Arc<dyn DiskFile>>;
    /// Takes a name away.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Gives a file another name, in the place of any other.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Gives a file another name besides; fails when that is taken.
    fn link(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// The names in a directory, in any order.
    fn names(&self, dir: &Path) -> io::Result<Vec<OsString>>;
    /// Makes a directory and those above it, for nobody but their owner; one that is there stays.
    fn make_dir(&self, dir: &Path) -> io::Result<()>;
    /// Makes the names in a directory durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Octets that may still be written.
    fn free(&self, dir: &Path) -> io::Result<u64>;
}

/// A file that is open.
#[expect(clippy::len_without_is_empty, reason = "nobody asks whether a file is empty")]
pub trait DiskFile: Send + Sync + fmt::Debug {
    /// Octets from `offset` on, at most as many as `bytes` has room for; none at the end.
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes at the end, possibly less than all.
    fn append(&self, bytes: &[u8]) -> io::Result<usize>;
    /// Octets in it.
    fn len(&self) -> io::Result<u64>;
    /// Cuts it off.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Makes its octets and its length durable.
    fn sync_data(&self) -> io::Result<()>;
    /// Makes all about it durable, but for its name.
    fn sync_all(&self) -> io::Result<()>;

    /// All of `bytes`, or an error of kind `UnexpectedEof`.
    fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        let mut done = 0;
        while done < bytes.len() {
            match self.read_at(&mut bytes[done..], offset + done as u64) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Writes all of `bytes` at the end.
    fn append_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.append(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// The file system of this machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(RealFile(File::open(path)?)))
    }

    fn extend(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(RealFile(OpenOptions::new().read(true).append(true).open(path)?)))
    }

    fn create(&self, path: &Path, new: bool) -> io::Result<Arc<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        options.read(true).append(true).create(true).create_new(new).mode(0o600);
        let file = options.open(path)?;
        file.set_len(0)?;
        Ok(Arc::new(RealFile(file)))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::hard_link(from, to)
    }

    fn names(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        fs::read_dir(dir)?.map(|item| Ok(item?.file_name())).collect()
    }

    fn make_dir(&self, dir: &Path) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn free(&self, dir: &Path) -> io::Result<u64> {
        let stat = statvfs(dir)?;
        #[allow(clippy::useless_conversion, reason = "the types differ between systems")]
        let blocks = u64::from(stat.blocks_available());
        #[allow(clippy::useless_conversion, reason = "the types differ between systems")]
        Ok(blocks.saturating_mul(u64::from(stat.fragment_size())))
    }
}

/// A file of this machine.
#[derive(Debug)]
struct RealFile(File);

impl DiskFile for RealFile {
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(bytes, offset)
    }

    fn append(&self, bytes: &[u8]) -> io::Result<usize> {
        io::Write::write(&mut &self.0, bytes)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.0.sync_all()
    }
}

/// A file written at its end through a buffer.
#[derive(Debug)]
pub(crate) struct Appender(pub(crate) Arc<dyn DiskFile>);

impl io::Write for Appender {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.append(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Makes a file with what is in another up to `len` octets.
pub(crate) fn copy(disk: &dyn Disk, from: &dyn DiskFile, to: &Path, len: u64) -> io::Result<()> {
    let copy = disk.create(to, false)?;
    let mut piece = vec![0; 256 * 1024];
    let mut done = 0;
    while done < len {
        let want = piece.len().min((len - done) as usize);
        let count = from.read_at(&mut piece[..want], done)?;
        if count == 0 {
            break;
        }
        copy.append_all(&piece[..count])?;
        done += count as u64;
    }
    copy.sync_all()
}
