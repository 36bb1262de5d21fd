//! The `sendmail` command as cron, PHP and scripts call it, and what its status tells them.

use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::sync::Arc;

use nix::unistd::{Uid, User};
use waypost_harness::hooks::{RecordingHooks, Stage};
use waypost_harness::upstream::{Mail, Upstream};
use waypost_scenarios::{Door, Home};

/// How a call ended.
struct Ended {
    status: i32,
    said: String,
}

/// Calls the program by the name `sendmail`.
async fn sendmail(home: &Home, arguments: &[&str], input: &str) -> Ended {
    let mut command = Command::new(env!("CARGO_BIN_EXE_waypost-in-a-story"));
    command.arg0("/usr/sbin/sendmail").args(arguments).env("WAYPOST_SOCKET", home.local_socket());
    call(command, input).await
}

async fn call(mut command: Command, input: &str) -> Ended {
    let input = input.to_owned();
    tokio::task::spawn_blocking(move || {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // It may end without reading.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        let output = child.wait_with_output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        Ended { status: output.status.code().unwrap(), said: String::from_utf8(said).unwrap() }
    })
    .await
    .unwrap()
}

fn me() -> String {
    User::from_uid(Uid::current()).unwrap().unwrap().name
}

fn home() -> Home {
    Home::new().set("", "origin", "\"here.example\"").door(Door::Local)
}

fn unfolded(mail: &Mail) -> String {
    mail.content.replace("\r\n ", " ")
}

#[tokio::test]
async fn as_php_calls_it() {
    let upstream = Upstream::new();
    let home = home().route("*", upstream.listen().await.unwrap());
    let relay = home.start().await;
    let input = "To: b@far.example, C <c@far.example>\nSubject: order\nBcc: d@far.example\n\
                 X-PHP-Script: shop.example\n\nHello\n.\nmore\n";
    let ended = sendmail(&home, &["-t", "-i", "-fwww@shop.example"], input).await;
    assert_eq!((ended.status, ended.said.as_str()), (0, ""));
    relay.empty().await;
    let mail = upstream.mails().pop().unwrap();
    assert_eq!(mail.from, "www@shop.example");
    assert_eq!(mail.to, ["b@far.example", "c@far.example", "d@far.example"]);
    let text = unfolded(&mail);
    assert!(text.contains("\r\nTo: b@far.example, C <c@far.example>\r\n"), "{text}");
    assert!(text.contains(" <www@shop.example>\r\n") && !text.contains("Bcc"), "{text}");
    assert!(text.contains("\r\nDate: ") && text.contains("\r\nMessage-ID: <"), "{text}");
    assert!(text.ends_with("\r\n\r\nHello\r\n.\r\nmore\r\n"), "{text}");
    relay.stop().await;
}

#[tokio::test]
async fn as_cron_calls_it() {
    let upstream = Upstream::new();
    let home = home().route("*", upstream.listen().await.unwrap());
    let relay = home.start().await;
    let input = "From: root (Cron Daemon)\nTo: root\nSubject: Cron <root@host> run-parts\n\
                 MIME-Version: 1.0\nContent-Type: text/plain; charset=UTF-8\n\
                 Content-Transfer-Encoding: 8bit\nAuto-Submitted: auto-generated\n\nsch\u{f6}n\n";
    let arguments = ["-i", "-FCronDaemon", "-B8BITMIME", "-oem", "root"];
    let ended = sendmail(&home, &arguments, input).await;
    assert_eq!((ended.status, ended.said.as_str()), (0, ""));
    relay.empty().await;
    let mail = upstream.mails().pop().unwrap();
    assert_eq!(
        (mail.from, mail.to),
        (format!("{}@here.example", me()), vec!["root@here.example".to_owned()])
    );
    let text = mail.content;
    assert!(text.contains("\r\nFrom: root@here.example (Cron Daemon)\r\n"), "{text}");
    assert!(
        text.contains("\r\nTo: root@here.example\r\n") && text.ends_with("sch\u{f6}n\r\n"),
        "{text}"
    );
    relay.stop().await;
}

#[tokio::test]
async fn as_scripts_call_it() {
    let upstream = Upstream::new();
    let home = home().route("*", upstream.listen().await.unwrap());
    let relay = home.start().await;
    // By our own name, by the configuration; a message without a header, a dot that ends it, the null sender.
    let mut command = Command::new(env!("CARGO_BIN_EXE_waypost-in-a-story"));
    command.arg("sendmail").arg("-C").arg(home.file()).args(["-v", "-f", "<>", "-F", "A Script"]);
    command.args(["--", "b@far.example,c@far.example"]);
    let ended = call(command, "hello\n.\nnot this\n").await;
    assert_eq!(ended.status, 0, "{}", ended.said);
    assert!(ended.said.contains(">>> MAIL FROM:<>"), "{}", ended.said);
    relay.empty().await;
    let mail = upstream.mails().pop().unwrap();
    assert_eq!((mail.from.as_str(), mail.to.len()), ("", 2));
    let text = unfolded(&mail);
    let from = format!("\r\nFrom: \"A Script\" <{}@here.example>\r\n", me());
    assert!(text.contains(&from) && text.ends_with("\r\n\r\nhello\r\n"), "{text}");
    // And SMTP, as mail programs speak it with -bs.
    let dialogue = "EHLO me\r\nMAIL FROM:<a>\r\nRCPT TO:<e@far.example>\r\nDATA\r\n\
                    Subject: x\r\n\r\ny\r\n.\r\nQUIT\r\n";
    let ended = sendmail(&home, &["-bs"], dialogue).await;
    assert_eq!(ended.status, 0);
    assert!(
        ended.said.starts_with("220 relay.example ESMTP") && ended.said.contains("\n221 "),
        "{}",
        ended.said
    );
    relay.empty().await;
    assert_eq!(upstream.mails().pop().unwrap().from, "a@here.example");
    relay.stop().await;
}

/// RFC 3461 by `-N`, `-R` and `-V`, through to the notices.
#[tokio::test]
async fn and_says_what_it_wants_to_hear() {
    let upstream = Upstream::new().refusing("e@far.example", "550 5.1.1 no such user");
    let senders = Upstream::new();
    let home = home()
        .route("far.example", upstream.listen().await.unwrap())
        .route("*", senders.listen().await.unwrap());
    let relay = home.start().await;
    let input = "Subject: x\n\nthe text\n";
    let from = ["-i", "-f", "a@sender.example"];
    for (arguments, to, told) in [
        (&["-N", "success", "-V", "QQ1"][..], "b@far.example", "Action: relayed\r\nStatus: 2.1.9"),
        (&["-N", "failure,delay"][..], "b@far.example", ""),
        (&["-N", "never"][..], "e@far.example", ""),
        (&["-N", "failure", "-R", "full", "-V", "QQ1"][..], "e@far.example", "the text\r\n"),
        (&["-R", "hdrs", "-VQQ1"][..], "e@far.example", "Action: failed\r\nStatus: 5.1.1"),
    ] {
        let before = senders.mails().len();
        let all: Vec<&str> = [&from[..], arguments, &[to]].concat();
        let ended = sendmail(&home, &all, input).await;
        assert_eq!((ended.status, ended.said.as_str()), (0, ""), "{arguments:?}");
        relay.empty().await;
        let notices = senders.mails().split_off(before);
        assert_eq!(notices.len(), usize::from(!told.is_empty()), "{arguments:?}");
        for notice in notices {
            let text = &notice.content;
            assert!(text.contains(told), "{arguments:?}: {text}");
            assert!(text.contains("Original-Envelope-Id: QQ1\r\n"), "{arguments:?}: {text}");
            assert_eq!(text.contains("the text"), told.starts_with("the text"), "{text}");
        }
    }
    let ended = sendmail(&home, &["-N", "sometimes", "b@far.example"], input).await;
    assert_eq!(ended.status, 64, "EX_USAGE: {}", ended.said);
    relay.stop().await;
}

#[tokio::test]
async fn and_its_status_tells_what_came_of_it() {
    let policy = Arc::new(RecordingHooks::new());
    let upstream = Upstream::new();
    let home = home().hooks(policy.clone()).route("*", upstream.listen().await.unwrap());
    let arguments = ["-i", "b@far.example"];
    // Nobody is there: cron and PHP try again or tell.
    let ended = sendmail(&home, &arguments, "x\n").await;
    assert_eq!(ended.status, 75, "EX_TEMPFAIL: {}", ended.said);
    assert!(ended.said.contains("is waypost running"), "{}", ended.said);
    let relay = home.start().await;
    for (stage, reply, status) in [
        (Stage::Recipients, "550 5.1.1 nobody", 67),
        (Stage::Recipients, "450 4.2.1 later", 75),
        (Stage::Sender, "550 5.7.1 not you", 77),
        (Stage::Message, "554 5.6.0 malformed", 65),
        (Stage::Message, "554 5.5.0 no", 69),
        (Stage::Connect, "421 4.3.2 busy", 75),
    ] {
        policy.refuse(stage, reply);
        let ended = sendmail(&home, &arguments, "x\n").await;
        assert_eq!(ended.status, status, "{reply}: {}", ended.said);
        assert!(ended.said.contains(reply), "{reply}: {}", ended.said);
        policy.relent();
    }
    for (arguments, input, status) in [
        (&["-Z"][..], "", 64),
        (&[][..], "x\n", 64),
        (&["-t"][..], "Subject: x\n\ny\n", 65),
        (&["-i", "a@b.example\u{1}"][..], "x\n", 65),
        (&["-C", "/nonexistent", "a"][..], "x\n", 78),
    ] {
        let ended = sendmail(&home, arguments, input).await;
        assert_eq!(ended.status, status, "{arguments:?}: {}", ended.said);
    }
    assert!(relay.queued().is_empty() && upstream.mails().is_empty());
    // Who is refused does not keep it from the others.
    let ended = sendmail(&home, &["-i", "b@far.example", "a b@far.example"], "x\n").await;
    assert_eq!(ended.status, 67, "{}", ended.said);
    relay.empty().await;
    assert_eq!(upstream.mails().pop().unwrap().to, ["b@far.example"]);
    relay.stop().await;
}
