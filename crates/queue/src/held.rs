//! What held a job back that is handed out now, by the name of the limit.

use std::fmt;
use std::sync::Arc;

use waypost_mail::Timestamp;

/// A while in which something that was due could not be tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// What held it. Where several limits of a destination and its hosts did so one after the other, the
    /// one that did so last.
    pub by: Limit,
    /// From when on, not before it was due.
    pub since: Timestamp,
    /// Until when.
    pub until: Timestamp,
}

/// A limit, and whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Limit {
    /// This destination rested, or was to be left alone.
    Rest(Arc<str>),
    /// The hosts behind it did: a provider, or mail exchangers.
    SiteRest(Arc<str>),
    /// This destination had as many attempts at once as policy lets it have.
    Slots(Arc<str>),
    /// One attempt at a time found out whether this destination is well again.
    Probe(Arc<str>),
    /// The hosts behind it had as many attempts at once as they may.
    SiteSlots(Arc<str>),
    /// They had as many attempts in a time as they may.
    SiteRate(Arc<str>),
    /// The rate of this class was used up, or its windows were closed.
    Class(String),
    /// This tenant had more than its part of all attempts.
    Tenant(Arc<str>),
    /// There were as many attempts at once as there may be in all.
    Turn,
}

impl Limit {
    /// The kind of limit in one word, for programs.
    pub fn label(&self) -> &'static str {
        match self {
            Limit::Rest(_) => "rest",
            Limit::SiteRest(_) => "site-rest",
            Limit::Slots(_) => "policy-slots",
            Limit::Probe(_) => "probe",
            Limit::SiteSlots(_) => "site-slots",
            Limit::SiteRate(_) => "site-rate",
            Limit::Class(_) => "class",
            Limit::Tenant(_) => "tenant",
            Limit::Turn => "in-flight",
        }
    }

    /// Whose limit it is; nothing for that of all attempts.
    pub fn of(&self) -> &str {
        match self {
            Limit::Rest(name)
            | Limit::SiteRest(name)
            | Limit::Slots(name)
            | Limit::Probe(name)
            | Limit::SiteSlots(name)
            | Limit::SiteRate(name)
            | Limit::Tenant(name) => name,
            Limit::Class(name) => name,
            Limit::Turn => "",
        }
    }
}

impl fmt::Display for Limit {
    /// For a person, behind "held back by".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Limit::Rest(name) => write!(f, "the rest of the destination {name}"),
            Limit::SiteRest(name) => write!(f, "the rest of the hosts {name}"),
            Limit::Slots(name) => write!(f, "policy's limit of attempts at once for {name}"),
            Limit::Probe(name) => {
                write!(f, "the one attempt at a time that {name} gets after a failure")
            }
            Limit::SiteSlots(name) => write!(f, "the limit of attempts at once at {name}"),
            Limit::SiteRate(name) => write!(f, "the rate of {name}"),
            Limit::Class(name) => write!(f, "the rate or the windows of the class {name}"),
            Limit::Tenant(name) => write!(f, "the part of all attempts that the tenant {name} has"),
            Limit::Turn => write!(f, "the limit of all attempts at once"),
        }
    }
}
