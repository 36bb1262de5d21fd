//! A connection in memory: the program has one end of it as a stream, the storm carries the octets
//! in pieces of any size, and cuts it when it likes.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use rand::Rng;
use rand::rngs::StdRng;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Octets that the program may write before somebody takes them.
const WINDOW: usize = 1500;

/// The storm's hand on a connection. Clones are the same connection.
#[derive(Debug, Clone)]
pub struct Wire(Arc<Mutex<Line>>);

/// The program's end. Dropped, it is closed.
#[derive(Debug)]
pub struct Socket(Arc<Mutex<Line>>);

#[derive(Debug, Default)]
struct Line {
    /// Written by the program.
    said: Vec<u8>,
    /// Arrived, and not read by the program.
    arrived: Vec<u8>,
    /// Octets that the program has read in all.
    read: u64,
    /// The peer, or the network, has ended it.
    cut: bool,
    /// The program has.
    closed: bool,
    wakers: Vec<Waker>,
}

/// A connection, as both sides have it.
pub fn connection() -> (Wire, Socket) {
    let line = Arc::new(Mutex::new(Line::default()));
    (Wire(line.clone()), Socket(line))
}

fn lock(line: &Mutex<Line>) -> MutexGuard<'_, Line> {
    line.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Line {
    fn wake(&mut self) {
        self.wakers.drain(..).for_each(Waker::wake);
    }

    fn wait<T>(&mut self, context: &Context<'_>) -> Poll<T> {
        self.wakers.push(context.waker().clone());
        Poll::Pending
    }
}

impl Wire {
    /// True when the program has said something that nobody has taken.
    pub fn has_words(&self) -> bool {
        !lock(&self.0).said.is_empty()
    }

    /// Takes a piece of what the program has said: of any size, often all of it.
    pub fn take(&self, random: &mut StdRng) -> Vec<u8> {
        let mut line = lock(&self.0);
        let count = piece(line.said.len(), random);
        let taken = line.said.drain(..count).collect();
        line.wake();
        taken
    }

    /// Takes all that the program has said.
    pub fn take_all(&self) -> Vec<u8> {
        let mut line = lock(&self.0);
        let taken = std::mem::take(&mut line.said);
        line.wake();
        taken
    }

    /// Lets octets arrive at the program.
    pub fn give(&self, octets: &[u8]) {
        let mut line = lock(&self.0);
        line.arrived.extend_from_slice(octets);
        line.wake();
    }

    /// Octets that the program has read in all.
    pub fn read(&self) -> u64 {
        lock(&self.0).read
    }

    /// Ends it: what has arrived can still be read.
    pub fn cut(&self) {
        let mut line = lock(&self.0);
        line.cut = true;
        line.wake();
    }

    /// True when the program has closed its end.
    pub fn is_closed(&self) -> bool {
        lock(&self.0).closed
    }
}

/// How many of so many octets go at once: often all, sometimes a single one.
pub fn piece(len: usize, random: &mut StdRng) -> usize {
    if len == 0 {
        return 0;
    }
    match random.random_range(0..4) {
        0 => 1 + random.random_range(0..len.min(3)),
        1 => 1 + random.random_range(0..len),
        _ => len,
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        lock(&self.0).closed = true;
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut line = lock(&self.0);
        if line.arrived.is_empty() && !line.cut {
            return line.wait(context);
        }
        let count = line.arrived.len().min(buffer.remaining());
        let octets: Vec<u8> = line.arrived.drain(..count).collect();
        buffer.put_slice(&octets);
        line.read += count as u64;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut line = lock(&self.0);
        if line.cut || line.closed {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let count = octets.len().min(WINDOW.saturating_sub(line.said.len()));
        if count == 0 && !octets.is_empty() {
            return line.wait(context);
        }
        line.said.extend_from_slice(&octets[..count]);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        lock(&self.0).closed = true;
        Poll::Ready(Ok(()))
    }
}
