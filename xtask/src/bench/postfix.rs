//! Postfix as an instance of its own: own configuration, queue and data, one port on loopback.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use nix::unistd::{User, geteuid};

use super::opendkim::OpenDkim;
use super::places;
use super::relay::{Relay, Running};
use super::setting::{Duty, Setting};

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

/// The same for TLS: connections are kept, and sessions remembered.
const TUNED_TLS: &[(&str, &str)] = &[
    ("smtp_tls_connection_reuse", "yes"),
    ("smtp_tls_session_cache_database", "btree:${data_directory}/smtp_scache"),
];

/// The daemons of a relay-only Postfix, none of them in a chroot.
const SERVICES: &str = "\
cleanup   unix  n - n -     0 cleanup
qmgr      unix  n - n 300   1 qmgr
tlsmgr    unix  - - n 1000? 1 tlsmgr
tlsproxy  unix  - - n -     0 tlsproxy
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
    duty: Duty,
    etc: PathBuf,
    port: u16,
    milter: Option<OpenDkim>,
}

impl Postfix {
    /// Writes the configuration and lets Postfix make its queue. A milter signs, at another port.
    pub(crate) fn prepare(
        setting: Setting<'_>,
        tuned: bool,
        milter_port: u16,
    ) -> anyhow::Result<Self> {
        ensure!(
            geteuid().is_root(),
            "Postfix can only be started by root: run the benchmark as root"
        );
        let name = if tuned { "postfix-tuned" } else { "postfix" };
        let home = setting.home.join(name);
        let [etc, data, queue] = ["etc", "data", "queue"].map(|name| home.join(name));
        for path in [&etc, &data, &queue] {
            fs::create_dir_all(path)?;
        }
        // Its daemons are not root when they walk down here.
        for path in [setting.home, &home] {
            fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
        }
        let owner = User::from_name("postfix")?.context("there is no user postfix")?;
        chown(&data, Some(owner.uid.as_raw()), Some(owner.gid.as_raw()))?;
        let signs = setting.duty == Duty::Signed;
        let milter =
            signs.then(|| OpenDkim::prepare(&home, milter_port, setting.keys)).transpose()?;
        fs::write(etc.join("places"), ways(&setting))?;
        let milter_port = milter.as_ref().map(|milter| milter.port);
        fs::write(etc.join("main.cf"), main_cf(&home, &setting, tuned, milter_port))?;
        let port = setting.port;
        let door = format!("127.0.0.1:{port} inet n - n - - smtpd\n");
        fs::write(etc.join("master.cf"), door + SERVICES)?;
        let postfix = Self { name, tuned, duty: setting.duty, etc, port, milter };
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
        let mut settings = vec![format!("Postfix {version}, no DNS, no log file")];
        if self.milter.is_some() {
            settings.push("signed by OpenDKIM as a milter".to_owned());
        }
        if self.tuned {
            let lines = tuning(self.duty);
            settings.extend(lines.map(|(name, value)| format!("{name} = {value}")));
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
        let milter = self.milter.as_ref().map(OpenDkim::start).transpose()?;
        let running = Running::launch(command, self.port, trace)?;
        Ok(match milter {
            Some(milter) => running.with(milter),
            None => running,
        })
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

fn tuning(duty: Duty) -> impl Iterator<Item = &'static (&'static str, &'static str)> {
    TUNED.iter().chain(TUNED_TLS.iter().filter(move |_| duty.is_secure()))
}

/// A transport(5) table.
fn ways(setting: &Setting<'_>) -> String {
    if setting.duty != Duty::Places {
        return String::new();
    }
    places::lines(" smtp:[", &format!("]:{}", setting.sink))
}

fn main_cf(home: &Path, setting: &Setting<'_>, tuned: bool, milter: Option<u16>) -> String {
    let Setting { sink, duty, keys, .. } = setting;
    let home = home.display();
    let mut lines = format!(
        "compatibility_level = 3.6\n\
         queue_directory = {home}/queue\n\
         data_directory = {home}/data\n\
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
         minimal_backoff_time = 5s\n\
         queue_run_delay = 5s\n\
         relayhost = [{}]:{sink}\n",
        duty.place().address()
    );
    if *duty == Duty::Places {
        lines.push_str(&format!("transport_maps = texthash:{home}/etc/places\n"));
    }
    if duty.is_secure() {
        lines.push_str(&format!(
            "smtp_tls_security_level = encrypt\n\
             smtpd_tls_security_level = may\n\
             smtpd_tls_cert_file = {}\n\
             smtpd_tls_key_file = {}\n",
            keys.chain.display(),
            keys.key.display()
        ));
    } else {
        lines.push_str("smtp_tls_security_level = none\nsmtpd_tls_security_level = none\n");
    }
    if let Some(port) = milter {
        lines.push_str(&format!("smtpd_milters = inet:127.0.0.1:{port}\n"));
    }
    for (name, value) in tuning(*duty).filter(|_| tuned) {
        lines.push_str(&format!("{name} = {value}\n"));
    }
    lines
}
