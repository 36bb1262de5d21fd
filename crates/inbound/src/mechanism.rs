//! SASL mechanisms, and which of them can be used where.

use crate::Settings;
use crate::scram::ScramHash;
use crate::tls::Secured;
use crate::token::BearerKind;

/// A way to log in that we know (RFC 4422).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mechanism {
    /// By proof of a password that never crosses the wire; with `plus` it is bound to the channel.
    Scram { hash: ScramHash, plus: bool },
    /// By the certificate that the channel was made with (RFC 4422 App. A).
    External,
    /// By a token that somebody else vouches for.
    Bearer(BearerKind),
    /// By password, in one line.
    Plain,
    /// By password, in two.
    Login,
}

impl Mechanism {
    /// All of them, best first.
    const ALL: [Mechanism; 9] = [
        Mechanism::Scram { hash: ScramHash::Sha256, plus: true },
        Mechanism::Scram { hash: ScramHash::Sha1, plus: true },
        Mechanism::Scram { hash: ScramHash::Sha256, plus: false },
        Mechanism::Scram { hash: ScramHash::Sha1, plus: false },
        Mechanism::External,
        Mechanism::Bearer(BearerKind::Standard),
        Mechanism::Bearer(BearerKind::Older),
        Mechanism::Plain,
        Mechanism::Login,
    ];

    /// The mechanism of this name, in upper case.
    pub(crate) fn named(name: &str) -> Option<Mechanism> {
        Mechanism::ALL.into_iter().find(|mechanism| mechanism.name() == name)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Mechanism::Scram { hash, plus: true } => hash.mechanism_plus(),
            Mechanism::Scram { hash, plus: false } => hash.mechanism(),
            Mechanism::External => "EXTERNAL",
            Mechanism::Bearer(BearerKind::Standard) => "OAUTHBEARER",
            Mechanism::Bearer(BearerKind::Older) => "XOAUTH2",
            Mechanism::Plain => "PLAIN",
            Mechanism::Login => "LOGIN",
        }
    }

    /// Those with which somebody could log in on this channel, best first.
    pub(crate) fn offered(settings: &Settings, channel: &Secured) -> Vec<Mechanism> {
        let all = Mechanism::ALL.into_iter();
        all.filter(|mechanism| mechanism.is_usable(settings, channel)).collect()
    }

    /// PLAIN and LOGIN are there only when somebody holds a hash, or policy is asked about passwords:
    /// a file of SCRAM verifiers alone asks for no password in clear text.
    fn is_usable(self, settings: &Settings, channel: &Secured) -> bool {
        match self {
            Mechanism::Scram { hash, plus } => {
                (!plus || channel.binding.is_some())
                    && (hash == ScramHash::Sha256 || settings.auth.scram_sha_1)
                    && settings.users.any(|held| held.scram(hash).is_some())
            }
            Mechanism::External => {
                let shown = channel.facts.certificate.as_deref();
                shown.is_some_and(|shown| settings.auth.certificates.user_of(shown).is_some())
            }
            Mechanism::Bearer(_) => settings.auth.tokens.is_some(),
            Mechanism::Plain | Mechanism::Login => {
                settings.auth.policy || settings.users.any(|held| held.argon2id.is_some())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::slice::from_ref;

    use super::*;
    use crate::password::Argon2Hash;
    use crate::scram::{ChannelBinding, ScramVerifier};
    use crate::{Account, Users};

    fn offered(held: &[Account], change: impl FnOnce(&mut Settings, &mut Secured)) -> String {
        let mut settings = Settings::new("mx.example.org");
        let users = held.iter().enumerate().map(|(n, held)| (format!("u{n}"), held.clone()));
        settings.users = Users::new(users);
        let mut channel = Secured::default();
        change(&mut settings, &mut channel);
        let names = Mechanism::offered(&settings, &channel).into_iter().map(Mechanism::name);
        names.collect::<Vec<_>>().join(" ")
    }

    fn hashed() -> Account {
        Account { argon2id: Argon2Hash::dummy(), ..Account::default() }
    }

    fn scram(hash: ScramHash) -> Account {
        let verifier = Some(ScramVerifier::fake(hash, "", 5000, b""));
        match hash {
            ScramHash::Sha256 => Account { scram: verifier, ..Account::default() },
            ScramHash::Sha1 => Account { scram_sha_1: verifier, ..Account::default() },
        }
    }

    #[test]
    fn mechanisms_follow_what_users_hold_and_what_the_channel_allows() {
        let (sha1, sha256) = (scram(ScramHash::Sha1), scram(ScramHash::Sha256));
        assert_eq!(offered(&[], |_, _| {}), "");
        assert_eq!(offered(&[hashed()], |_, _| {}), "PLAIN LOGIN");
        assert_eq!(offered(from_ref(&sha256), |_, _| {}), "SCRAM-SHA-256");
        assert_eq!(offered(&[sha256.clone(), hashed()], |_, _| {}), "SCRAM-SHA-256 PLAIN LOGIN");
        let bound = |_: &mut Settings, channel: &mut Secured| {
            channel.binding = Some(ChannelBinding([0; 32]));
        };
        assert_eq!(offered(from_ref(&sha256), bound), "SCRAM-SHA-256-PLUS SCRAM-SHA-256");
        assert_eq!(offered(from_ref(&sha1), bound), "", "old clients are not let in by default");
        let old = |settings: &mut Settings, channel: &mut Secured| {
            settings.auth.scram_sha_1 = true;
            bound(settings, channel);
        };
        assert_eq!(
            offered(&[sha1, sha256], old),
            "SCRAM-SHA-256-PLUS SCRAM-SHA-1-PLUS SCRAM-SHA-256 SCRAM-SHA-1"
        );
    }

    #[test]
    fn every_mechanism_is_found_by_its_name() {
        for mechanism in Mechanism::ALL {
            assert_eq!(Mechanism::named(mechanism.name()), Some(mechanism));
        }
        assert_eq!(Mechanism::named("CRAM-MD5"), None);
    }
}
