//! Who vouches for a message that comes in: SPF, DKIM, DMARC, ARC and iprev, by mail-auth.
//!
//! A [`Verifier`] is shown an [`Arrival`] and gives [`Findings`]. It refuses nothing and changes
//! nothing: what follows from a finding is for others to say.
//!
//! # What a stranger can make us do
//!
//! Of a message, at most [`Limits::signatures`] signatures are verified and each lists at most 500
//! fields; a chain has at most 50 sets (RFC 8617 §4.2.1). A policy of SPF causes at most ten
//! questions, of which two may find nothing (RFC 7208 §4.6.4); a policy of DMARC is looked for under
//! eight names (RFC 9989 §4.10). All of it together ends after [`Limits::time`]: what is not known by
//! then is a temporary error. mail-auth is given the header alone, and all headers that are being
//! looked at together have [`MEMORY`], for which a message waits no longer than that either; the body
//! is hashed as it is read, in the forms that its signatures want.
//!
//! # What is mail-auth's and what is ours
//!
//! mail-auth reads the fields, asks DNS, and verifies. Held against its answer, or taken out of its
//! hands, are the body hash (see the crate's own page), expiry (by our clock), SHA-1 (RFC 8301),
//! signatures without the author (RFC 6376 §5.4), several policies of one domain and questions
//! that find nothing (RFC 7208 §4.5, §4.6.4, RFC 9989 §4.10).

mod arc;
mod dkim;
mod dmarc;
mod findings;
mod iprev;
mod spf;
mod syntax;
mod watch;

use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use mail_auth::common::crypto::HashAlgorithm;
use mail_auth::dkim::Canonicalization;
use mail_auth::{AuthenticatedMessage, MessageAuthenticator};
use prometheus_client::registry::Registry;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout_at};
use waypost_dns::Hickory;
use waypost_mail::{HeaderBlock, Rope, Timestamp};
use waypost_smtp::ReversePath;

use crate::body::{BodyHashes, Forms};
use crate::metrics::Metrics;
use spf::Subject;

pub use findings::{
    ArcFinding, AuthResult, DkimFinding, DmarcFinding, DmarcPolicy, Findings, IprevFinding,
    SpfFinding,
};

/// Octets that the headers being looked at may take, all together.
pub const MEMORY: usize = 64 * 1024 * 1024;
/// What a header takes when it is taken apart, for each of its octets.
const EXPANSION: usize = 16;
/// Octets that are handed out together.
const UNIT: usize = 1024;
/// How much of a body is hashed in one go; what is smaller keeps nobody waiting.
const PIECE: usize = 256 * 1024;

/// Which checks are made. DMARC needs SPF and DKIM, which are then made too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checks {
    /// RFC 7208.
    pub spf: bool,
    /// RFC 6376.
    pub dkim: bool,
    /// RFC 9989.
    pub dmarc: bool,
    /// RFC 8617.
    pub arc: bool,
    /// RFC 8601 §3.
    pub iprev: bool,
}

impl Checks {
    /// Every one.
    pub const ALL: Checks = Checks { spf: true, dkim: true, dmarc: true, arc: true, iprev: true };
    /// None.
    pub const NONE: Checks =
        Checks { spf: false, dkim: false, dmarc: false, arc: false, iprev: false };
}

/// How far a message is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Signatures that are verified, from the top.
    pub signatures: usize,
    /// Until all has to be known.
    pub time: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { signatures: 8, time: Duration::from_secs(20) }
    }
}

/// A message as it came in, before anything was changed.
#[derive(Debug, Clone, Copy)]
pub struct Arrival<'a> {
    /// Its fields.
    pub header: &'a HeaderBlock,
    /// What follows them.
    pub body: &'a Rope,
    /// The server that brought it; absent where none did, and then there is no SPF and no iprev.
    pub peer: Option<Peer<'a>>,
    /// The reverse path.
    pub sender: &'a ReversePath,
    /// The time, for expiry.
    pub now: Timestamp,
}

/// Who brought a message by SMTP.
#[derive(Debug, Clone, Copy)]
pub struct Peer<'a> {
    /// Its address.
    pub ip: IpAddr,
    /// The argument of HELO or EHLO.
    pub helo: &'a str,
}

/// Finds out who vouches for messages.
pub struct Verifier {
    authenticator: MessageAuthenticator,
    hostname: String,
    memory: Semaphore,
    metrics: Metrics,
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Verifier").field("hostname", &self.hostname).finish_non_exhaustive()
    }
}

impl Verifier {
    /// Asks by `resolver`; `hostname` is ours, which policies of SPF may want to know.
    pub fn new(resolver: &Hickory, hostname: impl Into<String>) -> Verifier {
        Verifier {
            authenticator: MessageAuthenticator(resolver.beneath()),
            hostname: hostname.into(),
            memory: Semaphore::new(MEMORY / UNIT),
            metrics: Metrics::default(),
        }
    }

    /// Adds the counters to `registry`.
    pub fn register(&self, registry: &mut Registry) {
        self.metrics.register(registry);
    }

    /// The counters.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Makes the checks.
    ///
    /// # Errors
    /// When the body cannot be read. Nothing else is an error: what cannot be found out is a finding.
    pub async fn verify(
        &self,
        arrival: &Arrival<'_>,
        checks: Checks,
        limits: Limits,
    ) -> io::Result<Findings> {
        let deadline = Instant::now() + limits.time;
        let room = timeout_at(deadline, self.room(arrival.header.as_bytes().len())).await;
        let Ok(_room) = room else {
            let findings = nothing(arrival, checks);
            self.metrics.found(&findings);
            return Ok(findings);
        };
        let mut text = arrival.header.as_bytes().to_vec();
        text.extend_from_slice(b"\r\n");
        let mut message = AuthenticatedMessage::parse(&text).unwrap_or_default();
        dkim::prune(&mut message, limits.signatures, arrival.now);
        arc::prune(&mut message, arrival.now);
        hash_body(&mut message, arrival.body).await?;
        let findings = self.check(arrival, &message, checks, limits.signatures, deadline).await;
        self.metrics.found(&findings);
        Ok(findings)
    }

    async fn check(
        &self,
        arrival: &Arrival<'_>,
        message: &AuthenticatedMessage<'_>,
        checks: Checks,
        most: usize,
        deadline: Instant,
    ) -> Findings {
        let spf = arrival.peer.filter(|_| checks.spf || checks.dmarc);
        let iprev = arrival.peer.filter(|_| checks.iprev);
        let (spf, dkim, arc, iprev) = tokio::join!(
            optional(spf, |peer| self.spf(peer, arrival.sender, deadline)),
            optional((checks.dkim || checks.dmarc).then_some(()), |()| {
                dkim::check(&self.authenticator, message, most, deadline)
            }),
            optional(checks.arc.then_some(()), |()| self.arc(message, deadline)),
            optional(iprev, |peer| self.iprev(peer.ip, deadline)),
        );
        let authors = arrival.header.count_named("From");
        let signed = dkim.as_deref().unwrap_or_default();
        let dmarc = optional(checks.dmarc.then_some(()), |()| async {
            let check = dmarc::check(&self.authenticator, message, authors, spf.as_ref(), signed);
            timeout_at(deadline, check).await.unwrap_or_else(|_| dmarc::unknown())
        });
        let dmarc = dmarc.await;
        Findings {
            dmarc,
            spf: spf.filter(|_| checks.spf),
            dkim: dkim.filter(|_| checks.dkim),
            arc,
            iprev,
        }
    }

    async fn spf(&self, peer: Peer<'_>, sender: &ReversePath, deadline: Instant) -> SpfFinding {
        let subject = Subject::of(sender, peer.helo);
        let check = spf::check(&self.authenticator, peer, &subject, &self.hostname);
        let found = timeout_at(deadline, check).await;
        found.unwrap_or_else(|_| subject.found(AuthResult::TempError, Some("the time is up")))
    }

    async fn arc(&self, message: &AuthenticatedMessage<'_>, deadline: Instant) -> ArcFinding {
        let check = arc::check(&self.authenticator, message);
        timeout_at(deadline, check).await.unwrap_or_else(|_| arc::unknown(message))
    }

    async fn iprev(&self, ip: IpAddr, deadline: Instant) -> IprevFinding {
        let check = iprev::check(&self.authenticator, ip);
        timeout_at(deadline, check).await.unwrap_or_else(|_| iprev::unknown(ip))
    }

    /// A share of the memory for a header of so many octets, once there is one.
    async fn room(&self, octets: usize) -> Option<SemaphorePermit<'_>> {
        let units = (octets * EXPANSION).div_ceil(UNIT).min(MEMORY / UNIT);
        // The semaphore is never closed.
        self.memory.acquire_many(u32::try_from(units).unwrap_or(u32::MAX)).await.ok()
    }
}

/// What is known when there was no room for the header until the time was up.
fn nothing(arrival: &Arrival<'_>, checks: Checks) -> Findings {
    const LATE: (AuthResult, Option<&str>) = (AuthResult::TempError, Some("the time is up"));
    let spf = |peer: Peer<'_>| Subject::of(arrival.sender, peer.helo).found(LATE.0, LATE.1);
    Findings {
        spf: arrival.peer.filter(|_| checks.spf).map(spf),
        dkim: checks.dkim.then(|| vec![dkim::unknown()]),
        dmarc: checks.dmarc.then(dmarc::unknown),
        arc: checks.arc.then(|| arc::unknown(&AuthenticatedMessage::default())),
        iprev: arrival.peer.filter(|_| checks.iprev).map(|peer| iprev::unknown(peer.ip)),
    }
}

/// What comes of `make`, where there is something to make it of.
async fn optional<T, O, F: Future<Output = O>>(
    of: Option<T>,
    make: impl FnOnce(T) -> F,
) -> Option<O> {
    match of {
        Some(of) => Some(make(of).await),
        None => None,
    }
}

/// Puts the hashes that signatures are held against in the place of those that mail-auth made.
async fn hash_body(message: &mut AuthenticatedMessage<'_>, body: &Rope) -> io::Result<()> {
    let wants = |form| message.body_hashes.iter().any(|(canonical, ..)| *canonical == form);
    let forms = Forms {
        relaxed: wants(Canonicalization::Relaxed),
        simple: wants(Canonicalization::Simple),
    };
    let hashes = hashed(body, forms).await?;
    for (form, algorithm, _, hash) in &mut message.body_hashes {
        let made = match form {
            Canonicalization::Relaxed => &hashes.relaxed,
            Canonicalization::Simple => &hashes.simple,
        };
        // There is none by SHA-1, which then matches nothing.
        let made = made.as_ref().filter(|_| *algorithm == HashAlgorithm::Sha256);
        *hash = made.map_or_else(Vec::new, |made| made.as_bytes().to_vec());
    }
    Ok(())
}

async fn hashed(body: &Rope, forms: Forms) -> io::Result<BodyHashes> {
    if body.len() <= PIECE as u64 || forms == Forms::default() {
        return BodyHashes::of(body.chunks(PIECE), forms);
    }
    let body = body.clone();
    let made = tokio::task::spawn_blocking(move || BodyHashes::of(body.chunks(PIECE), forms));
    made.await.unwrap_or_else(|failed| Err(io::Error::other(failed)))
}
