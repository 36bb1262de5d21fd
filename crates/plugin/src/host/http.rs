//! `http`, through the one client of the house.

use std::time::Duration;

use waypost_mail::{FetchError, FetchRequest};

use crate::bindings::waypost::policy::http::{Host, Request, Response};
use crate::bindings::waypost::policy::types::{Attr, HostError};
use crate::context::Context;

impl Host for Context {
    async fn send(&mut self, request: Request) -> wasmtime::Result<Result<Response, HostError>> {
        super::spend!(self, request.url.len() + request.body.len());
        let rights = self.rights.clone();
        let Some(allow) = rights.grants.http.as_ref().filter(|_| self.in_hook()) else {
            return Ok(Err(self.denied("http.send")));
        };
        let Request { method, url, headers, body, timeout_ms } = request;
        let asked = FetchRequest {
            method,
            url,
            headers: headers.into_iter().map(|header| (header.name, header.value)).collect(),
            body: body.into(),
            timeout: Duration::from_millis(timeout_ms.into()),
        };
        let answered = match rights.services.services.fetch.fetch(asked, allow).await {
            Ok(answered) => answered,
            Err(FetchError::Denied(_)) => return Ok(Err(self.denied("http.send"))),
            Err(FetchError::TimedOut) => return Ok(Err(HostError::TimedOut)),
            Err(FetchError::Invalid(text)) => return Ok(Err(HostError::Invalid(text))),
            Err(other) => return Ok(Err(HostError::Unavailable(other.to_string()))),
        };
        super::hand_over!(self, answered.body.len());
        let header = |(name, value)| Attr { name, value };
        Ok(Ok(Response {
            status: answered.status,
            headers: answered.headers.into_iter().map(header).collect(),
            body: answered.body.to_vec(),
            truncated: answered.truncated,
        }))
    }
}
