//! One short plugin for each hook: the examples of the pages about the contract
//! (`docs/plugins/contract`), which `cargo xtask docs` takes from the files beside this one.

#[path = "hooks/attempt.rs"]
mod attempt;
#[path = "hooks/auth.rs"]
mod auth;
#[path = "hooks/connect.rs"]
mod connect;
#[path = "hooks/event.rs"]
mod event;
#[path = "hooks/helo.rs"]
mod helo;
#[path = "hooks/lifecycle.rs"]
mod lifecycle;
#[path = "hooks/message.rs"]
mod message;
#[path = "hooks/prepare.rs"]
mod prepare;
#[path = "hooks/recipient.rs"]
mod recipient;
#[path = "hooks/route.rs"]
mod route;
#[path = "hooks/self_test.rs"]
mod self_test;
#[path = "hooks/sender.rs"]
mod sender;
#[path = "hooks/timer.rs"]
mod timer;
