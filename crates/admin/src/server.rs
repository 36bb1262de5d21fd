//! Answers operators.

use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::extract::{Path as UrlPath, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use tokio::net::{TcpListener, UnixListener};
use tracing::{error, info};
use waypost_history::{History, Pen};
use waypost_mail::MessageId;
use waypost_queue::Queue;

use crate::Control;
use crate::api::{
    Entries, ExplainRequest, LiftBans, Lifted, ListSuppressions, PolicyReload, PolicyRollback,
    ShowSuppressions, Suppress, Unsuppress, Words,
};

mod queue;
mod why;

/// Sockets that operators ask through.
#[derive(Debug)]
pub struct Bound {
    unix: std::os::unix::net::UnixListener,
    path: PathBuf,
    tcp: Option<std::net::TcpListener>,
}

impl Bound {
    /// Binds the Unix socket at `path`, readable and writable by its owner alone, and `tcp` if given.
    /// A socket that nobody answers on is left over and replaced.
    ///
    /// # Errors
    /// When another program answers on the socket, or the system refuses.
    pub fn bind(path: &Path, tcp: Option<SocketAddr>) -> io::Result<Bound> {
        if let Ok(there) = fs::symlink_metadata(path) {
            if !there.file_type().is_socket() {
                let text = format!("{} is a file and no socket; it is left alone", path.display());
                return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
            }
            if StdUnixStream::connect(path).is_ok() {
                return Err(io::Error::new(
                    io::ErrorKind::AddrInUse,
                    format!("another waypost answers on {}", path.display()),
                ));
            }
            fs::remove_file(path)?;
        }
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        // Bound under another name and renamed, so that there is no moment with wider rights.
        let fresh = path.with_extension(format!("{}.new", std::process::id()));
        let _ = fs::remove_file(&fresh);
        let unix = std::os::unix::net::UnixListener::bind(&fresh)?;
        fs::set_permissions(&fresh, fs::Permissions::from_mode(0o600))?;
        fs::rename(&fresh, path)?;
        unix.set_nonblocking(true)?;
        let tcp = tcp.map(std::net::TcpListener::bind).transpose()?;
        if let Some(tcp) = &tcp {
            tcp.set_nonblocking(true)?;
        }
        Ok(Bound { unix, path: path.to_owned(), tcp })
    }

    /// Where the Unix socket is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The TCP address, if there is one.
    pub fn tcp_address(&self) -> Option<SocketAddr> {
        self.tcp.as_ref().and_then(|tcp| tcp.local_addr().ok())
    }
}

/// What answers are made from.
#[derive(Clone)]
pub struct Server {
    queue: Arc<Queue>,
    control: Arc<dyn Control>,
    history: Option<Arc<History>>,
    pen: Pen,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").finish_non_exhaustive()
    }
}

impl Server {
    /// A server for this queue.
    pub fn new(queue: Arc<Queue>, control: Arc<dyn Control>) -> Server {
        Server { queue, control, history: None, pen: Pen::idle() }
    }

    /// The same with a history, from which stories are told and in which orders are written down.
    #[must_use]
    pub fn with_history(self, history: Arc<History>) -> Server {
        Server { pen: history.pen(), history: Some(history), ..self }
    }

    /// Answers until the program ends. The Unix socket is removed when this future is dropped.
    ///
    /// # Errors
    /// When a socket cannot be used.
    pub async fn run(self, bound: Bound) -> io::Result<()> {
        let _socket = RemoveOnDrop(bound.path.clone());
        let (router, counters) = (self.clone().router(), self.counters());
        let unix = UnixListener::from_std(bound.unix)?;
        info!(socket = %bound.path.display(), "operators are answered");
        let over_unix = axum::serve(unix, router);
        match bound.tcp {
            None => over_unix.await,
            Some(tcp) => {
                let tcp = TcpListener::from_std(tcp)?;
                tokio::try_join!(async { over_unix.await }, async {
                    axum::serve(tcp, counters).await
                })
                .map(|_| ())
            }
        }
    }

    /// All that TCP offers: any user of this machine can connect there, and only look.
    fn counters(self) -> Router {
        Router::new()
            .route("/metrics", get(metrics))
            .fallback(|| async {
                refusal(
                    StatusCode::NOT_FOUND,
                    "only /metrics is here; the rest is on the Unix socket",
                )
            })
            .layer(middleware::from_fn(for_us))
            .with_state(self)
    }

    fn router(self) -> Router {
        Router::new()
            .route("/v1/status", get(status))
            .route("/v1/queue/list", post(queue::list))
            .route("/v1/queue/summary", post(queue::summary))
            .route("/v1/queue/message/{id}", get(show))
            .route("/v1/queue/{verb}", post(queue::change))
            .route("/v1/messages/{id}/why", get(why::why))
            .route("/v1/bans", get(bans))
            .route("/v1/bans/lift", post(lift_bans))
            .route("/v1/suppressions/list", post(suppressed))
            .route("/v1/suppressions/show", post(show_suppressed))
            .route("/v1/suppressions/add", post(suppress))
            .route("/v1/suppressions/remove", post(unsuppress))
            .route("/v1/policy", get(policy))
            .route("/v1/policy/reload", post(reload_policy))
            .route("/v1/policy/rollback", post(rollback_policy))
            .route("/v1/policy/explain", post(explain))
            .route("/v1/reload", post(reload))
            .route("/v1/drain", post(drain))
            .route("/metrics", get(metrics))
            .fallback(|| async { refusal(StatusCode::NOT_FOUND, "there is nothing here") })
            .layer(middleware::from_fn(for_us))
            .with_state(self)
    }
}

struct RemoveOnDrop(PathBuf);

impl Drop for RemoveOnDrop {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// A name that a stranger's DNS leads to this machine is not ours (DNS rebinding).
async fn for_us(request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let ours = host.is_some_and(|host| {
        let ip = host.parse::<SocketAddr>().map(|address| address.ip());
        let ip = ip.or_else(|_| host.trim_matches(['[', ']']).parse());
        let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
        ip.is_ok_and(|ip: IpAddr| ip.is_loopback()) || matches!(name, "waypost" | "localhost")
    });
    if !ours {
        return refusal(StatusCode::MISDIRECTED_REQUEST, "this host name is not this server's");
    }
    next.run(request).await
}

async fn status(State(server): State<Server>) -> Response {
    let overview = blocking(move || server.control.overview()).await;
    overview.map_or_else(|refusal| refusal, |overview| Json(overview).into_response())
}

async fn show(State(server): State<Server>, UrlPath(id): UrlPath<String>) -> Response {
    let Ok(id) = id.parse::<MessageId>() else {
        return refusal(StatusCode::BAD_REQUEST, &format!("'{id}' is no message id"));
    };
    match blocking(move || server.queue.show(id)).await {
        Ok(Ok(entry)) => Json(entry).into_response(),
        Ok(Err(failure)) => refusal(StatusCode::NOT_FOUND, &failure.to_string()),
        Err(refusal) => refusal,
    }
}

/// The body, `null`, is there for its content type: a page in a browser cannot send that unasked.
async fn reload(State(server): State<Server>, Json(()): Json<()>) -> Response {
    match server.control.reload().await {
        Ok(message) => Json(Words { message }).into_response(),
        Err(mistakes) => refusal(StatusCode::UNPROCESSABLE_ENTITY, &mistakes),
    }
}

async fn bans(State(server): State<Server>) -> Response {
    Json(server.control.bans()).into_response()
}

async fn lift_bans(State(server): State<Server>, Json(request): Json<LiftBans>) -> Response {
    told(server.control.lift_bans(request).await.map(|lifted| Lifted { lifted }))
}

async fn suppressed(
    State(server): State<Server>,
    Json(request): Json<ListSuppressions>,
) -> Response {
    told(server.control.suppressed(request).await)
}

async fn show_suppressed(
    State(server): State<Server>,
    Json(request): Json<ShowSuppressions>,
) -> Response {
    told(server.control.suppressed_for(request).await)
}

async fn suppress(State(server): State<Server>, Json(request): Json<Suppress>) -> Response {
    let added = server.control.suppress(request.entries).await;
    told(added.map(|entries| Entries { entries }))
}

async fn unsuppress(State(server): State<Server>, Json(request): Json<Unsuppress>) -> Response {
    let removed = server.control.unsuppress(request).await;
    told(removed.map(|entries| Entries { entries }))
}

async fn policy(State(server): State<Server>) -> Response {
    Json(server.control.policy()).into_response()
}

async fn reload_policy(
    State(server): State<Server>,
    Json(request): Json<PolicyReload>,
) -> Response {
    told(server.control.reload_policy(request).await)
}

async fn rollback_policy(
    State(server): State<Server>,
    Json(request): Json<PolicyRollback>,
) -> Response {
    told(server.control.rollback_policy(request.id).await)
}

async fn explain(State(server): State<Server>, Json(request): Json<ExplainRequest>) -> Response {
    told(server.control.explain(request))
}

fn told<T: serde::Serialize>(answer: Result<T, String>) -> Response {
    match answer {
        Ok(answer) => Json(answer).into_response(),
        Err(problem) => refusal(StatusCode::UNPROCESSABLE_ENTITY, &problem),
    }
}

async fn drain(State(server): State<Server>, Json(()): Json<()>) -> Response {
    server.control.drain().await;
    Json(Words { message: "draining: no more mail is taken".to_owned() }).into_response()
}

async fn metrics(State(server): State<Server>) -> Response {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], server.control.metrics()).into_response()
}

/// Runs what may read the disk off the async threads.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Response> {
    tokio::task::spawn_blocking(work).await.map_err(|failure| {
        error!(%failure, "an answer to an operator failed");
        refusal(StatusCode::INTERNAL_SERVER_ERROR, "the answer failed; the log says more")
    })
}

fn refusal(status: StatusCode, message: &str) -> Response {
    (status, Json(Words { message: message.to_owned() })).into_response()
}
