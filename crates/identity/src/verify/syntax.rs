//! Whether a policy of SPF is well formed (RFC 7208 §12): one mistake anywhere makes it a permanent
//! error (§4.6), where mail-auth passes over some.

use std::net::{Ipv4Addr, Ipv6Addr};

/// True when every term is one. `text` begins with the version.
pub(super) fn is_well_formed(text: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(text) else { return false };
    let terms = || text.split(' ').skip(1).filter(|term| !term.is_empty());
    let count = |wanted: &str| {
        let names = terms().filter_map(|term| modifier(term));
        names.filter(|(name, _)| name.eq_ignore_ascii_case(wanted)).count()
    };
    terms().all(is_term) && count("redirect") <= 1 && count("exp") <= 1
}

fn is_term(term: &str) -> bool {
    match modifier(term) {
        Some((name, value)) => {
            let needs_domain = ["redirect", "exp"].iter().any(|n| n.eq_ignore_ascii_case(name));
            is_macro_string(value) && (!needs_domain || !value.is_empty())
        }
        None => is_mechanism(term.strip_prefix(['+', '-', '?', '~']).unwrap_or(term)),
    }
}

/// `name=value`
fn modifier(term: &str) -> Option<(&str, &str)> {
    let (name, value) = term.split_once('=')?;
    let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    is_name.then_some((name, value))
}

fn is_mechanism(term: &str) -> bool {
    let end = term.find([':', '/']).unwrap_or(term.len());
    let (name, rest) = term.split_at(end);
    let argument = rest.strip_prefix(':');
    match name.to_ascii_lowercase().as_str() {
        "all" => rest.is_empty(),
        "include" | "exists" => argument.is_some_and(is_domain),
        "ptr" => rest.is_empty() || argument.is_some_and(is_domain),
        "a" | "mx" => match argument {
            Some(argument) => is_domain_with_prefixes(argument),
            None => are_prefixes(rest),
        },
        "ip4" => argument.is_some_and(|network| is_network::<Ipv4Addr>(network, 32)),
        "ip6" => argument.is_some_and(|network| is_network::<Ipv6Addr>(network, 128)),
        _ => false,
    }
}

fn is_network<A: std::str::FromStr>(text: &str, most: u8) -> bool {
    match text.split_once('/') {
        Some((address, prefix)) => address.parse::<A>().is_ok() && is_prefix(prefix, most),
        None => text.parse::<A>().is_ok(),
    }
}

/// A domain may have slashes within macros.
fn is_domain_with_prefixes(text: &str) -> bool {
    let behind_macros = text.rfind('}').map_or(0, |at| at + 1);
    let end = text[behind_macros..].find('/').map_or(text.len(), |at| behind_macros + at);
    is_domain(&text[..end]) && are_prefixes(&text[end..])
}

/// `/24`, `//64` or `/24//64`, or nothing.
fn are_prefixes(text: &str) -> bool {
    let (v4, v6) = match text.split_once("//") {
        Some((v4, v6)) => (v4, Some(v6)),
        None => (text, None),
    };
    (v4.is_empty() || v4.strip_prefix('/').is_some_and(|v4| is_prefix(v4, 32)))
        && v6.is_none_or(|v6| is_prefix(v6, 128))
}

fn is_prefix(text: &str, most: u8) -> bool {
    let is_number = text == "0" || !text.starts_with('0');
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    is_number && digits && text.parse::<u8>().is_ok_and(|prefix| prefix <= most)
}

fn is_domain(text: &str) -> bool {
    !text.is_empty() && is_macro_string(text)
}

/// RFC 7208 §7.1
fn is_macro_string(text: &str) -> bool {
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        let (plain, behind) = rest.split_at(at);
        if !is_visible(plain) {
            return false;
        }
        rest = match behind.as_bytes().get(1) {
            Some(b'%' | b'_' | b'-') => &behind[2..],
            Some(b'{') => match behind.find('}') {
                Some(end) if is_macro(&behind[2..end]) => &behind[end + 1..],
                _ => return false,
            },
            _ => return false,
        };
    }
    is_visible(rest)
}

/// What stands in braces: a letter, how many labels, reversed or not, and where to cut.
fn is_macro(text: &str) -> bool {
    let mut chars = text.chars();
    let is_letter = chars.next().is_some_and(|c| "slodiphcrtv".contains(c.to_ascii_lowercase()));
    let rest = chars.as_str().trim_start_matches(|c: char| c.is_ascii_digit());
    let rest = rest.strip_prefix(['r', 'R']).unwrap_or(rest);
    is_letter && rest.chars().all(|c| ".-+,/_=".contains(c))
}

fn is_visible(text: &str) -> bool {
    text.bytes().all(|b| (0x21..=0x7e).contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_as_they_are_published() {
        for text in [
            "v=spf1",
            "v=spf1 ",
            "v=spf1 -all",
            "v=spf1  +mx a:colo.example.com/28 -ALL",
            "v=spf1 a/24//64 mx//64 a:%{d}/24 ptr ptr:example.org ~all",
            "v=spf1 ip4:192.0.2.0/24 ip6:2001:db8::/32 ip4:192.0.2.1 ?all",
            "v=spf1 include:_spf.example.com exists:%{ir}.%{l1r+-}._spf.%{d2} redirect=a.example",
            "v=spf1 exists:%{l1/}.example.org exp=explain._spf.%{d} unknown=what%_ever moo.cow-far_out=man:%{d}",
        ] {
            assert!(is_well_formed(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn mistakes() {
        for term in [
            "ip4:192.0.2.999",
            "ip4:192.0.2.1/33",
            "ip4:192.0.2.1/",
            "ip4:192.0.2.1/024",
            "ip4",
            "ip6:192.0.2.1",
            "ip6:2001:db8::/129",
            "all:x",
            "all/8",
            "include",
            "include:",
            "exists:",
            "a:",
            "a/",
            "a/33",
            "mx//129",
            "unknown",
            "unknown:x",
            "--all",
            "=x",
            "1x=y",
            "redirect=",
            "exp=",
            "a:%",
            "a:%{x}",
            "a:%{d",
            "a:%(d)",
            "redirect=a.example redirect=b.example",
            "a:\u{fc}.example",
            "a:b\tc",
        ] {
            let text = format!("v=spf1 {term} -all");
            assert!(!is_well_formed(text.as_bytes()), "{term}");
        }
        assert!(!is_well_formed(b"v=spf1 a:\xff"));
    }
}
