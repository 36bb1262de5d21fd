//! A disk in memory that forgets, as real ones do, what was not synced.
//!
//! What is written is seen at once and durable after a sync of the file; a name is durable after a
//! sync of its directory. A [loss of power](SimDisk::lose_power) keeps, drops, tears (at 512 octets)
//! and reorders the rest. Any operation can be made the last one before
//! the power goes or the program is killed, or to fail.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rand::Rng;
use rand::rngs::StdRng;
use waypost_spool::{Disk, DiskFile};

/// What a disk writes whole or not at all.
const SECTOR: usize = 512;
const EIO: i32 = 5;
const ENOSPC: i32 = 28;

/// A simulated disk. Clones are the same disk.
#[derive(Debug, Clone, Default)]
pub struct SimDisk(Arc<Mutex<Platter>>);

/// What an operation does to the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Octets or names are read.
    Read,
    /// Octets are appended, a file is cut, a name changes.
    Write,
    /// A file or a directory is synced.
    Sync,
}

/// An operation that is going to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Fault {
    operation: Operation,
    /// So many operations of the kind succeed before.
    after: u32,
    /// Of a failed sync: what was to be synced never will be, though it is still seen.
    forgets: bool,
}

/// What ends in the middle of everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The machine: its power goes.
    OfMachine,
    /// The program: it is killed.
    OfProgram,
}

/// When it ends.
#[derive(Debug, Clone, Copy)]
struct Outage {
    after: u32,
    /// The last operation takes effect, though nobody hears of it.
    takes_effect: bool,
    end: End,
}

#[derive(Debug, Default)]
struct Platter {
    nodes: BTreeMap<u64, Node>,
    names: BTreeMap<PathBuf, u64>,
    kept_names: BTreeMap<PathBuf, u64>,
    /// Changes of names that no sync has made durable, in order.
    changes: Vec<NameChange>,
    dirs: BTreeSet<PathBuf>,
    next: u64,
    capacity: Option<u64>,
    fault: Option<Fault>,
    outage: Option<Outage>,
    off: Option<End>,
    /// Files opened before the last loss of power are of no use.
    life: u64,
    operations: u64,
    /// Somebody looks who is not there: nothing is counted and nothing fails.
    observed: bool,
}

/// Names that change together.
#[derive(Debug, Clone)]
struct NameChange(Vec<(PathBuf, Option<u64>)>);

#[derive(Debug, Default, Clone)]
struct Node {
    bytes: Vec<u8>,
    kept: Vec<u8>,
    unsynced: Vec<Change>,
}

#[derive(Debug, Clone)]
enum Change {
    Write { at: usize, bytes: Vec<u8> },
    Cut(usize),
}

/// What a loss of power does to all that is not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    Keep,
    Drop,
    /// What came first is kept, then something is torn.
    Tear,
    /// Sector by sector, in any order.
    Scatter,
}

impl SimDisk {
    /// An empty disk without a limit.
    pub fn new() -> SimDisk {
        SimDisk::default()
    }

    /// At most so many octets in all; no limit without.
    pub fn set_capacity(&self, capacity: Option<u64>) {
        self.platter().capacity = capacity;
    }

    /// True when there is a limit.
    pub fn is_limited(&self) -> bool {
        self.platter().capacity.is_some()
    }

    /// Octets in all files.
    pub fn used(&self) -> u64 {
        self.platter().used()
    }

    /// Lets an operation of this kind fail with EIO, after so many that succeed.
    pub fn fail(&self, operation: Operation, after: u32, forgets: bool) {
        self.platter().fault = Some(Fault { operation, after, forgets });
    }

    /// Nothing fails any more, until told otherwise.
    pub fn mend(&self) {
        let mut platter = self.platter();
        (platter.fault, platter.outage) = (None, None);
    }

    /// True when a fault is still to come.
    pub fn is_fault_armed(&self) -> bool {
        self.platter().fault.is_some()
    }

    /// It ends at an operation, after so many more.
    pub fn end_after(&self, end: End, after: u32, takes_effect: bool) {
        self.platter().outage = Some(Outage { after, takes_effect, end });
    }

    /// What has ended, if anything: every operation fails then.
    pub fn ended(&self) -> Option<End> {
        self.platter().off
    }

    /// How often the disk was asked for something.
    pub fn operations(&self) -> u64 {
        self.platter().operations
    }

    /// Looks at the disk, or at what stands on it, without being noticed.
    pub fn observe<T>(&self, look: impl FnOnce() -> T) -> T {
        self.platter().observed = true;
        let seen = look();
        self.platter().observed = false;
        seen
    }

    /// Counts something that the index does on this disk.
    ///
    /// # Errors
    /// When it is to fail.
    pub fn touch(&self, operation: Operation) -> io::Result<()> {
        self.platter().begin(operation).map(drop)
    }

    /// The power is lost and comes back: only what was synced is sure to be there.
    pub fn lose_power(&self, random: &mut StdRng) {
        let mut platter = self.platter();
        let platter = &mut *platter;
        let manner = Manner::any(random);
        let changes = std::mem::take(&mut platter.changes);
        let kept = manner.part_of(changes.len(), random);
        for (change, kept) in changes.into_iter().zip(kept) {
            if kept {
                change.apply(&mut platter.kept_names);
            }
        }
        platter.names = platter.kept_names.clone();
        let named: BTreeSet<u64> = platter.names.values().copied().collect();
        platter.nodes.retain(|node, _| named.contains(node));
        for node in platter.nodes.values_mut() {
            node.lose_power(Manner::any(random), random);
        }
        (platter.fault, platter.outage, platter.off) = (None, None, None);
        platter.life += 1;
    }

    /// The program is gone, the machine goes on: what was written is there, synced or not.
    pub fn outlive_program(&self) {
        let mut platter = self.platter();
        (platter.fault, platter.outage, platter.off) = (None, None, None);
        platter.life += 1;
    }

    fn platter(&self) -> MutexGuard<'_, Platter> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn file(&self, life: u64, node: u64) -> Arc<dyn DiskFile> {
        Arc::new(SimFile { disk: self.clone(), life, node })
    }
}

impl Manner {
    fn any(random: &mut StdRng) -> Manner {
        match random.random_range(0..4) {
            0 => Manner::Keep,
            1 => Manner::Drop,
            2 => Manner::Tear,
            _ => Manner::Scatter,
        }
    }

    /// Which of so many changes are kept whole.
    fn part_of(self, count: usize, random: &mut StdRng) -> Vec<bool> {
        let first = random.random_range(0..=count);
        let kept = |at: usize, random: &mut StdRng| match self {
            Manner::Keep => true,
            Manner::Drop => false,
            Manner::Tear => at < first,
            Manner::Scatter => random.random(),
        };
        (0..count).map(|at| kept(at, random)).collect()
    }
}

impl NameChange {
    fn apply(self, names: &mut BTreeMap<PathBuf, u64>) {
        for (path, node) in self.0 {
            match node {
                Some(node) => names.insert(path, node),
                None => names.remove(&path),
            };
        }
    }

    fn is_in(&self, dir: &Path) -> bool {
        self.0.iter().any(|(path, _)| path.parent() == Some(dir))
    }
}

impl Node {
    fn lose_power(&mut self, manner: Manner, random: &mut StdRng) {
        let changes = std::mem::take(&mut self.unsynced);
        let whole = manner.part_of(changes.len(), random);
        let torn = whole.iter().position(|kept| !kept).filter(|_| manner == Manner::Tear);
        for (at, (change, kept)) in changes.into_iter().zip(whole).enumerate() {
            match change {
                change if kept => change.apply(&mut self.kept),
                Change::Write { at: start, bytes } if Some(at) == torn => {
                    let sectors = sectors(start, bytes.len());
                    let count = random.random_range(0..=sectors.len());
                    for (from, to) in sectors.into_iter().take(count) {
                        write(&mut self.kept, start + from, &bytes[from..to]);
                    }
                }
                Change::Write { at: start, bytes } if manner == Manner::Scatter => {
                    for (from, to) in sectors(start, bytes.len()) {
                        if random.random() {
                            write(&mut self.kept, start + from, &bytes[from..to]);
                        }
                    }
                }
                Change::Write { .. } | Change::Cut(_) => {}
            }
        }
        self.bytes = self.kept.clone();
    }

    fn change(&mut self, change: Change) {
        change.clone().apply(&mut self.bytes);
        self.unsynced.push(change);
    }

    fn sync(&mut self) {
        for change in std::mem::take(&mut self.unsynced) {
            change.apply(&mut self.kept);
        }
    }
}

impl Change {
    fn apply(self, bytes: &mut Vec<u8>) {
        match self {
            Change::Write { at, bytes: new } => write(bytes, at, &new),
            Change::Cut(len) => bytes.resize(len, 0),
        }
    }
}

/// Writes at a place, with zeros in a hole before it.
fn write(bytes: &mut Vec<u8>, at: usize, new: &[u8]) {
    let end = at + new.len();
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    bytes[at..end].copy_from_slice(new);
}

/// A write cut where sectors end.
fn sectors(start: usize, len: usize) -> Vec<(usize, usize)> {
    let mut cuts = Vec::new();
    let mut from = 0;
    while from < len {
        let to = len.min((start + from) / SECTOR * SECTOR + SECTOR - start);
        cuts.push((from, to));
        from = to;
    }
    cuts
}

/// How an operation that was let through ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Works,
    /// It has its effect; then the power is gone.
    LastWords,
}

impl Platter {
    fn used(&self) -> u64 {
        self.names
            .values()
            .filter_map(|node| self.nodes.get(node))
            .map(|n| n.bytes.len() as u64)
            .sum()
    }

    fn begin(&mut self, operation: Operation) -> io::Result<Verdict> {
        if self.off.is_some() {
            return Err(power_is_off());
        }
        if self.observed {
            return Ok(Verdict::Works);
        }
        self.operations += 1;
        if let Some(outage) = &mut self.outage {
            if outage.after == 0 {
                let takes_effect = outage.takes_effect;
                self.off = Some(outage.end);
                return if takes_effect { Ok(Verdict::LastWords) } else { Err(power_is_off()) };
            }
            outage.after -= 1;
        }
        if let Some(fault) = &mut self.fault
            && fault.operation == operation
            && operation != Operation::Sync
        {
            if fault.after == 0 {
                self.fault = None;
                return Err(io::Error::from_raw_os_error(EIO));
            }
            fault.after -= 1;
        }
        Ok(Verdict::Works)
    }

    /// The fault that a sync meets, if any.
    fn sync_fault(&mut self) -> Option<Fault> {
        let fault = self.fault.as_mut().filter(|fault| fault.operation == Operation::Sync)?;
        if fault.after > 0 {
            fault.after -= 1;
            return None;
        }
        self.fault.take()
    }

    fn rename(&mut self, change: NameChange) {
        change.clone().apply(&mut self.names);
        self.changes.push(change);
    }

    fn named(&self, path: &Path) -> io::Result<u64> {
        self.names.get(path).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Verdict {
    fn after<T>(self, value: T) -> io::Result<T> {
        match self {
            Verdict::Works => Ok(value),
            Verdict::LastWords => Err(power_is_off()),
        }
    }
}

fn power_is_off() -> io::Error {
    io::Error::other("the power is off")
}

impl Disk for SimDisk {
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut platter = self.platter();
        let verdict = platter.begin(Operation::Read)?;
        let node = platter.named(path)?;
        verdict.after(self.file(platter.life, node))
    }

    fn extend(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.open(path)
    }

    fn create(&self, path: &Path, new: bool) -> io::Result<Arc<dyn DiskFile>> {
        let mut platter = self.platter();
        let verdict = platter.begin(Operation::Write)?;
        let node = match platter.named(path) {
            Ok(_) if new => return Err(io::ErrorKind::AlreadyExists.into()),
            Ok(node) => {
                if let Some(node) = platter.nodes.get_mut(&node) {
                    node.change(Change::Cut(0));
                }
                node
            }
            Err(_) => {
                let node = platter.next;
                platter.next += 1;
                platter.nodes.insert(node, Node::default());
                platter.rename(NameChange(vec![(path.to_owned(), Some(node))]));
                node
            }
        };
        verdict.after(self.file(platter.life, node))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut platter = self.platter();
        let verdict = platter.begin(Operation::Write)?;
        platter.named(path)?;
        platter.rename(NameChange(vec![(path.to_owned(), None)]));
        verdict.after(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut platter = self.platter();
        let verdict = platter.begin(Operation::Write)?;
        let node = platter.named(from)?;
        platter.rename(NameChange(vec![(from.to_owned(), None), (to.to_owned(), Some(node))]));
        verdict.after(())
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut platter = self.platter();
        let verdict = platter.begin(Operation::Write)?;
        let node = platter.named(from)?;
        if platter.named(to).is_ok() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        platter.rename(NameChange(vec![(to.to_owned(), Some(node))]));
        verdict.after(())
    }

    fn names(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        let mut platter = self.platter();
        let verdict = platter.begin(Operation::Read)?;
        if !platter.dirs.contains(dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let inside = platter.names.keys().filter(|path| path.parent() == Some(dir));
        let names = inside.filter_map(|path| path.file_name()).map(ToOwned::to_owned).collect();
        verdict.after(names)
    }

    fn make_dir(&self, dir: &Path) -> io::Result<()> {
        let mut platter = self.platter();
        let verdict = platter.begin(Operation::Write)?;
        platter.dirs.extend(dir.ancestors().map(ToOwned::to_owned));
        verdict.after(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut platter = self.platter();
        let verdict = platter.begin(Operation::Sync)?;
        if platter.sync_fault().is_some() {
            return Err(io::Error::from_raw_os_error(EIO));
        }
        let changes = std::mem::take(&mut platter.changes);
        let (synced, left) = changes.into_iter().partition(|change| change.is_in(dir));
        platter.changes = left;
        let synced: Vec<NameChange> = synced;
        synced.into_iter().for_each(|change| change.apply(&mut platter.kept_names));
        verdict.after(())
    }

    fn free(&self, _dir: &Path) -> io::Result<u64> {
        let mut platter = self.platter();
        let verdict = platter.begin(Operation::Read)?;
        let used = platter.used();
        verdict.after(platter.capacity.map_or(u64::MAX / 4, |all| all.saturating_sub(used)))
    }
}

/// An open file.
#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    life: u64,
    node: u64,
}

impl SimFile {
    /// Does something with what is in the file; a removed one can still be read.
    fn with<T>(
        &self,
        operation: Operation,
        act: impl FnOnce(&mut Node, Option<u64>) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut platter = self.disk.platter();
        if platter.life != self.life {
            return Err(power_is_off());
        }
        let verdict = platter.begin(operation)?;
        let fault = if operation == Operation::Sync { platter.sync_fault() } else { None };
        let room = platter.capacity.map(|all| all.saturating_sub(platter.used()));
        let node = platter.nodes.get_mut(&self.node).ok_or(io::ErrorKind::NotFound)?;
        if let Some(fault) = fault {
            if fault.forgets {
                node.unsynced.clear();
            }
            return Err(io::Error::from_raw_os_error(EIO));
        }
        verdict.after(act(node, room)?)
    }

    fn sync(&self) -> io::Result<()> {
        self.with(Operation::Sync, |node, _| {
            node.sync();
            Ok(())
        })
    }
}

impl DiskFile for SimFile {
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        self.with(Operation::Read, |node, _| {
            let start = node.bytes.len().min(offset as usize);
            let count = bytes.len().min(node.bytes.len() - start);
            bytes[..count].copy_from_slice(&node.bytes[start..start + count]);
            Ok(count)
        })
    }

    fn append(&self, bytes: &[u8]) -> io::Result<usize> {
        self.with(Operation::Write, |node, room| {
            let count = room.map_or(bytes.len(), |room| bytes.len().min(room as usize));
            if count == 0 && !bytes.is_empty() {
                return Err(io::Error::from_raw_os_error(ENOSPC));
            }
            let at = node.bytes.len();
            node.change(Change::Write { at, bytes: bytes[..count].to_vec() });
            Ok(count)
        })
    }

    fn len(&self) -> io::Result<u64> {
        self.with(Operation::Read, |node, _| Ok(node.bytes.len() as u64))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.with(Operation::Write, |node, _| {
            node.change(Change::Cut(len as usize));
            Ok(())
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.sync()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync()
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    /// What of a file is there after the power was lost, for many seeds.
    fn survivors(prepare: impl Fn(&SimDisk)) -> BTreeSet<Option<Vec<u8>>> {
        let survivor = |seed| {
            let disk = SimDisk::new();
            disk.make_dir(Path::new("/d")).unwrap();
            prepare(&disk);
            disk.lose_power(&mut StdRng::seed_from_u64(seed));
            let file = disk.open(Path::new("/d/f")).ok()?;
            let mut bytes = vec![0; file.len().unwrap() as usize];
            file.read_exact_at(&mut bytes, 0).unwrap();
            Some(bytes)
        };
        (0..200).map(survivor).collect()
    }

    #[test]
    fn only_what_is_synced_is_sure() {
        let path = Path::new("/d/f");
        let all = survivors(|disk| {
            let file = disk.create(path, true).unwrap();
            file.append_all(b"synced").unwrap();
            file.sync_data().unwrap();
            disk.sync_dir(Path::new("/d")).unwrap();
            file.append_all(b" or not").unwrap();
        });
        let seen: Vec<_> = all.into_iter().flatten().collect();
        assert_eq!(seen, [b"synced".to_vec(), b"synced or not".to_vec()]);
        let nameless = survivors(|disk| {
            let file = disk.create(path, true).unwrap();
            file.append_all(b"synced").unwrap();
            file.sync_all().unwrap();
        });
        assert!(nameless.contains(&None) && nameless.contains(&Some(b"synced".to_vec())));
    }

    #[test]
    fn writes_are_torn_at_sectors_and_reordered() {
        let all = survivors(|disk| {
            let file = disk.create(Path::new("/d/f"), true).unwrap();
            disk.sync_dir(Path::new("/d")).unwrap();
            file.append_all(&[1; 700]).unwrap();
            file.append_all(&[2; 700]).unwrap();
        });
        let all: Vec<Vec<u8>> = all.into_iter().flatten().collect();
        assert!(all.iter().any(|bytes| bytes.len() == 512), "torn");
        assert!(all.iter().any(|bytes| bytes.starts_with(&[0; 512]) && bytes.len() > 700), "holes");
        assert!(all.iter().any(Vec::is_empty) && all.iter().any(|bytes| bytes.len() == 1400));
    }

    #[test]
    fn a_failed_sync_may_forget_and_a_full_disk_takes_a_part() {
        let disk = SimDisk::new();
        disk.make_dir(Path::new("/d")).unwrap();
        let file = disk.create(Path::new("/d/f"), true).unwrap();
        disk.sync_dir(Path::new("/d")).unwrap();
        file.append_all(b"gone").unwrap();
        disk.fail(Operation::Sync, 0, true);
        assert!(file.sync_data().is_err());
        assert!(file.sync_data().is_ok());
        disk.set_capacity(Some(6));
        assert_eq!(file.append(b"abc").unwrap(), 2);
        assert_eq!(file.append(b"c").unwrap_err().kind(), io::ErrorKind::StorageFull);
        file.set_len(0).unwrap();
        disk.lose_power(&mut StdRng::seed_from_u64(1));
        assert!(file.len().is_err(), "a file of the life before");
        let again = disk.open(Path::new("/d/f")).unwrap();
        let mut bytes = vec![0; again.len().unwrap() as usize];
        again.read_exact_at(&mut bytes, 0).unwrap();
        assert!(!bytes.starts_with(b"gone"));
    }
}
