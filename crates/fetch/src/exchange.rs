//! One request and its answer over one connection.

use std::error::Error;
use std::pin::pin;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::HeaderMap;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use waypost_mail::fetch::{FetchError, FetchResponse};

/// Most octets of a response's status line and header; also of what is read ahead.
const MAX_HEAD: usize = 32 * 1024;
/// Most fields in it.
const MAX_FIELDS: usize = 100;

/// Sends the request, takes the answer with at most `max_body` octets of its body, and closes.
pub(crate) async fn exchange<S>(
    stream: S,
    request: Request<Full<Bytes>>,
    max_body: usize,
) -> Result<FetchResponse, FetchError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut builder = http1::Builder::new();
    builder.max_headers(MAX_FIELDS).max_header_size(MAX_HEAD).max_buf_size(MAX_HEAD);
    let (mut sender, connection) =
        builder.handshake(TokioIo::new(stream)).await.map_err(|e| failed(&e))?;
    let mut answer = pin!(async move {
        let response = sender.send_request(request).await.map_err(|e| failed(&e))?;
        taken(response, max_body).await
    });
    // In one task: whoever drops it closes the connection.
    tokio::select! {
        answer = &mut answer => return answer,
        _ = connection => {}
    }
    // The connection ended first. What it has read, or why it failed, waits for us.
    answer.await
}

/// Where the response sends us, if it does (RFC 9110 §15.4).
pub(crate) fn location(response: &FetchResponse) -> Option<&str> {
    if !matches!(response.status, 301 | 302 | 303 | 307 | 308) {
        return None;
    }
    let location = response.headers.iter().find(|(name, _)| name == "location");
    location.map(|(_, value)| value.as_str())
}

async fn taken(response: Response<Incoming>, max: usize) -> Result<FetchResponse, FetchError> {
    let (head, body) = response.into_parts();
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        return Err(FetchError::Protocol("it switches protocols without being asked".into()));
    }
    let mut response = FetchResponse {
        status: head.status.as_u16(),
        headers: pairs(&head.headers),
        body: Bytes::new(),
        truncated: false,
    };
    // Nobody will see the body of a redirect.
    if location(&response).is_none() {
        (response.body, response.truncated) = read(body, max).await?;
    }
    Ok(response)
}

/// At most `max` octets, and whether there were more. Trailers are dropped.
async fn read(mut body: Incoming, max: usize) -> Result<(Bytes, bool), FetchError> {
    let mut taken = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|e| failed(&e))?.into_data() else { continue };
        let room = max - taken.len();
        taken.extend_from_slice(&data[..data.len().min(room)]);
        if data.len() > room {
            return Ok((taken.freeze(), true));
        }
    }
    Ok((taken.freeze(), false))
}

fn pairs(fields: &HeaderMap) -> Vec<(String, String)> {
    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    fields.iter().map(|(name, value)| (name.to_string(), text(value.as_bytes()))).collect()
}

fn failed(error: &hyper::Error) -> FetchError {
    if error.is_parse_too_large() {
        return FetchError::TooLarge;
    }
    match error.source() {
        Some(source) => FetchError::Protocol(format!("{error}: {source}")),
        None => FetchError::Protocol(error.to_string()),
    }
}
