//! What we sign, others verify: dkimpy, Mail::DKIM and mail-auth read the signatures, and find the
//! public keys by DNS in the records that our keygen wrote.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "helpers of tests fail the test and say why"
)]

mod openssl;
mod signer;
mod verifiers;

use std::time::Duration;

use waypost_identity::keygen::Algorithm;
use waypost_mail::{Clock, SignRequest, SystemClock, Timestamp};

use crate::signer::{Signer, by, by_both, key};

const HEADER: &str = "Received: from a by b;\r\n Mon, 23 Nov 2026 18:41:00 +0000\r\n\
    From: =?utf-8?q?M=C3=BCller?=\r\n  <m@example.org>\r\n\
    To: one@example.net,\r\n\ttwo@example.net\r\n\
    subject:\t  Spaces \t and\r\n \t folds  \r\n\
    Date: Mon, 23 Nov 2026 18:41:00 +0000\r\n\
    Message-ID:\r\n <1@example.org>\r\n\
    MIME-Version: 1.0\r\n\
    Content-Type: text/plain; charset=utf-8\r\n\
    Content-Transfer-Encoding: 8bit\r\n";

fn message(body: &str) -> Vec<u8> {
    format!("{HEADER}\r\n{body}").into_bytes()
}

/// Messages that each must pass by every key, with every verifier that is right about them.
fn messages() -> Vec<(&'static str, Vec<u8>)> {
    let long_lines =
        format!("{}\r\n{} {}\r\n", "x".repeat(998), "y".repeat(5000), "z ".repeat(900));
    let many_lines = "A line of text  with\tspaces. \r\n".repeat(5000);
    let repeated =
        format!("List-Id: 1\r\nTo: a@b.example\r\nReferences: {}\r\n", "<a@b>\r\n ".repeat(99));
    vec![
        ("text", message("Hi.\r\n\r\nWe lost the game.  Are you hungry yet?\r\n\r\nJoe.\r\n")),
        ("empty body", message("")),
        ("one blank line", message("\r\n")),
        ("blank lines at the end", message("a\r\n\r\n\r\n\r\n")),
        ("blank lines in front", message("\r\n\r\n a\r\n")),
        ("no final line end", message("a\r\nb")),
        ("8-bit body", message("Gr\u{fc}\u{df}e \u{2003}\u{1f600}\r\n \u{a0} x\r\n")),
        (
            "octets that are no UTF-8",
            [message("").as_slice(), &[0xff, 0xfe, b' ', b' ', 0x80, 0, 13, 10]].concat(),
        ),
        (
            "8-bit header",
            "From: M\u{fc}ller <m\u{fc}@example.org>\r\nSubject: \u{fc}  \u{df}\r\n\r\na\r\n"
                .into(),
        ),
        ("long lines", message(&long_lines)),
        ("many lines", message(&many_lines)),
        ("dots", message(".\r\n..\r\n.a\r\n")),
        (
            "repeated fields",
            format!("{repeated}{HEADER}List-Id: 2\r\nTO: c@d.example\r\n\r\na\r\n").into_bytes(),
        ),
        ("empty fields", format!("{HEADER}Cc:\r\nReply-To: \r\n\t\r\n\r\na\r\n").into_bytes()),
        ("only From", b"From: a@example.org\r\n\r\n".to_vec()),
    ]
}

/// As [`messages`], but mail-auth 0.13.3 keeps lines of white space at the end of a body, and drops
/// bare CR.
fn beyond_mail_auth() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("white lines at the end", message("a\r\n \r\n\t\r\n  \t \r\n\r\n \r\n")),
        ("nothing but white lines", message(" \r\n\t\r\n\r\n")),
        ("white lines in the middle too", message("a\r\n  \r\n\r\n\t\r\nb \r\n \r\n")),
        ("bare CR in the body", message("a\rb \r c\r\n")),
        ("form feed", b"From: a@example.org\r\nSubject: a\x0cb\r\n\r\nx\x0c\x0b y\r\n".to_vec()),
    ]
}

fn assert_all(who: &str, names: &[&str], verdicts: &[Vec<bool>], expected: &[bool]) {
    for (name, verdicts) in names.iter().zip(verdicts) {
        assert_eq!(verdicts, expected, "{who}: {name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_message_passes_by_every_key() {
    let kinds = [
        ("rsa2", Algorithm::Rsa2048),
        ("rsa3", Algorithm::Rsa3072),
        ("rsa4", Algorithm::Rsa4096),
        ("ed", Algorithm::Ed25519),
    ];
    let signer = Signer::with(kinds.map(|(name, algorithm)| key(name, algorithm)).to_vec()).await;
    let requests = kinds.map(|(name, _)| by(name));
    let (mut names, messages): (Vec<_>, Vec<_>) = messages().into_iter().unzip();
    let mut signed: Vec<_> = messages.iter().map(|m| signer.sign(m, &requests)).collect();
    let plain = verifiers::mail_auth(signer.zone.addr, &signed).await;
    assert_all("mail-auth", &names, &plain, &[true; 4]);

    for (name, message) in beyond_mail_auth() {
        names.push(name);
        signed.push(signer.sign(&message, &requests));
    }
    let dkimpy = verifiers::dkimpy(signer.zone.addr, &signed).await;
    assert_all("dkimpy", &names, &dkimpy, &[true; 4]);
    let mail_dkim = verifiers::mail_dkim(signer.zone.addr, &signed).await;
    assert_all("Mail::DKIM", &names, &mail_dkim, &[true; 3]);
}

/// Why the canonical forms are made here: when this fails, mail-auth has been mended.
#[tokio::test(flavor = "multi_thread")]
async fn mail_auth_has_canonical_forms_of_its_own() {
    let signer = Signer::new().await;
    let (names, messages): (Vec<_>, Vec<_>) = beyond_mail_auth().into_iter().unzip();
    let signed: Vec<_> = messages.iter().map(|m| signer.sign(m, &by_both())).collect();
    let verdicts = verifiers::mail_auth(signer.zone.addr, &signed).await;
    assert_all("mail-auth", &names, &verdicts, &[false; 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_relaxed_forms_forgive() {
    let text = "a  b\r\n\r\n";
    let edits: &[(&str, &str, &str)] = &[
        ("refolded", "\r\n\ttwo@", " two@"),
        ("field name in another case", "Date:", "dAtE:"),
        ("white space in the body", "a  b\r\n", "a b\t \r\n\r\n"),
        ("a field nobody signed", "\r\nFrom:", "\r\nX-Spam: no\r\nFrom:"),
        ("a trace field", "Received:", "Received: from c by d;\r\nReceived:"),
    ];
    assert_edits(&message(text), &by_both(), edits, &[true; 2]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_edited_fails() {
    let edits: &[(&str, &str, &str)] = &[
        ("body", "pay 10", "pay 90"),
        ("appended", "pay 10\r\n", "pay 10\r\nand more\r\n"),
        ("words in the body joined", "pay 10", "pay10"),
        ("subject", "Spaces", "Spices"),
        ("sender", "<m@example.org>", "<n@example.org>"),
        ("field taken away", "Date: Mon, 23 Nov 2026 18:41:00 +0000\r\n", ""),
        ("tag", "a=", "q=dns/txt; a="),
        ("domain", "d=example.org", "d=ample.org"),
        ("expiry", "x=1", "x=2"),
        ("fields of the signature", "h=from:from:", "h=from:"),
    ];
    assert_edits(&message("pay 10\r\n"), &by_both(), edits, &[false; 2]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_oversigned_field_cannot_be_added() {
    let names = ["From", "Reply-To", "To", "Cc", "Subject", "Date", "Message-ID", "Content-Type"];
    let added: Vec<String> =
        names.iter().map(|name| format!("{name}: x@example.com\r\n")).collect();
    let mut edits = Vec::new();
    let below: Vec<String> = added.iter().map(|field| format!("8bit\r\n{field}\r\n")).collect();
    let above: Vec<String> = added.iter().map(|field| format!("{field}Received:")).collect();
    for ((name, below), above) in names.iter().zip(&below).zip(&above) {
        edits.push((*name, "8bit\r\n\r\n", below.as_str()));
        edits.push((*name, "Received:", above.as_str()));
    }
    assert_edits(&message("a\r\n"), &by_both(), &edits, &[false; 2]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_oversigning_a_field_can_be_added() {
    let listed = |key| SignRequest { headers: vec!["Subject".to_owned()], ..by(key) };
    let requests = ["rsa", "ed"].map(listed);
    let edits = [
        ("above", "Received:", "Subject: x\r\nReceived:"),
        ("Cc", "Received:", "Cc: x\r\nReceived:"),
    ];
    assert_edits(&message("a\r\n"), &requests, &edits, &[true; 2]).await;
    let below = [("below", "8bit\r\n\r\n", "8bit\r\nSubject: x\r\n\r\n")];
    assert_edits(&message("a\r\n"), &requests, &below, &[false; 2]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn repeated_fields_keep_their_order() {
    let text = format!("List-Id: 1\r\n{HEADER}List-Id: 2\r\n\r\na\r\n");
    let swapped =
        ("swapped", text.as_str(), &*text.replace("Id: 1", "Id: 0").replace("Id: 2", "Id: 1"));
    assert_edits(text.as_bytes(), &by_both(), &[swapped], &[false; 2]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signature_expires() {
    let signer = Signer::new().await;
    // dkimpy allows for clocks that are ten hours wrong.
    let then = Timestamp(SystemClock.now().0 - Duration::from_secs(24 * 3600).as_millis() as u64);
    let lasting =
        by_both().into_iter().map(|request| SignRequest { expire_after: None, ..request });
    let lasting: Vec<SignRequest> = lasting.collect();
    let signed = [
        signer.sign_at(&message("a\r\n"), &by_both(), then),
        signer.sign_at(&message("a\r\n"), &lasting, then),
    ];
    let expected = [[false; 2], [true; 2]];
    assert_eq!(verifiers::dkimpy(signer.zone.addr, &signed).await, expected);
    assert_eq!(verifiers::mail_dkim(signer.zone.addr, &signed).await, [[false; 1], [true; 1]]);
    assert_eq!(verifiers::mail_auth(signer.zone.addr, &signed).await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_key_under_the_name_fails() {
    let signer = Signer::new().await;
    let other = Signer::new().await;
    let signed = [signer.sign(&message("a\r\n"), &by_both())];
    assert_eq!(verifiers::dkimpy(other.zone.addr, &signed).await, [[false; 2]]);
    assert_eq!(verifiers::mail_dkim(other.zone.addr, &signed).await, [[false; 1]]);
    assert_eq!(verifiers::mail_auth(other.zone.addr, &signed).await, [[false; 2]]);
}

/// Signs `original`, replaces in the signed text, and asks everybody. The last signature is by
/// Ed25519, which Mail::DKIM does not know.
async fn assert_edits(
    original: &[u8],
    requests: &[SignRequest],
    edits: &[(&str, &str, &str)],
    expected: &[bool],
) {
    let signer = Signer::new().await;
    let signed = String::from_utf8(signer.sign(original, requests)).unwrap();
    let mut edited = Vec::new();
    for (name, from, to) in edits {
        assert!(signed.contains(from), "{name}: {signed}");
        edited.push(signed.replace(from, to).into_bytes());
    }
    edited.push(signed.into_bytes());
    let names: Vec<&str> = edits.iter().map(|(name, ..)| *name).collect();
    let (_, rsa) = expected.split_last().unwrap();
    for (who, mut verdicts, expected) in [
        ("dkimpy", verifiers::dkimpy(signer.zone.addr, &edited).await, expected),
        ("Mail::DKIM", verifiers::mail_dkim(signer.zone.addr, &edited).await, rsa),
        ("mail-auth", verifiers::mail_auth(signer.zone.addr, &edited).await, expected),
    ] {
        assert_eq!(verdicts.pop().unwrap(), vec![true; expected.len()], "{who}: untouched");
        assert_all(who, &names, &verdicts, expected);
    }
}
