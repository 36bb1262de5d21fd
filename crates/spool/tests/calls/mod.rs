//! System calls that fail when a test says so, sled's included: the C library's functions below
//! stand in this program in the place of the library's own.

#![allow(unsafe_code, reason = "exported C symbols, and the system calls they stand for")]
#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    reason = "a part of a test program, which fails like a test"
)]

use std::ffi::CStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::libc::{self, c_char, c_int, c_long, c_uint, c_void, mode_t, off64_t, size_t, ssize_t};

/// Which calls fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// Those that change something: write, sync, cut, open to write, rename, remove.
    Changes,
    /// Those that a full disk refuses: write, sync, make a file.
    Room,
    /// Reads of files whose place begins so far from their start.
    Reads { from: u64, to: u64 },
    /// Those that want a descriptor.
    Descriptors,
}

/// A failure to come.
#[derive(Debug)]
struct Plan {
    below: PathBuf,
    which: Which,
    errno: c_int,
    /// Calls that pass before one fails.
    left: u64,
    /// All fail after that, not only one.
    lasting: bool,
    /// Calls that could have failed.
    seen: u64,
    failed: u64,
    /// The first one that failed.
    first: Option<String>,
}

static PLAN: Mutex<Option<Plan>> = Mutex::new(None);

/// Calls fail until this is dropped. One at a time.
#[derive(Debug)]
pub struct Failing(());

/// What came of a [`Failing`].
#[derive(Debug)]
pub struct Account {
    pub seen: u64,
    pub failed: u64,
    pub first: Option<String>,
}

impl Failing {
    /// Lets `left` calls on files below a directory pass, then one fail, or all.
    pub fn after(left: u64, below: &Path, which: Which, errno: c_int, lasting: bool) -> Failing {
        let below = below.canonicalize().unwrap();
        let plan = Plan { below, which, errno, left, lasting, seen: 0, failed: 0, first: None };
        *plan_now() = Some(plan);
        Failing(())
    }

    pub fn end(self) -> Account {
        let Plan { seen, failed, first, .. } = plan_now().take().unwrap();
        Account { seen, failed, first }
    }
}

impl Drop for Failing {
    fn drop(&mut self) {
        *plan_now() = None;
    }
}

fn plan_now() -> MutexGuard<'static, Option<Plan>> {
    PLAN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// True when the call is to fail; errno is set then.
fn fails(
    call: &str,
    is_it: impl Fn(Which) -> bool,
    path: impl FnOnce() -> Option<PathBuf>,
) -> bool {
    let mut plan = plan_now();
    let Some(plan) = plan.as_mut().filter(|plan| is_it(plan.which)) else { return false };
    let Some(path) = path().filter(|path| path.starts_with(&plan.below)) else { return false };
    plan.seen += 1;
    if plan.seen <= plan.left || (plan.failed > 0 && !plan.lasting) {
        return false;
    }
    plan.failed += 1;
    plan.first.get_or_insert_with(|| format!("{call} {}", path.display()));
    nix::errno::Errno::from_raw(plan.errno).set();
    true
}

fn path_of(fd: c_int) -> Option<PathBuf> {
    std::fs::read_link(format!("/proc/self/fd/{fd}")).ok()
}

fn path_at(path: *const c_char) -> Option<PathBuf> {
    // SAFETY: callers of the C library hand over strings that end.
    let path = unsafe { CStr::from_ptr(path) };
    Some(PathBuf::from(std::ffi::OsStr::from_bytes(path.to_bytes())))
}

fn changes(which: Which) -> bool {
    which == Which::Changes
}

fn wants_room(which: Which) -> bool {
    matches!(which, Which::Changes | Which::Room)
}

macro_rules! stand_in {
    ($($(#[$meta:meta])* fn $name:ident($($arg:ident: $type:ty),*) -> $back:ty, $call:expr, $when:expr, on $path:expr;)*) => {$(
        /// # Safety
        /// As the C function's.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name($($arg: $type),*) -> $back {
            if fails(stringify!($name), $when, || $path) {
                return -1;
            }
            // SAFETY: the system call that the C function makes, with its arguments.
            unsafe { libc::syscall($call, $($arg),*) as $back }
        }
    )*};
}

stand_in! {
    fn write(fd: c_int, bytes: *const c_void, len: size_t) -> ssize_t, libc::SYS_write, wants_room, on path_of(fd);
    fn pwrite64(fd: c_int, bytes: *const c_void, len: size_t, at: off64_t) -> ssize_t, libc::SYS_pwrite64, wants_room, on path_of(fd);
    fn fsync(fd: c_int) -> c_int, libc::SYS_fsync, wants_room, on path_of(fd);
    fn fdatasync(fd: c_int) -> c_int, libc::SYS_fdatasync, wants_room, on path_of(fd);
    fn fallocate(fd: c_int, mode: c_int, at: off64_t, len: off64_t) -> c_int, libc::SYS_fallocate, wants_room, on path_of(fd);
    fn ftruncate64(fd: c_int, len: off64_t) -> c_int, libc::SYS_ftruncate, changes, on path_of(fd);
}

/// # Safety
/// As the C function's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rename(from: *const c_char, to: *const c_char) -> c_int {
    if fails("rename", changes, || path_at(from)) {
        return -1;
    }
    // SAFETY: the system call that the C function makes, with its arguments.
    unsafe {
        let here = c_long::from(libc::AT_FDCWD);
        libc::syscall(libc::SYS_renameat2, here, from, here, to, 0) as c_int
    }
}

/// # Safety
/// As the C function's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn linkat(
    from_dir: c_int,
    from: *const c_char,
    to_dir: c_int,
    to: *const c_char,
    flags: c_int,
) -> c_int {
    if fails("link", wants_room, || path_at(from)) {
        return -1;
    }
    // SAFETY: the system call that the C function makes, with its arguments.
    unsafe { libc::syscall(libc::SYS_linkat, from_dir, from, to_dir, to, flags) as c_int }
}

/// # Safety
/// As the C function's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mkdir(path: *const c_char, mode: mode_t) -> c_int {
    if fails("mkdir", wants_room, || path_at(path)) {
        return -1;
    }
    // SAFETY: the system call that the C function makes, with its arguments.
    unsafe { libc::syscall(libc::SYS_mkdirat, c_long::from(libc::AT_FDCWD), path, mode) as c_int }
}

/// # Safety
/// As the C function's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn unlink(path: *const c_char) -> c_int {
    if fails("unlink", changes, || path_at(path)) {
        return -1;
    }
    // SAFETY: the system call that the C function makes, with its arguments.
    unsafe { libc::syscall(libc::SYS_unlinkat, c_long::from(libc::AT_FDCWD), path, 0) as c_int }
}

/// # Safety
/// As the C function's; the mode is read also when the caller gave none, and unused then.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn open64(path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    let writes = flags & (libc::O_WRONLY | libc::O_RDWR | libc::O_CREAT) != 0;
    let creates = flags & libc::O_CREAT != 0;
    let is_it = |which| match which {
        Which::Descriptors => true,
        Which::Changes => writes,
        Which::Room => creates,
        Which::Reads { .. } => false,
    };
    if fails("open", is_it, || path_at(path)) {
        return -1;
    }
    let (here, mode) = (c_long::from(libc::AT_FDCWD), c_uint::from(mode));
    // SAFETY: the system call that the C function makes, with its arguments.
    unsafe { libc::syscall(libc::SYS_openat, here, path, flags, mode) as c_int }
}

/// # Safety
/// As the C function's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pread64(
    fd: c_int,
    bytes: *mut c_void,
    len: size_t,
    at: off64_t,
) -> ssize_t {
    let start = at as u64;
    let over = |which| match which {
        Which::Reads { from, to } => start < to && start + len as u64 > from,
        Which::Changes | Which::Room | Which::Descriptors => false,
    };
    if fails("pread", over, || path_of(fd)) {
        return -1;
    }
    // SAFETY: the system call that the C function makes, with its arguments.
    unsafe { libc::syscall(libc::SYS_pread64, fd, bytes, len, at) as ssize_t }
}
