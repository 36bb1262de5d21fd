//! Which site each destination belongs to, as far as anybody has looked.

use std::collections::HashMap;
use std::sync::Arc;

use crate::Site;

/// Destinations remembered at least; at most twice as many. Those not asked for longest are forgotten,
/// and learned again at their next attempt.
const REMEMBERED: usize = 50_000;

/// A bounded map in two halves: what is asked for moves to the young one, and when that is full the old
/// one is forgotten.
#[derive(Debug, Default)]
pub(super) struct Directory {
    young: HashMap<Box<str>, Arc<Site>>,
    old: HashMap<Box<str>, Arc<Site>>,
}

/// What was known before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Before {
    Nothing,
    Same,
    Other,
}

impl Directory {
    /// The site of a destination, if it is known.
    pub(super) fn site(&mut self, destination: &str) -> Option<Arc<Site>> {
        if let Some(site) = self.young.get(destination) {
            return Some(site.clone());
        }
        let (name, site) = self.old.remove_entry(destination)?;
        self.enter(name, site.clone());
        Some(site)
    }

    /// The destination belongs to this site.
    pub(super) fn learn(&mut self, destination: &str, site: &Arc<Site>) -> Before {
        let before = match self.site(destination) {
            Some(known) if known.name == site.name => return Before::Same,
            Some(_) => Before::Other,
            None => Before::Nothing,
        };
        self.enter(destination.into(), site.clone());
        before
    }

    fn enter(&mut self, destination: Box<str>, site: Arc<Site>) {
        if self.young.len() >= REMEMBERED {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(destination, site);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(name: &str) -> Arc<Site> {
        Arc::new(Site { name: name.to_owned(), limits: None })
    }

    #[test]
    fn the_last_word_counts() {
        let mut directory = Directory::default();
        assert_eq!(directory.site("a"), None);
        assert_eq!(directory.learn("a", &site("x")), Before::Nothing);
        assert_eq!(directory.learn("a", &site("x")), Before::Same);
        assert_eq!(directory.learn("a", &site("y")), Before::Other);
        assert_eq!(directory.site("a"), Some(site("y")));
    }

    #[test]
    fn strangers_names_do_not_fill_memory_and_what_is_used_stays() {
        let (mut directory, shared) = (Directory::default(), site("x"));
        directory.learn("busy", &shared);
        for name in 0..5 * REMEMBERED {
            directory.learn(&name.to_string(), &shared);
            if name % 1000 == 0 {
                assert_eq!(directory.learn("busy", &shared), Before::Same);
            }
        }
        assert!(directory.young.len() + directory.old.len() <= 2 * REMEMBERED);
        assert_eq!(directory.site("0"), None);
    }
}
