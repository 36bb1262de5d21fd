//! `tables`: read-only maps.

use crate::bindings::waypost::policy::tables::Host;
use crate::bindings::waypost::policy::types::HostError;
use crate::context::Context;
use crate::table::Table;

/// Most keys in one question.
const MANY: usize = 1000;

impl Context {
    fn table(&self, name: &str, what: &str) -> Result<&Table, HostError> {
        if !self.rights.grants.tables.iter().any(|granted| granted == name) {
            return Err(self.denied(what));
        }
        let table = self.rights.services.tables.named(name);
        table.ok_or_else(|| HostError::Invalid("there is no table of this name".to_owned()))
    }
}

impl Host for Context {
    async fn get(
        &mut self,
        table: String,
        key: String,
    ) -> wasmtime::Result<Result<Option<String>, HostError>> {
        let found = self.table(&table, "tables.get").map(|t| t.get(&key).map(str::to_owned));
        super::spend!(self, key.len());
        Ok(found)
    }

    async fn get_many(
        &mut self,
        table: String,
        keys: Vec<String>,
    ) -> wasmtime::Result<Result<Vec<Option<String>>, HostError>> {
        super::spend!(self, keys.iter().map(String::len).sum());
        if keys.len() > MANY {
            return Ok(Err(HostError::Invalid("at most 1000 keys at once".to_owned())));
        }
        let found = self.table(&table, "tables.get-many");
        Ok(found.map(|t| keys.iter().map(|key| t.get(key).map(str::to_owned)).collect()))
    }

    async fn get_domain(
        &mut self,
        table: String,
        domain: String,
    ) -> wasmtime::Result<Result<Option<(String, String)>, HostError>> {
        super::spend!(self, domain.len());
        let found = self.table(&table, "tables.get-domain");
        Ok(found.map(|t| t.get_domain(&domain).map(|(key, value)| (key, value.to_owned()))))
    }

    async fn get_ip(
        &mut self,
        table: String,
        ip: String,
    ) -> wasmtime::Result<Result<Option<(String, String)>, HostError>> {
        super::spend!(self, ip.len());
        let Ok(ip) = ip.parse() else {
            return Ok(Err(HostError::Invalid("that is no address".to_owned())));
        };
        let found = self.table(&table, "tables.get-ip");
        Ok(found.map(|t| t.get_ip(ip).map(|(key, value)| (key, value.to_owned()))))
    }
}
