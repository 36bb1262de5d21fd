//! Postfix as an instance of its own: own configuration, queue and data, one port on loopback.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use nix::unistd::{User, geteuid};

use super::relay::{Relay, Running};

const POSTFIX: &str = "/usr/sbin/postfix";
const POSTCONF: &str = "/usr/sbin/postconf";

/// What differs from a Postfix as its packagers ship it.
const TUNED: &[(&str, &str)] = &[
    ("default_process_limit", "200"),
    ("in_flow_delay", "0s"),
    ("initial_destination_concurrency", "50"),
    ("default_destination_concurrency_limit", "100"),
    ("smtp_connection_cache_destinations", "$relayhost"),
    ("smtp_connection_reuse_count_limit", "1000"),
    ("max_use", "1000"),
    ("receive_override_options", "no_address_mappings"),
    ("disable_vrfy_command", "yes"),
];

/// The daemons of a relay-only Postfix, none of them in a chroot.
const SERVICES: &str = "\
cleanup   unix  n - n -     0 cleanup
qmgr      unix  n - n 300   1 qmgr
tlsmgr    unix  - - n 1000? 1 tlsmgr
rewrite   unix  - - n -     - trivial-rewrite
bounce    unix  - - n -     0 bounce
defer     unix  - - n -     0 bounce
trace     unix  - - n -     0 bounce
flush     unix  n - n 1000? 0 flush
proxymap  unix  - - n -     - proxymap
proxywrite unix - - n -     1 proxymap
smtp      unix  - - n -     - smtp
relay     unix  - - n -     - smtp
error     unix  - - n -     - error
retry     unix  - - n -     - error
discard   unix  - - n -     - discard
anvil     unix  - - n -     1 anvil
scache    unix  - - n -     1 scache
postlog   unix-dgram n - n - 1 postlogd
";

/// One instance, ready to start.
pub(crate) struct Postfix {
    name: &'static str,
    tuned: bool,
    etc: PathBuf,
    port: u16,
}

impl Postfix {
    /// Writes the configuration and lets Postfix make its queue below `directory`.
    pub(crate) fn prepare(
        directory: &Path,
        port: u16,
        sink: u16,
        tuned: bool,
    ) -> anyhow::Result<Self> {
        ensure!(
            geteuid().is_root(),
            "Postfix can only be started by root: run the benchmark as root"
        );
        let name = if tuned { "postfix-tuned" } else { "postfix" };
        let home = directory.join(name);
        let etc = home.join("etc");
        let data = home.join("data");
        let queue = home.join("queue");
        for path in [&etc, &data, &queue] {
            fs::create_dir_all(path)?;
        }
        // Its daemons are not root when they walk down here.
        for path in [directory, &home] {
            fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
        }
        let owner = User::from_name("postfix")?.context("there is no user postfix")?;
        chown(&data, Some(owner.uid.as_raw()), Some(owner.gid.as_raw()))?;
        fs::write(etc.join("main.cf"), main_cf(&queue, &data, sink, tuned))?;
        let door = format!("127.0.0.1:{port} inet n - n - - smtpd\n");
        fs::write(etc.join("master.cf"), door + SERVICES)?;
        let postfix = Self { name, tuned, etc, port };
        postfix.check()?;
        Ok(postfix)
    }

    /// `postfix check` makes the directories of the queue with the owners they need.
    fn check(&self) -> anyhow::Result<()> {
        let output = Command::new(POSTFIX)
            .arg("-c")
            .arg(&self.etc)
            .arg("check")
            .stdin(Stdio::null())
            .output()
            .context("postfix is not installed: cargo xtask setup")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "postfix check failed; what it has to say goes to the system log. {said}"
        );
        Ok(())
    }
}

impl Relay for Postfix {
    fn name(&self) -> &str {
        self.name
    }

    fn settings(&self) -> Vec<String> {
        let version = postconf("mail_version").unwrap_or_else(|_| "of unknown version".to_owned());
        let mut settings = vec![format!("Postfix {version}, no TLS, no DNS, no log file")];
        if self.tuned {
            settings.extend(TUNED.iter().map(|(name, value)| format!("{name} = {value}")));
        } else {
            settings.push("everything else as the package ships it".to_owned());
        }
        if Path::new("/dev/log").exists() {
            settings.push("a system log is running: its work is not in these numbers".to_owned());
        }
        settings
    }

    fn start(&self, trace: Option<&Path>) -> anyhow::Result<Running> {
        let mut command = Command::new(Path::new(&postconf("daemon_directory")?).join("master"));
        command.arg("-c").arg(&self.etc).stdin(Stdio::null()).stdout(Stdio::null());
        Running::launch(command, self.port, trace)
    }

    fn groups(&self) -> anyhow::Result<Option<u64>> {
        Ok(None)
    }
}

/// A compiled-in default, such as where the daemons are.
fn postconf(name: &str) -> anyhow::Result<String> {
    let output = Command::new(POSTCONF)
        .args(["-d", "-h", name])
        .output()
        .context("postconf is not installed: cargo xtask setup")?;
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

fn main_cf(queue: &Path, data: &Path, sink: u16, tuned: bool) -> String {
    let mut lines = format!(
        "compatibility_level = 3.6\n\
         queue_directory = {}\n\
         data_directory = {}\n\
         mail_owner = postfix\n\
         setgid_group = postdrop\n\
         myhostname = relay.bench.example\n\
         mydestination =\n\
         local_recipient_maps =\n\
         alias_maps =\n\
         inet_interfaces = loopback-only\n\
         inet_protocols = ipv4\n\
         mynetworks = 127.0.0.0/8\n\
         smtpd_relay_restrictions = permit_mynetworks, reject\n\
         smtpd_peername_lookup = no\n\
         smtp_dns_support_level = disabled\n\
         relayhost = [127.0.0.1]:{sink}\n\
         smtp_tls_security_level = none\n\
         smtpd_tls_security_level = none\n",
        queue.display(),
        data.display(),
    );
    for (name, value) in TUNED.iter().filter(|_| tuned) {
        lines.push_str(&format!("{name} = {value}\n"));
    }
    lines
}
