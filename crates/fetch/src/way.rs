//! The way to a server: its addresses, looked up once and checked, and a connection to one of them.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use waypost_mail::fetch::{Addresses, Allow, FetchError, FetchResponse, Origin, Scheme};

use crate::dialer::Dialer;
use crate::exchange::exchange;
use crate::public::is_public;

/// Most addresses of one host tried.
const MAX_TRIED: usize = 8;

/// How servers are found and spoken to.
#[derive(Debug)]
pub(crate) struct Way {
    addresses: Arc<dyn Addresses>,
    dialer: Arc<dyn Dialer>,
    tls: Arc<ClientConfig>,
}

impl Way {
    pub(crate) fn new(
        roots: RootCertStore,
        addresses: Arc<dyn Addresses>,
        dialer: Arc<dyn Dialer>,
    ) -> Result<Way, rustls::Error> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Way { addresses, dialer, tls: Arc::new(tls) })
    }

    /// Where the origin is, all of it allowed. An address that the origin names is the one the
    /// operator wrote; a name may lead to public addresses only, unless `private` allows others, and
    /// one that leads to others besides is not trusted at all.
    pub(crate) async fn addresses(
        &self,
        origin: &Origin,
        private: bool,
    ) -> Result<Vec<SocketAddr>, FetchError> {
        if let Some(ip) = origin.ip() {
            return Ok(vec![SocketAddr::new(ip, origin.port)]);
        }
        let host = origin.host.to_string();
        let found = self.addresses.addresses(&host).await;
        let ips = found.map_err(|e| FetchError::Unreachable(format!("{host}: {e}")))?;
        if let Some(ip) = ips.iter().find(|ip| !private && !is_public(**ip)) {
            return Err(FetchError::Denied(format!(
                "{host} leads to {ip}, which is no public address; \
                 if that is meant, a rule must name the address itself"
            )));
        }
        if ips.is_empty() {
            return Err(FetchError::Unreachable(format!("{host} has no address")));
        }
        let socket = |ip: IpAddr| SocketAddr::new(ip.to_canonical(), origin.port);
        Ok(ips.into_iter().take(MAX_TRIED).map(socket).collect())
    }

    /// Sends the request to one of `addresses`, which were checked, and takes the answer.
    pub(crate) async fn send(
        &self,
        origin: &Origin,
        addresses: &[SocketAddr],
        request: Request<Full<Bytes>>,
        allow: &Allow,
        deadline: Instant,
    ) -> Result<FetchResponse, FetchError> {
        let stream = self.dial(addresses, deadline).await?;
        match origin.scheme {
            Scheme::Http => exchange(stream, request, allow.max_response).await,
            Scheme::Https => {
                exchange(self.handshake(origin, stream).await?, request, allow.max_response).await
            }
        }
    }

    /// The first address that takes the connection. Each gets an equal part of the time that is
    /// left, so that one that is silent does not use it up.
    async fn dial(
        &self,
        addresses: &[SocketAddr],
        deadline: Instant,
    ) -> Result<TcpStream, FetchError> {
        let mut failures = Vec::new();
        for (left, &address) in (1..=addresses.len()).rev().zip(addresses) {
            let part = deadline.duration_since(Instant::now()) / u32::try_from(left).unwrap_or(1);
            match timeout(part, self.dialer.dial(address)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => failures.push(format!("{address}: {error}")),
                Err(_) if left == 1 => return Err(FetchError::TimedOut),
                Err(_) => failures.push(format!("{address}: silent for {part:?}")),
            }
        }
        Err(FetchError::Unreachable(failures.join("; ")))
    }

    /// TLS with a server that proves to be the origin's host (RFC 9110 §4.3.4).
    async fn handshake(
        &self,
        origin: &Origin,
        stream: TcpStream,
    ) -> Result<TlsStream<TcpStream>, FetchError> {
        let failed = |error: String| FetchError::Tls(format!("{origin}: {error}"));
        let name = match origin.ip() {
            Some(ip) => ServerName::from(ip),
            None => {
                ServerName::try_from(origin.host.to_string()).map_err(|e| failed(e.to_string()))?
            }
        };
        let connector = TlsConnector::from(self.tls.clone());
        connector.connect(name, stream).await.map_err(|error| match error.get_ref() {
            Some(inner) if inner.is::<rustls::Error>() => failed(error.to_string()),
            // It is closed, or nothing comes: that says nothing about whom it belongs to.
            _ => FetchError::Unreachable(format!("{origin}: {error}")),
        })
    }
}
