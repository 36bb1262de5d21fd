//! Runs a child under strace, and makes its system calls a list.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

/// What was called. Paths lie under the root that was recorded; everything else is left out.
#[derive(Debug, Clone)]
pub enum Call {
    Open {
        path: PathBuf,
        create: bool,
        truncate: bool,
        append: bool,
        fd: i32,
    },
    Close {
        fd: i32,
    },
    /// `at` is absent when the descriptor's own position counts.
    Write {
        fd: i32,
        at: Option<u64>,
        data: Arc<Vec<u8>>,
    },
    Seek {
        fd: i32,
        to: u64,
    },
    Size {
        path: PathBuf,
        len: u64,
    },
    Allocate {
        path: PathBuf,
        end: u64,
    },
    /// fsync or fdatasync of a file or a directory.
    Sync {
        path: PathBuf,
    },
    /// Makes nothing durable.
    SyncRange {
        path: PathBuf,
    },
    Rename {
        from: PathBuf,
        to: PathBuf,
    },
    Link {
        from: PathBuf,
        to: PathBuf,
    },
    Unlink {
        path: PathBuf,
    },
    MakeDir {
        path: PathBuf,
    },
    /// A line on standard output that began with `==`, which is left off.
    Say(String),
}

/// Threads work at the same time: a call begins at one moment and ends at another.
#[derive(Debug, Clone, Copy)]
pub enum Step {
    Begin(usize),
    End(usize),
}

/// What a process did, in order.
#[derive(Debug, Default)]
pub struct Trace {
    pub calls: Vec<Call>,
    pub steps: Vec<Step>,
}

/// With `?` those that a machine may not have.
const CALLS: &str = "?open,openat,?creat,close,write,pwrite64,writev,pwritev,?pwritev2,ftruncate,\
    ?truncate,fallocate,?rename,?renameat,renameat2,?link,linkat,?symlink,symlinkat,?unlink,\
    unlinkat,?rmdir,?mkdir,mkdirat,fsync,fdatasync,sync_file_range,?sync,?syncfs,msync,lseek,\
    ?dup,?dup2,dup3,copy_file_range,sendfile,splice";

/// Runs the ignored test `child` of this program, which does what `environment` says, and records
/// what happens in `root`.
pub fn record(root: &Path, child: &str, environment: &[(&str, String)]) -> Trace {
    let log = tempfile::NamedTempFile::new().unwrap();
    let mut strace = Command::new("strace");
    strace.args(["-f", "-y", "-xx", "--seccomp-bpf", "-s", "16777216", "-e", "signal=none"]);
    strace.arg("-e").arg(format!("trace={CALLS}")).arg("-o").arg(log.path());
    strace.arg(std::env::current_exe().unwrap());
    strace.args(["--exact", child, "--ignored", "--nocapture", "--test-threads=1"]);
    strace.envs(environment.iter().map(|(name, value)| (name, value)));
    let output = match strace.output() {
        Ok(output) => output,
        Err(error) => panic!(
            "these tests record system calls with strace: {error}\n\
             install it: apt-get install strace (or cargo xtask setup)"
        ),
    };
    let errors = String::from_utf8_lossy(&output.stderr);
    let refused = ["ptrace", "PTRACE", "seccomp"].iter().any(|word| errors.contains(word));
    assert!(
        !refused,
        "strace may not trace here: {errors}\nin a container: docker run --cap-add=SYS_PTRACE"
    );
    assert!(output.status.success(), "the recorded child failed: {errors}");
    let text = String::from_utf8(std::fs::read(log.path()).unwrap()).unwrap();
    let trace = parse(&text, root);
    assert!(trace.said() > 0, "nothing was recorded: {errors}");
    trace
}

impl Trace {
    pub fn said(&self) -> usize {
        self.calls.iter().filter(|call| matches!(call, Call::Say(_))).count()
    }
}

fn parse(text: &str, root: &Path) -> Trace {
    let mut trace = Trace::default();
    // By thread: what began, as text, and the place in the trace that is kept for it.
    let mut open: HashMap<&str, (String, usize)> = HashMap::new();
    let mut slots: Vec<Option<Call>> = Vec::new();
    for line in text.lines() {
        let Some((thread, rest)) = line.split_once(' ') else { continue };
        let rest = rest.trim_start();
        if rest.starts_with("+++") || rest.starts_with("---") {
            continue;
        }
        if let Some(begun) = rest.strip_suffix("<unfinished ...>") {
            trace.steps.push(Step::Begin(slots.len()));
            open.insert(thread, (begun.trim_end().to_owned(), slots.len()));
            slots.push(None);
        } else if let Some(resumed) = rest.strip_prefix("<... ") {
            let (_, end) = resumed.split_once(" resumed>").expect("strace's words");
            let Some((mut begun, slot)) = open.remove(thread) else { continue };
            begun.push_str(end);
            slots[slot] = call(&begun, root);
            trace.steps.push(Step::End(slot));
        } else if let Some(call) = call(rest, root) {
            trace.steps.push(Step::Begin(slots.len()));
            trace.steps.push(Step::End(slots.len()));
            slots.push(Some(call));
        }
    }
    compact(trace.steps, slots)
}

/// Leaves out what concerns nobody.
fn compact(steps: Vec<Step>, slots: Vec<Option<Call>>) -> Trace {
    let mut trace = Trace::default();
    let mut places = HashMap::new();
    for (slot, call) in slots.into_iter().enumerate() {
        if let Some(call) = call {
            places.insert(slot, trace.calls.len());
            trace.calls.push(call);
        }
    }
    trace.steps = steps
        .into_iter()
        .filter_map(|step| match step {
            Step::Begin(slot) => places.get(&slot).map(|place| Step::Begin(*place)),
            Step::End(slot) => places.get(&slot).map(|place| Step::End(*place)),
        })
        .collect();
    trace
}

/// One call of strace's words; absent when it failed or concerns other files.
fn call(text: &str, root: &Path) -> Option<Call> {
    let (head, result) = text.rsplit_once(" = ")?;
    let (name, arguments) = head.split_once('(')?;
    let result = number(result)?;
    if result < 0 {
        return None;
    }
    let arguments = split(arguments.trim_end().strip_suffix(')')?);
    let argument = |at: usize| arguments.get(at).copied().unwrap_or_default();
    let fd = number(argument(0)).unwrap_or(-1) as i32;
    // The file of the descriptor that is the first argument; nobody finds a deleted one again.
    let deleted = argument(0).contains("(deleted)");
    let of_fd = || described(argument(0)).filter(|path| path.starts_with(root) && !deleted);
    let named = |at: usize| path(argument(at)).filter(|path| path.starts_with(root));
    let relative = |dir: usize, name: usize| resolve(argument(dir), argument(name), root);
    match name {
        "open" | "creat" => opened(named(0)?, argument(1), name == "creat", result),
        "openat" => opened(relative(0, 1)?, argument(2), false, result),
        "close" => Some(Call::Close { fd }),
        "write" | "pwrite64" => {
            let data = || {
                let mut data = bytes(argument(1));
                data.truncate(result as usize);
                data
            };
            if name == "write" && fd == 1 {
                return said(&data());
            }
            of_fd()?;
            let at = number(argument(3)).map(|at| at as u64);
            Some(Call::Write { fd, at, data: Arc::new(data()) })
        }
        "lseek" => of_fd().map(|_| Call::Seek { fd, to: result as u64 }),
        "ftruncate" => Some(Call::Size { path: of_fd()?, len: number(argument(1))? as u64 }),
        "fallocate" => {
            assert_eq!(argument(1), "0", "no such fallocate is known here");
            let end = number(argument(2))? + number(argument(3))?;
            Some(Call::Allocate { path: of_fd()?, end: end as u64 })
        }
        "fsync" | "fdatasync" => Some(Call::Sync { path: of_fd()? }),
        "sync_file_range" => Some(Call::SyncRange { path: of_fd()? }),
        "rename" => Some(Call::Rename { from: named(0)?, to: named(1)? }),
        "renameat" | "renameat2" => {
            Some(Call::Rename { from: relative(0, 1)?, to: relative(2, 3)? })
        }
        "link" => Some(Call::Link { from: named(0)?, to: named(1)? }),
        "linkat" => Some(Call::Link { from: relative(0, 1)?, to: relative(2, 3)? }),
        "unlink" | "rmdir" => Some(Call::Unlink { path: named(0)? }),
        "unlinkat" => Some(Call::Unlink { path: relative(0, 1)? }),
        "mkdir" => Some(Call::MakeDir { path: named(0)? }),
        "mkdirat" => Some(Call::MakeDir { path: relative(0, 1)? }),
        _ => {
            // Whoever begins to use another call teaches it to the replay first.
            let concerned = of_fd().is_some() || named(0).is_some() || named(1).is_some();
            assert!(
                !concerned,
                "the replay does not know {name}: {}",
                &text[..text.len().min(300)]
            );
            None
        }
    }
}

fn opened(path: PathBuf, flags: &str, always: bool, fd: i64) -> Option<Call> {
    let has = |flag: &str| flags.split('|').any(|word| word == flag);
    let (create, truncate) = (always || has("O_CREAT"), always || has("O_TRUNC"));
    Some(Call::Open { path, create, truncate, append: has("O_APPEND"), fd: fd as i32 })
}

fn said(data: &[u8]) -> Option<Call> {
    let text = String::from_utf8_lossy(data);
    text.trim().strip_prefix("==").map(|words| Call::Say(words.to_owned()))
}

/// Splits arguments at commas outside of quotes.
fn split(text: &str) -> Vec<&str> {
    let (mut parts, mut start, mut at) = (Vec::new(), 0, 0);
    while let Some(found) = text[at..].find(['"', ',']) {
        at += found;
        if text.as_bytes()[at] == b'"' {
            // Everything inside is hexadecimal.
            at += 2 + text[at + 1..].find('"').expect("a quote is closed");
        } else {
            parts.push(text[start..at].trim());
            (start, at) = (at + 1, at + 1);
        }
    }
    parts.push(text[start..].trim());
    parts
}

/// The number a text begins with.
fn number(text: &str) -> Option<i64> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '-').unwrap_or(text.len());
    text[..end].parse().ok()
}

/// The file strace says a descriptor has.
fn described(argument: &str) -> Option<PathBuf> {
    let (_, rest) = argument.split_once('<')?;
    let (path, _) = rest.split_once('>')?;
    path.starts_with("\\x2f").then(|| PathBuf::from(text_of(path)))
}

fn path(argument: &str) -> Option<PathBuf> {
    argument.starts_with('"').then(|| PathBuf::from(text_of(argument.trim_matches('"'))))
}

fn resolve(dir: &str, name: &str, root: &Path) -> Option<PathBuf> {
    Some(described(dir)?.join(path(name)?)).filter(|path| path.starts_with(root))
}

fn text_of(hex: &str) -> String {
    String::from_utf8_lossy(&unhex(hex)).into_owned()
}

fn bytes(argument: &str) -> Vec<u8> {
    assert!(!argument.ends_with("..."), "strace cut a write short");
    unhex(argument.trim_matches('"'))
}

fn unhex(text: &str) -> Vec<u8> {
    let digit = |byte: u8| if byte > b'9' { byte - b'a' + 10 } else { byte - b'0' };
    text.as_bytes().chunks(4).map(|four| digit(four[2]) << 4 | digit(four[3])).collect()
}
