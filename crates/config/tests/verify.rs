//! Verification in the configuration: what is documented means what it says, and mistakes are told.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use waypost_config::{Settings, words};
use waypost_identity::keygen::{Algorithm, generate};
use waypost_identity::verify::Checks;
use waypost_intake::{Action, Whose};
use waypost_smtp::ReversePath;

const USUAL: &str = r#"hostname = "relay.example.org"
spool = { path = "/var/spool/waypost" }
relay = { domains = ["example.org"] }
"#;
const LISTENER: &str =
    "[[listener]]\nname = \"mx\"\nkind = \"relay\"\naddress = \"127.0.0.1:2525\"\n";

fn load(listener: &str, text: &str) -> Result<Settings, String> {
    let text = format!("{USUAL}{LISTENER}{listener}{text}");
    Settings::parse(Path::new("w.toml"), &text).map_err(|mistakes| mistakes.to_string())
}

/// A key file that nobody else reads.
fn key(directory: &Path, name: &str, algorithm: Algorithm) -> String {
    let path = directory.join(name);
    fs::write(&path, generate(algorithm).unwrap().private_pem()).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    format!("[keys.{name}]\nfile = {:?}\n", path.display().to_string())
}

#[test]
fn strangers_are_verified_and_nothing_follows_unless_it_is_said() {
    let settings = load("", "").unwrap();
    let verification = &settings.reload.verification;
    assert_eq!(
        (verification.id.as_str(), verification.mail),
        ("relay.example.org", Whose::Strangers)
    );
    assert_eq!(verification.checks, Checks::ALL);
    assert_eq!(verification.on_fail.dmarc, Action::Nothing);
    assert_eq!(verification.seal, None);
    let said = words::describe(&settings);
    assert!(said.contains("on mx: the mail of who may not send to anybody"), "{said}");
}

#[test]
fn every_key_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let keys = key(directory.path(), "main", Algorithm::Rsa2048);
    let text = format!(
        "[verify]\nmail = \"none\"\nchecks = [\"spf\", \"dmarc\", \"arc\"]\n\
         authserv-id = \"Example.ORG\"\ntimeout = \"5s\"\nsignatures = 3\ndmarc-fail = \"refuse\"\n\
         spf-fail = \"hold\"\nact-on = \"all\"\n\
         [verify.seal]\nkey = \"main\"\ndomain = \"example.org\"\nselector = \"s1\"\n\
         [[dkim2]]\nkey = \"main\"\ndomain = \"example.org\"\nselector = \"s1\"\n{keys}"
    );
    let settings = load("verify = \"all\"\n", &text).unwrap();
    let verification = &settings.reload.verification;
    assert_eq!((verification.id.as_str(), verification.mail), ("example.org", Whose::Nobodys));
    assert_eq!(verification.listeners.get("mx"), Some(&Whose::Everybodys));
    assert_eq!(verification.checks, Checks { dkim: false, iprev: false, ..Checks::ALL });
    assert_eq!(
        (verification.limits.signatures, verification.limits.time),
        (3, Duration::from_secs(5))
    );
    let on_fail = verification.on_fail;
    assert_eq!(
        (on_fail.dmarc, on_fail.spf, on_fail.iprev),
        (Action::Refuse, Action::Hold, Action::Nothing)
    );
    assert_eq!(on_fail.mail, Whose::Everybodys);
    assert_eq!(verification.seal.as_ref().map(|seal| seal.selector.as_str()), Some("s1"));
    let sender = |text: &str| ReversePath::Mailbox(text.parse().unwrap());
    assert!(settings.reload.keys.copy_signer(&sender("a@mail.example.org")).is_some());
    assert!(settings.reload.keys.copy_signer(&sender("a@example.com")).is_none());
    let said = words::describe(&settings);
    assert!(
        said.contains("what fails DMARC, and its author's domain asks for it is refused"),
        "{said}"
    );
    assert!(said.contains("sealed (ARC) by example.org"), "{said}");
}

#[test]
fn what_cannot_be_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let keys = key(directory.path(), "ed", Algorithm::Ed25519);
    let seal = |key: &str| {
        format!(
            "[verify.seal]\nkey = \"{key}\"\ndomain = \"example.org\"\nselector = \"s\"\n{keys}"
        )
    };
    for (text, words) in [
        ("[verify]\nmail = \"some\"\n".to_owned(), "'verify.mail' cannot be 'some'"),
        ("[verify]\nchecks = [\"spam\"]\n".to_owned(), "'verify.checks' cannot have 'spam'"),
        ("[verify]\nunknown = 1\n".to_owned(), "unknown key 'unknown' in [verify]"),
        ("[verify]\ntimeout = \"3m\"\n".to_owned(), "'verify.timeout' is too long"),
        (
            "[verify]\nchecks = [\"spf\"]\ndmarc-fail = \"refuse\"\n".to_owned(),
            "'verify.dmarc-fail' waits for a check that is not made",
        ),
        (seal("no"), "there is no signing key 'no'"),
        (seal("ed"), "is not RSA"),
        (format!("[verify]\nchecks = [\"spf\"]\n{}", seal("ed")), "needs a check that is not made"),
        (
            format!("[[dkim2]]\nkey = \"ed\"\ndomain = \"a b\"\nselector = \"s\"\n{keys}"),
            "\"a b\" is no domain to sign for",
        ),
        ("[[dkim2]]\nkey = \"ed\"\n".to_owned(), "'dkim2.domain' is missing"),
        (
            "[[plugin]]\nname = \"verify\"\nfile = \"/x.wasm\"\n".to_owned(),
            "no plugin can be called 'verify'",
        ),
    ] {
        let said = load("", &text).unwrap_err();
        assert!(said.contains(words), "{words}: {said}");
    }
}
