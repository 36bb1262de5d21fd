//! Exim as the bench runs it: Debian's build, in a root of its own.

use std::path::Path;
use std::process::Command;

use anyhow::Context;

use super::jail::Jail;
use super::places;
use super::relay::{Relay, Running};
use super::setting::{DOMAIN, Duty, NAME, SELECTOR, Setting};

/// Its number within the root.
const USER: u32 = 101;

/// What differs from Exim's defaults: none of it makes it less durable.
const TUNED: &[&str] = &[
    "smtp_accept_max = 0",
    "smtp_accept_max_per_connection = 0",
    // By default the eleventh message of a connection waits for the next run of the queue.
    "smtp_accept_queue_per_connection = 0",
    "split_spool_directory = true",
    "message_size_limit = 50M",
    "host_lookup =",
    "rfc1413_hosts =",
];

/// One instance, ready to start.
pub(crate) struct Exim {
    jail: Jail,
    port: u16,
}

impl Exim {
    pub(crate) fn prepare(setting: Setting<'_>) -> anyhow::Result<Exim> {
        let jail = Jail::copy("exim", &setting.home.join("exim"))?;
        for (name, file) in [
            ("etc/exim4/chain", &setting.keys.chain),
            ("etc/exim4/key", &setting.keys.key),
            ("etc/exim4/dkim", &setting.keys.dkim),
        ] {
            jail.put_file(name, file, USER)?;
        }
        jail.put("etc/exim4/places", &places::lines(": ", ""), USER)?;
        jail.put("etc/exim4/exim4.conf", &configuration(&setting), 0)?;
        Ok(Exim { jail, port: setting.port })
    }
}

impl Relay for Exim {
    fn name(&self) -> &str {
        "exim"
    }

    fn settings(&self) -> Vec<String> {
        let version = self.jail.command(&["/usr/sbin/exim4", "-bV"]).and_then(said);
        let version = version.unwrap_or_else(|_| "Exim of unknown version".to_owned());
        let mut settings =
            vec![format!("{version}, no DNS, its log as shipped; queue run every 5 s")];
        settings.extend(TUNED.iter().map(|line| (*line).to_owned()));
        settings
    }

    fn start(&self, trace: Option<&Path>) -> anyhow::Result<Running> {
        let command = self.jail.command(&["/usr/sbin/exim4", "-bdf", "-q5s"])?;
        Running::launch(command, self.port, trace).with_context(|| self.jail.log())
    }

    fn groups(&self) -> anyhow::Result<Option<u64>> {
        Ok(None)
    }
}

fn said(mut command: Command) -> anyhow::Result<String> {
    let output = command.stdout(std::process::Stdio::piped()).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(text.lines().next().context("it says nothing")?.to_owned())
}

fn configuration(setting: &Setting<'_>) -> String {
    let Setting { port, sink, duty, .. } = setting;
    let (door, way) = if duty.is_secure() {
        let door = "tls_advertise_hosts = *\n\
            tls_certificate = /etc/exim4/chain\n\
            tls_privatekey = /etc/exim4/key\n";
        (door, "hosts_require_tls = *\ntls_verify_hosts =\ntls_try_verify_hosts =\n")
    } else {
        ("tls_advertise_hosts =\n", "hosts_avoid_tls = *\n")
    };
    let signature = if *duty == Duty::Signed {
        format!(
            "dkim_domain = {DOMAIN}\ndkim_selector = {SELECTOR}\n\
             dkim_private_key = /etc/exim4/dkim\ndkim_canon = relaxed\n"
        )
    } else {
        String::new()
    };
    let place = match duty {
        Duty::Places => {
            format!(
                "${{lookup{{$domain}}lsearch{{/etc/exim4/places}}{{$value}}{{{}}}}}",
                duty.place().address()
            )
        }
        _ => duty.place().address().to_string(),
    };
    let tuned = TUNED.join("\n");
    format!(
        "primary_hostname = {NAME}\n\
         local_interfaces = 127.0.0.1\n\
         daemon_smtp_ports = {port}\n\
         keep_environment =\n\
         acl_smtp_rcpt = accept\n\
         acl_smtp_data = accept\n\
         {door}{tuned}\n\
         begin routers\n\
         all:\n\
         driver = manualroute\n\
         route_data = {place}\n\
         self = send\n\
         transport = out\n\
         begin transports\n\
         out:\n\
         driver = smtp\n\
         port = {sink}\n\
         allow_localhost\n\
         {way}{signature}\
         begin retry\n\
         * * F,1h,5s\n"
    )
}
