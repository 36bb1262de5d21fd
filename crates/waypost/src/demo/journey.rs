//! One message's way in the order of time, from what client, relay and sink saw of it.

use std::fmt;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::Instant;
use waypost_admin::api::Page;

use super::words;
use crate::send::said;
use crate::sink::Arrival;
use crate::submit::{Client, Report};
use crate::table::plain;
use crate::telemetry::Record;

/// What the relay tells in its log.
pub(super) struct Records {
    coming: UnboundedReceiver<(Instant, Record)>,
}

impl Records {
    pub(super) fn new(coming: UnboundedReceiver<(Instant, Record)>) -> Records {
        Records { coming }
    }

    /// All that came so far.
    pub(super) fn take(&mut self) -> Vec<(Instant, Record)> {
        std::iter::from_fn(|| self.coming.try_recv().ok()).collect()
    }

    /// Waits for the next.
    pub(super) async fn next(&mut self) -> Option<(Instant, Record)> {
        self.coming.recv().await
    }
}

/// Stages of one message, each with the time since it set out.
#[derive(Debug)]
pub(super) struct Journey {
    start: Instant,
    stages: Vec<(Duration, String)>,
}

impl Journey {
    /// A message sets out now.
    pub(super) fn begin() -> Journey {
        Journey { start: Instant::now(), stages: Vec::new() }
    }

    fn at(&mut self, moment: Instant, what: String) {
        self.stages.push((moment.saturating_duration_since(self.start), what));
    }

    /// What the client saw.
    pub(super) fn submitted(&mut self, client: &Client, report: &Report) {
        self.stages.push((report.connected, format!("client: connected to {}", client.target)));
        if let Some((version, at)) = report.tls {
            let how = if client.implicit_tls { "from the first byte" } else { "by STARTTLS" };
            let text = format!("client: TLS {version} {how}, the relay's certificate verified");
            self.stages.push((at, text));
        }
        if let Some(mechanism) = &report.mechanism {
            self.stages.push((report.ready, format!("client: logged in by {mechanism}")));
        }
        let replies = report.recipients.iter().map(|(_, result)| said(result.as_ref()));
        let mut replies: Vec<String> = replies.collect();
        replies.dedup();
        let mut text = format!("client: told {}", replies.join("; "));
        if let Some(written) = report.written {
            text += &format!(", {} after its last byte", ms(report.done.saturating_sub(written)));
        }
        self.stages.push((report.done, text));
    }

    /// What the relay told.
    pub(super) fn relayed(&mut self, records: Vec<(Instant, Record)>) {
        for (moment, record) in records {
            if let Some(text) = words::of_record(&record) {
                self.at(moment, text);
            }
        }
    }

    /// What an operator sees at this moment.
    pub(super) fn asked(&mut self, list: &Page) {
        for message in &list.messages {
            let text = format!(
                "operator: queue list shows {} with {} recipient waiting, {} done, going to {}",
                message.id, message.waiting, message.done, message.destination
            );
            self.at(Instant::now(), text);
        }
    }

    /// What the sink saw.
    pub(super) fn arrived(&mut self, arrival: &Arrival) {
        self.at(arrival.at, words::of_arrival(arrival));
        let moment = arrival.at;
        for field in words::trace(arrival) {
            self.at(moment, format!("    {field}"));
        }
    }
}

impl fmt::Display for Journey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut stages: Vec<_> = self.stages.iter().collect();
        // Stable: what happened at one moment keeps its order.
        stages.sort_by_key(|(at, _)| *at);
        for (at, what) in stages {
            let mut time = if what.starts_with(' ') { String::new() } else { ms(*at) };
            let indent = what.len() - what.trim_start().len();
            for line in words::wrap(&plain(what)) {
                writeln!(f, "{time:>12}  {:indent$}{line}", "")?;
                time.clear();
            }
        }
        Ok(())
    }
}

fn ms(duration: Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_stand_in_the_order_of_time() {
        let mut journey = Journey::begin();
        journey.stages.push((Duration::from_millis(20), "second".into()));
        journey.stages.push((Duration::from_millis(20), "    detail\x1b[1m".into()));
        journey.stages.push((Duration::from_micros(1500), "first".into()));
        let expected = "      1.5 ms  first\n     20.0 ms  second\n                  detail [1m\n";
        assert_eq!(journey.to_string(), expected);
    }
}
