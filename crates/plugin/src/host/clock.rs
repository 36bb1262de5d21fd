//! `clock`.

use crate::bindings::waypost::policy::clock::Host;
use crate::context::{Context, now};

impl Host for Context {
    async fn now_ms(&mut self) -> wasmtime::Result<u64> {
        super::spend_or!(self, 8, 0);
        Ok(self.rights.services.services.clock.now().0)
    }

    async fn elapsed_us(&mut self) -> wasmtime::Result<u64> {
        super::spend_or!(self, 8, 0);
        let elapsed = now().saturating_duration_since(self.call.began);
        Ok(u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX))
    }
}
