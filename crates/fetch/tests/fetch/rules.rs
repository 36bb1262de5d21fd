//! What is allowed is asked as it was given; nothing else is asked at all.

use waypost_mail::fetch::{Fetch, FetchRequest};

use crate::setup::{Server, allow, answer, client, denied, get, invalid, open, post, rule};

#[tokio::test]
async fn an_allowed_request_goes_out_as_given() {
    let server = Server::plain(|_| answer("201 Created", "X-B: 1\r\nx-b: 2\r\n", "done")).await;
    let origin = server.origin();
    let request = FetchRequest {
        headers: vec![("Authorization".into(), "Bearer t".into()), ("X-A".into(), "b".into())],
        ..post(format!("{origin}/v1/./x?y=%20#z"), "hi")
    };
    let allow = allow(vec![rule(&origin, &["POST"], "/v1/")]);
    let response = client().fetch(request, &allow).await.unwrap();

    assert_eq!((response.status, &response.body[..]), (201, &b"done"[..]));
    assert!(!response.truncated);
    let b: Vec<_> = response.headers.iter().filter(|(name, _)| name == "x-b").collect();
    assert_eq!(b, [&("x-b".to_owned(), "1".to_owned()), &("x-b".to_owned(), "2".to_owned())]);

    let requests = server.requests();
    let (head, body) = requests[0].split_once("\r\n\r\n").unwrap();
    let mut lines: Vec<&str> = head.lines().collect();
    assert_eq!(lines.remove(0), "POST /v1/x?y=%20 HTTP/1.1");
    lines.sort_unstable();
    let host = format!("host: {}", server.address);
    let expected = [
        "accept-encoding: identity",
        "authorization: Bearer t",
        "connection: close",
        "content-length: 2",
        &host,
        concat!("user-agent: Waypost/", env!("CARGO_PKG_VERSION")),
        "x-a: b",
    ];
    assert_eq!((lines.as_slice(), body), (&expected[..], "hi"));
}

#[tokio::test]
async fn an_agent_may_have_its_own_name() {
    let server = Server::plain(|_| answer("200 OK", "", "")).await;
    let origin = server.origin();
    let headers = vec![("User-Agent".into(), "reports".into())];
    let request = FetchRequest { headers, ..get(format!("{origin}/")) };
    client().fetch(request, &open(&origin)).await.unwrap();
    assert!(server.requests()[0].contains("\r\nuser-agent: reports\r\n"));
    assert!(!server.requests()[0].contains("Waypost"));
}

#[tokio::test]
async fn errors_of_the_server_are_answers() {
    let server = Server::plain(|_| answer("503 Busy", "", "later")).await;
    let origin = server.origin();
    let response = client().fetch(get(format!("{origin}/")), &open(&origin)).await.unwrap();
    assert_eq!((response.status, &response.body[..]), (503, &b"later"[..]));
}

#[tokio::test]
async fn another_method_path_port_or_scheme_is_denied() {
    let server = Server::plain(|_| answer("200 OK", "", "")).await;
    let other = Server::plain(|_| answer("200 OK", "", "")).await;
    let (origin, elsewhere) = (server.origin(), other.origin());
    let rules = allow(vec![rule(&origin, &[], "/v1/")]);
    let client = client();
    for url in [
        format!("{origin}/"),
        format!("{origin}/v1"),
        format!("{origin}/v10/x"),
        format!("{origin}/V1/x"),
        format!("{origin}/x?/v1/"),
        format!("{elsewhere}/v1/x"),
        format!("https://{}/v1/x", server.address),
        format!("http://localhost:{}/v1/x", server.address.port()),
        "http://127.0.0.1/v1/x".to_owned(),
    ] {
        denied(client.fetch(get(&url), &rules).await);
    }
    denied(client.fetch(post(format!("{origin}/v1/x"), ""), &rules).await);
    denied(client.fetch(get(format!("{origin}/v1/x")), &allow(Vec::new())).await);
    assert_eq!((server.requests().len(), other.requests().len()), (0, 0));
    // And the request that all of these resemble is taken.
    client.fetch(get(format!("{origin}/v1/x")), &rules).await.unwrap();
}

#[tokio::test]
async fn no_way_leads_up_out_of_the_prefix() {
    let server = Server::plain(|_| answer("200 OK", "", "")).await;
    let origin = server.origin();
    let rules = allow(vec![rule(&origin, &[], "/v1/")]);
    for path in [
        "/v1/../admin",
        "/v1/x/../../admin",
        "/v1/%2e%2e/admin",
        "/v1/.%2E/admin",
        "/v1/..%2fadmin",
        "/v1/%252e%252e/admin",
        "/v1/..;/admin",
        "/v1/..%5cadmin",
    ] {
        denied(client().fetch(get(format!("{origin}{path}")), &rules).await);
    }
    invalid(client().fetch(get(format!("{origin}/v1/..\\admin")), &rules).await);
    assert_eq!(server.requests().len(), 0);
}

#[tokio::test]
async fn what_could_confuse_a_server_is_not_sent() {
    let server = Server::plain(|_| answer("200 OK", "", "")).await;
    let origin = server.origin();
    let rules = open(&origin);
    let url = format!("{origin}/");
    for (name, value) in [
        ("X-A", "b\r\nX-C: d"),
        ("X-A", "b\nX-C: d"),
        ("X-A", "b\0"),
        ("X-A\r\nX-C", "b"),
        ("Host", "b.example"),
        ("Content-Length", "0"),
        ("Transfer-Encoding", "chunked"),
        ("Connection", "keep-alive"),
        ("Proxy-Authorization", "x"),
    ] {
        let headers = vec![(name.to_owned(), value.to_owned())];
        let reason = invalid(client().fetch(FetchRequest { headers, ..get(&url) }, &rules).await);
        assert!(!reason.contains('\n'), "{reason}");
    }
    let address = server.address;
    invalid(client().fetch(get(format!("http://user@{address}/")), &rules).await);
    invalid(client().fetch(get(format!("http://user:secret@{address}/")), &rules).await);
    invalid(client().fetch(get(format!("{url}x y")), &rules).await);
    invalid(client().fetch(get(format!("{url}\r\nX: y")), &rules).await);
    assert_eq!(server.requests().len(), 0);
}
