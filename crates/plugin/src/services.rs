//! What the program lends to plugins: the names, the web, the time of day, and a place to keep things.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use waypost_mail::{Clock, Fetch, Ledger};

use crate::bucket::Buckets;
use crate::kv::Store;
use crate::table::Tables;
use crate::{Bucket, Secret};

/// What the room stands on.
#[derive(Clone)]
pub struct Services {
    /// The time of day.
    pub clock: Arc<dyn Clock>,
    /// DNS.
    pub lookup: Arc<dyn Lookup>,
    /// The web.
    pub fetch: Arc<dyn Fetch>,
    /// Where `kv` outlives a restart.
    pub ledger: Arc<dyn Ledger>,
}

impl fmt::Debug for Services {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Services").finish_non_exhaustive()
    }
}

/// Questions to DNS of any type.
#[async_trait]
pub trait Lookup: Send + Sync + fmt::Debug {
    /// What DNS says about `name`; `kind` is a record type in lower case, such as `txt`.
    async fn lookup(&self, name: &str, kind: &str) -> Result<Found, LookupError>;
}

/// What DNS says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// The records in presentation form; the strings of a TXT record joined.
    pub records: Vec<String>,
    /// The name does not exist.
    pub nxdomain: bool,
    /// Every record was validated by DNSSEC.
    pub secure: bool,
    /// Seconds for which it holds.
    pub ttl: u32,
}

/// Why DNS says nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LookupError {
    /// The question makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// No answer came in time.
    #[error("no answer in time")]
    TimedOut,
    /// The servers failed, or the answer is not to be trusted.
    #[error("{0}")]
    Failed(String),
}

/// What plugins of one generation reach. State (`kv`, buckets) outlives the generation.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) services: Services,
    pub(crate) kv: Arc<Store>,
    pub(crate) buckets: Arc<Buckets>,
    pub(crate) tables: Arc<Tables>,
    pub(crate) limits: Arc<BTreeMap<String, Bucket>>,
    pub(crate) secrets: Arc<BTreeMap<String, Secret>>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}
