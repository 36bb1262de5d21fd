//! What every plugin is.

use std::time::Duration;

use serde::de::DeserializeOwned;

use crate::types::HostError;

/// A plugin: made once from its configuration, then asked many times.
pub trait Plugin: Sized + 'static {
    /// Its section of the configuration, `config`. Say `#[serde(default,
    /// deny_unknown_fields)]`, so that a misspelt key is refused instead of being overlooked.
    type Config: DeserializeOwned;

    /// Makes the plugin. Must do the same for the same configuration, as instances come and go.
    /// Of the host, only log, clock, random source and tables answer here.
    ///
    /// # Errors
    /// What is wrong with the configuration, and where: it is shown to the operator, and the new
    /// policy does not take the place of the old one.
    fn new(config: Self::Config) -> Result<Self, String>;

    /// What the plugin wants to be told. Nothing by default.
    fn interest(&self) -> Interest {
        Interest::default()
    }
}

/// What a plugin wants to be told. The host skips copies and calls by it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Interest {
    pub(crate) headers: Vec<String>,
    pub(crate) events: Vec<String>,
    pub(crate) timers: Vec<(String, u32)>,
}

impl Interest {
    /// Header fields to have in [`MessageInfo::headers`](crate::types::MessageInfo), in any case;
    /// `*` for all.
    pub fn headers<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Interest {
        self.headers.extend(names.into_iter().map(Into::into));
        self
    }

    /// Kinds of events to be told of; a trailing `*` matches a prefix.
    pub fn events<S: Into<String>>(mut self, kinds: impl IntoIterator<Item = S>) -> Interest {
        self.events.extend(kinds.into_iter().map(Into::into));
        self
    }

    /// A timer of this name. Periods are whole seconds, at least one.
    pub fn timer(mut self, name: impl Into<String>, period: Duration) -> Interest {
        let seconds = u32::try_from(period.as_secs()).unwrap_or(u32::MAX).max(1);
        self.timers.push((name.into(), seconds));
        self
    }
}

/// What a hook answers: a decision, or that there is none.
pub type Decision<T> = Result<T, Undecided>;

/// Why a plugin could not decide. The relay treats it as a fault of the plugin and keeps the instance.
///
/// Made from texts and from the host's errors, so that `?` works on both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undecided(String);

impl Undecided {
    /// The reason, for the operator.
    pub fn new(why: impl Into<String>) -> Undecided {
        Undecided(why.into())
    }

    /// The reason.
    pub fn why(&self) -> &str {
        &self.0
    }
}

impl From<Undecided> for String {
    fn from(undecided: Undecided) -> String {
        undecided.0
    }
}

impl From<String> for Undecided {
    fn from(why: String) -> Undecided {
        Undecided(why)
    }
}

impl From<&str> for Undecided {
    fn from(why: &str) -> Undecided {
        Undecided(why.to_owned())
    }
}

impl From<HostError> for Undecided {
    fn from(error: HostError) -> Undecided {
        Undecided(error.in_words())
    }
}

impl HostError {
    /// The error as a sentence for the operator, with what to do about it.
    pub fn in_words(&self) -> String {
        match self {
            HostError::Denied => {
                "the configuration does not grant this to the plugin: see its README for the grants it wants".into()
            }
            HostError::TimedOut => "the host did not answer in the time of this call".into(),
            HostError::OverQuota => "a quota of this plugin ran out".into(),
            HostError::Unavailable(why) => format!("not available now: {why}"),
            HostError::Invalid(why) => format!("the host found the question wrong: {why}"),
        }
    }
}
