//! Envelope senders of ours for what is forwarded: the Sender Rewriting Scheme.
//!
//! `SRS0=hash=time=domain=local@ours` stands for `local@domain`; `SRS1=hash=first==hash=time=domain=local@ours`
//! for an `SRS0` address at `first`, however often it was forwarded since. The hash is the start of an
//! HMAC in base 64; local parts may come back in another case, so it is compared in any.
//! Time is the day modulo 1024, in base 32.

use waypost_sdk::patterns::DomainPattern;
use waypost_sdk::prelude::*;

use crate::config;

const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
const DAY_MS: u64 = 24 * 3_600_000;
/// The time comes round after so many days.
const DAYS: u64 = 1024;
/// Characters of the hash that are written: 24 bits.
const HASH: usize = 4;
/// RFC 5321 §4.5.3.1.1.
const LONGEST: usize = 64;

/// Makes addresses, and reads those that come back.
#[derive(Debug)]
pub(crate) struct Srs {
    pub(crate) domain: String,
    secrets: Vec<String>,
    local: Vec<DomainPattern>,
    max_days: u64,
}

/// What an address of ours turned out to be.
#[derive(Debug, PartialEq)]
pub(crate) enum Returned {
    /// Not one of the scheme.
    NotOurs,
    /// It stands for this one.
    For(Mailbox),
    /// It was never made here, or too long ago.
    Bad(&'static str),
}

impl Srs {
    pub(crate) fn of(config: &config::Srs) -> Result<Srs, String> {
        let max_age = config.max_age.map_or(21 * DAY_MS, |age| age.ms());
        let max_days = max_age.div_ceil(DAY_MS);
        if !(1..=DAYS / 2).contains(&max_days) {
            return Err("srs.max-age: between a day and 512 days".to_owned());
        }
        if config.secret.is_empty() {
            return Err("srs.secret: the name of a secret in the configuration".to_owned());
        }
        let domain = config::domain("srs.domain", &config.domain)?;
        let secrets = std::iter::once(&config.secret).chain(&config.old_secrets).cloned().collect();
        Ok(Srs { domain, secrets, local: config.local.clone(), max_days })
    }

    /// The address to send a copy from, when the sender is a stranger's. `Err` in the answer says why
    /// there is none.
    pub(crate) fn forward(
        &self,
        sender: &Mailbox,
        now_ms: u64,
    ) -> Result<Option<Result<Mailbox, String>>, HostError> {
        let own = sender.domain == self.domain
            || self.local.iter().any(|pattern| pattern.matches(&sender.domain));
        if own {
            return Ok(None);
        }
        let local = match tagged(&sender.local) {
            Some((Tag::First, rest)) => {
                let opaque = format!("{}{rest}", separator(&sender.local));
                self.second(&sender.domain, &opaque)?
            }
            // Forwarded again: the first address of the chain stays, the hash becomes ours.
            Some((Tag::Second, rest)) => {
                match rest.split_once('=').and_then(|(_, r)| r.split_once('=')) {
                    Some((first, opaque)) => self.second(first, opaque)?,
                    None => self.first(sender, now_ms)?,
                }
            }
            None => self.first(sender, now_ms)?,
        };
        let address = Mailbox::new(local, self.domain.clone());
        Ok(Some(match (address.local.len(), address.to_string().starts_with('"')) {
            (..=LONGEST, false) => Ok(address),
            (..=LONGEST, true) => Err("its SRS address would need quotes".to_owned()),
            (long, _) => Err(format!("its SRS address would have {long} octets before the @")),
        }))
    }

    fn first(&self, sender: &Mailbox, now_ms: u64) -> Result<String, HostError> {
        let time = time(now_ms / DAY_MS);
        let hash = self.hash(&self.secrets[0], &[&time, &sender.domain, &sender.local])?;
        Ok(format!("SRS0={hash}={time}={}={}", sender.domain, sender.local))
    }

    fn second(&self, first: &str, opaque: &str) -> Result<String, HostError> {
        let hash = self.hash(&self.secrets[0], &[first, opaque])?;
        Ok(format!("SRS1={hash}={first}={opaque}"))
    }

    /// What an address that comes back stands for.
    pub(crate) fn reverse(&self, address: &Mailbox, now_ms: u64) -> Result<Returned, HostError> {
        if address.domain != self.domain {
            return Ok(Returned::NotOurs);
        }
        let broken = Returned::Bad("its parts are not those of an SRS address");
        match tagged(&address.local) {
            None => Ok(Returned::NotOurs),
            Some((Tag::First, rest)) => {
                let parts: Vec<&str> = rest.splitn(4, '=').collect();
                let [hash, time, domain, local] = parts[..] else { return Ok(broken) };
                if domain.is_empty() || local.is_empty() {
                    return Ok(broken);
                }
                if !self.knows(hash, &[time, domain, local])? {
                    return Ok(Returned::Bad("its hash was not made here"));
                }
                if !self.is_fresh(time, now_ms) {
                    return Ok(Returned::Bad("it is too old"));
                }
                Ok(Returned::For(Mailbox::new(local, domain)))
            }
            Some((Tag::Second, rest)) => {
                let parts: Vec<&str> = rest.splitn(3, '=').collect();
                let [hash, first, opaque] = parts[..] else { return Ok(broken) };
                if first.is_empty() || !opaque.starts_with(['=', '+', '-']) {
                    return Ok(broken);
                }
                if !self.knows(hash, &[first, opaque])? {
                    return Ok(Returned::Bad("its hash was not made here"));
                }
                Ok(Returned::For(Mailbox::new(format!("SRS0{opaque}"), first)))
            }
        }
    }

    fn knows(&self, hash: &str, parts: &[&str]) -> Result<bool, HostError> {
        for secret in &self.secrets {
            if self.hash(secret, parts)?.eq_ignore_ascii_case(hash) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn hash(&self, secret: &str, parts: &[&str]) -> Result<String, HostError> {
        let text = parts.concat().to_ascii_lowercase();
        let mac = secrets::hmac_sha256(secret, text.as_bytes())?;
        Ok(crate::encode::base64(&mac).chars().take(HASH).map(legal).collect())
    }

    fn is_fresh(&self, time: &str, now_ms: u64) -> bool {
        let digit = |c: u8| BASE32.iter().position(|d| *d == c.to_ascii_uppercase());
        let [high, low] = time.as_bytes() else { return false };
        let (Some(high), Some(low)) = (digit(*high), digit(*low)) else { return false };
        let made = (high * 32 + low) as u64;
        let age = (now_ms / DAY_MS % DAYS + DAYS - made) % DAYS;
        age <= self.max_days
    }
}

/// All of base 64 may stand in a local part (RFC 5322 §3.2.3), but a slash confuses too many programs.
fn legal(c: char) -> char {
    if c == '/' { '_' } else { c }
}

#[derive(Debug, PartialEq)]
enum Tag {
    First,
    Second,
}

/// What follows `SRS0=` or `SRS1=`, in any case and with any separator of the scheme.
fn tagged(local: &str) -> Option<(Tag, &str)> {
    let tag = match local.get(..4)?.to_ascii_uppercase().as_str() {
        "SRS0" => Tag::First,
        "SRS1" => Tag::Second,
        _ => return None,
    };
    Some((tag, local[4..].strip_prefix(['=', '+', '-'])?))
}

fn separator(local: &str) -> &str {
    local.get(4..5).unwrap_or("=")
}

fn time(day: u64) -> String {
    let day = (day % DAYS) as usize;
    [BASE32[day / 32], BASE32[day % 32]].map(char::from).iter().collect()
}

#[cfg(test)]
mod tests {
    use super::{DAY_MS, Returned, Srs, time};
    use crate::config;
    use waypost_sdk::testing::Host;
    use waypost_sdk::types::Mailbox;

    const NOW: u64 = 1_800_000_000_000;

    fn srs(domain: &str, secret: &str) -> Srs {
        let value = serde_json::json!({"domain": domain, "secret": secret, "local": ["own.example", "*.own.example"], "old-secrets": ["old"]});
        Srs::of(&serde_json::from_value::<config::Srs>(value).unwrap()).unwrap()
    }

    fn host() -> Host {
        Host::new()
            .secret("one", b"first key")
            .secret("two", b"second key")
            .secret("old", b"old key")
    }

    fn forward(srs: &Srs, sender: &str) -> Mailbox {
        let sender = Mailbox::parse(sender).unwrap();
        host().run(|| srs.forward(&sender, NOW)).unwrap().unwrap().unwrap()
    }

    fn reverse(srs: &Srs, address: &Mailbox, now: u64) -> Returned {
        host().run(|| srs.reverse(address, now)).unwrap()
    }

    #[test]
    fn there_and_back() {
        let srs = srs("fwd.example", "one");
        let address = forward(&srs, "Eve.X@sender.example");
        let text = address.to_string();
        assert!(
            text.starts_with("SRS0=") && text.ends_with("=sender.example=Eve.X@fwd.example"),
            "{text}"
        );
        let back = Returned::For(Mailbox::new("Eve.X", "sender.example"));
        assert_eq!(reverse(&srs, &address, NOW + 20 * DAY_MS), back);
        // Local parts may lose their case on the way: what comes back is the same but for that.
        let lower = Mailbox::new(address.local.to_lowercase(), "fwd.example");
        assert_eq!(
            reverse(&srs, &lower, NOW),
            Returned::For(Mailbox::new("eve.x", "sender.example"))
        );
    }

    #[test]
    fn old_forged_and_broken_addresses_are_refused() {
        let srs = srs("fwd.example", "one");
        let address = forward(&srs, "eve@sender.example");
        assert_eq!(reverse(&srs, &address, NOW + 23 * DAY_MS), Returned::Bad("it is too old"));
        let forged = Mailbox::new(address.local.replace("eve", "bob"), "fwd.example");
        assert_eq!(reverse(&srs, &forged, NOW), Returned::Bad("its hash was not made here"));
        for broken in ["SRS0=a", "SRS0=a=b=c", "SRS0=a=b==d", "SRS1=a=b", "SRS1=a==c", "SRS1=a=b=c"]
        {
            let answer = reverse(&srs, &Mailbox::new(broken, "fwd.example"), NOW);
            assert!(matches!(answer, Returned::Bad(_)), "{broken} {answer:?}");
        }
        assert_eq!(reverse(&srs, &Mailbox::new("srs0x", "fwd.example"), NOW), Returned::NotOurs);
        assert_eq!(
            reverse(&srs, &Mailbox::new("SRS0=a=b=c=d", "else.example"), NOW),
            Returned::NotOurs
        );
    }

    #[test]
    fn a_chain_of_forwarders_keeps_the_first_and_the_last() {
        let (b, c, d) = (srs("b.example", "one"), srs("c.example", "two"), srs("d.example", "one"));
        let at_b = forward(&b, "eve@a.example");
        let at_c = forward(&c, &at_b.to_string());
        assert!(
            at_c.local.starts_with("SRS1=") && at_c.local.contains("=b.example=="),
            "{}",
            at_c.local
        );
        let at_d = forward(&d, &at_c.to_string());
        assert_eq!(at_d.local.len(), at_c.local.len(), "the chain does not grow");
        let Returned::For(first) = reverse(&d, &at_d, NOW) else { panic!() };
        assert_eq!(first, at_b, "straight to the first forwarder");
        assert_eq!(reverse(&b, &first, NOW), Returned::For(Mailbox::new("eve", "a.example")));
        let plus = forward(&c, "SRS0+hhhh=TT=a.example=eve@b.example");
        let Returned::For(first) = reverse(&c, &plus, NOW) else { panic!() };
        assert_eq!(first.to_string(), "SRS0+hhhh=TT=a.example=eve@b.example");
    }

    #[test]
    fn secrets_can_be_changed() {
        let mut before = srs("fwd.example", "one");
        before.secrets = vec!["old".into()];
        let address = forward(&before, "eve@a.example");
        assert!(matches!(reverse(&srs("fwd.example", "one"), &address, NOW), Returned::For(_)));
    }

    #[test]
    fn our_own_senders_stay_and_what_is_too_long_is_told() {
        let srs = srs("fwd.example", "one");
        let stays = |sender: &str| {
            host().run(|| srs.forward(&Mailbox::parse(sender).unwrap(), NOW)).unwrap()
        };
        assert!(
            stays("x@own.example").is_none()
                && stays("x@a.own.example").is_none()
                && stays("x@fwd.example").is_none()
        );
        let long = format!("{}@a.example", "x".repeat(60));
        assert!(stays(&long).unwrap().is_err());
        assert!(
            stays("\"a b\"@a.example").unwrap().is_err()
                && stays("a@[192.0.2.1]").unwrap().is_err()
        );
        let denied = Host::new().run(|| srs.forward(&Mailbox::new("a", "b.example"), NOW));
        assert!(denied.is_err());
    }

    #[test]
    fn days_come_round() {
        assert_eq!(
            (time(0), time(33), time(1023), time(1024)),
            ("AA".into(), "BB".into(), "77".into(), "AA".into())
        );
    }
}
