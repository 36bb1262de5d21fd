//! What a rule asks of a reply.

use std::fmt;
use std::str::FromStr;

use regex::bytes::{Regex, RegexBuilder};
use waypost_smtp::{Code, Enhanced};

/// Most octets of a compiled pattern.
const MAX_COMPILED: usize = 256 * 1024;
/// Most characters of a pattern.
const MAX_PATTERN: usize = 1024;

/// A condition that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConditionError {
    /// A code that refuses nothing.
    #[error("'{0}' is no code of a refusal: 421, 45x, 4xx, 5xx")]
    Code(String),
    /// A status that is none.
    #[error("'{0}' is no enhanced status: 5.1.1, 4.7.*, *.7.1")]
    Status(String),
    /// A pattern with a letter that no text has.
    #[error("'{0}' can never match: texts are compared in lower case, and it has a capital letter")]
    Capital(String),
    /// A pattern that cannot be compiled, or is too large.
    #[error("'{pattern}' is no pattern: {error}")]
    Wording {
        /// As it was written.
        pattern: String,
        /// What is wrong with it.
        error: String,
    },
}

/// Codes: `421`, `45x`, `4xx`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CodePattern {
    least: u16,
    most: u16,
}

impl CodePattern {
    /// True when the code is one of these.
    pub fn fits(self, code: Code) -> bool {
        (self.least..=self.most).contains(&code.get())
    }

    /// True when every code of `other` is one of these.
    pub fn covers(self, other: CodePattern) -> bool {
        self.least <= other.least && other.most <= self.most
    }
}

impl FromStr for CodePattern {
    type Err = ConditionError;
    fn from_str(text: &str) -> Result<CodePattern, ConditionError> {
        let refuse = || ConditionError::Code(text.to_owned());
        let digits = text.trim_end_matches('x');
        let missing = 3usize.checked_sub(digits.len()).filter(|n| *n <= 2 && text.len() == 3);
        let power = 10u16.pow(missing.ok_or_else(refuse)? as u32);
        let number: u16 = digits.parse().map_err(|_| refuse())?;
        let least = number * power;
        let pattern = CodePattern { least, most: least + power - 1 };
        let refuses = (400..600).contains(&least) && digits.bytes().all(|b| b.is_ascii_digit());
        refuses.then_some(pattern).ok_or_else(refuse)
    }
}

impl fmt::Display for CodePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.most - self.least {
            0 => write!(f, "{}", self.least),
            9 => write!(f, "{}x", self.least / 10),
            _ => write!(f, "{}xx", self.least / 100),
        }
    }
}

/// Enhanced status codes: `5.1.1`, `4.7.*`, `*.1.1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatusPattern([Option<u16>; 3]);

impl StatusPattern {
    /// True when there is a status and it is one of these.
    pub fn fits(self, status: Option<Enhanced>) -> bool {
        let Some(Enhanced(class, subject, detail)) = status else { return false };
        let parts = [u16::from(class), subject, detail];
        self.0.iter().zip(parts).all(|(wanted, part)| wanted.is_none_or(|wanted| wanted == part))
    }

    /// True when every status of `other` is one of these.
    pub fn covers(self, other: StatusPattern) -> bool {
        self.0.iter().zip(other.0).all(|(wide, narrow)| wide.is_none() || *wide == narrow)
    }
}

impl FromStr for StatusPattern {
    type Err = ConditionError;
    fn from_str(text: &str) -> Result<StatusPattern, ConditionError> {
        let refuse = || ConditionError::Status(text.to_owned());
        let part = |part: &str| match part {
            "*" => Some(None),
            _ if part.len() > 3 || !part.bytes().all(|b| b.is_ascii_digit()) => None,
            _ => part.parse().ok().map(Some),
        };
        let mut parts = text.split('.').map(part);
        let mut next = || parts.next().flatten().ok_or_else(refuse);
        let pattern = StatusPattern([next()?, next()?, next()?]);
        let legal = matches!(pattern.0[0], None | Some(4 | 5)) && parts.next().is_none();
        legal.then_some(pattern).ok_or_else(refuse)
    }
}

impl fmt::Display for StatusPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, part) in self.0.iter().enumerate() {
            f.write_str(if index > 0 { "." } else { "" })?;
            match part {
                Some(number) => write!(f, "{number}")?,
                None => f.write_str("*")?,
            }
        }
        Ok(())
    }
}

/// A regular expression, looked for anywhere in a text. It takes time in proportion to the text's
/// length, whatever it is (crate `regex`), and knows ASCII classes only.
#[derive(Clone)]
pub struct Wording {
    source: String,
    regex: Regex,
}

impl Wording {
    /// As it was written.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// True when it is found in a text in its [normal form](super::normal).
    pub fn is_in(&self, text: &str) -> bool {
        self.regex.is_match(text.as_bytes())
    }
}

impl FromStr for Wording {
    type Err = ConditionError;
    fn from_str(text: &str) -> Result<Wording, ConditionError> {
        let refuse = |error: String| ConditionError::Wording { pattern: text.to_owned(), error };
        if text.is_empty() || text.len() > MAX_PATTERN {
            return Err(refuse(format!("it must have 1 to {MAX_PATTERN} octets")));
        }
        if has_capital(text) {
            return Err(ConditionError::Capital(text.to_owned()));
        }
        let regex = RegexBuilder::new(text).unicode(false).size_limit(MAX_COMPILED).build();
        let regex = regex.map_err(|error| {
            // Its first lines draw the pattern again.
            let text = error.to_string();
            refuse(text.lines().last().unwrap_or_default().to_owned())
        })?;
        Ok(Wording { source: text.to_owned(), regex })
    }
}

/// True when a letter of a pattern stands for a capital one; behind a backslash it stands for something
/// else.
fn has_capital(pattern: &str) -> bool {
    let mut escaped = false;
    pattern.chars().any(|c| {
        let capital = !escaped && c.is_uppercase();
        escaped = !escaped && c == '\\';
        capital
    })
}

impl PartialEq for Wording {
    fn eq(&self, other: &Wording) -> bool {
        self.source == other.source
    }
}

impl Eq for Wording {}

impl fmt::Debug for Wording {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}/", self.source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_statuses_are_read_strictly() {
        let code = |text: &str| text.parse::<CodePattern>();
        assert!(code("45x").unwrap().fits(Code::new(452).unwrap()));
        assert!(!code("45x").unwrap().fits(Code::new(421).unwrap()));
        for text in ["421", "45x", "5xx"] {
            assert_eq!(code(text).unwrap().to_string(), text);
        }
        assert!(code("4xx").unwrap().covers(code("450").unwrap()));
        for wrong in ["", "xxx", "250", "4x", "4x1", "600", "4xxx", "+45", "45"] {
            assert!(code(wrong).is_err(), "{wrong}");
        }
        let status = |text: &str| text.parse::<StatusPattern>();
        assert!(status("*.7.*").unwrap().fits(Some(Enhanced(4, 7, 28))));
        assert_eq!(status("*.7.1").unwrap().to_string(), "*.7.1");
        assert!(!status("5.7.*").unwrap().fits(Some(Enhanced(4, 7, 28))));
        assert!(!status("*.*.*").unwrap().fits(None));
        assert!(status("5.*.*").unwrap().covers(status("5.1.1").unwrap()));
        for wrong in ["", "5.1", "5.1.1.1", "2.1.1", "5.x.1", "5.1.1000", "5..1"] {
            assert!(status(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn patterns_have_limits() {
        assert!("a{1000}{1000}".parse::<Wording>().is_err());
        assert!("(".parse::<Wording>().unwrap_err().to_string().contains("unclosed"));
        assert!("".parse::<Wording>().is_err());
        let capital = "over Quota".parse::<Wording>().unwrap_err().to_string();
        assert!(capital.contains("can never match"), "{capital}");
        assert!("\\\\Quota".parse::<Wording>().is_err());
        assert!("\\Squota\\b".parse::<Wording>().unwrap().is_in("no-quota"));
        assert!("zu viele|größe".parse::<Wording>().unwrap().is_in("die größe"));
    }
}
