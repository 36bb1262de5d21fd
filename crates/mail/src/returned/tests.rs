use super::*;

fn read(text: &str) -> Returned {
    Returned::read(text.replace('\n', "\r\n").as_bytes(), true)
}

fn fate(text: &str) -> Fate {
    match read(text) {
        Returned::Report(fates) => fates.into_iter().next().unwrap(),
        Returned::Words(fate) => fate,
        other => panic!("{other:?}"),
    }
}

fn said(text: &str) -> String {
    fate(text).reply.map(|reply| reply.to_string()).unwrap_or_default()
}

const REPORT: &str = "From: MAILER-DAEMON@mx.example.net
Subject: Undelivered Mail Returned to Sender
Auto-Submitted: auto-replied
Content-Type: multipart/report; report-type=delivery-status; boundary=\"b\"
MIME-Version: 1.0

--b
Content-Type: text/plain

I am sorry.

--b
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.example.net
Arrival-Date: Thu, 26 Nov 2026 01:00:00 +0000

Final-Recipient: rfc822; robert@example.net
Original-Recipient: rfc822;bob@example.net
Action: failed
Status: 5.1.1
Remote-MTA: dns; store.example.net
Diagnostic-Code: smtp; 550 5.1.1 <robert@example.net>: Recipient address
 rejected: User unknown

Final-Recipient: rfc822; carol@example.net
Action: Delayed
Status: 4.4.1

--b
Content-Type: text/rfc822-headers

X-Waypost-Sender: abc alice@news.example
Subject: news

--b--
";

#[test]
fn a_report_is_read_field_by_field() {
    let Returned::Report(fates) = read(REPORT) else { panic!() };
    let [bob, carol] = &fates[..] else { panic!("{fates:?}") };
    assert_eq!(bob.recipient.as_deref(), Some("bob@example.net"));
    assert_eq!((bob.action, bob.host.as_deref()), (Action::Failed, Some("store.example.net")));
    let reply = bob.reply.as_ref().unwrap().to_string();
    assert_eq!(reply, "550 5.1.1 <robert@example.net>: Recipient address rejected: User unknown");
    assert_eq!(carol.action, Action::Delayed);
    assert_eq!(carol.reply.as_ref().unwrap().to_string(), "450 4.4.1 ");
    assert_eq!(quoted_field(REPORT.as_bytes(), "x-waypost-sender"), Some("abc alice@news.example"));
    assert_eq!(quoted_field(REPORT.as_bytes(), "X-Other"), None);
}

#[test]
fn an_internationalized_report_in_base64_is_read_too() {
    let text = "From: MAILER-DAEMON@mx.example.net
Content-Type: multipart/report; report-type=delivery-status; boundary=b

--b
Content-Type: text/plain

words
--b
Content-Type: message/global-delivery-status
Content-Transfer-Encoding: quoted-printable

Reporting-MTA: dns; mx.example.net

Final-Recipient: utf-8; b=C3=BCro@example.net
Action: failed
Status: 5.2.2
Diagnostic-Code: x-local; mailbox is full
--b--
";
    let fate = fate(text);
    assert_eq!(fate.recipient.as_deref(), Some("büro@example.net"));
    assert_eq!(fate.reply.unwrap().to_string(), "550 5.2.2 mailbox is full");
}

#[test]
fn words_of_older_servers_are_searched_for_the_reply() {
    let qmail = "From: MAILER-DAEMON@mx.example.net
Subject: failure notice

Hi. This is the qmail-send program at mx.example.net.
I'm afraid I wasn't able to deliver your message to the following addresses.

<bob@example.net>:
192.0.2.1 does not like recipient.
Remote host said: 550 5.1.1 No such user
Giving up on 192.0.2.1.

--- Below this line is a copy of the message.

Subject: 550 5.7.1 not this one
";
    assert_eq!(said(qmail), "550 5.1.1 No such user");
    let chkuser = "From: MAILER-DAEMON@mx.example.net
Subject: failure notice

<bob@example.net>:
Sorry, no mailbox here by that name. (#5.1.1)
";
    assert!(said(chkuser).starts_with("550 5.1.1 <bob@example.net>: Sorry, no mailbox"));
    let exim = "From: Mail Delivery System <Mailer-Daemon@mx.example.net>
Subject: Mail delivery failed: returning message to sender
X-Failed-Recipients: bob@example.net

A message that you sent could not be delivered to one or more of its
recipients. This is a permanent error. The following address(es) failed:

  bob@example.net
    host store.example.net [192.0.2.7]
    SMTP error from remote mail server after RCPT TO:<bob@example.net>:
    552-5.2.2 The recipient's inbox is out of storage space
";
    assert_eq!(said(exim), "552 5.2.2 The recipient's inbox is out of storage space");
    let words = "From: postmaster@mx.example.net
Subject: Undeliverable: news

Your message did not reach some or all of the intended recipients.
The e-mail account does not exist at the organization this message was sent to.
";
    assert!(said(words).starts_with("550 Your message did not reach"), "{}", said(words));
}

#[test]
fn a_warning_is_no_failure() {
    let text = "From: MAILER-DAEMON@mx.example.net
Subject: Warning: message delayed 4 hours

Still trying. 450 4.2.0 busy
";
    assert_eq!(fate(text).action, Action::Delayed);
}

#[test]
fn answers_of_programs_and_people_are_no_bounces() {
    let vacation = "From: bob@example.net
Subject: Out of office: news
Auto-Submitted: auto-replied

I am away. Our fax: 550 1234 (the old one)
";
    assert_eq!(read(vacation), Returned::AutoReply);
    let person = b"From: bob@example.net\r\nSubject: Re: news\r\n\r\nThanks.\r\n";
    assert_eq!(Returned::read(person, false), Returned::Other);
    let lie = b"From: bob@example.net\r\nSubject: failure notice\r\n\r\n550 5.1.1 no\r\n";
    assert_eq!(Returned::read(lie, false), Returned::Other, "people write such subjects too");
    assert_eq!(Returned::read(b"", true), Returned::Other);
}

#[test]
fn a_complaint_is_read() {
    let text = "From: fbl@provider.example
Subject: FW: news
Content-Type: multipart/report; report-type=feedback-report; boundary=b

--b
Content-Type: text/plain

This is an email abuse report.
--b
Content-Type: message/feedback-report

Feedback-Type: abuse
User-Agent: SomeGenerator/1.0
Version: 1
Original-Rcpt-To: <bob@example.net>

--b
Content-Type: message/rfc822

Return-Path: <b123@bounces.example>
From: alice@news.example
Subject: news

Hello
--b--
";
    let Returned::Complaint(complaint) = read(text) else { panic!() };
    assert!(complaint.is_refusal());
    assert_eq!(complaint.recipient.as_deref(), Some("bob@example.net"));
    assert_eq!(complaint.sender.as_deref(), Some("b123@bounces.example"));
    let praise = text.replace("Feedback-Type: abuse", "Feedback-Type: not-spam");
    let Returned::Complaint(praise) = read(&praise) else { panic!() };
    assert!(!praise.is_refusal());
}

#[test]
fn replies_are_found_in_lines() {
    for (line, expected) in [
        ("said: 550 5.1.1 no", Some("550 5.1.1 no")),
        ("550-5.1.1 no such", Some("550 5.1.1 no such")),
        ("(550 #5.1.0 Address rejected)", Some("550 5.1.0 Address rejected)")),
        ("in 1550 days", None),
        ("192.168.5.500 none", None),
        ("call 555 1234", None),
        ("200 ok 451 4.3.0 later", Some("451 4.3.0 later")),
        ("5", None),
        ("5ü0 x", None),
    ] {
        let found = quoted_reply(line).map(|reply| reply.to_string());
        assert_eq!(found.as_deref(), expected, "{line}");
    }
}
