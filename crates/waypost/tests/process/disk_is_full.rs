//! A full disk: no mail is taken, what is here is settled, and room again means mail again.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;
use waypost_harness::upstream::{Act, Upstream};
use waypost_smtp::Phase;

use crate::daemon::{Daemon, Home, until};

/// A file system of 48 MiB, gone when dropped.
struct SmallDisk {
    dir: TempDir,
}

impl SmallDisk {
    /// `None` where this process may not mount, which continuous integration must not accept.
    fn mount() -> Option<SmallDisk> {
        let dir = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=48m", "tmpfs"])
            .arg(dir.path())
            .output();
        match mounted {
            Ok(output) if output.status.success() => Some(SmallDisk { dir }),
            other => {
                assert!(std::env::var_os("CI").is_none(), "the disk must be mountable: {other:?}");
                eprintln!("NOT TESTED: a small file system cannot be mounted here: {other:?}");
                None
            }
        }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Takes all the room there is.
    fn fill(&self) {
        let mut filler = File::create(self.path().join("filler")).unwrap();
        for size in [1 << 20, 4096, 1] {
            while filler.write_all(&vec![0; size]).is_ok() {}
        }
    }

    fn clean(&self) {
        fs::remove_file(self.path().join("filler")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.path()).status();
    }
}

const BUSY: &str = "450 4.2.1 not yet";

/// A relay on a small disk, where messages wait that were tried once and would be taken now.
async fn waiting(disk: &SmallDisk, messages: usize) -> (Upstream, Home, Daemon) {
    let spool = disk.path().join("spool");
    let not_yet = |upstream: Upstream, _| upstream.once(Phase::Mail, Act::Say(BUSY.to_owned()));
    let upstream = (0..messages).fold(Upstream::new(), not_yet);
    let more = format!(
        "[spool]\npath = \"{}\"\nkeep-free = \"8MiB\"\nreserve = \"4MiB\"\ncache = \"8MiB\"\n",
        spool.display()
    );
    let home = Home::with_spool(upstream.listen().await.unwrap(), &spool, &more);
    let relay = home.start();
    let mut peer = relay.peer();
    for number in 0..messages {
        let subject = format!("waits {number}");
        peer.submit("a@peer.example", "b@there.example", &subject).unwrap();
    }
    until("an attempt for each", || {
        let queue = home.queue();
        let tried = queue.iter().all(|message| message["tries"] == 1 && message["waiting"] == 1);
        (queue.len() == messages && tried).then_some(())
    });
    (upstream, home, relay)
}

fn count(upstream: &Upstream, words: &str) -> usize {
    upstream.mails().iter().filter(|mail| mail.content.contains(words)).count()
}

/// The relay takes no new sessions.
fn refuses(relay: &Daemon) {
    let refusal = until("a refusal", || relay.knock().err());
    assert!(refusal.to_string().starts_with("421 4.3.1"), "{refusal}");
}

/// The relay takes mail, now or soon.
fn recovers(upstream: &Upstream, relay: &Daemon) {
    until("mail taken again", || {
        let taken = relay
            .knock()
            .and_then(|mut peer| peer.submit("a@peer.example", "b@there.example", "room again"));
        taken.ok()
    });
    until("the new mail", || (count(upstream, "Subject: room again") == 1).then_some(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_is_refused_for_now_and_what_is_here_is_settled() {
    let Some(disk) = SmallDisk::mount() else { return };
    let (upstream, home, mut relay) = waiting(&disk, 20).await;
    let mut there = relay.peer();
    disk.fill();
    refuses(&relay);
    let refusal = there.send("a@peer.example", "b@there.example", "Subject: x\r\n\r\n").unwrap();
    assert!(refusal.starts_with("452 4.3.1"), "{refusal}");
    home.json(&["queue", "retry", "--all"]);
    until("an empty queue", || home.queue().is_empty().then_some(()));
    assert_eq!(count(&upstream, "Subject: waits"), 20, "each once");
    disk.clean();
    recovers(&upstream, &relay);
    assert!(relay.runs(), "all this time it ran");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_relay_starts_where_there_is_no_room() {
    let Some(disk) = SmallDisk::mount() else { return };
    let (upstream, home, relay) = waiting(&disk, 5).await;
    relay.kill();
    disk.fill();
    let relay = home.start();
    refuses(&relay);
    home.json(&["queue", "retry", "--all"]);
    until("an empty queue", || home.queue().is_empty().then_some(()));
    assert_eq!(count(&upstream, "Subject: waits"), 5, "each once");
    disk.clean();
    recovers(&upstream, &relay);
}
