//! Who wrote a message, as far as signing goes.

use waypost_sdk::prelude::*;

use crate::config::{SeveralAuthors, is_selector};

/// Why a message has no author that can be signed for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NoAuthor {
    /// No `From`, or an empty one.
    Missing,
    /// Two `From`, or one that cannot be read. Readers may see different authors.
    Ambiguous(String),
    /// Several authors, and what the configuration says about them is to sign for none.
    Several,
    /// Several authors, and the configuration refuses them.
    Refused,
}

/// The domain to sign for, from the fields `From` and `Sender`.
pub(crate) fn domain(headers: &[Header], several: SeveralAuthors) -> Result<String, NoAuthor> {
    let mut authors = addresses(headers, "from")?;
    match (authors.len(), several) {
        (0, _) => Err(NoAuthor::Missing),
        (1, _) | (_, SeveralAuthors::First) => Ok(authors.swap_remove(0)),
        // RFC 5322 §3.6.2: with several authors there must be a Sender, of one mailbox.
        (_, SeveralAuthors::Sender) => match addresses(headers, "sender") {
            Ok(mut senders) if senders.len() == 1 => Ok(senders.swap_remove(0)),
            _ => Err(NoAuthor::Several),
        },
        (_, SeveralAuthors::Skip) => Err(NoAuthor::Several),
        (_, SeveralAuthors::Refuse) => Err(NoAuthor::Refused),
    }
}

/// The domains of the addresses in the one field of this name.
fn addresses(headers: &[Header], name: &str) -> Result<Vec<String>, NoAuthor> {
    let mut fields = headers.iter().filter(|header| header.name.eq_ignore_ascii_case(name));
    let Some(field) = fields.next() else { return Ok(Vec::new()) };
    if fields.next().is_some() {
        return Err(NoAuthor::Ambiguous(format!("there is more than one field `{name}`")));
    }
    let found = field_addresses(&field.value)
        .map_err(|wrong| NoAuthor::Ambiguous(format!("`{name}`: {wrong}")))?;
    let domains = found.into_iter().map(|address| match address.mailbox.domain {
        // A literal, or a name that is not in the form that `d=` takes (RFC 6376 §3.5).
        domain if !is_selector(&domain) => {
            Err(NoAuthor::Ambiguous(format!("`{name}`: {domain} is no name that DNS has")))
        }
        domain => Ok(domain),
    });
    domains.collect()
}

#[cfg(test)]
mod tests {
    use super::{NoAuthor, domain};
    use crate::config::SeveralAuthors::{self, First, Refuse, Sender, Skip};
    use waypost_sdk::types::Header;

    fn of(fields: &[(&str, &str)], several: SeveralAuthors) -> Result<String, NoAuthor> {
        let header = |(id, (name, value)): (u32, &(&str, &str))| Header {
            id,
            name: (*name).to_owned(),
            value: (*value).to_owned(),
            lossy: false,
        };
        let headers: Vec<Header> = (0..).zip(fields).map(header).collect();
        domain(&headers, several)
    }

    #[test]
    fn one_author_however_it_is_written() {
        for from in [
            "eve@A.example",
            "\"x@b.example\" <eve@a.example>",
            "(eve@b.example) eve@a.example (c)",
            "Team: Eve <eve@a.example>;",
            "=?utf-8?q?e@b.example?= <eve@a.example>",
        ] {
            assert_eq!(of(&[("FROM", from)], Sender), Ok("a.example".to_owned()), "{from}");
        }
    }

    #[test]
    fn several_authors_go_by_the_configuration() {
        let two = ("From", "a@a.example, b@b.example");
        let sender = ("Sender", "c@c.example");
        assert_eq!(of(&[two, sender], Sender), Ok("c.example".to_owned()));
        assert_eq!(of(&[two], Sender), Err(NoAuthor::Several));
        assert_eq!(of(&[two, ("Sender", "a@b, c@d")], Sender), Err(NoAuthor::Several));
        assert_eq!(of(&[two, sender], First), Ok("a.example".to_owned()));
        assert_eq!(of(&[two, sender], Skip), Err(NoAuthor::Several));
        assert_eq!(of(&[two], Refuse), Err(NoAuthor::Refused));
    }

    #[test]
    fn who_cannot_be_told_is_not_signed_for() {
        assert_eq!(of(&[], First), Err(NoAuthor::Missing));
        assert_eq!(of(&[("From", "group:;")], First), Err(NoAuthor::Missing));
        let twice = [("From", "a@a.example"), ("from", "b@b.example")];
        assert!(matches!(of(&twice, First), Err(NoAuthor::Ambiguous(_))));
        for from in ["Eve", "eve@[192.0.2.1]", "eve@ü.example"] {
            assert!(matches!(of(&[("From", from)], First), Err(NoAuthor::Ambiguous(_))), "{from}");
        }
    }
}
