//! Aliases, masquerading, fields, footers, VERP and SRS.
//!
//! * At RCPT: what comes back to an SRS or VERP address is sent where it belongs, and aliases are
//!   resolved.
//! * At the end of data: senders get other domains, fields are added, set and removed, a footer is put
//!   under the text.
//! * Before a copy leaves: it gets an envelope sender by VERP or SRS; the stored message stays.
//!
//! See README.md for what can be configured.

mod aliases;
mod config;
mod encode;
mod fields;
mod footer;
mod masquerade;
mod srs;
mod verp;
mod when;

use waypost_sdk::prelude::*;

use aliases::Aliases;
pub use config::Config;
use fields::Field;
use footer::Footer;
use masquerade::Masquerade;
use srs::{Returned, Srs};
use verp::Verp;

/// The plugin.
#[derive(Debug)]
pub struct Rewriter {
    aliases: Aliases,
    masquerade: Masquerade,
    fields: Vec<Field>,
    footers: Vec<Footer>,
    verp: Option<Verp>,
    srs: Option<Srs>,
}

impl Plugin for Rewriter {
    type Config = Config;

    fn new(config: Config) -> Result<Rewriter, String> {
        let at = |list: &str, index: usize, (key, wrong): (&str, String)| match key {
            "" => format!("{list}[{index}]: {wrong}"),
            key => format!("{list}[{index}].{key}: {wrong}"),
        };
        let fields = config.fields.iter().enumerate();
        let fields = fields.map(|(i, field)| Field::of(field).map_err(|w| at("fields", i, w)));
        let footers = config.footers.iter().enumerate();
        let footers =
            footers.map(|(i, footer)| Footer::of(footer).map_err(|w| at("footers", i, w)));
        Ok(Rewriter {
            aliases: Aliases::of(&config.aliases)?,
            masquerade: Masquerade::of(&config.masquerade)?,
            fields: fields.collect::<Result<_, _>>()?,
            footers: footers.collect::<Result<_, _>>()?,
            verp: config.verp.as_ref().map(Verp::of).transpose()?,
            srs: config.srs.as_ref().map(Srs::of).transpose()?,
        })
    }

    fn interest(&self) -> Interest {
        let mut names: Vec<String> = self.masquerade.headers.clone();
        names.extend(self.fields.iter().map(Field::interest));
        if names.iter().any(|name| name.contains(['*', '?'])) {
            names = vec!["*".to_owned()];
        }
        names.iter_mut().for_each(|name| name.make_ascii_lowercase());
        names.sort_unstable();
        names.dedup();
        Interest::default().headers(names)
    }
}

impl OnRecipients for Rewriter {
    fn on_recipient(&self, asked: &Asked<'_>, recipient: &Recipient) -> Decision<RecipientAnswer> {
        let address = &recipient.address;
        let (mut target, mut answer) = (address.clone(), RecipientAnswer::proceed());
        if let Some(srs) = &self.srs {
            match srs.reverse(address, asked.call.now_ms)? {
                Returned::NotOurs => {}
                Returned::Bad(why) => return Ok(bad_return(why)),
                Returned::For(sender) => {
                    answer = answer.because("srs", format!("stands for {sender}"));
                    target = sender;
                }
            }
        }
        if let Some(verp) = &self.verp
            && let Some(bounced) = verp.recipient(address)
        {
            answer = answer
                .meta("bounced", bounced.to_string())
                .because("verp", format!("what {bounced} sends back"));
            target = verp.bounce.clone();
        }
        let mut stands_for = vec![target.clone()];
        if !self.aliases.is_empty() {
            stands_for = self.aliases.resolve(&target)?;
            if stands_for != [target] {
                let text = format!("stands for {}", in_words(&stands_for));
                answer = answer.because("alias", text);
            }
        }
        match stands_for.as_slice() {
            [only] if only.same(address) => Ok(answer),
            _ => Ok(answer.meta("original", address.to_string()).replace_with(stands_for)),
        }
    }
}

impl OnMessage for Rewriter {
    fn on_message(&self, asked: &Asked<'_>, info: &MessageInfo) -> Decision<MessageOutcome> {
        let mut outcome = self.masquerade.apply(asked, &info.headers, MessageOutcome::proceed());
        for field in &self.fields {
            outcome = field.apply(asked, &info.headers, outcome);
        }
        if let Some(footer) = self.footers.iter().find(|footer| footer.concerns(asked)) {
            outcome = footer.apply(outcome);
        }
        Ok(outcome)
    }
}

impl OnPrepare for Rewriter {
    fn on_prepare(&self, call: &CallInfo, delivery: &Delivery) -> Decision<PrepareOutcome> {
        let outcome = PrepareOutcome::as_it_is();
        // A notice has no sender, and nobody to send one back to.
        let Some(sender) = &delivery.message.sender else { return Ok(outcome) };
        if let (Some(verp), [only]) = (&self.verp, delivery.message.recipients.as_slice())
            && let Some(address) = verp.sender(sender, &only.address)
        {
            return Ok(from(outcome, "verp", address));
        }
        if let Some(srs) = &self.srs
            && let Some(address) = srs.forward(sender, call.now_ms)?
        {
            return Ok(from(outcome, "srs", address));
        }
        Ok(outcome)
    }
}

impl SelfTest for Rewriter {
    fn self_test(&self) -> Vec<String> {
        let tables = self.aliases.tables.iter();
        let denied = |table: &String| {
            let denied = tables::get(table, "self-test@invalid").err()?;
            Some(format!("table `{table}`: {}", denied.in_words()))
        };
        let mut complaints: Vec<String> = tables.filter_map(denied).collect();
        if let Some(srs) = &self.srs
            && let Err(why) = srs.forward(&Mailbox::new("self-test", "a.invalid"), 0)
        {
            complaints.push(format!("srs: the secret: {}", why.in_words()));
        }
        complaints
    }
}

/// The copy's envelope sender, or why it stays.
fn from(outcome: PrepareOutcome, code: &str, address: Result<Mailbox, String>) -> PrepareOutcome {
    match address {
        Ok(address) => {
            let why = format!("sent from {address}");
            outcome.sender(SenderChange::To(address)).because(code, why)
        }
        Err(why) => outcome.because("left-alone", why),
    }
}

fn bad_return(why: &str) -> RecipientAnswer {
    let text = format!("This return address cannot be used: {why}");
    RecipientAnswer::refuse(reject(text).status(1, 1)).because("srs-refused", why)
}

fn in_words(addresses: &[Mailbox]) -> String {
    match addresses {
        [only] => only.to_string(),
        [first, rest @ ..] => format!("{first} and {} more", rest.len()),
        [] => "nobody".to_owned(),
    }
}

waypost_sdk::export!(Rewriter: self_test, recipients, message, prepare);

#[cfg(test)]
mod tests;
