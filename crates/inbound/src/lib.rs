//! Every door for mail: lets a peer speak, asks policy, hands a message to intake.
//!
//! A [`Server`] listens. For each peer a session drives the conversation of `waypost_smtp::server`;
//! its questions go to [`decide`], which first says who may relay ([`RelayRule`]) and log in
//! ([`Logins`]), then asks the hooks, and at the end of data hands the message to intake. What may
//! change while the program runs is in [`Settings`]: a session keeps those it began with.

#![forbid(unsafe_code)]

pub mod bans;
pub mod bearers;
mod config;
mod crowd;
mod current;
mod dam;
mod decide;
mod external;
mod failures;
mod files;
mod from_field;
mod gate;
mod house;
mod http;
mod login;
mod manner;
mod mechanism;
mod metrics;
mod pace;
pub mod password;
mod payers;
mod pressure;
mod proxy;
mod rates;
mod refusals;
mod relay;
mod renewal;
mod sasl;
pub mod scram;
pub mod senders;
mod server;
mod session;
mod socket;
mod stream;
pub mod tls;
pub mod token;
pub mod users;

pub use bans::{Ban, Bans};
pub use bearers::{Bearers, BearersError, BearersFile};
pub use config::{
    AuthSettings, DoorRules, HttpSettings, Limits, ListenerConfig, ListenerKind, Place, Prefixes,
    PriorityRule, Settings, SettingsError, XclientPeers,
};
pub use external::CertificateLogins;
pub use failures::FailureRules;
pub use login::{HashPool, LoginResult, Logins, Secret};
pub use metrics::Metrics;
pub use proxy::ProxyRule;
pub use rates::Rate;
pub use relay::{CertificateRule, RelayRule};
pub use senders::{SenderPattern, SenderRule, SenderRules, Wildcard};
pub use server::{Rooms, Server, ServerError};
pub use socket::{Bound, SocketFile, listen};
pub use stream::Pipe;
pub use tls::KeyPair;
pub use token::TokenSettings;
pub use users::{Account, Users, UsersError, UsersFile};
