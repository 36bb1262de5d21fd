//! A connection, in clear text or encrypted.

use std::io::{self, Write as _};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::server::TlsStream;

/// Octets both ways that come by no socket, such as a pipe in memory. Whether something waits to be read is
/// not known of it.
pub trait Pipe: AsyncRead + AsyncWrite + Send + Unpin + std::fmt::Debug {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + std::fmt::Debug> Pipe for T {}

/// One peer's connection.
#[derive(Debug)]
pub(crate) enum Stream {
    /// In clear text.
    Plain(TcpStream),
    /// Within this machine.
    Unix(UnixStream),
    /// Encrypted.
    Tls(Box<TlsStream<TcpStream>>),
    /// By no socket of the system.
    Piped(Box<dyn Pipe>),
}

impl Stream {
    /// True when the peer has said something that is not read yet. For an encrypted one that may
    /// have arrived together with the end of its handshake.
    pub(crate) fn has_input(&self) -> bool {
        let socket = match self {
            Stream::Plain(socket) => SockRef::from(socket),
            Stream::Unix(socket) => SockRef::from(socket),
            Stream::Tls(stream) if !stream.get_ref().1.wants_read() => return true,
            Stream::Tls(stream) => SockRef::from(stream.get_ref().0),
            Stream::Piped(_) => return false,
        };
        let mut one = [MaybeUninit::uninit()];
        socket.peek(&mut one).is_ok_and(|count| count > 0)
    }

    /// Says a last word to a peer that is not let in, if that can be done at once.
    pub(crate) fn say_at_once(self, words: &[u8]) {
        // Best effort: the peer learns the same from the connection's end.
        let _ = match self {
            Stream::Plain(socket) => socket.into_std().and_then(|mut socket| socket.write(words)),
            Stream::Unix(socket) => socket.into_std().and_then(|mut socket| socket.write(words)),
            Stream::Tls(_) => Ok(0),
            Stream::Piped(mut pipe) => {
                let mut context = Context::from_waker(Waker::noop());
                match Pin::new(&mut pipe).poll_write(&mut context, words) {
                    Poll::Ready(written) => written,
                    Poll::Pending => Ok(0),
                }
            }
        };
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Piped(pipe) => Pin::new(pipe).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Piped(pipe) => Pin::new(pipe).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Unix(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Piped(pipe) => Pin::new(pipe).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Piped(pipe) => Pin::new(pipe).poll_shutdown(cx),
        }
    }
}
