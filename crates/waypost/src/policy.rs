//! What the program lends to the plugins it runs, and the watch over their files.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use tracing::{info, warn};
use waypost_dns::{DnsError, Hickory, Resolver as _};
use waypost_fetch::Client;
use waypost_mail::{Addresses, Clock, Ledger};
use waypost_plugin::{Found, Lookup, LookupError, Services};

use crate::control::Controls;

/// Requests to the web under way at once, for all plugins together.
const WEB_REQUESTS: usize = 64;
/// How often files of plugins are looked at, and for how many looks in a row they must be the same.
const LOOK: Duration = Duration::from_millis(250);
const QUIET_LOOKS: u32 = 2;

/// What plugins stand on.
pub(crate) fn services(
    clock: Arc<dyn Clock>,
    resolver: &Arc<Hickory>,
    roots: rustls::RootCertStore,
    ledger: Arc<dyn Ledger>,
) -> anyhow::Result<Services> {
    let names = Names(resolver.clone());
    let config = waypost_fetch::Config { roots, max_concurrent: WEB_REQUESTS };
    let fetch = Client::new(config, Arc::new(names.clone()))?;
    Ok(Services { clock, lookup: Arc::new(names), fetch: Arc::new(fetch), ledger })
}

/// The house's resolver, as plugins and the web client ask it.
#[derive(Clone)]
struct Names(Arc<Hickory>);

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Names")
    }
}

#[async_trait]
impl Lookup for Names {
    async fn lookup(&self, name: &str, kind: &str) -> Result<Found, LookupError> {
        let answer = self.0.lookup(name, kind).await.map_err(|error| match error {
            DnsError::BadName(_) => LookupError::Invalid(error.to_string()),
            DnsError::TimedOut { .. } => LookupError::TimedOut,
            other => LookupError::Failed(other.to_string()),
        })?;
        Ok(Found {
            records: answer.records,
            nxdomain: answer.nxdomain,
            secure: answer.secure,
            ttl: u32::try_from(answer.ttl.as_secs()).unwrap_or(u32::MAX),
        })
    }
}

#[async_trait]
impl Addresses for Names {
    async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, String> {
        // With the dot no search list is tried.
        let complete = format!("{}.", host.trim_end_matches('.'));
        self.0.addresses(&complete).await.map_err(|error| error.to_string())
    }
}

/// What tells that a file is another one.
type Looks = BTreeMap<PathBuf, Option<(u64, i64, i64, u64)>>;

/// Reloads the policy when a plugin's file has changed and is quiet again; ends with the controls.
pub(crate) async fn watch(controls: Weak<Controls>) {
    let mut known: Option<Looks> = None;
    let (mut last, mut quiet) = (Looks::new(), 0);
    loop {
        tokio::time::sleep(LOOK).await;
        let Some(controls) = controls.upgrade() else { return };
        let files = controls.plugin_files();
        let Ok(looks) = tokio::task::spawn_blocking(move || look(files)).await else { continue };
        quiet = if looks == last { quiet + 1 } else { 0 };
        last = looks;
        if quiet < QUIET_LOOKS || known.as_ref() == Some(&last) {
            continue;
        }
        let first = known.replace(last.clone()).is_none();
        if first {
            continue;
        }
        info!("a plugin's file has changed, the policy is read again");
        let change = waypost_plugin::Change::by("file watch");
        if let Err(problem) = controls.reload_policy(change).await {
            warn!("the policy was not reloaded, the running one stays: {problem}");
        }
    }
}

fn look(files: Vec<PathBuf>) -> Looks {
    let one = |file: PathBuf| {
        let seen = fs::metadata(&file).ok();
        let seen = seen.map(|m| (m.len(), m.mtime(), m.mtime_nsec(), m.ino()));
        (file, seen)
    };
    files.into_iter().map(one).collect()
}
