//! Addresses in header fields.

use std::ops::Range;

use crate::address::BadAddress;
use crate::types::Mailbox;

/// An address in the value of a header field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldAddress {
    /// The address.
    pub mailbox: Mailbox,
    /// Where it stands in the value: without display name, angle brackets and comments around it.
    pub place: Range<usize>,
}

impl Eq for Mailbox {}

/// The addresses in the value of a field such as `From` or `To`, in order: RFC 5322 §3.4 with groups,
/// comments, quoted names and the obsolete routes of §4.4.
///
/// # Errors
/// Part of the value is no address. Empty elements of the list are none.
pub fn field_addresses(value: &str) -> Result<Vec<FieldAddress>, BadAddress> {
    let mut scan = Scan { value, at: 0 };
    let mut found = Vec::new();
    let mut element = Element::default();
    while let Some(token) = scan.next()? {
        match token {
            Token::Separator => found.extend(element.take(value)?),
            Token::GroupName => element = Element::default(),
            Token::Angle(inside) => element.angle = Some(inside),
            Token::Word(place) => element.words.push(place),
        }
    }
    found.extend(element.take(value)?);
    Ok(found)
}

/// What stands between two commas.
#[derive(Default)]
struct Element {
    words: Vec<Range<usize>>,
    angle: Option<Range<usize>>,
}

impl Element {
    fn take(&mut self, value: &str) -> Result<Option<FieldAddress>, BadAddress> {
        let Element { words, angle } = std::mem::take(self);
        let (place, text) = match (angle, words.as_slice()) {
            (Some(inside), _) => bare(value, inside)?,
            (None, []) => return Ok(None),
            (None, [first, .., last]) => (first.start..last.end, joined(value, &words)),
            (None, [only]) => (only.clone(), value[only.clone()].to_owned()),
        };
        Ok(Some(FieldAddress { mailbox: Mailbox::parse(&text)?, place }))
    }
}

/// What stands in angle brackets, without comments, blanks and the route of RFC 5322 §4.4.
fn bare(value: &str, inside: Range<usize>) -> Result<(Range<usize>, String), BadAddress> {
    let text = &value[inside.clone()];
    let route = match text.trim_start().starts_with('@') {
        true => text.find(':').map_or(0, |colon| colon + 1),
        false => 0,
    };
    let base = inside.start + route;
    let mut scan = Scan { value: &value[base..inside.end], at: 0 };
    let mut words = Vec::new();
    while let Some(token) = scan.next()? {
        match token {
            Token::Word(place) => words.push(base + place.start..base + place.end),
            _ => return Err(BadAddress::new(text, "its angle brackets hold more than an address")),
        }
    }
    match (words.first(), words.last()) {
        (Some(first), Some(last)) => Ok((first.start..last.end, joined(value, &words))),
        _ => Err(BadAddress::new(text, "its angle brackets are empty")),
    }
}

/// Words of an address without comments and blanks between them. Words that only blanks part are no
/// address, unless a dot or an `@` stands there.
fn joined(value: &str, words: &[Range<usize>]) -> String {
    let mut text = String::new();
    for word in words {
        let word = &value[word.clone()];
        let glued = text.is_empty() || text.ends_with(['.', '@']) || word.starts_with(['.', '@']);
        if !glued {
            text.push(' ');
        }
        text.push_str(word);
    }
    text
}

enum Token {
    /// A comma, or the semicolon that ends a group.
    Separator,
    /// The colon behind the name of a group.
    GroupName,
    /// What stands between angle brackets.
    Angle(Range<usize>),
    /// A run of atoms and quoted strings.
    Word(Range<usize>),
}

struct Scan<'a> {
    value: &'a str,
    at: usize,
}

impl Scan<'_> {
    fn next(&mut self) -> Result<Option<Token>, BadAddress> {
        loop {
            let Some(&c) = self.value.as_bytes().get(self.at) else { return Ok(None) };
            match c {
                b' ' | b'\t' | b'\r' | b'\n' => self.at += 1,
                b'(' => self.comment()?,
                b',' | b';' => return Ok(self.single(Token::Separator)),
                b':' => return Ok(self.single(Token::GroupName)),
                b'<' => return self.angle().map(Some),
                _ => return self.word().map(|word| Some(Token::Word(word))),
            }
        }
    }

    fn single(&mut self, token: Token) -> Option<Token> {
        self.at += 1;
        Some(token)
    }

    fn comment(&mut self) -> Result<(), BadAddress> {
        let mut depth = 0_u32;
        while let Some(&c) = self.value.as_bytes().get(self.at) {
            self.at += 1;
            match c {
                b'\\' => self.at += 1,
                b'(' => depth += 1,
                b')' if depth == 1 => return Ok(()),
                b')' => depth -= 1,
                _ => {}
            }
        }
        Err(self.bad("a comment does not end"))
    }

    fn angle(&mut self) -> Result<Token, BadAddress> {
        self.at += 1;
        let start = self.at;
        while let Some(&c) = self.value.as_bytes().get(self.at) {
            match c {
                b'>' => {
                    self.at += 1;
                    return Ok(Token::Angle(start..self.at - 1));
                }
                b'"' => self.quoted()?,
                b'(' => self.comment()?,
                b'<' => break,
                _ => self.at += 1,
            }
        }
        Err(self.bad("an angle bracket does not close"))
    }

    fn word(&mut self) -> Result<Range<usize>, BadAddress> {
        let start = self.at;
        while let Some(&c) = self.value.as_bytes().get(self.at) {
            match c {
                b'"' => self.quoted()?,
                b'[' => self.literal()?,
                b' ' | b'\t' | b'\r' | b'\n' | b'(' | b',' | b';' | b':' | b'<' => break,
                b'>' | b')' => return Err(self.bad("a bracket closes that was not opened")),
                _ => self.at += 1,
            }
        }
        Ok(start..self.at)
    }

    fn quoted(&mut self) -> Result<(), BadAddress> {
        self.at += 1;
        while let Some(&c) = self.value.as_bytes().get(self.at) {
            self.at += 1;
            match c {
                b'\\' => self.at += 1,
                b'"' => return Ok(()),
                _ => {}
            }
        }
        Err(self.bad("its quotes do not pair"))
    }

    fn literal(&mut self) -> Result<(), BadAddress> {
        match self.value[self.at..].find(']') {
            Some(end) => {
                self.at += end + 1;
                Ok(())
            }
            None => Err(self.bad("a square bracket does not close")),
        }
    }

    fn bad(&self, why: &'static str) -> BadAddress {
        BadAddress::new(self.value, why)
    }
}

#[cfg(test)]
mod tests {
    use super::field_addresses;

    fn found(value: &str) -> Vec<(String, &str)> {
        let found = field_addresses(value).unwrap();
        found.into_iter().map(|a| (a.mailbox.to_string(), &value[a.place.clone()])).collect()
    }

    fn addresses(value: &str) -> Vec<String> {
        found(value).into_iter().map(|(address, _)| address).collect()
    }

    #[test]
    fn names_comments_and_groups_are_no_addresses() {
        assert_eq!(
            addresses("Eve <eve@a.example>, bob@b.example"),
            ["eve@a.example", "bob@b.example"]
        );
        assert_eq!(
            addresses(r#""Doe, \"J\" <x@y>" <j@a.example> (a (nested, \)) one)"#),
            ["j@a.example"]
        );
        assert_eq!(
            addresses("Team: a@x.example, B <b@x.example>;, c@y.example"),
            ["a@x.example", "b@x.example", "c@y.example"]
        );
        assert_eq!(addresses("undisclosed-recipients:;"), [""; 0]);
        assert_eq!(addresses(", ,a@b,,"), ["a@b"]);
        assert_eq!(addresses("=?utf-8?q?J=C3=BCrgen?= <j@a.example>"), ["j@a.example"]);
        assert_eq!(addresses("Jürgen ☎ <j@a.example>"), ["j@a.example"]);
        assert_eq!(addresses("A <@r.example,@s.example:a@b.example>"), ["a@b.example"]);
        assert_eq!(addresses("a@[192.0.2.1], \"a b\"@c"), ["a@[192.0.2.1]", "\"a b\"@c"]);
    }

    #[test]
    fn the_place_holds_the_address_alone() {
        assert_eq!(found("Eve (x) < eve@A.example >")[0].1, "eve@A.example");
        assert_eq!(
            found("eve (home) @ a.example (x)")[0],
            ("eve@a.example".into(), "eve (home) @ a.example")
        );
        assert_eq!(found("A <@r:a@b>")[0].1, "a@b");
    }

    #[test]
    fn what_is_no_address_is_an_error() {
        for value in [
            "Eve",
            "<>",
            "a@b <",
            "a b@c",
            "\"a",
            "(a",
            "a@b)",
            "<a@b, c@d>",
            "Eve <a@b> <",
            "a@[1",
        ] {
            assert!(field_addresses(value).is_err(), "{value}");
        }
    }
}
