//! The story of one message.

use axum::Json;
use axum::extract::{Path as UrlPath, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use waypost_history::Found;
use waypost_mail::{MessageId, Timestamp};
use waypost_queue::SpoolError;

use super::{Server, blocking, refusal};
use crate::Story;

/// In JSON, or as a person reads it for who accepts `text/plain`.
pub(super) async fn why(
    State(server): State<Server>,
    UrlPath(id): UrlPath<String>,
    headers: HeaderMap,
) -> Response {
    let Ok(id) = id.parse::<MessageId>() else {
        return refusal(StatusCode::BAD_REQUEST, &format!("'{id}' is no message id"));
    };
    let story = match blocking(move || server.story(id)).await {
        Ok(Ok(story)) => story,
        Ok(Err(failure)) => return refusal(StatusCode::INTERNAL_SERVER_ERROR, &failure),
        Err(refusal) => return refusal,
    };
    if story.is_unknown() {
        return refusal(StatusCode::NOT_FOUND, &story.unknown());
    }
    let accepted = headers.get(header::ACCEPT).and_then(|accepted| accepted.to_str().ok());
    match accepted.is_some_and(|accepted| accepted.trim_start().starts_with("text/plain")) {
        true => story.to_string().into_response(),
        false => Json(story).into_response(),
    }
}

impl Server {
    fn story(&self, id: MessageId) -> Result<Story, String> {
        // The history first: what is settled in between is then told as waiting, and not at all as gone
        // without a word.
        let history = self.history.as_ref().map(|history| history.about(id)).transpose();
        let history: Option<Found> = history.map_err(|error| error.to_string())?;
        let standing = match self.queue.standing(id) {
            Ok(standing) => Some(standing),
            Err(SpoolError::Unknown(_)) => None,
            Err(error) => return Err(error.to_string()),
        };
        let now: Timestamp = self.queue.now();
        Ok(Story::new(id, now, standing, history))
    }
}
