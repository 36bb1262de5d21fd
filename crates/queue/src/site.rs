//! What stands behind a destination: hosts that may take mail for a thousand others too.

use crate::Rate;

/// Hosts that take mail for one destination or for many: a set of mail exchangers, or a provider as the
/// configuration knows it. The queue knows no DNS: it is told by whoever looked (see
/// [`crate::Queue::belongs`]), and counts for all destinations of a site together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// What two destinations must have in common to belong to the same site.
    pub name: String,
    /// What is asked of it; as for every destination when nothing is said.
    pub limits: Option<SiteLimits>,
}

/// How much is asked of a site.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SiteLimits {
    /// Attempts at once, at least 1. An attempt uses one connection.
    pub at_once: usize,
    /// Attempts at once while nothing is known of how it fares; at most `at_once` count.
    pub first: usize,
    /// Attempts begun in a time. Each is one transaction, unless its recipients are too many for one.
    pub rate: Option<Rate>,
}
