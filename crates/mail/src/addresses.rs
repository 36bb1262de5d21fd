//! Where addresses stand in the value of a field such as To (RFC 5322 §3.4).

use std::ops::Range;

/// The addresses of a list, by their places in it: without names, comments and angle brackets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AddressList {
    /// Each as `local@domain`, or `local` alone where programs on this machine leave the domain out.
    pub found: Vec<Range<usize>>,
    /// What stands where an address should and is none.
    pub broken: Vec<Range<usize>>,
}

impl AddressList {
    /// Reads a list. Names of groups are skipped, their members are found (RFC 5322 §3.4); source
    /// routes are dropped.
    pub fn find(value: &str) -> AddressList {
        let mut addresses = AddressList::default();
        let mut member = Member::default();
        for token in (Tokens { text: value, at: 0 }) {
            match token {
                Token::Word(word) => member.words.push(word),
                Token::Angle(inner) => member.angle = Some(inner),
                Token::GroupName => member = Member::default(),
                Token::End => addresses.add(value, std::mem::take(&mut member)),
            }
        }
        addresses.add(value, member);
        addresses
    }

    fn add(&mut self, value: &str, member: Member) {
        let place = match (member.angle, member.words.as_slice()) {
            (Some(inner), _) => without_route(value, inner),
            (None, []) => return,
            (None, [only]) => only.clone(),
            (None, [first, .., last]) => return self.broken.push(first.start..last.end),
        };
        if is_address(&value[place.clone()]) {
            self.found.push(place);
        } else if !place.is_empty() {
            self.broken.push(place);
        }
    }
}

/// The value with `domain` behind each address that has none; absent when there is none of these.
pub fn complete(value: &str, domain: &str) -> Option<String> {
    let bare: Vec<_> = AddressList::find(value)
        .found
        .into_iter()
        .filter(|place| !has_domain(&value[place.clone()]))
        .collect();
    let mut whole = value.to_owned();
    for place in bare.iter().rev() {
        whole.insert_str(place.end, &format!("@{domain}"));
    }
    (!bare.is_empty()).then_some(whole)
}

/// True when there is an `@` outside quotes.
pub fn has_domain(address: &str) -> bool {
    match address.strip_prefix('"') {
        Some(quoted) => quoted.rsplit_once('"').is_some_and(|(_, rest)| rest.starts_with('@')),
        None => address.contains('@'),
    }
}

/// A plausible address: what exactly may stand in one is the business of who sends to it.
fn is_address(text: &str) -> bool {
    let local = match text.strip_prefix('"') {
        // A quoted word without a domain is a name.
        Some(quoted) => return quoted.rsplit_once("\"@").is_some_and(|(_, d)| !d.is_empty()),
        None => text.split('@').next().unwrap_or_default(),
    };
    let domain_is_there = text.rsplit_once('@').is_none_or(|(_, domain)| !domain.is_empty());
    !local.is_empty() && domain_is_there && !local.contains(['"', '<', '>', '\\'])
}

/// `<@one,@two:a@b>` is `a@b`.
fn without_route(value: &str, inner: Range<usize>) -> Range<usize> {
    let text = &value[inner.clone()];
    match text.starts_with('@').then(|| text.find(':')).flatten() {
        Some(colon) => inner.start + colon + 1..inner.end,
        None => inner,
    }
}

/// One member of a list so far.
#[derive(Debug, Default)]
struct Member {
    /// Words outside comments and angle brackets.
    words: Vec<Range<usize>>,
    /// What is within angle brackets.
    angle: Option<Range<usize>>,
}

enum Token {
    Word(Range<usize>),
    Angle(Range<usize>),
    GroupName,
    End,
}

struct Tokens<'a> {
    text: &'a str,
    at: usize,
}

impl Tokens<'_> {
    /// Behind a comment that begins here, however deep it is nested.
    fn skip_comment(&mut self) {
        let mut depth = 0;
        let mut bytes = self.text.bytes().enumerate().skip(self.at);
        while let Some((at, byte)) = bytes.next() {
            match byte {
                b'\\' => drop(bytes.next()),
                b'(' => depth += 1,
                b')' => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                self.at = at + 1;
                return;
            }
        }
        self.at = self.text.len();
    }

    /// From here to where `ends` first holds outside quotes.
    fn until(&self, ends: impl Fn(u8) -> bool) -> usize {
        let (mut quoted, mut escaped) = (false, false);
        for (at, byte) in self.text.bytes().enumerate().skip(self.at) {
            match byte {
                _ if escaped => escaped = false,
                b'\\' if quoted => escaped = true,
                b'"' => quoted = !quoted,
                _ if !quoted && ends(byte) => return at,
                _ => {}
            }
        }
        self.text.len()
    }
}

impl Iterator for Tokens<'_> {
    type Item = Token;

    fn next(&mut self) -> Option<Token> {
        loop {
            let start = self.at;
            match *self.text.as_bytes().get(start)? {
                b'(' => self.skip_comment(),
                b',' | b';' => {
                    self.at += 1;
                    return Some(Token::End);
                }
                b':' => {
                    self.at += 1;
                    return Some(Token::GroupName);
                }
                b'<' => {
                    self.at += 1;
                    let end = self.until(|byte| byte == b'>');
                    let inner = self.at..end;
                    self.at = (end + 1).min(self.text.len());
                    return Some(Token::Angle(trimmed(self.text, inner)));
                }
                byte if byte.is_ascii_whitespace() => self.at += 1,
                _ => {
                    // A colon within a literal, a@[IPv6:::1], is not a group's.
                    let literal = self.text[start..].find("@[").map(|at| start + at);
                    let stop = |byte: u8| byte.is_ascii_whitespace() || b"(,;:<>".contains(&byte);
                    let mut end = self.until(stop);
                    if literal.is_some_and(|at| at < end) {
                        end = self.until(|byte| byte == b']').saturating_add(1);
                        end = end.min(self.text.len());
                    }
                    self.at = end.max(start + 1);
                    return Some(Token::Word(start..self.at));
                }
            }
        }
    }
}

fn trimmed(text: &str, range: Range<usize>) -> Range<usize> {
    let inner = &text[range.clone()];
    let start = range.start + (inner.len() - inner.trim_start().len());
    start..start + inner.trim().len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(value: &str) -> Vec<&str> {
        let addresses = AddressList::find(value);
        assert!(addresses.broken.is_empty(), "{value}: {addresses:?}");
        addresses.found.into_iter().map(|place| &value[place]).collect()
    }

    #[test]
    fn addresses_are_found_in_every_form() {
        assert_eq!(found("root"), ["root"]);
        assert_eq!(found("root (Cron Daemon)"), ["root"]);
        assert_eq!(found("a@b.example, c@d.example"), ["a@b.example", "c@d.example"]);
        assert_eq!(found("Anna B. <a@b.example> (x (y, z)),<c>"), ["a@b.example", "c"]);
        assert_eq!(found("\"B, Anna\" <a@b.example>"), ["a@b.example"]);
        assert_eq!(found("\"a, b\"@c.example"), ["\"a, b\"@c.example"]);
        assert_eq!(found("Friends: a, B <b@c.example>;, d"), ["a", "b@c.example", "d"]);
        assert_eq!(found("undisclosed-recipients:;"), Vec::<&str>::new());
        assert_eq!(found("<@x,@y:a@b.example>"), ["a@b.example"]);
        assert_eq!(
            found("a@[IPv6:2001:db8::1], b@[192.0.2.1]"),
            ["a@[IPv6:2001:db8::1]", "b@[192.0.2.1]"]
        );
        assert_eq!(
            found("\r\n\ta@b.example,\r\n =?utf-8?q?=C3=A4?= <c@d.example>"),
            ["a@b.example", "c@d.example"]
        );
        assert_eq!(found(" , ,"), Vec::<&str>::new());
        assert_eq!(found("<>"), Vec::<&str>::new());
    }

    #[test]
    fn what_is_no_address_is_told() {
        for value in ["Anna Bell", "a@", "@b.example", "\"Anna\"", "a b@c.example"] {
            let addresses = AddressList::find(value);
            assert!(addresses.found.is_empty(), "{value}: {addresses:?}");
            assert_eq!(addresses.broken.len(), 1, "{value}");
        }
    }

    #[test]
    fn an_address_without_domain_gets_one() {
        let whole = |value| complete(value, "x.example");
        assert_eq!(whole("root (Cron Daemon)").as_deref(), Some("root@x.example (Cron Daemon)"));
        assert_eq!(
            whole("A <a>, b@c.example, d").as_deref(),
            Some("A <a@x.example>, b@c.example, d@x.example")
        );
        assert_eq!(whole("a@b.example"), None);
        assert_eq!(whole("Anna Bell"), None);
    }

    /// Whatever a stranger writes, nothing is out of place.
    #[test]
    fn no_value_is_too_strange() {
        let alphabet = ["a", "@", "<", ">", "\"", "(", ")", ",", ":", ";", "\\", " ", "ä", "["];
        for number in 0..alphabet.len().pow(4) {
            let pick = |place: u32| alphabet[number / alphabet.len().pow(place) % alphabet.len()];
            let value: String = (0..4).map(pick).collect();
            let addresses = AddressList::find(&value);
            for place in addresses.found.iter().chain(&addresses.broken) {
                assert!(value.get(place.clone()).is_some(), "{value:?}: {addresses:?}");
            }
            complete(&value, "x.example");
        }
    }
}
