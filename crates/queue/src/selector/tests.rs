use super::*;
use crate::index::ReplyClass;

fn parse(text: &str) -> Selector {
    text.parse().unwrap_or_else(|error: SelectorError| panic!("{}", error.pointed(text)))
}

fn sight() -> Sight<'static> {
    Sight {
        id: MessageId(7),
        age: 3 * 3_600_000,
        size: 2048,
        sender: ("News", "shop.example"),
        listener: "mx",
        user: "",
        tenant: "shop",
        tags: "bulk summer",
        class: "slow",
        recipient: ("Bob", "b.example"),
        destination: "10.0.0.5:25",
        standing: RecipientStanding::Waiting,
        tries: 3,
        reply: ReplyClass::NONE,
    }
}

#[test]
fn every_key_finds_what_it_names() {
    let id = MessageId(7).to_string();
    for text in [
        "",
        "id:0000000000007",
        &id,
        &format!("{},{id}", MessageId(9)),
        "sender:news@SHOP.example",
        "sender:*@shop.example",
        "recipient:bob@b.example",
        "domain:b.example",
        "domain:a.example,b.*",
        "destination:10.0.0.5:25",
        "state:waiting",
        "state:held,waiting",
        "age>2h",
        "age>=3h",
        "age<3h1s",
        "age:2h..4h",
        "age:..5h30m",
        "size>=2KiB",
        "size:2048",
        "size<1MB",
        "attempts:3",
        "attempts=3",
        "attempts>2",
        "attempts:1..",
        "tenant:shop",
        "tag:bulk",
        "tag:sum*",
        "listener:mx",
        "user:<>",
        "user:\"\"",
        "class:slow",
        "reply:none",
        "domain!=a.example",
        "not domain:a.example",
        "!(domain:a.example or domain:c.example)",
        "domain:b.example age>2h attempts>1",
        "domain:a.example or age>2h",
        "domain:a.example and age>9h or (tag:bulk AND not state:held)",
    ] {
        assert!(parse(text).selects(&sight()), "{text}");
    }
}

#[test]
fn every_key_leaves_out_what_it_does_not_name() {
    for text in [
        "id:0000000000008",
        "sender:<>",
        "sender:news@shop",
        "recipient:b.example",
        "domain:*.b.example",
        "destination:10.0.0.5",
        "state:held,done,in-flight",
        "age>3h",
        "age<3h",
        "age:4h..",
        "size>2KiB",
        "attempts:..2",
        "attempts<3",
        "tag:bul",
        "tag:\"bulk summer\"",
        "tag:<>",
        "reply:4*",
        "domain!=b.example",
        "domain:b.example not tag:bulk",
        "domain:b.example domain:a.example",
        "domain:a.example or age>4h",
        "not not domain:a.example",
    ] {
        assert!(!parse(text).selects(&sight()), "{text}");
    }
}

/// `or` binds less than what stands side by side.
#[test]
fn brackets_make_a_difference() {
    assert!(parse("tag:bulk or tag:x domain:none").selects(&sight()));
    assert!(!parse("(tag:bulk or tag:x) domain:none").selects(&sight()));
}

#[test]
fn mistakes_point_at_their_column() {
    let cases = [
        ("domain:a agee>2h", 10, "did you mean 'age'"),
        ("domain:a bob@b.example", 10, "neither a message id nor key:value"),
        ("age:2h", 5, "no age is exact"),
        ("age>2", 5, "'2' is no age"),
        ("age>2fortnights", 5, "a number and a unit"),
        ("attempts:x", 10, "is no attempts"),
        ("attempts:1,2", 12, "takes one value"),
        ("size>5parsecs", 6, "64KiB"),
        ("size<0", 6, "less than nothing"),
        ("state:held,parked", 12, "'parked' is no state"),
        ("sender>a", 8, "has no order"),
        ("domain:", 8, "needs a value"),
        ("id:xyz", 4, "is no message id"),
        ("(domain:a", 1, "not closed"),
        ("domain:a)", 9, "never opened"),
        ("domain:a or", 12, "a condition is missing"),
        ("not", 4, "a condition is missing"),
        ("a and (", 1, "neither"),
        ("sender:\"a b", 8, "quotation mark is not closed"),
        ("sender:\u{fc}@b.example or size>x", 28, "is no size"),
        ("domain:a and and domain:b", 14, "neither"),
    ];
    for (text, column, words) in cases {
        let error = text.parse::<Selector>().unwrap_err();
        assert!(error.column == column && error.message.contains(words), "{text}: {error}");
    }
    let error = "age:2h".parse::<Selector>().unwrap_err();
    assert!(error.pointed("age:2h").starts_with("age:2h\n    ^ no age"), "{error}");
}

#[test]
fn depth_and_length_have_an_end() {
    let deep = |depth| format!("{}domain:a{}", "(".repeat(depth), ")".repeat(depth));
    assert!(deep(32).parse::<Selector>().is_ok());
    assert!(deep(33).parse::<Selector>().is_err());
    assert!("!".repeat(100_000).parse::<Selector>().is_err());
    assert!(format!("domain:{}", "a".repeat(MAX_SELECTOR)).parse::<Selector>().is_err());
}

#[test]
fn a_selector_is_shown_as_it_may_be_written() {
    for (text, shown) in [
        ("age>2h", "age:7200001ms.."),
        (
            "age>=2h and not (state:held or tag:\"a b\")",
            "age:7200s.. not (state:held or tag:\"a b\")",
        ),
        ("size<=5KiB attempts:3", "size:..5120 attempts:3"),
        ("sender:<>", "sender:<>"),
    ] {
        assert_eq!(parse(text).to_string(), shown);
        assert_eq!(parse(shown), parse(text), "{text}");
    }
}

#[test]
fn ids_alone_are_known_as_such() {
    assert_eq!(parse("0000000000007").only_ids(), Some(&[MessageId(7)][..]));
    assert_eq!(parse("0000000000007 state:held").only_ids(), None);
    assert_eq!(parse("0000000000007 state:held").among(), Some(&[MessageId(7)][..]));
    assert_eq!(parse("0000000000007 or state:held").among(), None);
    assert_eq!(parse("not 0000000000007").among(), None);
}
