//! The HTTP door: `POST /v1/messages` takes one message, as RFC 5322 has it or as JSON.
//!
//! A request is a session without EHLO: the same [`Decider`] is asked in the same order as by SMTP,
//! so that policy cannot differ by door. Who submits is known by a bearer token (RFC 6750), or at a
//! Unix socket by the system.

mod answer;
mod body;
mod compose;
mod envelope;
mod keys;
mod submission;
mod tokens;
mod wishes;

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::sync::watch;
use tokio::time::sleep;
use tracing::{debug, info};
use waypost_hooks::EventKind;
use waypost_mail::{Facts, TlsFacts};
use waypost_smtp::Reply;

use self::answer::{AGAIN, Accepted, Problem};
use self::body::Incoming;
use self::compose::{Letter, Moment};
use self::envelope::Envelope;
use self::keys::Turn;
use self::submission::{Source, Submission};
use crate::ListenerKind;
use crate::crowd::Use;
use crate::decide::{Client, Decider};
use crate::manner::Manner;
use crate::server::Presence;
use crate::session::{Arrival, Visit, encrypt};
use crate::stream::Stream;

pub(crate) use self::keys::Keys;

/// The document that describes this door (OpenAPI 3.1).
pub(crate) const OPENAPI: &str = include_str!("http/openapi.json");

/// The longest head of a request, in octets.
const MAX_HEAD: usize = 64 * 1024;
/// Most fields in it.
const MAX_FIELDS: usize = 100;
/// The longest that a head may take, and a connection be idle.
const HEAD: Duration = Duration::from_secs(30);

/// Requests under way, of all connections.
#[derive(Debug, Default)]
pub(crate) struct Requests(AtomicUsize);

/// One of them.
struct UnderWay<'a>(&'a Requests);

impl Requests {
    fn enter(&self, most: usize) -> Option<UnderWay<'_>> {
        let step = |count: usize| (count < most).then_some(count + 1);
        self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, step).ok()?;
        Some(UnderWay(self))
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// What a peer hears that does not come in; `banned` is for how long it is shut out.
pub(crate) fn turned_away(banned: Option<Duration>) -> String {
    let (status, wait) = match banned {
        Some(wait) => (StatusCode::TOO_MANY_REQUESTS, wait),
        None => (StatusCode::SERVICE_UNAVAILABLE, AGAIN),
    };
    format!(
        "HTTP/1.1 {status}\r\nRetry-After: {}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        answer::seconds(wait)
    )
}

/// Serves one peer to the end.
pub(crate) async fn serve(visit: Visit, stream: Stream) {
    let arrival = &visit.arrival;
    let events = arrival.house.rooms.events.clone();
    let subject = format!("{} {}", arrival.id, arrival.peer.client.ip());
    events.tell(EventKind::SessionOpened, None, subject.clone());
    match converse(visit, stream).await {
        Ok(()) => debug!("session closed"),
        Err(error) => debug!(%error, "session lost"),
    }
    events.tell(EventKind::SessionClosed, None, subject);
}

async fn converse(visit: Visit, mut stream: Stream) -> io::Result<()> {
    let Visit { arrival: visit, presence } = visit;
    let limits = visit.current.settings.limits.clone();
    let mut tls = None;
    if visit.listener.kind == ListenerKind::Https {
        let door = visit.current.tls(&visit.listener.name);
        let (encrypted, channel) = encrypt(stream, door, &visit.house, &limits).await?;
        (stream, tls) = (encrypted, Some(channel.facts));
    }
    let mut drain = visit.drain.clone();
    let user = visit.peer.user().await;
    let pass = presence.pass();
    let door = Arc::new(Door { visit, presence, user, tls });
    let routes = Router::new()
        .route("/v1/messages", post(messages))
        .route("/v1/openapi.json", get(openapi))
        .fallback(|| async { Problem::new(StatusCode::NOT_FOUND, "there is nothing here") })
        .method_not_allowed_fallback(|| async {
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "this is not done here")
        })
        .with_state(door);
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_headers(MAX_FIELDS)
        .max_header_size(MAX_HEAD)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes));
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = pass.sent_home() => return Err(io::Error::other("it made room for others")),
        () = sleep(limits.session_lifetime) => return Err(io::ErrorKind::TimedOut.into()),
        () = stopped(&mut drain) => {
            // The request under way is answered, and no other one is taken.
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    ended.map_err(io::Error::other)
}

/// The sender gone means the same as its word.
async fn stopped(drain: &mut watch::Receiver<bool>) {
    let _ = drain.wait_for(|drain| *drain).await;
}

/// What all requests of a connection share.
#[derive(Debug)]
struct Door {
    visit: Arrival,
    /// Its place among all sessions.
    presence: Presence,
    /// The user whom the system knows.
    user: Option<String>,
    tls: Option<TlsFacts>,
}

async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], OPENAPI).into_response()
}

async fn messages(State(door): State<Arc<Door>>, request: Request) -> Response {
    let pass = door.presence.pass();
    pass.spoke(Use::Busy);
    let answered = answered(&door, request).await;
    pass.spoke(Use::Idle);
    answered
}

async fn answered(door: &Door, request: Request) -> Response {
    // Boxed: idle connections need not carry the room that a message takes.
    match Box::pin(door.take(request)).await {
        Ok((accepted, again)) => {
            let mut response = accepted.into_response();
            if again {
                let yes = header::HeaderValue::from_static("true");
                response.headers_mut().insert("idempotency-replayed", yes);
            }
            response
        }
        Err(problem) => {
            info!(
                status = problem.status.as_u16(),
                detail = problem.detail,
                "a request is refused"
            );
            problem.into_response()
        }
    }
}

impl Door {
    /// One request: the answer, and whether it was given before.
    async fn take(&self, request: Request) -> Result<(Accepted, bool), Problem> {
        let (head, body) = request.into_parts();
        let user = self.authenticate(&head.headers).await?;
        let settings = &self.visit.current.settings;
        let requests = &self.visit.house.requests;
        let _under_way = requests.enter(settings.http.max_requests).ok_or_else(|| {
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "too many requests are under way")
        })?;
        let mut body = Incoming::new(body, &settings.limits, &settings.http);
        let (envelope, source) = match kind(&head.headers)? {
            Kind::Rfc822 => (Envelope::of(&head.uri, &head.headers)?, Source::Stream(body)),
            Kind::Json => {
                let json = body.whole(settings.http.max_json_size).await?;
                let (envelope, message) = Letter::parse(&json)?.compose(&self.moment())?;
                (envelope, Source::Composed { json, message })
            }
        };
        let most = settings.limits.max_recipients;
        if envelope.recipients.len() > most {
            return Err(Problem::wrong(format!("a message has at most {most} recipients")));
        }
        let submission = Submission { decider: self.decider(&user), envelope, source };
        let Some(key) = keys::key(&head.headers)? else {
            return Ok((submission.run(None).await?, false));
        };
        let turn = self.visit.house.keys.enter(&user, key).await;
        self.once(submission, turn).await
    }

    /// A request with a key is carried out once.
    async fn once(&self, submission: Submission, turn: Turn) -> Result<(Accepted, bool), Problem> {
        let keys = &self.visit.house.keys;
        let Some(record) = keys.known(&turn).await? else {
            let expires = keys.expiry(self.visit.current.settings.http.key_lifetime);
            let key = submission::Key { place: turn.place.clone(), expires };
            // A client that goes away and comes back with its key must not overtake its own message.
            let carried_out = tokio::spawn(async move {
                let accepted = submission.run(Some(key)).await;
                drop(turn);
                accepted
            });
            let bug = |_| Problem::of(&Reply::LOCAL_ERROR);
            return Ok((carried_out.await.map_err(bug)??, false));
        };
        if submission.digest(&self.visit.current.settings.limits).await? != record.digest {
            return Err(Problem::wrong("this Idempotency-Key was used for another request"));
        }
        let expired = || {
            let detail = "this Idempotency-Key has just expired; send the request again";
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail)
        };
        Ok((keys.answer(&turn, &record).await?.ok_or_else(expired)?, true))
    }

    fn decider(&self, user: &str) -> Decider {
        let Arrival { house, current, listener, metrics, id, peer, anonymous, .. } = &self.visit;
        let manner = Manner(listener.kind);
        let facts = Facts {
            session: *id,
            listener: listener.name.clone(),
            client: peer.client,
            client_name: None,
            local: peer.local,
            helo: None,
            protocol: manner.protocol(true),
            tls: self.tls.clone(),
            identity: Some(user.to_owned()),
            may_relay: true,
            meta: Vec::new(),
        };
        let client = Client {
            facts,
            binding: None,
            // As by SMTP, a login is held to the rules about senders; a user of this machine is not.
            known: self.user.as_deref() != Some(user),
            presence: None,
            anonymous: *anonymous,
            spoken_for: false,
        };
        Decider::new(house.clone(), current.clone(), manner, metrics.clone(), client)
    }

    fn moment(&self) -> Moment {
        let rooms = &self.visit.house.rooms;
        let hostname = &self.visit.current.settings.hostname;
        let message_id = format!("{}@{hostname}", rooms.intake.ids().message());
        Moment { now: rooms.clock.now(), message_id }
    }
}

/// What a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Rfc822,
    Json,
}

fn kind(headers: &HeaderMap) -> Result<Kind, Problem> {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = value.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    match essence.to_ascii_lowercase().as_str() {
        "message/rfc822" | "message/global" => Ok(Kind::Rfc822),
        "application/json" => Ok(Kind::Json),
        _ => Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "send message/rfc822, or application/json",
        )),
    }
}
