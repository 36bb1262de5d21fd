//! `dns`.

use crate::bindings::waypost::policy::dns::{Answer, Host, MxHost};
use crate::bindings::waypost::policy::types::HostError;
use crate::context::Context;
use crate::{Found, LookupError};

/// Record types that may be asked for.
const KINDS: [&str; 11] =
    ["a", "aaaa", "txt", "ptr", "mx", "ns", "cname", "srv", "tlsa", "caa", "soa"];
/// Most questions in one go.
const MANY: usize = 64;

impl Context {
    /// Counts `questions` against the grant.
    fn may_ask(&mut self, questions: usize, what: &str) -> Result<(), HostError> {
        let Some(most) = self.rights.grants.dns.filter(|_| self.in_hook()) else {
            return Err(self.denied(what));
        };
        self.call.dns_questions = self.call.dns_questions.saturating_add(questions);
        if self.call.dns_questions > most { Err(HostError::OverQuota) } else { Ok(()) }
    }

    async fn ask(&self, name: &str, kind: &str) -> Result<Found, HostError> {
        let kind = kind.to_ascii_lowercase();
        if !KINDS.contains(&kind.as_str()) {
            return Err(HostError::Invalid(format!("{kind:?} is no record type that is answered")));
        }
        if name.is_empty() || name.len() > 255 {
            return Err(HostError::Invalid("a name has 1 to 255 octets".to_owned()));
        }
        let lookup = &self.rights.services.services.lookup;
        lookup.lookup(name, &kind).await.map_err(|error| match error {
            LookupError::Invalid(text) => HostError::Invalid(text),
            LookupError::TimedOut => HostError::TimedOut,
            LookupError::Failed(text) => HostError::Unavailable(text),
        })
    }
}

fn answer(found: Found) -> Answer {
    let Found { records, nxdomain, secure, ttl } = found;
    Answer { records, nxdomain, secure, ttl_s: ttl }
}

impl Host for Context {
    async fn lookup(
        &mut self,
        name: String,
        kind: String,
    ) -> wasmtime::Result<Result<Answer, HostError>> {
        super::spend!(self, name.len());
        if let Err(error) = self.may_ask(1, "dns.lookup") {
            return Ok(Err(error));
        }
        Ok(self.ask(&name, &kind).await.map(answer))
    }

    async fn lookup_many(
        &mut self,
        questions: Vec<(String, String)>,
    ) -> wasmtime::Result<Result<Vec<Result<Answer, HostError>>, HostError>> {
        super::spend!(self, questions.iter().map(|(name, _)| name.len()).sum());
        if questions.len() > MANY {
            return Ok(Err(HostError::Invalid("at most 64 questions at once".to_owned())));
        }
        if let Err(error) = self.may_ask(questions.len(), "dns.lookup-many") {
            return Ok(Err(error));
        }
        let context = &*self;
        let all = questions.iter().map(|(name, kind)| context.ask(name, kind));
        let found = futures_util::future::join_all(all).await;
        Ok(Ok(found.into_iter().map(|found| found.map(answer)).collect()))
    }

    async fn lookup_mx(
        &mut self,
        domain: String,
    ) -> wasmtime::Result<Result<Vec<MxHost>, HostError>> {
        super::spend!(self, domain.len());
        if let Err(error) = self.may_ask(1, "dns.lookup-mx") {
            return Ok(Err(error));
        }
        Ok(self.ask(&domain, "mx").await.map(|found| {
            let mut hosts: Vec<MxHost> = found.records.iter().filter_map(|r| mx(r)).collect();
            hosts.sort_by_key(|host| host.preference);
            hosts
        }))
    }
}

/// `10 mx.example.org.`
fn mx(record: &str) -> Option<MxHost> {
    let (preference, exchange) = record.split_once(' ')?;
    let exchange = exchange.trim_end_matches('.').to_owned();
    Some(MxHost { preference: preference.parse().ok()?, exchange })
}
