//! The message as plugins read it.

use std::time::Duration;

use serde_json::{Value, json};
use waypost_mail::Text;
use waypost_plugin::{Budget, Stage};

use crate::testbed::mail::{facts, text};
use crate::testbed::{Bed, witness};

async fn read(text: &Text, calls: &[Value]) -> Vec<String> {
    let mut plugin = witness("w", json!({"calls": {"message": calls}}));
    // A host built for tests copies slowly, and its time is the guest's.
    let budget = Budget { cpu: Duration::from_secs(2), wall: Duration::from_secs(10) };
    plugin.budgets.insert(Stage::Message, budget);
    let mut bed = Bed::with([plugin]).await;
    bed.message(&facts("mx"), text).await.unwrap();
    let calls = bed.reasons().into_iter().filter(|reason| !reason.starts_with("saw: "));
    calls.map(|reason| reason.split_once(": ").unwrap().1.to_owned()).collect()
}

/// Octets stay what they are; where text is wanted it is said that they could not be read.
#[tokio::test]
async fn eight_bits_that_are_no_utf8() {
    let header = waypost_mail::HeaderBlock::parse(bytes::Bytes::from_static(
        b"Subject: gr\xfc\xdfe\r\nX-Folded: one\r\n two\r\nX-Folded: three\r\n",
    ));
    let body = waypost_mail::Rope::from(bytes::Bytes::from_static(b"\xfc\xdf\0\r\nend\r\n"));
    let said = read(
        &Text { header, body },
        &[
            json!(["message.headers-named", "subject"]),
            json!(["message.headers-named", "X-FOLDED"]),
            json!(["message.headers"]),
            json!(["message.header-raw", 0]),
            json!(["message.header-raw", 9]),
            json!(["message.body-size"]),
            json!(["message.read-body", 0, 5]),
            json!(["message.read-body", 9, 100]),
            json!(["message.read-body", u64::MAX, 100]),
            json!(["message.find", "end", 0]),
            json!(["message.find", "none", 0]),
            json!(["message.find", "", 0]),
        ],
    )
    .await;
    assert_eq!(said[0], "[\"0 Subject gr\u{fffd}\u{fffd}e true\"]");
    assert_eq!(said[1], "[\"1 X-Folded one two false\", \"2 X-Folded three false\"]");
    assert!(said[2].contains("2 X-Folded three"), "{said:?}");
    assert_eq!(said[3], "5375626a6563743a206772fcdf650d0a");
    assert_eq!(said[4..9], ["none", "10", "fcdf000d0a", "0a", ""]);
    assert_eq!(said[9..], ["Some(5)", "None", "None"]);
}

/// A body larger than any window.
#[tokio::test]
async fn a_large_body() {
    let mut body = vec![b'.'; 3 << 20];
    body.extend_from_slice(b"needle\r\n");
    let said = read(
        &text("Subject: x\r\n", body),
        &[
            json!(["message.body-size"]),
            json!(["message.read-len", 0, u32::MAX]),
            json!(["message.read-len", 3 << 20, u32::MAX]),
            json!(["message.find", "needle", 0]),
            json!(["message.find", "needle", (3 << 20) + 1]),
        ],
    )
    .await;
    let end = 3 << 20;
    assert_eq!(
        said,
        [
            (end + 8).to_string(),
            (256 * 1024).to_string(),
            "8".to_owned(),
            format!("Some({end})"),
            "None".to_owned(),
        ]
    );
}

#[tokio::test]
async fn parts() {
    let header = "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n";
    let body = "--b\r\nContent-Type: text/plain; charset=iso-8859-1\r\n\
                Content-Transfer-Encoding: quoted-printable\r\n\r\ngr=FC=DFe\r\n\
                --b\r\nContent-Type: application/octet-stream\r\n\
                Content-Transfer-Encoding: base64\r\n\r\nYWJj\r\n--b--\r\n";
    let said = read(
        &text(header, body),
        &[
            json!(["message.parts"]),
            json!(["message.read-part", 1, 0, 100]),
            json!(["message.read-part", 2, 0, 100]),
            json!(["message.read-part", 2, 1, 1]),
            json!(["message.read-part", 7, 0, 100]),
        ],
    )
    .await;
    assert!(said[0].starts_with("0 None multipart/mixed 0 "), "{said:?}");
    assert!(said[0].contains("|1 Some(0) text/plain "), "{said:?}");
    assert_eq!(said[1].trim_end_matches('·'), "grüße");
    assert_eq!(said[2..], ["abc", "b", ""]);
}

/// 16 MiB in one call, and no more.
#[tokio::test]
async fn reading_has_an_end() {
    let body = vec![b'.'; 1 << 20];
    let calls = [
        json!(["message.read-times", 0, 1 << 18, 63]),
        json!(["message.read-times", 0, 1 << 18, 100]),
        json!(["message.read-times", 0, 1, 1]),
    ];
    let said = read(&text("Subject: x\r\n", body), &calls).await;
    assert_eq!(said, [(63 << 18).to_string(), (1 << 18).to_string(), "0".to_owned()]);
}

/// Elsewhere there is nothing to read.
#[tokio::test]
async fn elsewhere_there_is_nothing_to_read() {
    let calls = json!([
        ["message.headers"],
        ["message.header-raw", 0],
        ["message.body-size"],
        ["message.read-body", 0, 10],
        ["message.parts"],
        ["message.read-part", 0, 0, 10],
        ["message.find", "x", 0],
    ]);
    let mut bed = Bed::with([witness("w", json!({"calls": {"connect": calls}}))]).await;
    bed.connect(&facts("mx")).await.unwrap();
    let said: Vec<String> = bed.reasons().into_iter().skip(2).collect();
    assert_eq!(
        said,
        [
            "message.headers: []",
            "message.header-raw: none",
            "message.body-size: 0",
            "message.read-body: ",
            "message.parts: ",
            "message.read-part: ",
            "message.find: None",
        ]
    );
}
