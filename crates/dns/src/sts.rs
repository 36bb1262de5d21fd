//! MTA-STS (RFC 8461): which hosts a domain's mail may go to, and that they must prove their names.
//!
//! Here is what a domain publishes; `known` is what is remembered of it, and [`Policies`] asks.

mod known;
mod policies;

use std::fmt;
use std::time::Duration;

pub use policies::{Advice, Policies, Trouble};

/// Largest policy that is read (RFC 8461 §3.3).
pub(crate) const MAX_POLICY: usize = 64 * 1024;
/// Longest that a policy is good for: about a year (RFC 8461 §3.2).
const LONGEST: u64 = 31_557_600;
/// Most patterns of one policy.
const MAX_PATTERNS: usize = 100;

/// What a domain says about its own mail exchangers (RFC 8461 §3.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// How serious it is.
    pub mode: Mode,
    /// How long it is good for from when it was fetched.
    pub max_age: Duration,
    /// Names of exchangers in lower case; one that begins with `*.` stands for any one label there.
    pub mx: Vec<String>,
}

/// How serious a policy is (RFC 8461 §5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Mail does not go to hosts that fail.
    Enforce,
    /// Failures are reported, and mail goes all the same.
    Testing,
    /// There is no policy any more.
    None,
}

/// Why a text is no policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// Not `STSv1`, or not at the beginning.
    #[error("it does not begin with \"version: STSv1\"")]
    Version,
    /// A field without which there is no policy.
    #[error("its {0:?} is missing or makes no sense")]
    Field(&'static str),
    /// No text in lines of names and values.
    #[error("it is not made of lines like \"name: value\"")]
    Syntax,
}

impl Policy {
    /// Reads what a policy host serves. Fields that are unknown are passed over; of one that comes twice
    /// the first counts, but for `mx`.
    ///
    /// # Errors
    /// When it is no policy.
    pub fn parse(text: &[u8]) -> Result<Policy, PolicyError> {
        let text = std::str::from_utf8(text).map_err(|_| PolicyError::Syntax)?;
        let lines = text.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line));
        let (mut version, mut mode, mut max_age) = (None, None, None);
        let mut mx = Vec::new();
        for line in lines.filter(|line| !line.trim().is_empty()) {
            let (name, value) = line.split_once(':').ok_or(PolicyError::Syntax)?;
            let (name, value) = (name.trim(), value.trim());
            match name {
                "version" => version = version.or(Some(value)),
                // What policy it is comes first.
                _ if version != Some("STSv1") => return Err(PolicyError::Version),
                "mode" => mode = mode.or(Some(value)),
                "max_age" => max_age = max_age.or(Some(value)),
                "mx" => mx.push(pattern(value).ok_or(PolicyError::Field("mx"))?),
                _ => {}
            }
        }
        if version != Some("STSv1") {
            return Err(PolicyError::Version);
        }
        let mode = mode.and_then(Mode::parse).ok_or(PolicyError::Field("mode"))?;
        let age = max_age.and_then(seconds).ok_or(PolicyError::Field("max_age"))?;
        if mode != Mode::None && mx.is_empty() || mx.len() > MAX_PATTERNS {
            return Err(PolicyError::Field("mx"));
        }
        Ok(Policy { mode, max_age: Duration::from_secs(age.min(LONGEST)), mx })
    }

    /// True when mail may go to this host (RFC 8461 §4.1).
    pub fn names(&self, host: &str) -> bool {
        let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        self.mx.iter().any(|pattern| match pattern.strip_prefix("*.") {
            None => *pattern == host,
            // One label, and not none: a wildcard is as in a certificate.
            Some(rest) => {
                host.split_once('.').is_some_and(|(label, tail)| !label.is_empty() && tail == rest)
            }
        })
    }
}

impl fmt::Display for Policy {
    /// The lines that would be served, which [`Policy::parse`] reads again.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "version: STSv1\nmode: {}\nmax_age: {}\n", self.mode, self.max_age.as_secs())?;
        self.mx.iter().try_for_each(|pattern| writeln!(f, "mx: {pattern}"))
    }
}

impl Mode {
    fn parse(text: &str) -> Option<Mode> {
        Some(match text {
            "enforce" => Mode::Enforce,
            "testing" => Mode::Testing,
            "none" => Mode::None,
            _ => return None,
        })
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Mode::Enforce => "enforce",
            Mode::Testing => "testing",
            Mode::None => "none",
        })
    }
}

fn seconds(text: &str) -> Option<u64> {
    let digits = (1..=10).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

fn pattern(text: &str) -> Option<String> {
    let name = text.strip_prefix("*.").unwrap_or(text);
    let name = name.strip_suffix('.').unwrap_or(name);
    let text = text.strip_suffix('.').unwrap_or(text);
    (crate::mx::is_host_name(name) && !name.starts_with('.')).then(|| text.to_ascii_lowercase())
}

/// The id of the policy that the TXT records at `_mta-sts.DOMAIN` announce; none when they announce none
/// (RFC 8461 §3.1).
pub fn announced(records: &[String]) -> Option<String> {
    // "v=STSv1;" is how all of them begin that count, and only one may.
    let mut candidates = records.iter().filter(|record| is_announcement(record));
    let (record, None) = (candidates.next()?, candidates.next()) else { return None };
    let fields = record.split(';').map(str::trim);
    let id = fields.filter_map(|field| field.split_once('=')).find(|(name, _)| name.trim() == "id");
    let id = id?.1.trim();
    let legal = (1..=32).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric());
    legal.then(|| id.to_owned())
}

fn is_announcement(record: &str) -> bool {
    let version = record.split(';').next().unwrap_or_default();
    let pair = version.split_once('=').map(|(name, value)| (name.trim(), value.trim()));
    pair == Some(("v", "STSv1")) && record.contains(';')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(text: &str) -> Result<Policy, PolicyError> {
        Policy::parse(text.as_bytes())
    }

    #[test]
    fn policies_are_read_as_they_are_published() {
        let text = "version: STSv1\r\nmode: enforce\r\nmx: mail.example.com\r\n\
                    mx: *.Example.NET\r\nmx: backupmx.example.com.\r\nmax_age: 604800\r\n";
        let read = policy(text).unwrap();
        assert_eq!((read.mode, read.max_age.as_secs()), (Mode::Enforce, 604_800));
        assert_eq!(read.mx, ["mail.example.com", "*.example.net", "backupmx.example.com"]);
        assert_eq!(policy(&read.to_string()), Ok(read.clone()), "it is written as it is read");
        assert_eq!(policy(&text.replace("\r\n", "\n")), Ok(read));
        let short = policy("version: STSv1\nmode: none\nmax_age: 99999999").unwrap();
        assert_eq!((short.mode, short.max_age.as_secs()), (Mode::None, LONGEST));
        let odd =
            "version:STSv1\nsecret: 7\nmode:  testing \nmode: enforce\nmx: a.example\nmax_age: 0";
        assert_eq!(
            policy(odd).unwrap().mode,
            Mode::Testing,
            "the first counts, others do not matter"
        );
    }

    #[test]
    fn what_is_no_policy_is_refused() {
        for text in [
            "",
            "mode: enforce\nversion: STSv1\nmx: a.example\nmax_age: 1",
            "version: STSv2\nmode: enforce\nmx: a.example\nmax_age: 1",
            "<html>\n<p>404",
        ] {
            assert!(
                matches!(policy(text), Err(PolicyError::Version | PolicyError::Syntax)),
                "{text:?}"
            );
        }
        for (text, field) in [
            ("version: STSv1\nmode: enforce\nmax_age: 1", "mx"),
            ("version: STSv1\nmode: enforce\nmx: *\nmax_age: 1", "mx"),
            ("version: STSv1\nmode: enforce\nmx: a b\nmax_age: 1", "mx"),
            ("version: STSv1\nmode: enforce\nmx: 192.0.2.1\nmax_age: 1", "mx"),
            ("version: STSv1\nmode: strict\nmx: a.example\nmax_age: 1", "mode"),
            ("version: STSv1\nmx: a.example\nmax_age: 1", "mode"),
            ("version: STSv1\nmode: enforce\nmx: a.example", "max_age"),
            ("version: STSv1\nmode: enforce\nmx: a.example\nmax_age: -1", "max_age"),
            ("version: STSv1\nmode: enforce\nmx: a.example\nmax_age: 1 day", "max_age"),
        ] {
            assert_eq!(policy(text), Err(PolicyError::Field(field)), "{text:?}");
        }
        let many = "mx: a.example\n".repeat(MAX_PATTERNS + 1);
        assert!(policy(&format!("version: STSv1\nmode: testing\nmax_age: 1\n{many}")).is_err());
        assert_eq!(Policy::parse(b"version: STSv1\nmode: \xff"), Err(PolicyError::Syntax));
    }

    #[test]
    fn hosts_match_as_in_certificates() {
        let policy = policy(
            "version: STSv1\nmode: enforce\nmx: mail.example.com\nmx: *.example.net\nmax_age: 1",
        );
        let policy = policy.unwrap();
        for host in ["mail.example.com", "MAIL.Example.com.", "a.example.net", "B-1.example.net"] {
            assert!(policy.names(host), "{host}");
        }
        for host in [
            "example.com",
            "a.mail.example.com",
            "example.net",
            ".example.net",
            "a.b.example.net",
            "aexample.net",
            "",
        ] {
            assert!(!policy.names(host), "{host}");
        }
    }

    #[test]
    fn one_record_announces_a_policy() {
        let id = |records: &[&str]| {
            announced(&records.iter().map(|&record| record.to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(id(&["v=STSv1; id=20160831085700Z;"]).as_deref(), Some("20160831085700Z"));
        assert_eq!(id(&["v=STSv1;id=1"]).as_deref(), Some("1"));
        assert_eq!(id(&["spf", "v=STSv1; x=y; id=1;"]).as_deref(), Some("1"));
        for none in [
            &[][..],
            &["v=STSv1"],
            &["v=STSv1;"],
            &["v=STSv1; id=;"],
            &["v=STSv1; id=a-b;"],
            &["v=STSv2; id=1;"],
            &["id=1; v=STSv1;"],
            &["v=STSv1; id=1;", "v=STSv1; id=2;"],
            &["v=STSv1; id=123456789012345678901234567890123;"],
        ] {
            assert_eq!(id(none), None, "{none:?}");
        }
    }
}
