//! A stored message, as policy reads it.

use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use waypost_hooks::Readable;
use waypost_mail::header::{MAX_HEADER, header_len};
use waypost_mail::{Entry, HeaderBlock, Rope, Source, Text};
use waypost_queue::Content;

use crate::Delivery;

/// A message in the queue, opened when somebody asks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stored<'a> {
    pub(crate) delivery: &'a Delivery,
    pub(crate) entry: &'a Entry,
}

#[async_trait]
impl Readable for Stored<'_> {
    async fn text(&self) -> io::Result<Text> {
        let content = self.delivery.content(self.entry).await.map_err(io::Error::other)?;
        // The header was bounded at the door; trace field and signatures came on top.
        let start = content.read_at(0, MAX_HEADER + 64 * 1024).map_err(io::Error::other)?;
        let header = header_len(&start).unwrap_or(start.len());
        let body = (header + 2).min(start.len()) as u64;
        let len = content.len().saturating_sub(body);
        let block = HeaderBlock::parse(start.slice(..header));
        Ok(Text { header: block, body: Rope::stored(Arc::new(Octets(content)), body, len) })
    }
}

/// What the spool keeps, as a source of octets.
#[derive(Debug)]
struct Octets(Arc<dyn Content>);

impl Source for Octets {
    fn read_at(&self, offset: u64, len: usize) -> io::Result<Bytes> {
        let octets = self.0.read_at(offset, len).map_err(io::Error::other)?;
        if octets.len() < len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(octets)
    }
}
