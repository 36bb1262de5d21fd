//! `random`.

use rand::Rng as _;

use crate::bindings::waypost::policy::random::Host;
use crate::context::Context;

/// Most octets at once.
const MOST: u32 = 1024;

impl Host for Context {
    async fn bytes(&mut self, len: u32) -> wasmtime::Result<Vec<u8>> {
        let mut octets = vec![0; len.min(MOST) as usize];
        super::spend_or!(self, octets.len(), Vec::new());
        rand::rng().fill(&mut octets[..]);
        Ok(octets)
    }
}
