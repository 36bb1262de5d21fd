//! An envelope sender for each recipient, so that a bounce tells who bounced whatever its text says.

use waypost_sdk::patterns::AddressPattern;
use waypost_sdk::prelude::*;

use crate::config;

/// RFC 5321 §4.5.3.1.1.
const LONGEST: usize = 64;

/// Makes addresses, and reads those that come back.
#[derive(Debug)]
pub(crate) struct Verp {
    senders: Vec<AddressPattern>,
    pub(crate) bounce: Mailbox,
    delimiter: char,
}

impl Verp {
    pub(crate) fn of(config: &config::Verp) -> Result<Verp, String> {
        let bounce = config::address("verp.bounce", &config.bounce)?;
        let delimiter = config.delimiter.unwrap_or('+');
        if !matches!(delimiter, '+' | '-' | '.' | '_') {
            return Err("verp.delimiter: one of + - . _".to_owned());
        }
        if config.sender.is_empty() {
            return Err("verp.sender: say for which senders".to_owned());
        }
        Ok(Verp { senders: config.sender.clone(), bounce, delimiter })
    }

    /// The sender of a copy to one recipient. `Err` says why there is none.
    pub(crate) fn sender(&self, sender: &Mailbox, to: &Mailbox) -> Option<Result<Mailbox, String>> {
        if !self.senders.iter().any(|pattern| pattern.matches(sender)) {
            return None;
        }
        let local = format!("{}{}{}={}", self.bounce.local, self.delimiter, to.local, to.domain);
        let address = Mailbox::new(local, self.bounce.domain.clone());
        Some(match (address.local.len() <= LONGEST, address.to_string().starts_with('"')) {
            (true, false) => Ok(address),
            (false, _) => Err(format!(
                "its VERP address would have {} octets before the @",
                address.local.len()
            )),
            (true, true) => Err("its VERP address would need quotes".to_owned()),
        })
    }

    /// The recipient that an address which comes back was made for.
    pub(crate) fn recipient(&self, address: &Mailbox) -> Option<Mailbox> {
        if address.domain != self.bounce.domain {
            return None;
        }
        let base = address.local.get(..self.bounce.local.len())?;
        if !base.eq_ignore_ascii_case(&self.bounce.local) {
            return None;
        }
        let coded = address.local[base.len()..].strip_prefix(self.delimiter)?;
        // The domain has no `=`, the local part may.
        let (local, domain) = coded.rsplit_once('=')?;
        Mailbox::parse(&format!("{local}@{domain}")).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::Verp;
    use crate::config;
    use waypost_sdk::types::Mailbox;

    fn verp() -> Verp {
        let value = serde_json::json!({"sender": ["news@a.example"], "bounce": "bounce@b.example"});
        Verp::of(&serde_json::from_value::<config::Verp>(value).unwrap()).unwrap()
    }

    #[test]
    fn there_and_back() {
        let news = Mailbox::new("news", "a.example");
        for to in ["eve@x.example", "eve+tag=1@x.example", "a=b@y.example"] {
            let to = Mailbox::parse(to).unwrap();
            let address = verp().sender(&news, &to).unwrap().unwrap();
            assert_eq!(verp().recipient(&address), Some(to), "{address}");
        }
        let eve = verp().sender(&news, &Mailbox::new("eve", "x.example")).unwrap().unwrap();
        assert_eq!(eve.to_string(), "bounce+eve=x.example@b.example");
    }

    #[test]
    fn others_are_left_alone() {
        let to = Mailbox::new("eve", "x.example");
        assert!(verp().sender(&Mailbox::new("bob", "a.example"), &to).is_none());
        let news = Mailbox::new("news", "a.example");
        assert!(verp().sender(&news, &Mailbox::new("x".repeat(50), "x.example")).unwrap().is_err());
        assert!(verp().sender(&news, &Mailbox::new("a b", "x.example")).unwrap().is_err());
        for no in [
            "bounce@b.example",
            "bounce+eve@b.example",
            "bounce+=x@b.example",
            "bouncer+a=b@b.example",
            "bounce+a=b@c.example",
        ] {
            assert_eq!(verp().recipient(&Mailbox::parse(no).unwrap()), None, "{no}");
        }
    }
}
