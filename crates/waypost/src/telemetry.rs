//! What is logged, and how: one line for each event, for people or for programs.
//!
//! An event has two things called `message`: its own words, and the id of the mail it is about.
//! The words become `event` in JSON and stand alone in text; the id is the field `message`.

use std::fmt::{self, Debug, Write as _};
use std::io::Write as _;

use anyhow::{Context as _, Result};
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry};
use waypost_config::LogSettings;
use waypost_mail::visible::steers;
use waypost_mail::{Clock, SystemClock, Timestamp};

/// The environment variable that says what is logged instead of the configuration, as
/// `waypost=debug,warn`.
pub const FILTER: &str = "WAYPOST_LOG";

/// Logs to standard error from now on. For the program alone: there is one log in a process, and
/// tests that start several relays leave it off.
///
/// # Errors
/// When [`FILTER`] cannot be read, or there is a log already.
pub fn start(settings: &LogSettings) -> Result<()> {
    let filter = match std::env::var(FILTER) {
        Ok(directives) => EnvFilter::try_new(&directives)
            .with_context(|| format!("{FILTER}={directives} says not what to log"))?,
        Err(_) => EnvFilter::try_new(directives(&settings.level))?,
    };
    let json = settings.json;
    let journal = Journal::new(move |record: &Record| {
        let line = if json { record.to_json() } else { record.to_text() };
        // A log that cannot be written must not stop the mail.
        let _ = std::io::stderr().write_all(line.as_bytes());
    });
    Registry::default().with(filter).with(journal).try_init().context("there is a log already")
}

/// The level is about this program; of the libraries under it only warnings are of interest.
fn directives(level: &str) -> String {
    match level {
        "error" => "error".to_owned(),
        level => format!("warn,waypost={level}"),
    }
}

/// One event, with the fields of the spans around it.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// When.
    pub time: Timestamp,
    /// How grave.
    pub level: Level,
    /// The module that tells.
    pub target: String,
    /// What happened, in words.
    pub event: String,
    /// To whom and how: `session`, `message`, `rcpt`, `attempt`, `hop` and others.
    pub fields: Vec<(&'static str, Value)>,
}

impl Record {
    /// The field of this name as text; the innermost, where a span has it too.
    pub fn field(&self, name: &str) -> Option<String> {
        let (_, value) = self.fields.iter().rev().find(|(known, _)| *known == name)?;
        Some(value.as_str().map_or_else(|| value.to_string(), str::to_owned))
    }

    fn to_text(&self) -> String {
        let mut line = format!("{} {:>5} {}: ", self.time, self.level, self.target);
        push_visible(&mut line, &self.event);
        for (name, value) in &self.fields {
            let _ = write!(line, " {name}=");
            match value.as_str() {
                Some(text) if is_word(text) => line.push_str(text),
                // JSON quotes what strangers could use to forge a line or steer a terminal.
                _ => push_visible(&mut line, &value.to_string()),
            }
        }
        line.push('\n');
        line
    }

    fn to_json(&self) -> String {
        let mut object = Map::new();
        for (name, value) in &self.fields {
            object.insert((*name).to_owned(), value.clone());
        }
        let own = [
            ("time", self.time.to_string()),
            ("level", self.level.to_string()),
            ("target", self.target.clone()),
            ("event", self.event.clone()),
        ];
        object.extend(own.map(|(name, text)| (name.to_owned(), Value::String(text))));
        format!("{}\n", Value::Object(object))
    }
}

/// Controls that JSON leaves as they are, such as U+009B, steer terminals too.
fn push_visible(line: &mut String, text: &str) {
    for c in text.chars() {
        if steers(c) {
            let _ = write!(line, "{}", c.escape_unicode());
        } else {
            line.push(c);
        }
    }
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| !c.is_whitespace() && !steers(c) && c != '"')
}

/// A layer that hands each event to a function.
#[derive(Debug)]
pub struct Journal<F> {
    write: F,
}

impl<F: Fn(&Record) + 'static> Journal<F> {
    /// Every event that the filters before it let through goes to `write`.
    pub fn new(write: F) -> Journal<F> {
        Journal { write }
    }
}

impl<S, F> Layer<S> for Journal<F>
where
    S: Subscriber + for<'s> LookupSpan<'s>,
    F: Fn(&Record) + 'static,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &Id, values: &tracing::span::Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if let Some(fields) = span.extensions_mut().get_mut::<Fields>() {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Vec::new();
        for span in context.event_scope(event).into_iter().flat_map(|scope| scope.from_root()) {
            if let Some(around) = span.extensions().get::<Fields>() {
                fields.extend(around.0.iter().cloned());
            }
        }
        let mut own = Fields::default();
        event.record(&mut own);
        let words = own.0.iter().position(|(name, _)| *name == "message");
        let words = words.map(|at| text(own.0.remove(at).1)).unwrap_or_default();
        let mut target = event.metadata().target().to_owned();
        // What libraries say through the log crate carries where it is from in fields.
        own.0.retain(|(name, value)| {
            if *name == "log.target" {
                target = text(value.clone());
            }
            !name.starts_with("log.")
        });
        // The event knows best; what a span says too is not said twice.
        fields.retain(|(name, _)| own.0.iter().all(|(known, _)| known != name));
        fields.append(&mut own.0);
        let level = *event.metadata().level();
        (self.write)(&Record { time: SystemClock.now(), level, target, event: words, fields });
    }
}

fn text(value: Value) -> String {
    match value {
        Value::String(text) => text,
        other => other.to_string(),
    }
}

/// Fields of a span or an event, in their order.
#[derive(Debug, Default)]
struct Fields(Vec<(&'static str, Value)>);

impl Fields {
    fn add(&mut self, field: &Field, value: impl Into<Value>) {
        self.0.push((field.name(), value.into()));
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.add(field, format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, value);
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.add(field, value.to_string());
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.to_text().trim_end())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing::{info, info_span};

    use super::*;

    fn records(work: impl FnOnce()) -> Vec<Record> {
        let kept = Arc::new(Mutex::new(Vec::new()));
        let keeper = kept.clone();
        let journal = Journal::new(move |record: &Record| {
            keeper.lock().unwrap().push(record.clone());
        });
        tracing::subscriber::with_default(Registry::default().with(journal), work);
        let records = kept.lock().unwrap();
        records.clone()
    }

    #[test]
    fn words_and_message_id_are_kept_apart() {
        let records = records(|| {
            let _session = info_span!("session", session = "s1", client = "192.0.2.1:99").entered();
            info!(message = %"01ab", size = 5, "message accepted");
            info!(session = "s1", "done");
        });
        let mut first = records[0].clone();
        first.time = Timestamp(0);
        assert_eq!(
            first.to_text(),
            "1970-01-01T00:00:00.000Z  INFO waypost::telemetry::tests: message accepted \
             session=s1 client=192.0.2.1:99 message=01ab size=5\n"
        );
        let json: Value = serde_json::from_str(&first.to_json()).unwrap();
        assert_eq!(json["event"], "message accepted");
        assert_eq!((&json["message"], &json["size"]), (&"01ab".into(), &5.into()));
        assert_eq!(json["session"], "s1");
        assert_eq!((records[1].event.as_str(), records[1].field("message")), ("done", None));
        let names: Vec<_> = records[1].fields.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["client", "session"], "once each");
    }

    #[test]
    fn a_stranger_cannot_forge_a_line() {
        let records = records(|| {
            info!(helo = "x\n2026 \u{9b}31m INFO a\"b", rcpt = "\u{202e}x", "greeted\r\nagain")
        });
        let line = records[0].to_text();
        assert_eq!(line.matches('\n').count(), 1, "{line:?}");
        assert!(line.trim_end().chars().all(|c| !steers(c)), "{line:?}");
        assert_eq!(records[0].to_json().matches('\n').count(), 1);
    }

    #[test]
    fn levels_are_about_this_program() {
        assert_eq!(directives("debug"), "warn,waypost=debug");
        assert_eq!(directives("error"), "error");
    }
}
