//! Queue classes: how often mail is tried, how long, how fast, at what times and with what weight,
//! by the kind of mail it is.

mod window;

use std::time::Duration;

use waypost_mail::Timestamp;
use waypost_mutant::planted;
use waypost_smtp::Priority;

use crate::selector::{Field, Selector, Sight};
use crate::{Config, RetryCurve};

pub use window::{DAY_MINUTES, Window};

/// Name of the class of mail that no other class is for.
pub const DEFAULT_CLASS: &str = "default";
/// Weight of a class that says nothing about it.
pub const DEFAULT_WEIGHT: u32 = 10;
/// Most classes, the default one aside.
pub const MAX_CLASSES: usize = 200;

/// One class of mail. It is for the recipients its selector means, in the order of the
/// configuration, unless policy named another one (metadata `class`).
#[derive(Debug, Clone, PartialEq)]
pub struct Class {
    /// What it is called.
    pub name: String,
    /// The recipients it is for; nothing for those alone that policy puts in it. Looks at nothing
    /// but what [`Class::may_ask`] allows.
    pub matches: Option<Selector>,
    /// When a recipient is tried again after a failure that may pass.
    pub retry: RetryCurve,
    /// How long a message is tried before what is left of it bounces.
    pub lifetime: Duration,
    /// How long after its arrival the sender of a message is told that it is late, once for each.
    pub delay_notices: Vec<Duration>,
    /// While attempts are scarce, classes get them in proportion to their weights: 1 to 1000.
    pub weight: u32,
    /// At most so many attempts in a time.
    pub rate: Option<Rate>,
    /// Attempts are begun within one of these only; always, when there are none.
    pub windows: Vec<Window>,
    /// What becomes of mail when nobody knows whether it was delivered.
    pub doubt: Doubt,
    /// Each recipient gets a copy of its own, whose sender says for whom it is.
    pub verp: bool,
}

/// What becomes of a recipient when the connection was lost after the final dot (RFC 1047): it may or may
/// not have been delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Doubt {
    /// It is tried again, and may arrive twice.
    #[default]
    Retry,
    /// It is given up, and the sender is told so; it may have arrived.
    Bounce,
    /// It counts as delivered, and may be lost.
    Deliver,
}

/// At most so many in a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// How many, also all at once.
    pub count: u32,
    /// In how long; at least a second.
    pub per: Duration,
}

/// What counts as the tenant of a message whose policy names none (metadata `tenant`): tenants have
/// equal shares within their class, whatever each one's backlog.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tenancy {
    /// Who was logged in.
    #[default]
    User,
    /// The domain in the name of who was logged in.
    UserDomain,
    /// The domain of the envelope sender. Whoever may choose senders freely has many shares then.
    SenderDomain,
    /// The listener it came by, as for all mail that the rules above find nothing for.
    Listener,
}

/// A class by number; 0 is the default class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub(crate) struct ClassId(pub(crate) u8);

/// How urgent a message is within its class, in the three levels of the policy `MIXER`; what is
/// between them counts as the next higher one (RFC 6710 §5, Appendix B). Of what waits for a turn, each
/// band gets four times the turns of the band below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub(crate) enum Band {
    /// Non-urgent: a priority of -4 or below.
    Low,
    /// None, or one from -3 to 0.
    #[default]
    Normal,
    /// Urgent: a priority above 0.
    High,
}

impl Band {
    pub(crate) const ALL: [Band; 3] = [Band::Low, Band::Normal, Band::High];

    pub(crate) fn of(priority: Priority) -> Band {
        match priority.get() {
            ..=-4 => Band::Low,
            -3..=0 => Band::Normal,
            1.. => Band::High,
        }
    }

    /// By what the weight of a class is multiplied.
    pub(crate) fn factor(self) -> u32 {
        match self {
            Band::Low => 1,
            Band::Normal => 4,
            Band::High => 16,
        }
    }
}

/// All classes of a queue.
#[derive(Debug)]
pub(crate) struct Classes {
    all: Vec<Class>,
    tenancy: Tenancy,
}

impl Class {
    /// The class of this name with everything as `config` says for mail without a class, for nobody
    /// but those that policy puts in it.
    pub fn usual(name: impl Into<String>, config: &Config) -> Class {
        Class {
            name: name.into(),
            matches: None,
            retry: config.retry.clone(),
            lifetime: config.lifetime,
            delay_notices: config.delay_notices.clone(),
            weight: DEFAULT_WEIGHT,
            rate: None,
            windows: Vec::new(),
            doubt: config.doubt,
            verp: config.verp,
        }
    }

    /// True for what does not change while a message waits, and is the same for all recipients that
    /// take the same way.
    pub fn may_ask(field: Field) -> bool {
        match field {
            Field::Sender
            | Field::Destination
            | Field::Size
            | Field::Tenant
            | Field::Tag
            | Field::Listener
            | Field::User => true,
            Field::Id
            | Field::Recipient
            | Field::Domain
            | Field::State
            | Field::Age
            | Field::Attempts
            | Field::Class
            | Field::Reply => false,
        }
    }

    /// The first moment from `now` on at which an attempt may begin, its rate aside.
    pub(crate) fn opens(&self, now: Timestamp) -> Timestamp {
        if planted!("an attempt before its window opens") {
            return now;
        }
        self.windows.iter().map(|window| window.next(now)).min().unwrap_or(now)
    }
}

impl Classes {
    pub(crate) fn new(config: &Config) -> Classes {
        let mut all = vec![Class::usual(DEFAULT_CLASS, config)];
        for class in config.classes.iter().take(MAX_CLASSES) {
            if class.name == DEFAULT_CLASS {
                all[0] = class.clone();
            } else {
                all.push(class.clone());
            }
        }
        Classes { all, tenancy: config.tenancy }
    }

    pub(crate) fn tenancy(&self) -> Tenancy {
        self.tenancy
    }

    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    /// The longest wait of any class.
    pub(crate) fn longest_wait(&self) -> Duration {
        self.all.iter().map(|class| class.retry.longest()).max().unwrap_or_default()
    }

    pub(crate) fn get(&self, id: ClassId) -> &Class {
        self.all.get(usize::from(id.0)).unwrap_or(&self.all[0])
    }

    pub(crate) fn name(&self, id: ClassId) -> &str {
        &self.get(id).name
    }

    /// The class of a recipient: the one that policy named if there is such a one, else the first that
    /// is for it.
    pub(crate) fn choose(&self, named: &str, sight: &Sight<'_>) -> ClassId {
        let known = self.all.iter().position(|class| !named.is_empty() && class.name == named);
        let means = |class: &Class| class.matches.as_ref().is_some_and(|m| m.selects(sight));
        let found = known.or_else(|| self.all.iter().position(means));
        ClassId(found.and_then(|found| u8::try_from(found).ok()).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests;
