//! What a process and all its children cost, as the kernel counts it.

use std::collections::HashMap;
use std::fs;
use std::time::Duration;

use anyhow::Context;

/// The processes below and including one.
#[derive(Clone, Copy)]
pub(crate) struct Tree(pub(crate) u32);

/// Memory of a tree, in bytes.
#[derive(Clone, Copy)]
pub(crate) struct Memory {
    /// The sum of each process's greatest resident size (VmHWM); pages shared by several
    /// processes count several times.
    pub(crate) peak: u64,
    /// The sum of what each process holds now, shared pages divided by their holders (Pss).
    pub(crate) now: u64,
}

impl Tree {
    /// User and system time so far, of the living and of the children they have buried.
    pub(crate) fn cpu(self) -> anyhow::Result<Duration> {
        let ticks_per_second = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK)?
            .and_then(|ticks| u32::try_from(ticks).ok())
            .context("the system does not know its clock tick")?;
        let ticks: u64 = self.members()?.iter().map(|stat| stat.ticks).sum();
        Ok(Duration::from_secs(ticks) / ticks_per_second)
    }

    pub(crate) fn memory(self) -> anyhow::Result<Memory> {
        let mut memory = Memory { peak: 0, now: 0 };
        for Stat { pid, .. } in self.members()? {
            memory.peak += kilobytes(&format!("/proc/{pid}/status"), "VmHWM:");
            memory.now += kilobytes(&format!("/proc/{pid}/smaps_rollup"), "Pss:");
        }
        Ok(memory)
    }

    fn members(self) -> anyhow::Result<Vec<Stat>> {
        let mut all = HashMap::new();
        for entry in fs::read_dir("/proc").context("no /proc to read CPU times from")? {
            let name = entry?.file_name();
            // A process may end while the list is read: it is then in its parent's account.
            if let Some(stat) = name.to_str().and_then(|pid| pid.parse().ok()).and_then(stat) {
                all.insert(stat.pid, stat);
            }
        }
        let below = |stat: &Stat| {
            let mut pid = stat.pid;
            while pid != self.0 {
                match all.get(&pid) {
                    Some(stat) if stat.parent != 0 => pid = stat.parent,
                    _ => return false,
                }
            }
            true
        };
        Ok(all.values().filter(|stat| below(stat)).copied().collect())
    }
}

#[derive(Clone, Copy)]
struct Stat {
    pid: u32,
    parent: u32,
    ticks: u64,
}

/// proc_pid_stat(5): the fields after the name, which may hold spaces and parentheses itself.
fn stat(pid: u32) -> Option<Stat> {
    let line = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, after_name) = line.rsplit_once(") ")?;
    let fields: Vec<&str> = after_name.split(' ').collect();
    let times = fields.get(11..15)?;
    Some(Stat {
        pid,
        parent: fields.get(1)?.parse().ok()?,
        ticks: times.iter().filter_map(|t| t.parse::<u64>().ok()).sum(),
    })
}

fn kilobytes(file: &str, label: &str) -> u64 {
    let text = fs::read_to_string(file).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(label));
    let value = line.and_then(|line| line.trim().strip_suffix(" kB"));
    value.and_then(|value| value.parse::<u64>().ok()).unwrap_or(0) * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_is_counted_and_a_stranger_is_not() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let ours: Vec<u32> =
            Tree(std::process::id()).members().unwrap().iter().map(|stat| stat.pid).collect();
        let memory = Tree(std::process::id()).memory().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(ours.contains(&std::process::id()) && ours.contains(&child.id()));
        assert!(!ours.contains(&1));
        assert!(memory.peak > 0 && memory.now > 0);
    }
}
