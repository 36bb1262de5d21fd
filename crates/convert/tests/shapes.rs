//! Messages of many shapes, and their copies.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests are tests")]

use bytes::Bytes;
use mail_parser::{MessageParser, MimeHeaders as _, PartType};
use waypost_mail::HeaderBlock;
use waypost_mail::header::header_len;

use waypost_convert::{MAX_LINE, MAX_PART_HEADER, MAX_PARTS, Rewrite, Survey, Target, Unfit};
use waypost_smtp::BodyType;

const SEVEN: Target = Target { body: BodyType::SevenBit, ascii_header: false };
const EIGHT: Target = Target { body: BodyType::EightBitMime, ascii_header: false };
const ASCII: Target = Target { body: BodyType::EightBitMime, ascii_header: true };

/// The copy, with both looks given the body in pieces of `size`. Nothing where it can go as it is.
fn copy_in(target: Target, message: &[u8], size: usize) -> Result<Option<Vec<u8>>, Unfit> {
    let header = header_len(message).unwrap_or(message.len());
    let block = HeaderBlock::parse(Bytes::copy_from_slice(&message[..header]));
    let body = message.get(header + 2..).unwrap_or_default();
    let mut survey = Survey::new(target, &block)?;
    body.chunks(size).try_for_each(|piece| survey.push(piece))?;
    let plan = survey.finish()?;
    let mut rewrite = Rewrite::new(&plan)?;
    let mut copy = plan.header()?;
    copy.extend_from_slice(b"\r\n");
    for piece in body.chunks(size) {
        rewrite.push(piece)?;
        copy.extend(rewrite.take_output());
    }
    rewrite.finish()?;
    copy.extend(rewrite.take_output());
    if plan.is_empty() {
        assert_eq!(copy, message, "an empty plan changes nothing");
        return Ok(None);
    }
    assert!(is_fit(target, &copy), "{}", String::from_utf8_lossy(&copy));
    assert!(is_fit(Target { body: plan.body(), ascii_header: false }, &copy));
    Ok(Some(copy))
}

fn copy(target: Target, message: &[u8]) -> Result<Option<Vec<u8>>, Unfit> {
    let whole = copy_in(target, message, message.len().max(1));
    for size in [1, 2, 3, 7, 64] {
        assert_eq!(copy_in(target, message, size), whole, "in pieces of {size}");
    }
    whole
}

fn is_fit(target: Target, copy: &[u8]) -> bool {
    let header = header_len(copy).unwrap();
    let lines = copy.split_inclusive(|octet| *octet == b'\n').all(|line| {
        line.strip_suffix(b"\r\n").is_some_and(|text| {
            text.len() <= MAX_LINE && !text.iter().any(|octet| b"\r\n\0".contains(octet))
        })
    });
    match target.body {
        BodyType::SevenBit => lines && copy.is_ascii(),
        BodyType::EightBitMime => lines && (!target.ascii_header || copy[..header].is_ascii()),
        BodyType::BinaryMime => true,
    }
}

fn text(target: Target, message: &str) -> String {
    String::from_utf8(copy(target, message.as_bytes()).unwrap().expect("a copy")).unwrap()
}

fn unfit(target: Target, message: &str) -> Unfit {
    copy(target, message.as_bytes()).unwrap_err()
}

/// What a reader makes of the leaves of a message.
fn leaves(message: &[u8]) -> Vec<(String, Vec<u8>)> {
    let read = MessageParser::default().parse(message).unwrap();
    let mut leaves = Vec::new();
    for part in &read.parts {
        let kind = part
            .content_type()
            .map(|kind| format!("{}/{}", kind.ctype(), kind.subtype().unwrap_or_default()));
        match &part.body {
            PartType::Message(inner) => leaves.extend(self::leaves(inner.raw_message())),
            PartType::Multipart(_) => {}
            _ => leaves.push((kind.unwrap_or("text/plain".into()), part.contents().to_vec())),
        }
    }
    leaves
}

fn same_leaves(target: Target, message: &str) -> String {
    let made = text(target, message);
    assert_eq!(leaves(made.as_bytes()), leaves(message.as_bytes()), "{made}");
    made
}

#[test]
fn what_the_target_takes_stays_as_it_is() {
    for message in [
        "Subject: x\r\n\r\nplain\r\n",
        "\r\n",
        "\r\nno header\r\n",
        "Content-Type: multipart/mixed; boundary=b\r\n\r\npre\r\n--b\r\n\r\nx\r\n--b--\r\npost\r\n",
        "Content-Transfer-Encoding: base64\r\n\r\neA==\r\n",
    ] {
        for target in [SEVEN, EIGHT, ASCII] {
            assert_eq!(copy(target, message.as_bytes()), Ok(None), "{message:?}");
        }
    }
    let eight = "Subject: gr\u{fc}n\r\n\r\ngr\u{fc}n\r\n";
    assert_eq!(copy(EIGHT, eight.as_bytes()), Ok(None));
}

#[test]
fn text_becomes_quoted_printable() {
    let made = same_leaves(
        SEVEN,
        "From: a@b.example\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\
         Content-Transfer-Encoding: 8bit\r\nSubject: x\r\n\r\ngr\u{fc}n ist = \r\n.\r\n-- \r\nich\r\n",
    );
    assert_eq!(
        made,
        "From: a@b.example\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\
         Subject: x\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n\
         gr=C3=BCn ist =3D=20\r\n.\r\n=2D-=20\r\nich\r\n"
    );
}

#[test]
fn text_that_is_mostly_foreign_becomes_base64() {
    let message = format!(
        "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n{}\r\n",
        "\u{4f60}\u{597d}".repeat(100)
    );
    let made = same_leaves(SEVEN, &message);
    assert!(made.contains("Content-Transfer-Encoding: base64\r\n\r\n5L2g5aW9"), "{made}");
}

#[test]
fn mail_that_does_not_say_what_it_is_says_so_now() {
    let made = text(SEVEN, "Subject: x\r\n\r\ngr\u{fc}n\r\n");
    assert_eq!(
        made,
        "Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\
         Content-Transfer-Encoding: quoted-printable\r\n\r\ngr=C3=BCn\r\n"
    );
    let made = copy(SEVEN, b"Content-Type: text\r\n\r\ngr\xfcn\r\n").unwrap().unwrap();
    let made = String::from_utf8(made).unwrap();
    assert!(made.contains("Content-Type: text/plain; charset=unknown-8bit\r\n"), "{made}");
    assert_eq!(made.matches("Content-Type").count(), 1);
    // A header of raw octets as well.
    let made = text(SEVEN, "Subject: gr\u{fc}n\r\n\r\nx\r\n");
    assert_eq!(made, "Subject: =?utf-8?q?gr=C3=BCn?=\r\n\r\nx\r\n");
}

#[test]
fn parts_are_encoded_and_composites_are_labelled() {
    let message = "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=\"o\"\r\n\
        Content-Transfer-Encoding: 8bit\r\n\r\npre\u{e4}mble\r\n--o\r\n\
        Content-Type: multipart/alternative; boundary=\"oo\"\r\nContent-Transfer-Encoding: 8bit\r\n\r\n\
        --oo\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n\
        \u{fc}\r\n--oo \t\r\nContent-Type: text/html\r\n\r\n<p>plain\r\n--oo--\r\n\r\n--o\r\n\
        Content-Type: image/png; name=\"\u{fc}.png\"\r\nContent-Transfer-Encoding: BINARY\r\n\r\n\
        \u{80}PNG\r\n\r\nend\r\n--o\r\nContent-Type: message/rfc822\r\n\r\nSubject: \u{fc}\r\n\r\n\
        inner \u{fc}\r\n--o\r\n\u{fc}no header\r\n--o--\r\nepilogue\r\n";
    // The last part is a header of a line that is none.
    assert_eq!(unfit(SEVEN, message), Unfit::Field("(a line that is none)".into()));
    let message = message.replace("\u{fc}no", "\r\n\u{fc}no");
    let made = same_leaves(SEVEN, &message);
    for part in [
        "boundary=\"o\"\r\nContent-Transfer-Encoding: 7bit\r\n\r\npre??mble\r\n--o\r\n",
        "boundary=\"oo\"\r\nContent-Transfer-Encoding: 7bit\r\n\r\n--oo\r\n",
        "quoted-printable\r\n\r\n=C3=BC\r\n--oo \t\r\nContent-Type: text/html\r\n\r\n<p>plain\r\n",
        "name*=utf-8''%C3%BC.png\r\nContent-Transfer-Encoding: base64\r\n\r\n",
        "Content-Type: message/rfc822\r\n\r\nSubject: =?utf-8?q?=C3=BC?=\r\nMIME-Version: 1.0\r\n",
        "quoted-printable\r\n\r\ninner =C3=BC\r\n--o\r\nContent-Type: text/plain; charset=utf-8\r\n",
        "\r\n--o--\r\nepilogue\r\n",
    ] {
        assert!(made.contains(part), "{part} is not in {made}");
    }
    assert_eq!(made.matches("MIME-Version").count(), 2);
}

#[test]
fn what_is_signed_within_is_not_touched() {
    let signed = |inside: &str| {
        format!(
            "MIME-Version: 1.0\r\nContent-Type: multipart/signed; boundary=s;\r\n \
             protocol=\"application/pgp-signature\"\r\nContent-Transfer-Encoding: 8bit\r\n\r\n--s\r\n\
             Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n\
             {inside}\r\n--s\r\nContent-Type: application/pgp-signature\r\n\r\nxyz\r\n--s--\r\n"
        )
    };
    assert_eq!(unfit(SEVEN, &signed("gr\u{fc}n")), Unfit::Signed);
    assert_eq!(unfit(EIGHT, &signed("bare\rcr")), Unfit::Signed);
    // Only what lies outside changes: the label of the multipart.
    let made = same_leaves(SEVEN, &signed("green"));
    assert!(
        made.contains("signature\"\r\nContent-Transfer-Encoding: 7bit\r\n\r\n--s\r\n"),
        "{made}"
    );
    assert!(
        made.contains("charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\ngreen"),
        "{made}"
    );
}

#[test]
fn what_may_not_be_encoded_is_unfit() {
    let of = |kind: &str| format!("Content-Type: {kind}\r\n\r\n\u{fc}\r\n");
    for kind in ["message/partial; id=1", "message/delivery-status", "multipart/mixed"] {
        let media = kind.split(';').next().unwrap();
        assert_eq!(unfit(SEVEN, &of(kind)), Unfit::Composite(media.into()));
    }
    let lying = "Content-Transfer-Encoding: Base64\r\n\r\n\u{fc}\r\n";
    assert_eq!(unfit(SEVEN, lying), Unfit::Mislabelled("base64".into()));
    let global = same_leaves(
        SEVEN,
        "MIME-Version: 1.0\r\nContent-Type: message/global-headers\r\n\r\nSubject: \u{fc}\r\n",
    );
    assert!(global.contains("quoted-printable\r\n\r\nSubject: =C3=BC"), "{global}");
}

#[test]
fn binary_content_becomes_lines() {
    let message = b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\
        Content-Transfer-Encoding: binary\r\n\r\n--b\r\nContent-Type: image/png\r\n\
        Content-Transfer-Encoding: binary\r\n\r\n\x00\r\x01\n\xff\r\n--b\r\n\
        Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: binary\r\n\r\n\
        bare\nline\r\nfeeds \xc3\xbc\r\n--b\r\nContent-Type: text/plain; charset=utf-8\r\n\
        Content-Transfer-Encoding: binary\r\n\r\nnot \xc3\xbc binary\r\n--b--";
    for target in [SEVEN, EIGHT] {
        let made = copy(target, message).unwrap().unwrap();
        let shown = String::from_utf8_lossy(&made);
        assert!(made.ends_with(b"--b--\r\n"));
        assert!(shown.contains("base64\r\n\r\nAA0BCv8=\r\n--b"), "{shown}");
        assert!(shown.contains("bare=0Aline\r\nfeeds =C3=BC\r\n--b"), "{shown}");
        let last = if target == SEVEN {
            "quoted-printable\r\n\r\nnot =C3=BC"
        } else {
            "8bit\r\n\r\nnot \u{fc}"
        };
        assert!(shown.contains(last), "{shown}");
    }
    let long = format!("\r\n{}", "x".repeat(5000));
    let made = text(EIGHT, &long);
    assert!(made.contains("charset=us-ascii\r\n") && made.ends_with("xx=\r\n"), "{made}");
}

#[test]
fn long_lines_and_delimiters_within_them_are_content() {
    let long = "-".repeat(3000);
    let message = format!(
        "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n{long}\r\nx--b\r\n--bb\r\n --b\r\n--b--\r\n"
    );
    let made = text(EIGHT, &message);
    let plain = made.replace("=\r\n", "").replace("=2D", "-");
    assert!(
        plain.contains(&format!("\r\n\r\n{long}\r\nx--b\r\n--bb\r\n --b\r\n--b--\r\n")),
        "{plain}"
    );
}

#[test]
fn only_the_header_becomes_ascii_where_the_body_may_be_eight_bit() {
    let message = "From: J\u{fc}rgen <j@b\u{fc}cher.example>\r\nMIME-Version: 1.0\r\n\
        Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\ngr\u{fc}n\r\n";
    let made = text(ASCII, message);
    assert!(made.starts_with("From: =?utf-8?q?J=C3=BCrgen?= <j@xn--bcher-kva.example>\r\n"));
    assert!(made.ends_with("8bit\r\n\r\ngr\u{fc}n\r\n"), "{made}");
    assert_eq!(unfit(ASCII, &message.replace("<j@", "<\u{fc}@")), Unfit::Field("From".into()));
}

#[test]
fn broken_structures_are_followed_as_far_as_they_go() {
    // Neither multipart is closed, and the inner one ends with the outer one's delimiter.
    let message = "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=o\r\n\r\n--o\r\n\
        Content-Type: multipart/mixed; boundary=i\r\n\r\n--i\r\n\
        Content-Type: text/plain; charset=utf-8\r\n\r\n\u{fc}\r\n--o\r\n\
        Content-Type: text/plain; charset=utf-8\r\n\r\n\u{e4}\r\n";
    // RFC 2046 §5.1.2; not every reader knows that.
    let made = text(SEVEN, message);
    assert!(made.contains("=C3=BC\r\n--o\r\n") && made.ends_with("=C3=A4\r\n"), "{made}");
    let headless =
        "Content-Type: multipart/mixed; boundary=o\r\n\r\n--o\r\nContent-Type: text/plain\r\n--o--";
    let binary = format!("{headless}\u{fc}");
    assert!(text(SEVEN, &format!("{headless}\r\n\u{fc}")).ends_with("--o--\r\n??\r\n"));
    assert!(copy(SEVEN, binary.as_bytes()).is_err(), "no delimiter: a header of octets over 127");
}

#[test]
fn a_multipart_whose_delimiter_is_nowhere_is_not_emptied() {
    let top = "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=\"right\"\r\n\r\n";
    let part = "\r\nContent-Type: text/plain; charset=utf-8\r\n\r\ngr\u{fc}n\r\n";
    let nowhere = Unfit::Structure("the delimiter of a multipart is nowhere in it");
    let wrong = format!("--wrong{part}--wrong--\r\n");
    assert_eq!(unfit(SEVEN, &format!("{top}{wrong}")), nowhere);
    assert_eq!(unfit(SEVEN, &format!("{top}{wrong}--right--\r\n")), nowhere);
    let bare = format!("{top}--right{part}--right--\r\n");
    let (header, body) = bare.split_once("\r\n\r\n").unwrap();
    let bare = format!("{header}\r\n\r\n{}", body.replace("\r\n", "\n"));
    assert_eq!(unfit(EIGHT, &bare), nowhere, "delimiters in lines that end with LF");
    let inner = wrong.replace("wrong", "no");
    let nested = "--right\r\nContent-Type: multipart/mixed; boundary=i\r\n\r\n";
    assert_eq!(unfit(SEVEN, &format!("{top}{nested}{inner}--right--\r\n")), nowhere);
    let empty = format!("{top}--right{part}{nested}--right--\r\n");
    assert!(text(SEVEN, &empty).contains("gr=C3=BCn\r\n--right"), "one that holds nothing is fine");
}

#[test]
fn structures_without_end_are_given_up() {
    let mut deep = String::new();
    for level in 0..60 {
        deep.push_str(&format!(
            "Content-Type: multipart/mixed; boundary=b{level}\r\n\r\n--b{level}\r\n"
        ));
    }
    assert!(matches!(copy_in(SEVEN, deep.as_bytes(), 1000), Err(Unfit::Structure(_))));
    let enclosed = "Content-Type: message/rfc822\r\n\r\n".repeat(60);
    assert!(matches!(copy_in(SEVEN, enclosed.as_bytes(), 1000), Err(Unfit::Structure(_))));
    let many = format!(
        "Content-Type: multipart/mixed; boundary=b\r\n\r\n{}",
        "--b\r\n".repeat(MAX_PARTS + 1)
    );
    assert!(matches!(copy_in(SEVEN, many.as_bytes(), 1000), Err(Unfit::Structure(_))));
    let long =
        format!("Content-Type: message/rfc822\r\n\r\n{}", "X: y\r\n".repeat(MAX_PART_HEADER));
    assert!(matches!(copy_in(SEVEN, long.as_bytes(), 1000), Err(Unfit::Structure(_))));
    let one_line =
        format!("Content-Type: message/rfc822\r\n\r\n{}", "x".repeat(MAX_PART_HEADER + 1));
    assert!(matches!(copy_in(SEVEN, one_line.as_bytes(), 1000), Err(Unfit::Structure(_))));
}

#[test]
fn parts_of_a_digest_are_followed() {
    let message = "MIME-Version: 1.0\r\nContent-Type: multipart/digest; boundary=d\r\n\r\n--d\r\n\r\n\
        Subject: one\r\n\r\n\u{fc}\r\n--d\r\n\r\nSubject: two\r\n\r\nplain\r\n--d--\r\n";
    let made = text(SEVEN, message);
    assert!(
        made.contains("Subject: one\r\nMIME-Version: 1.0\r\nContent-Type: text/plain"),
        "{made}"
    );
    assert!(made.contains("Subject: two\r\n\r\nplain\r\n--d--\r\n"), "{made}");
}
