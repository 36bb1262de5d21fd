use super::*;
use crate::config::EditGrants;

fn all() -> Grants {
    Grants {
        sign: vec!["key".into()],
        edit: EditGrants {
            add: vec!["*".into()],
            remove: vec!["X-*".into()],
            sender: true,
            recipients: true,
            body: true,
        },
        recipients: vec!["ours.example".parse().unwrap()],
        ..Grants::default()
    }
}

fn ear(grants: &Grants) -> Ear<'_> {
    Ear { plugin: "p", grants }
}

fn header() -> HeaderBlock {
    HeaderBlock::parse(Bytes::from_static(b"Received: x\r\nX-A: y\r\n"))
}

fn permanent_reply(text: &str) -> wit::PermanentReply {
    wit::PermanentReply { code: wit::PermanentCode::R550, enhanced: None, text: text.to_owned() }
}

#[test]
fn replies_are_of_the_class_they_should_be_and_carry_no_protocol() {
    let said = permanent(permanent_reply("no\nreally not")).unwrap();
    assert_eq!(said.reply().enhanced, Some(Enhanced(5, 7, 1)));
    for bad in ["no\r\n250 ok", "a\0b", "\u{1b}[2J", &"x".repeat(10_000), &"l\n".repeat(9)] {
        assert!(permanent(permanent_reply(bad)).is_err(), "{bad:?}");
    }
    let far = wit::PermanentReply { enhanced: Some((1000, 0)), ..permanent_reply("x") };
    assert!(permanent(far).is_err());
}

#[test]
fn addresses_are_legal_or_the_answer_is_not() {
    let address = |local: &str, domain: &str| {
        mailbox(wit::Mailbox { local: local.to_owned(), domain: domain.to_owned() })
    };
    assert!(address("user name", "example.org").is_ok(), "a quoted local part is legal");
    for (local, domain) in [
        ("a\nb", "example.org"),
        ("a\r\nRCPT TO:<x@y>", "example.org"),
        ("", "example.org"),
        ("a", ""),
        ("a", "exa mple.org"),
        ("a", "example.org>\r\n"),
        (&"x".repeat(10_000), "example.org"),
    ] {
        assert!(address(local, domain).is_err(), "{local:?} {domain:?}");
    }
}

#[test]
fn splices_rise_and_do_not_overlap() {
    let grants = all();
    let splice = |offset, remove| wit::Splice { offset, remove, insert: b"x".to_vec() };
    let fine = ear(&grants).splices(vec![splice(0, 2), splice(2, 0), splice(5, 1)]).unwrap();
    let offsets: Vec<u64> = fine
        .iter()
        .map(|edit| match edit {
            MessageEdit::Splice { offset, .. } => *offset,
            _ => panic!("no splice"),
        })
        .collect();
    assert_eq!(offsets, [5, 2, 0]);
    assert!(ear(&grants).splices(vec![splice(0, 3), splice(2, 0)]).is_err());
    assert!(ear(&grants).splices(vec![splice(5, 0), splice(2, 0)]).is_err());
    assert!(ear(&grants).splices(vec![splice(u64::MAX, 2)]).is_err());
    let big = wit::Splice { offset: 0, remove: 0, insert: vec![0; MAX_INSERTED + 1] };
    assert!(ear(&grants).splices(vec![big]).is_err());
}

#[test]
fn nothing_is_edited_without_a_grant() {
    let none = Grants::default();
    let grants = all();
    let sign = |key: &str| {
        wit::MessageEdit::Sign(wit::SignRequest {
            domain: "example.org".into(),
            selector: "s".into(),
            key: key.into(),
            headers: vec![],
            oversign: vec![],
            expire_after_s: None,
        })
    };
    let address = || wit::Mailbox { local: "a".into(), domain: "ours.example".into() };
    let edits = [
        sign("key"),
        wit::MessageEdit::RemoveHeadersNamed("X-A".into()),
        wit::MessageEdit::SetSender(wit::SenderChange::NullSender),
        wit::MessageEdit::AddRecipient(address()),
        wit::MessageEdit::RemoveRecipient(0),
        wit::MessageEdit::SpliceBody(wit::Splice { offset: 0, remove: 1, insert: vec![] }),
    ];
    for edit in edits {
        assert!(ear(&grants).edits(vec![edit.clone()], &header()).is_ok(), "{edit:?}");
        assert!(ear(&none).edits(vec![edit.clone()], &header()).is_err(), "{edit:?}");
    }
    let by_id = |id| ear(&grants).edits(vec![wit::MessageEdit::RemoveHeader(id)], &header());
    assert!(by_id(0).is_err() && by_id(1).is_ok() && by_id(9).is_err());
    assert!(ear(&grants).edits(vec![sign("other")], &header()).is_err());
    let forged = ["Received", "Authentication-Results", "Return-Path", "DKIM-Signature"];
    for name in forged {
        let field =
            wit::NewHeader { name: name.into(), value: "x".into(), place: wit::HeaderPlace::Top };
        assert!(
            ear(&grants).edits(vec![wit::MessageEdit::AddHeader(field)], &header()).is_err(),
            "{name}"
        );
        let removed = wit::MessageEdit::RemoveHeadersNamed(name.into());
        assert!(ear(&grants).edits(vec![removed], &header()).is_err(), "{name}");
    }
}

#[test]
fn only_granted_domains_are_reached_without_the_peers_right() {
    let grants = all();
    let replaced = |domain: &str| {
        ear(&grants)
            .replacement(wit::Mailbox { local: "a".into(), domain: domain.into() })
            .unwrap()
            .granted
    };
    assert!(replaced("ours.example") && !replaced("elsewhere.example"));
}

#[test]
fn dropping_mail_wants_a_grant_and_accepting_is_proceeding_without_one() {
    let none = Grants::default();
    let some = Grants { discard: true, accept: true, ..Grants::default() };
    let discard = || wit::MessageVerdict::Discard("x".into());
    assert!(ear(&none).message_verdict(discard()).is_err());
    assert!(ear(&some).message_verdict(discard()).is_ok());
    let accept = |grants: &Grants| ear(grants).message_verdict(wit::MessageVerdict::Accept);
    assert!(!accept(&none).unwrap().last && accept(&some).unwrap().last);
    let drop = || {
        vec![wit::AttemptGroup {
            recipients: vec![0],
            decision: wit::AttemptDecision::Drop("x".into()),
            reasons: vec![],
        }]
    };
    assert!(ear(&none).remedies(drop()).is_err() && ear(&some).remedies(drop()).is_ok());
}

#[test]
fn ways_are_names_and_hosts() {
    let route = |hop: wit::Hop| wit::Route {
        hops: vec![hop],
        lane: Some("tenant-1".into()),
        source: None,
        tls: wit::TlsPolicy::Verify,
        not_before_ms: None,
    };
    let host = |host: &str, port| {
        wit::Hop::Host(wit::HostPort { host: host.into(), port, implicit_tls: false })
    };
    assert!(way(route(host("mx.example.org", 25))).is_ok());
    assert!(way(route(host("2001:db8::1", 25))).is_ok());
    assert!(way(route(host("mx.example.org", 0))).is_err());
    assert!(way(route(host("a b", 25))).is_err());
    assert!(way(route(wit::Hop::Named("../etc".into()))).is_err());
    let lane = wit::Route { lane: Some("no lane".into()), ..route(host("h", 25)) };
    assert!(way(lane).is_err());
}
