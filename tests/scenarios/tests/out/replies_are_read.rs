//! Replies that do not mean what their first digit says, read by the rules of the program and of the
//! operator.

use std::fs;

use waypost_harness::upstream::{Act, Upstream};
use waypost_queue::Selector;
use waypost_smtp::Phase;

use crate::way::{BOB, Way, home_to, patient};

const RULES: &str = r#"
[[provider]]
name = "nearby"
hosts = ["127.0.0.1"]

[[rule]]
name = "nearby-closed"
providers = ["nearby"]
codes = ["5xx"]
texts = ["closed until"]
disposition = "transient"
category = "busy"
samples = [{ reply = "550 5.3.2 Closed until 08:00", host = "127.0.0.1" }]
"#;

fn selected(way: &Way, selector: &str) -> usize {
    let selector: Selector = selector.parse().unwrap();
    way.relay.queue().list(&selector, None, 10).unwrap().messages.len()
}

#[tokio::test]
async fn greylisting_by_550_waits_and_can_be_looked_for() {
    let upstream = Upstream::new()
        .once(Phase::Rcpt, Act::Say("550 5.7.1 Greylisted, try again in 300 seconds".into()));
    let way = Way::patiently_to(&upstream).await;
    let id = way.send().await;
    way.deferred(&id).await;
    assert_eq!(selected(&way, "reply:greylisted"), 1);
    assert_eq!(selected(&way, "reply:full"), 0);
    way.retry(&id).await;
    way.settled(&id).await;
    assert_eq!((upstream.mails().len(), way.alice.mails().len()), (1, 0));
    let counted = "waypost_delivery_replies_total{disposition=\"transient\",scope=\"recipient\",category=\"greylisted\",provider=\"\"}";
    assert_eq!(way.relay.counter(counted).await, 1);
    way.relay.stop().await;
}

#[tokio::test]
async fn what_is_deferred_for_good_bounces_and_says_what_to_do() {
    let upstream = Upstream::new()
        .on(Phase::Rcpt, Act::Say("450 4.7.1 Mail from you will never be accepted here".into()));
    let way = Way::patiently_to(&upstream).await;
    let id = way.send().await;
    way.settled(&id).await;
    let notice = way.notices(1).await.remove(0).content;
    let words = notice.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains("Status: 5.7.1"), "{notice}");
    assert!(
        words.contains("What to do: the recipient's server refuses it for reasons"),
        "{notice}"
    );
    way.relay.stop().await;
}

#[tokio::test]
async fn by_rules_of_the_operator_which_a_reload_puts_in_force() {
    let upstream = Upstream::new().refusing(BOB, "550 5.3.2 Closed until 08:00");
    let home = patient(home_to(upstream.listen().await.unwrap()));
    let rules = home.path("replies.toml");
    fs::write(&rules, "").unwrap();
    let way = Way::through(home.set("replies", "rules", &format!("{rules:?}"))).await;
    let first = way.send().await;
    way.settled(&first).await;
    way.notices(1).await;

    fs::write(&rules, RULES).unwrap();
    way.home.reload().await.unwrap();
    let second = way.send().await;
    way.deferred(&second).await;
    assert_eq!(selected(&way, "reply:busy"), 1);
    upstream.relent();
    way.retry(&second).await;
    way.settled(&second).await;
    way.relay.stop().await;
}

#[tokio::test]
async fn rules_that_are_of_no_use_are_told_by_file_and_line() {
    let home = home_to("127.0.0.1:9".parse().unwrap()).trusting();
    let rules = home.path("replies.toml");
    let twice = RULES.replace("[[provider]]\nname = \"nearby\"\nhosts = [\"127.0.0.1\"]\n", "");
    let hidden = twice.replace("nearby-closed", "hidden").replace("\"5xx\"", "\"550\"");
    fs::write(&rules, format!("{RULES}{hidden}")).unwrap();
    let home = home.set("replies", "rules", &format!("{rules:?}"));
    let mistakes = home.try_start().await.unwrap_err();
    let line = RULES.lines().count() + 4;
    let expected = format!(
        "{}:{line}:8: rule 'hidden' can never match: rule 'nearby-closed' before it",
        rules.display()
    );
    assert!(mistakes.contains(&expected), "{expected} is not in\n{mistakes}");
    fs::remove_file(&rules).unwrap();
    assert!(home.try_start().await.unwrap_err().contains("cannot read"));
}
