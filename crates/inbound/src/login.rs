//! Logins: the same work and the same answer for a wrong password and a wrong name.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::password::{self, MAX_PASSWORD};
use crate::scram::{Binding, ClientFirst, ScramError, ScramHash, ScramServer, ScramVerifier, hmac};
use crate::users::{Account, Users, prepare_name};

/// How long a login that succeeded is remembered, so that a client that logs in for each message
/// costs one hash a minute.
const REMEMBERED: Duration = Duration::from_secs(60);
/// How many are remembered.
const MAX_REMEMBERED: usize = 4096;
/// How many logins may wait for a processor, for each that has one.
const WAITING: usize = 32;

/// A secret of this installation, such as the one from which made-up salts are derived. Its Debug form
/// is empty.
#[derive(Clone)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// This secret; for salts at least 16 random octets.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Secret {
        Secret(bytes.into())
    }

    /// Its octets.
    pub fn octets(&self) -> &[u8] {
        &self.0
    }

    /// The secret kept in the file at `path`, made and written (readable by the owner alone) when
    /// there is none.
    pub fn load_or_create(path: &Path) -> std::io::Result<Secret> {
        match std::fs::read(path) {
            Ok(bytes) if bytes.len() >= 16 => return Ok(Secret(bytes)),
            Ok(_) => {}
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
        let bytes = rand::random::<[u8; 32]>().to_vec();
        crate::files::write_whole(path, &bytes)?;
        Ok(Secret(bytes))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// A bound on the processors and the memory that hashing takes. One for the whole program.
#[derive(Debug, Clone)]
pub struct HashPool {
    working: Arc<Semaphore>,
    admitted: Arc<Semaphore>,
}

impl HashPool {
    /// At most `workers` passwords are hashed at once, and a bounded number wait.
    pub fn new(workers: usize) -> HashPool {
        let workers = workers.max(1);
        HashPool {
            working: Arc::new(Semaphore::new(workers)),
            admitted: Arc::new(Semaphore::new(workers * (1 + WAITING))),
        }
    }

    /// Runs `check` on a thread of its own; `None` when too many wait already.
    async fn run(&self, check: impl FnOnce() -> bool + Send + 'static) -> Option<bool> {
        let admitted = self.admitted.clone().try_acquire_owned().ok()?;
        let working = self.working.clone().acquire_owned().await.ok()?;
        let task = tokio::task::spawn_blocking(move || {
            // Held by the thread: a peer that hangs up does not make room while its hash goes on.
            let _permits = (admitted, working);
            check()
        });
        task.await.ok()
    }
}

/// What became of a login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoginResult {
    /// This user, by prepared name.
    Granted(String),
    /// Wrong name, password or identity to act as: all look the same.
    Denied,
    /// Too many logins at once: 454.
    Busy,
}

/// Users, and the way to check what peers say of themselves. Reloading the users makes another
/// one, which has forgotten every success.
#[derive(Debug)]
pub struct Logins {
    users: Users,
    pool: HashPool,
    secret: Secret,
    remembered: Remembered,
}

impl Logins {
    /// Logins of these users.
    pub fn new(users: Users, pool: HashPool, secret: Secret) -> Logins {
        Logins { users, pool, secret, remembered: Remembered::new() }
    }

    /// The users.
    pub fn users(&self) -> &Users {
        &self.users
    }

    /// Checks a name and a password (RFC 4616, and LOGIN, which is the same in two lines).
    pub async fn check(&self, authzid: Option<&str>, authcid: &str, given: &str) -> LoginResult {
        let name = prepare_name(authcid).ok().filter(|name| acts_as_itself(authzid, name));
        let given = password::prepare(given, MAX_PASSWORD).ok();
        let held = name.as_ref().and_then(|name| self.users.get(name));
        let known = held.is_some() && given.is_some();
        let held = held.unwrap_or(self.users.dummy()).clone();
        let (name, given) = (name.unwrap_or_default(), given.unwrap_or_default());
        let tag = self.remembered.tag(&name, &given, &held);
        if known && self.remembered.contains(&tag) {
            return LoginResult::Granted(name);
        }
        let dummy = self.users.dummy().clone();
        match self.pool.run(move || proves(&held, &dummy, &given)).await {
            Some(true) if known => {
                self.remembered.insert(tag);
                LoginResult::Granted(name)
            }
            Some(_) => LoginResult::Denied,
            None => LoginResult::Busy,
        }
    }

    /// Begins a SCRAM exchange. The name is the user's when the exchange can succeed at all.
    ///
    /// # Errors
    /// When the client does not bind to the channel as it is demanded.
    pub fn scram(
        &self,
        hash: ScramHash,
        first: &ClientFirst,
        demanded: Binding<'_>,
    ) -> Result<(ScramServer, Option<String>), ScramError> {
        let name = prepare_name(&first.authcid).unwrap_or_default();
        let own = acts_as_itself(first.authzid.as_deref(), &name);
        let held = self.users.get(&name).and_then(|held| held.scram(hash).cloned());
        let known = held.is_some() && own;
        let verifier = held.unwrap_or_else(|| {
            ScramVerifier::fake(hash, &name, self.users.scram_iterations(hash), &self.secret.0)
        });
        Ok((ScramServer::new(first, verifier, demanded)?, known.then_some(name)))
    }
}

/// Nobody acts as another here.
fn acts_as_itself(authzid: Option<&str>, name: &str) -> bool {
    match authzid {
        None | Some("") => true,
        Some(authzid) => prepare_name(authzid).is_ok_and(|authzid| authzid == name),
    }
}

/// Each kind of check that anybody needs is done for everybody.
fn proves(held: &Account, dummy: &Account, given: &str) -> bool {
    let hash = held.argon2id.as_ref().or(dummy.argon2id.as_ref());
    let by_hash = hash.is_some_and(|hash| hash.matches(given));
    let scram = match held.argon2id {
        Some(_) => dummy.scram.as_ref(),
        None => held.scram.as_ref().or(dummy.scram.as_ref()),
    };
    let by_scram = scram.is_some_and(|verifier| verifier.matches(given));
    match held.argon2id {
        Some(_) => by_hash,
        None => by_scram,
    }
}

type Tag = [u8; 32];

/// Logins that succeeded a short while ago, under a key that dies with the process.
#[derive(Debug)]
struct Remembered {
    key: Tag,
    until: Mutex<HashMap<Tag, Instant>>,
}

impl Remembered {
    fn new() -> Remembered {
        Remembered { key: rand::random(), until: Mutex::new(HashMap::new()) }
    }

    fn tag(&self, name: &str, given: &str, held: &Account) -> Tag {
        let hash = held.argon2id.as_ref().map(|hash| hash.as_str().to_owned());
        let scram = held.scram.as_ref().map(ToString::to_string);
        let proof = hash.or(scram).unwrap_or_default();
        // No part can hold a NUL: SASLprep forbids it.
        hmac(&self.key, &[name.as_bytes(), b"\0", given.as_bytes(), b"\0", proof.as_bytes()])
    }

    fn contains(&self, tag: &Tag) -> bool {
        let until = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        until.get(tag).is_some_and(|until| *until > Instant::now())
    }

    fn insert(&self, tag: Tag) {
        let now = Instant::now();
        let mut until = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        if until.len() >= MAX_REMEMBERED {
            until.retain(|_, until| *until > now);
        }
        if until.len() < MAX_REMEMBERED {
            until.insert(tag, now + REMEMBERED);
        }
    }
}

#[cfg(test)]
mod tests {
    use argon2::password_hash::{PasswordHasher, SaltString};
    use argon2::{Argon2, Params};

    use super::*;
    use crate::password::Argon2Hash;

    fn hashed(password: &str) -> Account {
        let params = Params::new(64, 1, 1, None).unwrap();
        let salt = SaltString::encode_b64(b"some salt").unwrap();
        let argon2 = Argon2::new(Default::default(), Default::default(), params);
        let hash = argon2.hash_password(password.as_bytes(), &salt).unwrap().to_string();
        Account { argon2id: Argon2Hash::parse(&hash).ok(), ..Account::default() }
    }

    fn logins(workers: usize) -> Logins {
        let scram = Some(ScramVerifier::new(ScramHash::Sha256, "pencil"));
        let scram = Account { scram, ..Account::default() };
        let users = [("alice".to_owned(), hashed("wonder")), ("bob".to_owned(), scram)];
        Logins::new(Users::new(users), HashPool::new(workers), Secret::new([7; 32]))
    }

    fn granted(name: &str) -> LoginResult {
        LoginResult::Granted(name.to_owned())
    }

    #[tokio::test]
    async fn passwords_are_checked_against_what_the_user_holds() {
        let logins = logins(2);
        for (authzid, name, password, expected) in [
            (None, "alice", "wonder", granted("alice")),
            (Some("alice"), "al\u{ad}ice", "wonder", granted("alice")),
            (Some(""), "bob", "pencil", granted("bob")),
            (Some("bob"), "alice", "wonder", LoginResult::Denied),
            (None, "alice", "pencil", LoginResult::Denied),
            (None, "alice", "", LoginResult::Denied),
            (None, "bob", "wonder", LoginResult::Denied),
            (None, "carol", "wonder", LoginResult::Denied),
            (None, "", "", LoginResult::Denied),
            (None, "ali ce", "wonder", LoginResult::Denied),
        ] {
            assert_eq!(logins.check(authzid, name, password).await, expected, "{name} {password}");
        }
    }

    #[tokio::test]
    async fn success_is_remembered_and_failure_is_not() {
        let logins = logins(1);
        logins.check(None, "alice", "wonder").await;
        logins.check(None, "alice", "wrong").await;
        assert_eq!(logins.remembered.until.lock().unwrap().len(), 1);
        // Nobody hashes any more, so only what is remembered can succeed.
        logins.pool.admitted.close();
        assert_eq!(logins.check(None, "alice", "wonder").await, granted("alice"));
        assert_eq!(logins.check(None, "bob", "pencil").await, LoginResult::Busy);
        assert_eq!(logins.check(Some("bob"), "alice", "wonder").await, LoginResult::Busy);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_remembered_is_forgotten_after_a_minute() {
        let remembered = Remembered::new();
        let tag = remembered.tag("alice", "wonder", &hashed("wonder"));
        assert_ne!(tag, remembered.tag("alice", "wonder", &hashed("other")));
        assert_ne!(tag, Remembered::new().tag("alice", "wonder", &hashed("wonder")));
        remembered.insert(tag);
        assert!(remembered.contains(&tag));
        tokio::time::advance(REMEMBERED).await;
        assert!(!remembered.contains(&tag));
        (0..MAX_REMEMBERED).for_each(|_| remembered.insert(rand::random()));
        remembered.insert(tag);
        assert!(!remembered.contains(&tag), "over the bound");
        assert_eq!(remembered.until.lock().unwrap().len(), MAX_REMEMBERED);
    }

    #[tokio::test]
    async fn only_so_many_logins_wait() {
        let logins = Arc::new(logins(1));
        let _all_workers = logins.pool.working.clone().acquire_owned().await.unwrap();
        let mut waiting = tokio::task::JoinSet::new();
        for _ in 0..=WAITING {
            let logins = logins.clone();
            waiting.spawn(async move { logins.check(None, "alice", "wonder").await });
        }
        tokio::task::yield_now().await;
        assert_eq!(logins.check(None, "alice", "wonder").await, LoginResult::Busy);
    }

    #[test]
    fn a_secret_is_made_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        let made = Secret::load_or_create(&path).unwrap();
        assert_eq!(made.0.len(), 32);
        assert_eq!(Secret::load_or_create(&path).unwrap().0, made.0);
        assert_eq!(format!("{made:?}"), "Secret");
    }
}
