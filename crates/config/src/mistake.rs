//! What is wrong with a configuration file, said so that it can be put right.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// One mistake at one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// The file, when it is another one that the configuration names.
    pub file: Option<PathBuf>,
    /// Line, from 1; absent when it is about the file as a whole.
    pub line: Option<usize>,
    /// Column in characters, from 1.
    pub column: Option<usize>,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// Every mistake of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistakes {
    /// The file.
    pub file: PathBuf,
    /// What is wrong, in order of lines.
    pub list: Vec<Mistake>,
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for mistake in &self.list {
            write!(f, "{}", mistake.file.as_ref().unwrap_or(&self.file).display())?;
            if let (Some(line), Some(column)) = (mistake.line, mistake.column) {
                write!(f, ":{line}:{column}")?;
            }
            writeln!(f, ": {}", mistake.message)?;
            if let Some(hint) = &mistake.hint {
                writeln!(f, "    hint: {hint}")?;
            }
        }
        let count = self.list.len();
        write!(f, "{count} mistake{} in the configuration", if count == 1 { "" } else { "s" })
    }
}

impl std::error::Error for Mistakes {}

/// Gathers mistakes while a file is read.
#[derive(Debug)]
pub(crate) struct Notes<'a> {
    file: &'a Path,
    source: &'a str,
    list: Vec<(usize, Mistake)>,
}

impl<'a> Notes<'a> {
    pub(crate) fn new(file: &'a Path, source: &'a str) -> Notes<'a> {
        Notes { file, source, list: Vec::new() }
    }

    /// Notes a mistake at `at`, a range of bytes of the source.
    pub(crate) fn add(&mut self, at: &Range<usize>, message: impl Into<String>, hint: &str) {
        let before = self.source.get(..at.start).unwrap_or(self.source);
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
        let hint = (!hint.is_empty()).then(|| hint.to_owned());
        let message = message.into();
        let (line, column) = (Some(line), Some(column));
        let mistake = Mistake { file: None, line, column, message, hint };
        self.list.push((at.start, mistake));
    }

    /// Notes a mistake about the file as a whole.
    pub(crate) fn add_to_file(&mut self, message: impl Into<String>, hint: &str) {
        let hint = (!hint.is_empty()).then(|| hint.to_owned());
        let message = message.into();
        let mistake = Mistake { file: None, line: None, column: None, message, hint };
        self.list.push((0, mistake));
    }

    /// Takes over the mistakes of another file, which is named at `at`.
    pub(crate) fn adopt(&mut self, other: Notes<'_>, at: &Range<usize>) {
        let file = other.file.to_owned();
        for mut mistake in other.into_mistakes().list {
            mistake.file.get_or_insert_with(|| file.clone());
            self.list.push((at.start, mistake));
        }
    }

    /// True when a mistake about `path` is noted already.
    pub(crate) fn mentions(&self, path: &str) -> bool {
        let quoted = format!("'{path}'");
        self.list.iter().any(|(_, mistake)| mistake.message.starts_with(&quoted))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub(crate) fn into_mistakes(mut self) -> Mistakes {
        self.list.sort_by_key(|(at, _)| *at);
        let list = self.list.into_iter().map(|(_, mistake)| mistake).collect();
        Mistakes { file: self.file.to_owned(), list }
    }
}
