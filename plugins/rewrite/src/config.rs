//! What operators write.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

use waypost_sdk::Span;
use waypost_sdk::patterns::{AddressPattern, DomainPattern, Glob};
use waypost_sdk::types::Mailbox;

/// `[plugin.config]` of the plugin. What is absent is not done.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// Other addresses for recipients.
    pub aliases: Aliases,
    /// Other domains for senders.
    pub masquerade: Masquerade,
    /// Fields added, set and removed, in order.
    pub fields: Vec<Field>,
    /// The first that applies is put under the text.
    pub footers: Vec<Footer>,
    /// An envelope sender for each recipient.
    pub verp: Option<Verp>,
    /// Envelope senders of ours for what is forwarded.
    pub srs: Option<Srs>,
}

/// Other addresses for recipients.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Aliases {
    /// An address, or `@domain` for all others of it, and who stands for it.
    pub map: BTreeMap<String, OneOrMany>,
    /// The same as tables, whose values are addresses separated by commas.
    pub tables: Vec<String>,
    /// Domains that are other domains, with the same local parts.
    pub domains: BTreeMap<String, String>,
    /// What follows this character in a local part is a detail.
    pub delimiter: Option<char>,
    /// At most so many addresses for one.
    pub limit: Option<usize>,
}

/// One address or several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OneOrMany(pub Vec<String>);

/// Other domains for senders.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Masquerade {
    /// From these domains (`*.a.example` for all below) to those.
    pub domains: BTreeMap<String, String>,
    /// Single addresses, which go before domains.
    pub addresses: BTreeMap<String, String>,
    /// The fields; `From`, `Sender` and `Reply-To` when absent.
    pub headers: Option<Vec<String>>,
    /// The envelope sender, too.
    pub envelope: bool,
    /// For whose mail.
    pub when: When,
}

/// For whose mail.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct When {
    /// Mail of strangers too, not only of who may send to anybody.
    pub anybody: bool,
    /// Envelope senders.
    pub sender: Vec<AddressPattern>,
    /// One of the recipients is such.
    pub recipient: Vec<AddressPattern>,
    /// Who submitted.
    pub identity: Vec<Glob>,
    /// Where.
    pub listener: Vec<Glob>,
}

/// A field to add, set or remove: exactly one of the three.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Field {
    /// Add one of this name.
    pub add: Option<String>,
    /// Give the first of this name this value and remove the others; add it when there is none.
    pub set: Option<String>,
    /// Remove all of this name; `*` may be used.
    pub remove: Option<String>,
    /// The value; a template.
    pub value: Option<String>,
    /// Below the other fields.
    pub bottom: bool,
    /// Only when there is none yet.
    pub if_absent: bool,
    /// For whose mail.
    pub when: When,
}

/// A text under the text.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Footer {
    /// Shown as the rule of the decision.
    pub name: String,
    /// For parts in plain text.
    pub text: String,
    /// For parts in plain text whose character set or encoding cannot carry `text`.
    #[serde(default)]
    pub ascii: Option<String>,
    /// For parts in HTML; made of `text` when absent.
    #[serde(default)]
    pub html: Option<String>,
    /// For whose mail.
    #[serde(default)]
    pub when: When,
}

/// An envelope sender for each recipient.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Verp {
    /// For these senders.
    pub sender: Vec<AddressPattern>,
    /// Where bounces go: `bounce@a.example` makes `bounce+user=domain@a.example`.
    pub bounce: String,
    /// Between the local part and the recipient; `+` when absent.
    #[serde(default)]
    pub delimiter: Option<char>,
}

/// Envelope senders of ours for what is forwarded.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Srs {
    /// The domain that bounces come back to.
    pub domain: String,
    /// Name of the secret.
    pub secret: String,
    /// Earlier secrets, still good for what comes back.
    #[serde(default)]
    pub old_secrets: Vec<String>,
    /// Domains whose senders need no other address.
    #[serde(default)]
    pub local: Vec<DomainPattern>,
    /// How long bounces may take; 21 days when absent.
    #[serde(default)]
    pub max_age: Option<Span>,
}

impl<'de> Deserialize<'de> for OneOrMany {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<OneOrMany, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "an address or a list of addresses")]
        enum Either {
            One(String),
            Many(Vec<String>),
        }
        Ok(OneOrMany(match Either::deserialize(reader)? {
            Either::One(address) => vec![address],
            Either::Many(addresses) => addresses,
        }))
    }
}

/// An address in the configuration.
pub(crate) fn address(place: &str, text: &str) -> Result<Mailbox, String> {
    Mailbox::parse(text).map_err(|wrong| format!("{place}: {wrong}"))
}

/// A domain in the configuration, in lower case.
pub(crate) fn domain(place: &str, text: &str) -> Result<String, String> {
    match Mailbox::parse(&format!("x@{text}")) {
        Ok(mailbox) => Ok(mailbox.domain),
        Err(_) => Err(format!("{place}: `{text}` is no domain")),
    }
}
