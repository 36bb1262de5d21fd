//! `waypost why`: what happened to a message, by what the next hop said and proved, and what it waits for.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use waypost_admin::Story;
use waypost_harness::authority::Authority;
use waypost_harness::upstream::{Act, Upstream};
use waypost_history::{Attempt, Note, Speaker, Step, Visit};
use waypost_mail::{MessageId, Protection};
use waypost_queue::standing::Wait;
use waypost_scenarios::{Home, PATIENCE};
use waypost_smtp::Phase;

use crate::way::{ALICE, BOB, Way, home_to, nobody, patient};

/// The story of a message once something is told in it: that is done behind the settlement.
pub(crate) async fn once_told<T>(
    way: &Way,
    id: &str,
    find: impl Fn(&Story) -> Option<T>,
) -> (Story, T) {
    let began = Instant::now();
    loop {
        let path = format!("/v1/messages/{id}/why");
        let story: Story = way.relay.client().get(&path).await.unwrap();
        if let Some(found) = find(&story) {
            return (story, found);
        }
        assert!(began.elapsed() < PATIENCE, "it is not told: {story}");
        sleep(Duration::from_millis(5)).await;
    }
}

/// The story with the last attempt in it.
pub(crate) async fn story_of(way: &Way, id: &str) -> Story {
    let is_last = |story: &Story| {
        let last = attempts(story).last()?.results.iter().all(|fared| fared.next.is_none());
        (last || story.standing.is_some()).then_some(())
    };
    once_told(way, id, is_last).await.0
}

pub(crate) fn attempts(story: &Story) -> Vec<&Attempt> {
    let notes = story.history.notes.iter();
    notes
        .filter_map(|told| match &told.note {
            Note::Attempt(attempt) => Some(&**attempt),
            _ => None,
        })
        .collect()
}

pub(crate) fn visits(attempt: &Attempt) -> Vec<&Visit> {
    let steps = attempt.steps.iter();
    steps
        .filter_map(|step| match step {
            Step::Visit(visit) => Some(&**visit),
            Step::Lookup(_) | Step::Held(_) => None,
        })
        .collect()
}

/// What was said, each line with who said it.
pub(crate) fn dialogue(visit: &Visit) -> Vec<String> {
    let mark = |who| match who {
        Speaker::We => ">",
        Speaker::They => "<",
        Speaker::Aside => "*",
    };
    visit.dialogue.iter().map(|line| format!("{} {}", mark(line.who), line.text)).collect()
}

#[tokio::test]
async fn of_a_message_that_was_deferred_twice_and_then_delivered() {
    let authority = Authority::new().unwrap();
    let busy = |text: &str| Act::Say(text.to_owned());
    let upstream = Upstream::new()
        .with_tls(authority.server("127.0.0.1").unwrap())
        .once(Phase::Mail, busy("451 4.3.2 come back later"))
        .once(Phase::Rcpt, busy("450 4.2.1 busy now"));
    let way = Way::to(&upstream).await;
    let id = way.send().await;
    way.settled(&id).await;
    let story = story_of(&way, &id).await;
    assert_eq!(story.standing, None, "nothing waits: {story}");
    let tried = attempts(&story);
    let fared: Vec<&str> =
        tried.iter().map(|attempt| attempt.results[0].outcome.as_str()).collect();
    assert_eq!(fared, ["deferred", "deferred", "delivered"], "{story}");
    let numbers: Vec<u32> = tried.iter().map(|attempt| attempt.number).collect();
    assert_eq!(numbers, [1, 2, 3]);
    let [first, _, last] = &tried[..] else { panic!("{story}") };
    assert_eq!(first.results[0].class.as_deref(), Some("refused"));
    assert_eq!(first.results[0].status.as_deref(), Some("4.3.2"));
    assert!(first.results[0].next > Some(first.began));
    assert_eq!(last.results[0].next, None);

    let visit = visits(first)[0];
    assert_eq!(visit.reused, None);
    let security = visit.security.unwrap();
    assert_eq!((security.protection, security.version.is_some()), (Protection::Encrypted, true));
    assert!(visit.tls.starts_with("encrypted to whoever answered, TLS 1."), "{}", visit.tls);
    let said = dialogue(visit);
    let at = |wanted: &str| {
        let found = said.iter().position(|line| line.starts_with(wanted));
        found.unwrap_or_else(|| panic!("{wanted:?} is not in {said:#?}"))
    };
    let order = ["* connected", "< 220", "> EHLO relay.example", "< 250", "> STARTTLS"];
    let order = order.map(at);
    assert!(order.is_sorted(), "{said:#?}");
    assert!(at("> STARTTLS") < at("* TLS handshake done"));
    assert!(at("* TLS handshake done") < at(&format!("> MAIL FROM:<{ALICE}>")));
    assert!(at("> MAIL FROM") < at("< 451 4.3.2 come back later"));
    let times: Vec<u64> = visit.dialogue.iter().map(|line| line.at_us).collect();
    assert!(times.is_sorted(), "{times:?}");
    let phases: Vec<&str> = visit.phases.iter().map(|(phase, _)| phase.as_str()).collect();
    for phase in ["connect", "greeting", "EHLO", "STARTTLS", "MAIL FROM"] {
        assert!(phases.contains(&phase), "{phases:?}");
    }
    let last = dialogue(visits(last)[0]);
    assert!(last.iter().any(|line| line.starts_with("* (the message, ")), "{last:#?}");
    assert!(!last.iter().any(|line| line.contains("The text.")), "the body is not told: {last:#?}");

    let path = format!("/v1/messages/{id}/why");
    let text = way.relay.client().text(&path).await.unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], format!("message {id}"));
    assert!(lines[1].contains("accepted from 127.0.0.1:"), "{text}");
    assert!(text.contains(&format!("to <{BOB}>: by ")), "{text}");
    assert!(text.contains("< 451 4.3.2 come back later"), "{text}");
    assert!(text.contains("nothing of it is in the queue any more"), "{text}");
    way.relay.stop().await;
}

#[tokio::test]
async fn of_a_message_that_bounced_and_of_its_notice() {
    let upstream = Upstream::new().refusing(BOB, "550 5.1.1 no such user here");
    let way = Way::to(&upstream).await;
    let id = way.send().await;
    way.settled(&id).await;
    way.notices(1).await;
    let story = story_of(&way, &id).await;
    let fared = &attempts(&story)[0].results[0];
    assert_eq!((fared.outcome.as_str(), fared.status.as_deref()), ("bounced", Some("5.1.1")));
    assert!(fared.words.contains("no such user here"), "{story}");
    assert!(fared.means.as_deref().is_some_and(|means| means.starts_with("permanent/")), "{story}");
    let notice = |story: &Story| {
        story.history.notes.iter().find_map(|told| match &told.note {
            Note::Notice(notice) => Some(notice.clone()),
            _ => None,
        })
    };
    let (_, notice) = once_told(&way, &id, notice).await;
    assert_eq!((notice.to.as_str(), &notice.kinds[..]), (ALICE, &["failed".to_owned()][..]));
    way.settled(&notice.id.to_string()).await;
    let about: MessageId = id.parse().unwrap();
    let other = story_of(&way, &notice.id.to_string()).await;
    let accepted = other.history.notes.iter().find_map(|told| match &told.note {
        Note::Accepted(accepted) => Some(accepted),
        _ => None,
    });
    assert_eq!(accepted.and_then(|accepted| accepted.notice_about), Some(about), "{other}");
    assert_eq!(attempts(&other)[0].results[0].outcome, "delivered", "{other}");
    way.relay.stop().await;
}

#[tokio::test]
async fn of_a_message_that_waits_for_a_destination_and_then_for_an_operator() {
    let down = nobody();
    let way = Way::through(patient(home_to(down))).await;
    let id = way.send().await;
    way.deferred(&id).await;
    let story = story_of(&way, &id).await;
    let error = visits(attempts(&story)[0])[0].error.clone().unwrap();
    assert!(error.contains("cannot connect"), "{story}");
    let standing = story.standing.clone().unwrap();
    assert_eq!(standing.recipients[0].address, BOB);
    let way_there = &standing.ways[0];
    assert_eq!((way_there.class.as_str(), way_there.waiting), ("default", 1));
    match &way_there.wait {
        Some(Wait::Rest { why, .. }) => assert!(why.contains("cannot connect"), "{why}"),
        Some(Wait::Time { .. }) => {}
        other => panic!("{other:?}"),
    }
    assert!(story.to_string().contains("held by its "), "{story}");

    let words = waypost_admin::api::ChangeRequest {
        selector: format!("id:{id}"),
        reason: "let me look".to_owned(),
        ..waypost_admin::api::ChangeRequest::default()
    };
    let client = way.relay.client();
    let _: waypost_admin::api::Applied = client.post("/v1/queue/hold", &words).await.unwrap();
    let story = story_of(&way, &id).await;
    let ordered = story.history.notes.iter().any(|told| match &told.note {
        Note::Order(order) => order.verb == "hold" && order.words == "let me look",
        _ => false,
    });
    assert!(ordered, "{story}");
    assert!(story.to_string().contains("is held (by "), "{story}");
    way.relay.stop().await;
}

#[tokio::test]
async fn of_nobody_s_message_is_said_so() {
    let way = Way::through(home_to(nobody())).await;
    let why = |id: &str| format!("/v1/messages/{id}/why");
    let client = way.relay.client();
    let error = client.get::<Story>(&why("0000000000001")).await.unwrap_err().to_string();
    assert!(error.contains("nothing is known of the message 0000000000001"), "{error}");
    let error = client.get::<Story>(&why("elephant")).await.unwrap_err().to_string();
    assert!(error.contains("'elephant' is no message id"), "{error}");
    way.relay.stop().await;
}

/// Everything that the history has on the disk.
fn octets(home: &Home) -> Vec<u8> {
    let files = fs::read_dir(home.spool().join("history")).unwrap();
    files.flat_map(|file| fs::read(file.unwrap().path()).unwrap()).collect()
}

fn holds(octets: &[u8], text: &str) -> bool {
    octets.windows(text.len()).any(|part| part == text.as_bytes())
}

#[tokio::test]
async fn without_a_secret_in_it() {
    let authority = Authority::new().unwrap();
    let password = "s3cret-of-the-relay";
    let token = waypost_scenarios::b64(format!("\0relay\0{password}"));
    for right in [true, false] {
        let upstream = Upstream::new()
            .with_tls(authority.server("127.0.0.1").unwrap())
            .with_login("relay", if right { password } else { "another" });
        let port = upstream.listen().await.unwrap().port();
        let home = patient(Home::new());
        let file = home.path("password");
        fs::write(&file, format!("{password}\n")).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        let lines = format!(
            "via = [{{ host = \"127.0.0.1\", port = {port} }}]\ntls = \"encrypt\"\n\
             auth = {{ user = \"relay\", password-file = {file:?} }}"
        );
        let way = Way::through(home.route_as("*", &lines)).await;
        let id = way.send().await;
        if right {
            way.settled(&id).await;
        } else {
            way.deferred(&id).await;
        }
        let story = story_of(&way, &id).await;
        let said = dialogue(visits(attempts(&story)[0])[0]);
        assert!(said.iter().any(|line| line == "> AUTH PLAIN ***"), "{said:#?}");
        let Way { relay, home, .. } = way;
        relay.stop().await;
        let kept = octets(&home);
        assert!(holds(&kept, "AUTH PLAIN ***"));
        assert!(!holds(&kept, password) && !holds(&kept, &token), "right: {right}");
    }
}

#[tokio::test]
async fn only_of_failures_word_by_word_where_that_is_configured() {
    let upstream = Upstream::new().once(Phase::Mail, Act::Say("451 4.3.2 later".to_owned()));
    let home = home_to(upstream.listen().await.unwrap());
    let way = Way::through(home.set("history", "dialogue", "\"failures\"")).await;
    let id = way.send().await;
    way.settled(&id).await;
    let story = story_of(&way, &id).await;
    let tried = attempts(&story);
    let lines = |attempt: &Attempt| visits(attempt)[0].dialogue.len();
    assert!(lines(tried[0]) > 0 && lines(tried[1]) == 0, "{story}");
    assert!(!visits(tried[1])[0].phases.is_empty(), "times are kept");
    way.relay.stop().await;
}

#[tokio::test]
async fn and_mail_flows_when_it_cannot_be_written() {
    let upstream = Upstream::new();
    let home = home_to(upstream.listen().await.unwrap());
    fs::create_dir_all(home.spool()).unwrap();
    fs::write(home.spool().join("history"), "this is no directory").unwrap();
    let way = Way::through(home).await;
    let id = way.send().await;
    way.settled(&id).await;
    assert_eq!(upstream.mails().len(), 1);
    let path = format!("/v1/messages/{id}/why");
    let error = way.relay.client().get::<Story>(&path).await.unwrap_err().to_string();
    assert!(error.contains("the history in") && error.contains("cannot be read"), "{error}");
    assert!(way.relay.counter("waypost_history_notes_lost_total").await > 1);
    way.relay.stop().await;
}

#[tokio::test]
async fn of_what_waits_where_no_history_is_kept() {
    let home = patient(home_to(nobody())).set("history", "enabled", "false");
    let way = Way::through(home).await;
    let id = way.send().await;
    way.deferred(&id).await;
    let (story, ()) = once_told(&way, &id, |_| Some(())).await;
    assert!(!story.is_kept && story.history.is_empty());
    assert!(story.to_string().contains("no history is kept"), "{story}");
    assert!(!Path::new(&way.home.spool()).join("history").exists());
    way.relay.stop().await;
}
