//! Listeners beside SMTP: LMTP, programs of this machine, HTTP.

#![expect(clippy::panic, clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::path::Path;

use waypost_config::{Settings, words};
use waypost_inbound::{ListenerKind, Place, PriorityRule};

const TOP: &str = "hostname = \"relay.example\"\n[spool]\npath = \"/var/spool/waypost\"\n\
                   [relay]\nnetworks = [\"192.0.2.0/24\"]\n";

fn parsed(text: &str) -> Result<Settings, String> {
    Settings::parse(Path::new("w.toml"), &format!("{TOP}{text}")).map_err(|wrong| wrong.to_string())
}

fn refused(text: &str, words: &str) {
    let told = parsed(text).unwrap_err();
    assert!(told.contains(words), "no «{words}» in\n{told}");
}

fn unix(settings: &Settings, at: usize) -> (String, u32) {
    match &settings.startup.doors[at].place {
        Place::Unix { path, mode } => (path.display().to_string(), *mode),
        Place::Tcp(address) => panic!("at {address}"),
    }
}

#[test]
fn sockets_have_paths_and_permissions() {
    let settings = parsed(
        "[[listener]]\nkind = \"local\"\n[[listener]]\nkind = \"lmtp\"\nsocket = \"/run/w/lmtp.sock\"\n\
         [[listener]]\nkind = \"lmtp\"\nname = \"other\"\nsocket = \"/run/w/other.sock\"\nmode = \"0600\"\n\
         [[listener]]\nkind = \"lmtp\"\naddress = \"127.0.0.1:24\"\n",
    )
    .unwrap();
    assert_eq!(unix(&settings, 0), ("/run/waypost/submit.sock".to_owned(), 0o666));
    assert_eq!(unix(&settings, 1), ("/run/w/lmtp.sock".to_owned(), 0o660));
    assert_eq!(unix(&settings, 2).1, 0o600);
    let names: Vec<_> =
        settings.startup.doors.iter().map(|door| door.config.name.as_str()).collect();
    assert_eq!(names, ["local", "lmtp", "other", "lmtp-24"]);
    let text = words::describe(&settings);
    assert!(
        text.contains("on /run/waypost/submit.sock (local): programs of this machine"),
        "{text}"
    );
    assert!(text.contains("on 127.0.0.1:24 (lmtp-24): LMTP; without TLS"), "{text}");
}

#[test]
fn what_does_not_fit_a_door_is_a_mistake() {
    refused(
        "[[listener]]\nkind = \"local\"\naddress = \"127.0.0.1:25\"\n",
        "has a Unix socket and no address",
    );
    refused("[[listener]]\nkind = \"relay\"\nsocket = \"/run/x\"\n", "have a Unix socket");
    refused("[[listener]]\nkind = \"lmtp\"\naddress = \"127.0.0.1:25\"\n", "not spoken on port 25");
    refused(
        "[[listener]]\nkind = \"lmtp\"\naddress = \"127.0.0.1:24\"\nmode = \"0600\"\n",
        "is for a Unix socket",
    );
    refused("[[listener]]\nkind = \"lmtp\"\nsocket = \"/run/x\"\nmode = \"rw\"\n", "permissions");
    refused("[[listener]]\nkind = \"lmtp\"\n", "'listener.address' is missing");
    let two = "[[listener]]\nkind = \"local\"\n[[listener]]\nkind = \"local\"\nname = \"b\"\n";
    refused(two, "two listeners are at /run/waypost/submit.sock");
}

#[test]
fn tokens_do_not_go_over_a_network_in_clear_text() {
    let dir = tempfile::tempdir().unwrap();
    let tokens = dir.path().join("tokens");
    waypost_inbound::BearersFile::load_or_empty(&tokens).unwrap().add("shop").unwrap();
    let http = format!(
        "[http]\ntokens = {tokens:?}\nrequests = 3\njson-size = \"1MiB\"\nbody-timeout = \"5s\"\nkey-lifetime = \"2h\"\n"
    );
    let at = |kind: &str, address: &str| {
        format!("[[listener]]\nkind = {kind:?}\naddress = {address:?}\n")
    };
    let settings = parsed(&format!("{http}{}", at("http", "127.0.0.1:8025"))).unwrap();
    assert_eq!(settings.startup.doors[0].config.kind, ListenerKind::Http);
    let given = &settings.reload.inbound.http;
    assert_eq!((given.tokens.len(), given.max_requests, given.max_json_size), (1, 3, 1 << 20));
    assert_eq!((given.body_timeout.as_secs(), given.key_lifetime.as_secs()), (5, 7200));
    refused(&format!("{http}{}", at("http", "0.0.0.0:8025")), "would take tokens in clear text");
    refused(
        &format!("{http}{}", at("https", "0.0.0.0:8025")),
        "needs TLS, and there is no certificate",
    );
    refused(&at("http", "127.0.0.1:8025"), "nobody has one");
    refused(
        "[http]\ntokens = \"/nonexistent\"\n[[listener]]\nkind = \"local\"\n",
        "cannot read the tokens file",
    );
}

#[test]
fn how_urgent_mail_may_be_is_said_at_each_door() {
    let door = |name: &str, lines: &str| {
        format!(
            "[[listener]]\nname = {name:?}\nkind = \"lmtp\"\naddress = \"127.0.0.1:24\"\n{lines}\n"
        )
    };
    let rule = |lines: &str| {
        let settings = parsed(&door("a", lines)).unwrap();
        settings.reload.inbound.doors["a"].priority.clone()
    };
    assert_eq!(rule(""), PriorityRule::default());
    let given = rule("priority = { offer = true, highest = -2 }");
    assert_eq!((given.offered, given.highest.get()), (Some(true), -2));
    for (value, words) in [
        ("{ highest = 10 }", "'listener.priority.highest' must be from -9 to 9"),
        ("{ highest = \"4\" }", "'listener.priority.highest' must be a whole number"),
        ("{ offer = 1 }", "'listener.priority.offer' must be true or false"),
        ("{ lowest = 1 }", "unknown key 'lowest' in [listener.priority]"),
    ] {
        refused(&door("a", &format!("priority = {value}")), words);
    }
    let more = "[delivery]\npriority-field = false\n[queue]\nreturn-size = \"0\"\n";
    let delivery = parsed(&format!("{}{more}", door("a", ""))).unwrap().startup.delivery;
    assert_eq!((delivery.priority_field, delivery.max_returned), (false, 0));
    let more = "[queue]\nreturn-size = \"65MiB\"\n";
    refused(&format!("{}{more}", door("a", "")), "'queue.return-size' must be at most 64MiB");
}
