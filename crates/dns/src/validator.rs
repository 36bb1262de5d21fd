//! The resolver for what must be proven: it validates every answer itself, by keys it holds, whatever
//! the servers it asks say about it (RFC 4035 §5).
//!
//! It stands beside the plain one, which finds the way for all mail, also where signatures do not come
//! through. Whether they do is found out before it is first used.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use hickory_resolver::Resolver;
use hickory_resolver::net::{DnsError as HickoryError, NetError};
use hickory_resolver::proto::dnssec::{Proof, TrustAnchors};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use tokio::sync::Mutex as AsyncMutex;
use tokio::time::{Instant, timeout};
use tracing::{info, warn};

use crate::dane::Tlsa;
use crate::dnssec::{Dnssec, Validation};
use crate::hickory::{
    Config, LONGEST_NEGATIVE, Question, SetupError, complete, parse_name, plain_text, resolver,
    trust_anchors,
};
use crate::metrics::Metrics;
use crate::mx::{Mx, MxAnswer};
use crate::resolver::DnsError;
use crate::sober::Sober;

/// Proofs that there is nothing that are remembered; hickory remembers none when it validates.
const MAX_ABSENT: usize = 16_384;
/// CNAMEs that are followed from one name.
const MAX_ALIASES: usize = 16;
/// How long after a probe that failed until the next.
const PROBE_AGAIN: Duration = Duration::from_secs(300);
/// The same where the servers did not answer at all.
const PROBE_SOON: Duration = Duration::from_secs(10);

/// Answers what DNSSEC proves.
#[derive(Debug)]
pub struct Validator {
    resolver: Resolver<Sober>,
    timeout: Duration,
    /// Names whose keys are known without asking.
    anchors: Vec<Name>,
    absent: Mutex<HashMap<(Name, RecordType), (Instant, Evidence)>>,
    state: AsyncMutex<State>,
    metrics: Metrics,
}

/// Whether answers can be validated here.
#[derive(Debug, Clone, Copy)]
enum State {
    Unknown,
    /// They were once. From then on what cannot be validated is an error: else it would be enough to
    /// strip signatures for a while.
    Works,
    /// They could not be; found out anew after this moment.
    Fails(Instant),
}

impl Validator {
    /// A validator that asks the same servers as the plain resolver with this `config`. Without
    /// `trust_anchor` it trusts the keys of the root that this program brings along.
    ///
    /// # Errors
    /// See [`SetupError`].
    pub fn new(config: &Config) -> Result<Validator, SetupError> {
        let (anchors, names) = match &config.trust_anchor {
            Some(path) => trust_anchors(path.clone())?,
            None => (TrustAnchors::default(), vec![Name::root()]),
        };
        let resolver = resolver(config, Some(Arc::new(anchors)), Sober::default())?;
        Ok(Validator {
            resolver,
            timeout: config.timeout,
            anchors: names,
            absent: Mutex::default(),
            state: AsyncMutex::new(State::Unknown),
            metrics: Metrics::default(),
        })
    }

    /// Counts with these counters.
    #[must_use]
    pub fn counting(mut self, metrics: &Metrics) -> Validator {
        self.metrics = metrics.clone();
        self
    }

    /// Asks for what is surely signed, and for what surely is not there.
    async fn probe(&self) -> Result<(), DnsError> {
        let mut failure = None;
        for anchor in &self.anchors {
            match self.probe_zone(anchor).await {
                Ok(()) => return Ok(()),
                Err(error) => failure = Some(error),
            }
        }
        Err(failure.unwrap_or_else(|| DnsError::BadName("the trust anchor".to_owned())))
    }

    async fn probe_zone(&self, zone: &Name) -> Result<(), DnsError> {
        for record_type in [RecordType::SOA, RecordType::TLSA] {
            let question = Question { name: zone.clone(), kind: "probe", record_type };
            if !self.evidence(question).await?.is_secure() {
                return Err(DnsError::Bogus { kind: "probe", name: zone.to_ascii() });
            }
        }
        Ok(())
    }

    async fn evidence(&self, question: Question) -> Result<Evidence, DnsError> {
        let key = (question.name.clone(), question.record_type);
        if let Some(known) = self.known_absent(&key) {
            return Ok(known);
        }
        let began = Instant::now();
        let found = match timeout(self.timeout, self.ask(&question)).await {
            Err(_) => Err(question.timed_out(self.timeout)),
            Ok(found) => found,
        };
        let result = match &found {
            Ok(evidence) if evidence.data.is_empty() => "none",
            Ok(_) => "found",
            Err(DnsError::Bogus { .. }) => "bogus",
            Err(DnsError::TimedOut { .. }) => "timeout",
            Err(_) => "failed",
        };
        self.metrics.asked(question.kind, result, began.elapsed());
        found
    }

    async fn ask(&self, question: &Question) -> Result<Evidence, DnsError> {
        match self.resolver.lookup(question.name.clone(), question.record_type).await {
            Ok(lookup) => Evidence::of(question, lookup.answers()),
            Err(error) => self.absence(question, &error).await,
        }
    }

    /// That there is nothing, as far as that is proven.
    async fn absence(&self, question: &Question, error: &NetError) -> Result<Evidence, DnsError> {
        let (code, of, authorities, standing) = match error {
            NetError::Dns(HickoryError::NoRecordsFound(none)) => {
                let authorities = none.authorities.as_deref().unwrap_or_default();
                let proof = Standing::of(authorities);
                let standing = if proof == Standing::Secure { proof } else { Standing::Insecure };
                (none.response_code, &none.query, authorities, standing)
            }
            // That there is nothing is proven, but not well enough, or nothing is signed.
            NetError::Dns(HickoryError::Nsec {
                proof: Proof::Insecure, query, response, ..
            }) => {
                let authorities = response.authorities.as_slice();
                (response.response_code, query, authorities, Standing::Insecure)
            }
            // What is left is bogus, or no answer at all.
            _ => return Err(question.failure(error, self.timeout)),
        };
        if !matches!(code, ResponseCode::NoError | ResponseCode::NXDomain) {
            return Err(question.failed(error));
        }
        let way = self.standing_of_aliases(question, of.name()).await?;
        let evidence = Evidence {
            aliases: Vec::new(),
            standing: if way == Standing::Secure { standing } else { way },
            data: Vec::new(),
            exists: code == ResponseCode::NoError,
        };
        self.remember_absent(question, &evidence, lifetime(authorities));
        Ok(evidence)
    }

    /// What the aliases are worth by which hickory went from the question to the name of which there is
    /// nothing: it does not tell.
    async fn standing_of_aliases(&self, from: &Question, to: &Name) -> Result<Standing, DnsError> {
        let mut here = from.name.to_lowercase();
        let mut all = Standing::Secure;
        for _ in 0..MAX_ALIASES {
            if here == *to {
                return Ok(all);
            }
            let question = Question { name: here, kind: from.kind, record_type: RecordType::CNAME };
            let lookup = self.resolver.lookup(question.name.clone(), RecordType::CNAME).await;
            let lookup = lookup.map_err(|error| question.failure(&error, self.timeout))?;
            let evidence = Evidence::of(&question, lookup.answers())?;
            let Some((next, _)) = evidence.aliases.first() else { break };
            if !evidence.is_secure() {
                all = Standing::Insecure;
            }
            here = next.clone();
        }
        Err(DnsError::Bogus { kind: from.kind, name: from.name.to_ascii() })
    }

    fn known_absent(&self, key: &(Name, RecordType)) -> Option<Evidence> {
        let absent = self.absent.lock().unwrap_or_else(PoisonError::into_inner);
        let (until, evidence) = absent.get(key)?;
        (*until > Instant::now()).then(|| evidence.clone())
    }

    fn remember_absent(&self, question: &Question, evidence: &Evidence, lifetime: Duration) {
        if lifetime.is_zero() {
            return;
        }
        let now = Instant::now();
        let mut absent = self.absent.lock().unwrap_or_else(PoisonError::into_inner);
        if absent.len() >= MAX_ABSENT {
            absent.retain(|_, (until, _)| *until > now);
        }
        if absent.len() < MAX_ABSENT {
            let key = (question.name.clone(), question.record_type);
            absent.insert(key, (now + lifetime, evidence.clone()));
        }
    }
}

#[async_trait]
impl Dnssec for Validator {
    async fn validation(&self) -> Validation {
        let mut state = self.state.lock().await;
        match *state {
            State::Works => return Validation::Works,
            State::Fails(until) if until > Instant::now() => return Validation::Fails,
            State::Unknown | State::Fails(_) => {}
        }
        match self.probe().await {
            Ok(()) => {
                info!("DNSSEC works: DANE protects mail to domains that have it");
                *state = State::Works;
                Validation::Works
            }
            Err(error) => {
                let unanswered =
                    matches!(error, DnsError::TimedOut { .. } | DnsError::Failed { .. });
                let wait = if unanswered { PROBE_SOON } else { PROBE_AGAIN };
                warn!(
                    %error, again_in = ?wait,
                    "DNSSEC does not work here, so DANE is off and no TLSA record protects mail: do the DNS servers hand on signatures?"
                );
                *state = State::Fails(Instant::now() + wait);
                Validation::Fails
            }
        }
    }

    async fn mx(&self, domain: &str) -> Result<(MxAnswer, bool), DnsError> {
        let name = complete(parse_name(domain)?);
        let question = Question { name, kind: "mx", record_type: RecordType::MX };
        let evidence = self.evidence(question).await?;
        let secure = evidence.is_secure();
        if !evidence.exists {
            return Ok((MxAnswer::NoSuchDomain, secure));
        }
        let records = evidence.data.iter().filter_map(|data| match data {
            RData::MX(mx) => {
                Some(Mx { preference: mx.preference, exchange: plain_text(&mx.exchange) })
            }
            _ => None,
        });
        Ok((MxAnswer::from_records(records.collect()), secure))
    }

    async fn tlsa_bases(&self, host: &str) -> Result<Vec<String>, DnsError> {
        let name = complete(parse_name(host)?);
        let ask = |kind, record_type| Question { name: name.clone(), kind, record_type };
        let mut evidence = self.evidence(ask("a", RecordType::A)).await?;
        if evidence.data.is_empty() && evidence.exists {
            evidence = self.evidence(ask("aaaa", RecordType::AAAA)).await?;
        }
        if evidence.data.is_empty() {
            return Ok(Vec::new());
        }
        Ok(evidence.bases(&name).iter().map(plain_text).collect())
    }

    async fn tlsa(&self, base: &str, port: u16) -> Result<Vec<Tlsa>, DnsError> {
        let bad = || DnsError::BadName(base.to_owned());
        let base = complete(parse_name(base)?);
        let name = base
            .prepend_label("_tcp".as_bytes())
            .and_then(|name| name.prepend_label(format!("_{port}").as_bytes()));
        let name = name.map_err(|_| bad())?;
        let question = Question { name, kind: "tlsa", record_type: RecordType::TLSA };
        let evidence = self.evidence(question).await?;
        if !evidence.is_secure() {
            return Ok(Vec::new());
        }
        let record = |data: &RData| match data {
            RData::TLSA(tlsa) => Some(Tlsa {
                usage: tlsa.cert_usage.into(),
                selector: tlsa.selector.into(),
                matching: tlsa.matching.into(),
                data: tlsa.cert_data.clone(),
            }),
            _ => None,
        };
        Ok(evidence.data.iter().filter_map(record).collect())
    }
}

/// What validation says of some records together (RFC 4035 §4.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// Signed, and rightly.
    Secure,
    /// Provably not signed.
    Insecure,
    /// Neither: forged, or proof is missing.
    Unproven,
}

impl Standing {
    fn of<'a>(records: impl IntoIterator<Item = &'a Record>) -> Standing {
        // Signatures are no answer; of several only the one that was needed has a proof.
        let answers =
            records.into_iter().filter(|record| record.record_type() != RecordType::RRSIG);
        let mut all = None;
        for record in answers {
            let standing = match record.proof {
                Proof::Secure => Standing::Secure,
                Proof::Insecure => Standing::Insecure,
                Proof::Bogus | Proof::Indeterminate => return Standing::Unproven,
            };
            all = Some(if all == Some(Standing::Insecure) { Standing::Insecure } else { standing });
        }
        all.unwrap_or(Standing::Unproven)
    }
}

/// What is known about a name.
#[derive(Debug, Clone, PartialEq)]
struct Evidence {
    /// Where CNAMEs lead, one after the other, and what each step is worth.
    aliases: Vec<(Name, Standing)>,
    /// What all of it together is worth; never unproven.
    standing: Standing,
    /// The records asked for.
    data: Vec<RData>,
    /// There is such a name, if only with other types.
    exists: bool,
}

impl Evidence {
    /// Follows the aliases from the question to the records; what is not on that way is no answer.
    fn of(question: &Question, answers: &[Record]) -> Result<Evidence, DnsError> {
        let bogus = || DnsError::Bogus { kind: question.kind, name: question.name.to_ascii() };
        let mut here = question.name.to_lowercase();
        let mut aliases = Vec::new();
        let mut all = Standing::Secure;
        while let Some(record) = alias(answers, &here) {
            let RData::CNAME(target) = &record.data else { break };
            let step = Standing::of([record]);
            if step == Standing::Unproven || aliases.len() >= MAX_ALIASES {
                return Err(bogus());
            }
            if step == Standing::Insecure {
                all = step;
            }
            here = target.0.to_lowercase();
            aliases.push((here.clone(), step));
        }
        if question.record_type == RecordType::CNAME && !aliases.is_empty() {
            return Ok(Evidence { aliases, standing: all, data: Vec::new(), exists: true });
        }
        let mine = |record: &&Record| {
            record.record_type() == question.record_type && record.name.to_lowercase() == here
        };
        // None at all, and no proof that there are none, is unproven too.
        let records: Vec<&Record> = answers.iter().filter(mine).collect();
        match Standing::of(records.iter().copied()) {
            Standing::Unproven => return Err(bogus()),
            Standing::Insecure => all = Standing::Insecure,
            Standing::Secure => {}
        }
        let data = records.into_iter().map(|record| record.data.clone()).collect();
        Ok(Evidence { aliases, standing: all, data, exists: true })
    }

    fn is_secure(&self) -> bool {
        self.standing == Standing::Secure
    }

    /// RFC 7672 §2.2.2: the end of a secure chain of aliases and its beginning; where only the first
    /// step is secure the beginning alone.
    fn bases(&self, asked: &Name) -> Vec<Name> {
        match (self.aliases.as_slice(), self.standing) {
            ([.., (last, _)], Standing::Secure) => vec![last.clone(), asked.clone()],
            ([], Standing::Secure) | ([(_, Standing::Secure), ..], _) => vec![asked.clone()],
            _ => Vec::new(),
        }
    }
}

fn alias<'a>(answers: &'a [Record], name: &Name) -> Option<&'a Record> {
    let from_here = |record: &&Record| {
        record.record_type() == RecordType::CNAME && record.name.to_lowercase() == *name
    };
    answers.iter().find(from_here)
}

/// How long "there is none" is believed (RFC 2308 §5).
fn lifetime(authorities: &[Record]) -> Duration {
    let seconds = authorities.iter().filter_map(|record| match &record.data {
        RData::SOA(soa) => Some(record.ttl.min(soa.minimum)),
        _ => None,
    });
    Duration::from_secs(seconds.min().unwrap_or_default().into()).min(LONGEST_NEGATIVE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::from_ascii(text).unwrap()
    }

    fn record(owner: &str, data: RData, proof: Proof) -> Record {
        let mut record = Record::from_rdata(name(owner), 60, data);
        record.proof = proof;
        record
    }

    fn cname(owner: &str, target: &str, proof: Proof) -> Record {
        record(owner, RData::CNAME(hickory_resolver::proto::rr::rdata::CNAME(name(target))), proof)
    }

    fn a(owner: &str, proof: Proof) -> Record {
        record(owner, RData::A("192.0.2.1".parse::<std::net::Ipv4Addr>().unwrap().into()), proof)
    }

    fn asked() -> Question {
        Question { name: name("mx.example."), kind: "a", record_type: RecordType::A }
    }

    fn bases(answers: &[Record]) -> Result<Vec<String>, DnsError> {
        let evidence = Evidence::of(&asked(), answers)?;
        Ok(evidence.bases(&asked().name).iter().map(plain_text).collect())
    }

    #[test]
    fn aliases_decide_where_tlsa_records_count() {
        use Proof::{Insecure, Secure};
        let chain = |first, second, end| {
            [
                cname("MX.example.", "www.Host.example.", first),
                cname("www.host.example.", "host.example.", second),
                a("host.example.", end),
            ]
        };
        let both = ["host.example".to_owned(), "mx.example".to_owned()];
        assert_eq!(bases(&[a("mx.example.", Secure)]).unwrap(), both[1..]);
        assert!(bases(&[a("mx.example.", Insecure)]).unwrap().is_empty());
        assert_eq!(bases(&chain(Secure, Secure, Secure)).unwrap(), both);
        assert_eq!(bases(&chain(Secure, Secure, Insecure)).unwrap(), both[1..]);
        assert_eq!(bases(&chain(Secure, Insecure, Secure)).unwrap(), both[1..]);
        assert!(bases(&chain(Insecure, Secure, Secure)).unwrap().is_empty());
    }

    #[test]
    fn what_is_not_proven_either_way_is_an_error() {
        for proof in [Proof::Bogus, Proof::Indeterminate] {
            assert!(bases(&[a("mx.example.", proof)]).is_err());
            assert!(
                bases(&[cname("mx.example.", "h.example.", proof), a("h.example.", Proof::Secure)])
                    .is_err()
            );
        }
        let endless = [cname("mx.example.", "mx.example.", Proof::Secure)];
        assert!(bases(&endless).is_err());
    }

    #[test]
    fn records_of_other_names_are_no_answer() {
        assert!(bases(&[a("other.example.", Proof::Secure)]).is_err());
        assert!(bases(&[]).is_err());
    }
}
