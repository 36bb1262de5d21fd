//! Routes on which the next hop answers the submitter.

#![expect(clippy::panic, reason = "a test that cannot go on has failed")]

use std::path::Path;
use std::time::Duration;

use waypost_config::Settings;
use waypost_smtp::Domain;

const GOOD: &str = "hostname = \"relay.example.org\"\nspool = { path = \"/var/spool/waypost\" }\n\
    relay = { networks = [\"192.0.2.0/24\"] }\n\
    [[listener]]\nkind = \"relay\"\naddress = \"127.0.0.1:2525\"\n";

fn load(lines: &str) -> Result<Settings, String> {
    let text = format!("{GOOD}{lines}");
    Settings::parse(Path::new("waypost.toml"), &text).map_err(|mistakes| mistakes.to_string())
}

fn route(lines: &str) -> String {
    format!("[[route]]\ndomains = [\"*\"]\ncut-through = true\n{lines}\n")
}

fn mistakes(lines: &str) -> String {
    load(lines).err().unwrap_or_else(|| panic!("nothing is wrong with {lines}"))
}

#[test]
fn a_route_with_one_next_hop_may_have_it() {
    let goes = |lines: &str, domain: &str| {
        let settings = load(lines).unwrap_or_else(|told| panic!("{told}"));
        settings.reload.routing.goes_through(&Domain::parse(domain).unwrap())
    };
    assert!(goes(&route("via = \"mx\""), "a.example"));
    assert!(goes(&route("via = [{ host = \"smtp.example.net\" }]"), "a.example"));
    let first = "[[route]]\ndomains = [\"slow.example\"]\n".to_owned();
    assert!(!goes(&(first.clone() + &route("")), "slow.example"));
    assert!(goes(&(first + &route("")), "a.example"));
    assert!(!goes("[[route]]\ndomains = [\"*\"]\ncut-through = false\n", "a.example"));
    assert!(!goes("", "a.example"));
}

#[test]
fn where_nobody_speaks_for_all_it_is_a_mistake() {
    let two = "via = [{ host = \"a.example\" }, { host = \"b.example\" }]";
    for (lines, told_of) in [
        (two, "'route.cut-through' is true where 'route.via' names several hosts"),
        ("discard = true", "'route.cut-through' is true where the route leads nowhere"),
        ("fail = \"550 5.1.2 gone\"", "'route.cut-through' is true where the route leads nowhere"),
    ] {
        let told = mistakes(&route(lines));
        assert!(told.contains(told_of) && told.contains("waypost.toml:9:"), "{told_of}: {told}");
        assert!(told.contains("leave out cut-through"), "{told}");
    }
}

#[test]
fn patience_is_shorter_than_that_of_submitters() {
    let patience = |text: &str| format!("[delivery]\ncut-through-patience = \"{text}\"\n");
    let settings = load(&patience("20s")).unwrap();
    assert_eq!(settings.startup.delivery.patience, Duration::from_secs(20));
    assert_eq!(load("").unwrap().startup.delivery.patience, Duration::from_secs(60));
    for text in ["6m", "0s", "100ms"] {
        let told = mistakes(&patience(text));
        assert!(told.contains("is not between 1s and 5m"), "{text}: {told}");
    }
}
