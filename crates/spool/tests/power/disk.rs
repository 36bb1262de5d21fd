//! What a disk may hold when power fails: everything synced, and of everything else whatever
//! chance leaves.
//!
//! A write lasts after an fsync or fdatasync of its file that began when the write had ended; a
//! name lasts after such an fsync of its directory; sync_file_range makes nothing last.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use rand::Rng;
use rand::rngs::StdRng;

use super::recorder::{Call, Step, Trace};

const SECTOR: usize = 512;
const ROOT: usize = 0;

type Names = BTreeMap<OsString, usize>;

/// A disk with all that was asked of it.
#[derive(Debug)]
pub struct Disk {
    root: PathBuf,
    nodes: Vec<Node>,
    descriptors: HashMap<i32, Descriptor>,
    /// By running sync: the node and the calls whose changes it covers.
    syncs: HashMap<usize, (usize, Vec<usize>)>,
}

#[derive(Debug)]
struct Descriptor {
    node: usize,
    position: u64,
    append: bool,
}

#[derive(Debug)]
enum Node {
    File { durable: Vec<u8>, pending: Vec<Pending<Change>>, len: u64 },
    Dir { durable: Names, pending: Vec<Pending<Naming>>, live: Names },
}

/// Something that was not synced.
#[derive(Debug)]
struct Pending<T> {
    call: usize,
    ended: bool,
    what: T,
}

#[derive(Debug)]
enum Change {
    Write { at: u64, data: Arc<Vec<u8>> },
    Size(u64),
    AtLeast(u64),
}

/// Names that change together.
type Naming = Vec<(OsString, Option<usize>)>;

/// How much of what was not synced is left of one file or directory.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Chance {
    Nothing,
    Everything,
    Beginning(usize),
    Some,
    Sectors,
}

impl Chance {
    fn draw(rng: &mut StdRng, count: usize) -> Chance {
        match rng.random_range(0..10) {
            0..=3 => Chance::Nothing,
            4 => Chance::Everything,
            5 => Chance::Beginning(rng.random_range(0..=count)),
            6 | 7 => Chance::Some,
            _ => Chance::Sectors,
        }
    }

    fn keeps(self, rng: &mut StdRng, number: usize) -> bool {
        match self {
            Chance::Nothing => false,
            Chance::Everything | Chance::Sectors => true,
            Chance::Beginning(count) => number < count,
            Chance::Some => rng.random(),
        }
    }
}

impl Disk {
    /// A disk whose directory `root` holds what `start` does, all of it synced.
    pub fn new(root: &Path, start: &Path) -> Disk {
        let mut disk = Disk {
            root: root.to_owned(),
            nodes: Vec::new(),
            descriptors: HashMap::new(),
            syncs: HashMap::new(),
        };
        disk.load(start);
        disk
    }

    fn load(&mut self, path: &Path) -> usize {
        let id = self.nodes.len();
        if path.is_dir() {
            self.nodes.push(Node::dir(Names::new()));
            let mut names = Names::new();
            for file in fs::read_dir(path).unwrap() {
                let file = file.unwrap();
                names.insert(file.file_name(), self.load(&file.path()));
            }
            self.nodes[id] = Node::dir(names);
        } else {
            let durable = fs::read(path).unwrap();
            let len = durable.len() as u64;
            self.nodes.push(Node::File { durable, pending: Vec::new(), len });
        }
        id
    }

    pub fn step(&mut self, trace: &Trace, step: Step) {
        match step {
            Step::Begin(number) => self.begin(number, &trace.calls[number]),
            Step::End(number) => self.end(number, &trace.calls[number]),
        }
    }

    fn begin(&mut self, number: usize, call: &Call) {
        match call {
            Call::Open { path, create, truncate, .. } => {
                if *create && self.find(path).is_none() {
                    let node = Node::File { durable: vec![], pending: vec![], len: 0 };
                    self.add(number, path, node);
                } else if *truncate {
                    self.change(number, self.at(path), Change::Size(0));
                }
            }
            Call::Close { fd } => drop(self.descriptors.remove(fd)),
            Call::Write { fd, at, data } => {
                let descriptor = self.descriptors.get_mut(fd).expect("an open file is written");
                let node = descriptor.node;
                let Node::File { len, .. } = &self.nodes[node] else { panic!("a directory") };
                let at = at.unwrap_or_else(|| {
                    let from = if descriptor.append { *len } else { descriptor.position };
                    descriptor.position = from + data.len() as u64;
                    from
                });
                self.change(number, node, Change::Write { at, data: data.clone() });
            }
            Call::Seek { fd, to } => {
                if let Some(descriptor) = self.descriptors.get_mut(fd) {
                    descriptor.position = *to;
                }
            }
            Call::Size { path, len } => self.change(number, self.at(path), Change::Size(*len)),
            Call::Allocate { path, end } => {
                self.change(number, self.at(path), Change::AtLeast(*end));
            }
            Call::Sync { path } => {
                let node = self.at(path);
                self.syncs.insert(number, (node, self.nodes[node].ended()));
            }
            Call::Rename { from, to } => {
                let node = self.at(from);
                let ((dir, name), (to_dir, to_name)) = (self.parent(from), self.parent(to));
                assert_eq!(dir, to_dir, "no rename between directories is known here");
                self.name(number, dir, vec![(name, None), (to_name, Some(node))]);
            }
            Call::Link { from, to } => {
                let (node, (dir, name)) = (self.at(from), self.parent(to));
                self.name(number, dir, vec![(name, Some(node))]);
            }
            Call::Unlink { path } => {
                let (dir, name) = self.parent(path);
                self.name(number, dir, vec![(name, None)]);
            }
            Call::MakeDir { path } => self.add(number, path, Node::dir(Names::new())),
            Call::SyncRange { .. } | Call::Say(_) => {}
        }
    }

    fn end(&mut self, number: usize, call: &Call) {
        match call {
            Call::Open { path, append, fd, .. } => {
                // It may have lost its name to another thread meanwhile.
                if let Some(node) = self.find(path) {
                    let descriptor = Descriptor { node, position: 0, append: *append };
                    self.descriptors.insert(*fd, descriptor);
                }
            }
            Call::Sync { .. } => {
                if let Some((node, covered)) = self.syncs.remove(&number) {
                    self.nodes[node].settle(&covered);
                }
                return;
            }
            _ => {}
        }
        if !matches!(call, Call::Close { .. } | Call::Say(_) | Call::Seek { .. }) {
            // Few nodes have anything pending, and what is pending is short.
            self.nodes.iter_mut().for_each(|node| node.finish(number));
        }
    }

    /// Writes into `to` what may be left after a power loss now.
    pub fn after_power_loss(&self, to: &Path, rng: &mut StdRng) {
        self.write_out(ROOT, to, rng);
    }

    fn write_out(&self, node: usize, to: &Path, rng: &mut StdRng) {
        match &self.nodes[node] {
            Node::Dir { durable, pending, .. } => {
                fs::create_dir_all(to).unwrap();
                let mut names = durable.clone();
                let chance = Chance::draw(rng, pending.len());
                for (number, pending) in pending.iter().enumerate() {
                    // A name is there or not: of a torn directory some are.
                    let chance = if chance == Chance::Sectors { Chance::Some } else { chance };
                    if chance.keeps(rng, number) {
                        apply_names(&mut names, &pending.what);
                    }
                }
                for (name, node) in names {
                    self.write_out(node, &to.join(name), rng);
                }
            }
            Node::File { durable, pending, len } => {
                fs::write(to, left_of(durable, pending, *len, rng)).unwrap();
            }
        }
    }

    fn find(&self, path: &Path) -> Option<usize> {
        let inside = path.strip_prefix(&self.root).ok()?;
        inside.components().try_fold(ROOT, |node, component| match (&self.nodes[node], component) {
            (Node::Dir { live, .. }, Component::Normal(name)) => live.get(name).copied(),
            _ => None,
        })
    }

    fn at(&self, path: &Path) -> usize {
        self.find(path).unwrap_or_else(|| panic!("{} is not known", path.display()))
    }

    fn parent(&self, path: &Path) -> (usize, OsString) {
        let dir = self.at(path.parent().expect("nobody renames the root"));
        (dir, path.file_name().expect("a name").to_owned())
    }

    fn add(&mut self, call: usize, path: &Path, node: Node) {
        let (dir, name) = self.parent(path);
        self.nodes.push(node);
        self.name(call, dir, vec![(name, Some(self.nodes.len() - 1))]);
    }

    fn name(&mut self, call: usize, dir: usize, what: Naming) {
        let Node::Dir { pending, live, .. } = &mut self.nodes[dir] else { panic!("a file") };
        apply_names(live, &what);
        pending.push(Pending { call, ended: false, what });
    }

    fn change(&mut self, call: usize, file: usize, what: Change) {
        let Node::File { pending, len, .. } = &mut self.nodes[file] else { panic!("a directory") };
        *len = match &what {
            Change::Write { at, data } => (*len).max(at + data.len() as u64),
            Change::Size(size) => *size,
            Change::AtLeast(size) => (*len).max(*size),
        };
        pending.push(Pending { call, ended: false, what });
    }
}

impl Node {
    fn dir(names: Names) -> Node {
        Node::Dir { durable: names.clone(), pending: Vec::new(), live: names }
    }

    /// The calls that have ended, whose changes a sync now covers.
    fn ended(&self) -> Vec<usize> {
        fn of<T>(pending: &[Pending<T>]) -> Vec<usize> {
            pending.iter().filter(|one| one.ended).map(|one| one.call).collect()
        }
        match self {
            Node::File { pending, .. } => of(pending),
            Node::Dir { pending, .. } => of(pending),
        }
    }

    fn finish(&mut self, call: usize) {
        fn of<T>(pending: &mut [Pending<T>], call: usize) {
            pending.iter_mut().rev().filter(|one| one.call == call).for_each(|p| p.ended = true);
        }
        match self {
            Node::File { pending, .. } => of(pending, call),
            Node::Dir { pending, .. } => of(pending, call),
        }
    }

    /// What those calls changed is on the disk.
    fn settle(&mut self, covered: &[usize]) {
        match self {
            Node::File { durable, pending, .. } => pending.retain(|one| {
                let settled = covered.contains(&one.call);
                if settled {
                    apply(durable, &one.what, |_| true);
                }
                !settled
            }),
            Node::Dir { durable, pending, .. } => pending.retain(|one| {
                let settled = covered.contains(&one.call);
                if settled {
                    apply_names(durable, &one.what);
                }
                !settled
            }),
        }
    }
}

fn apply_names(names: &mut Names, naming: &Naming) {
    for (name, node) in naming {
        match node {
            Some(node) => drop(names.insert(name.clone(), *node)),
            None => drop(names.remove(name)),
        }
    }
}

fn left_of(durable: &[u8], pending: &[Pending<Change>], len: u64, rng: &mut StdRng) -> Vec<u8> {
    let mut bytes = durable.to_vec();
    let chance = Chance::draw(rng, pending.len());
    let mut any = false;
    for (number, one) in pending.iter().enumerate() {
        if chance.keeps(rng, number) {
            any = true;
            apply(&mut bytes, &one.what, |_| chance != Chance::Sectors || rng.random());
        }
    }
    // The size is written on its own: before the data, after it, or never.
    if any && matches!(chance, Chance::Some | Chance::Sectors) {
        match rng.random_range(0..3) {
            0 => bytes.resize(durable.len(), 0),
            1 => bytes.resize(len as usize, 0),
            _ => {}
        }
    }
    bytes
}

/// Changes a file's content; of a write only the sectors that `keeps` answers for.
fn apply(bytes: &mut Vec<u8>, change: &Change, mut keeps: impl FnMut(usize) -> bool) {
    match change {
        Change::Write { at, data } => {
            let (start, end) = (*at as usize, *at as usize + data.len());
            if bytes.len() < end {
                bytes.resize(end, 0);
            }
            let mut from = start;
            while from < end {
                let sector = from / SECTOR;
                let to = end.min((sector + 1) * SECTOR);
                if keeps(sector) {
                    bytes[from..to].copy_from_slice(&data[from - start..to - start]);
                }
                from = to;
            }
        }
        Change::Size(size) => bytes.resize(*size as usize, 0),
        Change::AtLeast(size) => bytes.resize(bytes.len().max(*size as usize), 0),
    }
}
