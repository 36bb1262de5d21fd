//! `metrics`.

use crate::bindings::waypost::policy::metrics::Host;
use crate::bindings::waypost::policy::types::Attr;
use crate::context::Context;

fn pairs(labels: Vec<Attr>) -> Vec<(String, String)> {
    labels.into_iter().map(|label| (label.name, label.value)).collect()
}

impl Host for Context {
    async fn count(&mut self, name: String, labels: Vec<Attr>, by: u64) -> wasmtime::Result<()> {
        super::spend_or!(self, name.len(), ());
        self.rights.series.count_for(&self.rights.plugin, &name, &pairs(labels), by);
        Ok(())
    }

    async fn observe(
        &mut self,
        name: String,
        labels: Vec<Attr>,
        value: f64,
    ) -> wasmtime::Result<()> {
        super::spend_or!(self, name.len(), ());
        self.rights.series.observe_for(&self.rights.plugin, &name, &pairs(labels), value);
        Ok(())
    }
}
