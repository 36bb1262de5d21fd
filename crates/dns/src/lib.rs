//! What other domains publish and what follows.
//!
//! A [`Resolver`] answers three questions about names ([`Hickory`] asks the network). [`hosts`]
//! turns one hop of a route into the ordered [`Host`]s to try, or into the reason why there is
//! none (RFC 5321 §5.1). A [`Validator`] knows what DNSSEC proves, and [`dane`] what that demands
//! of connections to a host (RFC 7672).

#![forbid(unsafe_code)]

mod dane;
mod dnssec;
mod hickory;
mod hosts;
mod metrics;
mod mx;
mod own;
mod resolver;
mod sober;
pub mod sts;
pub mod tlsrpt;
mod validator;
mod vouched;

pub use dane::{Binding, DANE_EE, DANE_TA, Dane, Tlsa, dane};
pub use dnssec::{Dnssec, NoDnssec, Validation};
pub use hickory::{Answer, Config, Hickory, SetupError};
pub use hosts::{Host, Search, Ways, hosts, ways};
pub use metrics::Metrics;
pub use mx::{Mx, MxAnswer};
pub use own::OwnAddresses;
pub use resolver::{DnsError, Family, Resolver};
pub use validator::Validator;
pub use vouched::Vouched;
