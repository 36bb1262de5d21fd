//! The users file: one line for each user, the name and what proves it.
//!
//! ```text
//! # made by `waypost user add`
//! alice argon2id=$argon2id$v=19$m=19456,t=2,p=1$… scram-sha-256=16384$…$…$…
//! ```
//!
//! Lines that are empty or begin with `#` are comments and survive every change.

use std::collections::HashSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::{fs, io};

use super::{Account, MAX_NAME, prepare_name};
use crate::files;
use crate::password::{self, Argon2Hash, HashError, MAX_PASSWORD, PrepareError};
use crate::scram::{ScramHash, ScramVerifier};
use crate::senders::SenderPattern;

/// One thing wrong with a users file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// The line, counted from 1.
    pub line: usize,
    /// What is wrong with it; shows nothing secret.
    pub text: String,
}

/// Why a users file could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum UsersError {
    /// The caller's name is none.
    #[error("this user name cannot be used: {0} (at most {MAX_NAME} octets, no white space)")]
    Name(PrepareError),
    /// The caller's password cannot be used.
    #[error("this password cannot be used: {0}")]
    Password(PrepareError),
    /// The user is there already.
    #[error("user {0} exists already; `waypost user passwd` sets another password")]
    Exists(String),
    /// There is no such user.
    #[error("there is no user {0}; `waypost user list` shows all")]
    Unknown(String),
    /// Lines of the file cannot be read.
    #[error("{}", show(path, mistakes))]
    Mistakes {
        /// The file.
        path: PathBuf,
        /// All of them, in order of lines.
        mistakes: Vec<Mistake>,
    },
    /// The file system refused.
    #[error("cannot {what} the users file {path}: {source}", path = path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Hashing failed.
    #[error(transparent)]
    Hash(#[from] HashError),
}

/// A users file, to be looked at and changed. Every change is on disk when the method returns;
/// a running relay takes it at its next reload.
#[derive(Debug)]
pub struct UsersFile {
    path: PathBuf,
    lines: Vec<Line>,
    sha_1: bool,
}

#[derive(Debug, Clone)]
enum Line {
    Comment(String),
    User(String, Box<Account>),
}

impl UsersFile {
    /// Reads the file; fails with every mistake in it.
    pub fn load(path: &Path) -> Result<UsersFile, UsersError> {
        let text = fs::read_to_string(path).map_err(|source| failed("read", path, source))?;
        UsersFile::parse(path, &text)
    }

    /// The same, but a file that does not exist is one without users.
    pub fn load_or_empty(path: &Path) -> Result<UsersFile, UsersError> {
        match UsersFile::load(path) {
            Err(UsersError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Ok(UsersFile { path: path.to_owned(), lines: Vec::new(), sha_1: false })
            }
            other => other,
        }
    }

    /// With verifiers for SCRAM-SHA-1 too in passwords set from now on: for old clients.
    #[must_use]
    pub fn with_sha_1(mut self, sha_1: bool) -> UsersFile {
        self.sha_1 = sha_1;
        self
    }

    /// Names and verifiers in the order of the file.
    pub fn users(&self) -> impl Iterator<Item = (&str, &Account)> {
        self.lines.iter().filter_map(|line| match line {
            Line::User(name, held) => Some((name.as_str(), &**held)),
            Line::Comment(_) => None,
        })
    }

    /// Adds a user who can log in by every mechanism; by SCRAM-SHA-1 only after
    /// [`UsersFile::with_sha_1`]. Takes tens of milliseconds.
    ///
    /// # Errors
    /// When the user is there, the name or the password cannot be used, or the disk refuses.
    pub fn add(&mut self, name: &str, password: &str) -> Result<(), UsersError> {
        let name = prepare_name(name).map_err(UsersError::Name)?;
        if self.find(&name).is_some() {
            return Err(UsersError::Exists(name));
        }
        let mut lines = self.lines.clone();
        lines.push(Line::User(name, verifiers(password, self.sha_1)?.into()));
        self.replace(lines)
    }

    /// Sets another password for a user, who keeps a SCRAM-SHA-1 verifier, and gets one after
    /// [`UsersFile::with_sha_1`]. Takes tens of milliseconds.
    ///
    /// # Errors
    /// When there is no such user, the password cannot be used, or the disk refuses.
    pub fn set_password(&mut self, name: &str, password: &str) -> Result<(), UsersError> {
        let (name, at) = self.existing(name)?;
        let mut lines = self.lines.clone();
        let (had_sha_1, send_as) = match &lines[at] {
            Line::User(_, held) => (held.scram_sha_1.is_some(), held.send_as.clone()),
            Line::Comment(_) => (false, Vec::new()),
        };
        let fresh = verifiers(password, self.sha_1 || had_sha_1)?;
        lines[at] = Line::User(name, Box::new(Account { send_as, ..fresh }));
        self.replace(lines)
    }

    /// Says what a user may send as, besides its own name.
    ///
    /// # Errors
    /// When there is no such user, or the disk refuses.
    pub fn set_send_as(
        &mut self,
        name: &str,
        patterns: Vec<SenderPattern>,
    ) -> Result<(), UsersError> {
        let (_, at) = self.existing(name)?;
        let mut lines = self.lines.clone();
        if let Line::User(_, held) = &mut lines[at] {
            held.send_as = patterns;
        }
        self.replace(lines)
    }

    /// Removes a user.
    pub fn remove(&mut self, name: &str) -> Result<(), UsersError> {
        let (_, at) = self.existing(name)?;
        let mut lines = self.lines.clone();
        lines.remove(at);
        self.replace(lines)
    }

    fn existing(&self, name: &str) -> Result<(String, usize), UsersError> {
        let name = prepare_name(name).map_err(UsersError::Name)?;
        match self.find(&name) {
            Some(at) => Ok((name, at)),
            None => Err(UsersError::Unknown(name)),
        }
    }

    fn find(&self, name: &str) -> Option<usize> {
        self.lines.iter().position(|line| matches!(line, Line::User(there, _) if there == name))
    }

    fn parse(path: &Path, text: &str) -> Result<UsersFile, UsersError> {
        let (mut lines, mut mistakes, mut seen) = (Vec::new(), Vec::new(), HashSet::new());
        for (number, line) in (1..).zip(text.lines()) {
            let parsed = parse_line(line).and_then(|line| match &line {
                Line::User(name, _) if !seen.insert(name.clone()) => {
                    Err(format!("user {name} is there twice"))
                }
                _ => Ok(line),
            });
            match parsed {
                Ok(line) => lines.push(line),
                Err(text) => mistakes.push(Mistake { line: number, text }),
            }
        }
        if mistakes.is_empty() {
            return Ok(UsersFile { path: path.to_owned(), lines, sha_1: false });
        }
        Err(UsersError::Mistakes { path: path.to_owned(), mistakes })
    }

    fn replace(&mut self, lines: Vec<Line>) -> Result<(), UsersError> {
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        files::write_whole(&self.path, text.as_bytes())
            .map_err(|source| failed("write", &self.path, source))?;
        self.lines = lines;
        Ok(())
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Line::Comment(text) => f.write_str(text),
            Line::User(name, held) => {
                f.write_str(name)?;
                if let Some(hash) = &held.argon2id {
                    write!(f, " argon2id={}", hash.as_str())?;
                }
                if let Some(verifier) = &held.scram {
                    write!(f, " scram-sha-256={verifier}")?;
                }
                if let Some(verifier) = &held.scram_sha_1 {
                    write!(f, " scram-sha-1={verifier}")?;
                }
                if !held.send_as.is_empty() {
                    let patterns: Vec<_> = held.send_as.iter().map(ToString::to_string).collect();
                    write!(f, " send-as={}", patterns.join(","))?;
                }
                Ok(())
            }
        }
    }
}

fn parse_line(line: &str) -> Result<Line, String> {
    let mut words = line.split_whitespace();
    let Some(name) = words.next().filter(|word| !word.starts_with('#')) else {
        return Ok(Line::Comment(line.to_owned()));
    };
    let prepared = prepare_name(name).map_err(|e| format!("the user name cannot be used: {e}"))?;
    if prepared != name {
        return Err(format!("the user name must be written {prepared}"));
    }
    let mut held = Account::default();
    for word in words {
        // The value may be a secret and is never shown.
        let (kind, value) = word.split_once('=').unwrap_or((word, ""));
        let twice = match kind {
            "argon2id" => {
                let hash = Argon2Hash::parse(value).map_err(|e| e.to_string())?;
                held.argon2id.replace(hash).is_some()
            }
            "scram-sha-256" => held.scram.replace(verifier(ScramHash::Sha256, value)?).is_some(),
            "scram-sha-1" => held.scram_sha_1.replace(verifier(ScramHash::Sha1, value)?).is_some(),
            "send-as" => {
                let patterns: Result<Vec<SenderPattern>, _> =
                    value.split(',').map(str::parse).collect();
                let patterns = patterns.map_err(|error| error.to_string())?;
                !std::mem::replace(&mut held.send_as, patterns).is_empty()
            }
            _ => {
                return Err(
                    "expected argon2id=…, scram-sha-256=…, scram-sha-1=… or send-as=…".into()
                );
            }
        };
        if twice {
            return Err(format!("{kind} is there twice"));
        }
    }
    if held.is_locked() {
        // The name is not shown: where somebody wrote "alice:secret" it has the password in it.
        return Err("the user has none of argon2id=…, scram-sha-256=… and scram-sha-1=…".into());
    }
    Ok(Line::User(prepared, Box::new(held)))
}

fn verifier(hash: ScramHash, text: &str) -> Result<ScramVerifier, String> {
    ScramVerifier::parse(hash, text).map_err(|error| error.to_string())
}

fn verifiers(password: &str, sha_1: bool) -> Result<Account, UsersError> {
    let password = password::prepare(password, MAX_PASSWORD).map_err(UsersError::Password)?;
    let argon2id = Some(Argon2Hash::new(&password)?);
    let scram = |hash| ScramVerifier::new(hash, &password);
    Ok(Account {
        argon2id,
        scram: Some(scram(ScramHash::Sha256)),
        scram_sha_1: sha_1.then(|| scram(ScramHash::Sha1)),
        send_as: Vec::new(),
    })
}

fn failed(what: &'static str, path: &Path, source: io::Error) -> UsersError {
    UsersError::Io { what, path: path.to_owned(), source }
}

fn show(path: &Path, mistakes: &[Mistake]) -> String {
    let line = |m: &Mistake| format!("{}:{}: {}", path.display(), m.line, m.text);
    mistakes.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    use super::*;

    fn names(file: &UsersFile) -> Vec<&str> {
        file.users().map(|(name, _)| name).collect()
    }

    #[test]
    fn users_come_and_go_and_comments_stay() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("users");
        assert!(UsersFile::load(&path).is_err());
        let mut file = UsersFile::load_or_empty(&path).unwrap();
        file.add("bob", "first").unwrap();
        fs::write(&path, format!("# staff\n\n{}", fs::read_to_string(&path).unwrap())).unwrap();
        let mut file = UsersFile::load(&path).unwrap();
        file.add("alice", "wonder").unwrap();
        assert!(matches!(file.add("al\u{ad}ice", "x"), Err(UsersError::Exists(_))));
        assert!(matches!(file.remove("carol"), Err(UsersError::Unknown(_))));
        file.set_password("bob", "second").unwrap();
        let file = UsersFile::load(&path).unwrap();
        assert_eq!(names(&file), ["bob", "alice"]);
        let (_, bob) = file.users().next().unwrap();
        assert!(bob.argon2id.as_ref().unwrap().matches("second"));
        assert!(bob.scram.as_ref().unwrap().matches("second"));
        assert!(
            fs::read_to_string(&path).unwrap().starts_with("# staff\n\nbob argon2id=$argon2id")
        );
        let mut file = file;
        file.remove("bob").unwrap();
        assert_eq!(names(&UsersFile::load(&path).unwrap()), ["alice"]);
    }

    #[test]
    fn old_clients_are_served_when_it_is_said_and_stay_so() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("users");
        let mut file = UsersFile::load_or_empty(&path).unwrap();
        let sha_1 = |path: &Path| {
            let file = UsersFile::load(path).unwrap();
            let (_, held) = file.users().next().unwrap();
            held.scram_sha_1.clone()
        };
        file.add("bob", "first").unwrap();
        assert!(sha_1(&path).is_none());
        file = file.with_sha_1(true);
        file.set_password("bob", "second").unwrap();
        file = file.with_sha_1(false);
        assert!(sha_1(&path).unwrap().matches("second"));
        file.set_password("bob", "third").unwrap();
        assert!(sha_1(&path).unwrap().matches("third"));
    }

    #[test]
    fn what_a_user_may_send_as_stays_with_another_password() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("users");
        let mut file = UsersFile::load_or_empty(&path).unwrap();
        file.add("bob", "first").unwrap();
        let patterns: Vec<SenderPattern> =
            ["@example.org", "<>"].map(|text| text.parse().unwrap()).into();
        file.set_send_as("bob", patterns.clone()).unwrap();
        file.set_password("bob", "second").unwrap();
        let file = UsersFile::load(&path).unwrap();
        assert_eq!(file.users().next().unwrap().1.send_as, patterns);
        let error = UsersFile::parse(&path, "bob send-as=@example.org\n").unwrap_err();
        assert!(error.to_string().contains("none of argon2id"), "{error}");
    }

    #[test]
    fn nobody_else_reads_the_file_and_nothing_is_left_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("users");
        let mode = || fs::metadata(&path).unwrap().mode() & 0o777;
        UsersFile::load_or_empty(&path).unwrap().add("bob", "secret").unwrap();
        assert_eq!(mode(), 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o664)).unwrap();
        UsersFile::load(&path).unwrap().add("alice", "secret").unwrap();
        assert_eq!(mode(), 0o640);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        let text = fs::read_to_string(&path).unwrap();
        assert!(!text.contains("secret"));
    }

    #[test]
    fn every_mistake_is_told_at_once_without_secrets() {
        let hash = "argon2id=$argon2id$v=19$m=64,t=3,p=1$c29tZXNhbHQ$G2PBdzCs9GMGO6KJmCQY2Q";
        let text = format!(
            "# fine\nalice {hash}\nbob\nalice {hash}\ncarol hunter2\ndave argon2id=hunter2\n\
             erin {hash} {hash}\nfrank scram-sha-256=1$a$b$c\n"
        );
        let error = UsersFile::parse(Path::new("/etc/users"), &text).unwrap_err();
        let shown = error.to_string();
        let lines: Vec<_> = shown.lines().map(|l| l.split(": ").next().unwrap()).collect();
        let expected = [3, 4, 5, 6, 7, 8].map(|n| format!("/etc/users:{n}"));
        assert_eq!(lines, expected, "{shown}");
        assert!(!shown.contains("hunter2"));
    }

    #[test]
    fn bad_names_and_passwords_are_refused_before_the_disk() {
        let mut file =
            UsersFile { path: "/nonexistent/users".into(), lines: Vec::new(), sha_1: false };
        assert!(matches!(file.add("a b", "x"), Err(UsersError::Name(_))));
        assert!(matches!(file.add("ab", ""), Err(UsersError::Password(_))));
        assert!(matches!(file.add("ab", "x"), Err(UsersError::Io { .. })));
        assert!(file.users().next().is_none());
    }
}
