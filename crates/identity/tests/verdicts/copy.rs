//! DKIM2: what we put on a copy, mail-auth's own verifier takes, with the envelope with which it left
//! and with no other.

use bytes::Bytes;
use mail_auth::dkim2::sign::Envelope;
use mail_auth::{AuthenticatedMessage, Dkim2Result, MessageAuthenticator};
use waypost_dns::{Config, Hickory};
use waypost_identity::{CopyRequest, Keyring, SigningKey};
use waypost_mail::{HeaderBlock, Rope};
use waypost_smtp::{Mailbox, ReversePath};

use crate::dkim::Keys;
use crate::world::World;

const HEADER: &str = "Received: by a\r\nFrom: a@mail.signer.example\r\nTo: b@dest.example\r\n\
    Subject:  two  words\r\n folded\r\nX-Other: 1\r\n";
const BODY: &str = "The  text. \r\n\r\n \r\n\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_is_bound_to_its_envelope() {
    let keys = Keys::new();
    let world = World::new(&keys.at("signer.example")).await;
    let key = SigningKey::from_pem(keys.pem().as_bytes()).unwrap();
    let request = CopyRequest {
        key: "k".to_owned(),
        domain: "signer.example".to_owned(),
        selector: "s".to_owned(),
    };
    let ring = Keyring::from_iter([("k".to_owned(), key)]);
    let ring = ring.with_copy_signers(&[request]).unwrap();
    let sender = ReversePath::Mailbox("a@mail.signer.example".parse().unwrap());
    let header = HeaderBlock::parse(Bytes::from_static(HEADER.as_bytes()));
    let body = Rope::from(Bytes::from_static(BODY.as_bytes()));
    let recipient: Mailbox = "b@dest.example".parse().unwrap();
    let signer = ring.copy_signer(&sender).unwrap();
    let fields = signer.sign(&header, &body, &sender, &[&recipient]).unwrap().unwrap();
    let signed = format!("{}{HEADER}\r\n{BODY}", String::from_utf8(fields).unwrap());
    let config = Config { servers: vec![world.zone.addr], ..Config::default() };
    let verifier = MessageAuthenticator(Hickory::new(config).unwrap().beneath());
    let verdict = async |text: &str, from: &str, to: &str| {
        let message = AuthenticatedMessage::parse(text.as_bytes()).unwrap();
        let output = verifier.verify_dkim2(&message, Envelope::new(from, [to])).await;
        output.result() == &Dkim2Result::Pass
    };
    let (from, to) = ("a@mail.signer.example", "b@dest.example");
    assert!(verdict(&signed, from, to).await, "{signed}");
    assert!(!verdict(&signed, from, "c@dest.example").await);
    assert!(!verdict(&signed, "x@signer.example", to).await);
    assert!(!verdict(&signed.replace("two  words", "three words"), from, to).await);
    assert!(!verdict(&signed.replace("The  text", "Another"), from, to).await);
    // What comes on top on the way breaks nothing.
    assert!(verdict(&format!("Received: by b\r\n{signed}"), from, to).await);
}
