//! `log`: lines of plugins in the relay's log, bounded and escaped.

use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};

use tracing::{debug, enabled, error, info, trace, warn};
use waypost_mail::Timestamp;
use waypost_mail::visible::steers;

use crate::bindings::waypost::policy::log::{Host, Level};
use crate::bindings::waypost::policy::types::Attr;
use crate::context::Context;

/// Longest line in octets.
const MAX_LINE: usize = 4096;
/// Lines a second, and at once.
const RATE: u64 = 100;
const BURST: u64 = 1000;

/// Lines that a plugin may still write; for all its instances.
#[derive(Debug, Default)]
pub(crate) struct Allowance(Mutex<Option<Left>>);

#[derive(Debug)]
struct Left {
    thousandths: u64,
    at: Timestamp,
    dropped: u64,
}

/// What becomes of a line.
#[derive(Debug, PartialEq, Eq)]
enum Leave {
    /// Write it, and say before it how many were left out.
    Granted {
        dropped: u64,
    },
    Refused,
}

impl Allowance {
    fn ask(&self, now: Timestamp) -> Leave {
        let mut left = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let left = left.get_or_insert(Left { thousandths: BURST * 1000, at: now, dropped: 0 });
        let gained = now.0.saturating_sub(left.at.0).saturating_mul(RATE);
        left.thousandths = left.thousandths.saturating_add(gained).min(BURST * 1000);
        left.at = now;
        match left.thousandths.checked_sub(1000) {
            Some(rest) => {
                left.thousandths = rest;
                Leave::Granted { dropped: std::mem::take(&mut left.dropped) }
            }
            None => {
                left.dropped += 1;
                Leave::Refused
            }
        }
    }
}

impl Host for Context {
    async fn log(
        &mut self,
        level: Level,
        message: String,
        fields: Vec<Attr>,
    ) -> wasmtime::Result<()> {
        super::spend_or!(self, message.len(), ());
        let rights = &self.rights;
        let plugin = rights.plugin.as_str();
        match rights.lines.ask(rights.services.services.clock.now()) {
            Leave::Refused => {
                rights.series.add("policy_log_lines_dropped", &[("plugin", plugin)], 1);
            }
            Leave::Granted { dropped } => {
                if dropped > 0 {
                    warn!(plugin, dropped, "log lines of a plugin were left out");
                }
                write(level, plugin, self.place(), &line(&message, &fields));
            }
        }
        Ok(())
    }

    async fn enabled(&mut self, level: Level) -> wasmtime::Result<bool> {
        super::spend_or!(self, 1, false);
        Ok(match level {
            Level::Trace => enabled!(target: "waypost_plugin::guest", tracing::Level::TRACE),
            Level::Debug => enabled!(target: "waypost_plugin::guest", tracing::Level::DEBUG),
            Level::Info => enabled!(target: "waypost_plugin::guest", tracing::Level::INFO),
            Level::Warn => enabled!(target: "waypost_plugin::guest", tracing::Level::WARN),
            Level::Error => enabled!(target: "waypost_plugin::guest", tracing::Level::ERROR),
        })
    }
}

fn write(level: Level, plugin: &str, stage: &str, line: &str) {
    match level {
        Level::Trace => trace!(target: "waypost_plugin::guest", plugin, stage, "{line}"),
        Level::Debug => debug!(target: "waypost_plugin::guest", plugin, stage, "{line}"),
        Level::Info => info!(target: "waypost_plugin::guest", plugin, stage, "{line}"),
        Level::Warn => warn!(target: "waypost_plugin::guest", plugin, stage, "{line}"),
        Level::Error => error!(target: "waypost_plugin::guest", plugin, stage, "{line}"),
    }
}

/// Message and fields, with control characters escaped and the end cut.
fn line(message: &str, fields: &[Attr]) -> String {
    let mut line = String::new();
    escape(message, &mut line);
    for Attr { name, value } in fields {
        line.push(' ');
        escape(name, &mut line);
        line.push('=');
        escape(value, &mut line);
    }
    if line.len() > MAX_LINE {
        line.truncate(line.floor_char_boundary(MAX_LINE));
        line.push('…');
    }
    line
}

fn escape(text: &str, line: &mut String) {
    for character in text.chars().take(MAX_LINE + 1) {
        if steers(character) {
            // Writing to a string cannot fail.
            let _ = write!(line, "{}", character.escape_default());
        } else {
            line.push(character);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_escaped_and_cut() {
        let fields = [Attr { name: "k".into(), value: "\u{1b}[2J".into() }];
        assert_eq!(line("a\r\nb", &fields), "a\\r\\nb k=\\u{1b}[2J");
        assert!(line(&"x".repeat(10_000_000), &[]).len() <= MAX_LINE + 3);
    }

    #[test]
    fn a_flood_is_dammed_and_told_of() {
        let allowance = Allowance::default();
        let granted = (0..5000).filter(|_| allowance.ask(Timestamp(0)) != Leave::Refused).count();
        assert_eq!(granted as u64, BURST);
        assert_eq!(allowance.ask(Timestamp(1000)), Leave::Granted { dropped: 4000 });
        assert_eq!(allowance.ask(Timestamp(1000)), Leave::Granted { dropped: 0 });
    }
}
