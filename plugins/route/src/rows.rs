//! Tables of recipients, asked about all of them at once: a call may ask the host a thousand times, and
//! a message may have more recipients than that.

use std::collections::HashMap;

use waypost_sdk::prelude::*;

use crate::config::{By, Rule, Table};

/// What tables say about the recipients of a message.
pub(crate) struct Rows<'a> {
    recipients: &'a [Recipient],
    known: HashMap<(String, By), HashMap<String, String>>,
}

impl<'a> Rows<'a> {
    pub(crate) fn of(recipients: &'a [Recipient]) -> Rows<'a> {
        Rows { recipients, known: HashMap::new() }
    }

    /// Absent when the rule has a table that does not know the recipient; otherwise the row, if the
    /// rule has a table.
    pub(crate) fn matching(
        &mut self,
        rule: &Rule,
        recipient: &Recipient,
    ) -> Result<Option<Option<String>>, HostError> {
        let Some(table) = &rule.recipient_table else { return Ok(Some(None)) };
        let place = (table.name.clone(), table.by);
        let rows = match self.known.get(&place) {
            Some(rows) => rows,
            None => {
                let rows = fetch(table, self.recipients)?;
                self.known.entry(place).or_insert(rows)
            }
        };
        let row = keys(table.by, &recipient.address).into_iter().find_map(|key| rows.get(&key));
        Ok(row.map(|row| Some(row.clone())))
    }
}

fn fetch(table: &Table, recipients: &[Recipient]) -> Result<HashMap<String, String>, HostError> {
    let mut wanted: Vec<String> =
        recipients.iter().flat_map(|recipient| keys(table.by, &recipient.address)).collect();
    wanted.sort_unstable();
    wanted.dedup();
    let found = tables::get_many(&table.name, &wanted)?;
    let present = wanted.into_iter().zip(found);
    Ok(present.filter_map(|(key, value)| Some((key, value?))).collect())
}

/// The keys that stand for an address, the best first.
fn keys(by: By, address: &Mailbox) -> Vec<String> {
    match by {
        By::Address => vec![format!("{}@{}", address.local, address.domain).to_ascii_lowercase()],
        By::Domain => {
            let domain = Some(address.domain.as_str());
            std::iter::successors(domain, |domain| domain.split_once('.').map(|(_, parent)| parent))
                .map(str::to_owned)
                .collect()
        }
    }
}
