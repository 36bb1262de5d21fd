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
use crate::converted::Converted;

/// A message in the queue, opened when somebody asks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stored<'a> {
    pub(crate) delivery: &'a Delivery,
    pub(crate) entry: &'a Entry,
    /// Read instead: the message as it was converted.
    pub(crate) copy: Option<&'a Converted>,
}

#[async_trait]
impl Readable for Stored<'_> {
    async fn text(&self) -> io::Result<Text> {
        if let Some(copy) = self.copy {
            return Ok(copy.text().clone());
        }
        let content = self.delivery.content(self.entry).await.map_err(io::Error::other)?;
        text_of(content)
    }
}

/// Header and body of what is stored.
pub(crate) fn text_of(content: Arc<dyn Content>) -> io::Result<Text> {
    // The header was bounded at the door; trace field and signatures came on top.
    let start = content.read_at(0, MAX_HEADER + 64 * 1024).map_err(io::Error::other)?;
    let header = header_len(&start).unwrap_or(start.len());
    let body = (header + 2).min(start.len()) as u64;
    let len = content.len().saturating_sub(body);
    let block = HeaderBlock::parse(start.slice(..header));
    Ok(Text { header: block, body: Rope::stored(Arc::new(Octets(content)), body, len) })
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
