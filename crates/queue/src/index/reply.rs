//! What the last attempt met, without its words.

use std::collections::HashMap;
use std::fmt;

use waypost_mail::Why;
use waypost_smtp::Enhanced;

/// Classes told apart; a server that makes up more of them has the rest called by their cause alone.
const MOST: usize = 4096;

/// The class of a failure: a reply's codes, or the cause when nobody replied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct ReplyClass {
    /// [`Why::label`]; empty before the first failure.
    cause: &'static str,
    /// The reply's code, or 0.
    code: u16,
    status: Option<(u8, u16, u16)>,
    /// Of what kind it is; empty before the first failure.
    kind: &'static str,
}

impl ReplyClass {
    /// Nothing failed yet.
    pub(crate) const NONE: ReplyClass = ReplyClass { cause: "", code: 0, status: None, kind: "" };

    pub(crate) fn of(why: &Why) -> ReplyClass {
        let reply = why.reply();
        ReplyClass {
            cause: why.label(),
            code: reply.map_or(0, |reply| reply.code.get()),
            status: reply.and_then(|reply| reply.enhanced).map(|Enhanced(a, b, c)| (a, b, c)),
            kind: why.diagnosis().category.word(),
        }
    }

    /// True when one of its names is meant: the whole, the code, the enhanced code, the cause, or the
    /// kind.
    pub(crate) fn names(&self, is: impl Fn(&str) -> bool) -> bool {
        let whole = is(&self.to_string()) || (!self.cause.is_empty() && is(self.cause));
        let code = || self.code > 0 && is(&self.code.to_string());
        let status = || self.status.is_some_and(|(a, b, c)| is(&format!("{a}.{b}.{c}")));
        let kind = !self.kind.is_empty() && is(self.kind);
        whole || kind || code() || status()
    }
}

impl fmt::Display for ReplyClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.code, self.status) {
            (0, _) if self.cause.is_empty() => f.write_str("none"),
            (0, _) => f.write_str(self.cause),
            (code, None) => write!(f, "{code}"),
            (code, Some((a, b, c))) => write!(f, "{code} {a}.{b}.{c}"),
        }
    }
}

/// The classes seen so far, by number.
#[derive(Debug)]
pub(super) struct Replies {
    classes: Vec<ReplyClass>,
    numbers: HashMap<ReplyClass, u16>,
}

impl Default for Replies {
    fn default() -> Replies {
        Replies { classes: vec![ReplyClass::NONE], numbers: HashMap::from([(ReplyClass::NONE, 0)]) }
    }
}

impl Replies {
    pub(super) fn keep(&mut self, class: ReplyClass) -> u16 {
        if let Some(number) = self.numbers.get(&class) {
            return *number;
        }
        if self.classes.len() >= MOST {
            let cause = ReplyClass { code: 0, status: None, kind: "", ..class };
            // There are some dozen causes: they have room above the limit.
            return if cause == class { self.add(class) } else { self.keep(cause) };
        }
        self.add(class)
    }

    pub(super) fn get(&self, number: u16) -> ReplyClass {
        self.classes.get(usize::from(number)).copied().unwrap_or_default()
    }

    fn add(&mut self, class: ReplyClass) -> u16 {
        let number = u16::try_from(self.classes.len()).unwrap_or(0);
        self.classes.push(class);
        self.numbers.insert(class, number);
        number
    }
}

#[cfg(test)]
mod tests {
    use waypost_smtp::{Phase, Reply};

    use super::*;

    fn refused(code: u16, enhanced: Option<Enhanced>) -> ReplyClass {
        let mut reply = Reply::fixed(code, (4, 0, 0), "");
        reply.enhanced = enhanced;
        ReplyClass::of(&Why::Refused { hop: "mx".into(), phase: Phase::Rcpt, reply })
    }

    #[test]
    fn a_class_is_called_by_its_codes_or_its_cause() {
        let full = refused(451, Some(Enhanced(4, 7, 1)));
        assert_eq!(full.to_string(), "451 4.7.1");
        for name in ["451 4.7.1", "451", "4.7.1", "refused"] {
            assert!(full.names(|is| is == name), "{name}");
        }
        assert!(!full.names(|is| is == "450"));
        assert!(refused(452, Some(Enhanced(4, 2, 2))).names(|is| is == "full"));
        assert_eq!(refused(421, None).to_string(), "421");
        assert_eq!(ReplyClass::of(&Why::NoAddress("a".into())).to_string(), "no-address");
        assert_eq!(ReplyClass::NONE.to_string(), "none");
    }

    #[test]
    fn a_server_cannot_fill_memory_with_codes() {
        let mut replies = Replies::default();
        for number in 0..20_000u16 {
            let status = Some((4, number, 0));
            let class = ReplyClass { cause: "refused", code: 451, status, kind: "other" };
            let kept = replies.keep(class);
            assert_eq!(replies.get(kept).cause, "refused");
        }
        assert!(replies.classes.len() <= MOST + 1);
        let other = replies.keep(ReplyClass { cause: "timed-out", ..ReplyClass::NONE });
        assert_eq!(replies.get(other).to_string(), "timed-out");
    }
}
