//! Smart hosts: the second where the first is down, on their ports, after logging in.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use waypost_harness::upstream::Upstream;
use waypost_mail::Why;
use waypost_scenarios::{Door, Home, PASSWORD, USER};

use crate::way::{Way, home_to, nobody, patient};

/// Lines of a route to these ports of this machine, with a login.
fn route(home: &Home, ports: &[u16], user: &str, password: &str) -> String {
    let file = home.path("smarthost.password");
    fs::write(&file, format!("{password}\n")).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let hop = |port: &u16| format!("{{ host = \"127.0.0.1\", port = {port} }}");
    let hops: Vec<String> = ports.iter().map(hop).collect();
    format!(
        "via = [{}]\ntls = \"encrypt\"\nauth = {{ user = \"{user}\", password-file = {file:?} }}",
        hops.join(", ")
    )
}

async fn way(ports: &[u16], user: &str, password: &str) -> Way {
    let home = patient(Home::new());
    let route = route(&home, ports, user, password);
    Way::through(home.route_as("*", &route)).await
}

#[tokio::test]
async fn the_second_takes_what_the_first_does_not() {
    let authority = waypost_harness::authority::Authority::new().unwrap();
    let upstream = Upstream::new()
        .with_tls(authority.server("127.0.0.1").unwrap())
        .with_login("relay", "s3cret");
    let port = upstream.listen().await.unwrap().port();
    let way = way(&[nobody().port(), port], "relay", "s3cret").await;
    let id = way.send().await;
    way.settled(&id).await;
    let mails = upstream.mails();
    assert_eq!(mails.len(), 1);
    assert_eq!((mails[0].user.as_deref(), mails[0].tls), (Some("relay"), true));
    way.relay.stop().await;
}

#[tokio::test]
async fn a_wrong_password_bounces_nothing_and_is_told_nobody() {
    let authority = waypost_harness::authority::Authority::new().unwrap();
    let upstream = Upstream::new()
        .with_tls(authority.server("127.0.0.1").unwrap())
        .with_login("relay", "another");
    let port = upstream.listen().await.unwrap().port();
    let way = way(&[port], "relay", "s3cret").await;
    let id = way.send().await;
    let why = way.deferred(&id).await;
    assert!(matches!(why, Why::AuthFailed { .. }), "{why}");
    assert!(!why.to_string().contains("s3cret"));
    assert!(upstream.mails().is_empty() && way.alice.mails().is_empty());
    way.relay.stop().await;
}

/// Another relay as smart host offers SCRAM, and that is what is used.
#[tokio::test]
async fn the_password_itself_is_not_sent_where_scram_is_offered() {
    let target = Upstream::new();
    let host = home_to(target.listen().await.unwrap()).users();
    let smart = host.start().await;
    let port = smart.address(Door::Submission).port();
    let way = way(&[port], USER, PASSWORD).await;
    let id = way.send().await;
    way.settled(&id).await;
    smart.empty().await;
    assert_eq!(target.mails().len(), 1);
    let logins = smart.client().text("/metrics").await.unwrap();
    let used: Vec<&str> = logins.lines().filter(|l| l.contains("logins_total{")).collect();
    assert!(used.iter().all(|line| line.contains("SCRAM-SHA-256")), "{used:?}");
    assert_eq!(used.len(), 1, "{used:?}");
    way.relay.stop().await;
    smart.stop().await;
}

#[tokio::test]
async fn a_smart_host_knows_us_by_our_certificate() {
    let home = patient(Home::new());
    let ours = waypost_harness::authority::Authority::new().unwrap();
    let upstream =
        Upstream::new().with_tls(home.authority().server_for("127.0.0.1", &ours).unwrap());
    let port = upstream.listen().await.unwrap().port();
    let (chain, key) = (home.path("client.pem"), home.path("client-key.pem"));
    let (certificate, secret) = ours.pair(&["relay.example"]).unwrap();
    fs::write(&chain, certificate).unwrap();
    fs::write(&key, secret).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    let via = format!("via = [{{ host = \"127.0.0.1\", port = {port} }}]\ntls = \"verify\"\n");
    let shown = format!("client-certificate = {{ chain = {chain:?}, key = {key:?} }}\n");
    let trusted = home.authority_file();
    let home = home
        .set("tls", "ca-file", &format!("{trusted:?}"))
        .route_as("there.example", &format!("{via}{shown}"))
        .route_as("*", &via);
    let way = Way::through(home).await;
    let id = way.send().await;
    way.settled(&id).await;
    assert_eq!(upstream.mails().len(), 1);
    way.deferred(&way.send_to(&["bob@elsewhere.example"]).await).await;
    assert_eq!(upstream.mails().len(), 1, "to whom a route without one leads it is not shown");
    way.relay.stop().await;
}
