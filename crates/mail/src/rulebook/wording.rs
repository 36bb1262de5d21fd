//! The text of a reply without what differs from one message to the next.

use std::net::{IpAddr, SocketAddr};

/// Octets of a text that rules look at.
const MOST: usize = 2048;

/// The normal form of a text: in lower case, one space between words, and in the place of mail addresses,
/// network addresses, times and ids `<address>`, `<ip>`, `<time>` and `<id>`. Of a URL its host is left.
/// At most 2048 octets are looked at.
pub fn normal(text: &str) -> String {
    let text = text[..text.floor_char_boundary(MOST)].to_lowercase();
    let mut normal = String::with_capacity(text.len());
    for part in text.split_whitespace() {
        if !normal.is_empty() {
            normal.push(' ');
        }
        let mut rest = part;
        while let Some(at) = rest.find(is_mark) {
            normal.push_str(&word(&rest[..at]));
            let end = at + rest[at..].chars().next().map_or(1, char::len_utf8);
            normal.push_str(&rest[at..end]);
            rest = &rest[end..];
        }
        normal.push_str(&word(rest));
    }
    normal
}

/// Characters that are no part of a word.
fn is_mark(c: char) -> bool {
    matches!(
        c,
        '(' | ')'
            | '<'
            | '>'
            | '['
            | ']'
            | '{'
            | '}'
            | '"'
            | '\''
            | '`'
            | ','
            | ';'
            | '='
            | '|'
            | '!'
            | '*'
    )
}

/// A word, or what stands for its kind; full stops and colons behind it stay.
fn word(word: &str) -> String {
    let bare = word.trim_end_matches(['.', ':', '?']);
    let tail = &word[bare.len()..];
    if let Some((address, rest)) = bare.split_once(':')
        && address.contains('@')
    {
        return format!("{}:{}{tail}", self::word(address), self::word(rest));
    }
    match kind(bare) {
        Some(kind) => format!("{kind}{tail}"),
        None => word.to_owned(),
    }
}

fn kind(word: &str) -> Option<&str> {
    if let Some((_, rest)) = word.split_once("://") {
        return rest.split(['/', ':', '?', '#']).next();
    }
    if word.split_once('@').is_some_and(|(local, domain)| !local.is_empty() && !domain.is_empty()) {
        return Some("<address>");
    }
    if is_ip(word) {
        return Some("<ip>");
    }
    if is_time(word) {
        return Some("<time>");
    }
    match word.split_once('/') {
        Some((host, _)) if is_host(host) => return Some(host),
        _ if is_host(word) => return None,
        _ => {}
    }
    let digits = word.bytes().filter(u8::is_ascii_digit).count();
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'+' | b'/');
    (word.len() >= 10 && digits >= 3 && word.bytes().all(plain)).then_some("<id>")
}

fn is_ip(word: &str) -> bool {
    let bare = word.strip_prefix("ipv6:").unwrap_or(word);
    let (bare, prefix) = bare.split_once('/').map_or((bare, "0"), |(ip, prefix)| (ip, prefix));
    let number = prefix.bytes().all(|b| b.is_ascii_digit());
    number && (bare.parse::<IpAddr>().is_ok() || bare.parse::<SocketAddr>().is_ok())
}

/// `12:30`, `12:30:01`, `2026-11-26`, `2026-11-26t12:30:01z`.
fn is_time(word: &str) -> bool {
    let shape: String = word.chars().map(|c| if c.is_ascii_digit() { '9' } else { c }).collect();
    matches!(shape.as_str(), "9:99" | "99:99" | "99:99:99" | "9:99:99")
        || shape.starts_with("9999-99-99")
}

/// A name with at least one dot, which ends in letters.
fn is_host(word: &str) -> bool {
    let Some((front, last)) = word.rsplit_once('.') else { return false };
    let label = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    last.len() >= 2 && last.bytes().all(|b| b.is_ascii_alphabetic()) && front.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_from_message_to_message_is_gone() {
        for (text, expected) in [
            ("<Bob@Example.ORG>: User  unknown", "<<address>>: user unknown"),
            ("[192.0.2.1] blocked", "[<ip>] blocked"),
            ("client host [2001:db8::1] IPv6:2001:db8::1.", "client host [<ip>] <ip>."),
            ("see https://www.spamhaus.org/query/ip/192.0.2.1", "see www.spamhaus.org"),
            ("zen.spamhaus.org/x listed", "zen.spamhaus.org listed"),
            ("ip=192.0.2.9,id=4XyZ12abcd99", "ip=<ip>,id=<id>"),
            ("at 12:30:01 on 2026-11-26", "at <time> on <time>"),
            ("5.7.1 [TSS04] RL000001 IB007", "5.7.1 [tss04] rl000001 ib007"),
            ("a640c23a62f3a-ab9087si123456.45 - gsmtp", "<id> - gsmtp"),
            ("(bob@example.net:550 5.1.1", "(<address>:550 5.1.1"),
            ("one\ntwo", "one two"),
            ("", ""),
        ] {
            assert_eq!(normal(text), expected);
        }
    }

    #[test]
    fn long_texts_are_cut_at_a_character() {
        assert!(normal(&"ü".repeat(5000)).len() <= MOST);
        // Some grow in lower case; nothing breaks.
        assert!(!normal(&"İ".repeat(5000)).is_empty());
    }
}
