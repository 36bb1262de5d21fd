//! What operators write.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use waypost_sdk::patterns::{AddressPattern, Glob, Network};
use waypost_sdk::types::TlsPolicy;
use waypost_sdk::{Octets, Span};

/// `[plugin.config]` of the plugin.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// In order; the first that matches a recipient decides about it.
    pub rules: Vec<Rule>,
}

/// Which recipients of which messages, and their way. Conditions that are absent always hold.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Rule {
    /// Shown as the rule of the decision.
    pub name: String,
    /// Recipients.
    #[serde(default)]
    pub recipient: Vec<AddressPattern>,
    /// The recipient stands in a table.
    #[serde(default)]
    pub recipient_table: Option<Table>,
    /// Senders; `<>` is the null sender.
    #[serde(default)]
    pub sender: Vec<AddressPattern>,
    /// Header fields; all must hold.
    #[serde(default)]
    pub header: Vec<Field>,
    /// Who submitted.
    #[serde(default)]
    pub identity: Vec<Glob>,
    /// Listeners.
    #[serde(default)]
    pub listener: Vec<Glob>,
    /// Networks of the submitter.
    #[serde(default)]
    pub client: Vec<Network>,
    /// Metadata of recipient, message or session, as `plugin/key`.
    #[serde(default)]
    pub meta: BTreeMap<String, Glob>,
    /// The message has more octets than this.
    #[serde(default)]
    pub larger_than: Option<Octets>,
    /// The message has fewer octets than this.
    #[serde(default)]
    pub smaller_than: Option<Octets>,

    /// Next hops, in order.
    #[serde(default)]
    pub to: Option<Hops>,
    /// Lane for scheduling and limits; a template.
    #[serde(default)]
    pub lane: Option<String>,
    /// Pool of source addresses; a template.
    #[serde(default)]
    pub source: Option<String>,
    /// What the way must offer.
    #[serde(default)]
    pub tls: Option<Tls>,
    /// No attempt until so long after the message was received.
    #[serde(default)]
    pub delay: Option<Span>,
    /// Keep until an operator releases it; the text is the reason.
    #[serde(default)]
    pub hold: Option<String>,
    /// Bounce.
    #[serde(default)]
    pub fail: Option<Failure>,
    /// Leave these recipients to the next plugin and the configured routes.
    #[serde(default)]
    pub proceed: bool,
}

/// A table of recipients.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Table {
    /// Its name in the configuration.
    pub name: String,
    /// What its keys are.
    pub by: By,
}

/// What the keys of a table are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum By {
    /// Domains, which stand for all below them too.
    Domain,
    /// Addresses, in lower case.
    Address,
}

/// A condition on a header field: any field of this name that matches is enough.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Field {
    /// Its name, in any case.
    pub name: String,
    /// The value contains this, in any case.
    #[serde(default)]
    pub contains: Option<String>,
    /// All of the value matches this.
    #[serde(default)]
    pub glob: Option<Glob>,
    /// There is no such field.
    #[serde(default)]
    pub absent: bool,
}

/// One next hop or a list of them.
#[derive(Debug, Clone)]
pub struct Hops {
    /// In order.
    pub list: Vec<HopEntry>,
    /// Written without a list.
    pub single: bool,
}

/// One next hop: exactly one of `mx`, `host` and `named`. All are templates.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct HopEntry {
    /// The mail exchangers of this domain.
    pub mx: Option<String>,
    /// This host, without MX lookup.
    pub host: Option<String>,
    /// Its port; 25, or 465 with `implicit-tls`.
    pub port: Option<u16>,
    /// TLS from the first octet.
    pub implicit_tls: bool,
    /// A next hop of the configuration.
    pub named: Option<String>,
}

/// What the way must offer, as in the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tls {
    /// What the relay's configuration says for the domain.
    Automatic,
    /// Clear text.
    Never,
    /// Encrypt when offered.
    Opportunistic,
    /// Encrypt or do not send.
    Encrypt,
    /// Encrypt to a host that proves its name.
    Verify,
}

impl From<Tls> for TlsPolicy {
    fn from(tls: Tls) -> TlsPolicy {
        match tls {
            Tls::Automatic => TlsPolicy::Automatic,
            Tls::Never => TlsPolicy::Never,
            Tls::Opportunistic => TlsPolicy::Opportunistic,
            Tls::Encrypt => TlsPolicy::Encrypt,
            Tls::Verify => TlsPolicy::Verify,
        }
    }
}

/// The reply of a bounce.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Failure {
    /// 5xx; 550 when absent.
    #[serde(default)]
    pub code: Option<u16>,
    /// Enhanced status, `5.1.2`.
    #[serde(default)]
    pub status: Option<String>,
    /// Its text.
    pub text: String,
}

impl<'de> Deserialize<'de> for Hops {
    /// By hand, because an untagged enum would lose the path of a wrong key.
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Hops, D::Error> {
        struct OneOrMany;
        impl<'de> Visitor<'de> for OneOrMany {
            type Value = Hops;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a next hop such as { host = \"relay.example\" }, or a list of them")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Hops, A::Error> {
                let hop = HopEntry::deserialize(MapAccessDeserializer::new(map))?;
                Ok(Hops { list: vec![hop], single: true })
            }

            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Hops, A::Error> {
                let list = Vec::deserialize(SeqAccessDeserializer::new(seq))?;
                Ok(Hops { list, single: false })
            }
        }
        reader.deserialize_any(OneOrMany)
    }
}
