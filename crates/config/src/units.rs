//! Times, sizes and networks as people write them.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

/// A length of time: `90s`, `5m`, `2h30m`, `5d`, `250ms`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span(pub(crate) Duration);

/// A length of time as in the configuration: `90s`, `2h30m`, `5d`.
///
/// # Errors
/// When it is written in another way; says so in words.
pub fn parse_span(text: &str) -> Result<Duration, String> {
    text.parse().map(|Span(span)| span).map_err(|error: UnitError| error.to_string())
}

/// A number of octets: `512`, `64KiB`, `25MB`, `1GiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Octets(pub(crate) u64);

/// Written in another way than it must be.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no {1}")]
pub(crate) struct UnitError(String, &'static str);

impl UnitError {
    /// `text` is not what `what` says, which follows "is no".
    pub(crate) fn new(text: &str, what: &'static str) -> UnitError {
        UnitError(text.to_owned(), what)
    }
}

impl FromStr for Span {
    type Err = UnitError;
    fn from_str(text: &str) -> Result<Span, UnitError> {
        let refuse = || UnitError(text.to_owned(), "length of time");
        let mut total = Duration::ZERO;
        for (number, unit) in numbers_and_units(text).ok_or_else(refuse)? {
            let ms = match unit {
                "ms" => 1,
                "s" => 1000,
                "m" => 60_000,
                "h" => 3_600_000,
                "d" => 86_400_000,
                _ => return Err(refuse()),
            };
            let part = number.checked_mul(ms).map(Duration::from_millis).ok_or_else(refuse)?;
            total = total.checked_add(part).ok_or_else(refuse)?;
        }
        Ok(Span(total))
    }
}

impl FromStr for Octets {
    type Err = UnitError;
    fn from_str(text: &str) -> Result<Octets, UnitError> {
        let refuse = || UnitError(text.to_owned(), "size");
        let parts = numbers_and_units(text).ok_or_else(refuse)?;
        let [(number, unit)] = parts[..] else { return Err(refuse()) };
        let factor = match unit {
            "" | "B" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            "TiB" => 1 << 40,
            "KB" | "kB" => 1000,
            "MB" => 1_000_000,
            "GB" => 1_000_000_000,
            "TB" => 1_000_000_000_000,
            _ => return Err(refuse()),
        };
        number.checked_mul(factor).map(Octets).ok_or_else(refuse)
    }
}

/// So many in a time: `100/1h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Often(pub(crate) u32, pub(crate) Duration);

impl FromStr for Often {
    type Err = UnitError;
    fn from_str(text: &str) -> Result<Often, UnitError> {
        let refuse = || UnitError(text.to_owned(), "number in a time");
        let (count, per) = text.split_once('/').ok_or_else(refuse)?;
        let count = count.trim().parse().map_err(|_| refuse())?;
        let Span(per) = per.parse().map_err(|_| refuse())?;
        if count == 0 || per.is_zero() {
            return Err(refuse());
        }
        Ok(Often(count, per))
    }
}

/// `2h30m` as `[(2, "h"), (30, "m")]`.
fn numbers_and_units(text: &str) -> Option<Vec<(u64, &str)>> {
    let mut parts = Vec::new();
    let mut rest = text.trim();
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let number = rest[..digits].parse().ok()?;
        rest = rest[digits..].trim_start();
        let letters = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
        parts.push((number, &rest[..letters]));
        rest = rest[letters..].trim_start();
    }
    Some(parts)
}

/// A length of time for people: `5 d`, `90 min`, `30 s`.
pub(crate) fn show_span(span: Duration) -> String {
    match span.as_secs() {
        s if s >= 172_800 && s % 86_400 == 0 => format!("{} days", s / 86_400),
        s if s >= 7200 && s % 3600 == 0 => format!("{} hours", s / 3600),
        s if s >= 120 && s % 60 == 0 => format!("{} minutes", s / 60),
        s => format!("{s} seconds"),
    }
}

/// Octets for people.
pub(crate) fn show_octets(octets: u64) -> String {
    match octets {
        n if n >= 1 << 30 => format!("{:.1} GiB", n as f64 / f64::from(1 << 30)),
        n if n >= 1 << 20 => format!("{:.1} MiB", n as f64 / f64::from(1 << 20)),
        n => format!("{n} bytes"),
    }
}

/// A text that is not empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Word(pub(crate) String);

impl FromStr for Word {
    type Err = UnitError;
    fn from_str(text: &str) -> Result<Word, UnitError> {
        let legal = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if text.is_empty() || !text.chars().all(legal) {
            return Err(UnitError(text.to_owned(), "name of letters, digits, '-', '_' and '.'"));
        }
        Ok(Word(text.to_owned()))
    }
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A host to connect to: a name or an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HostName(pub(crate) String);

impl FromStr for HostName {
    type Err = UnitError;
    fn from_str(text: &str) -> Result<HostName, UnitError> {
        let bare = text.trim_start_matches('[').trim_end_matches(']');
        if bare.parse::<IpAddr>().is_ok() {
            return Ok(HostName(bare.to_owned()));
        }
        match waypost_smtp::Domain::parse(text) {
            Ok(waypost_smtp::Domain::Name(name)) => Ok(HostName(name)),
            _ => Err(UnitError(text.to_owned(), "host name or address")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_and_sizes_are_read_as_people_write_them() {
        let seconds = |text: &str| text.parse::<Span>().map(|span| span.0.as_secs()).ok();
        assert_eq!(seconds("5m"), Some(300));
        assert_eq!(seconds("2h 30m"), Some(9000));
        assert_eq!(seconds("5d"), Some(432_000));
        let octets = |text: &str| text.parse::<Octets>().map(|octets| octets.0).ok();
        assert_eq!(octets("512"), Some(512));
        assert_eq!(octets("64 KiB"), Some(65_536));
        assert_eq!(octets("25MB"), Some(25_000_000));
        for bad in ["", "m", "5", "5x", "-5m", "5.5m", "99999999999999999999d"] {
            assert_eq!(seconds(bad), None, "{bad}");
        }
        for bad in ["", "KiB", "5KiB5", "5 elephants", "99999999999TiB"] {
            assert_eq!(octets(bad), None, "{bad}");
        }
    }
}
