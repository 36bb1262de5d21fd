//! Who may log in: names and what proves them.

mod file;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use crate::password::{self, Argon2Hash, PrepareError};
use crate::scram::{ScramHash, ScramVerifier};
use crate::senders::SenderPattern;

pub use file::{Mistake, UsersError, UsersFile};

/// Longest user name taken, in octets after preparation.
pub const MAX_NAME: usize = 255;

/// A user: what proves it, never a password itself, and what it may send as. It holds at least one
/// of the proofs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Account {
    /// For PLAIN and LOGIN.
    pub argon2id: Option<Argon2Hash>,
    /// For SCRAM-SHA-256, and for PLAIN and LOGIN where there is no hash.
    pub scram: Option<ScramVerifier>,
    /// For SCRAM-SHA-1 alone, where that is allowed.
    pub scram_sha_1: Option<ScramVerifier>,
    /// Addresses it may send as, besides its own name.
    pub send_as: Vec<SenderPattern>,
}

impl Account {
    /// True when nothing can prove the user.
    pub fn is_locked(&self) -> bool {
        self.argon2id.is_none() && self.scram.is_none() && self.scram_sha_1.is_none()
    }

    /// The verifier for SCRAM with this hash function.
    pub fn scram(&self, hash: ScramHash) -> Option<&ScramVerifier> {
        match hash {
            ScramHash::Sha1 => self.scram_sha_1.as_ref(),
            ScramHash::Sha256 => self.scram.as_ref(),
        }
    }
}

/// All users as they stand. Never changes: a changed file makes another one.
#[derive(Debug, Clone)]
pub struct Users {
    by_name: HashMap<String, Arc<Account>>,
    dummy: Arc<Account>,
}

impl Users {
    /// Reads the users file at `path`; fails with every mistake in it.
    pub fn load(path: &Path) -> Result<Users, UsersError> {
        let file = UsersFile::load(path)?;
        Ok(Users::new(file.users().map(|(name, held)| (name.to_owned(), held.clone()))))
    }

    /// These users. Names must be prepared, as [`prepare_name`] does.
    pub fn new(users: impl IntoIterator<Item = (String, Account)>) -> Users {
        let users = users.into_iter().map(|(name, held)| (name, Arc::new(held)));
        let by_name: HashMap<_, _> = users.collect();
        let dummy = Arc::new(dummy(&by_name));
        Users { by_name, dummy }
    }

    /// What proves the user of this prepared name.
    pub fn get(&self, name: &str) -> Option<&Arc<Account>> {
        self.by_name.get(name)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// True when nobody can log in.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// Account that nothing matches, to be checked where a user has none: finding out costs the
    /// same for a name that nobody has. It holds each kind of verifier that PLAIN may have to check.
    pub fn dummy(&self) -> &Arc<Account> {
        &self.dummy
    }

    /// Iterations of SCRAM verifiers here, for the ones made up for unknown names.
    pub fn scram_iterations(&self, hash: ScramHash) -> u32 {
        let verifiers = self.by_name.values().filter_map(|held| held.scram(hash));
        let most = verifiers.map(ScramVerifier::iterations).max();
        most.unwrap_or_else(ScramVerifier::usual_iterations)
    }

    /// True when there is a user of whom `is` holds.
    pub fn any(&self, is: impl Fn(&Account) -> bool) -> bool {
        self.by_name.values().any(|held| is(held))
    }
}

/// A user name in the form that is stored and compared: prepared, without white space.
pub fn prepare_name(name: &str) -> Result<String, PrepareError> {
    let name = password::prepare(name, MAX_NAME)?;
    if name.contains(char::is_whitespace) || name.starts_with('#') {
        return Err(PrepareError::Prohibited);
    }
    Ok(name)
}

fn dummy(users: &HashMap<String, Arc<Account>>) -> Account {
    let model = users.values().find_map(|held| held.argon2id.as_ref());
    let argon2id = model.and_then(Argon2Hash::dummy_like).or_else(Argon2Hash::dummy);
    let scram_alone = |held: &&Arc<Account>| held.argon2id.is_none() && held.scram.is_some();
    let scram = users.values().find(scram_alone).and_then(|held| held.scram.as_ref());
    let scram = scram.map(|like| ScramVerifier::fake(like.hash(), "", like.iterations(), b""));
    Account { argon2id, scram, ..Account::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHEAP: &str = "$argon2id$v=19$m=64,t=3,p=1$c29tZXNhbHQ$G2PBdzCs9GMGO6KJmCQY2Q";

    fn hashed() -> Account {
        Account { argon2id: Argon2Hash::parse(CHEAP).ok(), ..Account::default() }
    }

    fn scram() -> Account {
        let scram = Some(ScramVerifier::fake(ScramHash::Sha256, "", 5000, b""));
        Account { scram, ..Account::default() }
    }

    fn users(held: &[Account]) -> Users {
        Users::new(held.iter().enumerate().map(|(n, held)| (format!("u{n}"), held.clone())))
    }

    #[test]
    fn the_dummy_holds_what_others_hold() {
        let dummy = |held: &[Account]| users(held).dummy().clone();
        let text = dummy(&[hashed()]).argon2id.clone().unwrap();
        assert!(text.as_str().contains("m=64,t=3"));
        assert!(dummy(&[hashed()]).scram.is_none());
        let mixed = dummy(&[hashed(), scram()]);
        assert_eq!(mixed.scram.as_ref().map(ScramVerifier::iterations), Some(5000));
        assert_eq!(users(&[scram()]).scram_iterations(ScramHash::Sha256), 5000);
    }

    #[test]
    fn names_have_no_white_space() {
        assert_eq!(prepare_name("al\u{ad}ice").as_deref(), Ok("alice"));
        for bad in ["", "a b", "a\tb", "a\u{a0}b", "#a", "a\nb"] {
            assert!(prepare_name(bad).is_err(), "{bad:?}");
        }
    }
}
