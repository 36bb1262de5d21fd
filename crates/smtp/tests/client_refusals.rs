//! Every combination of replies at every place of a transaction, pipelined and not, and replies
//! that come too early or are too long.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail the test by panicking"
)]

use waypost_smtp::client::{
    Letter, ProtocolError, RecipientResult, Reuse, Transaction, TransactionResult, TransactionStep,
};
use waypost_smtp::{Extensions, Mailbox, Phase, ReversePath};

/// What the next hop says to each command. Its DATA answers 354 where it says 250 elsewhere.
#[derive(Debug, Clone, Copy)]
struct Script {
    mail: u16,
    rcpt: [u16; 3],
    data: u16,
    eod: u16,
}

/// All that can be known about the run of a script.
#[derive(Debug, PartialEq, Eq)]
struct Run {
    result: TransactionResult,
    sent_message: bool,
    sent_lone_dot: bool,
}

const ANSWERS: [u16; 4] = [250, 450, 550, 421];

#[test]
fn every_script_ends_as_the_rules_say() {
    for number in 0..ANSWERS.len().pow(6) {
        let answer = |place: u32| ANSWERS[number / ANSWERS.len().pow(place) % ANSWERS.len()];
        let script = Script {
            mail: answer(0),
            rcpt: [answer(1), answer(2), answer(3)],
            data: answer(4),
            eod: answer(5),
        };
        let (lockstep, pipelined) = (run(script, false), run(script, true));
        let expected = expected(script);
        assert_eq!(fates(&lockstep), expected, "{script:?}, one command at a time");
        assert_eq!(fates(&pipelined), expected, "{script:?}, pipelined");
        for run in [&lockstep, &pipelined] {
            let delivered = expected.iter().any(|(phase, _)| *phase == Phase::Eod);
            assert_eq!(run.sent_message, delivered, "{script:?}");
        }
        assert!(!lockstep.sent_lone_dot, "{script:?}");
        let all_refused = expected.iter().all(|(phase, _)| *phase < Phase::Data);
        let reached_data =
            [script.mail].iter().chain(&script.rcpt).all(|code| *code != 421) && script.data == 250;
        assert_eq!(pipelined.sent_lone_dot, all_refused && reached_data, "{script:?}");
    }
}

#[test]
fn a_connection_is_reused_only_when_the_transaction_is_over_there() {
    let all_well = Script { mail: 250, rcpt: [250, 550, 450], data: 250, eod: 250 };
    for pipelined in [false, true] {
        assert_eq!(run(all_well, pipelined).result.reuse, Reuse::AsIs);
        let refused = Script { eod: 550, ..all_well };
        assert_eq!(run(refused, pipelined).result.reuse, Reuse::AsIs);
        let data_refused = Script { data: 450, ..all_well };
        assert_eq!(run(data_refused, pipelined).result.reuse, Reuse::AfterReset);
        for closing in [
            Script { mail: 421, ..all_well },
            Script { rcpt: [250, 421, 250], ..all_well },
            Script { data: 421, ..all_well },
            Script { eod: 421, ..all_well },
        ] {
            assert_eq!(run(closing, pipelined).result.reuse, Reuse::Never, "{closing:?}");
        }
    }
}

/// A next hop may speak while the message is on its way, and the caller may not look.
#[test]
fn what_was_said_before_the_dot_is_no_answer_to_it() {
    let unsolicited = ProtocolError::Unsolicited { phase: Phase::Eod };
    let failed = TransactionStep::Failed(unsolicited);
    assert_eq!(answered_around_the_dot("250 ok\r\n", ""), failed);
    assert_eq!(answered_around_the_dot("25", "0 ok\r\n"), failed);
    for (before, after) in [("552 5.3.4 no\r\n", ""), ("5", "52 5.3.4 no\r\n")] {
        let TransactionStep::Done(result) = answered_around_the_dot(before, after) else {
            panic!("a refusal is an answer at any time");
        };
        assert_eq!(result.reuse, Reuse::Never);
        assert!(result.recipients.iter().all(|r| r.reply.code.get() == 552));
    }
    assert!(matches!(answered_around_the_dot("", "250 ok\r\n"), TransactionStep::Done(_)));
}

fn answered_around_the_dot(before: &str, after: &str) -> TransactionStep {
    let extensions = Extensions { pipelining: true, ..Extensions::none() };
    let mut transaction = Transaction::new(letter(), &extensions).unwrap();
    transaction.push(b"250 ok\r\n250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n");
    assert_eq!(transaction.step(), TransactionStep::SendBody);
    transaction.push(before.as_bytes());
    transaction.body_sent();
    transaction.push(after.as_bytes());
    transaction.step()
}

#[test]
fn a_long_reply_is_not_kept_for_every_recipient() {
    let mut transaction = Transaction::new(letter(), &Extensions::none()).unwrap();
    transaction.push(format!("550-{}\r\n550 x\r\n", "ü".repeat(2000)).as_bytes());
    let TransactionStep::Done(result) = transaction.step() else {
        panic!("MAIL was refused");
    };
    assert!(result.recipients.iter().all(|r| r.reply.text == "ü".repeat(1024)));
}

/// The rules, said independently of any order of bytes: who decided about each recipient.
fn expected(script: Script) -> Vec<(Phase, u16)> {
    if script.mail != 250 {
        return vec![(Phase::Mail, script.mail); 3];
    }
    let closing = script.rcpt.iter().position(|code| *code == 421);
    let after_rcpt = |index: usize| match (closing, script.rcpt[index]) {
        (Some(closing), code) if index < closing && code != 250 => (Phase::Rcpt, code),
        (Some(_), _) => (Phase::Rcpt, 421),
        (None, 250) if script.data != 250 => (Phase::Data, script.data),
        (None, 250) => (Phase::Eod, script.eod),
        (None, code) => (Phase::Rcpt, code),
    };
    (0..3).map(after_rcpt).collect()
}

fn fates(run: &Run) -> Vec<(Phase, u16)> {
    let fate = |result: &RecipientResult| (result.phase, result.reply.code.get());
    run.result.recipients.iter().map(fate).collect()
}

fn run(script: Script, pipelining: bool) -> Run {
    let extensions = Extensions { pipelining, ..Extensions::none() };
    let mut transaction = Transaction::new(letter(), &extensions).unwrap();
    let (mut sent_message, mut sent_lone_dot) = (false, false);
    let mut rcpt = script.rcpt.iter();
    loop {
        let output = String::from_utf8(transaction.take_output()).unwrap();
        for command in output.lines() {
            let code = match command.split([' ', ':']).next().unwrap() {
                "MAIL" => script.mail,
                "RCPT" => *rcpt.next().unwrap(),
                "DATA" if script.data == 250 => 354,
                "DATA" => script.data,
                "." => {
                    sent_lone_dot = true;
                    script.eod
                }
                other => panic!("{other} is no command of a transaction"),
            };
            transaction.push(format!("{code} said\r\n").as_bytes());
            if code == 421 {
                break;
            }
        }
        match transaction.step() {
            TransactionStep::NeedInput => {}
            TransactionStep::SendBody => {
                sent_message = true;
                transaction.body_sent();
                transaction.push(format!("{} said\r\n", script.eod).as_bytes());
            }
            TransactionStep::Done(result) => return Run { result, sent_message, sent_lone_dot },
            TransactionStep::Failed(error) => panic!("{script:?}: {error}"),
        }
    }
}

fn letter() -> Letter {
    let recipients = ["a@example.net", "b@example.net", "c@example.net"];
    let recipients = recipients.map(|to| Mailbox::parse(to).unwrap().into());
    Letter::new(ReversePath::Null, recipients.to_vec(), 100)
}
