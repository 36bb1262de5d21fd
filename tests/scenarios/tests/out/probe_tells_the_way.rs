//! `waypost probe route`: the same answers as a delivery would get, without one.

use std::fs;

use clap::Parser as _;
use waypost::args::{Cli, Command, ProbeCommand};
use waypost::probe::route::{Outlook, look};
use waypost_harness::knot::Knot;
use waypost_harness::zone::Zone;
use waypost_scenarios::Home;

async fn probe(home: &Home, domain: &str) -> Outlook {
    home.write();
    let file = home.file();
    let words = ["waypost", "probe", "route", domain, "--config", file.to_str().unwrap()];
    match Cli::try_parse_from(words).unwrap().command {
        Command::Probe(ProbeCommand::Route(args)) => look(&args).await.unwrap(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn hosts_in_order_and_what_each_must_prove() {
    let digest = "22".repeat(32);
    let knot = Knot::serve(&format!(
        "$ORIGIN signed.\n\
         @ MX 20 mx2\n@ MX 10 mx1\nmx1 A 192.0.2.1\nmx2 A 192.0.2.2\n\
         _25._tcp.mx1 TLSA 3 1 1 {digest}\n\
         _smtp._tls TXT \"v=TLSRPTv1; rua=mailto:tls@signed\"\n\
         doubt MX 10 mx3\nmx3 A 192.0.2.3\nnull MX 0 .\n\
         $ORIGIN _tcp.mx3.signed.\n; forged\n_25 TLSA 3 1 1 {digest}\n\
         $ORIGIN plain.\n; unsigned\n@ MX 10 mx\nmx A 192.0.2.4\n"
    ));
    let home = Home::new().trusting().dns(knot.addr, 25);
    let anchor = home.path("anchor");
    fs::write(&anchor, knot.trust_anchor()).unwrap();
    let home = home
        .set("dns", "trust-anchor", &format!("{anchor:?}"))
        .route("inside.example", "127.0.0.1:2525".parse().unwrap());

    let outlook = probe(&home, "signed").await;
    assert_eq!((outlook.dnssec, outlook.hops[0].proven), (Some(true), Some(true)));
    assert_eq!(outlook.reports, ["tls@signed"]);
    let [first, second] = &outlook.hops[0].hosts[..] else { panic!("{outlook:?}") };
    assert_eq!((first.address.as_str(), first.preference), ("192.0.2.1:25", 10));
    assert_eq!(first.tlsa, [format!("3 1 1 {digest}")]);
    assert!(first.demand.contains("DANE") && first.usable, "{first:?}");
    assert_eq!((second.address.as_str(), second.tlsa.len()), ("192.0.2.2:25", 0));
    assert!(second.demand.contains("where it is offered") && second.usable, "{second:?}");

    let outlook = probe(&home, "plain").await;
    assert_eq!(outlook.hops[0].proven, Some(false));
    let outlook = probe(&home, "doubt.signed").await;
    assert!(!outlook.hops[0].hosts[0].usable, "{outlook:?}");
    let outlook = probe(&home, "null.signed").await;
    assert!(outlook.hops[0].permanent && outlook.hops[0].hosts.is_empty(), "{outlook:?}");
    let outlook = probe(&home, "inside.example").await;
    assert!(outlook.route.contains("number 1"), "{}", outlook.route);
    assert_eq!(outlook.hops[0].hosts[0].address, "127.0.0.1:2525");
    assert_eq!(outlook.destination, "127.0.0.1:2525");
}

#[tokio::test]
async fn limits_are_those_of_the_provider_behind_the_domain() {
    let zone = Zone::serve("$ORIGIN example.\na MX 10 mx.big\nb MX 10 mx.small\nmx.big A 192.0.2.1\nmx.small A 192.0.2.2\n").await;
    let home = Home::new().trusting().dns(zone.addr, 25).set("queue", "per-destination", "9");
    let pack = home.path("providers.toml");
    let text = "version = \"1\"\nsource = \"this story\"\n[[provider]]\nname = \"big\"\n\
                mx = [\"mx.big.example\"]\nconnections = 3\nmessages-per-connection = 7\n";
    fs::write(&pack, text).unwrap();
    let home = home.set("delivery", "providers", &format!("{pack:?}"));
    let limits =
        |outlook: Outlook| (outlook.provider, outlook.at_a_time, outlook.messages_per_connection);
    assert_eq!(limits(probe(&home, "a.example").await), (Some("big".to_owned()), 3, 7));
    assert_eq!(limits(probe(&home, "b.example").await), (None, 9, 100));
}
