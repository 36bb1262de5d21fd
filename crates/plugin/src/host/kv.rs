//! `kv`: small mutable state.

use std::time::Duration;

use crate::Access;
use crate::bindings::waypost::policy::kv::Host;
use crate::bindings::waypost::policy::types::HostError;
use crate::context::Context;
use crate::kv::{KvError, MAX_KEY, MAX_VALUE};

impl Context {
    fn may_use(&self, namespace: &str, wanted: Access, what: &str) -> Result<(), HostError> {
        let granted = self.rights.grants.kv.get(namespace);
        let may = match (granted, wanted) {
            (Some(Access::Write), _) | (Some(Access::Read), Access::Read) => self.in_hook(),
            _ => false,
        };
        if may { Ok(()) } else { Err(self.denied(what)) }
    }
}

/// Ends a function without the grant.
macro_rules! granted {
    ($context:expr, $namespace:expr, $wanted:expr, $what:expr) => {
        if let Err(denied) = $context.may_use($namespace, $wanted, $what) {
            return Ok(Err(denied));
        }
    };
}

fn told(error: KvError) -> HostError {
    match error {
        KvError::TooLong => HostError::Invalid(format!(
            "a key has 1 to {MAX_KEY} octets, a value at most {MAX_VALUE}"
        )),
        KvError::Full => HostError::OverQuota,
        KvError::NotANumber => HostError::Invalid("the value is no number of 8 octets".to_owned()),
    }
}

fn seconds(ttl: Option<u32>) -> Option<Duration> {
    ttl.map(|ttl| Duration::from_secs(ttl.into()))
}

impl Host for Context {
    async fn get(
        &mut self,
        namespace: String,
        key: String,
    ) -> wasmtime::Result<Result<Option<Vec<u8>>, HostError>> {
        super::spend!(self, key.len());
        granted!(self, &namespace, Access::Read, "kv.get");
        let value = self.rights.services.kv.get(&namespace, &key);
        super::hand_over!(self, value.as_ref().map_or(0, |value| value.len()));
        Ok(Ok(value.map(|value| value.to_vec())))
    }

    async fn set(
        &mut self,
        namespace: String,
        key: String,
        value: Vec<u8>,
        ttl_s: Option<u32>,
    ) -> wasmtime::Result<Result<(), HostError>> {
        super::spend!(self, key.len() + value.len());
        granted!(self, &namespace, Access::Write, "kv.set");
        let kv = &self.rights.services.kv;
        Ok(kv.set(&namespace, &key, value.into(), seconds(ttl_s)).map_err(told))
    }

    async fn remove(
        &mut self,
        namespace: String,
        key: String,
    ) -> wasmtime::Result<Result<(), HostError>> {
        super::spend!(self, key.len());
        granted!(self, &namespace, Access::Write, "kv.remove");
        Ok(self.rights.services.kv.remove(&namespace, &key).map_err(told))
    }

    async fn add(
        &mut self,
        namespace: String,
        key: String,
        by: i64,
        ttl_s: Option<u32>,
    ) -> wasmtime::Result<Result<i64, HostError>> {
        super::spend!(self, key.len() + 8);
        granted!(self, &namespace, Access::Write, "kv.add");
        let kv = &self.rights.services.kv;
        Ok(kv.add(&namespace, &key, by, seconds(ttl_s)).map_err(told))
    }

    async fn swap(
        &mut self,
        namespace: String,
        key: String,
        old: Option<Vec<u8>>,
        new: Vec<u8>,
        ttl_s: Option<u32>,
    ) -> wasmtime::Result<Result<bool, HostError>> {
        granted!(self, &namespace, Access::Write, "kv.swap");
        super::spend!(self, key.len() + new.len() + old.as_ref().map_or(0, Vec::len));
        let kv = &self.rights.services.kv;
        let swapped = kv.swap(&namespace, &key, old.as_deref(), new.into(), seconds(ttl_s));
        Ok(swapped.map_err(told))
    }
}
