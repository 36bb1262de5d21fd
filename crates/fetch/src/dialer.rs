//! Opening TCP connections: the seam where tests put their own network.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use async_trait::async_trait;
use tokio::net::TcpStream;

/// Opens connections. The caller bounds the time it may take, and has checked the address.
#[async_trait]
pub trait Dialer: Send + Sync + fmt::Debug {
    /// A connection to `address`.
    ///
    /// # Errors
    /// What the system says when there is none.
    async fn dial(&self, address: SocketAddr) -> io::Result<TcpStream>;
}

/// Dials as the system routes.
#[derive(Debug, Clone, Copy, Default)]
pub struct TcpDialer;

#[async_trait]
impl Dialer for TcpDialer {
    async fn dial(&self, address: SocketAddr) -> io::Result<TcpStream> {
        TcpStream::connect(address).await
    }
}
