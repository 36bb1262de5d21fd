//! One message, several answers: which recipients share one, and what it is.

use std::collections::HashSet;

use waypost_mail::Envelope;
use waypost_smtp::{Reply, Severity};

use crate::RoutePlan;

/// What each group of recipients is answered. By SMTP all of them are one group, by LMTP and HTTP each
/// recipient that the peer named is one of its own (policy may have put several in its place).
#[derive(Debug)]
pub(crate) struct Answers<'a> {
    groups: &'a [Vec<u32>],
    /// Of the groups that policy refused whole.
    refusals: Vec<Option<Reply>>,
}

impl<'a> Answers<'a> {
    /// Nobody is refused yet.
    pub(crate) fn new(groups: &'a [Vec<u32>]) -> Answers<'a> {
        Answers { groups, refusals: vec![None; groups.len()] }
    }

    /// Refuses a group when any of its recipients is refused for now, or all of them are for good;
    /// `there` are the recipients of the message as it stands.
    ///
    /// # Errors
    /// The first refusal, when no group is left.
    pub(crate) fn refuse(
        &mut self,
        there: impl Iterator<Item = u32>,
        refusal: impl Fn(u32) -> Option<Reply>,
    ) -> Result<(), Reply> {
        let there: HashSet<u32> = there.collect();
        for (group, answer) in self.groups.iter().zip(&mut self.refusals) {
            let replies: Vec<_> =
                group.iter().filter(|id| there.contains(id)).map(|id| refusal(*id)).collect();
            if answer.is_none() {
                *answer = shared(replies);
            }
        }
        match self.refusals.first() {
            Some(Some(first)) if self.refusals.iter().all(Option::is_some) => Err(first.clone()),
            _ => Ok(()),
        }
    }

    /// Takes recipients out whose groups are refused: they are answered, and go nowhere.
    ///
    /// # Errors
    /// A refusal, when nobody is left because policy took the others out.
    pub(crate) fn strike(&self, envelope: &mut Envelope) -> Result<(), Reply> {
        let gone = self.gone();
        if gone.is_empty() {
            return Ok(());
        }
        let mut left = envelope.recipients().to_vec();
        left.retain(|recipient| !gone.contains(&recipient.id));
        if envelope.replace_recipients(left) { Ok(()) } else { Err(self.any_refusal()) }
    }

    /// The same once they have their ways.
    ///
    /// # Errors
    /// As [`Answers::strike`].
    pub(crate) fn strike_planned(&self, plan: &mut RoutePlan) -> Result<(), Reply> {
        let gone = self.gone();
        plan.recipients.retain(|entry| !gone.contains(&entry.recipient.id));
        if plan.recipients.is_empty() { Err(self.any_refusal()) } else { Ok(()) }
    }

    fn any_refusal(&self) -> Reply {
        self.refusals.iter().flatten().next().cloned().unwrap_or(Reply::NO_VALID_RECIPIENTS)
    }

    /// The answers in the order of the groups; `reply` is the message's own.
    pub(crate) fn replies(&self, reply: &Reply) -> Vec<Reply> {
        // What is refused as a whole is refused for everybody: nobody is told two things.
        let own = |refusal: &Option<Reply>| refusal.as_ref().unwrap_or(reply).clone();
        self.refusals.iter().map(own).collect()
    }

    /// The groups that have no answer yet.
    pub(crate) fn open_groups(&self) -> Vec<Vec<u32>> {
        self.open().cloned().collect()
    }

    /// The answers in the order of the groups; `own` are those of the groups that had none yet.
    pub(crate) fn each(&self, mut own: impl Iterator<Item = Reply>) -> Vec<Reply> {
        let refusals = self.refusals.iter().cloned();
        let answer = |refusal: Option<Reply>| refusal.or_else(|| own.next());
        refusals.map(answer).map(|answer| answer.unwrap_or(Reply::LOCAL_ERROR)).collect()
    }

    /// True when somebody hears what becomes of this recipient.
    pub(crate) fn answers_for(&self, recipient: u32) -> bool {
        self.open().any(|group| group.contains(&recipient))
    }

    /// True when each group that is not refused has one of these recipients.
    pub(crate) fn each_has_one_of(&self, recipients: impl Iterator<Item = u32>) -> bool {
        let there: HashSet<u32> = recipients.collect();
        self.open().all(|group| group.iter().any(|id| there.contains(id)))
    }

    fn open(&self) -> impl Iterator<Item = &Vec<u32>> {
        let groups = self.groups.iter().zip(&self.refusals);
        groups.filter(|(_, refusal)| refusal.is_none()).map(|(group, _)| group)
    }

    /// A recipient that was named twice stays for the group that is not refused.
    fn gone(&self) -> HashSet<u32> {
        let of = |refused: bool| {
            let groups = self.groups.iter().zip(&self.refusals);
            groups.filter(move |(_, refusal)| refusal.is_some() == refused).flat_map(|(ids, _)| ids)
        };
        let stays: HashSet<&u32> = of(false).collect();
        of(true).filter(|id| !stays.contains(id)).copied().collect()
    }
}

/// The refusal of a group.
fn shared(replies: Vec<Option<Reply>>) -> Option<Reply> {
    let transient = replies.iter().flatten().find(|r| r.severity() == Severity::Transient);
    match transient {
        Some(reply) => Some(reply.clone()),
        None => {
            let all: Option<Vec<Reply>> = replies.into_iter().collect();
            all?.into_iter().next()
        }
    }
}

#[cfg(test)]
mod tests {
    use waypost_mail::{MessageId, Recipient};
    use waypost_smtp::ReversePath;

    use super::*;

    const NO: Reply = Reply::REFUSED_BY_POLICY;
    const LATER: Reply = Reply::LOCAL_ERROR;

    fn refused(groups: &[Vec<u32>], said: &[(u32, Reply)]) -> (Result<(), Reply>, Vec<Reply>) {
        let mut answers = Answers::new(groups);
        let refusal = |id| said.iter().find(|(refused, _)| *refused == id).map(|(_, r)| r.clone());
        let outcome = answers.refuse(0..4, refusal);
        (outcome, answers.replies(&Reply::OK))
    }

    #[test]
    fn one_group_has_one_answer() {
        let all = [vec![0, 1]];
        assert_eq!(refused(&all, &[(0, NO)]), (Ok(()), vec![Reply::OK]));
        assert_eq!(refused(&all, &[(0, NO), (1, NO)]), (Err(NO), vec![NO]));
        assert_eq!(refused(&all, &[(1, LATER)]), (Err(LATER), vec![LATER]));
    }

    #[test]
    fn each_group_has_its_own() {
        let each = [vec![0], vec![1, 2], vec![3]];
        let said = [(0, NO), (1, NO), (3, LATER)];
        assert_eq!(refused(&each, &said), (Ok(()), vec![NO, Reply::OK, LATER]));
        let all = [(0, NO), (1, NO), (2, LATER), (3, NO)];
        assert_eq!(refused(&each, &all), (Err(NO), vec![NO, LATER, NO]));
        // Whom policy took out of the message, nobody refused.
        assert_eq!(refused(&[vec![9]], &[]), (Ok(()), vec![Reply::OK]));
    }

    #[test]
    fn who_is_refused_goes_nowhere_and_who_is_named_twice_stays() {
        let groups = [vec![0], vec![1], vec![0, 2], vec![1]];
        let mut answers = Answers::new(&groups);
        let refusal = |id| (id != 2).then_some(NO);
        assert_eq!(answers.refuse(0..3, refusal), Ok(()));
        let recipient = |id| Recipient::new(id, "r@a.example".parse().unwrap());
        let recipients = (0..3).map(recipient).collect();
        let mut envelope = Envelope::new(MessageId(1), ReversePath::Null, recipients).unwrap();
        answers.strike(&mut envelope).unwrap();
        let left: Vec<_> = envelope.recipients().iter().map(|r| r.id).collect();
        assert_eq!(left, [0, 2]);
        // Policy took out everybody but the one it refuses.
        let groups = [vec![0], vec![1]];
        let mut answers = Answers::new(&groups);
        assert_eq!(answers.refuse([1].into_iter(), |_| Some(NO)), Ok(()));
        let only = vec![recipient(1)];
        let mut envelope = Envelope::new(MessageId(1), ReversePath::Null, only).unwrap();
        assert_eq!(answers.strike(&mut envelope), Err(NO));
    }
}
