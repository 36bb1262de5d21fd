//! Who may log in: names and what proves them.

mod file;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use crate::password::{self, Argon2Hash, PrepareError};
use crate::scram::ScramVerifier;

pub use file::{Mistake, UsersError, UsersFile};

/// Longest user name taken, in octets after preparation.
pub const MAX_NAME: usize = 255;

/// What proves a user: never a password itself. A user holds at least one of the two.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Verifiers {
    /// For PLAIN and LOGIN.
    pub argon2id: Option<Argon2Hash>,
    /// For SCRAM-SHA-256, and for PLAIN and LOGIN where there is no hash.
    pub scram: Option<ScramVerifier>,
}

/// All users as they stand. Never changes: a changed file makes another one.
#[derive(Debug, Clone)]
pub struct Users {
    by_name: HashMap<String, Arc<Verifiers>>,
    dummy: Arc<Verifiers>,
    scram_iterations: u32,
}

impl Users {
    /// Reads the users file at `path`; fails with every mistake in it.
    pub fn load(path: &Path) -> Result<Users, UsersError> {
        let file = UsersFile::load(path)?;
        Ok(Users::new(file.users().map(|(name, held)| (name.to_owned(), held.clone()))))
    }

    /// These users. Names must be prepared, as [`prepare_name`] does.
    pub fn new(users: impl IntoIterator<Item = (String, Verifiers)>) -> Users {
        let users = users.into_iter().map(|(name, held)| (name, Arc::new(held)));
        let by_name: HashMap<_, _> = users.collect();
        let dummy = Arc::new(dummy(&by_name));
        let scram_iterations = scram_iterations(&by_name);
        Users { by_name, dummy, scram_iterations }
    }

    /// What proves the user of this prepared name.
    pub fn get(&self, name: &str) -> Option<&Arc<Verifiers>> {
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

    /// Verifiers that nothing matches, to be checked where a user has none: finding out costs the
    /// same for a name that nobody has. It holds each kind of verifier that PLAIN may have to check.
    pub fn dummy(&self) -> &Arc<Verifiers> {
        &self.dummy
    }

    /// Iterations of SCRAM verifiers here, for the ones made up for unknown names.
    pub fn scram_iterations(&self) -> u32 {
        self.scram_iterations
    }

    /// The SASL mechanisms that the users' verifiers allow, best first. PLAIN and LOGIN are there
    /// only when somebody holds a hash: a file of SCRAM verifiers alone asks for no password in
    /// clear text.
    pub fn mechanisms(&self) -> Vec<&'static str> {
        let mut mechanisms = Vec::new();
        if self.by_name.values().any(|held| held.scram.is_some()) {
            mechanisms.push("SCRAM-SHA-256");
        }
        if self.by_name.values().any(|held| held.argon2id.is_some()) {
            mechanisms.extend(["PLAIN", "LOGIN"]);
        }
        mechanisms
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

fn scram_iterations(users: &HashMap<String, Arc<Verifiers>>) -> u32 {
    let verifiers = users.values().filter_map(|held| held.scram.as_ref());
    let most = verifiers.map(ScramVerifier::iterations).max();
    most.unwrap_or_else(|| ScramVerifier::default().iterations())
}

fn dummy(users: &HashMap<String, Arc<Verifiers>>) -> Verifiers {
    let model = users.values().find_map(|held| held.argon2id.as_ref());
    let argon2id = model.and_then(Argon2Hash::dummy_like).or_else(Argon2Hash::dummy);
    let scram_alone = |held: &&Arc<Verifiers>| held.argon2id.is_none() && held.scram.is_some();
    let scram = users.values().find(scram_alone).and_then(|held| held.scram.as_ref());
    let scram = scram.map(|like| ScramVerifier::fake("", like.iterations(), b""));
    Verifiers { argon2id, scram }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHEAP: &str = "$argon2id$v=19$m=64,t=3,p=1$c29tZXNhbHQ$G2PBdzCs9GMGO6KJmCQY2Q";

    fn hashed() -> Verifiers {
        Verifiers { argon2id: Argon2Hash::parse(CHEAP).ok(), scram: None }
    }

    fn scram() -> Verifiers {
        Verifiers { argon2id: None, scram: Some(ScramVerifier::fake("", 5000, b"")) }
    }

    fn users(held: &[Verifiers]) -> Users {
        Users::new(held.iter().enumerate().map(|(n, held)| (format!("u{n}"), held.clone())))
    }

    #[test]
    fn mechanisms_follow_what_is_held() {
        assert!(users(&[]).mechanisms().is_empty());
        assert_eq!(users(&[hashed()]).mechanisms(), ["PLAIN", "LOGIN"]);
        assert_eq!(users(&[scram()]).mechanisms(), ["SCRAM-SHA-256"]);
        assert_eq!(users(&[scram(), hashed()]).mechanisms(), ["SCRAM-SHA-256", "PLAIN", "LOGIN"]);
    }

    #[test]
    fn the_dummy_holds_what_others_hold() {
        let dummy = |held: &[Verifiers]| users(held).dummy().clone();
        let text = dummy(&[hashed()]).argon2id.clone().unwrap();
        assert!(text.as_str().contains("m=64,t=3"));
        assert!(dummy(&[hashed()]).scram.is_none());
        let mixed = dummy(&[hashed(), scram()]);
        assert_eq!(mixed.scram.as_ref().map(ScramVerifier::iterations), Some(5000));
        assert_eq!(users(&[scram()]).scram_iterations(), 5000);
    }

    #[test]
    fn names_have_no_white_space() {
        assert_eq!(prepare_name("al\u{ad}ice").as_deref(), Ok("alice"));
        for bad in ["", "a b", "a\tb", "a\u{a0}b", "#a", "a\nb"] {
            assert!(prepare_name(bad).is_err(), "{bad:?}");
        }
    }
}
