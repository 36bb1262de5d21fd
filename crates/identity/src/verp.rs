//! Senders of single copies: addresses that say for which message and recipient a bounce is, and that
//! nobody else can make.
//!
//! The address has the message's id, the day, and the recipient (VERP), or a hash of it where it
//! does not fit, under a keyed hash over all of it: a stranger cannot make one up, and so cannot feed a
//! suppression list. It says nothing that its recipient does not know.

use aws_lc_rs::{constant_time, hmac};
use waypost_mail::{MessageId, Timestamp};
use waypost_smtp::{Domain, Mailbox, ReversePath};

/// Longest local part (RFC 5321 §4.5.3.1.1).
const MAX_LOCAL: usize = 64;
/// Characters of a day, of the keyed hash and of a recipient's hash: 15, 60 and 40 bits.
const DAY: usize = 3;
const SEAL: usize = 12;
const HASH: usize = 8;
/// Characters of an id.
const ID: usize = 13;
const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const DAY_MILLISECONDS: u64 = 86_400_000;

/// Makes such addresses, and knows them again.
#[derive(Clone)]
pub struct Verp {
    key: hmac::Key,
    domain: Domain,
    /// Days for which an address is good.
    days: u64,
}

impl std::fmt::Debug for Verp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Verp").field("domain", &self.domain).finish_non_exhaustive()
    }
}

/// What such an address says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The message.
    pub message: MessageId,
    /// The recipient.
    pub recipient: Named,
}

/// A recipient as an address of a bounce has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Named {
    /// In full, in lower case.
    Address(Mailbox),
    /// By a hash, which [`Verp::is`] compares.
    Hash(String),
}

/// Why an address in the domain is none of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotOurs {
    /// It was never made here, or was changed on its way.
    #[error("no message of ours was sent from this address")]
    Forged,
    /// It is too old.
    #[error("the message it was made for is too old")]
    Old,
}

impl Verp {
    /// Addresses in `domain`, under this secret, good for so many days.
    pub fn new(secret: &[u8], domain: Domain, days: u64) -> Verp {
        Verp { key: hmac::Key::new(hmac::HMAC_SHA256, secret), domain, days }
    }

    /// The domain.
    pub fn domain(&self) -> &Domain {
        &self.domain
    }

    /// The sender of the copy for this recipient.
    pub fn sender(&self, message: MessageId, recipient: &Mailbox, now: Timestamp) -> ReversePath {
        let day = digits(now.0 / DAY_MILLISECONDS, DAY);
        let inside = plain(recipient);
        let inside = inside.filter(|i| 1 + DAY + SEAL + ID + 1 + i.len() <= MAX_LOCAL);
        let (kind, inside) = match inside {
            Some(plain) => ('b', plain),
            None => ('h', self.hash(recipient)),
        };
        let seal = self.seal(&format!("{kind}{day}{message}-{inside}"));
        let address = format!("{kind}{day}{seal}{message}-{inside}@{}", self.domain);
        // Made of letters, digits and what a local part may have; the domain is one.
        Mailbox::parse(&address).map_or(ReversePath::Null, ReversePath::Mailbox)
    }

    /// What an address says that a bounce came to.
    ///
    /// # Errors
    /// When it was not made here, or is too old.
    pub fn read(&self, address: &Mailbox, now: Timestamp) -> Result<Origin, NotOurs> {
        if *address.domain() != self.domain {
            return Err(NotOurs::Forged);
        }
        // Some servers do not keep the case of a local part.
        let local = address.local().to_ascii_lowercase();
        let mut rest = local.as_str();
        let mut take = |count: usize| {
            let (front, back) = rest.split_at_checked(count).ok_or(NotOurs::Forged)?;
            rest = back;
            Ok(front)
        };
        let (kind, day, seal, id, dash) = (take(1)?, take(DAY)?, take(SEAL)?, take(ID)?, take(1)?);
        let expected = self.seal(&format!("{kind}{day}{id}{dash}{rest}"));
        constant_time::verify_slices_are_equal(expected.as_bytes(), seal.as_bytes())
            .map_err(|_| NotOurs::Forged)?;
        let today = now.0 / DAY_MILLISECONDS;
        // Days go round after 32768 of them.
        let age = today.wrapping_sub(number(day).ok_or(NotOurs::Forged)?) % (1 << (5 * DAY));
        if age > self.days {
            return Err(NotOurs::Old);
        }
        let message = id.parse().map_err(|_| NotOurs::Forged)?;
        let recipient = match kind {
            "h" => Named::Hash(rest.to_owned()),
            _ => {
                let (local, domain) = rest.rsplit_once('=').ok_or(NotOurs::Forged)?;
                let address = Mailbox::parse(&format!("{local}@{domain}"));
                Named::Address(address.map_err(|_| NotOurs::Forged)?)
            }
        };
        Ok(Origin { message, recipient })
    }

    /// True when this recipient is meant.
    pub fn is(&self, named: &Named, recipient: &Mailbox) -> bool {
        match named {
            Named::Address(address) => {
                address.to_string().eq_ignore_ascii_case(&recipient.to_string())
            }
            Named::Hash(hash) => *hash == self.hash(recipient),
        }
    }

    /// What proves in a field of a copy that its message came from this sender.
    pub fn vouch(&self, message: MessageId, sender: &Mailbox) -> String {
        let seal = self.seal(&format!("sender {message} {sender}"));
        format!("{seal} {sender}")
    }

    /// The sender for whom such a field vouches.
    pub fn vouched(&self, message: MessageId, field: &str) -> Option<Mailbox> {
        let (_, sender) = field.split_once(' ')?;
        let sender = Mailbox::parse(sender.trim()).ok()?;
        let expected = self.vouch(message, &sender);
        let same = constant_time::verify_slices_are_equal(expected.as_bytes(), field.as_bytes());
        same.ok().map(|()| sender)
    }

    fn seal(&self, text: &str) -> String {
        self.keyed(&format!("{text}@{}", self.domain), SEAL)
    }

    fn hash(&self, recipient: &Mailbox) -> String {
        self.keyed(&format!("recipient {}", recipient.to_string().to_lowercase()), HASH)
    }

    fn keyed(&self, text: &str, length: usize) -> String {
        let tag = hmac::sign(&self.key, text.as_bytes());
        let start = tag.as_ref().first_chunk().copied().unwrap_or([0; 8]);
        digits(u64::from_be_bytes(start), length)
    }
}

/// The recipient as it can stand in a local part, if it can.
fn plain(recipient: &Mailbox) -> Option<String> {
    let text = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~.".contains(&b);
    let (local, domain) = (recipient.local(), recipient.domain().to_string());
    let legal = local.bytes().all(text) && domain.bytes().all(|b| text(b) && b != b'=');
    legal.then(|| format!("{local}={domain}").to_ascii_lowercase())
}

/// The lowest bits of a number, five in each character.
fn digits(number: u64, length: usize) -> String {
    let digit = |place: usize| DIGITS[(number >> (5 * place)) as usize % 32] as char;
    (0..length).rev().map(digit).collect()
}

fn number(digits: &str) -> Option<u64> {
    digits.bytes().try_fold(0, |number, digit| {
        let value = DIGITS.iter().position(|known| *known == digit)?;
        Some(number << 5 | value as u64)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_795_000_000_000);

    fn verp() -> Verp {
        Verp::new(b"a secret", Domain::parse("bounces.example.org").unwrap(), 30)
    }

    fn mailbox(text: &str) -> Mailbox {
        text.parse().unwrap()
    }

    fn address(recipient: &str) -> Mailbox {
        let path = verp().sender(MessageId(42), &mailbox(recipient), NOW);
        path.mailbox().unwrap().clone()
    }

    #[test]
    fn an_address_tells_message_and_recipient() {
        for recipient in ["bob@example.net", "Bob+x=y@mail.example.net"] {
            let address = address(recipient);
            assert!(address.local().len() <= MAX_LOCAL);
            let origin = verp().read(&address, NOW).unwrap();
            assert_eq!(origin.message, MessageId(42));
            assert!(matches!(origin.recipient, Named::Address(_)));
            assert!(verp().is(&origin.recipient, &mailbox(recipient)));
            assert!(!verp().is(&origin.recipient, &mailbox("eve@example.net")));
        }
        let far = "somebody.with.a.very.long.name.indeed@a.domain.example.net";
        for recipient in [far, "\"odd one\"@example.net", "bob@[192.0.2.1]", "bücher@example.net"]
        {
            let address = address(recipient);
            assert!(address.local().len() <= MAX_LOCAL && address.is_ascii());
            let origin = verp().read(&address, NOW).unwrap();
            assert!(matches!(origin.recipient, Named::Hash(_)), "{recipient}");
            assert!(verp().is(&origin.recipient, &mailbox(recipient)));
            assert!(!verp().is(&origin.recipient, &mailbox("eve@example.net")));
        }
    }

    #[test]
    fn case_may_change_on_the_way_and_nothing_else() {
        let address = address("bob@example.net");
        let (local, domain) = (address.local().to_owned(), address.domain().to_string());
        let other = |local: &str| verp().read(&mailbox(&format!("{local}@{domain}")), NOW);
        assert!(other(&local.to_uppercase()).is_ok());
        for at in 0..local.len() {
            let mut changed = local.clone().into_bytes();
            changed[at] = if changed[at] == b'q' { b'r' } else { b'q' };
            let changed = String::from_utf8(changed).unwrap();
            assert_eq!(other(&changed), Err(NotOurs::Forged), "{changed}");
        }
        for short in ["b", "b123", "x", "postmaster"] {
            assert_eq!(other(short), Err(NotOurs::Forged));
        }
        let secret = Verp::new(b"other", Domain::parse(&domain).unwrap(), 30);
        assert_eq!(secret.read(&address, NOW), Err(NotOurs::Forged));
        let elsewhere = mailbox(&format!("{local}@elsewhere.example"));
        assert_eq!(verp().read(&elsewhere, NOW), Err(NotOurs::Forged));
    }

    #[test]
    fn addresses_grow_old() {
        let address = address("bob@example.net");
        let after = |days: u64| NOW.after(std::time::Duration::from_secs(days * 86_400));
        assert!(verp().read(&address, after(30)).is_ok());
        assert_eq!(verp().read(&address, after(31)), Err(NotOurs::Old));
    }

    #[test]
    fn a_field_vouches_for_the_sender() {
        let alice = mailbox("alice@news.example");
        let field = verp().vouch(MessageId(42), &alice);
        assert_eq!(verp().vouched(MessageId(42), &field), Some(alice));
        assert_eq!(verp().vouched(MessageId(43), &field), None);
        assert_eq!(verp().vouched(MessageId(42), &field.replace("alice", "eve")), None);
        assert_eq!(verp().vouched(MessageId(42), "nonsense"), None);
    }
}
