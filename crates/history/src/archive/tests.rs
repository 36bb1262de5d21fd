//! Whose story a note belongs to.

use std::sync::Arc;

use waypost_mail::ManualClock;

use super::*;
use crate::note::{Accepted, Decided};
use crate::{Config, History};

fn decided(stage: &str, verdict: &str) -> Note {
    Note::Decided(Box::new(Decided {
        stage: stage.to_owned(),
        plugin: "policy".to_owned(),
        generation: 1,
        digest: String::new(),
        mode: "enforce".to_owned(),
        about: String::new(),
        verdict: verdict.to_owned(),
        edits: Vec::new(),
        reasons: Vec::new(),
        took_us: 1,
    }))
}

fn accepted(session: SessionId) -> Note {
    Note::Accepted(Box::new(Accepted {
        session,
        listener: "in".to_owned(),
        protocol: "esmtp".to_owned(),
        client: None,
        helo: None,
        tls: None,
        user: None,
        sender: String::new(),
        recipients: Vec::new(),
        more: 0,
        size: 1,
        priority: 0,
        expires: Timestamp(9),
        facts: Vec::new(),
        signed: Vec::new(),
        notice_about: None,
    }))
}

#[test]
fn a_session_s_decisions_are_told_with_the_message_they_were_made_for() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::at(Timestamp(1_700_000_000_000)));
    let history = History::open(Config::beside(dir.path()), "test", clock.clone());
    let (session, pen) = (SessionId(5), history.pen());
    let tell = |about, note: Note| pen.tell(about, 0, || note);
    let tick = || clock.advance(std::time::Duration::from_millis(10));
    let moment = || MessageId(waypost_mail::Clock::now(&*clock).0 << MOMENT_BITS);
    tell(About::Session(session), decided("connect", "welcome"));
    tell(About::Session(SessionId(6)), decided("connect", "another session"));
    tick();
    tell(About::Session(session), decided("sender", "given up before"));
    tick();
    let first = moment();
    tell(About::Session(session), decided("sender", "first"));
    tick();
    tell(About::Message(first), decided("message", "whole"));
    tell(About::Message(first), accepted(session));
    tick();
    let second = moment();
    tell(About::Session(session), decided("sender", "second"));
    tick();
    tell(About::Message(second), accepted(session));
    tick();
    history.close();
    let archive = Archive::at(dir.path().join("history"));
    let verdicts = |id| {
        let found = archive.about(id).unwrap();
        let verdict = |told: &Told| match &told.note {
            Note::Decided(decided) => Some(decided.verdict.clone()),
            _ => None,
        };
        found.notes.iter().filter_map(verdict).collect::<Vec<_>>()
    };
    assert_eq!(verdicts(first), ["welcome", "first", "whole"]);
    assert_eq!(verdicts(second), ["welcome", "second"]);
    let mut found = archive.about(first).unwrap();
    assert!(matches!(found.notes.last().unwrap().note, Note::Ended));
    found.end();
    assert!(matches!(found.notes.last().unwrap().note, Note::Accepted(_)));
}
