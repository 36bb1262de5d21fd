//! Keys that OpenSSL made, and ours in OpenSSL's hands.

use std::path::Path;
use std::process::Command;

use waypost_identity::keygen::{self, Algorithm};
use waypost_identity::{KeyProblem, SigningKey};

use crate::signer::{Signer, by};
use crate::verifiers;

fn openssl(arguments: &str, directory: &Path) -> Vec<u8> {
    let mut command = Command::new("openssl");
    command.args(arguments.split(' ')).current_dir(directory);
    let output = command.output().expect("openssl is not there: cargo xtask setup brings it");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "openssl {arguments}: {said}");
    output.stdout
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_made_by_openssl_sign() {
    let directory = tempfile::tempdir().unwrap();
    let mut keys = Vec::new();
    for (name, command, kind, bits) in [
        ("pkcs1", "genrsa -traditional -out pkcs1 2048", "rsa", 2048),
        ("pkcs8", "genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:3072 -out pkcs8", "rsa", 3072),
        ("ed", "genpkey -algorithm ED25519 -out ed", "ed25519", 256),
    ] {
        openssl(command, directory.path());
        let key = SigningKey::load(&directory.path().join(name)).unwrap().key;
        assert_eq!((key.public().kind(), key.public().bits()), (kind, bits), "{name}");
        keys.push((name.to_owned(), key));
    }
    let signer = Signer::with(keys).await;
    let requests = ["pkcs1", "pkcs8", "ed"].map(by);
    let signed = [signer.sign(b"From: a@example.org\r\n\r\nhello\r\n", &requests)];
    assert_eq!(verifiers::dkimpy(signer.zone.addr, &signed).await, [[true; 3]]);
}

#[test]
fn openssl_reads_our_keys_and_sees_the_same_public_half() {
    use base64::Engine as _;
    let directory = tempfile::tempdir().unwrap();
    for (algorithm, naked) in [(Algorithm::Rsa2048, false), (Algorithm::Ed25519, true)] {
        let generated = keygen::generate(algorithm).unwrap();
        std::fs::write(directory.path().join("ours"), generated.private_pem()).unwrap();
        let mut der = openssl("pkey -in ours -pubout -outform DER", directory.path());
        if naked {
            der = der.split_off(der.len() - 32);
        }
        let record = keygen::dns_record("s", "example.org", generated.public()).unwrap();
        let (_, published) = record.value.split_once(" p=").unwrap();
        let engine = base64::engine::general_purpose::STANDARD;
        assert_eq!(engine.decode(published).unwrap(), der, "{algorithm:?}");
    }
}

#[test]
fn keys_that_are_not_for_dkim() {
    let directory = tempfile::tempdir().unwrap();
    let problem = |command: &str| {
        openssl(command, directory.path());
        SigningKey::load(&directory.path().join("key")).unwrap_err().problem
    };
    for command in ["genrsa -out key 1024", "genrsa -traditional -out key 1024"] {
        let problem = problem(command);
        assert!(matches!(problem, KeyProblem::TooShort(1024)), "{command}: {problem}");
    }
    let long = problem("genrsa -out key 4104");
    assert!(matches!(long, KeyProblem::TooLong(4104)), "{long}");
    for command in [
        "ecparam -name prime256v1 -genkey -noout -out key",
        "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out key",
        "genpkey -algorithm X25519 -out key",
    ] {
        let problem = problem(command);
        assert!(matches!(problem, KeyProblem::OtherKind), "{command}: {problem}");
    }
    for command in [
        "genrsa -aes128 -passout pass:secret -out key 2048",
        "genrsa -traditional -aes128 -passout pass:secret -out key 2048",
    ] {
        let problem = problem(command);
        assert!(matches!(problem, KeyProblem::Encrypted), "{command}: {problem}");
    }
    openssl("genrsa -out private 2048", directory.path());
    let public = problem("rsa -in private -pubout -out key");
    assert!(matches!(public, KeyProblem::NoKey(_)), "{public}");
}
