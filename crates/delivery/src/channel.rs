//! A conversation's bytes over a stream, with a limit on every wait.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadBuf};
use tokio::time::{Instant, timeout_at};
use tracing::debug;
use waypost_smtp::Phase;
use waypost_smtp::client::{Control, Session, Transaction};

use crate::connection::Failure;
use crate::tape::Tape;
use crate::{Metrics, Stream, Timeouts};

/// Octets read at once.
const READ: usize = 4096;
/// How long a host that closes, or is closed, is waited for.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What the three conversations of a client have in common.
pub(crate) trait Talk {
    fn push(&mut self, bytes: &[u8]);
    fn take_output(&mut self) -> Vec<u8>;
    fn phase(&self) -> Phase;
}

macro_rules! talk {
    ($($conversation:ty),*) => {$(
        impl Talk for $conversation {
            fn push(&mut self, bytes: &[u8]) {
                self.push(bytes);
            }
            fn take_output(&mut self) -> Vec<u8> {
                self.take_output()
            }
            fn phase(&self) -> Phase {
                self.phase()
            }
        }
    )*};
}
talk!(Session, Transaction, Control);

/// One open connection, as bytes.
#[derive(Debug)]
pub(crate) struct Channel {
    stream: Box<dyn Stream>,
    buffer: Box<[u8]>,
    timeouts: Timeouts,
    metrics: Metrics,
    /// Where what is said is written down.
    pub(crate) tape: Tape,
    /// Since when a reply is waited for, and in which phase.
    waiting: Option<(Phase, Instant)>,
}

impl Channel {
    pub(crate) fn new(
        stream: Box<dyn Stream>,
        timeouts: Timeouts,
        metrics: Metrics,
        tape: Tape,
    ) -> Channel {
        let buffer = vec![0; READ].into_boxed_slice();
        Channel { stream, buffer, timeouts, metrics, tape, waiting: None }
    }

    /// Gives the stream away, for a handshake over it.
    pub(crate) fn into_stream(self) -> Box<dyn Stream> {
        self.stream
    }

    /// Says what the conversation has to say, then waits for more of the answer.
    pub(crate) async fn exchange(&mut self, talk: &mut impl Talk) -> Result<(), Failure> {
        let output = talk.take_output();
        if !output.is_empty() {
            let limit = self.timeouts.of(talk.phase());
            self.tape.say(talk.phase(), &output);
            self.write(&output, limit, talk).await?;
            self.waiting = None;
        }
        self.hear(talk).await
    }

    /// A host has the time of its phase for each line: one that drips octets gains nothing.
    async fn hear(&mut self, talk: &mut impl Talk) -> Result<(), Failure> {
        let phase = talk.phase();
        let since = match self.waiting {
            Some((known, since)) if known == phase => since,
            _ => Instant::now(),
        };
        self.waiting = Some((phase, since));
        let read = self.stream.read(&mut self.buffer);
        let count = match timeout_at(since + self.timeouts.of(phase), read).await {
            Err(_) => return Err(Failure::TimedOut(phase)),
            Ok(Err(error)) => return Err(lost(phase, &error)),
            Ok(Ok(0)) => return Err(Failure::Lost(phase)),
            Ok(Ok(count)) => count,
        };
        let bytes = &self.buffer[..count];
        self.tape.hear(phase, bytes);
        talk.push(bytes);
        if bytes.contains(&b'\n') {
            self.metrics.waited(phase, since.elapsed());
            self.tape.waited(phase, since.elapsed());
            self.waiting = None;
        }
        Ok(())
    }

    /// Writes all of `bytes` within `limit`. While the host does not take them it is listened to:
    /// it may answer early, or not read on before we do (RFC 2920 §3.1).
    pub(crate) async fn write(
        &mut self,
        bytes: &[u8],
        limit: Duration,
        talk: &mut impl Talk,
    ) -> Result<(), Failure> {
        let phase = talk.phase();
        let deadline = Instant::now() + limit;
        match timeout_at(deadline, self.write_all(bytes, talk)).await {
            Err(_) => Err(Failure::TimedOut(phase)),
            Ok(Err(error)) => Err(lost(phase, &error)),
            Ok(Ok(())) => {
                self.metrics.sent.inc_by(bytes.len() as u64);
                Ok(())
            }
        }
    }

    async fn write_all(&mut self, bytes: &[u8], talk: &mut impl Talk) -> io::Result<()> {
        let mut written = 0;
        let (stream, buffer, tape) = (&mut self.stream, &mut self.buffer, &self.tape);
        poll_fn(|context| {
            loop {
                let mut stream = Pin::new(&mut **stream);
                let progress = if written < bytes.len() {
                    stream.as_mut().poll_write(context, &bytes[written..])?
                } else {
                    match stream.as_mut().poll_flush(context)? {
                        Poll::Ready(()) => return Poll::Ready(Ok(())),
                        Poll::Pending => Poll::Pending,
                    }
                };
                match progress {
                    Poll::Ready(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    Poll::Ready(count) => written += count,
                    Poll::Pending => {
                        let mut heard = ReadBuf::new(buffer);
                        match stream.poll_read(context, &mut heard)? {
                            Poll::Pending => return Poll::Pending,
                            Poll::Ready(()) if heard.filled().is_empty() => {
                                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
                            }
                            Poll::Ready(()) => {
                                tape.hear(talk.phase(), heard.filled());
                                talk.push(heard.filled());
                            }
                        }
                    }
                }
            }
        })
        .await
    }

    /// The connection broke while we wrote: what the host said before that, if anything.
    pub(crate) async fn last_words(&mut self, talk: &mut impl Talk) {
        let deadline = Instant::now() + LAST_WORDS;
        while let Ok(Ok(count @ 1..)) =
            timeout_at(deadline, self.stream.read(&mut self.buffer)).await
        {
            self.tape.hear(talk.phase(), &self.buffer[..count]);
            talk.push(&self.buffer[..count]);
        }
    }

    /// True when nothing arrived since the last conversation, not even the end. What does arrive
    /// is a 421 or not meant for us.
    pub(crate) async fn is_quiet(&mut self) -> bool {
        let (stream, buffer) = (&mut self.stream, &mut self.buffer);
        poll_fn(|context| {
            let mut heard = ReadBuf::new(buffer);
            Poll::Ready(Pin::new(&mut **stream).poll_read(context, &mut heard).is_pending())
        })
        .await
    }

    /// Ends the stream as its protocol has it: TLS says that nothing was cut off.
    pub(crate) async fn close(mut self) {
        let deadline = Instant::now() + LAST_WORDS;
        // The other end may have closed first.
        let _ = timeout_at(deadline, self.stream.shutdown()).await;
    }

    pub(crate) fn timeouts(&self) -> &Timeouts {
        &self.timeouts
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }
}

fn lost(phase: Phase, error: &io::Error) -> Failure {
    debug!(%phase, %error, "connection lost");
    Failure::Lost(phase)
}
