//! Redirects lead to other places of the same origin, as far as the rules go.

use waypost_mail::fetch::{Allow, Fetch, FetchError, FetchRequest};

use crate::setup::{Server, allow, answer, client, denied, get, open, post, redirect, rule};

/// `/N` redirects to `/N-1`, `/0` answers.
async fn chain(status: &'static str) -> Server {
    Server::plain(move |request| {
        let digit = request.split_once('/').and_then(|(_, rest)| rest[..1].parse::<u8>().ok());
        match digit.unwrap_or_default() {
            0 => answer("200 OK", "", "end"),
            n => redirect(status, &format!("/{}", n - 1)),
        }
    })
    .await
}

fn lines(server: &Server) -> Vec<String> {
    server.requests().iter().map(|r| r.lines().next().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn three_are_followed_and_a_fourth_is_not() {
    let server = chain("301 Moved").await;
    let origin = server.origin();
    let response = client().fetch(get(format!("{origin}/3")), &open(&origin)).await.unwrap();
    assert_eq!(&response.body[..], b"end");
    assert_eq!(server.requests().len(), 4);
    let result = client().fetch(get(format!("{origin}/4")), &open(&origin)).await;
    assert!(matches!(result, Err(FetchError::Protocol(_))), "{result:?}");
    assert_eq!(server.requests().len(), 8);
}

#[tokio::test]
async fn who_wants_no_redirect_is_told_of_it() {
    let server = chain("302 Found").await;
    let origin = server.origin();
    let allow = Allow { redirects: false, ..open(&origin) };
    let response = client().fetch(get(format!("{origin}/1")), &allow).await.unwrap();
    assert_eq!((response.status, server.requests().len()), (302, 1));
}

#[tokio::test]
async fn methods_are_kept_or_become_get() {
    for (status, then) in [
        ("301 Moved", "GET /0 HTTP/1.1"),
        ("302 Found", "GET /0 HTTP/1.1"),
        ("303 See Other", "GET /0 HTTP/1.1"),
        ("307 Temporary", "POST /0 HTTP/1.1"),
        ("308 Permanent", "POST /0 HTTP/1.1"),
    ] {
        let server = chain(status).await;
        let origin = server.origin();
        let request = FetchRequest {
            headers: vec![
                ("Content-Type".into(), "text/plain".into()),
                ("Authorization".into(), "t".into()),
            ],
            ..post(format!("{origin}/1"), "body")
        };
        client().fetch(request, &open(&origin)).await.unwrap();
        assert_eq!(lines(&server), ["POST /1 HTTP/1.1", then]);
        let second = &server.requests()[1];
        let kept = then.starts_with("POST");
        assert_eq!(second.contains("content-type: text/plain"), kept, "{status}");
        assert_eq!(second.ends_with("\r\n\r\nbody"), kept, "{status}");
        assert!(second.contains("authorization: t"));
    }
}

#[tokio::test]
async fn another_origin_is_denied() {
    let other = Server::plain(|_| answer("200 OK", "", "")).await;
    let elsewhere = other.origin();
    let port = other.address.port();
    for location in [
        format!("{elsewhere}/"),
        format!("//127.0.0.1:{port}/"),
        "http://169.254.169.254/latest/meta-data/".to_owned(),
        "https://b.example/".to_owned(),
    ] {
        let server = Server::plain(move |_| redirect("302 Found", &location)).await;
        let origin = server.origin();
        // Even where the other origin could be asked itself.
        let both = allow(vec![rule(&origin, &[], "/"), rule(&elsewhere, &[], "/")]);
        denied(client().fetch(get(format!("{origin}/")), &both).await);
        assert_eq!(server.requests().len(), 1);
    }
    assert_eq!(other.requests().len(), 0);
}

#[tokio::test]
async fn rules_hold_after_a_redirect() {
    for location in ["/admin", "../admin", "/v1/..%2fadmin"] {
        let server = Server::plain(move |_| redirect("307 Temporary", location)).await;
        let origin = server.origin();
        let rules = allow(vec![rule(&origin, &[], "/v1/")]);
        denied(client().fetch(get(format!("{origin}/v1/x")), &rules).await);
        assert_eq!(server.requests().len(), 1);
    }
    let server = chain("303 See Other").await;
    let origin = server.origin();
    let rules = allow(vec![rule(&origin, &["POST"], "/")]);
    denied(client().fetch(post(format!("{origin}/1"), ""), &rules).await);
    assert_eq!(lines(&server), ["POST /1 HTTP/1.1"]);
}

#[tokio::test]
async fn a_redirect_that_says_not_where_is_an_answer() {
    let server = Server::plain(|_| answer("302 Found", "", "choose")).await;
    let origin = server.origin();
    let response = client().fetch(get(format!("{origin}/")), &open(&origin)).await.unwrap();
    assert_eq!((response.status, &response.body[..]), (302, &b"choose"[..]));
    let server =
        Server::plain(|_| answer("201 Created", "location: http://b.example/\r\n", "")).await;
    let origin = server.origin();
    let response = client().fetch(post(format!("{origin}/"), ""), &open(&origin)).await.unwrap();
    assert_eq!(response.status, 201);
}
