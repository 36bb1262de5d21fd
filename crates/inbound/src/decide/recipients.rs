//! RCPT: who may relay first, then policy about those that passed.

use tracing::{info, warn};
use waypost_hooks::{RecipientAnswer, Replacement, Verdict, are_legal};
use waypost_mail::{Facts, Recipient};
use waypost_mutant::planted;
use waypost_smtp::Reply;
use waypost_smtp::server::{Answer, RcptTo};

use super::{Decider, Transaction, ruled, set_all};
use crate::Settings;

impl Decider {
    pub(super) async fn recipients(&mut self, asked: Vec<RcptTo>) -> Answer {
        let mut replies = vec![Reply::RELAY_DENIED; asked.len()];
        let (places, candidates) = self.relayable(asked, &mut replies);
        let (places, candidates) = self.wanted(places, candidates, &mut replies).await;
        let Some(transaction) = &self.transaction else {
            return Answer::Reply(Reply::BAD_SEQUENCE);
        };
        if candidates.is_empty() {
            return Answer::Recipients(replies);
        }
        let view = transaction.view(&self.facts);
        let hooks = transaction.hooks(&self.house.rooms.hooks);
        let said = hooks.on_recipients(&view, &candidates).await;
        let problem = match said {
            Ok(all) if all.len() == candidates.len() && all.iter().all(is_legal) => {
                return self.carry_out(places, candidates, all, replies);
            }
            Ok(_) => "an illegal answer about recipients".to_owned(),
            Err(fault) => fault.to_string(),
        };
        self.fault("recipients", &problem);
        places.into_iter().for_each(|at| replies[at] = Reply::LOCAL_ERROR);
        Answer::Recipients(replies)
    }

    /// Those that may be relayed to, and their places among all that were asked. What comes back to
    /// copies of ours ends here, whoever brings it.
    fn relayable(
        &mut self,
        asked: Vec<RcptTo>,
        replies: &mut [Reply],
    ) -> (Vec<usize>, Vec<Recipient>) {
        let Some(transaction) = &mut self.transaction else { return Default::default() };
        let settings = &self.current.settings;
        let returns = self.house.rooms.intake.returns();
        let now = self.house.rooms.clock.now();
        let (mut places, mut candidates) = (Vec::new(), Vec::new());
        for (at, rcpt) in asked.into_iter().enumerate() {
            let role = returns.is_some_and(|returns| returns.is_role(&rcpt.mailbox));
            let postmaster = rcpt.postmaster || role;
            let stands_for = if postmaster { settings.who_is_postmaster() } else { None };
            let mailbox = stands_for.unwrap_or(rcpt.mailbox);
            let ends_here = returns.filter(|_| !postmaster);
            let returned = ends_here.and_then(|returns| returns.takes(&mailbox, now));
            if let Some(Err(reply)) = &returned {
                replies[at] = reply.clone();
                continue;
            }
            // RFC 5321 §4.5.1: <postmaster> is taken from everybody.
            if returned.is_none()
                && !postmaster
                && !settings.relay.allows(&self.facts, mailbox.domain())
            {
                self.metrics.relay_denied.inc();
                info!(message = %transaction.id, rcpt = %mailbox, "relaying denied");
                continue;
            }
            let id = transaction.next_recipient;
            transaction.next_recipient += 1;
            places.push(at);
            let RcptTo { notify, original, .. } = rcpt;
            candidates.push(Recipient { notify, original, ..Recipient::new(id, mailbox) });
        }
        (places, candidates)
    }

    /// Those that are not on the suppression list.
    async fn wanted(
        &self,
        places: Vec<usize>,
        candidates: Vec<Recipient>,
        replies: &mut [Reply],
    ) -> (Vec<usize>, Vec<Recipient>) {
        let (list, transaction) = (self.house.rooms.intake.suppressions(), &self.transaction);
        let (Some(list), Some(transaction)) = (list, transaction) else {
            return (places, candidates);
        };
        let mut wanted = (Vec::new(), Vec::new());
        for (at, recipient) in places.into_iter().zip(candidates) {
            let user = self.facts.identity.as_deref();
            match list.on(&transaction.sender, user, &recipient.mailbox).await {
                Some(entry) => {
                    info!(message = %transaction.id, rcpt = %recipient.mailbox, ground = %entry.ground, "suppressed");
                    replies[at] = entry.reply();
                }
                None => {
                    wanted.0.push(at);
                    wanted.1.push(recipient);
                }
            }
        }
        wanted
    }

    fn carry_out(
        &mut self,
        places: Vec<usize>,
        candidates: Vec<Recipient>,
        answers: Vec<RecipientAnswer>,
        mut replies: Vec<Reply>,
    ) -> Answer {
        let Some(transaction) = &mut self.transaction else {
            return Answer::Reply(Reply::BAD_SEQUENCE);
        };
        let settings = &self.current.settings;
        for ((at, recipient), answer) in places.into_iter().zip(candidates).zip(answers) {
            match answer.verdict {
                Verdict::Disconnect(refusal) if at == 0 => {
                    return Answer::Disconnect(refusal.reply().clone());
                }
                Verdict::Disconnect(refusal) => {
                    // Those before it have replies of their own; a 421 ends the session.
                    replies[at] =
                        Reply::fixed(421, (4, 7, 0), "").with_text(refusal.reply().text.clone());
                }
                Verdict::Refuse(_) if planted!("who was refused at RCPT gets it too") => {
                    replies[at] = transaction.add(recipient, answer, &self.facts, settings);
                }
                Verdict::Proceed => {
                    replies[at] = transaction.add(recipient, answer, &self.facts, settings);
                }
                refused => {
                    if let Answer::Reply(reply) = ruled(refused, Reply::RECIPIENT_OK) {
                        replies[at] = reply;
                    }
                }
            }
        }
        Answer::Recipients(replies)
    }
}

impl Transaction {
    /// Adds a recipient, or those that policy puts in its place. These must be such as the peer
    /// could have named itself.
    fn add(
        &mut self,
        recipient: Recipient,
        answer: RecipientAnswer,
        facts: &Facts,
        settings: &Settings,
    ) -> Reply {
        let RecipientAnswer { replace_with, meta: attrs, .. } = answer;
        let mut meta = recipient.meta.clone();
        set_all(attrs, &mut meta);
        if replace_with.is_empty() {
            let id = self.push(Recipient { meta, ..recipient });
            self.named.push(vec![id]);
            return Reply::RECIPIENT_OK;
        }
        let may = |other: &&Replacement| {
            other.granted || settings.relay.allows(facts, other.mailbox.domain())
        };
        if let Some(other) = replace_with.iter().find(|other| !may(other)) {
            warn!(
                message = %self.id, rcpt = %recipient.mailbox, other = %other.mailbox,
                "policy's replacement is refused: the peer may not relay there"
            );
            return Reply::RELAY_DENIED;
        }
        if self.recipients.len() + replace_with.len() > settings.limits.max_recipients {
            return Reply::TOO_MANY_RECIPIENTS;
        }
        let mut stands_for = Vec::new();
        for Replacement { mailbox, .. } in replace_with {
            let id = self.next_recipient;
            self.next_recipient += 1;
            let other = Recipient { meta: meta.clone(), ..recipient.redirected(id, mailbox) };
            stands_for.push(self.push(other));
        }
        self.named.push(stands_for);
        Reply::RECIPIENT_OK
    }

    /// A mailbox that was named twice gets one copy. Answers under which id.
    fn push(&mut self, recipient: Recipient) -> u32 {
        let same =
            |other: &&Recipient| other.mailbox == recipient.mailbox && other.meta == recipient.meta;
        if let Some(there) = self.recipients.iter().find(same) {
            return there.id;
        }
        let id = recipient.id;
        self.recipients.push(recipient);
        id
    }
}

fn is_legal(answer: &RecipientAnswer) -> bool {
    are_legal(&answer.meta)
}
