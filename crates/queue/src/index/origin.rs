//! Where a message came from: the same for most messages of one submitter, and kept once for them.

use std::collections::HashMap;
use std::sync::Arc;

use waypost_mail::Entry;
use waypost_smtp::ReversePath;

use crate::classes::Tenancy;

/// Longest text kept of policy's metadata here, in octets.
const MAX_TOLD: usize = 256;

/// What the messages of one submitter share.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct Origin {
    pub(crate) listener: String,
    pub(crate) user: String,
    pub(crate) tenant: String,
    /// Divided by spaces.
    pub(crate) tags: String,
    /// The queue class that policy named.
    pub(crate) class: String,
}

/// Where this message came from.
pub(crate) fn of(entry: &Entry, tenancy: Tenancy) -> Origin {
    let tags = told(entry, "tag").unwrap_or_default();
    let tags: Vec<&str> = tags
        .split(|c: char| c == ',' || c.is_ascii_whitespace())
        .filter(|t| !t.is_empty())
        .collect();
    Origin {
        listener: entry.facts.listener.clone(),
        user: entry.facts.identity.clone().unwrap_or_default(),
        tenant: tenant(entry, tenancy),
        tags: tags.join(" "),
        class: told(entry, "class").unwrap_or_default().to_owned(),
    }
}

/// On whose account a message goes: whom policy named, else by the rule.
fn tenant(entry: &Entry, tenancy: Tenancy) -> String {
    if let Some(tenant) = told(entry, "tenant") {
        return tenant.to_owned();
    }
    let user = entry.facts.identity.as_deref();
    let domain = |address: &str| address.rsplit_once('@').map(|(_, domain)| domain.to_owned());
    let named = match tenancy {
        Tenancy::Listener => None,
        Tenancy::User => user.map(str::to_owned),
        Tenancy::UserDomain => user.map(|user| domain(user).unwrap_or_else(|| user.to_owned())),
        Tenancy::SenderDomain => match &entry.sender {
            ReversePath::Null => None,
            ReversePath::Mailbox(mailbox) => Some(mailbox.domain().to_string()),
        },
    };
    named.unwrap_or_else(|| entry.facts.listener.clone())
}

/// What policy said under this key, of the message or else of its session. Keys have the name of
/// their plugin in front.
fn told<'e>(entry: &'e Entry, key: &str) -> Option<&'e str> {
    let named = |name: &str| name.rsplit('/').next() == Some(key);
    let find = |attrs: &'e [waypost_mail::Attr]| {
        attrs.iter().rev().find(|attr| named(&attr.name)).map(|attr| attr.value.as_str())
    };
    let value = find(&entry.meta).or_else(|| find(&entry.facts.meta))?.trim();
    Some(&value[..value.floor_char_boundary(MAX_TOLD)])
}

/// Origins, each once and as long as a message has it.
#[derive(Debug, Default)]
pub(super) struct Origins {
    numbers: HashMap<Arc<Origin>, u32>,
    origins: Vec<(Arc<Origin>, u32)>,
    vacant: Vec<u32>,
}

impl Origins {
    pub(super) fn keep(&mut self, origin: Origin) -> u32 {
        if let Some(number) = self.numbers.get(&origin) {
            self.origins[*number as usize].1 += 1;
            return *number;
        }
        let origin = Arc::new(origin);
        let number = match self.vacant.pop() {
            Some(number) => {
                self.origins[number as usize] = (origin.clone(), 1);
                number
            }
            None => {
                self.origins.push((origin.clone(), 1));
                (self.origins.len() - 1) as u32
            }
        };
        self.numbers.insert(origin, number);
        number
    }

    pub(super) fn release(&mut self, number: u32) {
        let Some((origin, references)) = self.origins.get_mut(number as usize) else { return };
        *references = references.saturating_sub(1);
        if *references == 0 {
            let gone = std::mem::take(origin);
            self.numbers.remove(&gone);
            self.vacant.push(number);
        }
    }

    pub(super) fn get(&self, number: u32) -> &Origin {
        &self.origins[number as usize].0
    }
}
