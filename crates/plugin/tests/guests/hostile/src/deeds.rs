//! What goes wrong before there is an answer.

use std::hint::black_box;

use waypost_sdk::prelude::*;

use crate::Config;

pub(crate) fn commit(deed: &str, config: &Config) {
    match deed {
        "loop" => loop {
            black_box(0);
        },
        "trap" => trap(),
        "memory" => memory(),
        "memory-to-the-limit" => memory_to_the_limit(),
        "memory-refused" => memory_refused(),
        "recursion" => _ = recursion(0, false),
        "recursion-with-host-calls" => _ = recursion(0, true),
        "host-calls" => (0..20_000).for_each(|_| _ = black_box(clock::elapsed_us())),
        "over-quota" => {
            let answers = (0..1500).map(|_| kv::get("ns", "key"));
            let over = answers.filter(|answer| *answer == Err(HostError::OverQuota)).count();
            if over != 500 {
                trap();
            }
        }
        "log-huge" => log::write(log::Level::Error, &"x".repeat(10 << 20), &[]),
        "log-flood" => {
            (0..900).for_each(|_| log::write(log::Level::Error, "again and again", &[]));
        }
        "log-escapes" => log::error!("first\r\nsecond \u{1b}[2J"),
        "metric-labels" => (0..900).for_each(|index| {
            metrics::count("seen", &[Attr::new("kind", format!("{}-{index}", config.number))], 1);
        }),
        "kv-flood" => {
            let value = vec![b'x'; 4000];
            for index in 0..900 {
                drop(kv::set("ns", &format!("{}-{index}", config.number), &value, None));
            }
        }
        "dns-slow" => drop(dns::lookup("slow.example", "a")),
        "dns-panic" => drop(dns::lookup("panic.example", "a")),
        _ => {}
    }
}

pub(crate) fn trap() {
    #[cfg(target_arch = "wasm32")]
    core::arch::wasm32::unreachable();
}

/// Takes memory until there is none; the allocator then gives up.
fn memory() {
    let mut hoard: Vec<Vec<u8>> = Vec::new();
    loop {
        hoard.push(black_box(vec![1; 1 << 20]));
    }
}

/// Takes memory until there is none, and goes on as if nothing were wrong.
fn memory_to_the_limit() {
    #[cfg(target_arch = "wasm32")]
    while core::arch::wasm32::memory_grow::<0>(16) != usize::MAX {}
}

/// Wants more than there can be, once, and copes with the refusal.
fn memory_refused() {
    #[cfg(target_arch = "wasm32")]
    black_box(core::arch::wasm32::memory_grow::<0>(65_000));
}

#[allow(unconditional_recursion, reason = "that is the point")]
fn recursion(depth: u64, host_calls: bool) -> u64 {
    if host_calls {
        black_box(clock::elapsed_us());
    }
    black_box(recursion(black_box(depth + 1), host_calls)) + 1
}
