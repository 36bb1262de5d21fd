//! `limits`: token buckets.

use crate::bindings::waypost::policy::limits::{Allowance, Host};
use crate::bindings::waypost::policy::types::HostError;
use crate::context::Context;

/// Longest key of a bucket.
const MAX_KEY: usize = 256;

impl Host for Context {
    async fn take(
        &mut self,
        bucket: String,
        key: String,
        tokens: u32,
    ) -> wasmtime::Result<Result<Allowance, HostError>> {
        super::spend!(self, key.len());
        if !self.in_hook() || !self.rights.grants.limits.contains(&bucket) {
            return Ok(Err(self.denied("limits.take")));
        }
        if key.len() > MAX_KEY {
            return Ok(Err(HostError::Invalid("a key has at most 256 octets".to_owned())));
        }
        let shared = &self.rights.services;
        let Some(settings) = shared.limits.get(&bucket) else {
            return Ok(Err(HostError::Invalid("there is no bucket of this name".to_owned())));
        };
        let now = shared.services.clock.now();
        let taken = shared.buckets.take((&bucket, settings), &key, tokens, now);
        Ok(Ok(Allowance {
            allowed: taken.allowed,
            remaining: taken.remaining,
            retry_after_ms: taken.retry_after_ms,
        }))
    }
}
