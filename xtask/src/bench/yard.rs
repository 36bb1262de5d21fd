//! Where relays are prepared: each with a home, a port and the same ways.

use std::fs;
use std::path::PathBuf;

use anyhow::Context;

use super::exim::Exim;
use super::haraka::Haraka;
use super::opensmtpd::OpenSmtpd;
use super::postfix::Postfix;
use super::relay::{Relay, free_ports};
use super::setting::{Duty, Keys, Setting};
use super::waypost::{Policy, Waypost};
use super::{Options, Which};

/// Makes relays for one run.
pub(crate) struct Yard<'a> {
    pub(crate) options: &'a Options,
    pub(crate) home: PathBuf,
    /// The sink's port.
    pub(crate) sink: u16,
    pub(crate) keys: Keys,
    ports: Box<dyn Iterator<Item = u16>>,
}

impl<'a> Yard<'a> {
    pub(crate) fn new(options: &'a Options, home: PathBuf, sink: u16) -> anyhow::Result<Self> {
        let keys = Keys::make(&home)?;
        Ok(Self { options, home, sink, keys, ports: Box::new(free_ports()) })
    }

    pub(crate) fn port(&mut self) -> anyhow::Result<u16> {
        self.ports.next().context("no free port between 20000 and 30000")
    }

    /// Every relay that is wanted and can do this, below `place`.
    pub(crate) fn relays(
        &mut self,
        duty: Duty,
        place: &str,
        whom: impl Fn(&str) -> bool,
    ) -> anyhow::Result<Vec<Box<dyn Relay>>> {
        let home = self.home.join(place);
        fs::create_dir_all(&home)?;
        let mut relays: Vec<Box<dyn Relay>> = Vec::new();
        if self.wants(Which::Waypost) && whom("waypost") {
            relays.push(Box::new(self.waypost(&home, duty, None)?));
        }
        if duty == Duty::Plain {
            for policy in self.policies()? {
                relays.push(Box::new(self.waypost(&home, duty, Some(policy))?));
            }
        }
        for (which, name) in [
            (Which::Postfix, "postfix"),
            (Which::PostfixTuned, "postfix-tuned"),
            (Which::Exim, "exim"),
            (Which::OpenSmtpd, "opensmtpd"),
            (Which::Haraka, "haraka"),
        ] {
            if self.wants(which) && whom(name) {
                relays.push(self.stranger(which, &home, duty)?);
            }
        }
        Ok(relays)
    }

    fn wants(&self, which: Which) -> bool {
        self.options.only.is_empty() || self.options.only.contains(&which)
    }

    fn policies(&self) -> anyhow::Result<Vec<&'static Policy>> {
        let mut policies = Vec::new();
        if self.wants(Which::FiveHooks) {
            policies.push(&Policy::FIVE_HOOKS);
        }
        // Only when asked for: four relays more would double the run.
        if self.options.only.contains(&Which::Languages) {
            policies.extend(&Policy::LANGUAGES);
        }
        if !policies.is_empty() {
            crate::guests::all()?;
        }
        Ok(policies)
    }

    fn waypost(
        &mut self,
        home: &std::path::Path,
        duty: Duty,
        policy: Option<&Policy>,
    ) -> anyhow::Result<Waypost> {
        if duty == Duty::Signed {
            crate::guests::all()?;
        }
        let port = self.port()?;
        let setting = Setting { home, port, sink: self.sink, duty, keys: &self.keys };
        Waypost::prepare(setting, self.options.waypost.as_deref(), policy)
    }

    fn stranger(
        &mut self,
        which: Which,
        home: &std::path::Path,
        duty: Duty,
    ) -> anyhow::Result<Box<dyn Relay>> {
        let (port, another) = (self.port()?, self.port()?);
        let setting = Setting { home, port, sink: self.sink, duty, keys: &self.keys };
        Ok(match which {
            Which::Exim => Box::new(Exim::prepare(setting)?),
            Which::OpenSmtpd => Box::new(OpenSmtpd::prepare(setting)?),
            Which::Haraka => Box::new(Haraka::prepare(setting)?),
            _ => Box::new(Postfix::prepare(setting, which == Which::PostfixTuned, another)?),
        })
    }
}
