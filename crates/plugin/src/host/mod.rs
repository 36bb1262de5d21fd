//! What a guest can ask of the host: one file for each interface of the contract. Every function looks
//! at what is left of the call's quotas first, then at the grant: being refused costs too.

mod clock;
mod dns;
mod http;
mod kv;
mod limits;
pub(crate) mod log;
pub(crate) mod message;
mod metrics;
mod random;
mod secrets;
mod tables;

use wasmtime::component::{HasSelf, Linker};

use crate::bindings::waypost::policy as contract;
use crate::bindings::waypost::policy::types::HostError;
use crate::context::Context;

impl contract::types::Host for Context {}

/// Links every interface, whatever is granted: a guest may import what it does not use.
pub(crate) fn link(linker: &mut Linker<Context>) -> wasmtime::Result<()> {
    contract::log::add_to_linker::<_, HasSelf<_>>(linker, |context| context)?;
    contract::metrics::add_to_linker::<_, HasSelf<_>>(linker, |context| context)?;
    contract::message::add_to_linker::<_, HasSelf<_>>(linker, |context| context)?;
    contract::tables::add_to_linker::<_, HasSelf<_>>(linker, |context| context)?;
    contract::kv::add_to_linker::<_, HasSelf<_>>(linker, |context| context)?;
    contract::limits::add_to_linker::<_, HasSelf<_>>(linker, |context| context)?;
    contract::dns::add_to_linker::<_, HasSelf<_>>(linker, |context| context)?;
    contract::http::add_to_linker::<_, HasSelf<_>>(linker, |context| context)?;
    contract::secrets::add_to_linker::<_, HasSelf<_>>(linker, |context| context)?;
    contract::clock::add_to_linker::<_, HasSelf<_>>(linker, |context| context)?;
    contract::random::add_to_linker::<_, HasSelf<_>>(linker, |context| context)?;
    Ok(())
}

impl Context {
    /// Counts a call that was not granted.
    fn denied(&self, what: &str) -> HostError {
        let plugin = self.rights.plugin.as_str();
        self.rights.series.add("policy_denied", &[("plugin", plugin), ("function", what)], 1);
        tracing::debug!(plugin, stage = self.place(), function = what, "not granted");
        HostError::Denied
    }
}

/// Ends a host function with the quota's word, when there is one.
macro_rules! spend {
    ($context:expr, $octets:expr) => {
        if let Err(error) = $context.spend($octets)? {
            return Ok(Err(error));
        }
    };
}
/// As [`spend!`], for what the host hands over in a call that was counted.
macro_rules! hand_over {
    ($context:expr, $octets:expr) => {
        if !$context.may_hand_over($octets) {
            return Ok(Err(crate::bindings::waypost::policy::types::HostError::OverQuota));
        }
    };
}
/// Ends a host function that has no error of its own with an empty answer, when the quota is used up.
macro_rules! spend_or {
    ($context:expr, $octets:expr, $empty:expr) => {
        if $context.spend($octets)?.is_err() {
            return Ok($empty);
        }
    };
}
use {hand_over, spend, spend_or};
