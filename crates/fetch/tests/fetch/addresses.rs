//! Names lead to public addresses only, and to those that were checked.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rustls::RootCertStore;
use waypost_fetch::Client;
use waypost_mail::fetch::{Addresses, Allow, Fetch, FetchError, FetchRequest};

use crate::setup::{Detour, Names, Server, answer, client, config, denied, get, open, redirect};

const NAME: &str = "http://api.example";

fn world(names: &Arc<Names>, road: &Arc<Detour>) -> Client {
    Client::with_dialer(config(RootCertStore::empty()), names.clone(), road.clone()).unwrap()
}

#[tokio::test]
async fn an_address_is_asked_only_where_a_rule_names_it() {
    let server = Server::plain(|_| answer("200 OK", "", "")).await;
    let origin = server.origin();
    client().fetch(get(format!("{origin}/")), &open(&origin)).await.unwrap();

    let (names, road) = (Names::new(&[]), Detour::to(&server));
    for url in ["http://169.254.169.254/latest/meta-data/", "http://127.0.0.1/", "http://[::1]/"] {
        denied(world(&names, &road).fetch(get(url), &open(NAME)).await);
    }
    // The same host in other words is another origin.
    let port = server.address.port();
    denied(
        world(&names, &road)
            .fetch(get(format!("http://[::ffff:127.0.0.1]:{port}/")), &open(&origin))
            .await,
    );
    assert_eq!((names.asked().len(), road.dialed().len()), (0, 0));
}

#[tokio::test]
async fn a_name_that_leads_inside_is_denied() {
    let server = Server::plain(|_| answer("200 OK", "", "")).await;
    for inside in [
        "127.0.0.1",
        "169.254.169.254",
        "10.1.2.3",
        "100.64.0.1",
        "0.0.0.0",
        "255.255.255.255",
        "192.0.2.1",
        "::1",
        "fe80::1",
        "fd00:ec2::254",
        "::ffff:127.0.0.1",
        "64:ff9b::a9fe:a9fe",
        "2002:7f00:1::",
    ] {
        for answers in [vec![inside], vec!["8.8.8.8", inside]] {
            let (names, road) = (Names::new(&[&answers]), Detour::to(&server));
            let reason =
                denied(world(&names, &road).fetch(get(format!("{NAME}/")), &open(NAME)).await);
            assert!(reason.contains("api.example"), "{reason}");
            assert_eq!(names.asked(), ["api.example"]);
            assert_eq!(road.dialed(), [""; 0], "{inside}");
        }
    }
    assert_eq!(server.requests().len(), 0);
}

/// For what the operator has written down for the program itself.
#[tokio::test]
async fn a_name_may_lead_inside_where_that_is_allowed() {
    let server = Server::plain(|_| answer("200 OK", "", "inside")).await;
    let (names, road) = (Names::new(&[&["10.1.2.3"]]), Detour::to(&server));
    let allow = Allow { private: true, ..open(NAME) };
    let response = world(&names, &road).fetch(get(format!("{NAME}/")), &allow).await.unwrap();
    assert_eq!(&response.body[..], b"inside");
    assert_eq!(road.dialed(), ["10.1.2.3:80"]);
}

#[tokio::test]
async fn a_name_is_asked_once_so_that_a_second_answer_changes_nothing() {
    let server = Server::plain(|request| match request.starts_with("GET /end ") {
        true => answer("200 OK", "", "outside"),
        false => redirect("302 Found", "/end"),
    })
    .await;
    let (names, road) = (Names::new(&[&["8.8.8.8"], &["127.0.0.1"]]), Detour::to(&server));
    let client = world(&names, &road);
    let response = client.fetch(get(format!("{NAME}/")), &open(NAME)).await.unwrap();
    assert_eq!(&response.body[..], b"outside");
    assert_eq!(names.asked(), ["api.example"]);
    assert_eq!(road.dialed(), ["8.8.8.8:80", "8.8.8.8:80"]);
    // The next request asks anew and is held against the new answer.
    denied(client.fetch(get(format!("{NAME}/")), &open(NAME)).await);
    assert_eq!((names.asked().len(), road.dialed().len()), (2, 2));
}

#[tokio::test]
async fn the_next_address_is_tried_when_one_refuses_or_is_silent() {
    let server = Server::plain(|_| answer("200 OK", "", "")).await;
    let names = Names::new(&[&["8.8.8.8", "2606:4700::1111", "1.1.1.1"]]);
    let road = Detour::with(&server, &["8.8.8.8:80"], &["[2606:4700::1111]:80"]);
    let request = FetchRequest { timeout: Duration::from_secs(2), ..get(format!("{NAME}/")) };
    world(&names, &road).fetch(request, &open(NAME)).await.unwrap();
    assert_eq!(road.dialed(), ["8.8.8.8:80", "[2606:4700::1111]:80", "1.1.1.1:80"]);
}

#[tokio::test]
async fn what_cannot_be_reached_is_said() {
    let server = Server::plain(|_| answer("200 OK", "", "")).await;
    let unreachable = |result| match result {
        Err(FetchError::Unreachable(reason)) => reason,
        other => panic!("{other:?}"),
    };
    let road = Detour::with(&server, &["8.8.8.8:80"], &[]);
    for (names, why) in [
        (Names::new(&[&["8.8.8.8"]]), "8.8.8.8:80: connection refused"),
        (Names::new(&[&[]]), "api.example has no address"),
        (Names::failing("SERVFAIL"), "api.example: SERVFAIL"),
    ] {
        let result = world(&names, &road).fetch(get(format!("{NAME}/")), &open(NAME)).await;
        assert_eq!(unreachable(result), why);
    }
}

#[tokio::test]
async fn only_so_many_addresses_are_tried() {
    let server = Server::plain(|_| answer("200 OK", "", "")).await;
    let many: Vec<String> = (1..=40).map(|n| format!("8.8.8.{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let sockets: Vec<String> = many.iter().map(|ip| format!("{ip}:80")).collect();
    let sockets: Vec<&str> = sockets.iter().map(String::as_str).collect();
    let (names, road) = (Names::new(&[&many]), Detour::with(&server, &sockets, &[]));
    world(&names, &road).fetch(get(format!("{NAME}/")), &open(NAME)).await.unwrap_err();
    assert_eq!(road.dialed().len(), 8);
}

#[derive(Debug)]
struct Silence;

#[async_trait]
impl Addresses for Silence {
    async fn addresses(&self, _: &str) -> Result<Vec<std::net::IpAddr>, String> {
        std::future::pending().await
    }
}

#[tokio::test]
async fn a_resolver_and_a_host_that_say_nothing_cost_no_more_than_the_timeout() {
    let request =
        || FetchRequest { timeout: Duration::from_millis(200), ..get(format!("{NAME}/")) };
    let client = Client::new(config(RootCertStore::empty()), Arc::new(Silence)).unwrap();
    assert_eq!(client.fetch(request(), &open(NAME)).await, Err(FetchError::TimedOut));

    let server = Server::plain(|_| answer("200 OK", "", "")).await;
    let (names, road) = (Names::new(&[&["8.8.8.8"]]), Detour::with(&server, &[], &["8.8.8.8:80"]));
    let result = world(&names, &road).fetch(request(), &open(NAME)).await;
    assert_eq!(result, Err(FetchError::TimedOut));
}
