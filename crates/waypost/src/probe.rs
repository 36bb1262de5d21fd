//! `waypost probe tls`: what a mail server offers, found out by asking it.
//!
//! One connection tells what is said before and behind TLS and whether the certificate proves the
//! name; further ones find out which versions are spoken and whether sessions are resumed. Nothing
//! is sent but EHLO, STARTTLS and QUIT.

mod chain;
mod observer;
pub mod reply;
pub mod route;
mod visit;
mod words;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use serde::Serialize;
use tokio::time::timeout;
use waypost_dns::Host;

use crate::args::ProbeTlsArgs;
use crate::send;
use crate::submit::Target;

use chain::Shown;
use observer::Observer;
use visit::Visit;

/// Everything that was found out.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Host and port, as they were asked for.
    pub server: String,
    /// Where the connections went.
    pub address: SocketAddr,
    /// The name that the certificate must prove.
    pub name: String,
    /// TLS came first, without STARTTLS.
    pub implicit_tls: bool,
    /// What the server said first.
    pub banner: Option<String>,
    /// Extensions before TLS; none where TLS comes first.
    pub extensions_before: Vec<String>,
    /// STARTTLS was among them.
    pub starttls: bool,
    /// Extensions behind TLS.
    pub extensions_after: Vec<String>,
    /// What the handshake agreed on.
    pub tls: Option<Handshake>,
    /// Each version that was tried alone.
    pub versions: Vec<Version>,
    /// Certificates that the server showed, its own first.
    pub chain: Vec<Shown>,
    /// The certificate proves the name.
    pub verified: bool,
    /// Why not.
    pub why_not: Option<String>,
    /// What ended the first connection before its time.
    pub trouble: Option<String>,
}

/// What a handshake agreed on.
#[derive(Debug, Clone, Serialize)]
pub struct Handshake {
    /// `1.2` or `1.3`.
    pub version: String,
    /// IANA name of the cipher suite.
    pub cipher: String,
    /// How the keys were agreed on.
    pub key_exchange: Option<String>,
    /// The server asked for a certificate of ours, and named these authorities.
    pub client_certificate: Option<Vec<String>>,
}

/// A version of TLS, tried alone.
#[derive(Debug, Clone, Serialize)]
pub struct Version {
    /// `1.2` or `1.3`.
    pub version: &'static str,
    /// It is spoken.
    pub spoken: bool,
    /// Why not.
    pub why_not: Option<String>,
    /// IANA name of the cipher suite.
    pub cipher: Option<String>,
    /// How the keys were agreed on.
    pub key_exchange: Option<String>,
    /// A second connection went on with the session of the first.
    pub resumed: Option<bool>,
    /// Keys can be exported safely, as SCRAM with channel binding needs it: always with 1.3, with
    /// 1.2 where the server has the extended master secret (RFC 7627).
    pub exporter: Option<bool>,
}

/// What is wrong with a server or a domain, as scripts see it in the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// 3: it speaks no TLS.
    NoTls,
    /// 4: its certificate does not prove its name.
    NotVerified,
    /// 3: mail to the domain bounces.
    NoWay,
    /// 4: mail to the domain waits.
    NotNow,
}

impl Found {
    /// The exit code.
    pub fn code(self) -> u8 {
        match self {
            Found::NoTls | Found::NoWay => 3,
            Found::NotVerified | Found::NotNow => 4,
        }
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Found::NoTls => "the server speaks no TLS",
            Found::NotVerified => "the certificate does not prove the name",
            Found::NoWay => "mail to this domain would bounce",
            Found::NotNow => "mail to this domain would wait",
        })
    }
}

impl std::error::Error for Found {}

/// Asks the server and prints what was found out.
///
/// # Errors
/// When there is no connection or no SMTP; [`Found`] when there is something wrong with TLS.
pub async fn tls(args: &ProbeTlsArgs) -> Result<()> {
    let report = probe(args).await?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{}", words::describe(&report));
    }
    match &report {
        Report { tls: None, .. } => bail!(Found::NoTls),
        Report { verified: false, .. } => bail!(Found::NotVerified),
        _ => Ok(()),
    }
}

/// Finds everything out.
///
/// # Errors
/// When there is no connection or no SMTP.
pub async fn probe(args: &ProbeTlsArgs) -> Result<Report> {
    let target = Target::with_port(&args.server, 25)?;
    let roots: RootCertStore = send::authorities(args.ca_file.as_deref())?.roots().clone();
    let observer = Observer::new(roots)?;
    let (place, first) = Place::find(args, &target, &observer.config(BOTH, false)?).await?;
    let chain = first.chain.iter().map(|der| Shown::of(der)).collect();
    let verdict = observer.verdict();
    let mut versions = Vec::new();
    if place.implicit || first.starttls {
        for (name, version) in [("1.3", &BOTH[..1]), ("1.2", &BOTH[1..])] {
            versions.push(try_version(&place, &observer, name, version).await?);
        }
    }
    let mut tls = first.tls;
    if let Some(tls) = &mut tls {
        tls.client_certificate = observer.asked();
    }
    Ok(Report {
        server: target.to_string(),
        address: place.host.address,
        name: place.host.name,
        implicit_tls: place.implicit,
        banner: first.banner,
        extensions_before: first.before,
        starttls: first.starttls,
        extensions_after: first.after,
        verified: tls.is_some() && verdict == Some(Ok(())),
        tls,
        versions,
        chain,
        why_not: verdict.and_then(Result::err),
        trouble: first.trouble.map(|trouble| trouble.to_string()),
    })
}

/// Both versions, the better first.
const BOTH: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13, &rustls::version::TLS12];

/// Where the server is and how it is spoken to.
#[derive(Debug)]
struct Place {
    host: Host,
    implicit: bool,
    patience: Duration,
}

impl Place {
    /// The first address that answers, and what came of the first connection.
    async fn find(
        args: &ProbeTlsArgs,
        target: &Target,
        config: &Arc<ClientConfig>,
    ) -> Result<(Place, Visit)> {
        let patience = Duration::from_secs(args.timeout);
        let implicit = args.implicit_tls || (target.port == 465 && !args.starttls);
        let lookup = tokio::net::lookup_host((target.host.as_str(), target.port));
        let found = timeout(patience, lookup).await.context("the name is not resolved in time")?;
        let mut failure = anyhow!("{target} has no address");
        for address in found.with_context(|| format!("cannot find {target}"))? {
            let name = args.name.clone().unwrap_or_else(|| target.host.clone());
            let host = Host { name, address, preference: 0 };
            let place = Place { host, implicit, patience };
            match place.visit(config).await {
                Ok(first) => return Ok((place, first)),
                Err(error) => failure = error.context(format!("no session with {address}")),
            }
        }
        Err(failure)
    }

    async fn visit(&self, config: &Arc<ClientConfig>) -> Result<Visit> {
        visit::visit(&self.host, self.implicit, config, self.patience).await
    }
}

/// One version alone, twice: the second time to see whether the session goes on.
async fn try_version(
    place: &Place,
    observer: &Arc<Observer>,
    name: &'static str,
    version: &[&'static SupportedProtocolVersion],
) -> Result<Version> {
    let old = name == "1.2";
    let mut config = observer.config(version, old)?;
    let mut visit = place.visit(&config).await?;
    let mut exporter = true;
    if old && visit.tls.is_none() {
        // It may be the extended master secret alone that is missing.
        config = observer.config(version, false)?;
        visit = place.visit(&config).await?;
        exporter = false;
    }
    let Some(tls) = visit.tls else {
        let why_not = visit.trouble.map(|trouble| trouble.to_string());
        let (cipher, key_exchange) = (None, None);
        let (resumed, exporter) = (None, None);
        let spoken = false;
        return Ok(Version {
            version: name,
            spoken,
            why_not,
            cipher,
            key_exchange,
            resumed,
            exporter,
        });
    };
    let again = place.visit(&config).await?;
    Ok(Version {
        version: name,
        spoken: true,
        why_not: None,
        cipher: Some(tls.cipher),
        key_exchange: tls.key_exchange,
        resumed: again.tls.is_some().then_some(again.resumed),
        exporter: Some(exporter),
    })
}
