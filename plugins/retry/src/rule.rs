//! Rules about what servers say, as data.

use serde::{Deserialize, Deserializer};
use waypost_sdk::patterns::{DomainPattern, Glob};

use crate::action::Action;
use crate::kind::Kind;

/// Replies and failures that mean the same.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Rule {
    /// Unique; shown as the rule of the decision.
    pub id: String,
    /// What it means.
    pub kind: Kind,
    /// What it looks like.
    pub when: When,
    /// What to do, instead of what is usual for the kind.
    #[serde(default)]
    pub then: Option<Action>,
    /// Replies that this rule must catch, and no earlier one.
    #[serde(default)]
    pub samples: Vec<String>,
}

/// Conditions; those that are absent always hold. Of a list, one is enough.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct When {
    /// Reply codes.
    pub code: Vec<u16>,
    /// 4 or 5.
    pub class: Option<u8>,
    /// Enhanced status: `4.7.28`, `x.7.1`, `5.1.x`.
    pub status: Vec<Status>,
    /// The normalised text contains one of these; `*` for anything between.
    pub text: Vec<Needle>,
    /// In answer to what.
    pub phase: Vec<String>,
    /// The relay's own word for the cause.
    pub category: Vec<String>,
    /// At a provider of these packs.
    pub provider: Vec<String>,
    /// In such a lane.
    pub lane: Vec<Glob>,
    /// To recipients in such domains.
    pub domain: Vec<DomainPattern>,
    /// So many tries were made, at least.
    pub tries: Option<u32>,
}

/// A text to be found in a reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Needle(Glob);

/// An enhanced status with `x` for any number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status([Option<u16>; 3]);

/// What came of an attempt, as rules see it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen<'a> {
    /// 0 when no reply decided.
    pub(crate) code: u16,
    pub(crate) status: Option<(u8, u16, u16)>,
    /// Normalised.
    pub(crate) text: &'a str,
    pub(crate) phase: &'a str,
    pub(crate) category: &'a str,
    pub(crate) provider: Option<&'a str>,
    pub(crate) lane: &'a str,
    pub(crate) domain: &'a str,
    pub(crate) attempts: u32,
}

impl When {
    pub(crate) fn holds(&self, seen: &Seen<'_>) -> bool {
        let named = |list: &[String], name: &str| list.is_empty() || list.iter().any(|n| n == name);
        (self.code.is_empty() || self.code.contains(&seen.code))
            && self.class.is_none_or(|class| u16::from(class) == seen.code / 100)
            && (self.status.is_empty()
                || seen.status.is_some_and(|status| self.status.iter().any(|s| s.matches(status))))
            && named(&self.phase, seen.phase)
            && named(&self.category, seen.category)
            && named(&self.provider, seen.provider.unwrap_or_default())
            && (self.lane.is_empty() || self.lane.iter().any(|glob| glob.matches(seen.lane)))
            && (self.domain.is_empty() || self.domain.iter().any(|d| d.matches(seen.domain)))
            && self.tries.is_none_or(|tries| seen.attempts >= tries)
            && (self.text.is_empty() || self.text.iter().any(|needle| needle.0.matches(seen.text)))
    }

    /// True when whatever `other` takes is taken by this one.
    pub(crate) fn covers(&self, other: &When) -> bool {
        fn within<T>(a: &[T], b: &[T], covers: impl Fn(&T, &T) -> bool) -> bool {
            a.is_empty() || (!b.is_empty() && b.iter().all(|b| a.iter().any(|a| covers(a, b))))
        }
        let class = |when: &When| {
            when.class.or_else(|| {
                let class = when.code.first()? / 100;
                when.code.iter().all(|code| code / 100 == class).then_some(class as u8)
            })
        };
        within(&self.code, &other.code, |a, b| a == b)
            && self.class.is_none_or(|a| class(other) == Some(a))
            && within(&self.status, &other.status, |a, b| a.covers(*b))
            && within(&self.text, &other.text, |a, b| a.0.covers(&b.0))
            && within(&self.phase, &other.phase, |a, b| a == b)
            && within(&self.category, &other.category, |a, b| a == b)
            && within(&self.provider, &other.provider, |a, b| a == b)
            && within(&self.lane, &other.lane, Glob::covers)
            && within(&self.domain, &other.domain, DomainPattern::covers)
            && self.tries.is_none_or(|a| other.tries.is_some_and(|b| a <= b))
    }
}

impl Status {
    fn parse(text: &str) -> Option<Status> {
        let part = |part: &str| match part {
            "x" => Some(None),
            number => number.parse().ok().filter(|n| *n <= 999).map(Some),
        };
        let parts: Option<Vec<Option<u16>>> = text.split('.').map(part).collect();
        let status: [Option<u16>; 3] = parts?.try_into().ok()?;
        matches!(status[0], None | Some(4 | 5)).then_some(Status(status))
    }

    fn matches(self, (class, subject, detail): (u8, u16, u16)) -> bool {
        let given = [u16::from(class), subject, detail];
        self.0.iter().zip(given).all(|(want, given)| want.is_none_or(|want| want == given))
    }

    fn covers(self, other: Status) -> bool {
        self.0.iter().zip(other.0).all(|(a, b)| a.is_none() || *a == b)
    }
}

impl<'de> Deserialize<'de> for Status {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Status, D::Error> {
        let text = String::deserialize(reader)?;
        let wrong =
            || format!("`{text}` is no enhanced status; write `4.7.28`, `x.7.1` or `5.1.x`");
        Status::parse(&text).ok_or_else(|| serde::de::Error::custom(wrong()))
    }
}

impl<'de> Deserialize<'de> for Needle {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Needle, D::Error> {
        let text = String::deserialize(reader)?;
        if text.trim_matches('*').trim().is_empty() {
            return Err(serde::de::Error::custom("an empty text is in every reply"));
        }
        Ok(Needle(Glob::new(&format!("*{text}*"))))
    }
}

#[cfg(test)]
mod tests {
    use super::{Seen, Status, When};
    use serde_json::{Value, json};

    fn when(value: Value) -> When {
        serde_json::from_value(value).unwrap()
    }

    const SEEN: Seen<'_> = Seen {
        code: 421,
        status: Some((4, 7, 28)),
        text: "# unusual rate of mail",
        phase: "eod",
        category: "refused",
        provider: Some("google"),
        lane: "gmail.com",
        domain: "gmail.com",
        attempts: 2,
    };

    #[test]
    fn each_condition() {
        for value in [
            json!({}),
            json!({"code": [450, 421], "class": 4}),
            json!({"status": ["x.7.x"]}),
            json!({"text": ["no", "UNUSUAL * mail"]}),
            json!({"phase": ["eod"], "category": ["refused"], "provider": ["google"]}),
            json!({"lane": ["gmail*"], "domain": ["gmail.com"], "tries": 2}),
        ] {
            assert!(when(value.clone()).holds(&SEEN), "{value}");
        }
        for value in [
            json!({"code": [450]}),
            json!({"class": 5}),
            json!({"status": ["4.7.1", "5.x.x"]}),
            json!({"text": ["mail unusual"]}),
            json!({"phase": ["rcpt"]}),
            json!({"provider": ["yahoo"]}),
            json!({"tries": 3}),
            json!({"domain": ["*.gmail.com"]}),
        ] {
            assert!(!when(value.clone()).holds(&SEEN), "{value}");
        }
    }

    #[test]
    fn covering_is_sure() {
        let covers = |a: Value, b: Value| when(a).covers(&when(b));
        assert!(covers(json!({"class": 4}), json!({"code": [421, 450]})));
        assert!(covers(json!({"text": ["rate"]}), json!({"text": ["unusual rate of"]})));
        assert!(covers(json!({"status": ["x.7.x"]}), json!({"status": ["4.7.1"]})));
        assert!(!covers(json!({"code": [421]}), json!({"class": 4})));
        assert!(!covers(json!({"text": ["unusual rate"]}), json!({"text": ["rate"]})));
        assert!(!covers(json!({"tries": 3}), json!({"tries": 2})));
    }

    #[test]
    fn a_status_is_one() {
        for bad in ["", "4", "4.7", "2.0.0", "4.7.1.1", "4.x.1000", "y.7.1"] {
            assert!(Status::parse(bad).is_none(), "{bad}");
        }
    }
}
