//! The tokens file: who may submit by HTTP. One line for each token, the user it stands for and the
//! SHA-256 of it. A token is 256 random bits, so that a plain hash is all it takes.
//!
//! ```text
//! # made by `waypost token add`
//! shop sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
//! ```

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};

use crate::files;

/// What tokens begin with, so that one that leaked is known for what it is.
const PREFIX: &str = "waypost_";
/// Octets of the longest name of a user.
const MAX_NAME: usize = 255;

/// Why a tokens file could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum BearersError {
    /// The name cannot stand in the file.
    #[error(
        "'{0}' cannot be the user of a token: 1 to {MAX_NAME} octets without white space or '#'"
    )]
    Name(String),
    /// There is no such user.
    #[error("{0} has no token; `waypost token list` shows who has")]
    Unknown(String),
    /// A line cannot be read.
    #[error("{path}, line {line}: write a user and sha256:HEX, as `waypost token add` does", path = path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
    },
    /// The file system refused.
    #[error("cannot {what} the tokens file {path}: {source}", path = path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

type Hash = [u8; 32];

/// Bearers by their hashes.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Bearers(HashMap<Hash, String>);

impl fmt::Debug for Bearers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bearers({})", self.0.len())
    }
}

impl Bearers {
    /// Reads the file.
    ///
    /// # Errors
    /// When it cannot be read, or one of its lines cannot.
    pub fn load(path: &Path) -> Result<Bearers, BearersError> {
        let file = BearersFile::load(path)?;
        Ok(Bearers(file.tokens().map(|(user, hash)| (*hash, user.to_owned())).collect()))
    }

    /// The user that a token stands for. Looking a hash up tells nothing about the token.
    pub fn user(&self, token: &str) -> Option<&str> {
        self.0.get(&hash(token)).map(String::as_str)
    }

    /// Nobody has one.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

/// A tokens file, to be looked at and changed. Every change is on disk when the method returns; a
/// running relay takes it at its next reload.
#[derive(Debug)]
pub struct BearersFile {
    path: PathBuf,
    lines: Vec<Line>,
}

#[derive(Debug, Clone)]
enum Line {
    Comment(String),
    Token(String, Hash),
}

impl BearersFile {
    /// Reads the file.
    ///
    /// # Errors
    /// As [`Bearers::load`].
    pub fn load(path: &Path) -> Result<BearersFile, BearersError> {
        let failed = |source| BearersError::Io { what: "read", path: path.to_owned(), source };
        let text = fs::read_to_string(path).map_err(failed)?;
        let mut lines = Vec::new();
        for (number, line) in (1..).zip(text.lines()) {
            let wrong = || BearersError::Line { path: path.to_owned(), line: number };
            lines.push(parse(line).ok_or_else(wrong)?);
        }
        Ok(BearersFile { path: path.to_owned(), lines })
    }

    /// The same, but a file that does not exist has no tokens.
    ///
    /// # Errors
    /// As [`Bearers::load`].
    pub fn load_or_empty(path: &Path) -> Result<BearersFile, BearersError> {
        match BearersFile::load(path) {
            Err(BearersError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Ok(BearersFile { path: path.to_owned(), lines: Vec::new() })
            }
            other => other,
        }
    }

    /// Users, in the order of the file; one who has several tokens is there several times.
    pub fn users(&self) -> impl Iterator<Item = &str> {
        self.tokens().map(|(user, _)| user)
    }

    fn tokens(&self) -> impl Iterator<Item = (&str, &Hash)> {
        self.lines.iter().filter_map(|line| match line {
            Line::Token(user, hash) => Some((user.as_str(), hash)),
            Line::Comment(_) => None,
        })
    }

    /// Makes a token for a user. It is nowhere else: only its hash is kept.
    ///
    /// # Errors
    /// When the name cannot be used or the file not written.
    pub fn add(&mut self, user: &str) -> Result<String, BearersError> {
        if !is_name(user) {
            return Err(BearersError::Name(user.to_owned()));
        }
        let token = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>()));
        let mut lines = self.lines.clone();
        lines.push(Line::Token(user.to_owned(), hash(&token)));
        self.replace(lines)?;
        Ok(token)
    }

    /// Takes all tokens of a user away.
    ///
    /// # Errors
    /// When there are none, or the file cannot be written.
    pub fn remove(&mut self, user: &str) -> Result<(), BearersError> {
        let mut lines = self.lines.clone();
        lines.retain(|line| !matches!(line, Line::Token(other, _) if other == user));
        if lines.len() == self.lines.len() {
            return Err(BearersError::Unknown(user.to_owned()));
        }
        self.replace(lines)
    }

    fn replace(&mut self, lines: Vec<Line>) -> Result<(), BearersError> {
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        files::write_whole(&self.path, text.as_bytes()).map_err(|source| BearersError::Io {
            what: "write",
            path: self.path.clone(),
            source,
        })?;
        self.lines = lines;
        Ok(())
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Line::Comment(text) => f.write_str(text),
            Line::Token(user, hash) => {
                write!(f, "{user} sha256:")?;
                hash.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
            }
        }
    }
}

fn parse(line: &str) -> Option<Line> {
    if line.trim().is_empty() || line.starts_with('#') {
        return Some(Line::Comment(line.to_owned()));
    }
    let (user, digits) = line.trim().split_once(" sha256:")?;
    let octet = |at: usize| u8::from_str_radix(digits.get(2 * at..2 * at + 2)?, 16).ok();
    let octets: Option<Vec<u8>> = (0..32).map(octet).collect();
    let whole = digits.len() == 64 && digits.bytes().all(|b| b.is_ascii_hexdigit());
    let hash = octets?.try_into().ok().filter(|_| whole)?;
    is_name(user).then(|| Line::Token(user.to_owned(), hash))
}

fn is_name(user: &str) -> bool {
    let legal = |c: char| !c.is_whitespace() && !c.is_control() && c != '#';
    (1..=MAX_NAME).contains(&user.len()) && user.chars().all(legal)
}

fn hash(token: &str) -> Hash {
    Sha256::digest(token.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_known_by_its_hash_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens");
        fs::write(&path, "# ours\n").unwrap();
        let mut file = BearersFile::load(&path).unwrap();
        let (first, second) = (file.add("shop").unwrap(), file.add("shop").unwrap());
        let other = file.add("blog").unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("# ours\nshop sha256:") && !text.contains(&first[8..]), "{text}");
        let tokens = Bearers::load(&path).unwrap();
        assert_eq!((tokens.user(&first), tokens.user(&second)), (Some("shop"), Some("shop")));
        assert_eq!((tokens.user(&other), tokens.user("waypost_x")), (Some("blog"), None));
        file.remove("shop").unwrap();
        assert!(file.remove("shop").is_err() && file.add("a b").is_err() && file.add("").is_err());
        let tokens = Bearers::load(&path).unwrap();
        assert_eq!((tokens.user(&first), tokens.user(&other)), (None, Some("blog")));
        assert_eq!(format!("{tokens:?}"), "Bearers(1)");
    }

    #[test]
    fn lines_are_read_strictly() {
        let hash = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
        assert!(parse(&format!("shop sha256:{hash}")).is_some());
        for line in [
            "shop",
            "shop sha256:9f",
            &format!("shop sha256:{hash}0"),
            &format!("a b sha256:{hash}"),
        ] {
            assert!(parse(line).is_none(), "{line}");
        }
    }
}
