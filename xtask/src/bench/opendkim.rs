//! OpenDKIM, the milter that signs for Postfix: Debian's build, in a root of its own.

use std::net::TcpStream;
use std::path::Path;
use std::process::Child;
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::time::Instant;

use super::jail::Jail;
use super::setting::{DOMAIN, Keys, SELECTOR};

const PATIENCE: Duration = Duration::from_secs(20);

/// Ready to start.
pub(crate) struct OpenDkim {
    jail: Jail,
    pub(crate) port: u16,
}

impl OpenDkim {
    pub(crate) fn prepare(home: &Path, port: u16, keys: &Keys) -> anyhow::Result<OpenDkim> {
        let jail = Jail::copy("opendkim", &home.join("opendkim"))?;
        jail.put_file("etc/dkim.pem", &keys.dkim, 0)?;
        let configuration = format!(
            "Mode s\nDomain {DOMAIN}\nSelector {SELECTOR}\nKeyFile /etc/dkim.pem\n\
             Canonicalization relaxed/relaxed\nSignatureAlgorithm rsa-sha256\n\
             InternalHosts 127.0.0.0/8\nSocket inet:{port}@127.0.0.1\nSyslog no\n"
        );
        jail.put("etc/opendkim.conf", &configuration, 0)?;
        Ok(OpenDkim { jail, port })
    }

    /// Starts it, and waits until it listens: without it Postfix would put mail off.
    pub(crate) fn start(&self) -> anyhow::Result<Child> {
        let mut command =
            self.jail.command(&["/usr/sbin/opendkim", "-f", "-x", "/etc/opendkim.conf"])?;
        let mut child = command.spawn().context("OpenDKIM did not start")?;
        let began = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            if began.elapsed() > PATIENCE || child.try_wait()?.is_some() {
                child.kill().ok();
                child.wait()?;
                bail!("OpenDKIM does not listen: {}", self.jail.log());
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(child)
    }
}
