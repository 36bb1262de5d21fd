//! No server takes more time or memory than allowed, however it tries.

use std::sync::Arc;
use std::time::Duration;

use rustls::RootCertStore;
use tokio::time::Instant;
use waypost_fetch::{Client, Config};
use waypost_mail::fetch::{Allow, Fetch, FetchError, FetchRequest};

use crate::setup::{Names, Piece, Server, answer, ask, client, get, invalid, open, post};

const SHORT: Duration = Duration::from_millis(300);
/// Far more than a timeout of [`SHORT`] may take on a busy machine, far less than the servers try.
const SOON: Duration = Duration::from_secs(5);

fn send(text: &str) -> Piece {
    Piece::Send(text.as_bytes().to_vec())
}

/// `start`, then `drop` again and again for a long time.
fn drip(start: &str, drop: &str) -> Vec<Piece> {
    let drops = (0..2000).flat_map(|_| [Piece::Pause(Duration::from_millis(20)), send(drop)]);
    std::iter::once(send(start)).chain(drops).collect()
}

#[tokio::test]
async fn slow_drips_end_when_the_time_is_over() {
    for (start, drop) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n", "x"),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", "1\r\nx\r\n"),
        ("HTTP/1.1 200 OK\r\n", "x: y\r\n"),
        ("", "HTTP/1.1 100 Continue\r\n\r\n"),
    ] {
        let server = Server::plain(move |_| drip(start, drop)).await;
        let origin = server.origin();
        let allow = Allow { max_response: 1 << 20, ..open(&origin) };
        let began = Instant::now();
        let request = FetchRequest { timeout: SHORT, ..get(format!("{origin}/")) };
        assert_eq!(client().fetch(request, &allow).await, Err(FetchError::TimedOut), "{start:?}");
        // The caller may ask for less than it is allowed, and not for more.
        let allow = Allow { max_timeout: SHORT, ..allow };
        let request = FetchRequest { timeout: Duration::MAX, ..get(format!("{origin}/")) };
        assert_eq!(client().fetch(request, &allow).await, Err(FetchError::TimedOut), "{start:?}");
        assert!(began.elapsed() >= SHORT * 2 && began.elapsed() < SOON, "{:?}", began.elapsed());
        assert_eq!(server.requests().len(), 2);
    }
}

#[tokio::test]
async fn redirects_do_not_begin_the_time_anew() {
    let server = Server::plain(|_| {
        let location = "HTTP/1.1 302 Found\r\nlocation: /\r\ncontent-length: 0\r\n\r\n";
        vec![Piece::Pause(SHORT * 2 / 3), send(location)]
    })
    .await;
    let origin = server.origin();
    let request = FetchRequest { timeout: SHORT, ..get(format!("{origin}/")) };
    // Each answer is in time for itself, and a fourth redirect would be another error.
    assert_eq!(client().fetch(request, &open(&origin)).await, Err(FetchError::TimedOut));
}

#[tokio::test]
async fn long_bodies_are_cut() {
    let body = "x".repeat(5000);
    let chunks: String = (0..50).map(|_| format!("64\r\n{}\r\n", "x".repeat(100))).collect();
    for text in [
        format!("HTTP/1.1 200 OK\r\ncontent-length: 5000\r\n\r\n{body}"),
        format!("HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n{body}"),
        format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{chunks}"),
        format!("HTTP/1.1 200 OK\r\n\r\n{body}"),
    ] {
        // The server goes on for ever; it is left as soon as there is enough.
        let sent = text.clone();
        let server = Server::plain(move |_| vec![send(&sent), Piece::Hold]).await;
        let response = ask(&server).await.unwrap();
        assert_eq!((response.body.len(), response.truncated), (1024, true), "{}", &text[..60]);
        server.gone(1).await;
    }
}

#[tokio::test]
async fn a_body_of_the_exact_length_is_whole() {
    for (length, truncated) in [(1023, false), (1024, false), (1025, true)] {
        let server = Server::plain(move |_| answer("200 OK", "", &"x".repeat(length))).await;
        let response = ask(&server).await.unwrap();
        assert_eq!((response.body.len(), response.truncated), (length.min(1024), truncated));
    }
}

#[tokio::test]
async fn nothing_is_decompressed() {
    let server = Server::plain(|_| answer("200 OK", "content-encoding: gzip\r\n", "bomb")).await;
    assert_eq!(&ask(&server).await.unwrap().body[..], b"bomb");
}

#[tokio::test]
async fn large_headers_are_refused() {
    let fields = |count| "a: b\r\n".repeat(count);
    for head in [
        format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(40_000)),
        format!("HTTP/1.1 200 OK\r\n{}\r\n", fields(101)),
        format!("HTTP/1.1 200 {}\r\n\r\n", "y".repeat(40_000)),
    ] {
        let server = Server::plain(move |_| vec![send(&head)]).await;
        assert_eq!(ask(&server).await, Err(FetchError::TooLarge));
    }
    let honest = format!("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n{}\r\n", fields(90));
    let server = Server::plain(move |_| vec![send(&honest)]).await;
    assert_eq!(ask(&server).await.unwrap().headers.len(), 91);
}

#[tokio::test]
async fn a_header_without_end_is_refused_when_it_is_too_large_and_not_kept_until_the_end() {
    let endless = format!("HTTP/1.1 200 OK\r\nx: {}", "y".repeat(40_000));
    let server = Server::plain(move |_| vec![send(&endless), Piece::Hold]).await;
    assert_eq!(ask(&server).await, Err(FetchError::TooLarge));
    server.gone(1).await;
}

#[tokio::test]
async fn large_requests_are_not_sent() {
    let server = Server::plain(|_| answer("200 OK", "", "")).await;
    let origin = server.origin();
    let allow = Allow { max_request: 3, ..open(&origin) };
    invalid(client().fetch(post(format!("{origin}/"), "1234"), &allow).await);
    assert_eq!(server.requests().len(), 0);
    client().fetch(post(format!("{origin}/"), "123"), &allow).await.unwrap();
}

#[tokio::test]
async fn what_is_no_http_is_said() {
    for text in [
        "220 mail.example ESMTP\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
        "",
    ] {
        let server = Server::plain(move |_| vec![send(text)]).await;
        let result = ask(&server).await;
        assert!(matches!(result, Err(FetchError::Protocol(_))), "{text:?}: {result:?}");
    }
}

#[tokio::test]
async fn only_so_many_ask_at_a_time() {
    let server = Server::plain(|request| match request.starts_with("GET /hold ") {
        true => vec![Piece::Hold],
        false => answer("200 OK", "", ""),
    })
    .await;
    let config = Config { roots: RootCertStore::empty(), max_concurrent: 1 };
    let client = Arc::new(Client::new(config, Names::new(&[])).unwrap());
    let (origin, holder) = (server.origin(), client.clone());
    let hold =
        tokio::spawn(
            async move { holder.fetch(get(format!("{origin}/hold")), &open(&origin)).await },
        );
    server.asked(1).await;

    let origin = server.origin();
    let request = || FetchRequest { timeout: SHORT, ..get(format!("{origin}/")) };
    assert_eq!(client.fetch(request(), &open(&origin)).await, Err(FetchError::TimedOut));
    assert_eq!(server.requests().len(), 1);
    // Who goes away closes the connection and gives the turn back.
    hold.abort();
    server.gone(1).await;
    client.fetch(get(format!("{origin}/")), &open(&origin)).await.unwrap();
}
