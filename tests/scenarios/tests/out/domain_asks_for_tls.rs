//! MTA-STS and TLS-RPT: a policy host, policies that outlive it, and reports by mail and by HTTPS.

use std::io::{self, Read as _};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use flate2::read::GzDecoder;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;
use waypost_fetch::{Client, Config, Dialer};
use waypost_harness::authority::Authority;
use waypost_harness::upstream::Upstream;
use waypost_harness::web::Web;
use waypost_harness::zone::Zone;
use waypost_mail::{Addresses, ManualClock, Timestamp, Why};
use waypost_scenarios::{Door, Home, eventually};

use crate::way::{ALICE, BOB, Way, patient};

pub(crate) const PATH: &str = "/.well-known/mta-sts.txt";
const NAMES: &[&str] = &["mta-sts.there.example", "reports.example"];
/// Two o'clock in the morning.
const START: Timestamp = Timestamp(1_800_064_800_000);

/// Every name is at one public address, and whatever goes there comes to the harness' server.
#[derive(Debug)]
struct Detour(SocketAddr);

#[async_trait]
impl Addresses for Detour {
    async fn addresses(&self, _: &str) -> Result<Vec<IpAddr>, String> {
        Ok(vec![IpAddr::from([93, 184, 216, 34])])
    }
}

#[async_trait]
impl Dialer for Detour {
    async fn dial(&self, _: SocketAddr) -> io::Result<TcpStream> {
        TcpStream::connect(self.0).await
    }
}

pub(crate) struct World {
    pub(crate) web: Web,
    pub(crate) zone: Zone,
    pub(crate) upstream: Upstream,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) home: Home,
}

/// The zone of `there.example`, which announces a policy of this id.
fn zone(id: Option<&str>, reports: bool) -> String {
    let mut text = "$ORIGIN there.example.\n@ MX 10 mx\nmx A 127.0.0.2\n".to_owned();
    if let Some(id) = id {
        text += &format!("_mta-sts TXT \"v=STSv1; id={id};\"\n");
    }
    if reports {
        text += "_smtp._tls TXT \"v=TLSRPTv1; rua=mailto:tls@home.example,https://reports.example/tls\"\n";
    }
    text
}

pub(crate) fn policy(mode: &str, mx: &str) -> String {
    format!("version: STSv1\r\nmode: {mode}\r\nmx: {mx}\r\nmax_age: 604800\r\n")
}

/// A relay whose one exchanger is an upstream with a certificate for `name`, or without TLS.
pub(crate) async fn world(name: Option<&str>) -> World {
    let home = patient(Home::new());
    let upstream = match name {
        Some(name) => Upstream::new().with_tls(home.authority().server(name).unwrap()),
        None => Upstream::new(),
    };
    let listener = TcpListener::bind("127.0.0.2:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    upstream.attend(listener);
    let web = Web::serve(home.authority().certified(NAMES).unwrap().server).await;
    let zone = Zone::serve(&zone(Some("1"), true)).await;
    let config = Config { roots: home.authority().roots().unwrap(), max_concurrent: 4 };
    let (names, way) = (Arc::new(Detour(web.addr)), Arc::new(Detour(web.addr)));
    let fetch = Client::with_dialer(config, names, way).unwrap();
    let clock = Arc::new(ManualClock::at(START));
    let trusted = home.authority_file();
    let home = home
        .dns(zone.addr, port)
        .fetch(Arc::new(fetch))
        .clock(clock.clone())
        .set("tls", "ca-file", &format!("{trusted:?}"))
        .set("tls-reports", "from", "\"tls-reports@relay.example\"");
    World { web, zone, upstream, clock, home }
}

async fn sts_connections(way: &Way) -> u64 {
    way.relay.counter("waypost_delivery_protections_total{protection=\"mta-sts\"}").await
}

#[tokio::test]
async fn a_policy_is_fetched_and_obeyed() {
    let World { web, zone: _dns, home, upstream, .. } = world(Some("mx.there.example")).await;
    web.put(PATH, 200, "text/plain", &policy("enforce", "*.there.example"));
    let way = Way::through(home).await;
    for _ in 0..2 {
        let id = way.send().await;
        way.settled(&id).await;
    }
    assert_eq!((upstream.mails().len(), sts_connections(&way).await), (2, 1));
    assert_eq!(web.requests().len(), 1, "once");
    assert_eq!(way.relay.counter("waypost_mta_sts_fetches_total{result=\"fetched\"}").await, 1);
    way.relay.stop().await;
}

#[tokio::test]
async fn who_does_not_meet_it_gets_no_mail() {
    for (name, mx, cause) in [
        (None, "mx.there.example", "does not offer STARTTLS"),
        (Some("other.example"), "mx.there.example", "not valid for name"),
        (Some("mx.there.example"), "other.example", "does not name it"),
    ] {
        let World { web, zone: _dns, home, upstream, .. } = world(name).await;
        web.put(PATH, 200, "text/plain", &policy("enforce", mx));
        let way = Way::through(home).await;
        let why = way.deferred(&way.send().await).await;
        assert!(matches!(&why, Why::TlsRequired { .. }), "{cause}: {why}");
        let text = why.to_string();
        assert!(text.contains(cause) && text.contains("MTA-STS"), "{text}");
        assert!(!upstream.heard().contains("MAIL FROM"), "{cause}");
        way.relay.stop().await;
    }
}

/// The submitter waits for a next hop that meets the policy, and never for one that does not.
#[tokio::test]
async fn also_while_the_submitter_waits() {
    for name in [Some("mx.there.example"), None] {
        let World { web, zone: _dns, home, upstream, .. } = world(name).await;
        web.put(PATH, 200, "text/plain", &policy("enforce", "mx.there.example"));
        let way = Way::through(home.route_as("there.example", "cut-through = true\n")).await;
        let mut peer = way.relay.peer(Door::Relay).await;
        peer.hello().await;
        peer.envelope(ALICE, &[BOB]).await;
        let reply = peer.data("Subject: x\r\n\r\ny\r\n").await;
        if name.is_some() {
            assert!(reply.contains(" delivered to mx.there.example["), "{reply}");
            assert!(upstream.mails()[0].tls);
            assert_eq!(sts_connections(&way).await, 1);
        } else {
            let id = reply.strip_prefix("250 2.0.0 OK queued as ").expect(&reply);
            let why = way.deferred(id).await;
            assert!(matches!(&why, Why::TlsRequired { .. }), "{why}");
            assert!(!upstream.heard().contains("MAIL FROM"), "{}", upstream.heard());
        }
        way.relay.stop().await;
    }
}

#[tokio::test]
async fn a_policy_outlives_its_host_its_record_and_a_restart() {
    let World { web, zone: dns, home, upstream, .. } = world(Some("mx.there.example")).await;
    web.put(PATH, 200, "text/plain", &policy("enforce", "mx.there.example"));
    let way = Way::through(home).await;
    let id = way.send().await;
    way.settled(&id).await;
    let Way { relay, home, .. } = way;
    relay.stop().await;
    // The host is down, the record gone, and somebody answers for the exchanger who has no certificate.
    web.show(None);
    dns.replace(&zone(None, false));
    let impostor = Upstream::new();
    let listener = TcpListener::bind("127.0.0.2:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    impostor.attend(listener);
    let way = Way::through(home.without_routes().dns(dns.addr, port)).await;
    let why = way.deferred(&way.send().await).await;
    assert!(matches!(&why, Why::TlsRequired { error, .. } if error.contains("MTA-STS")), "{why}");
    assert!(!impostor.heard().contains("MAIL FROM"));
    assert_eq!(upstream.mails().len(), 1);
    way.relay.stop().await;
}

/// RFC 8461 §10.2: what is asked for again in time does not end while its host is away.
#[tokio::test]
async fn a_policy_is_fetched_again_ahead_of_its_end_and_stays_while_its_host_is_down() {
    let World { web, zone: _dns, home, upstream, clock } = world(Some("mx.there.example")).await;
    let day = Duration::from_secs(86_400);
    web.put(PATH, 200, "text/plain", &policy("enforce", "mx.there.example"));
    let fetched = "waypost_mta_sts_fetches_total{result=\"fetched\"}";
    let unreachable = "waypost_mta_sts_fetches_total{result=\"unreachable\"}";
    // A connection for each message: each shows what was demanded of it.
    let home = home.set("delivery", "messages-per-connection", "1");
    let way = Way::through(home).await;
    let id = way.send().await;
    way.settled(&id).await;
    assert_eq!(web.requests().len(), 1);

    // A day later mail goes by what is known, and beside it the host is asked again.
    clock.advance(day);
    let id = way.send().await;
    way.settled(&id).await;
    eventually("it is asked again", || web.requests().len() == 2).await;
    let Way { relay, home, alice } = way;
    relay.stop().await;

    // So it is without any mail, six days ahead of the end.
    clock.advance(day);
    let way = Way::with_alice(home.without_routes(), alice).await;
    eventually("it is asked again", || web.requests().len() == 3).await;
    while way.relay.counter(fetched).await < 1 {
        sleep(Duration::from_millis(5)).await;
    }

    // The first policy would have ended by now, the one that was fetched last has a day to go.
    web.show(None);
    clock.advance(6 * day);
    let id = way.send().await;
    way.settled(&id).await;
    while way.relay.counter(unreachable).await < 1 {
        sleep(Duration::from_millis(5)).await;
    }
    let id = way.send().await;
    way.settled(&id).await;
    assert_eq!(upstream.mails().len(), 4);
    assert_eq!(sts_connections(&way).await, 2, "both since the restart");
    way.relay.stop().await;
}

#[tokio::test]
async fn what_is_no_policy_protects_nothing_and_leads_nowhere() {
    let long = policy("enforce", "x.example") + &"x: y\r\n".repeat(20_000);
    let elsewhere = format!("{PATH}?elsewhere");
    for (case, status, media, text) in [
        ("html", 200, "text/html", &policy("enforce", "x.example")),
        ("long", 200, "text/plain", &long),
        ("moved", 302, "text/plain", &elsewhere),
    ] {
        let World { web, zone: _dns, home, upstream, .. } = world(None).await;
        web.put(PATH, status, media, text);
        web.put(&elsewhere, 200, "text/plain", &policy("enforce", "x.example"));
        let way = Way::through(home).await;
        let id = way.send().await;
        way.settled(&id).await;
        assert_eq!((upstream.mails().len(), web.requests().len()), (1, 1), "{case}");
        way.relay.stop().await;
    }
}

/// The sender may set aside what the recipient's side asks for, and not what the operator does.
#[tokio::test]
async fn who_would_rather_be_read_than_lost_is_heard() {
    let content = format!("From: <{ALICE}>\r\nTLS-Required: No\r\n\r\nThe text.\r\n");
    for (route, arrives) in [("mta-sts = true", true), ("tls = \"encrypt\"", false)] {
        let World { web, zone: _dns, home, upstream, .. } = world(None).await;
        web.put(PATH, 200, "text/plain", &policy("enforce", "mx.there.example"));
        let way = Way::through(home.route_as("there.example", route)).await;
        let mut peer = way.relay.peer(Door::Relay).await;
        peer.hello().await;
        let id = peer.deliver(ALICE, &[BOB], &content).await;
        if arrives {
            way.settled(&id).await;
        } else {
            let why = way.deferred(&id).await;
            assert!(matches!(why, Why::TlsRequired { .. }), "{why}");
        }
        assert_eq!(upstream.mails().len(), usize::from(arrives), "{route}");
        way.relay.stop().await;
    }
}

#[tokio::test]
async fn a_policy_host_must_prove_its_name() {
    let World { web, zone: _dns, home, upstream, .. } = world(None).await;
    let stranger = Authority::new().unwrap().certified(NAMES).unwrap();
    web.show(Some(stranger.server));
    web.put(PATH, 200, "text/plain", &policy("enforce", "x.example"));
    let way = Way::through(home).await;
    let id = way.send().await;
    way.settled(&id).await;
    assert_eq!((upstream.mails().len(), web.requests().len()), (1, 0));
    assert_eq!(way.relay.counter("waypost_mta_sts_fetches_total{result=\"untrusted\"}").await, 1);
    way.relay.stop().await;
}

#[tokio::test]
async fn the_end_does_not_wait_for_what_domains_say_about_reports() {
    let World { web, zone: dns, home, .. } = world(Some("mx.there.example")).await;
    web.put(PATH, 200, "text/plain", &policy("testing", "mx.there.example"));
    let way = Way::through(home).await;
    let id = way.send().await;
    way.settled(&id).await;
    way.relay.stop().await;
    assert_eq!(dns.asked("_smtp._tls.there.example", "TXT"), 0);
}

#[tokio::test]
async fn without_a_policy_mail_flows_as_before() {
    let World { web, zone: _dns, home, upstream, .. } = world(None).await;
    web.put(PATH, 404, "text/plain", "gone");
    let way = Way::through(home).await;
    let id = way.send().await;
    way.settled(&id).await;
    assert_eq!(upstream.mails().len(), 1);
    way.relay.stop().await;
}

fn unpacked(octets: &[u8]) -> Value {
    let mut text = String::new();
    GzDecoder::new(octets).read_to_string(&mut text).unwrap();
    serde_json::from_str(&text).unwrap()
}

#[tokio::test]
async fn what_went_wrong_is_told_the_next_day_by_mail_and_https() {
    let World { web, zone: _dns, home, upstream, clock } = world(Some("other.example")).await;
    web.put(PATH, 200, "text/plain", &policy("testing", "mx.there.example"));
    web.put("/tls", 201, "text/plain", "thanks");
    let way = Way::through(home).await;
    let id = way.send().await;
    way.settled(&id).await;
    assert_eq!(upstream.mails().len(), 1, "a policy that is tested stops nothing");
    let reports = way.relay.reports().expect("they are configured");
    reports.send_due().await;
    assert!(way.alice.mails().is_empty(), "the day is not over");
    let Way { relay, home, alice } = way;
    relay.stop().await;

    clock.advance(Duration::from_secs(28 * 3600));
    let way = Way::with_alice(home.without_routes(), alice).await;
    way.relay.reports().unwrap().send_due().await;
    let mail = way.notices(1).await.remove(0);
    assert_eq!(mail.to, ["tls@home.example"]);
    let header = mail.content.split("\r\n\r\n").next().unwrap();
    for line in [
        "TLS-Report-Domain: there.example",
        "TLS-Report-Submitter: relay.example",
        "Content-Type: multipart/report; report-type=\"tlsrpt\";",
        "From: <tls-reports@relay.example>",
    ] {
        assert!(header.contains(line), "{line}: {header}");
    }
    let posts: Vec<_> =
        web.requests().into_iter().filter(|request| request.line == "POST /tls").collect();
    let [post] = &posts[..] else { panic!("{posts:?}") };
    assert!(post.header.to_lowercase().contains("content-type: application/tlsrpt+gzip"));
    let report = unpacked(&post.body);
    assert_eq!(report["policies"][0]["policy"]["policy-type"], "sts");
    assert_eq!(report["policies"][0]["policy"]["policy-domain"], "there.example");
    assert_eq!(report["policies"][0]["summary"]["total-failure-session-count"], 1);
    let failure = &report["policies"][0]["failure-details"][0];
    assert_eq!(failure["result-type"], "certificate-host-mismatch");
    assert_eq!(failure["receiving-mx-hostname"], "mx.there.example");
    let part = mail.content.split("Content-Disposition").nth(1).unwrap();
    let encoded: String = part
        .split("\r\n\r\n")
        .nth(1)
        .unwrap()
        .lines()
        .take_while(|l| !l.starts_with("--"))
        .collect();
    let octets = base64::engine::general_purpose::STANDARD.decode(encoded).unwrap();
    assert_eq!(unpacked(&octets), report);
    way.relay.reports().unwrap().send_due().await;
    assert_eq!(way.alice.mails().len(), 1, "it is told once");
    way.relay.stop().await;
}
