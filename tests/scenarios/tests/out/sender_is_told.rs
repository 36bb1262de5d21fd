//! Notices: what they say, who gets them, and who does not.

use std::collections::HashMap;

use waypost_harness::upstream::{Act, Upstream};
use waypost_smtp::Phase;

use crate::way::{ALICE, BOB, Way, home_to};

type Fields = HashMap<String, String>;

/// Header fields with lower-case names; folded lines are joined.
fn fields(text: &str) -> Fields {
    let unfolded = text.replace("\r\n ", " ").replace("\r\n\t", " ");
    let field = |line: &str| {
        let (name, value) = line.split_once(':').unwrap_or_else(|| panic!("no field: {line:?}"));
        (name.to_ascii_lowercase(), value.trim().to_owned())
    };
    unfolded.split("\r\n").filter(|line| !line.is_empty()).map(field).collect()
}

/// A notice taken apart as RFC 6522 and RFC 3464 say.
struct Report {
    header: Fields,
    /// Type and content.
    parts: Vec<(String, String)>,
    /// About the message, then one for each recipient.
    groups: Vec<Fields>,
}

impl Report {
    fn parse(message: &str) -> Report {
        let (header, body) = message.split_once("\r\n\r\n").unwrap();
        let header = fields(header);
        let kind = &header["content-type"];
        assert!(kind.starts_with("multipart/report"), "{kind}");
        let boundary = kind.split("boundary=\"").nth(1).unwrap().split('"').next().unwrap();
        let mut parts: Vec<&str> = body.split(&format!("\r\n--{boundary}")).collect();
        assert_eq!(parts.pop().unwrap(), "--\r\n", "it ends with its closing delimiter");
        let part = |part: &&str| {
            let (header, content) = part.trim_start().split_once("\r\n\r\n").unwrap();
            (fields(header)["content-type"].clone(), content.to_owned())
        };
        let parts: Vec<_> = parts[1..].iter().map(part).collect();
        let status = &parts[1].1;
        let groups = status.split("\r\n\r\n").filter(|group| !group.trim().is_empty()).map(fields);
        Report { header, groups: groups.collect(), parts: parts.clone() }
    }
}

#[tokio::test]
async fn for_people_and_for_programs() {
    let upstream = Upstream::new()
        .refusing(BOB, "550 5.1.1 no such user here")
        .refusing("eve@there.example", "552 5.2.2 mailbox full");
    let way = Way::to(&upstream).await;
    let id = way.send_to(&[BOB, "eve@there.example", "fine@there.example"]).await;
    way.settled(&id).await;
    let mail = way.notices(1).await.remove(0);
    assert_eq!((mail.from.as_str(), mail.to.as_slice()), ("", &[ALICE.to_owned()][..]));

    let Report { header, parts, groups } = Report::parse(&mail.content);
    let kind = &header["content-type"];
    assert!(kind.contains("report-type=delivery-status"), "{kind}");
    assert_eq!(header["to"], format!("<{ALICE}>"));
    assert_eq!(header["mime-version"], "1.0");
    assert_eq!(header["auto-submitted"], "auto-replied");
    assert_eq!(header["references"], "<Hello@home.example>");
    for name in ["from", "date", "message-id", "subject"] {
        assert!(header.contains_key(name), "{name}");
    }

    let kinds: Vec<&str> = parts.iter().map(|(kind, _)| kind.split(';').next().unwrap()).collect();
    assert_eq!(kinds, ["text/plain", "message/delivery-status", "text/rfc822-headers"]);
    let words = parts[0].1.split_whitespace().collect::<Vec<_>>().join(" ");
    for word in [BOB, "550 5.1.1 no such user here", &id] {
        assert!(words.contains(word), "{word} is not in {words}");
    }
    assert!(parts[2].1.contains("Subject: Hello\r\n"), "{}", parts[2].1);
    assert!(!mail.content.contains("The text."), "the body does not come back");

    let [about, bob, eve] = &groups[..] else { panic!("{} groups", groups.len()) };
    assert_eq!(about["reporting-mta"], "dns; relay.example");
    assert!(about.contains_key("arrival-date"));
    let wanted = [
        (bob, BOB, "5.1.1", "smtp; 550 5.1.1 no such user here"),
        (eve, "eve@there.example", "5.2.2", "smtp; 552 5.2.2 mailbox full"),
    ];
    for (group, who, status, diagnostic) in wanted {
        assert_eq!(group["final-recipient"], format!("rfc822; {who}"));
        assert_eq!(group["action"], "failed");
        assert_eq!(group["status"], status);
        assert_eq!(group["diagnostic-code"], diagnostic);
        assert!(group["remote-mta"].contains("127.0.0.1"), "{}", group["remote-mta"]);
    }
    way.relay.stop().await;
}

#[tokio::test]
async fn but_never_the_null_sender() {
    let upstream = Upstream::new().refusing(BOB, "550 5.1.1 no such user");
    let way = Way::to(&upstream).await;
    let id = way.post("", &[BOB], "report").await;
    way.settled(&id).await;
    way.relay.empty().await;
    assert!(way.alice.mails().is_empty());
    assert_eq!(way.alice.connections(), 0);
    assert_eq!(upstream.heard().matches("MAIL FROM").count(), 1);
    way.relay.stop().await;
}

/// A notice that cannot be delivered causes no other.
#[tokio::test]
async fn once_and_not_about_the_notice() {
    let upstream = Upstream::new().refusing(BOB, "550 5.1.1 no such user");
    let alice = Upstream::new().on(Phase::Mail, Act::Say("550 5.7.1 no notices".to_owned()));
    let home = home_to(upstream.listen().await.unwrap());
    let way = Way::with_alice(home, alice).await;
    let id = way.send().await;
    way.settled(&id).await;
    way.relay.empty().await;
    way.relay.stop().await;
    let relay = way.home.start().await;
    relay.empty().await;
    assert_eq!(way.alice.heard().matches("MAIL FROM:<>").count(), 1);
    assert_eq!(way.alice.heard().matches("MAIL FROM").count(), 1);
    relay.stop().await;
}
