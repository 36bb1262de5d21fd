//! `secrets`: to use without knowing.

use hmac::{Hmac, Mac as _};
use sha2::Sha256;

use crate::bindings::waypost::policy::secrets::Host;
use crate::bindings::waypost::policy::types::HostError;
use crate::context::Context;

impl Host for Context {
    async fn hmac_sha256(
        &mut self,
        name: String,
        data: Vec<u8>,
    ) -> wasmtime::Result<Result<Vec<u8>, HostError>> {
        super::spend!(self, data.len());
        let grants = &self.rights.grants;
        if !self.in_hook() || !(grants.secrets.contains(&name) || grants.reveal.contains(&name)) {
            return Ok(Err(self.denied("secrets.hmac-sha256")));
        }
        let Some(secret) = self.rights.services.secrets.get(&name) else {
            return Ok(Err(HostError::Invalid("there is no secret of this name".to_owned())));
        };
        // A key of any length is legal (RFC 2104 §2).
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.octets()) else {
            return Ok(Err(HostError::Invalid("the secret is no key".to_owned())));
        };
        mac.update(&data);
        Ok(Ok(mac.finalize().into_bytes().to_vec()))
    }

    async fn reveal(&mut self, name: String) -> wasmtime::Result<Result<String, HostError>> {
        super::spend!(self, 256);
        if !self.in_hook() || !self.rights.grants.reveal.contains(&name) {
            return Ok(Err(self.denied("secrets.reveal")));
        }
        let secret = self.rights.services.secrets.get(&name);
        Ok(match secret.map(|secret| String::from_utf8(secret.octets().to_vec())) {
            Some(Ok(text)) => Ok(text),
            Some(Err(_)) => Err(HostError::Invalid("the secret is no UTF-8".to_owned())),
            None => Err(HostError::Invalid("there is no secret of this name".to_owned())),
        })
    }
}
