//! The queue: lists, summaries, and changes of whom a selector means.

use std::time::Duration;

use axum::Json;
use axum::extract::{Path as UrlPath, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use tokio::task::JoinSet;
use waypost_history::{About, Note, Order};
use waypost_mail::MessageId;
use waypost_queue::{AdminError, Preview, Selected, Selector, Verb};
use waypost_smtp::Domain;

use super::{Server, blocking, refusal};
use crate::api::{
    Applied, ChangeRequest, Groups, ListRequest, MAX_EXTENSION, SummaryRequest, Verdict,
};

/// Messages listed unless told otherwise.
const LIST: usize = 1000;
/// Groups shown unless told otherwise.
const GROUPS: usize = 50;
/// Messages selected at a time for a change.
const SELECT: usize = 4096;
/// Messages changed at a time: they share the syncs of the spool.
const AT_ONCE: usize = 64;
/// Problems told of one change.
const PROBLEMS: usize = 100;

pub(super) async fn list(
    State(server): State<Server>,
    Json(request): Json<ListRequest>,
) -> Response {
    let selector = match read(&request.selector) {
        Ok(selector) => selector,
        Err(refusal) => return *refusal,
    };
    let limit = request.limit.unwrap_or(LIST);
    match blocking(move || server.queue.list(&selector, request.after, limit)).await {
        Ok(Ok(page)) => Json(page).into_response(),
        Ok(Err(failure)) => refusal(StatusCode::INTERNAL_SERVER_ERROR, &failure.to_string()),
        Err(refusal) => refusal,
    }
}

pub(super) async fn summary(
    State(server): State<Server>,
    Json(request): Json<SummaryRequest>,
) -> Response {
    let selector = match read(&request.selector) {
        Ok(selector) => selector,
        Err(refusal) => return *refusal,
    };
    let (by, limit) = (request.by, request.limit.unwrap_or(GROUPS));
    match blocking(move || server.queue.summary(&selector, by, limit)).await {
        Ok(groups) => Json(Groups { by, groups }).into_response(),
        Err(refusal) => refusal,
    }
}

pub(super) async fn change(
    State(server): State<Server>,
    UrlPath(verb): UrlPath<String>,
    Json(request): Json<ChangeRequest>,
) -> Response {
    let Some(verb) = named(&verb) else {
        return refusal(StatusCode::NOT_FOUND, &format!("'{verb}' is nothing to do to a message"));
    };
    let selector = match read(&request.selector) {
        Ok(selector) => selector,
        Err(refusal) => return *refusal,
    };
    if selector.is_everything() && !request.all {
        return refusal(StatusCode::BAD_REQUEST, "say which messages, or all of them");
    }
    let (any, anywhere) = (MessageId(0), Domain::Name("example.org".into()));
    if verb == Verb::Reroute
        && let Err(problem) = server.control.way(&request.to, any, &anywhere)
    {
        return refusal(StatusCode::BAD_REQUEST, &problem);
    }
    if verb == Verb::Extend && !(1..=MAX_EXTENSION).contains(&request.by_seconds) {
        let problem = format!("say how much more time: 1 to {MAX_EXTENSION} seconds");
        return refusal(StatusCode::BAD_REQUEST, &problem);
    }
    match server.change_all(verb, selector, request).await {
        Ok(applied) => Json(applied).into_response(),
        Err(refusal) => refusal,
    }
}

impl Server {
    /// Changes whoever is selected now; what comes in meanwhile is left alone.
    async fn change_all(
        &self,
        verb: Verb,
        selector: Selector,
        request: ChangeRequest,
    ) -> Result<Applied, Response> {
        if request.dry_run {
            let server = self.clone();
            let preview = blocking(move || server.queue.preview(&selector, verb)).await?;
            let Preview { messages, recipients, in_flight } = preview;
            return Ok(Applied {
                dry_run: true,
                messages,
                recipients,
                in_flight,
                ..Applied::default()
            });
        }
        let mut applied = Applied::default();
        // Ids that were named are taken as they are, so that an absent one is told.
        if let Some(ids) = selector.only_ids() {
            let whom = ids.iter().copied().map(Selected::from).collect();
            self.change_some(verb, whom, &request, &mut applied).await;
            return Ok(applied);
        }
        let (newest, mut after): (_, Option<MessageId>) = (self.queue.newest(), None);
        loop {
            let (server, wanted) = (self.clone(), selector.clone());
            let found = move || server.queue.select(&wanted, verb, after, SELECT);
            let mut whom = blocking(found).await?;
            whom.retain(|selected| Some(selected.id) <= newest);
            let Some(last) = whom.last() else { return Ok(applied) };
            after = Some(last.id);
            self.change_some(verb, whom, &request, &mut applied).await;
        }
    }

    /// Changes these, some at a time.
    async fn change_some(
        &self,
        verb: Verb,
        whom: Vec<Selected>,
        request: &ChangeRequest,
        applied: &mut Applied,
    ) {
        let mut under_way = JoinSet::new();
        for selected in whom {
            while under_way.len() >= AT_ONCE {
                applied.add(under_way.join_next().await);
            }
            let (server, request) = (self.clone(), request.clone());
            under_way.spawn(async move { server.apply(verb, selected, request).await });
        }
        while !under_way.is_empty() {
            applied.add(under_way.join_next().await);
        }
    }

    /// Applies one verb to one message.
    async fn apply(
        &self,
        verb: Verb,
        whom: Selected,
        request: ChangeRequest,
    ) -> Result<Verdict, String> {
        let (id, order) = (whom.id, ordered(verb, &request));
        let done = self.carry_out(verb, whom, request).await;
        if let Ok(Verdict { changed: changed @ 1.., in_flight }) = done {
            let order = Order { changed: changed as u32, in_flight: in_flight as u32, ..order };
            self.pen.tell(About::Message(id), 256, || Note::Order(order));
        }
        done
    }

    async fn carry_out(
        &self,
        verb: Verb,
        whom: Selected,
        request: ChangeRequest,
    ) -> Result<Verdict, String> {
        let words = |error: AdminError| error.to_string();
        let queue = &self.queue;
        let touched = match verb {
            Verb::Hold => queue.hold(whom, request.reason).await,
            Verb::Release => queue.release(whom).await,
            Verb::Retry => queue.retry(whom).await,
            Verb::Delete => queue.delete(whom).await,
            Verb::Extend => queue.extend(whom, Duration::from_secs(request.by_seconds)).await,
            Verb::Expire => return self.control.expire(whom).await,
            Verb::Bounce => return self.control.bounce(whom, request.reason).await,
            Verb::Reroute => {
                let control = self.control.clone();
                let id = whom.id;
                queue.reroute(whom, move |domain| control.way(&request.to, id, domain)).await
            }
        };
        touched.map(Verdict::from).map_err(words)
    }
}

impl Applied {
    fn add(&mut self, done: Option<Result<Result<Verdict, String>, tokio::task::JoinError>>) {
        let problem = match done {
            None => return,
            Some(Ok(Ok(verdict))) => {
                self.messages += usize::from(verdict.changed > 0);
                self.recipients += verdict.changed;
                self.in_flight += verdict.in_flight;
                return;
            }
            Some(Ok(Err(problem))) => problem,
            Some(Err(failure)) => failure.to_string(),
        };
        if self.problems.len() < PROBLEMS {
            self.problems.push(problem);
        }
    }
}

/// The order as it is written down.
fn ordered(verb: Verb, request: &ChangeRequest) -> Order {
    let (verb, words) = match verb {
        Verb::Hold => ("hold", request.reason.clone()),
        Verb::Release => ("release", String::new()),
        Verb::Retry => ("retry", String::new()),
        Verb::Reroute => ("reroute", format!("to {}", request.to)),
        Verb::Bounce => ("bounce", request.reason.clone()),
        Verb::Expire => ("expire", String::new()),
        Verb::Extend => ("extend", format!("by {} s", request.by_seconds)),
        Verb::Delete => ("delete", String::new()),
    };
    Order { verb: verb.to_owned(), words, changed: 0, in_flight: 0 }
}

fn named(name: &str) -> Option<Verb> {
    Some(match name {
        "hold" => Verb::Hold,
        "release" => Verb::Release,
        "retry" => Verb::Retry,
        "reroute" => Verb::Reroute,
        "bounce" => Verb::Bounce,
        "expire" => Verb::Expire,
        "extend" => Verb::Extend,
        "delete" => Verb::Delete,
        _ => return None,
    })
}

/// A mistake is answered with the selector and a mark under it.
fn read(selector: &str) -> Result<Selector, Box<Response>> {
    selector.parse().map_err(|error: waypost_queue::SelectorError| {
        Box::new(refusal(StatusCode::BAD_REQUEST, &error.pointed(selector)))
    })
}
