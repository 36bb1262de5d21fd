//! The issuer is asked about each token (RFC 7662).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use waypost_mail::Timestamp;
use waypost_mail::fetch::{Fetch, FetchRequest};

use super::claims::{Claims, Refused};
use super::{NoClaims, keys};
use crate::Secret;
use crate::scram::ScramHash;

/// Tokens that are remembered.
const MAX_REMEMBERED: usize = 4096;

/// An endpoint, and what it said of late.
#[derive(Debug)]
pub(super) struct Introspection {
    url: String,
    login: Login,
    cache: Duration,
    timeout: Duration,
    fetch: Arc<dyn Fetch>,
    /// By the hash of the token: what it says, and until when that is good.
    remembered: Mutex<HashMap<Vec<u8>, (Claims, Timestamp)>>,
}

/// The value of `Authorization`. Its Debug form is empty.
struct Login(String);

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Login")
    }
}

impl Introspection {
    pub(super) fn new(
        url: String,
        (client_id, secret): (&str, &Secret),
        cache: Duration,
        timeout: Duration,
        fetch: Arc<dyn Fetch>,
    ) -> Introspection {
        // RFC 6749 §2.3.1.
        let secret = String::from_utf8_lossy(secret.octets()).into_owned();
        let pair = format!("{}:{}", encoded(client_id), encoded(&secret));
        let login = Login(format!("Basic {}", STANDARD.encode(pair)));
        let remembered = Mutex::default();
        Introspection { url, login, cache, timeout, fetch, remembered }
    }

    /// What the issuer says of the token.
    pub(super) async fn claims(&self, token: &str, now: Timestamp) -> Result<Claims, NoClaims> {
        let key = ScramHash::Sha256.digest(token.as_bytes());
        if let Some(claims) = self.recall(&key, now) {
            return Ok(claims);
        }
        let claims = self.ask(token).await?;
        if claims.0.get("active") != Some(&true.into()) {
            return Err(Refused::Inactive.into());
        }
        self.remember(key, &claims, now);
        Ok(claims)
    }

    async fn ask(&self, token: &str) -> Result<Claims, NoClaims> {
        let request = FetchRequest {
            method: "POST".to_owned(),
            url: self.url.clone(),
            headers: [
                ("authorization", self.login.0.as_str()),
                ("content-type", "application/x-www-form-urlencoded"),
                ("accept", "application/json"),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
            body: format!("token={}&token_type_hint=access_token", encoded(token)).into(),
            timeout: self.timeout,
        };
        let body = keys::asked(&*self.fetch, request).await.map_err(NoClaims::Unavailable)?;
        let strange = "the introspection endpoint's answer is no JSON object";
        Claims::parse(&body).ok_or_else(|| NoClaims::Unavailable(strange.to_owned()))
    }

    fn recall(&self, key: &[u8], now: Timestamp) -> Option<Claims> {
        let remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        let (claims, until) = remembered.get(key)?;
        (*until > now).then(|| claims.clone())
    }

    fn remember(&self, key: Vec<u8>, claims: &Claims, now: Timestamp) {
        let until = now.after(self.cache);
        let until = match claims.moment("exp") {
            Ok(Some(ends)) => until.min(ends),
            _ => until,
        };
        let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        if remembered.len() >= MAX_REMEMBERED {
            remembered.retain(|_, (_, until)| *until > now);
        }
        if remembered.len() < MAX_REMEMBERED && until > now {
            remembered.insert(key, (claims.clone(), until));
        }
    }
}

/// As in the body of a form.
fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use async_trait::async_trait;
    use waypost_mail::fetch::{Allow, FetchError, FetchResponse};

    use super::*;

    /// Says this of every token, and counts.
    #[derive(Debug)]
    struct Endpoint {
        status: u16,
        says: &'static str,
        asked: AtomicUsize,
    }

    #[async_trait]
    impl Fetch for Endpoint {
        async fn fetch(&self, asked: FetchRequest, _: &Allow) -> Result<FetchResponse, FetchError> {
            self.asked.fetch_add(1, Ordering::SeqCst);
            assert_eq!(asked.body, "token=a%2Fb&token_type_hint=access_token");
            let login = &asked.headers[0].1;
            assert_eq!(*login, format!("Basic {}", STANDARD.encode("we:p%3Aw")));
            let body = self.says.into();
            Ok(FetchResponse { status: self.status, headers: vec![], body, truncated: false })
        }
    }

    fn endpoint(status: u16, says: &'static str) -> (Arc<Endpoint>, Introspection) {
        let endpoint = Arc::new(Endpoint { status, says, asked: AtomicUsize::new(0) });
        let (minute, url) = (Duration::from_secs(60), "https://id.example/i".to_owned());
        let login = ("we", &Secret::new("p:w"));
        let asked = Introspection::new(url, login, minute, minute, endpoint.clone());
        (endpoint, asked)
    }

    #[tokio::test]
    async fn what_is_good_is_asked_once_a_minute_and_never_past_its_end() {
        let (endpoint, asked) = endpoint(200, r#"{"active": true, "exp": 90}"#);
        for (second, times) in [(0, 1), (59, 1), (60, 2), (89, 2), (90, 3), (91, 4)] {
            assert!(asked.claims("a/b", Timestamp(second * 1000)).await.is_ok());
            assert_eq!(endpoint.asked.load(Ordering::SeqCst), times, "{second}");
        }
    }

    #[tokio::test]
    async fn what_is_remembered_is_bounded() {
        let (_, asked) = endpoint(200, "{}");
        let claims = Claims::parse(b"{}").unwrap();
        for n in 0..MAX_REMEMBERED + 10 {
            asked.remember(n.to_be_bytes().into(), &claims, Timestamp(0));
        }
        assert_eq!(asked.remembered.lock().unwrap().len(), MAX_REMEMBERED);
        asked.remember(vec![1], &claims, Timestamp(60_000));
        assert_eq!(asked.remembered.lock().unwrap().len(), 1, "what had ended made room");
    }

    #[tokio::test]
    async fn no_is_not_the_same_as_no_answer() {
        for (status, says, refused) in [
            (200, r#"{"active": false}"#, true),
            (200, r#"{"active": "true"}"#, true),
            (200, "[]", false),
            (200, "oops", false),
            (401, r#"{"active": true}"#, false),
            (503, "", false),
        ] {
            let (_, asked) = endpoint(status, says);
            let answer = asked.claims("a/b", Timestamp(0)).await;
            match answer {
                Err(NoClaims::Refused(Refused::Inactive)) => assert!(refused, "{says}"),
                Err(NoClaims::Unavailable(_)) => assert!(!refused, "{status} {says}"),
                other => panic!("{status} {says}: {other:?}"),
            }
        }
    }
}
