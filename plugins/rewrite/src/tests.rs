use serde_json::{Value, json};
use waypost_sdk::prelude::*;
use waypost_sdk::testing::{Host, call, edited, envelope, queued, recipient, session};

use super::Rewriter;

fn plugin(config: Value) -> Result<Rewriter, String> {
    let config = serde_json::from_value(config).map_err(|wrong| wrong.to_string())?;
    Rewriter::new(config)
}

fn submitter() -> Session {
    Session { identity: Some("eve".into()), may_relay: true, ..session() }
}

/// The answer about a message, and the message after it.
fn rewritten(config: Value, session: &Session, text: &str) -> (MessageOutcome, String) {
    let plugin = plugin(config).unwrap();
    let host = Host::new().message(text);
    let info = host.message_info(&plugin.interest());
    let (call, envelope) = (call(), envelope(Some("eve@h1.a.example"), &["x@y.example"]));
    let asked = Asked { call: &call, session, envelope: &envelope };
    let outcome = host.run(|| plugin.on_message(&asked, &info)).unwrap();
    let after = edited(text, &outcome.edits);
    (outcome, String::from_utf8_lossy(&after).into_owned())
}

fn codes(reasons: &[Reason]) -> Vec<&str> {
    reasons.iter().map(|reason| reason.code.as_str()).collect()
}

// Aliases, and what comes back.

fn resolve(config: Value, host: &Host, address: &str) -> Decision<RecipientAnswer> {
    let plugin = plugin(config).unwrap();
    let (call, session, envelope) = (call(), session(), envelope(None, &[]));
    let asked = Asked { call: &call, session: &session, envelope: &envelope };
    host.run(|| plugin.on_recipient(&asked, &recipient(3, address)))
}

fn to(answer: &RecipientAnswer) -> Vec<String> {
    answer.replace_with.iter().map(ToString::to_string).collect()
}

fn aliases() -> Value {
    json!({"aliases": {
        "map": {
            "info@a.example": ["eve@a.example", "bob@b.example"],
            "all@a.example": ["info@a.example", "staff@a.example"],
            "staff@a.example": "all@a.example",
            "keep@a.example": ["keep@a.example", "archive@a.example"],
            "@catch.example": "postmaster@a.example",
            "root@catch.example": "eve@a.example",
        },
        "domains": {"old.example": "a.example"},
        "delimiter": "+",
    }})
}

#[test]
fn aliases_are_followed_to_their_ends() {
    let host = Host::new();
    let of = |address: &str| to(&resolve(aliases(), &host, address).unwrap());
    assert_eq!(of("INFO@a.example"), ["eve@a.example", "bob@b.example"]);
    assert_eq!(of("all@a.example"), ["eve@a.example", "bob@b.example"], "circles end");
    assert_eq!(of("keep@a.example"), ["keep@a.example", "archive@a.example"]);
    assert_eq!(of("info+tag@a.example"), ["eve@a.example", "bob@b.example"]);
    assert_eq!(of("info@old.example"), ["eve@a.example", "bob@b.example"]);
    assert_eq!(of("Any.One@old.example"), ["Any.One@a.example"]);
    assert_eq!(of("x@catch.example"), ["postmaster@a.example"]);
    assert_eq!(of("root@catch.example"), ["eve@a.example"]);
    assert_eq!(of("other@a.example"), [""; 0]);
    let answer = resolve(aliases(), &host, "info@a.example").unwrap();
    assert_eq!(
        (answer.meta[0].name.as_str(), answer.meta[0].value.as_str()),
        ("original", "info@a.example")
    );
    assert_eq!(codes(&answer.reasons), ["alias"]);
}

#[test]
fn aliases_in_tables() {
    let config = json!({"aliases": {"tables": ["aliases", "more"]}});
    let host = Host::new()
        .table(
            "aliases",
            [("info@a.example", "eve@a.example, two@a.example"), ("bad@a.example", "no address")],
        )
        .table("more", [("two@a.example", "three@b.example"), ("@c.example", "x@a.example")]);
    let of = |address: &str| to(&resolve(config.clone(), &host, address).unwrap());
    assert_eq!(of("Info@a.example"), ["eve@a.example", "three@b.example"]);
    assert_eq!(of("any@c.example"), ["x@a.example"]);
    assert_eq!(of("bad@a.example"), [""; 0]);
    assert_eq!(host.logged().len(), 1);
    assert!(resolve(config.clone(), &Host::new(), "a@b").unwrap_err().why().contains("grant"));
    assert_eq!(Host::new().run(|| plugin(config).unwrap().self_test()).len(), 2);
}

#[test]
fn an_alias_for_too_many_is_not_decided() {
    let many: Vec<String> = (0..5).map(|i| format!("u{i}@a.example")).collect();
    let config = json!({"aliases": {"map": {"all@a.example": many}, "limit": 4}});
    assert!(
        resolve(config, &Host::new(), "all@a.example").unwrap_err().why().contains("aliases.limit")
    );
}

// Envelope senders of copies.

fn prepare(config: &Value, host: &Host, sender: Option<&str>, to: &[&str]) -> PrepareOutcome {
    let delivery = Delivery {
        message: queued(sender, to),
        target: "mx[1]:25".into(),
        lane: "l".into(),
        source: None,
    };
    let plugin = plugin(config.clone()).unwrap();
    host.run(|| plugin.on_prepare(&call(), &delivery)).unwrap()
}

#[test]
fn verp_goes_out_and_comes_back() {
    let config = json!({"verp": {"sender": ["news@a.example"], "bounce": "bounce@a.example"}, "aliases": {"map": {"bounce@a.example": "robot@b.example"}}});
    let host = Host::new();
    let outcome = prepare(&config, &host, Some("news@a.example"), &["eve@x.example"]);
    let SenderChange::To(address) = &outcome.sender else { panic!("{outcome:?}") };
    assert_eq!(address.to_string(), "bounce+eve=x.example@a.example");
    let answer = resolve(config.clone(), &host, &address.to_string()).unwrap();
    assert_eq!(to(&answer), ["robot@b.example"]);
    assert_eq!(
        (answer.meta[0].name.as_str(), answer.meta[0].value.as_str()),
        ("bounced", "eve@x.example")
    );
    assert_eq!(codes(&answer.reasons), ["verp", "alias"]);
    for (sender, to) in [
        (Some("news@a.example"), &["a@b", "c@d"][..]),
        (Some("bob@a.example"), &["a@b"]),
        (None, &["a@b"]),
    ] {
        assert_eq!(prepare(&config, &host, sender, to).sender, SenderChange::Keep);
    }
    let long = format!("{}@x.example", "l".repeat(60));
    assert_eq!(
        codes(&prepare(&config, &host, Some("news@a.example"), &[&long]).reasons),
        ["left-alone"]
    );
}

#[test]
fn srs_goes_out_and_comes_back() {
    let config = json!({"srs": {"domain": "srs.example", "secret": "srs", "local": ["a.example"]}});
    let host = Host::new().secret("srs", b"a key");
    let outcome = prepare(&config, &host, Some("eve@x.example"), &["b@y.example", "c@y.example"]);
    let SenderChange::To(address) = &outcome.sender else { panic!("{outcome:?}") };
    let answer = resolve(config.clone(), &host, &address.to_string()).unwrap();
    assert_eq!(
        (to(&answer), codes(&answer.reasons)),
        (vec!["eve@x.example".to_owned()], vec!["srs"])
    );
    let forged = resolve(config.clone(), &host, "SRS0=AAAA=AA=x.example=eve@srs.example").unwrap();
    assert!(matches!(forged.verdict, Verdict::Refuse(Refusal::Reject(_))));
    assert_eq!(prepare(&config, &host, Some("eve@a.example"), &["b@y"]).sender, SenderChange::Keep);
    assert_eq!(prepare(&config, &host, None, &["b@y"]).sender, SenderChange::Keep);
    let plugin = plugin(config).unwrap();
    assert_eq!(host.run(|| plugin.self_test()), [""; 0]);
    assert_eq!(Host::new().run(|| plugin.self_test()).len(), 1);
}

// Masquerading.

fn masquerade() -> Value {
    json!({"masquerade": {
        "domains": {"*.a.example": "a.example", "lab.a.example": "lab.example"},
        "addresses": {"root@h1.a.example": "ops@a.example"},
        "envelope": true,
    }})
}

#[test]
fn senders_get_other_domains_and_the_rest_stays() {
    let text = "From: \"x@h1.a.example\" <eve@h1.a.example> (at h1.a.example), Bob <bob@b.example>\n\
        Sender: root@H1.a.example\nReply-To: Team: a@lab.a.example, b@x.lab.a.example;\n\
        To: eve@h1.a.example\nSubject: h1.a.example\n\nbody\n";
    let (outcome, after) = rewritten(masquerade(), &submitter(), text);
    assert!(
        after.starts_with(
            "From: \"x@h1.a.example\" <eve@a.example> (at h1.a.example), Bob <bob@b.example>\r\n\
        Sender: ops@a.example\r\nReply-To: Team: a@lab.example, b@a.example;\r\n\
        To: eve@h1.a.example\r\nSubject: h1.a.example\r\n"
        ),
        "{after}"
    );
    assert_eq!(
        outcome.edits[0],
        MessageEdit::SetSender(SenderChange::To(Mailbox::new("eve", "a.example")))
    );
}

#[test]
fn mail_of_strangers_and_what_cannot_be_read_stay() {
    let text = "From: eve@h1.a.example\n\nbody\n";
    assert!(rewritten(masquerade(), &session(), text).0.edits.is_empty());
    let (outcome, after) =
        rewritten(masquerade(), &submitter(), "From: eve@h1.a.example, <\n\nbody\n");
    assert!(after.starts_with("From: eve@h1.a.example, <\r\n"));
    assert_eq!(codes(&outcome.reasons), ["masqueraded", "left-alone"]);
    let (outcome, _) = rewritten(masquerade(), &submitter(), "From: eve@a.example\n\nb\n");
    assert_eq!(outcome.edits.len(), 1, "only the envelope changes");
}

// Fields.

#[test]
fn fields_are_added_set_and_removed() {
    let config = json!({"fields": [
        {"add": "X-Client", "value": "{client-ip} as {identity} by {listener}"},
        {"add": "X-Id", "value": "{id} {sender} {recipient}", "bottom": true},
        {"add": "Subject", "value": "none", "if-absent": true},
        {"set": "Organization", "value": "Acme"},
        {"set": "X-New", "value": "1"},
        {"remove": "X-Internal-*"},
        {"remove": "*-signature"},
        {"remove": "auth*"},
    ]});
    let text = "Subject: s\nX-Internal-A: 1\nORGANIZATION: other\nOrganization: third\nx-internal-b: 2\n\
        DKIM-Signature: d=x\nOther-Signature: y\nAuthentication-Results: z\nFrom: a@b\n\nbody\n";
    let (_, after) = rewritten(config, &submitter(), text);
    assert_eq!(
        after,
        "X-New: 1\r\nX-Client: 192.0.2.1 as eve by mx\r\nSubject: s\r\nORGANIZATION: Acme\r\n\
        DKIM-Signature: d=x\r\nAuthentication-Results: z\r\nFrom: a@b\r\nX-Id: m1 eve@h1.a.example x@y.example\r\n\r\nbody\r\n"
    );
}

#[test]
fn a_field_whose_fact_is_absent_is_not_added() {
    let config =
        json!({"fields": [{"add": "X-Who", "value": "{identity}", "when": {"anybody": true}}]});
    let (outcome, after) = rewritten(config, &session(), "From: a@b\n\nbody\n");
    assert_eq!(
        (after.as_str(), codes(&outcome.reasons)),
        ("From: a@b\r\n\r\nbody\r\n", vec!["left-alone"])
    );
}

#[test]
fn conditions_choose_whose_mail() {
    let applies = |when: Value, session: &Session| {
        let config = json!({"fields": [{"add": "X", "value": "1", "when": when}]});
        !rewritten(config, session, "From: a@b\n\nb\n").0.edits.is_empty()
    };
    let notice = Session { listener: "internal".into(), ..session() };
    assert!(
        applies(json!({}), &submitter())
            && applies(json!({}), &notice)
            && !applies(json!({}), &session())
    );
    assert!(applies(json!({"anybody": true}), &session()));
    assert!(applies(
        json!({"sender": ["*.a.example"], "recipient": ["y.example"], "identity": ["e*"], "listener": ["mx"]}),
        &submitter()
    ));
    for no in [
        json!({"sender": ["a.example"]}),
        json!({"recipient": ["z.example"]}),
        json!({"identity": ["bob"]}),
        json!({"listener": ["in"]}),
    ] {
        assert!(!applies(no.clone(), &submitter()), "{no}");
    }
}

// Footers.

fn footer() -> Value {
    json!({"footers": [{"name": "legal", "text": "-- \nAcme & Co", "html": "<hr>Äcme"}]})
}

/// The decoded parts after a footer was put under the text.
fn footed(config: Value, text: &str) -> (MessageOutcome, String, Vec<String>) {
    let (outcome, after) = rewritten(config, &submitter(), text);
    let host = Host::new().message(&after);
    let parts = host.run(|| {
        let parts = message::parts();
        parts
            .iter()
            .map(|part| String::from_utf8_lossy(&message::part(part.index, 1 << 20)).into_owned())
            .collect()
    });
    (outcome, after, parts)
}

fn head(kind: &str, encoding: &str) -> String {
    format!(
        "From: a@b\nMIME-Version: 1.0\nContent-Type: {kind}\nContent-Transfer-Encoding: {encoding}\n\n"
    )
}

#[test]
fn plain_text_as_it_is() {
    for text in ["hello\n", "hello"] {
        let (outcome, after, _) =
            footed(footer(), &format!("{}{text}", head("text/plain", "7bit")));
        assert!(after.ends_with("\r\n\r\nhello\r\n-- \r\nAcme & Co\r\n"), "{after:?}");
        assert_eq!(outcome.reasons[0].rule.as_deref(), Some("legal"));
    }
    let (_, after, _) = footed(footer(), "From: a@b\n\n");
    assert!(after.ends_with("\r\n\r\n-- \r\nAcme & Co\r\n"), "an empty body: {after:?}");
}

#[test]
fn html_before_the_end_of_the_body() {
    let (_, after, _) = footed(
        footer(),
        &format!("{}<html><body>x </body>y</body></html>\n", head("text/html", "7bit")),
    );
    assert!(
        after.ends_with("<html><body>x </body>y\r\n<hr>&#196;cme\r\n</body></html>\r\n"),
        "{after:?}"
    );
    let (_, after, _) = footed(footer(), &format!("{}<B>x\n", head("text/html", "8bit")));
    assert!(after.ends_with("<B>x\r\n<hr>&#196;cme\r\n"), "{after:?}");
}

#[test]
fn quoted_printable_stays_legal() {
    let config = json!({"footers": [{"name": "f", "text": "Grüße = €"}]});
    let plain = head("text/plain; charset=utf-8", "quoted-printable");
    for (body, expected) in [
        ("a=C3=BC\n", "aü\r\nGrüße = €\r\n"),
        ("soft=\n", "soft\r\nGrüße = €\r\n"),
        ("soft=", "soft\r\nGrüße = €\r\n"),
    ] {
        let (_, after, parts) = footed(config.clone(), &format!("{plain}{body}"));
        assert_eq!(parts[0].replace('\n', "\r\n").replace("\r\r", "\r"), expected, "{after:?}");
        assert!(after.is_ascii());
    }
    let html = head("text/html; charset=utf-8", "quoted-printable");
    let (_, after, parts) = footed(config, &format!("{html}<body class=3Dx>text</BODY>\n"));
    assert!(after.lines().all(|line| line.len() <= 76), "{after}");
    assert_eq!(parts[0].trim_end(), "<body class=x>text<p>Gr&#252;&#223;e = &#8364;</p></BODY>");
}

#[test]
fn base64_is_coded_anew() {
    // "hello world" needs padding, "hello worldx" does not.
    for (body, plain) in
        [("aGVsbG8gd29ybGQ=\n", "hello world"), ("aGVsbG8g\nd29ybGR4\n", "hello worldx")]
    {
        let (_, after, parts) =
            footed(footer(), &format!("{}{body}", head("text/plain; charset=koi8-r", "base64")));
        assert_eq!(
            parts[0].replace("\r\n", "\n"),
            format!("{plain}\n-- \nAcme & Co\n"),
            "{after:?}"
        );
        assert!(after.ends_with("\r\n"));
    }
    // <BODY>x</BODY>
    let (_, _, parts) =
        footed(footer(), &format!("{}PEJPRFk+eDwvQk9EWT4=\n", head("text/html", "base64")));
    assert_eq!(parts[0], "<BODY>x<hr>&#196;cme</BODY>");
    let (outcome, ..) =
        footed(footer(), &format!("{}not base 64!\n", head("text/plain", "base64")));
    assert_eq!((outcome.edits.len(), codes(&outcome.reasons)), (0, vec!["no-footer"]));
}

fn alternative(first: &str) -> String {
    format!(
        "From: a@b\nContent-Type: multipart/mixed; boundary=m\n\npreamble\n--m\n\
        Content-Type: {first}; boundary=q\n\n--q\nContent-Type: text/plain\n\nhello\n--q\nContent-Type: text/html\n\n<body>hi</body>\n--q--\n\
        --m\nContent-Type: text/plain; name=notes.txt\nContent-Disposition: attachment; filename=notes.txt\n\nnotes\n--m--\n"
    )
}

#[test]
fn both_forms_in_a_multipart_and_no_attachment() {
    let (outcome, after, parts) = footed(footer(), &alternative("multipart/alternative"));
    assert_eq!(outcome.edits.len(), 2);
    assert!(after.contains("\r\nhello\r\n-- \r\nAcme & Co\r\n--q\r\n"), "{after}");
    assert!(after.contains("<body>hi\r\n<hr>&#196;cme\r\n</body>\r\n--q--"), "{after}");
    assert!(after.contains("\r\n\r\nnotes\r\n--m--"), "{after}");
    assert_eq!(parts.len(), 5);
}

#[test]
fn signed_encrypted_and_enclosed_parts_are_left_alone() {
    for kind in ["multipart/signed", "multipart/encrypted"] {
        let text = alternative("multipart/alternative").replace("multipart/mixed", kind);
        let (outcome, after, _) = footed(footer(), &text);
        assert_eq!(
            (outcome.edits.len(), codes(&outcome.reasons)),
            (0, vec!["no-footer"]),
            "{after}"
        );
        assert!(outcome.reasons[0].text.contains("signed"));
        // Signed within: what is outside of it may still get one; here nothing is.
        let (outcome, ..) = footed(footer(), &alternative(kind));
        assert!(outcome.edits.is_empty());
    }
    let (outcome, ..) =
        footed(footer(), &format!("{}MIAG\n", head("application/pkcs7-mime", "base64")));
    assert_eq!(codes(&outcome.reasons), ["no-footer"]);
    let report =
        alternative("multipart/alternative").replace("multipart/mixed", "multipart/report");
    assert!(footed(footer(), &report).0.edits.is_empty());
    let enclosed = "From: a@b\nContent-Type: multipart/mixed; boundary=m\n\n--m\nContent-Type: message/rfc822\n\nFrom: c@d\n\ninner\n--m--\n";
    assert!(footed(footer(), enclosed).0.edits.is_empty());
}

#[test]
fn what_the_character_set_cannot_carry_is_not_forced_on_it() {
    let config =
        |ascii: Option<&str>| json!({"footers": [{"name": "f", "text": "Grüße", "ascii": ascii}]});
    let of = |config: Value, kind: &str, encoding: &str| {
        let (outcome, after, parts) = footed(config, &format!("{}x\n", head(kind, encoding)));
        (outcome.edits.len(), parts[0].replace("\r\n", "\n"), after)
    };
    assert_eq!(of(config(None), "text/plain; charset=utf-8", "8bit").1, "x\nGrüße\n");
    assert_eq!(
        of(config(None), "text/plain; charset=iso-8859-1", "quoted-printable").1,
        "x\nGrüße\n"
    );
    assert!(
        of(config(None), "text/plain; charset=iso-8859-1", "quoted-printable")
            .2
            .contains("Gr=FC=DFe")
    );
    assert_eq!(of(config(None), "text/plain; charset=utf-8", "7bit").0, 0);
    assert_eq!(of(config(None), "text/plain; charset=koi8-r", "8bit").0, 0);
    assert_eq!(of(config(Some("Gruesse")), "text/plain; charset=koi8-r", "8bit").1, "x\nGruesse\n");
    assert_eq!(of(config(Some("Gruesse")), "text/plain", "7bit").1, "x\nGruesse\n");
    assert_eq!(of(config(Some("Gruesse")), "text/plain; charset=utf-16", "8bit").0, 0);
    assert_eq!(of(config(None), "text/plain; charset=utf-8", "binary").0, 0);
}

#[test]
fn the_first_footer_that_applies_is_used() {
    let config = json!({"footers": [
        {"name": "other", "text": "other", "when": {"identity": ["bob"]}},
        {"name": "one", "text": "one"},
        {"name": "two", "text": "two"},
    ]});
    let (_, after, _) = footed(config, "From: a@b\n\nx\n");
    assert!(after.ends_with("x\r\none\r\n"));
}

#[test]
fn bad_configurations_are_refused_with_the_path_of_the_key() {
    let refused = |config: Value, start: &str| {
        let wrong = plugin(config).unwrap_err();
        assert!(wrong.starts_with(start), "{wrong}");
    };
    refused(json!({"aliases": {"map": {"a": "b@c"}}}), "aliases.map.a: `a` is no address");
    refused(json!({"aliases": {"map": {"a@b": []}}}), "aliases.map.a@b: nobody");
    refused(json!({"aliases": {"domains": {"a..b": "c"}}}), "aliases.domains.a..b");
    refused(json!({"aliases": {"limit": 0}}), "aliases.limit");
    refused(json!({"masquerade": {"domains": {"a": "*.b"}}}), "masquerade.domains.a");
    refused(
        json!({"masquerade": {"domains": {"a": "b"}, "headers": ["DKIM-Signature"]}}),
        "masquerade.headers[0]",
    );
    refused(
        json!({"fields": [{"add": "X", "set": "Y", "value": ""}]}),
        "fields[0]: say exactly one",
    );
    refused(json!({"fields": [{"add": "X"}]}), "fields[0].value");
    refused(json!({"fields": [{"add": "X", "value": "{x}"}]}), "fields[0].value: `{x}`");
    refused(json!({"fields": [{"add": "X", "value": "a\nb"}]}), "fields[0].value: control");
    refused(json!({"fields": [{"set": "dkim-signature", "value": "x"}]}), "fields[0].set");
    refused(json!({"fields": [{"remove": "ARC-Seal"}]}), "fields[0].remove");
    refused(json!({"fields": [{"remove": "X", "if-absent": true}]}), "fields[0].if-absent");
    refused(json!({"footers": [{"name": "f", "text": " "}]}), "footers[0].text");
    refused(json!({"footers": [{"name": "f", "text": "x", "ascii": "ü"}]}), "footers[0].ascii");
    refused(json!({"footers": [{"name": "f", "text": "x".repeat(901)}]}), "footers[0].text");
    refused(json!({"verp": {"sender": [], "bounce": "a@b"}}), "verp.sender");
    refused(json!({"verp": {"sender": ["*"], "bounce": "a"}}), "verp.bounce");
    refused(
        json!({"verp": {"sender": ["*"], "bounce": "a@b", "delimiter": "="}}),
        "verp.delimiter",
    );
    refused(json!({"srs": {"domain": "a b", "secret": "s"}}), "srs.domain");
    refused(json!({"srs": {"domain": "a", "secret": ""}}), "srs.secret");
    refused(json!({"srs": {"domain": "a", "secret": "s", "max-age": "600d"}}), "srs.max-age");
    assert!(plugin(json!({})).unwrap().interest() == Interest::default());
}
