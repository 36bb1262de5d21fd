//! The program as its users meet it: the real binary, its output and its exit code.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn waypost(args: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_waypost"))
        .args(args)
        .env_remove("WAYPOST_CONFIG")
        .env_remove("WAYPOST_LOG")
        .env_remove("WAYPOST_PASSWORD")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that does not read has gone already.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// A relay for mail from loopback to a next hop that nobody is.
fn configuration(dir: &Path, more: &str) -> String {
    let text = format!(
        "hostname = \"relay.example\"\n{more}\n\
         [spool]\npath = \"{spool}\"\nkeep-free = \"1 MiB\"\nreserve = \"1 MiB\"\n\
         [admin]\nsocket = \"{socket}\"\n\
         [[listener]]\nname = \"in\"\nkind = \"relay\"\naddress = \"127.0.0.1:0\"\n\
         [relay]\nnetworks = [\"127.0.0.0/8\"]\n\
         [[route]]\ndomains = [\"*\"]\nvia = [{{ host = \"127.0.0.1\", port = 1 }}]\n",
        spool = dir.join("spool").display(),
        socket = dir.join("admin.sock").display(),
    );
    let path = dir.join("waypost.toml");
    fs::write(&path, text).unwrap();
    path.display().to_string()
}

#[test]
fn check_says_what_a_good_configuration_does() {
    let dir = tempfile::tempdir().unwrap();
    let config = configuration(dir.path(), "");
    let checked = waypost(&["check", "--config", &config], "");
    assert!(checked.status.success(), "{}", err(&checked));
    assert!(out(&checked).contains("peers in 127.0.0.0/8: to anybody"), "{}", out(&checked));
    assert!(out(&checked).contains("the configuration is good"), "{}", out(&checked));
}

#[test]
fn check_tells_every_mistake_with_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let config = configuration(dir.path(), "colour = 1\npostmaster = \"nobody at all\"");
    let checked = waypost(&["check", "--config", &config], "");
    assert_eq!(checked.status.code(), Some(1));
    assert_eq!(out(&checked), "");
    let said = err(&checked);
    assert!(said.contains(&format!("{config}:2:")) && said.contains("colour"), "{said}");
    assert!(said.contains(&format!("{config}:3:")) && said.contains("postmaster"), "{said}");
    assert!(said.contains("2 mistakes in the configuration"), "{said}");
}

#[test]
fn users_are_added_listed_changed_and_removed() {
    let dir = tempfile::tempdir().unwrap();
    let users = dir.path().join("users");
    let file = users.to_str().unwrap();
    let user = |args: &[&str], input: &str| {
        waypost(&[&["user"], args, &["--users", file]].concat(), input)
    };

    let added = user(&["add", "anna"], "geheim wie nie\n");
    assert!(added.status.success(), "{}", err(&added));
    assert!(err(&added).contains("waypost reload"), "{}", err(&added));
    let first = fs::read_to_string(&users).unwrap();
    assert!(!first.contains("geheim"), "{first}");

    let again = user(&["add", "anna"], "another\n");
    assert_eq!(again.status.code(), Some(1));
    assert!(err(&again).contains("exists already"), "{}", err(&again));
    assert_eq!(user(&["add", "ben"], "").status.code(), Some(1), "without a password");

    let listed: serde_json::Value =
        serde_json::from_slice(&user(&["list", "--json"], "").stdout).unwrap();
    let mechanisms = ["SCRAM-SHA-256", "PLAIN", "LOGIN"];
    let expected = serde_json::json!([{ "name": "anna", "mechanisms": mechanisms, "send_as": [] }]);
    assert_eq!(listed, expected);
    assert!(out(&user(&["list"], "")).ends_with("1 user\n"));

    assert!(user(&["passwd", "anna"], "something else\n").status.success());
    assert_ne!(fs::read_to_string(&users).unwrap(), first);
    assert!(user(&["remove", "anna"], "").status.success());
    assert_eq!(out(&user(&["list"], "")), "no users\n");
    assert_eq!(user(&["remove", "anna"], "").status.code(), Some(1));
}

#[test]
fn users_are_given_addresses_and_old_mechanisms() {
    let dir = tempfile::tempdir().unwrap();
    let users = dir.path().join("users");
    let file = users.to_str().unwrap();
    let user = |args: &[&str], input: &str| {
        waypost(&[&["user"], args, &["--users", file]].concat(), input)
    };
    let add = ["add", "anna", "--scram-sha-1", "--send-as", "@a.example", "--send-as", "<>"];
    assert!(user(&add, "geheim wie nie\n").status.success());
    assert!(user(&["passwd", "anna"], "something else\n").status.success());
    let listed = out(&user(&["list"], ""));
    assert!(listed.contains("SCRAM-SHA-256 SCRAM-SHA-1 PLAIN LOGIN"), "{listed}");
    assert!(listed.contains("@a.example <>"), "{listed}");
    assert!(user(&["send-as", "anna", "team@b.example"], "").status.success());
    let listed = out(&user(&["list"], ""));
    assert!(listed.contains("team@b.example") && !listed.contains("<>"), "{listed}");
    let wrong = user(&["send-as", "anna", "team"], "");
    assert!(!wrong.status.success() && err(&wrong).contains("no pattern of senders"));
}

#[test]
fn without_a_relay_nobody_can_be_let_in_again() {
    let dir = tempfile::tempdir().unwrap();
    let config = configuration(dir.path(), "");
    for args in [&["ban", "list"][..], &["ban", "lift", "--all"]] {
        let asked = waypost(&[args, &["--config", &config]].concat(), "");
        assert_eq!(asked.status.code(), Some(1));
        assert!(err(&asked).contains("no waypost answers"), "{}", err(&asked));
    }
    let unclear = waypost(&["ban", "lift", "--config", &config], "");
    assert!(err(&unclear).contains("say which address or network"), "{}", err(&unclear));
}

#[test]
fn without_a_relay_and_a_spool_the_queue_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let config = configuration(dir.path(), "");
    let listed = waypost(&["queue", "list", "--config", &config], "");
    assert_eq!(listed.status.code(), Some(1));
    assert!(err(&listed).contains("waypost is not running"), "{}", err(&listed));
    assert!(err(&listed).contains("there is no spool"), "{}", err(&listed));
    assert!(!dir.path().join("spool").exists(), "looking must not make a spool");
}

/// As root the relay becomes the user it is told to, for good; others are told that they cannot.
#[test]
fn privileges_are_given_up_or_the_relay_does_not_start() {
    let dir = tempfile::tempdir().unwrap();
    let id =
        |of: &str| String::from_utf8(Command::new("id").arg(of).output().unwrap().stdout).unwrap();
    let am_root = id("-u").trim() == "0";
    let other = if am_root { "nobody" } else { "root" };
    let config = configuration(dir.path(), &format!("process = {{ user = \"{other}\" }}"));
    if !am_root {
        let refused = waypost(&["run", "--config", &config], "");
        assert_eq!(refused.status.code(), Some(1));
        assert!(err(&refused).contains("only root can become"), "{}", err(&refused));
        return;
    }
    let nobody = Command::new("id").args(["-u", "nobody"]).output().unwrap();
    let nobody: u32 = String::from_utf8(nobody.stdout).unwrap().trim().parse().unwrap();
    let spool = dir.path().join("spool");
    fs::create_dir(&spool).unwrap();
    for place in [dir.path(), &spool] {
        std::os::unix::fs::chown(place, Some(nobody), None).unwrap();
    }
    let mut relay = Command::new(env!("CARGO_BIN_EXE_waypost"))
        .args(["run", "--config", &config])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let log = BufReader::new(relay.stderr.take().unwrap());
    let listens = log.lines().map(Result::unwrap).any(|line| line.contains("listening"));
    let status = fs::read_to_string(format!("/proc/{}/status", relay.id())).unwrap_or_default();
    relay.kill().unwrap();
    relay.wait().unwrap();
    assert!(listens, "the relay did not start");
    let ids = format!("Uid:\t{nobody}\t{nobody}\t{nobody}\t{nobody}\n");
    assert!(status.contains(&ids), "{status}");
}

#[test]
fn send_says_that_nobody_listens() {
    let args = ["--server", "127.0.0.1:1", "--from", "a@example.org", "--to", "b@example.org"];
    let sent = waypost(&[&["send"], args.as_slice()].concat(), "");
    assert_eq!(sent.status.code(), Some(1));
    assert!(err(&sent).contains("cannot reach 127.0.0.1:1"), "{}", err(&sent));
}

#[test]
fn the_demonstration_goes_the_way_it_should() {
    let dir = tempfile::tempdir().unwrap();
    let shown = Command::new(env!("CARGO_BIN_EXE_waypost"))
        .args(["demo", "--once"])
        .env("TMPDIR", dir.path())
        .output()
        .unwrap();
    let said = out(&shown);
    assert!(shown.status.success(), "{said}\n{}", err(&shown));
    for stage in [
        "TLS 1.3 by STARTTLS",
        "TLS 1.3 from the first byte",
        "logged in by SCRAM-SHA-256",
        "told 250 2.0.0 OK queued as",
        "450 4.2.1",
        "550 5.1.1",
        "a notice for <demo@demo.example>",
        "All 3 messages went the way they should",
    ] {
        assert!(said.contains(stage), "{stage} is missing:\n{said}");
    }
    assert!(said.lines().all(|line| line.chars().count() <= 100), "{said}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "files are left");
}
