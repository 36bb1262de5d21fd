//! The way in: peers, their sessions, and what they hear.

use rand::Rng;
use waypost_mail::MessageId;
use waypost_smtp::Phase;
use waypost_smtp::client::RecipientResult;

use super::Storm;
use crate::book::{Law, Lawful, Standing, demand};
use crate::caller::Report;
use crate::relay::{MAX_ERRORS, MAX_SESSIONS};
use crate::visit::{News, Visit};

/// Peers at once, some of which are not let in.
const VISITS: usize = MAX_SESSIONS + 1;

impl Storm {
    /// A new peer, unless there are enough.
    pub(super) fn visit(&mut self) -> Lawful {
        let Some(relay) = &self.relay else { return Ok(()) };
        if self.visits.len() < VISITS {
            self.last += 10;
            let visit = Visit::new(self.last, self.last, &relay.server, &mut self.random);
            let is_in = visit.is_in();
            self.story.tell(format_args!("peer {} comes, let in: {is_in}", self.last));
            self.visits.push(visit);
            let sessions = self.visits.iter().filter(|visit| visit.is_in()).count();
            demand(Law::Limits, sessions <= MAX_SESSIONS, || format!("{sessions} sessions"))?;
        }
        Ok(())
    }

    pub(super) fn advance_visit(&mut self) -> Lawful {
        if self.visits.is_empty() {
            return self.visit();
        }
        let at = self.random.random_range(0..self.visits.len());
        if !self.calm && self.random.random_bool(0.015) {
            let cut_off = self.random.random_bool(0.3);
            let visit = &mut self.visits[at];
            self.story.tell(format_args!("peer {} is lost, its session {cut_off}", visit.name));
            if cut_off { visit.cut_off() } else { visit.leave() }
        }
        // Several pieces in a row, as packets come.
        for _ in 0..self.random.random_range(1..8) {
            let news = self.visits[at].advance(&mut self.random);
            self.hear_spool(None)?;
            self.hear_news(at, news)?;
        }
        Ok(())
    }

    /// The program's sessions go on.
    pub(super) fn hear_sessions(&mut self) -> Lawful {
        for at in 0..self.visits.len() {
            let news = self.visits[at].listen();
            self.hear_spool(None)?;
            self.hear_news(at, news)?;
        }
        self.visits.retain(|visit| !visit.is_over());
        Ok(())
    }

    fn hear_news(&mut self, at: usize, news: Vec<News>) -> Lawful {
        for news in news {
            match news {
                News::Promised(id) => self.promised(at, id)?,
                News::Passed(id) => self.passed(at, id)?,
                News::Reported(report) => self.reported(at, &report)?,
            }
        }
        let Visit { name, refusals, at_once, .. } = &self.visits[at];
        demand(Law::Limits, refusals.len() <= (MAX_ERRORS as usize + 1) * at_once, || {
            format!("peer {name} has earned {refusals:?}, {at_once} of which may count as one")
        })
    }

    /// What is acknowledged must be kept by then.
    fn promised(&mut self, at: usize, id: MessageId) -> Lawful {
        let standing = self.book.tale(id).map(|tale| tale.standing);
        self.story.tell(format_args!("peer {} is promised {id}", self.visits[at].name));
        let dropped = self.relay.as_ref().is_some_and(|relay| relay.policy.has_discarded(id));
        demand(Law::AcceptedIsKept, standing == Some(Standing::Kept) || dropped, || {
            format!("{id} is acknowledged, and stands as {standing:?}")
        })
    }

    /// What is said to be away must be so, for all whom the reply is about.
    fn passed(&mut self, at: usize, id: MessageId) -> Lawful {
        let Visit { name, at_once, .. } = &self.visits[at];
        self.story.tell(format_args!("peer {name} hears that {id} is away"));
        let dropped = |recipient| self.has_dropped(id, recipient);
        let is_away = self.book.tale(id).is_some_and(|tale| match at_once {
            1 => tale.is_away(dropped),
            _ => tale.is_away_for_some(dropped),
        });
        demand(Law::AcceptedIsKept, is_away, || format!("{id} is said to be away, and is not"))
    }

    fn has_dropped(&self, id: MessageId, recipient: u32) -> bool {
        self.relay.as_ref().is_some_and(|relay| relay.policy.has_dropped(id, recipient))
    }

    /// The next hop's no is passed on where nobody was taken, or nobody can know.
    fn check_no(&self, report: &Report) -> Lawful {
        let said = |result: &RecipientResult| result.reply.text.contains(" said: ");
        let passed_on = report.results.iter().flatten().any(said);
        let Some(tale) = self.book.called(report.token).filter(|_| passed_on) else {
            return Ok(());
        };
        let unheard = self.hops.iter().any(|hop| hop.is_unheard(tale.id));
        demand(Law::RefusedIsGone, unheard || !tale.is_known_to_be_taken(), || {
            format!("message {} was taken, but the peer hears the next hop's no", report.token)
        })
    }

    /// The peer must hear what was decided, no more and no less.
    fn reported(&mut self, at: usize, report: &Report) -> Lawful {
        let results = || report.results.iter().flatten();
        let yes = results().find(|result| result.reply.is_positive() && result.phase == Phase::Eod);
        self.story.tell(format_args!("peer {} hears: {}", self.visits[at].name, yes.is_some()));
        let tale = self.book.called(report.token);
        let kept = tale.filter(|tale| tale.standing == Standing::Kept);
        let Some(yes) = yes else {
            let refused = results().any(|result| result.phase == Phase::Eod);
            let kept = kept.is_some_and(|tale| !tale.doubted);
            demand(Law::RefusedIsGone, !refused || !kept, || {
                format!("message {} was taken, but the peer hears that it was not", report.token)
            })?;
            return self.check_no(report);
        };
        let is_away = tale.is_some_and(|tale| tale.is_away(|r| self.has_dropped(tale.id, r)));
        let kept = tale.filter(|tale| tale.standing == Standing::Kept || is_away);
        let id = yes.reply.text.rsplit(' ').next().and_then(|id| id.parse().ok());
        let dropped = id.is_some_and(|id| {
            self.relay.as_ref().is_some_and(|relay| relay.policy.has_discarded(id))
        });
        demand(Law::AcceptedIsKept, kept.is_some() || dropped, || {
            format!("message {} is acknowledged, but was not taken", report.token)
        })?;
        let errands = self.visits[at].errands.iter();
        let sent = errands.into_iter().find(|errand| errand.token == report.token);
        let whole = kept.zip(sent).is_none_or(|(tale, sent)| tale.content.ends_with(&sent.content));
        demand(Law::ContentIsWhole, whole, || format!("message {} has changed", report.token))?;
        let whole = kept.zip(sent).is_none_or(|(tale, sent)| tale.has_envelope(&sent.letter));
        demand(Law::ContentIsWhole, whole, || {
            format!("the envelope of message {} has changed", report.token)
        })
    }
}
