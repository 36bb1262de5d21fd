//! The body of a request as it comes in, within its limits.

use axum::body::Body;
use axum::http::StatusCode;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use tokio::time::{Instant, timeout_at};
use waypost_smtp::data::MAX_TEXT_LINE;

use super::answer::Problem;
use crate::{HttpSettings, Limits};

/// A body that is read piece by piece.
#[derive(Debug)]
pub(super) struct Incoming {
    body: Body,
    /// The longest that each piece may take.
    patience: std::time::Duration,
    /// When all of it must be there.
    ends: Instant,
}

impl Incoming {
    pub(super) fn new(body: Body, limits: &Limits, http: &HttpSettings) -> Incoming {
        Incoming { body, patience: limits.data_timeout, ends: Instant::now() + http.body_timeout }
    }

    /// The next piece; nothing at the end.
    ///
    /// # Errors
    /// When the peer is too slow, or gone.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Problem> {
        loop {
            let deadline = (Instant::now() + self.patience).min(self.ends);
            let frame = timeout_at(deadline, self.body.frame()).await.map_err(|_| {
                Problem::new(StatusCode::REQUEST_TIMEOUT, "the body comes too slowly")
            })?;
            match frame {
                None => return Ok(None),
                Some(Err(_)) => {
                    return Err(Problem::new(StatusCode::BAD_REQUEST, "the body broke off"));
                }
                // Trailers say nothing here.
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data()
                        && !data.is_empty()
                    {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }

    /// All of it, at most `most` octets.
    ///
    /// # Errors
    /// As [`Incoming::next`], and when it is larger.
    pub(super) async fn whole(&mut self, most: u64) -> Result<Bytes, Problem> {
        let mut all = BytesMut::new();
        while let Some(piece) = self.next().await? {
            if (all.len() + piece.len()) as u64 > most {
                return Err(too_big(most));
            }
            all.extend_from_slice(&piece);
        }
        Ok(all.freeze())
    }
}

pub(super) fn too_big(most: u64) -> Problem {
    let detail = format!("the body has more than {most} octets");
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail)
}

/// Makes every line end CRLF, the last one too: files have other ends, and none may leave.
#[derive(Debug, Default)]
pub(super) struct Lines {
    last: u8,
    /// Octets written.
    pub(super) size: u64,
    pub(super) has_nul: bool,
    /// A line has more octets than lines may have (RFC 5322 §2.1.1).
    pub(super) has_long_line: bool,
    /// Octets of the line so far.
    column: u64,
    pub(super) eight_bit: bool,
}

impl Lines {
    pub(super) fn write(&mut self, piece: &[u8]) -> Bytes {
        let mut out = BytesMut::with_capacity(piece.len() + piece.len() / 32 + 2);
        for &octet in piece {
            if self.last == b'\r' && octet != b'\n' {
                out.extend_from_slice(b"\n");
                self.column = 0;
            }
            if octet == b'\n' && self.last != b'\r' {
                out.extend_from_slice(b"\r");
            }
            out.extend_from_slice(&[octet]);
            self.last = octet;
            match octet {
                b'\n' => self.column = 0,
                b'\r' => {}
                _ => self.column += 1,
            }
            self.has_long_line |= self.column > MAX_TEXT_LINE;
        }
        self.has_nul |= piece.contains(&0);
        self.eight_bit |= !piece.is_ascii();
        self.size += out.len() as u64;
        out.freeze()
    }

    /// What the last line lacks.
    pub(super) fn finish(&mut self) -> Bytes {
        let end: &'static [u8] = match self.last {
            b'\n' => b"",
            b'\r' => b"\n",
            _ => b"\r\n",
        };
        self.size += end.len() as u64;
        self.last = b'\n';
        Bytes::from_static(end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_as_they_must_however_they_are_cut() {
        for (given, wanted) in [
            ("a\nb\n", "a\r\nb\r\n"),
            ("a\r\nb", "a\r\nb\r\n"),
            ("a\rb\r", "a\r\nb\r\n"),
            ("\n\n", "\r\n\r\n"),
            ("", "\r\n"),
        ] {
            for size in 1..4 {
                let mut lines = Lines::default();
                let mut out = Vec::new();
                for piece in given.as_bytes().chunks(size) {
                    out.extend_from_slice(&lines.write(piece));
                }
                out.extend_from_slice(&lines.finish());
                assert_eq!(String::from_utf8(out).unwrap(), wanted, "{given:?} by {size}");
                assert_eq!(lines.size, wanted.len() as u64);
            }
        }
        let mut lines = Lines::default();
        lines.write("ä\0".as_bytes());
        assert!(lines.has_nul && lines.eight_bit && !lines.has_long_line);
        let longest = "x".repeat(998) + "\n";
        lines.write(longest.repeat(2).as_bytes());
        assert!(lines.has_long_line, "two octets were there before");
        let mut lines = Lines::default();
        lines.write(longest.repeat(2).as_bytes());
        assert!(!lines.has_long_line);
    }
}
