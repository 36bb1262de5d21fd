//! Texts with facts in braces, such as `tenant-{identity}`.

use waypost_sdk::prelude::*;

/// A text with names of facts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Template(Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Fact(Fact),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Fact {
    Domain,
    SenderDomain,
    Identity,
    Listener,
    Row,
    Meta(String),
}

/// What a template is filled from.
#[derive(Clone, Copy)]
pub(crate) struct Facts<'a> {
    pub(crate) message: &'a Queued,
    pub(crate) recipient: &'a Recipient,
    /// The value in the table of the rule.
    pub(crate) row: Option<&'a str>,
}

const KNOWN: &str =
    "{domain}, {sender-domain}, {identity}, {listener}, {row} and {meta:plugin/key}";

impl Template {
    /// Reads a template; `sure` allows only facts that every recipient has, for hosts and the like.
    pub(crate) fn parse(text: &str, has_table: bool, sure: bool) -> Result<Template, String> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, behind)) = rest.split_once('{') {
            if !before.is_empty() {
                pieces.push(Piece::Text(before.to_owned()));
            }
            let (name, after) = behind
                .split_once('}')
                .ok_or_else(|| format!("`{text}`: a brace does not close"))?;
            let fact = Fact::named(name)
                .ok_or_else(|| format!("`{{{name}}}` is no fact; there are {KNOWN}"))?;
            if fact == Fact::Row && !has_table {
                return Err("{row} is the value in `recipient-table`, which this rule lacks".into());
            }
            if sure && !matches!(fact, Fact::Row | Fact::Domain) {
                return Err(format!("`{{{name}}}` may be absent; use {{domain}} or {{row}} here"));
            }
            pieces.push(Piece::Fact(fact));
            rest = after;
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(rest.to_owned()));
        }
        Ok(Template(pieces))
    }

    /// The text when no fact is in it.
    pub(crate) fn plain(&self) -> Option<&str> {
        match self.0.as_slice() {
            [] => Some(""),
            [Piece::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// Filled. A fact that is absent reads `none`.
    pub(crate) fn fill(&self, facts: Facts<'_>) -> String {
        let mut text = String::new();
        for piece in &self.0 {
            text.push_str(match piece {
                Piece::Text(text) => text,
                Piece::Fact(fact) => fact.of(facts).unwrap_or("none"),
            });
        }
        text
    }

    /// True when the text around the facts can stand in a name: `[a-z0-9._-]`.
    pub(crate) fn is_name(&self) -> bool {
        let legal = |c: u8| matches!(c, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-');
        let fine = |piece: &Piece| match piece {
            Piece::Text(text) => text.bytes().all(legal),
            Piece::Fact(_) => true,
        };
        !self.0.is_empty() && self.0.iter().all(fine)
    }

    /// Filled, and made a name as lanes and pools have them: `[a-z0-9._-]`, at most 64 octets.
    pub(crate) fn fill_name(&self, facts: Facts<'_>) -> String {
        let name = |c: char| match c.to_ascii_lowercase() {
            c @ ('a'..='z' | '0'..='9' | '.' | '_' | '-') => c,
            _ => '-',
        };
        self.fill(facts).chars().map(name).take(64).collect()
    }
}

impl Fact {
    fn named(name: &str) -> Option<Fact> {
        Some(match name {
            "domain" => Fact::Domain,
            "sender-domain" => Fact::SenderDomain,
            "identity" => Fact::Identity,
            "listener" => Fact::Listener,
            "row" => Fact::Row,
            _ => Fact::Meta(name.strip_prefix("meta:").filter(|key| key.contains('/'))?.to_owned()),
        })
    }

    fn of<'a>(&self, facts: Facts<'a>) -> Option<&'a str> {
        let message = facts.message;
        match self {
            Fact::Domain => Some(&facts.recipient.address.domain),
            Fact::SenderDomain => message.sender.as_ref().map(|sender| sender.domain.as_str()),
            Fact::Identity => message.session.identity.as_deref(),
            Fact::Listener => Some(&message.session.listener),
            Fact::Row => facts.row,
            Fact::Meta(name) => meta(message, facts.recipient, name),
        }
    }
}

/// Metadata by name: of the recipient, else of the message, else of the session.
pub(crate) fn meta<'a>(
    message: &'a Queued,
    recipient: &'a Recipient,
    name: &str,
) -> Option<&'a str> {
    recipient
        .meta_value(name)
        .or_else(|| message.meta_value(name))
        .or_else(|| message.session.meta_value(name))
}

#[cfg(test)]
mod tests {
    use super::{Facts, Template};
    use waypost_sdk::testing::{queued, recipient};
    use waypost_sdk::types::{Attr, Session};

    #[test]
    fn facts_are_filled_in() {
        let mut message = queued(Some("s@S.example"), &[]);
        message.session = Session { identity: Some("Acme Ltd".into()), ..message.session };
        message.meta = vec![Attr::new("p/k", "v")];
        let recipient = recipient(0, "a@r.example");
        let facts = Facts { message: &message, recipient: &recipient, row: Some("row") };
        let fill = |text| Template::parse(text, true, false).unwrap().fill_name(facts);
        assert_eq!(fill("t-{identity}"), "t-acme-ltd");
        assert_eq!(fill("{domain}/{sender-domain}"), "r.example-s.example");
        assert_eq!(fill("{meta:p/k}{meta:p/x}{row}{listener}"), "vnonerowmx");
        assert_eq!(fill(&"x".repeat(99)).len(), 64);
    }

    #[test]
    fn what_may_be_absent_names_no_host() {
        for (text, has_table, sure) in [
            ("{", true, false),
            ("{x}", true, false),
            ("{meta:k}", true, false),
            ("{row}", false, false),
            ("{identity}", true, true),
        ] {
            assert!(Template::parse(text, has_table, sure).is_err(), "{text}");
        }
    }
}
