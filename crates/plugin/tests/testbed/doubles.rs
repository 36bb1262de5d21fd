//! The names and the web, as tests want them.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use waypost_mail::fetch::{Allow, Fetch, FetchError, FetchRequest, FetchResponse};
use waypost_plugin::{Found, Lookup, LookupError};

/// DNS: some names, one of which never answers and one that breaks the resolver.
#[derive(Debug, Default)]
pub struct Names {
    pub asked: AtomicUsize,
}

#[async_trait]
impl Lookup for Names {
    async fn lookup(&self, name: &str, kind: &str) -> Result<Found, LookupError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let found = |records: &[&str]| {
            let records = records.iter().map(|&record| record.to_owned()).collect();
            Ok(Found { records, nxdomain: false, secure: true, ttl: 300 })
        };
        match (name, kind) {
            ("example.org", "txt") => found(&["v=spf1 -all"]),
            ("example.org", "mx") => found(&["20 b.example.org.", "10 a.example.org."]),
            ("slow.example", _) => {
                tokio::time::sleep(Duration::from_secs(3600)).await;
                found(&[])
            }
            ("panic.example", _) => panic!("a bug in the host"),
            ("fail.example", _) => Err(LookupError::Failed("SERVFAIL".to_owned())),
            ("late.example", _) => Err(LookupError::TimedOut),
            _ => Ok(Found { nxdomain: true, ..Found::default() }),
        }
    }
}

/// The web: what was asked is remembered, and the grant is looked at as the real client does.
#[derive(Debug, Default)]
pub struct Web {
    pub asked: Mutex<Vec<FetchRequest>>,
}

#[async_trait]
impl Fetch for Web {
    async fn fetch(
        &self,
        request: FetchRequest,
        allow: &Allow,
    ) -> Result<FetchResponse, FetchError> {
        let (origin, path) = split(&request.url);
        let origin = origin.parse().map_err(|_| FetchError::Invalid("no URL".to_owned()))?;
        if !allow.rules.iter().any(|rule| rule.covers(&origin, &request.method, path)) {
            return Err(FetchError::Denied("no rule covers it".to_owned()));
        }
        self.asked.lock().unwrap().push(request.clone());
        match path {
            "/v1/drip" => {
                tokio::time::sleep(Duration::from_secs(3600)).await;
                Err(FetchError::TimedOut)
            }
            "/v1/late" => Err(FetchError::TimedOut),
            "/v1/gone" => Err(FetchError::Unreachable("no route".to_owned())),
            _ => Ok(FetchResponse {
                status: 200,
                headers: vec![("content-type".to_owned(), "text/plain".to_owned())],
                body: Bytes::from_static(b"hello"),
                truncated: false,
            }),
        }
    }
}

fn split(url: &str) -> (&str, &str) {
    let authority = url.find("://").map_or(0, |at| at + 3);
    match url[authority..].find('/') {
        Some(slash) => url.split_at(authority + slash),
        None => (url, "/"),
    }
}
