//! Texts that many rows share, each kept once and as long as somebody refers to it.

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;

/// Stands for a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Name(u32);

/// The texts.
#[derive(Debug, Default)]
pub(crate) struct Names {
    /// Places of `texts`, found by their hash. Hashed with a key of our own: strangers choose the texts.
    table: HashTable<u32>,
    hasher: RandomState,
    texts: Vec<Text>,
    vacant: Vec<u32>,
}

#[derive(Debug)]
struct Text {
    text: Box<str>,
    references: u32,
}

impl Names {
    /// The name of a text, which refers to it until it is released.
    pub(crate) fn keep(&mut self, text: &str) -> Name {
        let hash = self.hasher.hash_one(text);
        let same = |at: &u32| &*self.texts[*at as usize].text == text;
        if let Some(at) = self.table.find(hash, same).copied() {
            self.texts[at as usize].references += 1;
            return Name(at);
        }
        let fresh = Text { text: text.into(), references: 1 };
        let at = match self.vacant.pop() {
            Some(at) => {
                self.texts[at as usize] = fresh;
                at
            }
            None => {
                self.texts.push(fresh);
                // Fewer than four billion: each has a row that refers to it.
                (self.texts.len() - 1) as u32
            }
        };
        let Names { table, hasher, texts, .. } = self;
        table.insert_unique(hash, at, |at| hasher.hash_one(&*texts[*at as usize].text));
        Name(at)
    }

    /// One reference less.
    pub(crate) fn release(&mut self, Name(at): Name) {
        let Some(text) = self.texts.get_mut(at as usize) else { return };
        text.references = text.references.saturating_sub(1);
        if text.references > 0 {
            return;
        }
        let hash = self.hasher.hash_one(&*text.text);
        text.text = Box::default();
        if let Ok(found) = self.table.find_entry(hash, |known| *known == at) {
            found.remove();
            self.vacant.push(at);
        }
    }

    /// The text; empty for a name that was released.
    pub(crate) fn get(&self, Name(at): Name) -> &str {
        self.texts.get(at as usize).map_or("", |text| &text.text)
    }

    /// What the texts take and the table that finds them.
    #[cfg(test)]
    pub(super) fn octets(&self) -> usize {
        let texts: usize = self.texts.iter().map(|text| text.text.len().next_multiple_of(16)).sum();
        texts + self.texts.capacity() * size_of::<Text>() + self.table.allocation_size()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.table.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_kept_once_and_as_long_as_it_is_needed() {
        let mut names = Names::default();
        let (a, again, b) = (names.keep("a"), names.keep("a"), names.keep("b"));
        assert_eq!((a, names.get(a), names.get(b), names.len()), (again, "a", "b", 2));
        names.release(a);
        assert_eq!(names.get(again), "a");
        names.release(again);
        assert_eq!((names.len(), names.get(b)), (1, "b"));
        let c = names.keep("c");
        assert_eq!((names.get(c), names.texts.len()), ("c", 2), "the place is used again");
        assert_eq!(names.keep("b"), b);
    }

    #[test]
    fn many_texts_are_told_apart() {
        let mut names = Names::default();
        let text = |n: u32| format!("text {n}");
        let kept: Vec<Name> = (0..10_000).map(|n| names.keep(&text(n))).collect();
        for (n, name) in (0..).zip(&kept) {
            assert_eq!(names.get(*name), text(n));
        }
        kept.iter().for_each(|name| names.release(*name));
        assert_eq!(names.len(), 0);
    }
}
