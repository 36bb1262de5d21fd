//! Refusals that cannot be of the wrong class.

use crate::types::{PermanentCode, PermanentReply, Reason, Refusal, TransientCode, TransientReply};

/// A refusal for good: `550`, unless [`code`](PermanentReply::code) says otherwise.
pub fn reject(text: impl AsRef<str>) -> PermanentReply {
    PermanentReply { code: PermanentCode::R550, enhanced: None, text: printable(text.as_ref()) }
}

/// A refusal for now: `451`, unless [`code`](TransientReply::code) says otherwise.
pub fn tempfail(text: impl AsRef<str>) -> TransientReply {
    TransientReply { code: TransientCode::R451, enhanced: None, text: printable(text.as_ref()) }
}

/// Why a decision was made: a short stable code of up to 64 octets and up to 1 KiB for a person. Control
/// characters become blanks, as the host would throw the whole answer away for them.
pub fn because(code: impl Into<String>, text: impl Into<String>) -> Reason {
    Reason { code: one_line(code.into(), 64), text: one_line(text.into(), 1024), rule: None }
}

impl Reason {
    /// The rule of the plugin's configuration that matched.
    pub fn rule(mut self, name: impl Into<String>) -> Reason {
        self.rule = Some(one_line(name.into(), 1024));
        self
    }
}

impl PermanentReply {
    /// Another code of the class 5xx.
    pub fn code(mut self, code: PermanentCode) -> PermanentReply {
        self.code = code;
        self
    }

    /// Subject and detail of the enhanced status, such as `7, 1` for 5.7.1 (RFC 3463).
    pub fn status(mut self, subject: u16, detail: u16) -> PermanentReply {
        self.enhanced = Some((subject.min(999), detail.min(999)));
        self
    }
}

impl TransientReply {
    /// Another code of the class 4xx.
    pub fn code(mut self, code: TransientCode) -> TransientReply {
        self.code = code;
        self
    }

    /// Subject and detail of the enhanced status, such as `7, 1` for 4.7.1 (RFC 3463).
    pub fn status(mut self, subject: u16, detail: u16) -> TransientReply {
        self.enhanced = Some((subject.min(999), detail.min(999)));
        self
    }
}

impl PermanentCode {
    /// The code of this number, when it is one a plugin may use.
    pub fn from_number(code: u16) -> Option<PermanentCode> {
        Some(match code {
            521 => PermanentCode::R521,
            530 => PermanentCode::R530,
            535 => PermanentCode::R535,
            550 => PermanentCode::R550,
            551 => PermanentCode::R551,
            552 => PermanentCode::R552,
            553 => PermanentCode::R553,
            554 => PermanentCode::R554,
            555 => PermanentCode::R555,
            556 => PermanentCode::R556,
            _ => return None,
        })
    }
}

impl TransientCode {
    /// The code of this number, when it is one a plugin may use.
    pub fn from_number(code: u16) -> Option<TransientCode> {
        Some(match code {
            421 => TransientCode::R421,
            450 => TransientCode::R450,
            451 => TransientCode::R451,
            452 => TransientCode::R452,
            454 => TransientCode::R454,
            455 => TransientCode::R455,
            _ => return None,
        })
    }
}

impl From<PermanentReply> for Refusal {
    fn from(reply: PermanentReply) -> Refusal {
        Refusal::Reject(reply)
    }
}

impl From<TransientReply> for Refusal {
    fn from(reply: TransientReply) -> Refusal {
        Refusal::Tempfail(reply)
    }
}

/// Makes a text fit for a reply: at most 8 lines of 400 octets, no control characters, never empty.
/// The host would otherwise throw the whole answer away.
fn printable(text: &str) -> String {
    let line = |line: &str| {
        let mut line: String = line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        cut(&mut line, 400);
        line.trim_end().to_owned()
    };
    let lines: Vec<String> = text.trim().split('\n').take(8).map(line).collect();
    let text = lines.join("\n");
    if text.is_empty() { "Refused by policy".to_owned() } else { text }
}

fn one_line(text: String, octets: usize) -> String {
    let mut text = match text.contains(char::is_control) {
        true => text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect(),
        false => text,
    };
    cut(&mut text, octets);
    text
}

/// Cuts to so many octets, at a character.
fn cut(text: &mut String, octets: usize) {
    text.truncate(text.floor_char_boundary(octets));
}

#[cfg(test)]
mod tests {
    use super::{PermanentCode, because, reject, tempfail};

    #[test]
    fn reasons_are_made_printable() {
        let reason = because("c".repeat(99), "a\r\nb").rule("x\ty");
        assert_eq!((reason.code.len(), reason.text.as_str()), (64, "a  b"));
        assert_eq!(reason.rule.as_deref(), Some("x y"));
    }

    #[test]
    fn texts_are_made_printable() {
        assert_eq!(reject("a\r\nb\0c\tü").text, "a\nb c ü");
        assert_eq!(tempfail("\r\n").text, "Refused by policy");
        assert_eq!(reject("x\n".repeat(20)).text.lines().count(), 8);
        assert_eq!(reject("ü".repeat(300)).text.len(), 400);
    }

    #[test]
    fn numbers_stay_in_their_class() {
        assert_eq!(PermanentCode::from_number(554), Some(PermanentCode::R554));
        assert_eq!(PermanentCode::from_number(451), None);
        assert_eq!(reject("x").status(7, 5000).enhanced, Some((7, 999)));
    }
}
