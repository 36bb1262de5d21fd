//! Servers prove who they are.

use rustls::RootCertStore;
use waypost_fetch::Client;
use waypost_harness::authority::Authority;
use waypost_mail::fetch::{Fetch, FetchError, FetchResponse};

use crate::setup::{Detour, Names, Piece, Server, answer, config, get, open};

const NAME: &str = "https://api.example";

/// Asks for the name, which leads to the server.
async fn ask(server: &Server, roots: RootCertStore) -> Result<FetchResponse, FetchError> {
    let (names, road) = (Names::new(&[&["8.8.8.8"]]), Detour::to(server));
    let client = Client::with_dialer(config(roots), names, road.clone()).unwrap();
    let answer = client.fetch(get(format!("{NAME}/")), &open(NAME)).await;
    assert_eq!(road.dialed(), ["8.8.8.8:443"]);
    answer
}

fn is_tls(result: &Result<FetchResponse, FetchError>) -> bool {
    matches!(result, Err(FetchError::Tls(reason)) if reason.contains("api.example"))
}

#[tokio::test]
async fn a_server_that_proves_its_name_is_asked() {
    let authority = Authority::new().unwrap();
    let config = authority.server("api.example").unwrap();
    let server = Server::tls(config, |_| answer("200 OK", "", "secret")).await;
    let response = ask(&server, authority.roots().unwrap()).await.unwrap();
    assert_eq!(&response.body[..], b"secret");
    assert_eq!(server.names(), [Some("api.example".to_owned())]);
    assert!(server.requests()[0].contains("\r\nhost: api.example\r\n"), "{:?}", server.requests());
}

#[tokio::test]
async fn an_address_is_proved_too() {
    let authority = Authority::new().unwrap();
    let tls = authority.server("127.0.0.1").unwrap();
    let server = Server::tls(tls, |_| answer("200 OK", "", "")).await;
    let origin = format!("https://{}", server.address);
    let client = Client::new(config(authority.roots().unwrap()), Names::new(&[])).unwrap();
    client.fetch(get(format!("{origin}/")), &open(&origin)).await.unwrap();

    let tls = authority.server("api.example").unwrap();
    let other = Server::tls(tls, |_| answer("200 OK", "", "")).await;
    let origin = format!("https://{}", other.address);
    let result = client.fetch(get(format!("{origin}/")), &open(&origin)).await;
    assert!(matches!(result, Err(FetchError::Tls(_))), "{result:?}");
    assert_eq!(other.requests().len(), 0);
}

#[tokio::test]
async fn who_proves_something_else_is_told_nothing() {
    let (known, unknown) = (Authority::new().unwrap(), Authority::new().unwrap());
    for config in [
        known.server("other.example").unwrap(),
        known.server("8.8.8.8").unwrap(),
        unknown.server("api.example").unwrap(),
        Authority::unparsable().unwrap(),
    ] {
        let server = Server::tls(config, |_| answer("200 OK", "", "")).await;
        let result = ask(&server, known.roots().unwrap()).await;
        assert!(is_tls(&result), "{result:?}");
        assert_eq!(server.requests().len(), 0);
    }
}

#[tokio::test]
async fn clear_text_is_no_answer_where_tls_is_asked_for() {
    let server = Server::plain(|_| answer("200 OK", "", "")).await;
    let result = ask(&server, RootCertStore::empty()).await;
    assert!(is_tls(&result), "{result:?}");
    assert_eq!(server.requests().len(), 0);
}

#[tokio::test]
async fn a_body_that_ends_without_a_farewell_may_be_cut_and_is_an_error() {
    let authority = Authority::new().unwrap();
    let config = authority.server("api.example").unwrap();
    let whole = Server::tls(config.clone(), |_| {
        vec![Piece::Send(b"HTTP/1.1 200 OK\r\n\r\nall of it".to_vec())]
    })
    .await;
    let response = ask(&whole, authority.roots().unwrap()).await.unwrap();
    assert_eq!(&response.body[..], b"all of it");

    let cut = Server::tls(config, |_| {
        vec![Piece::Send(b"HTTP/1.1 200 OK\r\n\r\nhalf".to_vec()), Piece::Drop]
    })
    .await;
    let result = ask(&cut, authority.roots().unwrap()).await;
    assert!(matches!(result, Err(FetchError::Protocol(_))), "{result:?}");
}
