//! How often and how long mail is tried, and what classes of it there are.

use std::str::FromStr;
use std::time::Duration;

use waypost_queue::{DAY_MINUTES, Doubt, Rate, Selector, Window};

use super::{SPAN, count, octets, one_of, span};
use crate::mistake::Notes;
use crate::section::{At, Section};
use crate::units::{Span, UnitError, Word};

const WINDOW: &str = "write days, times and the offset from UTC: \"mon-fri 08:00-18:00 +01:00\", \"daily 22:00-06:00\"";
const RATE: &str = "write a number and in how long: \"100/1m\", \"5000/1h\"";
/// A notice is made in memory.
const MAX_RETURN_SIZE: u64 = 64 * 1024 * 1024;
const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

#[derive(Debug, Default)]
pub(crate) struct Queue {
    pub(crate) retry: Curve,
    pub(crate) lifetime: Option<Duration>,
    pub(crate) delay_notices: Option<Vec<Duration>>,
    pub(crate) return_size: Option<u64>,
    pub(crate) per_destination: Option<usize>,
    pub(crate) first_per_destination: Option<usize>,
    pub(crate) rate_per_destination: Option<Rate>,
    pub(crate) in_flight: Option<usize>,
    pub(crate) max_messages: Option<usize>,
    pub(crate) max_size: Option<u64>,
    pub(crate) tenant: Option<String>,
    pub(crate) unknown: Option<Doubt>,
    pub(crate) verp: Option<At<bool>>,
    pub(crate) classes: Vec<Class>,
}

/// How long mail waits between attempts.
#[derive(Debug, Default)]
pub(crate) struct Curve {
    pub(crate) first: Option<At<Duration>>,
    pub(crate) factor: Option<At<f64>>,
    pub(crate) max: Option<At<Duration>>,
    pub(crate) jitter: Option<At<f64>>,
    /// The waits one by one, in place of the others but jitter.
    pub(crate) steps: Option<At<Vec<Duration>>>,
}

/// One class of mail.
#[derive(Debug)]
pub(crate) struct Class {
    pub(crate) name: At<String>,
    pub(crate) matches: Option<At<Selector>>,
    pub(crate) retry: Curve,
    pub(crate) lifetime: Option<Duration>,
    pub(crate) delay_notices: Option<Vec<Duration>>,
    pub(crate) weight: Option<u32>,
    pub(crate) rate: Option<Rate>,
    pub(crate) windows: Vec<Window>,
    pub(crate) unknown: Option<Doubt>,
    pub(crate) verp: Option<At<bool>>,
}

pub(super) fn queue(section: Option<Section<'_>>, notes: &mut Notes<'_>) -> Queue {
    let Some(mut section) = section else { return Queue::default() };
    let tenants = ["user", "user-domain", "sender-domain", "listener"];
    let queue = Queue {
        retry: curve(&mut section, notes),
        lifetime: span(&mut section, "lifetime", notes),
        delay_notices: delay_notices(&mut section, notes),
        return_size: return_size(&mut section, notes),
        per_destination: count(&mut section, "per-destination", notes),
        first_per_destination: count(&mut section, "first-per-destination", notes),
        rate_per_destination: rate(&mut section, "rate-per-destination", notes),
        in_flight: count(&mut section, "in-flight", notes),
        max_messages: section
            .integer("max-messages", 1..1_000_000_001, notes)
            .and_then(|most| usize::try_from(most.value).ok()),
        max_size: octets(&mut section, "max-size", notes),
        tenant: one_of(&mut section, "tenant", &tenants, notes),
        unknown: unknown(&mut section, notes),
        verp: section.boolean("verp", notes),
        classes: section
            .sections("class", notes)
            .into_iter()
            .filter_map(|section| class(section, notes))
            .collect(),
    };
    section.end(notes);
    queue
}

fn class(mut section: Section<'_>, notes: &mut Notes<'_>) -> Option<Class> {
    let name = section.parsed::<Word>("name", "it names the class in lists and for plugins", notes);
    let name = section.required("name", name, "name = \"bulk\"", notes);
    let hint = "as in docs/selectors.md: \"listener:bulk or sender:*@news.example.org\"";
    let matches = section.parsed::<Selector>("match", hint, notes);
    let rate = rate(&mut section, "rate", notes);
    let windows = section.list::<Times>("windows", WINDOW, notes);
    let class = Class {
        name: name?.map(|name| name.0),
        matches,
        retry: curve(&mut section, notes),
        lifetime: span(&mut section, "lifetime", notes),
        delay_notices: delay_notices(&mut section, notes),
        weight: section
            .integer("weight", 1..1001, notes)
            .and_then(|weight| u32::try_from(weight.value).ok()),
        rate,
        windows: windows
            .map_or_else(Vec::new, |list| list.value.into_iter().map(|w| w.value.0).collect()),
        unknown: unknown(&mut section, notes),
        verp: section.boolean("verp", notes),
    };
    section.end(notes);
    Some(class)
}

/// So many in a time.
pub(super) fn rate(section: &mut Section<'_>, key: &str, notes: &mut Notes<'_>) -> Option<Rate> {
    section.parsed::<Pace>(key, RATE, notes).map(|rate| rate.value.0)
}

fn return_size(section: &mut Section<'_>, notes: &mut Notes<'_>) -> Option<u64> {
    let at = section.at().clone();
    let size = octets(section, "return-size", notes)?;
    if size <= MAX_RETURN_SIZE {
        return Some(size);
    }
    let hint = "the notice is made in memory; the usual is 1MiB";
    notes.add(&at, "'queue.return-size' must be at most 64MiB", hint);
    None
}

/// What becomes of mail when nobody knows whether it was delivered.
fn unknown(section: &mut Section<'_>, notes: &mut Notes<'_>) -> Option<Doubt> {
    let word = one_of(section, "unknown", &["retry", "bounce", "deliver"], notes)?;
    Some(match word.as_str() {
        "bounce" => Doubt::Bounce,
        "deliver" => Doubt::Deliver,
        _ => Doubt::Retry,
    })
}

fn delay_notices(section: &mut Section<'_>, notes: &mut Notes<'_>) -> Option<Vec<Duration>> {
    let list = section.list::<Span>("delay-notices", SPAN, notes)?;
    Some(list.value.into_iter().map(|span| span.value.0).collect())
}

fn curve(section: &mut Section<'_>, notes: &mut Notes<'_>) -> Curve {
    let mut wait = |key, notes: &mut Notes<'_>| {
        section.parsed::<Span>(key, SPAN, notes).map(|span| span.map(|span| span.0))
    };
    let (first, max) = (wait("first-retry", notes), wait("max-retry", notes));
    let steps = section.list::<Span>("retries", SPAN, notes);
    Curve {
        first,
        max,
        factor: section.number("retry-factor", 1.0..=100.0, notes),
        jitter: section.number("retry-jitter", 0.0..=1.0, notes),
        steps: steps
            .map(|list| list.map(|steps| steps.into_iter().map(|span| span.value.0).collect())),
    }
}

/// `100/1m`: so many in such a time.
struct Pace(Rate);

impl FromStr for Pace {
    type Err = UnitError;
    fn from_str(text: &str) -> Result<Pace, UnitError> {
        let refuse = || UnitError::new(text, "rate");
        let (number, time) = text.split_once('/').ok_or_else(refuse)?;
        let number: u32 = number.trim().parse().map_err(|_| refuse())?;
        let per = time.trim().parse::<Span>().map_err(|_| refuse())?.0;
        if number == 0 || per < Duration::from_secs(1) {
            return Err(refuse());
        }
        Ok(Pace(Rate { count: number, per }))
    }
}

/// `mon-fri 08:00-18:00 +01:00`: days, times, and how far local time is ahead of UTC.
struct Times(Window);

impl FromStr for Times {
    type Err = UnitError;
    fn from_str(text: &str) -> Result<Times, UnitError> {
        times(text).map(Times).ok_or_else(|| UnitError::new(text, "time of the week"))
    }
}

fn times(text: &str) -> Option<Window> {
    let mut words = text.split_whitespace();
    let (named, hours) = (days(words.next()?)?, words.next()?);
    let offset = words.next().map_or(Some(0), zone)?;
    let (from, until) = hours.split_once('-')?;
    let (from, until) = (minutes(from)?, minutes(until)?);
    let legal = words.next().is_none() && from < DAY_MINUTES && from != until;
    legal.then_some(Window { days: named, from, until, offset })
}

/// `daily`, `mon`, `mon-fri`, `sat,sun`.
fn days(text: &str) -> Option<[bool; 7]> {
    if text == "daily" {
        return Some([true; 7]);
    }
    let day = |name: &str| DAYS.iter().position(|day| *day == name);
    let mut days = [false; 7];
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (day(first)?, day(last)?);
        // From Friday to Monday goes over the end of the week.
        let count = (last + 7 - first) % 7;
        (0..=count).for_each(|step| days[(first + step) % 7] = true);
    }
    Some(days)
}

/// Minutes after midnight.
fn minutes(text: &str) -> Option<u16> {
    let (hours, minutes) = text.split_once(':')?;
    let digits = |text: &str| text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(hours) || !digits(minutes) {
        return None;
    }
    let (hours, minutes): (u16, u16) = (hours.parse().ok()?, minutes.parse().ok()?);
    let total = hours * 60 + minutes;
    (minutes < 60 && total <= DAY_MINUTES).then_some(total)
}

/// `+02:00`, `-05:30`, `UTC`.
fn zone(text: &str) -> Option<i16> {
    if text == "UTC" {
        return Some(0);
    }
    let ahead = i16::try_from(minutes(text.strip_prefix(['+', '-'])?)?).ok()?;
    (ahead <= 14 * 60).then_some(if text.starts_with('-') { -ahead } else { ahead })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_read_as_people_write_them() {
        let window = |text: &str| times(text).map(|w| (w.days, w.from, w.until, w.offset));
        let workdays = [true, true, true, true, true, false, false];
        assert_eq!(window("mon-fri 08:00-18:30 +01:00"), Some((workdays, 480, 1110, 60)));
        assert_eq!(window("daily 22:00-06:00"), Some(([true; 7], 1320, 360, 0)));
        let ends = [true, false, false, false, true, true, true];
        assert_eq!(window("fri-mon 00:00-24:00 -05:30"), Some((ends, 0, 1440, -330)));
        let two = [false, false, true, false, false, false, true];
        assert_eq!(window("wed,sun 09:00-10:00 UTC"), Some((two, 540, 600, 0)));
        for bad in [
            "",
            "mon",
            "mon 8:00-9:00",
            "mon 08:00",
            "mon 24:00-01:00",
            "mon 08:00-08:00",
            "mon 08:60-09:00",
            "mon 08:00-25:00",
            "monday 08:00-09:00",
            "mon 08:00-09:00 CET",
            "mon 08:00-09:00 +15:00",
            "mon 08:00-09:00 UTC x",
        ] {
            assert_eq!(window(bad), None, "{bad}");
        }
    }

    #[test]
    fn rates_are_read_as_people_write_them() {
        let rate =
            |text: &str| text.parse::<Pace>().ok().map(|pace| (pace.0.count, pace.0.per.as_secs()));
        assert_eq!(rate("100/1m"), Some((100, 60)));
        assert_eq!(rate("5000 / 1h"), Some((5000, 3600)));
        for bad in ["", "100", "0/1m", "1/0s", "1/500ms", "x/1m", "-1/1m"] {
            assert_eq!(rate(bad), None, "{bad}");
        }
    }
}
