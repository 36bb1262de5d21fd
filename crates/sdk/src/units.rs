//! Times and sizes, written as in the relay's own configuration.

use std::time::Duration;

use serde::{Deserialize, Deserializer};

/// A length of time: `90s`, `5m`, `2h30m`, `5d`, `250ms`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

/// A number of octets: `512`, `64KiB`, `25MB`, `1GiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Octets(pub u64);

impl Span {
    /// Reads a length of time.
    ///
    /// # Errors
    /// Says how to write one.
    pub fn parse(text: &str) -> Result<Span, String> {
        let sum = |parts: Vec<(u64, &str)>| {
            parts.into_iter().try_fold(0_u64, |total, (number, unit)| {
                let ms = match unit {
                    "ms" => 1,
                    "s" => 1000,
                    "m" => 60_000,
                    "h" => 3_600_000,
                    "d" => 86_400_000,
                    _ => return None,
                };
                total.checked_add(number.checked_mul(ms)?)
            })
        };
        let ms = numbers_and_units(text).and_then(sum);
        ms.map(|ms| Span(Duration::from_millis(ms)))
            .ok_or_else(|| format!("`{text}` is no length of time; write `90s`, `5m` or `2h30m`"))
    }

    /// The same in milliseconds.
    pub fn ms(self) -> u64 {
        u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX)
    }

    /// The same in whole seconds.
    pub fn seconds(self) -> u32 {
        u32::try_from(self.0.as_secs()).unwrap_or(u32::MAX)
    }
}

impl Octets {
    /// Reads a number of octets.
    ///
    /// # Errors
    /// Says how to write one.
    pub fn parse(text: &str) -> Result<Octets, String> {
        let octets = numbers_and_units(text).and_then(|parts| {
            let [(number, unit)] = parts[..] else { return None };
            let factor: u64 = match unit {
                "" | "B" => 1,
                "KiB" => 1 << 10,
                "MiB" => 1 << 20,
                "GiB" => 1 << 30,
                "KB" | "kB" => 1000,
                "MB" => 1_000_000,
                "GB" => 1_000_000_000,
                _ => return None,
            };
            number.checked_mul(factor)
        });
        octets
            .map(Octets)
            .ok_or_else(|| format!("`{text}` is no size; write `512`, `64KiB` or `25MB`"))
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Span, D::Error> {
        Span::parse(&String::deserialize(reader)?).map_err(serde::de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Octets {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Octets, D::Error> {
        Octets::parse(&String::deserialize(reader)?).map_err(serde::de::Error::custom)
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

#[cfg(test)]
mod tests {
    use super::{Octets, Span};

    #[test]
    fn times_and_sizes_as_people_write_them() {
        assert_eq!(Span::parse("2h30m").unwrap().ms(), 9_000_000);
        assert_eq!(Span::parse("250ms").unwrap().seconds(), 0);
        assert_eq!(Octets::parse("64KiB"), Ok(Octets(65_536)));
        for bad in ["", "5", "m", "1w", "-1s", "99999999999999999999s", "18446744073709551615d"] {
            assert!(Span::parse(bad).is_err(), "{bad}");
        }
        for bad in ["", "KiB", "1 2", "1.5MB", "1PB", "18446744073709551615GiB"] {
            assert!(Octets::parse(bad).is_err(), "{bad}");
        }
    }
}
