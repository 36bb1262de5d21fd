//! What a submitter asks for beyond the ordinary, and how it is written on the wire: by the server
//! conversation it is read, by the client's it is passed on.

use std::fmt::{self, Write as _};

use serde::{Deserialize, Serialize};

use crate::ReversePath;

/// Which notices about a recipient the sender wants (RFC 3461 §4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub enum Notify {
    /// Nothing was said: of failure, and of delay where the relay tells of it.
    #[default]
    Unsaid,
    /// `NEVER`: of nothing at all.
    Never,
    /// Of these events only; at least one is true.
    Of {
        /// `SUCCESS`
        success: bool,
        /// `FAILURE`
        failure: bool,
        /// `DELAY`
        delay: bool,
    },
}

impl Notify {
    /// The sender wants to know that it was delivered, or passed on to who will not tell.
    pub const fn on_success(self) -> bool {
        matches!(self, Notify::Of { success: true, .. })
    }

    /// The sender wants to know that it failed.
    pub const fn on_failure(self) -> bool {
        matches!(self, Notify::Unsaid | Notify::Of { failure: true, .. })
    }

    /// The sender may be told that it takes long.
    pub const fn on_delay(self) -> bool {
        matches!(self, Notify::Unsaid | Notify::Of { delay: true, .. })
    }
}

/// The value of `NOTIFY=`; empty for [`Notify::Unsaid`].
impl fmt::Display for Notify {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Notify::Of { success, failure, delay } = *self else {
            return f.write_str(if *self == Notify::Never { "NEVER" } else { "" });
        };
        let events = [("SUCCESS", success), ("FAILURE", failure), ("DELAY", delay)];
        let wanted = events.into_iter().filter_map(|(event, wanted)| wanted.then_some(event));
        f.write_str(&wanted.collect::<Vec<_>>().join(","))
    }
}

/// How much of a message a notice of its failure returns (RFC 3461 §4.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Return {
    /// `FULL`: all of it.
    Full,
    /// `HDRS`: its header.
    Headers,
}

/// The value of `RET=`.
impl fmt::Display for Return {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if *self == Return::Full { "FULL" } else { "HDRS" })
    }
}

/// The address that the sender first wrote to (RFC 3461 §4.2).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct OriginalRecipient {
    /// The type of the address, such as `rfc822` or `utf-8`.
    pub kind: String,
    /// The address, decoded; no control characters are in it.
    pub address: String,
}

/// As a notice has it, decoded (RFC 3464 §2.3.1).
impl fmt::Display for OriginalRecipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.kind, self.address)
    }
}

impl OriginalRecipient {
    /// The value of `ORCPT=`, all of it ASCII.
    pub fn wire(&self) -> String {
        if self.kind.eq_ignore_ascii_case("utf-8") {
            return format!("{};{}", self.kind, utf8_xtext(&self.address));
        }
        format!("{};{}", self.kind, xtext(&self.address))
    }
}

/// By when a message must be delivered, from now on (RFC 2852 §4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct DeliverBy {
    /// Seconds from now; negative when the time is over already.
    pub seconds: i64,
    /// What happens then.
    pub mode: ByMode,
    /// Every server that passes the message on to one that does not know DELIVERBY tells so.
    pub trace: bool,
}

/// What happens to a message that was not delivered in time (RFC 2852 §4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ByMode {
    /// `R`: it goes back.
    Return,
    /// `N`: its sender is told that it is late.
    Notify,
}

/// The value of `BY=`.
impl fmt::Display for DeliverBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mode = if self.mode == ByMode::Return { 'R' } else { 'N' };
        let trace = if self.trace { "T" } else { "" };
        write!(f, "{};{mode}{trace}", self.seconds.clamp(-999_999_999, 999_999_999))
    }
}

/// How long a message is to be held before it goes on (RFC 4865 §5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Hold {
    /// `HOLDFOR=`: so many seconds from now.
    For(u64),
    /// `HOLDUNTIL=`: until this moment, in seconds since 1970.
    Until(i64),
}

/// From -9 to 9, where 0 is the usual (RFC 6710 §5).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize,
)]
pub struct Priority(i8);

impl Priority {
    /// The highest level of the policy `MIXER` (RFC 6710 Appendix B).
    pub const URGENT: Priority = Priority(4);

    /// The priority, unless it is out of range.
    pub const fn new(priority: i8) -> Option<Priority> {
        if priority >= -9 && priority <= 9 { Some(Priority(priority)) } else { None }
    }

    /// The number.
    pub const fn get(self) -> i8 {
        self.0
    }

    /// Reads `-9` to `9`.
    pub fn parse(text: &str) -> Option<Priority> {
        let digit = text.strip_prefix('-').unwrap_or(text);
        let legal = digit.len() == 1 && digit.as_bytes()[0].is_ascii_digit() && text != "-0";
        if legal { Priority::new(text.parse().ok()?) } else { None }
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Who first submitted a message, as `AUTH=` claims (RFC 4954 §5): the null path means that nobody
/// knows, or may say.
pub type Submitter = ReversePath;

/// Encodes text as xtext (RFC 3461 §4). What is beyond ASCII is encoded octet by octet.
pub fn xtext(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_graphic() && !b"+=".contains(&byte) {
            encoded.push(byte.into());
        } else {
            let _ = write!(encoded, "+{byte:02X}");
        }
    }
    encoded
}

/// Reads xtext; what it stands for must be printable ASCII.
pub(crate) fn parse_xtext(text: &str) -> Option<String> {
    let mut decoded = String::with_capacity(text.len());
    let mut bytes = text.bytes();
    let hex = |b: Option<u8>| match b? {
        digit @ b'0'..=b'9' => Some(digit - b'0'),
        letter @ b'A'..=b'F' => Some(letter - b'A' + 10),
        _ => None,
    };
    while let Some(byte) = bytes.next() {
        let meant = match byte {
            b'+' => hex(bytes.next())? << 4 | hex(bytes.next())?,
            b'=' => return None,
            _ if byte.is_ascii_graphic() => byte,
            _ => return None,
        };
        if !matches!(meant, b' '..=b'~') {
            return None;
        }
        decoded.push(meant.into());
    }
    Some(decoded)
}

/// Encodes an internationalized address as `utf-8-addr-xtext` (RFC 6533 §3).
fn utf8_xtext(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_ascii_graphic() && !"+=\\".contains(character) {
            encoded.push(character);
        } else {
            let _ = write!(encoded, "\\x{{{:02X}}}", u32::from(character));
        }
    }
    encoded
}

/// Reads `utf-8-addr-xtext` or `utf-8-addr-unitext` (RFC 6533 §3).
pub(crate) fn parse_utf8_xtext(text: &str) -> Option<String> {
    let mut decoded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(character) = rest.chars().next() {
        if let Some(escaped) = rest.strip_prefix("\\x{") {
            let (digits, behind) = escaped.split_once('}')?;
            let upper = |b: u8| b.is_ascii_digit() || (b'A'..=b'F').contains(&b);
            if !(2..=6).contains(&digits.len()) || !digits.bytes().all(upper) {
                return None;
            }
            let meant = char::from_u32(u32::from_str_radix(digits, 16).ok()?)?;
            decoded.push(Some(meant).filter(|c| !c.is_control())?);
            rest = behind;
        } else {
            let legal = !character.is_control() && !" +=\\".contains(character);
            decoded.push(Some(character).filter(|_| legal)?);
            rest = &rest[character.len_utf8()..];
        }
    }
    Some(decoded)
}

/// Reads a moment as RFC 3339 writes it, as seconds since 1970. Fractions of a second are dropped.
pub(crate) fn parse_moment(text: &str) -> Option<i64> {
    let (date, time) = (text.get(..10)?, text.get(11..19)?);
    let numbers = |text: &str, at: [usize; 3], between: u8| {
        let [a, b, c] = at.map(|at| text.get(at..at + 2).and_then(digits));
        let bytes = text.as_bytes();
        let apart = bytes[at[0] + 2] == between && bytes[at[1] + 2] == between;
        Some((a?, b?, c?)).filter(|_| apart)
    };
    let (year, month, day) = numbers(date, [2, 5, 8], b'-')?;
    let year = text.get(..2).and_then(digits)? * 100 + year;
    let (hour, minute, second) = numbers(time, [0, 3, 6], b':')?;
    let in_range = (1..=12).contains(&month)
        && (1..=days_in(year, month)).contains(&day)
        && hour < 24
        && minute < 60
        && second <= 60;
    let separated = text[10..].starts_with(['T', 't']);
    let offset = parse_offset(&text[19..])?;
    let days = days_since_1970(year, month, day);
    let seconds = days * 86_400 + hour * 3600 + minute * 60 + second - offset;
    (in_range && separated).then_some(seconds)
}

/// `[.fraction](Z|+hh:mm|-hh:mm)`, in seconds.
fn parse_offset(text: &str) -> Option<i64> {
    let zone = match text.strip_prefix('.') {
        Some(rest) => {
            let zone = rest.trim_start_matches(|c: char| c.is_ascii_digit());
            Some(zone).filter(|zone| zone.len() < rest.len())?
        }
        None => text,
    };
    if zone.eq_ignore_ascii_case("Z") {
        return Some(0);
    }
    let sign = if zone.starts_with('+') { 1 } else { -1 };
    let (hours, minutes) = zone.strip_prefix(['+', '-'])?.split_once(':')?;
    let (hours, minutes) = (digits(hours)?, digits(minutes)?);
    (hours < 24 && minutes < 60).then_some(sign * (hours * 3600 + minutes * 60))
}

/// Exactly two digits.
fn digits(text: &str) -> Option<i64> {
    let legal = text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit());
    if legal { text.parse().ok() } else { None }
}

fn days_in(year: i64, month: i64) -> i64 {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days of the Gregorian calendar, counted in years that begin in March.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let in_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    365 * year + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + in_year
        - 719_468
}

/// A moment in seconds since 1970 as RFC 3339 writes it, in UTC.
pub(crate) fn moment(seconds: i64) -> String {
    let (days, rest) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year + i64::from(month <= 2);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn xtext_is_read_as_it_was_written() {
        for text in ["", "plain", "a+b=c d", "~!\"#"] {
            assert_eq!(parse_xtext(&xtext(text)).as_deref(), Some(text));
        }
        assert_eq!(xtext("a+b"), "a+2Bb");
        for text in ["a=b", "+2", "+2g", "+0A", "+80", "a b", "+2b"] {
            assert_eq!(parse_xtext(text), None, "{text}");
        }
    }

    #[test]
    fn internationalized_addresses_survive_ascii() {
        let original =
            OriginalRecipient { kind: "utf-8".into(), address: "gr+ü=n@ö.example".into() };
        let wire = original.wire();
        assert_eq!(wire, "utf-8;gr\\x{2B}\\x{FC}\\x{3D}n@\\x{F6}.example");
        let (_, address) = wire.split_once(';').unwrap();
        assert_eq!(parse_utf8_xtext(address).as_ref(), Some(&original.address));
        assert_eq!(parse_utf8_xtext("grün").as_deref(), Some("grün"));
        for text in ["a+b", "a=b", "\\", "\\x{}", "\\x{0A}", "\\x{fc}", "\\x{110000}", "\\x{FC"] {
            assert_eq!(parse_utf8_xtext(text), None, "{text}");
        }
    }

    #[test]
    fn moments_are_read_as_they_are_written() {
        for seconds in [0, 951_782_400, 1_709_251_199, 4_102_444_800, 253_402_300_799] {
            assert_eq!(parse_moment(&moment(seconds)), Some(seconds), "{}", moment(seconds));
        }
        assert_eq!(moment(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(parse_moment("1970-01-01T01:30:00.25+01:30"), Some(0));
        assert_eq!(parse_moment("1969-12-31t23:00:00-01:00"), Some(0));
        for text in [
            "",
            "1970-01-01",
            "1970-13-01T00:00:00Z",
            "1970-02-29T00:00:00Z",
            "1970-01-01T24:00:00Z",
            "1970-01-01 00:00:00Z",
            "1970-01-01T00:00:00",
            "1970-01-01T00:00:00.Z",
            "1970/01/01T00:00:00Z",
            "1970-01-01T00:00:00+1:00",
            "1970-01-01T00:00:00Zx",
            "١970-01-01T00:00:00Z",
        ] {
            assert_eq!(parse_moment(text), None, "{text}");
        }
    }

    #[test]
    fn values_are_written_as_commands_have_them() {
        let by = |seconds, mode, trace| DeliverBy { seconds, mode, trace }.to_string();
        assert_eq!(by(120, ByMode::Return, false), "120;R");
        assert_eq!(by(-5_000_000_000, ByMode::Notify, true), "-999999999;NT");
        let both = Notify::Of { success: true, failure: false, delay: true };
        assert_eq!(
            (both.to_string(), Notify::Never.to_string()),
            ("SUCCESS,DELAY".into(), "NEVER".into())
        );
        assert!(Notify::Unsaid.on_failure() && !Notify::Unsaid.on_success());
        assert!(!Notify::Never.on_failure() && !Notify::Never.on_delay());
        assert_eq!(Priority::parse("-9").map(Priority::get), Some(-9));
        for text in ["10", "-", "+1", "", "-0", "-10", "a"] {
            assert_eq!(Priority::parse(text), None, "{text}");
        }
    }
}
