//! `message`: the message of the current call.

use std::io;
use std::sync::Arc;

use memchr::memmem::Finder;
use waypost_hooks::FaultKind;
use waypost_mail::Rope;
use waypost_mail::header::FieldView;

use crate::bindings::waypost::policy::message::{Host, Part};
use crate::bindings::waypost::policy::types::Header;
use crate::context::Context;
use crate::mime::{Parts, SMALL};

/// Most octets of one window.
const WINDOW: usize = 256 * 1024;
/// Most header fields of one window.
const FIELDS: u32 = 256;
/// Longest text that is searched for.
const MAX_NEEDLE: usize = 4096;

/// A field as guests see it.
pub(crate) fn header(field: FieldView<'_>) -> Header {
    let value = field.unfolded();
    let lossy = std::str::from_utf8(field.value).is_err();
    Header { id: field.id, name: field.name.to_owned(), value, lossy }
}

impl Context {
    /// Stored octets that cannot be read are the host's fault, and nothing a guest can mend.
    fn unreadable(&mut self, error: &io::Error) -> wasmtime::Error {
        self.call.stopped = Some(FaultKind::Host);
        wasmtime::format_err!("the message cannot be read: {error}")
    }

    async fn parts(&mut self) -> wasmtime::Result<Option<Arc<Parts>>> {
        if let Some(parts) = &self.call.parts {
            return Ok(Some(parts.clone()));
        }
        let Some(text) = self.call.text.clone() else { return Ok(None) };
        let parts = if text.len() <= SMALL {
            Parts::of(&text)
        } else {
            let parsed = tokio::task::spawn_blocking(move || Parts::of(&text)).await;
            parsed.map_err(|error| wasmtime::format_err!("{error}"))?
        };
        let parts = Arc::new(parts.map_err(|error| self.unreadable(&error))?);
        self.call.parts = Some(parts.clone());
        Ok(Some(parts))
    }
}

impl Host for Context {
    async fn headers_named(&mut self, name: String) -> wasmtime::Result<Vec<Header>> {
        let found: Vec<Header> = match &self.call.text {
            Some(text) => {
                let named = |field: &FieldView<'_>| field.name.eq_ignore_ascii_case(&name);
                text.header.views().filter(named).map(header).collect()
            }
            None => Vec::new(),
        };
        let octets = found.iter().map(|header| header.value.len()).sum();
        super::spend_or!(self, octets, Vec::new());
        Ok(found)
    }

    async fn headers(&mut self, start: u32, count: u32) -> wasmtime::Result<Vec<Header>> {
        let found: Vec<Header> = match &self.call.text {
            Some(text) => {
                let window = text.header.views().skip(start as usize);
                window.take(count.min(FIELDS) as usize).map(header).collect()
            }
            None => Vec::new(),
        };
        let octets = found.iter().map(|header| header.value.len()).sum();
        super::spend_or!(self, octets, Vec::new());
        Ok(found)
    }

    async fn header_raw(&mut self, id: u32) -> wasmtime::Result<Option<Vec<u8>>> {
        let text = self.call.text.as_ref();
        let raw = text.and_then(|text| Some(text.header.by_id(id)?.raw.to_vec()));
        super::spend_or!(self, raw.as_ref().map_or(0, Vec::len), None);
        Ok(raw)
    }

    async fn body_size(&mut self) -> wasmtime::Result<u64> {
        super::spend_or!(self, 8, 0);
        Ok(self.call.text.as_ref().map_or(0, |text| text.body.len()))
    }

    async fn read_body(&mut self, offset: u64, len: u32) -> wasmtime::Result<Vec<u8>> {
        let max = (len as usize).min(WINDOW);
        let octets = match &self.call.text {
            Some(text) => text.body.read_at(offset, max),
            None => Ok(Default::default()),
        };
        let octets = octets.map_err(|error| self.unreadable(&error))?;
        super::spend_or!(self, octets.len(), Vec::new());
        Ok(octets.to_vec())
    }

    async fn parts(&mut self) -> wasmtime::Result<Vec<Part>> {
        super::spend_or!(self, 1024, Vec::new());
        let Some(parts) = Context::parts(self).await? else { return Ok(Vec::new()) };
        let part = |(index, part): (usize, &crate::mime::Part)| Part {
            index: u32::try_from(index).unwrap_or(u32::MAX),
            parent: part.parent,
            media_type: part.media_type.clone(),
            charset: part.charset.clone(),
            encoding: part.encoding.clone(),
            file_name: part.file_name.clone(),
            offset: part.offset,
            size: part.size,
        };
        Ok(parts.all.iter().enumerate().map(part).collect())
    }

    async fn read_part(&mut self, index: u32, offset: u64, len: u32) -> wasmtime::Result<Vec<u8>> {
        let Some(parts) = Context::parts(self).await? else { return Ok(Vec::new()) };
        let decoded = tokio::task::spawn_blocking(move || parts.decoded(index)).await;
        let decoded = decoded.map_err(|error| wasmtime::format_err!("{error}"))?;
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(decoded.len());
        let end = start.saturating_add((len as usize).min(WINDOW)).min(decoded.len());
        super::spend_or!(self, end - start, Vec::new());
        Ok(decoded[start..end].to_vec())
    }

    async fn find(&mut self, needle: Vec<u8>, start: u64) -> wasmtime::Result<Option<u64>> {
        super::spend_or!(self, needle.len(), None);
        let Some(text) = &self.call.text else { return Ok(None) };
        if needle.is_empty() || needle.len() > MAX_NEEDLE {
            return Ok(None);
        }
        let body = text.body.clone();
        let found = if body.len() <= SMALL {
            search(&body, &needle, start)
        } else {
            let searched = tokio::task::spawn_blocking(move || search(&body, &needle, start)).await;
            searched.map_err(|error| wasmtime::format_err!("{error}"))?
        };
        found.map_err(|error| self.unreadable(&error))
    }
}

/// Looks window by window; windows overlap so that nothing is missed between them.
fn search(body: &Rope, needle: &[u8], start: u64) -> io::Result<Option<u64>> {
    let finder = Finder::new(needle);
    let mut at = start;
    while at < body.len() {
        let window = body.read_at(at, WINDOW + needle.len() - 1)?;
        if let Some(found) = finder.find(&window) {
            return Ok(Some(at + found as u64));
        }
        at += WINDOW as u64;
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn finds_across_windows() {
        let mut octets = vec![b'.'; WINDOW - 2];
        octets.extend_from_slice(b"needle and needle");
        let body = Rope::from(Bytes::from(octets));
        let first = WINDOW as u64 - 2;
        assert_eq!(search(&body, b"needle", 0).unwrap(), Some(first));
        assert_eq!(search(&body, b"needle", first + 1).unwrap(), Some(first + 11));
        assert_eq!(search(&body, b"needle", u64::MAX).unwrap(), None);
    }
}
