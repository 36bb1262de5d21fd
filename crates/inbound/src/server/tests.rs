//! Sessions over real sockets: a real intake on a spool in memory, raw dialogues, real TLS.

mod auth;
mod clients;
mod guessing;
mod limits;
mod policy;
mod proxies;
mod relay;
mod senders;
mod setup;
mod tls;
