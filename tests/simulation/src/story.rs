//! What happened, in lines: hashed, so that two runs can be compared, and its end kept for whoever
//! wants to know how it came to a violation.

use std::collections::VecDeque;
use std::fmt::Display;
use std::hash::{DefaultHasher, Hash, Hasher};

/// Lines kept.
const KEPT: usize = 120;

/// The story of a run.
#[derive(Debug, Default)]
pub struct Story {
    lines: VecDeque<String>,
    hasher: DefaultHasher,
    whole: bool,
}

impl Story {
    /// A story without lines, all of which are kept when it is to be `whole`.
    pub fn new(whole: bool) -> Story {
        Story { whole, ..Story::default() }
    }

    /// One line more.
    pub fn tell(&mut self, line: impl Display) {
        let line = line.to_string();
        line.hash(&mut self.hasher);
        if self.lines.len() >= KEPT && !self.whole {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }

    /// The same for the same story.
    pub fn hash(&self) -> u64 {
        self.hasher.finish()
    }

    /// The last lines.
    pub fn end(&self) -> String {
        self.lines.iter().fold(String::new(), |all, line| all + line + "\n")
    }
}
