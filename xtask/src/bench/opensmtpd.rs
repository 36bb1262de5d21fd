//! OpenSMTPD as the bench runs it: Debian's build, in a root of its own.

use std::path::Path;

use anyhow::Context;

use super::jail::Jail;
use super::places;
use super::relay::{Relay, Running};
use super::setting::{Duty, NAME, Setting};

/// One instance, ready to start.
pub(crate) struct OpenSmtpd {
    jail: Jail,
    port: u16,
}

impl OpenSmtpd {
    pub(crate) fn prepare(setting: Setting<'_>) -> anyhow::Result<OpenSmtpd> {
        let jail = Jail::copy("opensmtpd", &setting.home.join("opensmtpd"))?;
        jail.put("etc/smtpd.conf", &configuration(&setting), 0)?;
        jail.put("etc/mailname", &format!("{NAME}\n"), 0)?;
        Ok(OpenSmtpd { jail, port: setting.port })
    }
}

impl Relay for OpenSmtpd {
    fn name(&self) -> &str {
        "opensmtpd"
    }

    fn settings(&self) -> Vec<String> {
        vec![
            "OpenSMTPD of Debian's package, no TLS, no DNS, its log on standard error".to_owned(),
            "smtp limit max-mails 100000 (it takes 100 a session by default)".to_owned(),
            "everything else as it is by default".to_owned(),
        ]
    }

    fn start(&self, trace: Option<&Path>) -> anyhow::Result<Running> {
        let command = self.jail.command(&["/usr/sbin/smtpd", "-d"])?;
        Running::launch(command, self.port, trace).with_context(|| self.jail.log())
    }

    fn groups(&self) -> anyhow::Result<Option<u64>> {
        Ok(None)
    }
}

fn configuration(setting: &Setting<'_>) -> String {
    let Setting { port, sink, duty, .. } = setting;
    let action = |name: &str, address: std::net::Ipv4Addr| {
        format!("action {name} relay host \"smtp+notls://{address}:{sink}\" helo {NAME}\n")
    };
    let ways = if *duty == Duty::Places { places::ways() } else { Vec::new() };
    let (mut actions, mut matches) = (String::new(), String::new());
    for (number, (place, domains)) in ways.iter().enumerate() {
        actions += &action(&format!("way{number}"), place.address());
        let domains: Vec<String> = domains.iter().map(|domain| format!("{domain:?}")).collect();
        actions += &format!("table domains{number} {{ {} }}\n", domains.join(", "));
        matches += &format!("match from any for domain <domains{number}> action way{number}\n");
    }
    actions += &action("rest", duty.place().address());
    format!(
        "smtp max-message-size 50M\n\
         smtp limit max-mails 100000\n\
         listen on 127.0.0.1 port {port} hostname {NAME}\n\
         {actions}{matches}\
         match from any for any action rest\n"
    )
}
