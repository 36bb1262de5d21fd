//! What we know of the peer that brought a message. Written into the trace header, shown to
//! policy, kept with the message.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{Attr, SessionId};

/// The session as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// The session's id.
    pub session: SessionId,
    /// Name of the listener in the configuration.
    pub listener: String,
    /// The peer's address and port. IPv4-mapped addresses are IPv4 here.
    pub client: SocketAddr,
    /// The client's host name, where a trusted peer told it (XCLIENT); never looked up.
    pub client_name: Option<String>,
    /// Our end of the connection.
    pub local: SocketAddr,
    /// Argument of EHLO or HELO, once given.
    pub helo: Option<String>,
    /// The protocol, for `Received: … with` (RFC 3848).
    pub protocol: Protocol,
    /// Transport security, absent in clear text.
    pub tls: Option<TlsFacts>,
    /// The authenticated user.
    pub identity: Option<String>,
    /// The peer may send to anybody: it logged in, or its network is listed. Otherwise only to the
    /// listed recipient domains.
    pub may_relay: bool,
    /// Metadata of the session that policy set.
    pub meta: Vec<Attr>,
}

impl Facts {
    /// Facts for a message this relay makes itself, such as a bounce.
    pub fn internal(session: SessionId) -> Facts {
        let nowhere = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
        Facts {
            session,
            listener: "internal".to_owned(),
            client: nowhere,
            client_name: None,
            local: nowhere,
            helo: None,
            protocol: Protocol::Internal,
            tls: None,
            identity: None,
            may_relay: true,
            meta: Vec::new(),
        }
    }
}

/// How a message came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// After HELO.
    Smtp,
    /// After EHLO.
    Esmtp,
    /// Made by this relay itself.
    Internal,
    /// After LHLO.
    Lmtp,
    /// By a program on this machine, through a socket that knows which user runs it.
    Local,
    /// By an HTTP request.
    Http,
}

/// Transport security of a connection.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TlsFacts {
    /// `1.2` or `1.3`.
    pub version: String,
    /// IANA name of the cipher suite.
    pub cipher: String,
    /// Server name the client asked for.
    pub sni: Option<String>,
    /// Who the client proved to be by a certificate that an authority of ours vouches for. Known
    /// while the session lasts; not kept with the message.
    #[serde(skip)]
    pub certificate: Option<Arc<ClientCertificate>>,
}

/// What a client's certificate says of it, once it was verified.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClientCertificate {
    /// The subject, as RFC 4514 writes it: `CN=printer,O=Example`.
    pub subject: String,
    /// Alternative names of the kind dNSName, in lower case (RFC 5280 §4.2.1.6).
    pub dns_names: Vec<String>,
    /// Alternative names of the kind rfc822Name: mail addresses, as they are written.
    pub addresses: Vec<String>,
    /// SHA-256 of the whole certificate in DER.
    pub sha256: [u8; 32],
}
