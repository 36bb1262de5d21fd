//! `Authentication-Results` (RFC 8601): the field that tells what was found, and those that claim to
//! be ours and are not.

use waypost_mail::{HeaderBlock, header};
use waypost_smtp::Domain;

use crate::verify::{
    ArcFinding, AuthResult, DkimFinding, DmarcFinding, Findings, IprevFinding, SpfFinding,
};

const NAME: &str = "Authentication-Results";

/// The whole field, final CRLF included. `id` is who says so: a host or domain name.
pub fn field(id: &str, findings: &Findings) -> Vec<u8> {
    header::field(NAME, &text(id, findings))
}

/// What stands behind the colon (RFC 8601 §2.2).
pub(crate) fn text(id: &str, findings: &Findings) -> String {
    let mut text = id.to_owned();
    let mut told = false;
    let each = findings.spf.iter().map(spf);
    let each = each.chain(dkim(findings)).chain(findings.dmarc.iter().map(dmarc));
    for part in each.chain(findings.arc.iter().map(arc)).chain(findings.iprev.iter().map(iprev)) {
        text += &format!("; {part}");
        told = true;
    }
    if !told {
        text += "; none";
    }
    text
}

fn spf(finding: &SpfFinding) -> String {
    let property = if finding.by_helo { "smtp.helo" } else { "smtp.mailfrom" };
    let property = (property, finding.domain.as_str());
    part("spf", finding.result, finding.reason, &[property])
}

/// RFC 6008 for the beginning of the signature, RFC 7601 §2.7.1 for selector and algorithm.
fn dkim(findings: &Findings) -> Vec<String> {
    match findings.dkim.as_deref() {
        None => Vec::new(),
        Some([]) => vec![part("dkim", AuthResult::None, None, &[])],
        Some(signatures) => signatures.iter().map(signature).collect(),
    }
}

fn signature(finding: &DkimFinding) -> String {
    let properties = [
        ("header.d", finding.domain.as_str()),
        ("header.s", &finding.selector),
        ("header.a", finding.algorithm),
        ("header.b", &finding.beginning),
    ];
    part("dkim", finding.result, finding.reason, &properties)
}

fn dmarc(finding: &DmarcFinding) -> String {
    let policy = match finding.result {
        AuthResult::Pass | AuthResult::Fail => finding.policy.word(),
        _ => "",
    };
    let properties = [("header.from", finding.domain.as_str()), ("policy.dmarc", policy)];
    part("dmarc", finding.result, finding.reason, &properties)
}

fn arc(finding: &ArcFinding) -> String {
    part("arc", finding.result, finding.reason, &[])
}

fn iprev(finding: &IprevFinding) -> String {
    let ip = finding.ip.to_string();
    part("iprev", finding.result, None, &[("policy.iprev", &ip)])
}

fn part(
    method: &str,
    result: AuthResult,
    reason: Option<&str>,
    properties: &[(&str, &str)],
) -> String {
    let mut text = format!("{method}={}", result.word());
    if let Some(reason) = reason {
        text += &format!(" reason={}", value(reason));
    }
    for (name, said) in properties.iter().filter(|(_, said)| !said.is_empty()) {
        text += &format!(" {name}={}", value(said));
    }
    text
}

/// A token, or else a quoted string (RFC 2045 §5.1, RFC 5322 §3.2.4). Strangers choose some of
/// these words: what is not printable ASCII becomes a question mark.
fn value(text: &str) -> String {
    let ascii = match Domain::parse(text) {
        Ok(Domain::Name(name)) => name,
        _ => text.to_owned(),
    };
    let printable = |c: char| if c.is_ascii_graphic() || c == ' ' { c } else { '?' };
    let plain: String = ascii.chars().take(255).map(printable).collect();
    if !plain.is_empty() && plain.bytes().all(is_token) {
        return plain;
    }
    let escaped = plain.replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{escaped}\"")
}

fn is_token(octet: u8) -> bool {
    octet.is_ascii_graphic() && !br#"()<>@,;:\"/[]?="#.contains(&octet)
}

/// The header without the fields that say `id` had written them, and how many those were: they were
/// there before it wrote any (RFC 8601 §5). A field that cannot be read goes too when it names `id`
/// anywhere, because others may read it otherwise; fields of others stay.
pub fn without_claims(header: HeaderBlock, id: &str) -> (HeaderBlock, usize) {
    let is_claim = |name: &str, value: &[u8]| name.eq_ignore_ascii_case(NAME) && claims(value, id);
    let claims: Vec<u32> = header
        .views()
        .filter(|field| is_claim(field.name, field.value))
        .map(|field| field.id)
        .collect();
    let count = claims.len();
    (header.without_ids(&claims), count)
}

/// True when the value of a field says that `id` wrote it.
pub fn claims(value: &[u8], id: &str) -> bool {
    let ours = canonical(id);
    let text = String::from_utf8_lossy(value).to_lowercase();
    // As somebody reads it who knows nothing of quotes: a semicolon may be quoted.
    let plain = text.split(';').next().unwrap_or_default();
    if canonical(plain.trim_matches(|c: char| c.is_whitespace() || c == '"')) == ours {
        return true;
    }
    match read_id(value) {
        Some(said) => canonical(&said) == ours,
        None => {
            // As it stands, and with everything gone that could hide it.
            let bare: String =
                text.chars().filter(|c| !c.is_whitespace() && !"\"\\".contains(*c)).collect();
            [text.as_str(), &bare].iter().any(|text| text.contains(&ours))
        }
    }
}

/// Names are compared as DNS compares them: without case, a final dot or U-labels.
fn canonical(id: &str) -> String {
    let id = id.trim_end_matches('.');
    match Domain::parse(id) {
        Ok(Domain::Name(name)) => name,
        _ => id.to_lowercase(),
    }
}

/// The authserv-id (RFC 8601 §2.2), unless the value does not begin with one that is followed by
/// nothing, a version, or a semicolon.
fn read_id(value: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(value).ok()?;
    let rest = skip_white(text)?;
    let (id, rest) = match rest.strip_prefix('"') {
        Some(quoted) => read_quoted(quoted)?,
        None => {
            let end = rest.find(|c: char| c.is_ascii() && !is_token(c as u8));
            let (id, rest) = rest.split_at(end.unwrap_or(rest.len()));
            (id.to_owned(), rest)
        }
    };
    let rest = skip_white(rest)?;
    let version = rest.trim_start_matches(|c: char| c.is_ascii_digit());
    let rest = skip_white(version)?;
    let is_whole = rest.is_empty() || rest.starts_with(';');
    (!id.is_empty() && is_whole).then_some(id)
}

/// Behind the opening quote: what is quoted, and what follows.
fn read_quoted(text: &str) -> Option<(String, &str)> {
    let mut said = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((said, &text[at + 1..])),
            '\\' => said.push(chars.next()?.1),
            // A folded line is one.
            '\r' | '\n' => {}
            _ => said.push(c),
        }
    }
    None
}

/// Behind white space, line ends and comments, which nest (RFC 5322 §3.2.2). `None` when a comment
/// does not end.
fn skip_white(text: &str) -> Option<&str> {
    let mut depth = 0usize;
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '(' => depth += 1,
            ')' if depth > 0 => depth -= 1,
            '\\' if depth > 0 => {
                chars.next()?;
            }
            ' ' | '\t' | '\r' | '\n' => {}
            _ if depth > 0 => {}
            _ => return Some(&text[at..]),
        }
    }
    (depth == 0).then_some("")
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::verify::DmarcPolicy;

    const OURS: &str = "relay.example.org";

    #[test]
    fn every_spelling_of_our_name_is_a_claim() {
        for value in [
            " relay.example.org; spf=pass",
            " relay.example.org",
            " RELAY.Example.ORG ; none",
            " relay.example.org 1; none",
            " relay.example.org\r\n 1\r\n ;none",
            "relay.example.org;",
            "\r\n\trelay.example.org;\r\n spf=pass",
            " (a comment) relay.example.org; none",
            " (nested (comments \\) here)) relay.example.org (and) 1 (there); none",
            " \"relay.example.org\"; none",
            " \"relay.\\example.org\"; none",
            " \"relay.exa\r\n mple.org\" none",
            " relay.example.org.; none",
            // Not as RFC 8601 wants it, but some reader may take it for one.
            " relay.example.org/1; none",
            " relay.example.org spf=pass; none",
            " (unfinished relay.example.org; spf=pass",
            " \"relay.example.org; spf=pass",
            " ; relay.example.org; spf=pass",
            " relay . example . org; none",
            " =relay.example.org; none",
            " \"relay.example.org\r\n ;(\"; none",
        ] {
            assert!(claims(value.as_bytes(), OURS), "{value:?}");
        }
        assert!(claims(b" (\xff) relay.example.org; none", OURS));
        assert!(claims(" m\u{fc}ller.example; none".as_bytes(), "xn--mller-kva.example"));
    }

    #[test]
    fn what_others_found_stays() {
        for value in [
            " mx.example.net; spf=pass smtp.mailfrom=relay.example.org",
            " example.org; none",
            " relay.example.org.evil.example; spf=pass",
            " not-relay.example.org; none",
            " (relay.example.org) mx.example.net; none",
            " \"mx.example.net\" 1; none",
            " mx.example.net (relay.example.org); none",
            " ",
            "",
        ] {
            assert!(!claims(value.as_bytes(), OURS), "{value:?}");
        }
    }

    #[test]
    fn only_claims_are_taken_away() {
        let text = "Received: by x\r\nAuthentication-Results: mx.example.net; none\r\n\
            authentication-results : RELAY.example.org;\r\n dmarc=pass\r\nSubject: s\r\n\
            Authentication-Results: \"relay.example.org\"; none\r\n\
            ARC-Authentication-Results: i=1; relay.example.org; none\r\n";
        let header = HeaderBlock::parse(Bytes::from_static(text.as_bytes()));
        let (left, count) = without_claims(header, OURS);
        assert_eq!(count, 2);
        assert_eq!(
            left.as_bytes(),
            "Received: by x\r\nAuthentication-Results: mx.example.net; none\r\nSubject: s\r\n\
             ARC-Authentication-Results: i=1; relay.example.org; none\r\n"
        );
    }

    fn findings() -> Findings {
        Findings {
            spf: Some(SpfFinding {
                result: AuthResult::Pass,
                by_helo: false,
                domain: "sender.example".to_owned(),
                reason: None,
            }),
            dkim: Some(vec![DkimFinding {
                result: AuthResult::Fail,
                domain: "M\u{fc}ller.example".to_owned(),
                selector: "a b\"c\r\n\u{20ac}".to_owned(),
                algorithm: "rsa-sha256",
                beginning: "ab/+cd==".to_owned(),
                reason: Some("the signature is expired"),
            }]),
            dmarc: Some(DmarcFinding {
                result: AuthResult::Pass,
                domain: "sender.example".to_owned(),
                policy: DmarcPolicy::Reject,
                reason: None,
            }),
            arc: Some(ArcFinding {
                result: AuthResult::None,
                sets: 0,
                given_up: false,
                reason: None,
            }),
            iprev: Some(IprevFinding {
                result: AuthResult::Pass,
                ip: "2001:db8::1".parse().unwrap(),
                name: None,
            }),
        }
    }

    #[test]
    fn one_field_tells_all() {
        assert_eq!(
            text(OURS, &findings()),
            "relay.example.org; spf=pass smtp.mailfrom=sender.example; \
             dkim=fail reason=\"the signature is expired\" header.d=xn--mller-kva.example \
             header.s=\"a b\\\"c???\" header.a=rsa-sha256 header.b=\"ab/+cd==\"; \
             dmarc=pass header.from=sender.example policy.dmarc=reject; arc=none; \
             iprev=pass policy.iprev=\"2001:db8::1\""
        );
        assert_eq!(text(OURS, &Findings::default()), "relay.example.org; none");
        let nothing = Findings { dkim: Some(Vec::new()), ..Findings::default() };
        assert_eq!(text(OURS, &nothing), "relay.example.org; dkim=none");
        let written = field(OURS, &findings());
        let value = &written["Authentication-Results:".len()..];
        assert!(claims(value, OURS) && written.ends_with(b"\r\n"));
    }
}
