//! A domain with keys, and a DNS server that publishes them.

use std::time::Duration;

use bytes::Bytes;
use waypost_harness::zone::Zone;
use waypost_identity::keygen::{self, Algorithm};
use waypost_identity::{BodyHash, Keyring, SigningKey};
use waypost_mail::header::header_len;
use waypost_mail::{Clock, HeaderBlock, SignRequest, SystemClock, Timestamp};

pub(crate) struct Signer {
    ring: Keyring,
    pub(crate) zone: Zone,
}

impl Signer {
    pub(crate) async fn new() -> Signer {
        Signer::with(vec![key("rsa", Algorithm::Rsa2048), key("ed", Algorithm::Ed25519)]).await
    }

    /// The name of each key is its selector.
    pub(crate) async fn with(keys: Vec<(String, SigningKey)>) -> Signer {
        let mut zone = "$ORIGIN example.org.\n".to_owned();
        for (name, key) in &keys {
            let record = keygen::dns_record(name, "example.org", key.public()).unwrap();
            zone.push_str(&record.zone_text);
        }
        Signer { ring: keys.into_iter().collect(), zone: Zone::serve(&zone).await }
    }

    pub(crate) fn sign(&self, message: &[u8], requests: &[SignRequest]) -> Vec<u8> {
        self.sign_at(message, requests, SystemClock.now())
    }

    pub(crate) fn sign_at(
        &self,
        message: &[u8],
        requests: &[SignRequest],
        now: Timestamp,
    ) -> Vec<u8> {
        let (header, body) = message.split_at(header_len(message).unwrap());
        let hash = BodyHash::of(body[2..].chunks(100).map(Ok)).unwrap();
        let header = HeaderBlock::parse(Bytes::copy_from_slice(header));
        let fields = self.ring.sign(requests, &header, &hash, now).unwrap();
        [fields.concat().as_slice(), message].concat()
    }
}

/// A new key by this name.
pub(crate) fn key(name: &str, algorithm: Algorithm) -> (String, SigningKey) {
    let generated = keygen::generate(algorithm).unwrap();
    let key = SigningKey::from_pem(generated.private_pem().as_bytes()).unwrap();
    (name.to_owned(), key)
}

/// A signature by this key over the recommended fields.
pub(crate) fn by(key: &str) -> SignRequest {
    SignRequest {
        domain: "Example.ORG".to_owned(),
        selector: key.to_owned(),
        key: key.to_owned(),
        headers: Vec::new(),
        oversign: Vec::new(),
        expire_after: Some(Duration::from_secs(3600)),
    }
}

/// A signature by each key of [`Signer::new`].
pub(crate) fn by_both() -> Vec<SignRequest> {
    ["rsa", "ed"].map(by).to_vec()
}
