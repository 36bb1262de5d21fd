//! What dialogues cannot show: faults of the shell, large sizes, and what it may ask.

use super::*;

fn rules() -> Rules {
    Rules {
        hostname: "mx.example.org".into(),
        tls: TlsRule::Offered,
        mechanisms: vec!["PLAIN".into()],
        auth: AuthRule::Off,
        submission: false,
        xclient: XclientRule::Off,
        lmtp: false,
        origin: None,
        max_size: 1000,
        max_recipients: 2,
        max_errors: 5,
        max_commands: 5,
        offers: Offers::default(),
        max_messages: 100,
        max_session_recipients: 100,
        strict: Strictness::TOLERANT,
    }
}

/// Takes steps, with the best answers, until there is nothing to do; tells the last step and the
/// replies.
fn run(conversation: &mut Conversation, bytes: &[u8]) -> (Step, String) {
    conversation.push(bytes);
    let last = loop {
        match conversation.step() {
            Step::Ask(Question::Recipients(all)) => {
                conversation.answer(Answer::Recipients(vec![Reply::RECIPIENT_OK; all.len()]));
            }
            Step::Ask(Question::Auth { .. }) => conversation.answer(Answer::Challenge(vec![])),
            Step::Ask(_) => conversation.answer(Answer::Reply(Reply::OK)),
            Step::Chunk(_) | Step::Discard => {}
            last => break last,
        }
    };
    (last, String::from_utf8(conversation.take_output()).unwrap())
}

fn greeted(rules: Rules) -> Conversation {
    let mut conversation = Conversation::new(rules);
    run(&mut conversation, b"EHLO peer.example\r\n");
    conversation
}

#[test]
fn an_answer_to_no_question_closes() {
    let mut conversation = greeted(rules());
    conversation.answer(Answer::Reply(Reply::OK));
    let (last, said) = run(&mut conversation, b"MAIL FROM:<>\r\n");
    assert_eq!((last, &said[..9]), (Step::Close, "421 4.3.0"));
    conversation.answer(Answer::Authenticated);
    conversation.upgraded(vec![]);
    assert_eq!(run(&mut conversation, b"NOOP\r\n"), (Step::Close, String::new()));
    assert_eq!(conversation.buffered(), 0);
}

#[test]
fn a_handshake_nobody_asked_for_closes() {
    let mut conversation = greeted(rules());
    conversation.upgraded(vec![]);
    let (last, said) = run(&mut conversation, b"");
    assert_eq!((last, &said[..9]), (Step::Close, "421 4.3.0"));
}

#[test]
fn an_open_question_keeps_bytes_and_steps_waiting() {
    let mut conversation = greeted(rules());
    conversation.push(b"MAIL FROM:<>\r\nNOOP\r\n");
    assert!(matches!(conversation.step(), Step::Ask(Question::Sender(_))));
    assert_eq!(conversation.step(), Step::NeedInput);
    assert_eq!(conversation.buffered(), 6);
    assert!(!conversation.in_transaction());
    conversation.shut_down(Reply::SHUTTING_DOWN);
    conversation.shut_down(Reply::IDLE_TIMEOUT);
    conversation.answer(Answer::Reply(Reply::SENDER_OK));
    assert!(conversation.in_transaction());
    let (last, said) = run(&mut conversation, b"");
    assert_eq!(last, Step::Close);
    assert!(said.starts_with("250 2.1.0") && said.ends_with("try again later\r\n"), "{said}");
    assert_eq!(said.lines().count(), 2);
}

#[test]
fn a_farewell_does_not_wait_for_a_challenge_or_a_chunk() {
    let rules = Rules { tls: TlsRule::Active, auth: AuthRule::Offered, ..rules() };
    let mut conversation = greeted(rules);
    run(&mut conversation, b"AUTH PLAIN\r\n");
    conversation.shut_down(Reply::SHUTTING_DOWN);
    assert_eq!(run(&mut conversation, b"").0, Step::Close);

    let mut conversation = greeted(self::rules());
    run(&mut conversation, b"MAIL FROM:<>\r\nRCPT TO:<a@b>\r\nBDAT 9\r\nabc");
    assert!(conversation.in_data());
    conversation.shut_down(Reply::SHUTTING_DOWN);
    assert_eq!(conversation.step(), Step::Discard);
    assert_eq!(conversation.step(), Step::Close);
    assert!(!conversation.in_data() && !conversation.in_transaction());
}

#[test]
fn a_line_without_end_is_not_kept_and_ends_the_session() {
    let mut conversation = greeted(rules());
    for _ in 0..255 {
        assert_eq!(run(&mut conversation, &[b'x'; 4096]), (Step::NeedInput, String::new()));
        assert!(conversation.buffered() <= 4096);
    }
    let (last, said) = run(&mut conversation, &[b'x'; 8192]);
    assert_eq!((last, &said[..9]), (Step::Close, "500 5.5.6"));
}

#[test]
fn a_body_without_end_is_not_swallowed_for_ever() {
    let mut conversation = greeted(rules());
    run(&mut conversation, b"MAIL FROM:<>\r\nRCPT TO:<a@b>\r\nDATA\r\n");
    let megabyte = vec![b'x'; 1024 * 1024];
    for _ in 0..16 {
        assert_eq!(run(&mut conversation, &megabyte), (Step::NeedInput, String::new()));
        assert_eq!(conversation.buffered(), 0);
    }
    let (last, said) = run(&mut conversation, &megabyte);
    assert_eq!((last, &said[..9]), (Step::Close, "552 5.3.4"));
}

#[test]
fn recipients_over_the_limit_are_no_abuse_until_there_are_very_many() {
    let mut conversation = greeted(rules());
    run(&mut conversation, b"MAIL FROM:<>\r\n");
    let (last, said) = run(&mut conversation, &b"RCPT TO:<a@b>\r\n".repeat(1002));
    assert_eq!(last, Step::NeedInput);
    assert_eq!(said.matches("452 4.5.3").count(), 1000);
    let (last, said) = run(&mut conversation, &b"RCPT TO:<a@b>\r\n".repeat(100));
    assert_eq!(last, Step::Close);
    assert!(said.ends_with("closing\r\n"), "{said}");
}

#[test]
fn who_speaks_before_the_greeting_is_sent_home() {
    for (out_of_turn, wanted) in [(OutOfTurn::Refuse, "554 5.5.1"), (OutOfTurn::Take, "220 mx.ex")]
    {
        let strict = Strictness { out_of_turn, ..Strictness::TOLERANT };
        let mut conversation = Conversation::new(Rules { strict, ..rules() });
        let (last, said) = run(&mut conversation, b"EHLO peer.example\r\n");
        assert_eq!(&said[..9], wanted);
        assert_eq!(last == Step::Close, out_of_turn == OutOfTurn::Refuse);
    }
}

#[test]
fn secrets_are_not_shown() {
    let shown = format!(
        "{:?}{:?}{:?}",
        Question::AuthResponse(b"*".to_vec()),
        Question::Auth { mechanism: "PLAIN".into(), initial: Some(b"*".to_vec()) },
        Answer::Challenge(b"*".to_vec()),
    );
    assert!(!shown.contains("42"), "{shown}");
    assert!(shown.contains("PLAIN"));
}
