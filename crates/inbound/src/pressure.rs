//! Whether there is room for new mail: on the disk, in the queue and in memory.

use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;
use waypost_intake::{Intake, Shortage};

/// How long an answer of the system is believed.
const FRESH: Duration = Duration::from_millis(200);

/// What is short when it is short.
#[derive(Debug)]
pub(crate) struct Pressure {
    began: Instant,
    /// Octets of memory this program may use.
    most: AtomicU64,
    used: AtomicU64,
    /// In milliseconds since it began; nothing was asked at 0.
    asked: AtomicU64,
}

impl Pressure {
    /// `most` octets of memory may be in use; absent, nine tenths of what the system allows.
    pub(crate) fn new(most: Option<u64>) -> Pressure {
        let pressure = Pressure {
            began: Instant::now(),
            most: AtomicU64::new(u64::MAX),
            used: AtomicU64::new(0),
            asked: AtomicU64::new(0),
        };
        pressure.allow(most);
        pressure
    }

    /// Puts another limit in force.
    pub(crate) fn allow(&self, most: Option<u64>) {
        let usual = || allowed_memory().map_or(u64::MAX, |allowed| allowed / 10 * 9);
        self.most.store(most.unwrap_or_else(usual), Ordering::Relaxed);
    }

    /// Why no new mail can be taken, if so.
    pub(crate) fn shortage(&self, intake: &Intake) -> Option<Shortage> {
        intake.shortage().or_else(|| {
            (self.memory() > self.most.load(Ordering::Relaxed)).then_some(Shortage::Memory)
        })
    }

    /// Octets of memory in use, as of a moment ago. 0 where the system does not tell.
    fn memory(&self) -> u64 {
        let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX).max(1);
        let asked = self.asked.load(Ordering::Relaxed);
        if asked == 0 || u128::from(now.abs_diff(asked)) >= FRESH.as_millis() {
            self.asked.store(now, Ordering::Relaxed);
            self.used.store(resident_memory().unwrap_or_default(), Ordering::Relaxed);
        }
        self.used.load(Ordering::Relaxed)
    }
}

/// The resident set of this program.
fn resident_memory() -> Option<u64> {
    kibibytes(&fs::read_to_string("/proc/self/status").ok()?, "VmRSS:")
}

/// What the machine has, or the control group (version 2) of this program when that is less.
fn allowed_memory() -> Option<u64> {
    let machine = fs::read_to_string("/proc/meminfo").ok();
    let machine = machine.and_then(|text| kibibytes(&text, "MemTotal:"));
    let group = fs::read_to_string("/proc/self/cgroup").ok();
    let group = group.as_deref().and_then(|text| text.lines().find_map(|l| l.strip_prefix("0::")));
    let limits = group.into_iter().flat_map(|path| {
        // Each group above may have a limit too.
        std::path::Path::new(path).ancestors().map(|path| {
            let path = path.strip_prefix("/").unwrap_or(path);
            fs::read_to_string(std::path::Path::new("/sys/fs/cgroup").join(path).join("memory.max"))
        })
    });
    let limits = limits.filter_map(|text| text.ok()?.trim().parse().ok());
    limits.chain(machine).min()
}

fn kibibytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let number: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    number.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_tells() {
        let (used, allowed) = (resident_memory().unwrap(), allowed_memory().unwrap());
        assert!(used > 1024 * 1024 && used < allowed, "{used} of {allowed}");
        assert_eq!(kibibytes("A: 1\nVmRSS:\t   12 kB\n", "VmRSS:"), Some(12 * 1024));
        assert_eq!(kibibytes("VmRSS: x kB", "VmRSS:"), None);
    }

    #[tokio::test]
    async fn a_limit_may_change() {
        let pressure = Pressure::new(Some(1));
        assert!(pressure.memory() > pressure.most.load(Ordering::Relaxed));
        pressure.allow(None);
        assert!(pressure.memory() < pressure.most.load(Ordering::Relaxed));
    }
}
