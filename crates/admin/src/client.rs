//! How the command line asks a running program.

use std::io;
use std::path::{Path, PathBuf};

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::{Method, Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use crate::api::Words;

/// Longest answer taken.
const MAX_ANSWER: usize = 1 << 30;
const JSON: &str = "application/json";

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens on the socket.
    #[error("no waypost answers on {0}: is it running, and is this its configuration?")]
    NotRunning(PathBuf),
    /// The socket is another user's.
    #[error("no permission to use {0}: run this as the user waypost runs as, or as root")]
    Denied(PathBuf),
    /// The program refused.
    #[error("{0}")]
    Refused(String),
    /// The connection failed in the middle.
    #[error("asking waypost failed: {0}")]
    Failed(String),
}

/// Asks over a Unix socket, one connection a question.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    /// A client for the program behind `socket`.
    pub fn new(socket: &Path) -> Client {
        Client { socket: socket.to_owned() }
    }

    /// Asks with GET.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        parse(&self.ask(Method::GET, JSON, path, Vec::new()).await?)
    }

    /// Asks with GET for text.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn text(&self, path: &str) -> Result<String, ClientError> {
        let answer = self.ask(Method::GET, "text/plain", path, Vec::new()).await?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }

    /// Asks with POST.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        let body = serde_json::to_vec(body).map_err(failed)?;
        parse(&self.ask(Method::POST, JSON, path, body).await?)
    }

    async fn ask(
        &self,
        method: Method,
        wanted: &str,
        path: &str,
        body: Vec<u8>,
    ) -> Result<Bytes, ClientError> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|e| self.unreachable(&e))?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
        let connection = tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "waypost")
            .header(header::CONTENT_TYPE, JSON)
            .header(header::ACCEPT, wanted)
            .body(Full::new(Bytes::from(body)))
            .map_err(failed)?;
        let response = sender.send_request(request).await.map_err(failed)?;
        let status = response.status();
        let answer = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
        let answer = answer.map_err(failed)?.to_bytes();
        connection.abort();
        if status.is_success() { Ok(answer) } else { Err(refused(status, &answer)) }
    }

    fn unreachable(&self, error: &io::Error) -> ClientError {
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                ClientError::NotRunning(self.socket.clone())
            }
            io::ErrorKind::PermissionDenied => ClientError::Denied(self.socket.clone()),
            _ => failed(error),
        }
    }
}

fn parse<T: DeserializeOwned>(answer: &[u8]) -> Result<T, ClientError> {
    serde_json::from_slice(answer).map_err(failed)
}

fn refused(status: StatusCode, answer: &[u8]) -> ClientError {
    match serde_json::from_slice::<Words>(answer) {
        Ok(words) => ClientError::Refused(words.message),
        Err(_) => {
            ClientError::Refused(format!("{status}: {}", String::from_utf8_lossy(answer).trim()))
        }
    }
}

fn failed(error: impl std::fmt::Display) -> ClientError {
    ClientError::Failed(error.to_string())
}
