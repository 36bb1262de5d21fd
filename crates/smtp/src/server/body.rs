//! A body on its way in, by DATA (RFC 5321 §4.1.1.4) or BDAT (RFC 3030 §2).

use bytes::Bytes;

use super::conversation::{Asked, Chunk, Conversation, State};
use super::session::Body;
use super::{LongLines, Question, Step};
use crate::Reply;
use crate::command::parse_bdat;
use crate::data::{Piece, take_counted};

/// How many times the largest message we swallow, and that many octets more, before the connection
/// is closed on a message that is too big. A peer that is cut off without a reply tries again.
const SWALLOWED_TIMES: u64 = 2;
const SWALLOWED_MORE: u64 = 16 * 1024 * 1024;

impl Conversation {
    /// The next piece behind DATA.
    pub(super) fn dotted(&mut self) -> Option<Step> {
        let Some(body) = self.transaction.as_mut().and_then(|t| t.body.as_mut()) else {
            self.fault();
            return None;
        };
        match body.decoder.dotted(&mut self.input.buffer) {
            Piece::NeedInput => Some(Step::NeedInput),
            Piece::Text(text) => self.text(text),
            Piece::End => {
                self.state = State::Commands;
                self.end_of_body()
            }
        }
    }

    /// BDAT, in order or not: its octets follow anyway, and must not be taken for commands.
    pub(super) fn bdat(&mut self, args: &str, refusal: Option<Reply>) -> Option<Step> {
        let Some((size, last)) = parse_bdat(args) else {
            self.close(Reply::BAD_ARGUMENTS);
            return None;
        };
        if size > self.most_swallowed() {
            self.close(Reply::MESSAGE_TOO_BIG);
            return None;
        }
        if size == 0 {
            self.session.idle();
        }
        let refusal = refusal.or_else(|| self.bdat_refusal(size));
        let mut chunk = Chunk { size, left: size, last, refusal, replies: 1 };
        if chunk.refusal.is_none() && !self.in_data() {
            return self.ask(Question::Data, Asked::Bdat(chunk));
        }
        if chunk.refusal.is_some() {
            // What came before is of no use without this chunk.
            chunk.replies = self.replies_to(&chunk);
            self.end_transaction();
        }
        self.state = State::Counted(chunk);
        None
    }

    fn bdat_refusal(&self, size: u64) -> Option<Reply> {
        if self.recipients() == 0 {
            return Some(Reply::BAD_SEQUENCE);
        }
        let before = self.body().map_or(0, |body| body.decoder.lines().size());
        let total = before.saturating_add(size);
        (total > self.rules.max_size).then_some(Reply::MESSAGE_TOO_BIG)
    }

    /// The next octets behind BDAT.
    pub(super) fn counted(&mut self) -> Option<Step> {
        let State::Counted(chunk) = &mut self.state else {
            return None;
        };
        if chunk.left > 0 && self.input.buffer.is_empty() {
            return Some(Step::NeedInput);
        }
        let body = self.transaction.as_mut().and_then(|t| t.body.as_mut());
        match (chunk.refusal.take(), body) {
            (None, Some(body)) => {
                if let Some(text) = body.decoder.counted(&mut self.input.buffer, &mut chunk.left) {
                    return self.text(text);
                }
                self.end_of_chunk()
            }
            (refusal, _) => {
                take_counted(&mut self.input.buffer, &mut chunk.left);
                if chunk.left > 0 {
                    chunk.refusal = refusal;
                } else {
                    let replies = chunk.replies;
                    self.state = State::Commands;
                    self.conclude(vec![refusal.unwrap_or(Reply::BAD_SEQUENCE); replies]);
                }
                None
            }
        }
    }

    fn end_of_chunk(&mut self) -> Option<Step> {
        let State::Counted(Chunk { size, last, .. }) = self.state else {
            return None;
        };
        let body = self.transaction.as_mut().and_then(|t| t.body.as_mut());
        let lines = body.filter(|body| last && !body.binary);
        if let Some(end) = lines.and_then(|body| body.decoder.finish()) {
            return self.text(end);
        }
        self.state = State::Commands;
        let fault = self.body().and_then(|body| body.fault(&self.rules));
        match fault {
            None if last => return self.end_of_body(),
            None => self.reply(Reply::OK.with_text(format!("{size} octets received"))),
            Some(fault) => {
                let replies = if last { self.final_replies() } else { 1 };
                self.conclude(vec![fault; replies]);
            }
        }
        None
    }

    /// How many replies a chunk gets that is not taken.
    pub(super) fn replies_to(&self, chunk: &Chunk) -> usize {
        if chunk.last { self.final_replies() } else { 1 }
    }

    /// Octets that belong to the message: passed on, unless the message cannot be taken any more.
    fn text(&mut self, text: Bytes) -> Option<Step> {
        let most = self.most_swallowed();
        let body = self.transaction.as_mut().and_then(|t| t.body.as_mut())?;
        if body.fault(&self.rules).is_none() {
            let folds = !body.binary && self.rules.strict.long_lines == LongLines::Fold;
            return Some(Step::Chunk(if folds { body.folder.fold(text) } else { text }));
        }
        if body.decoder.lines().size() > most {
            self.close(Reply::MESSAGE_TOO_BIG);
            return None;
        }
        let known = std::mem::replace(&mut body.settled, true);
        (!known).then_some(Step::Discard)
    }

    fn end_of_body(&mut self) -> Option<Step> {
        let body = self.transaction.as_mut().and_then(|t| t.body.as_mut())?;
        match body.fault(&self.rules) {
            None => {
                body.settled = true;
                let lines = body.decoder.lines();
                let size = lines.size() + body.folder.added();
                let eight_bit = lines.is_eight_bit();
                self.ask(Question::Commit { size, eight_bit }, Asked::Commit)
            }
            Some(fault) => {
                self.conclude(vec![fault; self.final_replies()]);
                None
            }
        }
    }

    fn body(&self) -> Option<&Body> {
        self.transaction.as_ref()?.body.as_ref()
    }

    fn most_swallowed(&self) -> u64 {
        self.rules.max_size.saturating_mul(SWALLOWED_TIMES).saturating_add(SWALLOWED_MORE)
    }
}
