//! Keys by name, and messages signed with them.

use std::collections::BTreeMap;
use std::sync::Arc;

use waypost_mail::{HeaderBlock, SignRequest, Timestamp};
use waypost_smtp::ReversePath;

use crate::body::BodyHash;
use crate::copy::{CopyRequest, CopySigner};
use crate::error::SignError;
use crate::field::{self, Tags, Unsigned};
use crate::key::SigningKey;
use crate::name::Place;
use crate::selection::{Listed, Selection};

/// The signing keys of the configuration, by name, and who signs copies with them. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Keyring(Arc<BTreeMap<String, SigningKey>>, Arc<[CopySigner]>);

impl FromIterator<(String, SigningKey)> for Keyring {
    /// Of two keys with one name, the later stays.
    fn from_iter<T: IntoIterator<Item = (String, SigningKey)>>(keys: T) -> Keyring {
        Keyring(Arc::new(keys.into_iter().collect()), Arc::default())
    }
}

impl Keyring {
    /// The key of this name.
    pub fn get(&self, name: &str) -> Option<&SigningKey> {
        self.0.get(name)
    }

    /// The same keys, and signers of copies as asked for, the first that speaks for a sender before
    /// others.
    ///
    /// # Errors
    /// The first request that cannot be carried out.
    pub fn with_copy_signers(self, requests: &[CopyRequest]) -> Result<Keyring, SignError> {
        let signers: Result<Vec<CopySigner>, SignError> =
            requests.iter().map(|request| CopySigner::new(&self, request)).collect();
        Ok(Keyring(self.0, signers?.into()))
    }

    /// Who signs the copies of this sender, if anybody.
    pub fn copy_signer(&self, sender: &ReversePath) -> Option<&CopySigner> {
        self.1.iter().find(|signer| signer.speaks_for(sender))
    }

    /// The names of the keys, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Whether `request` can be carried out on a proper message: for a configuration, before there
    /// is one.
    ///
    /// # Errors
    /// Those of [`Blame::Request`](crate::Blame::Request).
    pub fn check(&self, request: &SignRequest) -> Result<(), SignError> {
        self.read(request, Timestamp::default()).map(|_| ())
    }

    /// Makes one whole `DKIM-Signature` field, CRLF included, for each request, in their order: put
    /// them on top of the message like that. `header` and `body` are the message as it will leave.
    ///
    /// Signing computes: about half a millisecond with RSA of 2048 bits, several with 4096.
    ///
    /// # Errors
    /// The first that any request meets; then there is no field at all. See [`SignError::blame`].
    pub fn sign(
        &self,
        requests: &[SignRequest],
        header: &HeaderBlock,
        body: &BodyHash,
        now: Timestamp,
    ) -> Result<Vec<Vec<u8>>, SignError> {
        let signed = |request| self.sign_one(request, header, body, now);
        requests.iter().map(signed).collect()
    }

    fn sign_one(
        &self,
        request: &SignRequest,
        header: &HeaderBlock,
        body: &BodyHash,
        now: Timestamp,
    ) -> Result<Vec<u8>, SignError> {
        let Wish { key, place, listed, expires_at } = self.read(request, now)?;
        let selection = Selection::pick(&listed, header)?;
        let unsigned = Unsigned::dkim(&Tags {
            algorithm: key.algorithm(),
            domain: &place.domain,
            selector: &place.selector,
            signed_at: now.0 / 1000,
            expires_at,
            names: &selection.names,
            body,
        });
        let mut input = selection.canonical;
        unsigned.canonical(&mut input);
        let signature = key.sign(&input).map_err(|error| SignError::Crypto {
            key: request.key.clone(),
            error: error.to_string(),
        })?;
        Ok(unsigned.signed(&signature))
    }

    fn read(&self, request: &SignRequest, now: Timestamp) -> Result<Wish<'_>, SignError> {
        let key = self.get(&request.key);
        Ok(Wish {
            key: key.ok_or_else(|| SignError::NoSuchKey(request.key.clone()))?,
            place: Place::new(&request.selector, &request.domain)?,
            listed: Listed::of(request)?,
            expires_at: field::expiry(now, request.expire_after)?,
        })
    }
}

/// A request found to be legal.
struct Wish<'a> {
    key: &'a SigningKey,
    place: Place,
    listed: Listed,
    expires_at: Option<u64>,
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;

    use super::*;
    use crate::error::{Blame, NameError};
    use crate::keygen::{Algorithm, generate};

    fn ring() -> Keyring {
        let generated = generate(Algorithm::Ed25519).unwrap();
        let key = SigningKey::from_pem(generated.private_pem().as_bytes()).unwrap();
        Keyring::from_iter([("main".to_owned(), key)])
    }

    fn request(domain: &str) -> SignRequest {
        SignRequest {
            domain: domain.to_owned(),
            selector: "s".to_owned(),
            key: "main".to_owned(),
            headers: Vec::new(),
            oversign: Vec::new(),
            expire_after: None,
        }
    }

    fn sign(ring: &Keyring, requests: &[SignRequest]) -> Result<Vec<String>, SignError> {
        let header = HeaderBlock::parse(Bytes::from_static(b"From: a@example.org\r\n"));
        let body = BodyHash::of([Ok("hello\r\n")]).unwrap();
        let fields = ring.sign(requests, &header, &body, Timestamp(1_700_000_000_999))?;
        Ok(fields.into_iter().map(|field| String::from_utf8(field).unwrap()).collect())
    }

    #[test]
    fn one_field_for_each_request_in_order() {
        let ring = ring();
        assert_eq!(sign(&ring, &[]).unwrap(), Vec::<String>::new());
        let mut second = request("B\u{fc}cher.example");
        second.expire_after = Some(Duration::from_secs(3600));
        let fields = sign(&ring, &[request("example.org"), second]).unwrap();
        let [first, second] = &fields[..] else { panic!("{fields:?}") };
        let begins = "DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed; d=";
        assert!(first.starts_with(&format!("{begins}example.org; s=s;\r\n")), "{first}");
        assert!(first.contains("\tt=1700000000; h=from:from:"), "{first}");
        assert!(second.contains("d=xn--bcher-kva.example;"), "{second}");
        assert!(second.contains(" t=1700000000; x=1700003600;"), "{second}");
        for absent in ["i=", "l="] {
            assert!(!first.split_whitespace().any(|tag| tag.starts_with(absent)), "{first}");
        }
    }

    #[test]
    fn bad_requests() {
        let ring = ring();
        let edited = |edit: fn(&mut SignRequest)| {
            let mut request = request("example.org");
            edit(&mut request);
            let error = ring.check(&request).unwrap_err();
            assert_eq!(sign(&ring, &[request]).unwrap_err(), error);
            assert_eq!(error.blame(), Blame::Request);
            error
        };
        let no_key = edited(|request| request.key = "other".to_owned());
        assert_eq!(no_key, SignError::NoSuchKey("other".to_owned()));
        let domain = edited(|request| request.domain = "a b".to_owned());
        assert_eq!(domain, SignError::Name(NameError::Domain("a b".to_owned())));
        let selector = edited(|request| request.selector = "s;".to_owned());
        assert_eq!(selector, SignError::Name(NameError::Selector("s;".to_owned())));
        let field = edited(|request| request.headers = vec!["To:".to_owned()]);
        assert_eq!(field, SignError::NoField("To:".to_owned()));
        let expired = edited(|request| request.expire_after = Some(Duration::ZERO));
        assert_eq!(expired, SignError::Expired);
        assert_eq!(ring.check(&request("example.org")), Ok(()));
    }

    #[test]
    fn one_bad_request_spoils_all() {
        let requests = [request("example.org"), request("")];
        assert!(sign(&ring(), &requests).is_err());
    }

    #[test]
    fn debug_names_the_keys() {
        let ring = ring();
        assert_eq!(ring.names().collect::<Vec<_>>(), ["main"]);
        let shown = format!("{ring:?}");
        assert_eq!(shown, r#"Keyring({"main": SigningKey(ed25519 of 256 bits)}, [])"#);
    }
}
