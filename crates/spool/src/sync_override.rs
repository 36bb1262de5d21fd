//! Makes sled's flush durable on Linux.
//!
//! sled 0.34.7 flushes with `sync_file_range`, which writes neither the file's size nor the
//! disk's cache: a power loss takes acknowledged rows. The function of that name below stands in
//! the program in place of the C library's, and syncs for real.

#![allow(unsafe_code, reason = "an exported C symbol, and one call of fdatasync")]

use std::sync::atomic::{AtomicU64, Ordering};

use nix::libc::{c_int, c_uint, off64_t};

/// How often sled has called. A static because a C function has nowhere else to count.
static CALLS: AtomicU64 = AtomicU64::new(0);

/// How often the override was called so far.
pub(crate) fn calls() -> u64 {
    // Naming the function here keeps it in every program that asks.
    std::hint::black_box(sync_file_range as *const ());
    CALLS.load(Ordering::SeqCst)
}

/// Stands in for the C function: all data of the file, its size and the disk's cache are synced,
/// whatever range was asked for.
///
/// # Safety
///
/// Any arguments are sound: they are numbers, and the kernel checks the descriptor.
#[unsafe(no_mangle)]
unsafe extern "C" fn sync_file_range(
    fd: c_int,
    _offset: off64_t,
    _nbytes: off64_t,
    _flags: c_uint,
) -> c_int {
    CALLS.fetch_add(1, Ordering::SeqCst);
    // SAFETY: fdatasync takes a number and touches no memory of ours. It answers as
    // sync_file_range does: 0, or -1 with errno.
    unsafe { nix::libc::fdatasync(fd) }
}
