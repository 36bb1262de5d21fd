use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mail_parser::{Message, MessageParser, MimeHeaders};
use waypost_smtp::{Domain, OriginalRecipient, Phase, Reply, ReversePath};

use super::*;
use crate::{
    Facts, MessageId, NextHop, Recipient, RecipientState, Route, SessionId, Terms, TlsLevel,
};

const HEADER: &[u8] = b"From: a@example.org\r\nMessage-ID: <1@example.org>\r\nSubject: hi\r\n";

fn mailbox(text: &str) -> Mailbox {
    Mailbox::parse(text).unwrap()
}

fn recipient(id: u32, address: &str) -> RecipientEntry {
    let recipient = Recipient::new(id, mailbox(address));
    RecipientEntry { recipient, route: 0, told: 0, state: RecipientState::fresh(Timestamp(0)) }
}

fn entry(sender: ReversePath) -> Entry {
    let hop = NextHop::Mx(Domain::parse("example.net").unwrap());
    Entry {
        id: MessageId(77),
        received: Timestamp(1_709_210_096_000),
        expires: Timestamp(u64::MAX),
        sender,
        eight_bit: false,
        smtputf8: false,
        size: 100,
        facts: Facts::internal(SessionId(1)),
        meta: Vec::new(),
        sign: Vec::new(),
        terms: Terms::default(),
        reroutes: 0,
        routes: vec![Route::new(hop, TlsLevel::Opportunistic)],
        recipients: Vec::new(),
    }
}

fn refused(reply: Reply) -> Why {
    Why::Refused { hop: "mx.example.net[192.0.2.1]:25".into(), phase: Phase::Rcpt, reply }
}

fn compose(sender: &str, failed: &[(RecipientEntry, Why)], original_header: &[u8]) -> Notice {
    let mut entry = entry(mailbox(sender).into());
    entry.smtputf8 = !sender.is_ascii();
    let failure = |(recipient, why): &(RecipientEntry, Why)| Report {
        recipient: recipient.clone(),
        action: Action::Failed(why.clone()),
    };
    let reports: Vec<_> = failed.iter().map(failure).collect();
    composed(&entry, &reports, original_header, None)
}

fn composed(
    entry: &Entry,
    reports: &[Report],
    original_header: &[u8],
    original: Option<&[u8]>,
) -> Notice {
    let now = Timestamp(1_709_210_100_000);
    let reporting_mta = "relay.example.org";
    let notice = StatusNotice { entry, reports, reporting_mta, now, original_header, original };
    let notice = notice.compose().expect("a notice");
    let sender = entry.sender.to_string();
    let whole = [&notice.header[..], &notice.body].concat();
    assert!(has_mail_lines(&whole), "lines are fit for mail");
    assert!(!sender.is_ascii() || whole.is_ascii(), "seven bits suffice");
    notice
}

fn with_parsed<T>(notice: &Notice, look: impl FnOnce(&Message<'_>) -> T) -> T {
    let whole = [&notice.header[..], &notice.body].concat();
    let message = MessageParser::default().parse(&whole).expect("a message");
    look(&message)
}

fn part(notice: &Notice, index: usize) -> (String, String) {
    with_parsed(notice, |message| {
        let part = &message.parts[index];
        let content_type = part.content_type().expect("a content type");
        let kind = format!("{}/{}", content_type.ctype(), content_type.subtype().unwrap_or(""));
        (kind, String::from_utf8_lossy(part.contents()).into_owned())
    })
}

#[test]
fn tells_persons_and_programs_what_happened() {
    let no_user = refused(Reply::MAILBOX_UNAVAILABLE);
    let down = Why::Unreachable { hop: "mx2.example.net[192.0.2.2]:25".into(), error: "x".into() };
    let expired = Why::Expired(Some(Box::new(down)));
    let failed =
        [(recipient(0, "bob@example.net"), no_user), (recipient(1, "eve@example.net"), expired)];
    let notice = compose("alice@example.org", &failed, HEADER);

    assert_eq!(notice.to, mailbox("alice@example.org"));
    with_parsed(&notice, |message| {
        let header = |name: &str| message.header_raw(name).map(|v| v.trim().to_owned());
        assert_eq!(message.parts.len(), 4);
        assert_eq!(header("Auto-Submitted").as_deref(), Some("auto-replied"));
        assert_eq!(header("To").as_deref(), Some("<alice@example.org>"));
        assert_eq!(header("In-Reply-To").as_deref(), Some("<1@example.org>"));
        assert_eq!(message.date().map(|d| d.to_timestamp()), Some(1_709_210_100));
        let report = message.content_type().expect("a content type");
        assert_eq!(report.subtype(), Some("report"));
        assert_eq!(report.attribute("report-type"), Some("delivery-status"));
    });

    let (kind, text) = part(&notice, 1);
    assert_eq!(kind, "text/plain");
    assert!(text.contains("<bob@example.net>") && text.contains("<eve@example.net>"));
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains("said to RCPT TO: 550 5.1.1 No such mailbox"), "{text}");
    assert!(words.contains("What to do: check the address for mistakes"));

    let (kind, status) = part(&notice, 2);
    assert_eq!(kind, "message/delivery-status");
    let expected = "Reporting-MTA: dns; relay.example.org\r\n\
        Arrival-Date: Thu, 29 Feb 2024 12:34:56 +0000\r\n\r\n\
        Final-Recipient: rfc822; bob@example.net\r\nAction: failed\r\nStatus: 5.1.1\r\n\
        Remote-MTA: dns; mx.example.net\r\n\
        Diagnostic-Code: smtp; 550 5.1.1 No such mailbox\r\n\
        Last-Attempt-Date: Thu, 29 Feb 2024 12:35:00 +0000\r\n\r\n\
        Final-Recipient: rfc822; eve@example.net\r\nAction: failed\r\nStatus: 5.4.7\r\n\
        Remote-MTA: dns; mx2.example.net\r\n";
    assert!(status.starts_with(expected), "{status}");
    assert!(status.contains("Diagnostic-Code: x-waypost; waited too long"));

    let (kind, header) = part(&notice, 3);
    assert_eq!((kind.as_str(), header.as_bytes()), ("text/rfc822-headers", HEADER));
}

#[test]
fn the_null_sender_is_told_nothing() {
    let entry = entry(ReversePath::Null);
    let action = Action::Failed(refused(Reply::MAILBOX_UNAVAILABLE));
    let reports = [Report { recipient: recipient(0, "bob@example.net"), action }];
    let notice = StatusNotice {
        entry: &entry,
        reports: &reports,
        reporting_mta: "relay.example.org",
        now: Timestamp(0),
        original_header: HEADER,
        original: None,
    };
    assert_eq!(notice.compose(), None);
}

#[test]
fn internationalized_addresses_take_the_global_forms() {
    let failed = [(recipient(0, "bärbel@example.net"), refused(Reply::MAILBOX_UNAVAILABLE))];
    let header = "Subject: grüße\r\n".as_bytes();
    for sender in ["jürgen@example.org", "alice@example.org"] {
        let notice = compose(sender, &failed, header);
        let (kind, status) = part(&notice, 2);
        assert_eq!(kind, "message/global-delivery-status");
        assert!(status.contains("Final-Recipient: utf-8; bärbel@example.net\r\n"), "{status}");
        assert!(part(&notice, 1).1.contains("<bärbel@example.net>"));
        assert_eq!(part(&notice, 3).1.as_bytes(), header);
    }
    let notice = compose("jürgen@example.org", &failed, header);
    assert!(std::str::from_utf8(&notice.header).unwrap().contains("To: <jürgen@example.org>"));
    assert_eq!(part(&notice, 3).0, "message/global-headers");
}

#[test]
fn remote_words_cannot_break_the_report() {
    let text = format!("nö\n--{} \u{7} {}", "=_notice_", "y".repeat(5000));
    let failed = [(recipient(0, "bob@example.net"), refused(Reply::OK.with_text(text)))];
    let notice = compose("alice@example.org", &failed, HEADER);
    let (_, status) = part(&notice, 2);
    assert!(status.contains("Diagnostic-Code: smtp; 250 2.0.0 n? --=_notice_"), "{status}");
    assert!(part(&notice, 1).1.contains("nö"));
}

#[test]
fn the_original_header_cannot_end_its_part_and_is_bounded() {
    let boundary = format!("=_notice_{}_1709210100000", MessageId(77));
    let mut header = format!("X: 1\r\n--{boundary}--\r\nsmuggled: \u{1}\rx\n").into_bytes();
    header.extend_from_slice(b"Y: ");
    header.extend(b"z".repeat(2000));
    header.extend_from_slice(b" \xff \r\n");
    let failed = [(recipient(0, "bob@example.net"), refused(Reply::MAILBOX_UNAVAILABLE))];
    let notice = compose("alice@example.org", &failed, &header);
    with_parsed(&notice, |message| {
        assert_eq!(message.parts.len(), 4);
        // The parser reads text lossily; that the octet was kept is seen in the body.
        let expected = String::from_utf8_lossy(&header).into_owned();
        assert!(message.parts[3].contents() == expected.as_bytes(), "the header came back");
    });

    assert!(memchr::memmem::find(&notice.body, b"=FF=20\r\n").is_some());

    let long = b"Received: from somewhere\r\n".repeat(10_000);
    let notice = compose("alice@example.org", &failed, &long);
    let returned = part(&notice, 3).1;
    assert!(returned.len() <= MAX_RETURNED_HEADER && returned.len() > MAX_RETURNED_HEADER - 40);
    assert!(returned.ends_with("somewhere\r\n"));
}

#[test]
fn each_recipient_is_told_of_by_what_became_of_it() {
    let mut entry = entry(mailbox("alice@example.org").into());
    entry.expires = Timestamp(1_709_642_096_000);
    entry.terms.envid = Some("QQ+314".into());
    let mut bob = recipient(0, "bob@example.net");
    bob.recipient.original =
        Some(OriginalRecipient { kind: "rfc822".into(), address: "list@example.net".into() });
    let hop = "mx.example.net[192.0.2.1]:25".to_owned();
    let down = Why::Unreachable { hop: hop.clone(), error: "refused".into() };
    let reply = Reply::OK.with_text("queued");
    let report = |recipient: RecipientEntry, action| Report { recipient, action };
    let reports = [
        report(bob, Action::Relayed { hop, reply }),
        report(recipient(1, "eve@example.net"), Action::Delayed(Some(down))),
        report(recipient(2, "joe@example.net"), Action::Delayed(None)),
    ];
    let notice = composed(&entry, &reports, HEADER, None);
    with_parsed(&notice, |message| {
        assert_eq!(message.subject(), Some("Your message is delayed"));
    });
    let (_, status) = part(&notice, 2);
    let expected = "Original-Envelope-Id: QQ+314\r\nReporting-MTA: dns; relay.example.org\r\n\
        Arrival-Date: Thu, 29 Feb 2024 12:34:56 +0000\r\n\r\n\
        Original-Recipient: rfc822; list@example.net\r\n\
        Final-Recipient: rfc822; bob@example.net\r\nAction: relayed\r\nStatus: 2.1.9\r\n\
        Remote-MTA: dns; mx.example.net\r\nDiagnostic-Code: smtp; 250 2.0.0 queued\r\n\
        Last-Attempt-Date: Thu, 29 Feb 2024 12:35:00 +0000\r\n\r\n\
        Final-Recipient: rfc822; eve@example.net\r\nAction: delayed\r\nStatus: 4.4.1\r\n\
        Remote-MTA: dns; mx.example.net\r\n";
    assert!(status.starts_with(expected), "{status}");
    let last = "Final-Recipient: rfc822; joe@example.net\r\nAction: delayed\r\nStatus: 4.4.7\r\n\
        Last-Attempt-Date: Thu, 29 Feb 2024 12:35:00 +0000\r\n\
        Will-Retry-Until: Tue, 5 Mar 2024 12:34:56 +0000\r\n";
    assert!(status.ends_with(last), "{status}");
    let words = part(&notice, 1).1.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        words.contains("no need to send it again") && words.contains("was passed on"),
        "{words}"
    );
}

#[test]
fn what_is_in_the_mailbox_is_told_as_delivered() {
    let entry = entry(mailbox("alice@example.org").into());
    for (reply, status) in
        [(Reply::OK.with_text("stored"), "2.0.0"), (Reply::fixed(250, (2, 1, 5), "ok"), "2.1.5")]
    {
        let action = Action::Delivered { hop: "store[192.0.2.1]:24".into(), reply };
        let reports = [Report { recipient: recipient(0, "bob@example.net"), action }];
        let notice = composed(&entry, &reports, HEADER, None);
        with_parsed(&notice, |message| {
            assert_eq!(message.subject(), Some("Your message was delivered"));
        });
        let (_, fields) = part(&notice, 2);
        let expected =
            format!("Action: delivered\r\nStatus: {status}\r\nRemote-MTA: dns; store\r\n");
        assert!(fields.contains(&expected), "{fields}");
        let words = part(&notice, 1).1.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(words.contains("was delivered to the recipients below"), "{words}");
    }
}

#[test]
fn the_whole_message_comes_back_when_it_is_wanted_and_harmless() {
    let mut entry = entry(mailbox("alice@example.org").into());
    let action = Action::Failed(refused(Reply::MAILBOX_UNAVAILABLE));
    let reports = [Report { recipient: recipient(0, "bob@example.net"), action }];
    let returns = |entry: &Entry, reports| StatusNotice::returns_all(entry, reports, MAX_RETURNED);
    assert!(!returns(&entry, &reports));
    entry.terms.ret = Some(Return::Full);
    assert!(returns(&entry, &reports));
    let late = [Report { action: Action::Delayed(None), ..reports[0].clone() }];
    assert!(!returns(&entry, &late), "only failures return it");
    type Refusal = (fn(&mut Entry), &'static str);
    let refusals: [Refusal; 2] = [
        (|entry| entry.terms.require_tls = true, "it may only travel encrypted."),
        (|entry| entry.size = MAX_RETURNED + 1, "it is larger than what is returned here."),
    ];
    for (refuse, why) in refusals {
        let mut other = entry.clone();
        refuse(&mut other);
        assert!(!returns(&other, &reports));
        let notice = composed(&other, &reports, HEADER, None);
        let words = part(&notice, 1).1.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(words.contains("only its header follows:") && words.contains(why), "{words}");
        assert_eq!(part(&notice, 3).0, "text/rfc822-headers");
    }
    let whole = [HEADER, b"\r\nbody\r\n"].concat();
    let notice = composed(&entry, &reports, HEADER, Some(&whole));
    assert!(memchr::memmem::find(&notice.body, &whole).is_some());
    assert!(memchr::memmem::find(&notice.body, b"Content-Type: message/rfc822\r\n").is_some());
}

fn from_quoted_printable(encoded: &[u8]) -> Vec<u8> {
    let (mut decoded, mut rest) = (Vec::new(), encoded);
    while let Some((first, behind)) = rest.split_first() {
        rest = behind;
        match (first, behind.split_at_checked(2)) {
            (b'=', Some((b"\r\n", behind))) => rest = behind,
            (b'=', Some((digits, behind))) => {
                let digits = std::str::from_utf8(digits).unwrap();
                decoded.push(u8::from_str_radix(digits, 16).unwrap());
                rest = behind;
            }
            _ => decoded.push(*first),
        }
    }
    decoded
}

/// RFC 6532 §3.7: whatever it is made of, and by seven bits.
#[test]
fn a_message_that_is_not_plain_comes_back_encoded() {
    let mut entry = entry(mailbox("alice@example.org").into());
    entry.terms.ret = Some(Return::Full);
    let action = Action::Failed(refused(Reply::MAILBOX_UNAVAILABLE));
    let reports = [Report { recipient: recipient(0, "bob@example.net"), action }];
    let long = [&[b'x'; 2000][..], b"\r\n"].concat();
    let bodies: [&[u8]; 5] =
        ["sch\u{f6}n = gut \r\n".as_bytes(), b"caf\xe9\r\n", &long, b"a\nb\rc\0", &[0xff; 999]];
    for body in bodies {
        let whole = [HEADER, b"\r\n", body].concat();
        let notice = composed(&entry, &reports, HEADER, Some(&whole));
        let text = String::from_utf8(notice.body.to_vec()).unwrap();
        let (_, last) = text.rsplit_once("Content-Type: message/global\r\n").unwrap();
        let (header, encoded) = last.split_once("\r\n\r\n").unwrap();
        let encoded = encoded.split("\r\n--=_").next().unwrap();
        let decoded = match header.contains("base64") {
            true => STANDARD.decode(encoded.replace("\r\n", "")).unwrap(),
            false => from_quoted_printable(encoded.as_bytes()),
        };
        assert_eq!(decoded, whole, "{header}");
        assert!(header.contains("quoted-printable") != header.contains("base64"), "{header}");
        assert!(!text.contains("only its header"), "{text}");
    }
    // What its header says cannot be told in UTF-8.
    let header = b"Subject: caf\xe9\r\n";
    let whole = [&header[..], b"\r\nx\r\n"].concat();
    let notice = composed(&entry, &reports, header, Some(&whole));
    assert_eq!(part(&notice, 3).0, "text/rfc822-headers");
    let words = part(&notice, 1).1.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains("characters in its header that cannot be told"), "{words}");
}
