//! Where a recipient's mail goes next and how safely, as configuration or policy chose it.

use std::fmt;

use serde::{Deserialize, Serialize};
use waypost_smtp::Domain;

/// Hops in order of preference, and what the way there must be like. Stored with the message.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Route {
    /// Tried in order. Never empty where [`Route::new`] made it.
    pub hops: Vec<NextHop>,
    /// Queue lane for scheduling and limits; absent means the lane of the first hop.
    pub lane: Option<String>,
    /// Name of the pool of source addresses in the configuration.
    pub source: Option<String>,
    /// The least the connection must offer.
    pub tls: TlsLevel,
    /// Name of the credentials in the configuration to log in with.
    pub credentials: Option<String>,
    /// An operator chose it for mail that waited, or policy after an attempt: retries do not decide
    /// anew.
    pub fixed: bool,
    /// Whether what the recipient's side publishes about TLS counts beside `tls`.
    pub heed: Heed,
    /// Name of the certificate in the configuration that is shown to hosts which ask for one.
    pub certificate: Option<String>,
    /// Whether a copy is converted for hosts that cannot take the message as it is.
    pub convert: Convert,
}

/// Whether a message is converted on a copy for a next hop that lacks 8BITMIME, BINARYMIME or SMTPUTF8.
/// Where it is not, it bounces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Convert {
    /// Never.
    Never,
    /// Unless that breaks a signature of somebody else, or needs a header written anew that others than
    /// our own submitters wrote in UTF-8 (RFC 6531 §3.2).
    #[default]
    Unsigned,
    /// Always, but for what is signed within the message (RFC 1847).
    Always,
}

/// Whether what the recipient's side publishes about TLS counts. Absent: as for all mail, which leaves
/// hosts that the configuration names alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Heed {
    /// TLSA records that DNSSEC vouches for (RFC 7672).
    pub dane: Option<bool>,
    /// Policies of domains (RFC 8461); only by MX.
    pub mta_sts: Option<bool>,
}

impl Route {
    /// A route by one hop.
    pub fn new(hop: NextHop, tls: TlsLevel) -> Route {
        Route {
            hops: vec![hop],
            lane: None,
            source: None,
            tls,
            credentials: None,
            heed: Heed::default(),
            fixed: false,
            certificate: None,
            convert: Convert::default(),
        }
    }

    /// True when mail that goes this way is taken and given to nobody.
    pub fn is_discard(&self) -> bool {
        self.hops == [NextHop::Discard]
    }

    /// What the schedule groups by: the lane if one was chosen, else the first hop.
    pub fn destination(&self) -> String {
        match (&self.lane, self.hops.first()) {
            (Some(lane), _) => lane.clone(),
            (None, Some(hop)) => hop.to_string(),
            (None, None) => "nowhere".to_owned(),
        }
    }
}

/// One next hop.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum NextHop {
    /// The mail exchangers of this domain (RFC 5321 §5.1); an address literal means itself.
    Mx(Domain),
    /// This host, without MX lookup.
    Host {
        /// A host name, or an address in text form.
        host: String,
        /// TCP port.
        port: u16,
        /// TLS from the first byte, as on port 465.
        implicit_tls: bool,
    },
    /// This host, by LMTP (RFC 2033), without MX lookup.
    Lmtp {
        /// A host name, or an address in text form.
        host: String,
        /// TCP port; never 25 (RFC 2033 §5).
        port: u16,
    },
    /// Nowhere: it counts as settled, and nobody is told.
    Discard,
}

impl fmt::Display for NextHop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NextHop::Mx(domain) => domain.fmt(f),
            NextHop::Host { host, port, .. } => place(f, host, *port),
            NextHop::Lmtp { host, port } => {
                f.write_str("lmtp:")?;
                place(f, host, *port)
            }
            NextHop::Discard => f.write_str("discard"),
        }
    }
}

fn place(f: &mut fmt::Formatter<'_>, host: &str, port: u16) -> fmt::Result {
    if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
}

/// The least a connection to the next hop must offer.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum TlsLevel {
    /// Never use TLS.
    Never,
    /// Encrypt when offered, whatever the certificate; go on in clear text when not (RFC 7435).
    #[default]
    Opportunistic,
    /// Encrypt or do not send; the certificate is not checked.
    Encrypt,
    /// Encrypt to a host that proves its name, or do not send.
    Verify,
}
