//! What the answers of a host mean for those they are about.

use waypost_dns::Host;
use waypost_mail::{Outcome, Security, Why};
use waypost_mutant::planted;
use waypost_smtp::Phase;
use waypost_smtp::client::RecipientResult;

use super::{Attempt, Fate, label};
use crate::connection::{Failure, Transfer};
use crate::demand::Demand;
use crate::restraint::Way;

/// Octets that are kept of the reply by which a message was taken.
const KEPT_TEXT: usize = 512;

impl Attempt<'_> {
    /// Gives each recipient the fate that the transfer says. After 421, after a connection lost before
    /// the final dot, and from another address when ours is not wanted, the rest should be tried
    /// elsewhere. Answers those for whom there was no room
    /// beside others, who were taken: they go at once.
    pub(super) fn answers(
        &mut self,
        transfer: Transfer,
        members: &[usize],
        host: &Host,
        way: &Way,
    ) -> Result<Vec<usize>, Why> {
        let hop = label(host);
        let taken = |answer: &RecipientResult| answer.phase == Phase::Eod;
        let some_taken = transfer.answers.iter().flatten().any(taken);
        self.trouble = None;
        let (mut elsewhere, mut crowded, mut unanswered) = (None, Vec::new(), Vec::new());
        let mut answers = transfer.answers;
        if planted!("answers are taken for those of others") {
            answers.reverse();
        }
        for (index, answer) in members.iter().zip(answers) {
            match answer {
                Some(answer) if is_farewell(&answer) => {
                    let why = refused(answer, &hop);
                    self.trouble = Some(why.to_string());
                    elsewhere = Some(self.diagnosed(why, host, way));
                }
                Some(answer) if some_taken && self.is_crowded_out(&answer, host) => {
                    crowded.push(*index);
                }
                Some(answer) => {
                    let phase = answer.phase;
                    let outcome = self.outcome(answer, &hop, host, way);
                    match outcome.why() {
                        Some(why) if self.spurns(why, phase, way.source) => {
                            elsewhere = Some(why.clone());
                        }
                        _ => self.fates[*index] = Some(Fate::Tried(outcome)),
                    }
                }
                None => unanswered.push(*index),
            }
        }
        let Some(failure) = transfer.failure else { return elsewhere.map_or(Ok(crowded), Err) };
        let (ours, troubled) = (matches!(failure, Failure::Unreadable(_)), failure.is_trouble());
        let why = failure.why(&hop, &Demand::Opportunistic).bounded();
        self.trouble = troubled.then(|| why.to_string());
        if ours {
            self.all(&unanswered, || Outcome::Deferred(why.clone()));
        } else if transfer.phase == Phase::Eod
            && planted!("no reply to the final dot counts as yes")
        {
            let reply = waypost_smtp::Reply::OK;
            let (hop, security) = (hop.to_owned(), Security::CLEAR);
            let outcome = Outcome::Delivered { hop, reply, security };
            self.all(&unanswered, || outcome.clone());
        } else if transfer.phase == Phase::Eod {
            // Who was refused before is in no doubt.
            self.all(&unanswered, || Outcome::Unknown(why.clone()));
        } else {
            return Err(why);
        }
        elsewhere.map_or(Ok(crowded), Err)
    }

    fn outcome(&mut self, answer: RecipientResult, hop: &str, host: &Host, way: &Way) -> Outcome {
        if !answer.reply.is_positive() {
            return self.diagnosed(refused(answer, hop), host, way).into_outcome();
        }
        self.delivery.way_is_well(way);
        delivered(answer, hop, self.security.unwrap_or(Security::CLEAR))
    }
}

fn delivered(answer: RecipientResult, hop: &str, security: Security) -> Outcome {
    let mut reply = answer.reply;
    if reply.text.len() > KEPT_TEXT {
        let end = reply.text.floor_char_boundary(KEPT_TEXT);
        reply.text.to_mut().truncate(end);
    }
    Outcome::Delivered { hop: hop.to_owned(), reply, security }
}

fn refused(answer: RecipientResult, hop: &str) -> Why {
    let RecipientResult { phase, reply } = answer;
    Why::Refused { hop: hop.to_owned(), phase, reply }.bounded()
}

/// 421 before the final dot: this host takes nothing more now, another one may.
fn is_farewell(answer: &RecipientResult) -> bool {
    answer.reply.code.get() == 421 && answer.phase < Phase::Eod
}

/// A connection that ended before MAIL was answered.
pub(super) fn is_stale(transfer: &Transfer) -> bool {
    let farewell = |answer: &Option<RecipientResult>| {
        answer.as_ref().is_none_or(|answer| is_farewell(answer) && answer.phase == Phase::Mail)
    };
    transfer.phase == Phase::Mail && !transfer.reusable && transfer.answers.iter().all(farewell)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_replies_are_cut_where_they_are_kept() {
        let reply = waypost_smtp::Reply::OK.with_text("ü".repeat(1000));
        let answer = RecipientResult { phase: Phase::Eod, reply };
        let kept = delivered(answer, "mx", Security::CLEAR);
        let Outcome::Delivered { reply, .. } = kept else { panic!("not delivered: {kept:?}") };
        assert_eq!(reply.text.len(), KEPT_TEXT);
    }
}
