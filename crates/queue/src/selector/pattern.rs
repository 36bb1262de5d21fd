//! Texts with `*` for anything.

use std::fmt;

/// A text in which `*` stands for any characters, also none. Letter case does not count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    text: String,
}

impl Pattern {
    /// The pattern of this text; `<>` is the empty text.
    pub fn new(text: &str) -> Pattern {
        let text = if text == "<>" { "" } else { text };
        Pattern { text: text.to_ascii_lowercase() }
    }

    /// True when the pattern covers all of `value`.
    pub fn covers(&self, value: &str) -> bool {
        covers(self.text.as_bytes(), value.as_bytes())
    }
}

/// Goes back to the last `*` only: what stands before it is settled already.
fn covers(pattern: &[u8], value: &[u8]) -> bool {
    let (mut at, mut seen) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while seen < value.len() {
        match (pattern.get(at), star) {
            (Some(b'*'), _) => {
                star = Some((at, seen));
                at += 1;
            }
            (Some(wanted), _) if *wanted == value[seen].to_ascii_lowercase() => {
                at += 1;
                seen += 1;
            }
            (_, Some((back, taken))) => {
                star = Some((back, taken + 1));
                (at, seen) = (back + 1, taken + 1);
            }
            (_, None) => return false,
        }
    }
    pattern[at..].iter().all(|rest| *rest == b'*')
}

/// In quotes where it would not be read as one value.
impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.text.is_empty() {
            return f.write_str("<>");
        }
        let plain = |c: char| !c.is_whitespace() && !c.is_control() && !"\"\\,()".contains(c);
        if self.text.chars().all(plain) {
            return f.write_str(&self.text);
        }
        let escaped = self.text.replace('\\', "\\\\").replace('"', "\\\"");
        write!(f, "\"{escaped}\"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stand_for_anything() {
        let yes = [
            ("a@b", "A@B"),
            ("*@b.example", "x@b.example"),
            ("*", ""),
            ("a*c*e", "abcde"),
            ("*.example", "a.b.example"),
            ("a*b*b", "abb"),
            ("<>", ""),
        ];
        for (pattern, value) in yes {
            assert!(Pattern::new(pattern).covers(value), "{pattern} {value}");
        }
        for (pattern, value) in [("a", "ab"), ("a*b*b", "ab"), ("*.example", "example"), ("", "a")]
        {
            assert!(!Pattern::new(pattern).covers(value), "{pattern} {value}");
        }
    }

    #[test]
    fn many_stars_take_no_time_worth_mention() {
        let pattern = Pattern::new(&format!("{}b", "a*".repeat(200)));
        assert!(!pattern.covers(&"a".repeat(20_000)));
    }
}
