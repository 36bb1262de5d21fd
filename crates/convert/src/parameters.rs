//! Fields with parameters, such as Content-Disposition (RFC 2231).

use std::collections::HashSet;

use crate::media::quoted;
use crate::pieces::sections;
use crate::words::parameter;

/// A value with parameters, of which those that are not ASCII are encoded (RFC 2231 §4). Nothing when
/// something else is not ASCII.
pub(crate) fn parameters(name: &str, value: &[u8]) -> Option<Vec<u8>> {
    let sections = sections(value);
    let encoded = encoded(&sections);
    let mut rest = sections.iter();
    let first = rest.next().filter(|first| first.is_ascii())?;
    let mut out = format!("{name}: ").into_bytes();
    out.extend_from_slice(first.trim_ascii());
    for section in rest {
        let section = section.trim_ascii();
        if section.is_empty() {
            continue;
        }
        if section.is_ascii() {
            out.extend_from_slice(b";\r\n ");
            out.extend_from_slice(section);
            continue;
        }
        let equals = section.iter().position(|octet| *octet == b'=')?;
        let (key, value) = (section[..equals].trim_ascii(), section[equals + 1..].trim_ascii());
        let key =
            std::str::from_utf8(key).ok().filter(|key| key.is_ascii() && !key.contains('*'))?;
        if encoded.contains(&key.as_bytes().to_ascii_lowercase()) {
            continue;
        }
        let value = match value {
            [b'"', text @ ..] => quoted(text).0,
            plain => plain.to_vec(),
        };
        out.extend_from_slice(parameter(key, &value).as_bytes());
    }
    out.extend_from_slice(b"\r\n");
    Some(out)
}

/// The names of parameters that are encoded already (RFC 2231 §4), in lower case: many write both forms,
/// and who can read this one does not look at the other.
fn encoded(sections: &[Vec<u8>]) -> HashSet<Vec<u8>> {
    let name = |section: &Vec<u8>| {
        let key = section.split(|octet| *octet == b'=').next()?.trim_ascii();
        let name = key.strip_suffix(b"*0*").or_else(|| key.strip_suffix(b"*"))?;
        section.is_ascii().then(|| name.to_ascii_lowercase())
    };
    sections.iter().filter_map(name).collect()
}
