//! One HTTPS client for policy files, reports, tokens and plugins.
//!
//! Who asks says what is allowed, and nothing else is asked: [`Client`] holds the URL against the
//! rules, looks the host up once, refuses addresses that are not public, goes to exactly the ones
//! it has checked, and takes no more time and octets than allowed. It follows redirects within one
//! origin only, where its caller wants that at all. It speaks HTTP/1.1 over a connection for each request, keeps no cookies, knows no
//! proxies and decompresses nothing.

#![forbid(unsafe_code)]

mod call;
mod dialer;
mod exchange;
mod public;
mod target;
mod way;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rustls::RootCertStore;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};
use waypost_mail::fetch::{Addresses, Allow, Fetch, FetchError, FetchRequest, FetchResponse};

use crate::call::Call;
use crate::target::Target;
use crate::way::Way;

pub use dialer::{Dialer, TcpDialer};
pub use public::is_public;

/// Longest time for one request, whatever is allowed.
const LONGEST: Duration = Duration::from_secs(3600);
/// Most redirects followed for one request.
const MAX_REDIRECTS: usize = 3;

/// What the client needs to know.
#[derive(Debug, Clone)]
pub struct Config {
    /// The authorities that may vouch for a server's name.
    pub roots: RootCertStore,
    /// Most requests at a time, at least 1; others wait for their turn.
    pub max_concurrent: usize,
}

/// TLS cannot be set up on this machine.
#[derive(Debug, thiserror::Error)]
#[error("TLS towards web servers cannot be set up: {0}")]
pub struct SetupError(#[from] rustls::Error);

/// Asks web servers, within what each caller is allowed.
#[derive(Debug)]
pub struct Client {
    way: Way,
    turns: Semaphore,
}

impl Client {
    /// A client that finds hosts by `addresses` and connects over TCP.
    ///
    /// # Errors
    /// When the cryptographic provider offers none of TLS 1.2 and 1.3.
    pub fn new(config: Config, addresses: Arc<dyn Addresses>) -> Result<Client, SetupError> {
        Client::with_dialer(config, addresses, Arc::new(TcpDialer))
    }

    /// The same with another way of connecting to an address.
    ///
    /// # Errors
    /// As [`Client::new`].
    pub fn with_dialer(
        config: Config,
        addresses: Arc<dyn Addresses>,
        dialer: Arc<dyn Dialer>,
    ) -> Result<Client, SetupError> {
        let turns = config.max_concurrent.clamp(1, Semaphore::MAX_PERMITS);
        let way = Way::new(config.roots, addresses, dialer)?;
        Ok(Client { way, turns: Semaphore::new(turns) })
    }

    async fn ask(
        &self,
        request: FetchRequest,
        allow: &Allow,
        deadline: Instant,
    ) -> Result<FetchResponse, FetchError> {
        let mut target = Target::parse(&request.url)?;
        let mut call = Call::new(request, allow.max_request)?;
        target.check(call.method(), &allow.rules)?;
        let _turn = self.turns.acquire().await.map_err(|_| FetchError::TimedOut)?;
        // Once for all redirects too: they stay within the origin, so what was checked stays true.
        let addresses = self.way.addresses(target.origin(), allow.private).await?;
        for _ in 0..=MAX_REDIRECTS {
            let request = call.request(&target)?;
            let response =
                self.way.send(target.origin(), &addresses, request, allow, deadline).await?;
            let location = exchange::location(&response).filter(|_| allow.redirects);
            let Some(location) = location else { return Ok(response) };
            target = target.follow(location)?;
            call = call.redirected(response.status);
            target.check(call.method(), &allow.rules)?;
        }
        Err(FetchError::Protocol(format!("{target} redirects more than {MAX_REDIRECTS} times")))
    }
}

#[async_trait]
impl Fetch for Client {
    async fn fetch(
        &self,
        request: FetchRequest,
        allow: &Allow,
    ) -> Result<FetchResponse, FetchError> {
        let deadline = Instant::now() + request.timeout.min(allow.max_timeout).min(LONGEST);
        let answer = timeout_at(deadline, self.ask(request, allow, deadline)).await;
        answer.unwrap_or(Err(FetchError::TimedOut))
    }
}
