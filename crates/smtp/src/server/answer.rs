//! The third beat: what an answer makes of the question that was open.

use std::mem;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::conversation::{Asked, Chunk, Conversation, State};
use super::order::{self, Behind};
use super::session::{Body, Transaction};
use super::{Answer, XclientRule};
use crate::{Reply, Severity};
use waypost_mutant::planted;

impl Conversation {
    /// Answers the open question. Without one, or with an answer of the wrong kind, the session
    /// closes with 421: the fault is ours.
    pub fn answer(&mut self, answer: Answer) {
        let State::Asked(asked) = &mut self.state else {
            return self.fault();
        };
        let asked = mem::replace(asked, Asked::Connect);
        self.state = State::Commands;
        match (asked, answer) {
            (_, Answer::Disconnect(reply)) => self.close(reply),
            (_, Answer::Reply(reply)) if reply.severity() == Severity::Intermediate => self.fault(),
            (Asked::Connect, Answer::Reply(reply)) => self.greet(reply),
            (Asked::Helo { esmtp }, Answer::Reply(reply)) => self.greeted(esmtp, reply),
            (Asked::Auth, Answer::Challenge(challenge)) => self.challenge(&challenge),
            (Asked::Auth, Answer::Authenticated) => {
                self.session.authenticated = true;
                self.reply(Reply::AUTHENTICATED);
            }
            (Asked::Auth, Answer::Reply(reply)) if !reply.is_positive() => self.reply(reply),
            (Asked::Xclient, Answer::Introduced { again, authenticated, mechanisms }) => {
                if let Some(mechanisms) = mechanisms {
                    self.rules.mechanisms = mechanisms;
                }
                self.introduced(again, authenticated);
            }
            (Asked::Xclient, Answer::Reply(reply)) if !reply.is_positive() => self.reply(reply),
            (Asked::Sender(transaction), Answer::Reply(reply)) => self.sender(transaction, reply),
            (Asked::Recipients(count), Answer::Reply(reply)) => {
                self.recipients_answered(vec![reply; count]);
            }
            (Asked::Recipients(count), Answer::Recipients(replies)) if replies.len() == count => {
                self.recipients_answered(replies);
            }
            (Asked::Data, Answer::Reply(reply)) => self.data_answered(reply),
            (Asked::Bdat(chunk), Answer::Reply(reply)) => self.bdat_answered(chunk, reply),
            (Asked::Commit, Answer::Reply(mut reply)) => {
                if planted!("250 whatever became of it") {
                    reply = Reply::OK;
                }
                self.conclude(vec![reply; self.final_replies()]);
            }
            (Asked::Commit, Answer::Recipients(replies)) if self.fits_commit(&replies) => {
                self.conclude(replies);
            }
            _ => self.fault(),
        }
    }

    /// RFC 5321 §3.1. Who speaks before it does not wait for anything else either.
    fn greet(&mut self, reply: Reply) {
        if reply.is_positive() && self.is_out_of_turn() {
            return self.close(Reply::OUT_OF_TURN);
        }
        let own_words = reply.code.get() == 220;
        self.session.refused = !reply.is_positive();
        if reply.is_positive() && !own_words {
            let protocol = if self.rules.lmtp { "LMTP" } else { "ESMTP" };
            let text = format!("{} {protocol} ready", self.rules.hostname);
            return self.reply(Reply::plain(220, "").with_text(text));
        }
        self.reply(reply);
    }

    /// A refused EHLO leaves everything as it was; a new one is also a RSET (RFC 5321 §4.1.4).
    fn greeted(&mut self, esmtp: bool, reply: Reply) {
        if !reply.is_positive() {
            return self.reply(reply);
        }
        self.end_transaction();
        self.session.greeted = true;
        self.session.esmtp = esmtp;
        if esmtp {
            self.reply(order::extensions(&self.rules, &self.session));
        } else {
            self.reply(Reply::plain(250, "").with_text(self.rules.hostname.clone()));
        }
    }

    /// Not a [`Reply`], because a challenge may be longer than the line of a reply (RFC 4954 §4).
    fn challenge(&mut self, challenge: &[u8]) {
        self.output.extend_from_slice(b"334 ");
        self.output.extend_from_slice(STANDARD.encode(challenge).as_bytes());
        self.output.extend_from_slice(b"\r\n");
        self.state = State::Challenged;
    }

    /// The session begins anew, with the greeting (XCLIENT_README).
    fn introduced(&mut self, again: bool, authenticated: bool) {
        self.session.forget();
        self.session.authenticated = authenticated;
        if !again {
            self.rules.xclient = XclientRule::Off;
        }
        self.state = State::Connecting;
    }

    fn sender(&mut self, transaction: Transaction, reply: Reply) {
        if reply.is_positive() {
            self.transaction = Some(transaction);
        }
        self.reply(reply);
    }

    fn recipients_answered(&mut self, replies: Vec<Reply>) {
        for reply in replies {
            match (reply.severity(), &mut self.transaction) {
                (Severity::Positive, Some(transaction)) => {
                    transaction.recipients += 1;
                    self.session.recipients += 1;
                }
                (Severity::Transient | Severity::Permanent, Some(_)) => {}
                // A 421 before this one has closed.
                (_, None) => return,
                (Severity::Intermediate, _) => return self.fault(),
            }
            self.reply(reply);
        }
    }

    fn data_answered(&mut self, reply: Reply) {
        match &mut self.transaction {
            Some(transaction) if reply.is_positive() => {
                transaction.body = Some(Body::default());
                self.reply(Reply::START_DATA);
                self.state = State::Dotted;
            }
            _ => {
                self.end_transaction();
                self.refuse(reply, Behind::Body);
            }
        }
    }

    fn bdat_answered(&mut self, mut chunk: Chunk, reply: Reply) {
        match &mut self.transaction {
            Some(transaction) if reply.is_positive() => {
                let binary = transaction.binary;
                transaction.body = Some(Body { binary, ..Body::default() });
                self.state = State::Counted(chunk);
            }
            _ if reply.code.get() == 421 => self.close(reply),
            _ => {
                chunk.replies = self.replies_to(&chunk);
                self.end_transaction();
                chunk.refusal = Some(reply);
                self.state = State::Counted(chunk);
            }
        }
    }

    /// One reply for each recipient, in the protocol that has them (RFC 2033 §4.2).
    fn fits_commit(&self, replies: &[Reply]) -> bool {
        let final_ones = |reply: &Reply| reply.severity() != Severity::Intermediate;
        self.rules.lmtp && replies.len() == self.recipients() && replies.iter().all(final_ones)
    }
}
