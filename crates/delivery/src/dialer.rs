//! Opening TCP connections: the seam where tests put their own network.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream};

use crate::SourceAddress;
use crate::proxy::CannotLeave;

/// Bytes both ways: a TCP connection, TLS over one, or a test's pipe.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin + fmt::Debug {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + fmt::Debug> Stream for T {}

/// Opens connections. The caller bounds the time it may take.
#[async_trait]
pub trait Dialer: Send + Sync + fmt::Debug {
    /// A connection to `address`, from the source `from` where one is given.
    ///
    /// # Errors
    /// What the system says when there is none.
    async fn dial(
        &self,
        address: SocketAddr,
        from: Option<&SourceAddress>,
    ) -> io::Result<Box<dyn Stream>>;
}

/// Dials over TCP.
#[derive(Debug, Clone, Copy, Default)]
pub struct TcpDialer;

#[async_trait]
impl Dialer for TcpDialer {
    async fn dial(
        &self,
        address: SocketAddr,
        from: Option<&SourceAddress>,
    ) -> io::Result<Box<dyn Stream>> {
        let stream = match from {
            None => TcpStream::connect(address).await?,
            Some(SourceAddress { proxy: Some(proxy), address: from, .. }) => {
                proxy.dial(address, *from).await?
            }
            Some(SourceAddress { address: from, .. }) => {
                let socket = match address {
                    SocketAddr::V4(_) => TcpSocket::new_v4()?,
                    SocketAddr::V6(_) => TcpSocket::new_v6()?,
                };
                socket.bind(SocketAddr::new(*from, 0)).map_err(|error| {
                    let text = format!("cannot send from {from}: {error}; is it an address here?");
                    CannotLeave::error(text)
                })?;
                socket.connect(address).await?
            }
        };
        // Every group of commands leaves in one write; waiting for more would only add delay.
        stream.set_nodelay(true)?;
        Ok(Box::new(stream))
    }
}
