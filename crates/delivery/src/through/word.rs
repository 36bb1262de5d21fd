//! What a submitter is told in the next hop's own words, and when.

use std::collections::HashSet;

use waypost_mail::{Entry, MessageId, Outcome, RecipientEntry, Why};
use waypost_mutant::planted;
use waypost_queue::{Doubt, Settled};
use waypost_smtp::{Code, Enhanced, Phase, Reply, Severity};

use crate::settle::Plan;

/// The next hop's word on a recipient, which ends the matter when it is passed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Word {
    /// As the submitter hears it.
    pub(super) reply: Reply,
}

impl Word {
    /// The word on one recipient of a message, if it may be passed on: it was taken; or refused for good; or
    /// put off in answer to the final dot. Not where a rule or policy makes another thing of a reply than its
    /// first digit says: then the queue has to see to it. Where nothing more is done though nobody said
    /// anything, that is the word. `planned` is what is done about it when policy says nothing.
    pub(super) fn on(entry: &Entry, plan: &Plan, planned: &Settled) -> Option<Word> {
        let id = entry.id;
        let reply = match &plan.settled {
            Settled::Done(Outcome::Delivered { hop, reply, .. }) => {
                let text = format!("OK {id} delivered to {hop}: {}", reply.text);
                Reply { enhanced: status(reply, None), ..Reply::OK }.with_text(text)
            }
            Settled::Done(Outcome::Unknown(why)) if plan.doubt == Doubt::Deliver => {
                let hop = why.hop().unwrap_or("the next hop");
                Reply::OK.with_text(format!("OK {id} sent to {hop}, which did not answer"))
            }
            Settled::Done(Outcome::Deleted) => Reply::OK.with_text(format!("OK {id}")),
            Settled::Done(Outcome::Bounced(why)) => refusal(id, why, Severity::Permanent)?,
            Settled::Again { why, .. } | Settled::Rested { why, .. }
                if plan.settled == *planned && is_about_the_whole(why) =>
            {
                refusal(id, why, Severity::Transient)?
            }
            _ => return None,
        };
        Some(Word { reply: if entry.smtputf8 { reply } else { in_ascii(reply) } })
    }

    /// It was not refused.
    pub(super) fn is_taken(&self) -> bool {
        self.reply.is_positive()
    }

    /// It was refused for good.
    pub(super) fn is_lasting(&self) -> bool {
        self.reply.severity() == Severity::Permanent
    }
}

/// The words on groups of recipients. Who is kept for one group is not refused to another, whose submitter
/// would send again what we send.
pub(super) fn on_each(
    groups: &[Vec<u32>],
    recipients: &[RecipientEntry],
    words: &[Option<Word>],
) -> Vec<Option<Word>> {
    let mut all: Vec<_> = groups.iter().map(|group| agreed(group, recipients, words)).collect();
    loop {
        let kept = kept(groups, &all);
        let torn = |(group, word): &(&Vec<u32>, &mut Option<Word>)| {
            let refused = word.as_ref().is_some_and(|word| !word.is_taken());
            refused && group.iter().any(|id| kept.contains(id))
        };
        match groups.iter().zip(&mut all).find(torn) {
            Some((_, word)) => *word = None,
            None => return all,
        }
    }
}

/// Recipients of groups on which there is no word.
pub(super) fn kept(groups: &[Vec<u32>], words: &[Option<Word>]) -> HashSet<u32> {
    let both = groups.iter().zip(words);
    both.filter(|(_, word)| word.is_none()).flat_map(|(ids, _)| ids).copied().collect()
}

/// The word on a group of recipients: that of its first, when all fared alike. None when they did not, or
/// when there is no word on one of them.
fn agreed(group: &[u32], recipients: &[RecipientEntry], words: &[Option<Word>]) -> Option<Word> {
    let both = recipients.iter().zip(words);
    let mut own = both.filter(|(entry, _)| group.contains(&entry.recipient.id)).map(|(_, w)| w);
    let first = own.next()?.as_ref()?;
    let alike = |word: &Option<Word>| {
        word.as_ref().is_some_and(|word| word.reply.severity() == first.reply.severity())
    };
    let all = planted!("the first of a group speaks for all") || own.all(alike);
    all.then(|| first.clone())
}

/// Said to the final dot: what is put off then was seen whole, and whoever sent it may decide.
fn is_about_the_whole(why: &Why) -> bool {
    matches!(why.cause(), Why::Refused { phase: Phase::Eod, .. })
}

/// A refusal as the submitter hears it, unless its first digit says something else.
fn refusal(id: MessageId, why: &Why, severity: Severity) -> Option<Reply> {
    let reply = why.reply().filter(|reply| reply.severity() == severity)?;
    let text = match why.hop() {
        Some(hop) => format!("{id}: {hop} said: {}", reply.text),
        None => format!("{id}: {}", reply.text),
    };
    let enhanced = status(reply, Some(why));
    Some(Reply { code: passed(reply.code), enhanced, ..Reply::OK }.with_text(text))
}

/// For a submitter that did not say that it understands more (RFC 6531 §3.7.4.1).
fn in_ascii(reply: Reply) -> Reply {
    if reply.text.is_ascii() {
        return reply;
    }
    let text: String = reply.text.chars().map(|c| if c.is_ascii() { c } else { '?' }).collect();
    reply.with_text(text)
}

/// The enhanced status of the next hop, where its class is that of its code.
fn status(reply: &Reply, why: Option<&Why>) -> Option<Enhanced> {
    let class = (reply.code.get() / 100) as u8;
    let own = reply.enhanced.or(why.map(Why::status)).filter(|status| status.0 == class);
    Some(own.unwrap_or(Enhanced(class, 0, 0)))
}

/// The code, if a submitter may hear it in answer to a message (RFC 5321 §4.3.2): others are about the
/// session with the next hop, or would end the one with the submitter.
fn passed(code: Code) -> Code {
    match (code.get(), code.severity()) {
        (450..=452 | 550..=554 | 556, _) => code,
        (_, Severity::Permanent) => Reply::REFUSED_BY_POLICY.code,
        _ => Reply::LOCAL_ERROR.code,
    }
}

#[cfg(test)]
mod tests {
    use waypost_mail::{
        Category, Diagnosis, Disposition, Recipient, RecipientState, Security, Timestamp,
    };
    use waypost_queue::Doubt;

    use super::*;

    const ID: MessageId = MessageId(1);

    fn plan(settled: Settled) -> Plan {
        Plan { settled, outcome: None, dropped: None, doubt: Doubt::Retry }
    }

    fn refused(phase: Phase, reply: Reply) -> Why {
        Why::Refused { hop: "mx".into(), phase, reply }
    }

    fn entry() -> Entry {
        Entry {
            id: ID,
            received: Timestamp(1),
            expires: Timestamp(2),
            sender: waypost_smtp::ReversePath::Null,
            eight_bit: false,
            smtputf8: false,
            size: 2,
            facts: waypost_mail::Facts::internal(waypost_mail::SessionId(1)),
            meta: Vec::new(),
            sign: Vec::new(),
            terms: waypost_mail::Terms::default(),
            reroutes: 0,
            routes: Vec::new(),
            recipients: Vec::new(),
        }
    }

    fn word(settled: Settled) -> Option<String> {
        Word::on(&entry(), &plan(settled.clone()), &settled).map(|word| word.reply.to_string())
    }

    fn bounced(why: Why) -> Settled {
        Settled::Done(Outcome::Bounced(why))
    }

    fn again(why: Why) -> Settled {
        Settled::Again { at: Timestamp(1), why }
    }

    #[test]
    fn the_next_hop_is_heard_and_named() {
        let (hop, security) = ("mx".to_owned(), Security::CLEAR);
        let reply = Reply::plain(250, "queued as 7");
        let taken = Settled::Done(Outcome::Delivered { hop, reply, security });
        let id = ID.to_string();
        assert_eq!(word(taken), Some(format!("250 2.0.0 OK {id} delivered to mx: queued as 7")));
        let gone = refused(Phase::Rcpt, Reply::MAILBOX_UNAVAILABLE);
        assert_eq!(word(bounced(gone)), Some(format!("550 5.1.1 {id}: mx said: No such mailbox")));
        let busy = refused(Phase::Eod, Reply::fixed(452, (4, 3, 1), "full"));
        let heard = Some(format!("452 4.3.1 {id}: mx said: full"));
        assert_eq!(word(again(busy.clone())), heard);
        assert_eq!(word(Settled::Rested { at: Timestamp(1), why: busy }), heard);
        let policy = Why::Policy(Reply::REFUSED_BY_POLICY);
        assert_eq!(word(bounced(policy)), Some(format!("554 5.7.1 {id}: Refused by policy")));
    }

    #[test]
    fn what_is_about_the_way_is_said_in_words_for_the_message() {
        let code = |why| word(why).unwrap()[..9].to_owned();
        let closing = refused(Phase::Eod, Reply::plain(421, "bye"));
        assert_eq!(code(again(closing)), "451 4.0.0", "our session goes on");
        let login = refused(Phase::Mail, Reply::fixed(530, (5, 7, 0), "log in"));
        assert_eq!(code(bounced(login)), "554 5.7.0");
        let liar = refused(Phase::Eod, Reply::fixed(550, (4, 1, 1), "x"));
        assert_eq!(code(bounced(liar)), "550 5.0.0");
    }

    #[test]
    fn there_is_no_word_where_the_queue_has_to_see_to_it() {
        let greylisted = refused(Phase::Rcpt, Reply::fixed(450, (4, 7, 1), "later"));
        assert_eq!(word(again(greylisted)), None, "the final dot was not sent");
        assert_eq!(word(bounced(Why::NullMx("a".into()))), None, "nobody said anything");
        let lost = Why::ConnectionLost { hop: "mx".into(), phase: Phase::Eod };
        assert_eq!(word(again(lost.clone())), None);
        assert_eq!(word(Settled::Done(Outcome::Unknown(lost))), None);
        assert_eq!(word(Settled::Held("by policy".into())), None);
        // Rules read a "never" as "later", and the other way round.
        let read = |disposition, why| Why::Diagnosed {
            diagnosis: Diagnosis::new(disposition, Category::Spam),
            rule: "r".into(),
            why: Box::new(why),
        };
        let never = refused(Phase::Eod, Reply::REFUSED_BY_POLICY);
        let later = refused(Phase::Eod, Reply::LOCAL_ERROR);
        assert_eq!(word(again(read(Disposition::Transient, never))), None);
        assert_eq!(word(bounced(read(Disposition::Permanent, later.clone()))), None);
        // Policy wants it tried at another time.
        let entry = entry();
        assert!(Word::on(&entry, &plan(again(later.clone())), &again(later.clone())).is_some());
        let asked = Settled::Again { at: Timestamp(2), why: later.clone() };
        assert_eq!(Word::on(&entry, &plan(asked), &again(later)), None);
    }

    /// What is done with is not called queued.
    #[test]
    fn where_nothing_more_is_done_that_is_the_word() {
        let lost = Why::ConnectionLost { hop: "mx".into(), phase: Phase::Eod };
        let settled = Settled::Done(Outcome::Unknown(lost));
        let word = |doubt| {
            let plan = Plan { doubt, ..plan(settled.clone()) };
            Word::on(&entry(), &plan, &settled).map(|word| word.reply.to_string())
        };
        let text = format!("250 2.0.0 OK {ID} sent to mx, which did not answer");
        assert_eq!(word(Doubt::Deliver), Some(text));
        assert_eq!(word(Doubt::Bounce), None, "its sender is told by a notice");
        let dropped = self::word(Settled::Done(Outcome::Deleted));
        assert_eq!(dropped, Some(format!("250 2.0.0 OK {ID}")), "policy told nobody to tell");
    }

    #[test]
    fn who_said_nothing_of_utf8_hears_none() {
        let settled =
            bounced(refused(Phase::Rcpt, Reply::MAILBOX_UNAVAILABLE.with_text("für wen?")));
        let said = |smtputf8| {
            let entry = Entry { smtputf8, ..entry() };
            Word::on(&entry, &plan(settled.clone()), &settled).unwrap().reply.text.into_owned()
        };
        assert_eq!(said(false), format!("{ID}: mx said: f?r wen?"));
        assert_eq!(said(true), format!("{ID}: mx said: für wen?"));
    }

    fn recipients() -> Vec<RecipientEntry> {
        let recipient = |id| RecipientEntry {
            recipient: Recipient::new(id, "r@a.example".parse().unwrap()),
            route: 0,
            told: 0,
            state: RecipientState::fresh(Timestamp(0)),
        };
        (0..3).map(recipient).collect()
    }

    #[test]
    fn a_group_has_one_answer_when_all_fared_alike() {
        let recipients = recipients();
        let said = |replies: [Option<Reply>; 3]| replies.map(|r| r.map(|reply| Word { reply }));
        let of = |group: &[u32], words: [Option<Reply>; 3]| {
            agreed(group, &recipients, &said(words)).map(|word| word.reply)
        };
        let (yes, no) = (Some(Reply::OK), Some(Reply::MAILBOX_UNAVAILABLE));
        let other = Some(Reply::REFUSED_BY_POLICY);
        assert_eq!(of(&[0, 1, 2], [no.clone(), other.clone(), no.clone()]), no);
        assert_eq!(of(&[0, 1, 2], [yes.clone(), no.clone(), yes.clone()]), None);
        assert_eq!(of(&[0, 2], [yes.clone(), no.clone(), yes.clone()]), yes);
        assert_eq!(of(&[1], [yes.clone(), no.clone(), None]), no);
        assert_eq!(of(&[0, 2], [yes, no, None]), None);
        assert_eq!(of(&[7], [None, None, None]), None);
    }

    /// Policy put recipients in the place of others, and two groups share one.
    #[test]
    fn nobody_is_both_kept_and_refused() {
        let recipients = recipients();
        let answers = |groups: &[Vec<u32>], words: [Option<Reply>; 3]| {
            let words = words.map(|reply| reply.map(|reply| Word { reply }));
            let each = on_each(groups, &recipients, &words);
            each.into_iter().map(|word| word.map(|word| word.reply)).collect::<Vec<_>>()
        };
        let (yes, no) = (Some(Reply::OK), Some(Reply::LOCAL_ERROR));
        let groups = [vec![0], vec![0, 1], vec![2]];
        let all = answers(&groups, [no.clone(), yes.clone(), no.clone()]);
        assert_eq!(all, [None, None, no.clone()], "the first would be sent twice");
        let all = answers(&groups, [yes.clone(), no.clone(), no.clone()]);
        assert_eq!(all, [yes.clone(), None, no.clone()], "who was taken is done with");
        // One thing leads to another.
        let groups = [vec![0], vec![0, 1], vec![1, 2]];
        assert_eq!(answers(&groups, [no.clone(), no, yes]), [None, None, None]);
    }
}
