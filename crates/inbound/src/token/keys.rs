//! The keys that tokens are signed with: from a file, or as the issuer publishes them.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};
use tokio::sync::Mutex;
use tokio::time::Instant;
use tracing::{info, warn};
use url::Url;
use waypost_mail::fetch::{Allow, AllowRule, Fetch, FetchRequest, Origin};

use super::NoClaims;
use super::claims::{Claims, Refused};
use super::jws::{Algorithm, PublicKey, SignedToken, decoded};

/// Keys of one set that are taken.
const MAX_KEYS: usize = 64;
/// Octets of an answer of the issuer.
const MAX_ANSWER: usize = 256 * 1024;
/// How long after a look for new keys nobody looks again, whatever tokens come.
const REST: Duration = Duration::from_secs(30);

/// Public keys of an issuer (RFC 7517 §5).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeySet {
    keys: Vec<(Option<String>, PublicKey)>,
}

/// What is no set of keys.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeySetError {
    /// It cannot be read.
    #[error("it is no JSON Web Key Set: {{\"keys\": […]}}")]
    Syntax,
    /// Nothing in it can be used.
    #[error("it has no key for RS256, ES256 or EdDSA")]
    Empty,
}

impl KeySet {
    /// Reads a set. Keys for other uses and of other kinds are passed over, as RFC 7517 §5 asks.
    ///
    /// # Errors
    /// When it is none, or no key is left.
    pub fn parse(json: &[u8]) -> Result<KeySet, KeySetError> {
        let set: Map<String, Value> =
            serde_json::from_slice(json).map_err(|_| KeySetError::Syntax)?;
        let keys = set.get("keys").and_then(Value::as_array).ok_or(KeySetError::Syntax)?;
        let keys = keys.iter().filter_map(Value::as_object).cloned().map(Claims);
        let keys = keys.filter_map(|key| Some((key.text("kid").map(str::to_owned), public(&key)?)));
        let keys: Vec<_> = keys.take(MAX_KEYS).collect();
        if keys.is_empty() { Err(KeySetError::Empty) } else { Ok(KeySet { keys }) }
    }

    /// What the token says, when one of the keys signed it.
    fn claims(&self, token: &SignedToken<'_>) -> Result<Claims, Refused> {
        let meant = |id: &Option<String>| token.key_id.is_none() || *id == token.key_id;
        let mut candidates = self.keys.iter().filter(|(id, _)| meant(id)).map(|(_, key)| key);
        candidates.find_map(|key| token.claims(key).ok()).ok_or(Refused::Signature)
    }
}

/// A key for signatures that we know (RFC 7518 §6, RFC 8037 §2).
fn public(key: &Claims) -> Option<PublicKey> {
    let part = |name: &str| key.text(name).and_then(decoded);
    if key.text("use").is_some_and(|purpose| purpose != "sig") {
        return None;
    }
    let key_of_kind = match (key.text("kty")?, key.text("crv")) {
        ("RSA", _) => PublicKey::Rsa { n: part("n")?, e: part("e")? },
        ("EC", Some("P-256")) => {
            let (x, y) = (part("x")?, part("y")?);
            let whole = x.len() == 32 && y.len() == 32;
            PublicKey::P256(whole.then(|| [&[4], &x[..], &y[..]].concat())?)
        }
        ("OKP", Some("Ed25519")) => PublicKey::Ed25519(part("x").filter(|x| x.len() == 32)?),
        _ => return None,
    };
    let fits = key.text("alg").is_none_or(|name| name == key_of_kind.algorithm().name());
    fits.then_some(key_of_kind)
}

/// Keys in force.
#[derive(Debug)]
pub(super) struct Keys {
    algorithms: Vec<Algorithm>,
    source: Source,
}

#[derive(Debug)]
enum Source {
    Fixed(KeySet),
    Published {
        url: String,
        refresh: Duration,
        timeout: Duration,
        fetch: Arc<dyn Fetch>,
        known: Mutex<Known>,
    },
}

/// What was published when we looked.
#[derive(Debug, Default)]
struct Known {
    keys: Arc<KeySet>,
    read: Option<Instant>,
    looked: Option<Instant>,
}

impl Keys {
    pub(super) fn fixed(keys: KeySet, algorithms: Vec<Algorithm>) -> Keys {
        Keys { algorithms, source: Source::Fixed(keys) }
    }

    pub(super) fn published(
        url: String,
        algorithms: Vec<Algorithm>,
        refresh: Duration,
        timeout: Duration,
        fetch: Arc<dyn Fetch>,
    ) -> Keys {
        let known = Mutex::default();
        Keys { algorithms, source: Source::Published { url, refresh, timeout, fetch, known } }
    }

    /// What a token says that one of the keys signed.
    pub(super) async fn claims(&self, token: &str) -> Result<Claims, NoClaims> {
        let token = SignedToken::parse(token)?;
        if !self.algorithms.contains(&token.algorithm) {
            return Err(Refused::Signature.into());
        }
        match &self.source {
            Source::Fixed(keys) => Ok(keys.claims(&token)?),
            Source::Published { .. } => {
                let claims = self.current(false).await?.claims(&token);
                // The issuer may sign with a key that is newer than what we know.
                if claims.is_ok() {
                    return Ok(claims?);
                }
                Ok(self.current(true).await?.claims(&token)?)
            }
        }
    }

    /// The keys as they are published. Old ones are good as long as no new ones can be had.
    async fn current(&self, again: bool) -> Result<Arc<KeySet>, NoClaims> {
        let Source::Published { url, refresh, timeout, fetch, known } = &self.source else {
            return Ok(Arc::default());
        };
        let mut known = known.lock().await;
        let now = Instant::now();
        let older_than =
            |moment: Option<Instant>, age| moment.is_none_or(|at| now.duration_since(at) >= age);
        let wanted = again || older_than(known.read, *refresh);
        if wanted && older_than(known.looked, REST) {
            known.looked = Some(now);
            match published(url, *timeout, &**fetch).await {
                Ok(keys) => {
                    info!(url, keys = keys.keys.len(), "the issuer's keys are read");
                    (known.keys, known.read) = (Arc::new(keys), Some(now));
                }
                Err(problem) => warn!(url, problem, "the issuer's keys cannot be read"),
            }
        }
        match known.read {
            Some(_) => Ok(known.keys.clone()),
            None => Err(NoClaims::Unavailable(format!("no keys could be read from {url} yet"))),
        }
    }
}

async fn published(url: &str, timeout: Duration, fetch: &dyn Fetch) -> Result<KeySet, String> {
    let request = FetchRequest {
        method: "GET".to_owned(),
        url: url.to_owned(),
        headers: vec![("accept".to_owned(), "application/json".to_owned())],
        body: bytes::Bytes::new(),
        timeout,
    };
    KeySet::parse(&asked(fetch, request).await?).map_err(|error| error.to_string())
}

/// The body of an answer 200 of a place that the operator has named.
pub(super) async fn asked(
    fetch: &dyn Fetch,
    request: FetchRequest,
) -> Result<bytes::Bytes, String> {
    let origin = origin(&request.url).ok_or("the URL cannot be asked")?;
    let rule =
        AllowRule { origin, methods: vec![request.method.clone()], path_prefix: String::new() };
    let allow = Allow {
        rules: vec![rule],
        max_response: MAX_ANSWER,
        max_request: 64 * 1024,
        max_timeout: request.timeout,
        private: true,
        redirects: true,
    };
    let answer = fetch.fetch(request, &allow).await.map_err(|error| error.to_string())?;
    match answer.status {
        200 if !answer.truncated => Ok(answer.body),
        200 => Err("the answer is too long".to_owned()),
        status => Err(format!("the answer has status {status}")),
    }
}

/// Where a URL leads, as trust goes.
fn origin(url: &str) -> Option<Origin> {
    Url::parse(url).ok()?.origin().ascii_serialization().parse().ok()
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use async_trait::async_trait;
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
    };
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use serde_json::json;
    use waypost_mail::fetch::{FetchError, FetchResponse};

    use super::*;

    fn b64(octets: impl AsRef<[u8]>) -> String {
        URL_SAFE_NO_PAD.encode(octets)
    }

    /// Signs with Ed25519 and P-256.
    struct Signer {
        ed25519: Ed25519KeyPair,
        p256: EcdsaKeyPair,
    }

    impl Signer {
        fn new() -> Signer {
            let p256 = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
            Signer { ed25519: Ed25519KeyPair::generate().unwrap(), p256 }
        }

        fn keys(&self) -> Value {
            let point = self.p256.public_key().as_ref();
            json!({ "keys": [
                { "kty": "OKP", "crv": "Ed25519", "kid": "ed", "use": "sig",
                  "x": b64(self.ed25519.public_key()) },
                { "kty": "EC", "crv": "P-256", "kid": "ec", "alg": "ES256",
                  "x": b64(&point[1..33]), "y": b64(&point[33..]) },
                { "kty": "oct", "k": "c2VjcmV0" },
                { "kty": "OKP", "crv": "Ed25519", "use": "enc", "x": b64([1; 32]) },
            ] })
        }

        fn sign(&self, header: Value) -> String {
            let signed = format!("{}.{}", b64(header.to_string()), b64(r#"{"sub":"alice"}"#));
            let signature = match header["alg"].as_str().unwrap() {
                "ES256" => {
                    let signed = signed.as_bytes();
                    self.p256.sign(&SystemRandom::new(), signed).unwrap().as_ref().to_vec()
                }
                _ => self.ed25519.sign(signed.as_bytes()).as_ref().to_vec(),
            };
            format!("{signed}.{}", b64(signature))
        }
    }

    fn set(keys: &Value) -> KeySet {
        KeySet::parse(keys.to_string().as_bytes()).unwrap()
    }

    async fn claims(keys: &Keys, token: &str) -> Result<(), NoClaims> {
        let claims = keys.claims(token).await?;
        assert_eq!(claims.text("sub"), Some("alice"));
        Ok(())
    }

    #[tokio::test]
    async fn only_keys_of_the_set_and_algorithms_of_the_list_count() {
        let (signer, other) = (Signer::new(), Signer::new());
        let keys = set(&signer.keys());
        assert_eq!(keys.keys.len(), 2);
        let all = Keys::fixed(keys.clone(), Algorithm::ALL.into());
        let good = signer.sign(json!({ "alg": "EdDSA", "kid": "ed" }));
        for token in [
            &good,
            &signer.sign(json!({ "alg": "EdDSA" })),
            &signer.sign(json!({ "alg": "ES256", "kid": "ec", "typ": "JWT" })),
        ] {
            assert_eq!(claims(&all, token).await, Ok(()), "{token}");
        }
        let (front, back) = good.rsplit_once('.').unwrap();
        let forged = format!("{}.{}", front.replace(&b64(r#"{"sub":"alice"}"#), &b64("{}")), back);
        for token in [
            &other.sign(json!({ "alg": "EdDSA", "kid": "ed" })),
            &signer.sign(json!({ "alg": "EdDSA", "kid": "ec" })),
            &signer.sign(json!({ "alg": "none", "kid": "ed" })),
            &signer.sign(json!({ "alg": "HS256", "kid": "ed" })),
            &signer.sign(json!({ "alg": "RS256", "kid": "ed" })),
            &signer.sign(json!({ "alg": "EdDSA", "crit": ["exp"] })),
            &forged,
            &format!("{front}."),
            &front.to_owned(),
            &format!("{good}.x"),
            &format!("{good}="),
            &String::new(),
        ] {
            let refused = claims(&all, token).await;
            assert!(matches!(refused, Err(NoClaims::Refused(_))), "{token}: {refused:?}");
        }
        let few = Keys::fixed(keys, vec![Algorithm::Es256]);
        assert!(claims(&few, &good).await.is_err());
    }

    /// RFC 7515 A.2: a token signed with RSA.
    #[tokio::test]
    async fn the_example_of_the_rfc_holds() {
        let key = json!({ "keys": [{ "kty": "RSA", "e": "AQAB", "n": "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ" }] });
        let keys = Keys::fixed(set(&key), vec![Algorithm::Rs256]);
        let token = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";
        assert_eq!(keys.claims(token).await.unwrap().text("iss"), Some("joe"));
    }

    #[test]
    fn what_is_no_set_is_refused() {
        for (json, expected) in [
            ("", KeySetError::Syntax),
            ("[]", KeySetError::Syntax),
            ("{}", KeySetError::Syntax),
            (r#"{"keys": []}"#, KeySetError::Empty),
            (
                r#"{"keys": [{"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}]}"#,
                KeySetError::Empty,
            ),
            (r#"{"keys": [{"kty": "RSA", "n": "AA"}]}"#, KeySetError::Empty),
        ] {
            assert_eq!(KeySet::parse(json.as_bytes()), Err(expected), "{json}");
        }
    }

    /// Publishes these, one after the other; then nothing.
    #[derive(Debug)]
    struct Issuer(std::sync::Mutex<VecDeque<Value>>);

    #[async_trait]
    impl Fetch for Issuer {
        async fn fetch(&self, _: FetchRequest, _: &Allow) -> Result<FetchResponse, FetchError> {
            let next = self.0.lock().unwrap().pop_front();
            let body = next.ok_or(FetchError::TimedOut)?.to_string().into();
            Ok(FetchResponse { status: 200, headers: vec![], body, truncated: false })
        }
    }

    #[tokio::test(start_paused = true)]
    async fn published_keys_are_read_again_when_they_are_old_or_a_new_one_is_used() {
        let (first, second) = (Signer::new(), Signer::new());
        let issuer = Issuer(std::sync::Mutex::new([first.keys(), second.keys()].into()));
        let (hour, minute) = (Duration::from_secs(3600), Duration::from_secs(60));
        let url = "https://id.example/keys".to_owned();
        let keys = Keys::published(url, Algorithm::ALL.into(), hour, minute, Arc::new(issuer));
        let (old, new) = (json!({ "alg": "EdDSA" }), json!({ "alg": "ES256" }));
        assert_eq!(claims(&keys, &first.sign(old)).await, Ok(()));
        let token = second.sign(new);
        assert!(claims(&keys, &token).await.is_err(), "nobody looks again so soon");
        tokio::time::advance(REST).await;
        assert_eq!(claims(&keys, &token).await, Ok(()));
        tokio::time::advance(hour).await;
        assert_eq!(claims(&keys, &token).await, Ok(()), "old keys, as no new ones can be had");
        let nobody = Issuer(std::sync::Mutex::default());
        let url = "https://id.example/keys".to_owned();
        let keys = Keys::published(url, Algorithm::ALL.into(), hour, minute, Arc::new(nobody));
        assert!(matches!(claims(&keys, &token).await, Err(NoClaims::Unavailable(_))));
    }
}
