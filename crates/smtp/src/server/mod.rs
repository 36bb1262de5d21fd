//! What a peer may say to us.
//!
//! A [`Conversation`] takes bytes and gives steps. Per command there are three beats: *check*
//! (syntax, order, limits: the machine answers by itself), *ask* (a [`Question`] to policy, only
//! about legal speech) and *proceed* (the [`Answer`] becomes a reply and a new state). It never
//! waits and knows no socket; a shell around it does this:
//!
//! ```
//! use waypost_smtp::Reply;
//! use waypost_smtp::server::{
//!     Answer, AuthRule, Conversation, Offers, Question, Rules, Step, Strictness, TlsRule,
//!     XclientRule,
//! };
//!
//! let mut conversation = Conversation::new(Rules {
//!     hostname: "mx.example.org".into(),
//!     tls: TlsRule::Off,
//!     mechanisms: vec![],
//!     auth: AuthRule::Off,
//!     submission: false,
//!     xclient: XclientRule::Off,
//!     lmtp: false,
//!     origin: None,
//!     max_size: 1 << 20,
//!     max_recipients: 100,
//!     max_errors: 10,
//!     max_commands: 100,
//!     offers: Offers::default(),
//!     max_messages: 1000,
//!     max_session_recipients: 10_000,
//!     strict: Strictness::default(),
//! });
//! let mut body = Vec::new();
//! // The greeting comes before what the peer says.
//! for packet in ["", "EHLO peer.example\r\n", "MAIL FROM:<>\r\nRCPT TO:<a@example.org>\r\nDATA\r\n",
//!     "Hello\r\n.\r\n", "QUIT\r\n"] {
//!     conversation.push(packet.as_bytes());
//!     loop {
//!         match conversation.step() {
//!             Step::NeedInput | Step::Close => break,
//!             Step::Ask(Question::Recipients(all)) => {
//!                 conversation.answer(Answer::Recipients(vec![Reply::RECIPIENT_OK; all.len()]))
//!             }
//!             Step::Ask(_) => conversation.answer(Answer::Reply(Reply::OK)),
//!             Step::Chunk(text) => body.extend_from_slice(&text),
//!             Step::Discard => body.clear(),
//!             Step::Upgrade => unreachable!("TLS is off"),
//!         }
//!     }
//!     let _to_the_peer = conversation.take_output();
//! }
//! assert_eq!(body, b"Hello\r\n");
//! ```

mod answer;
mod body;
mod conversation;
mod input;
mod order;
mod refusals;
mod session;
#[cfg(test)]
mod tests;

use std::fmt;

use bytes::Bytes;

pub use crate::command::{MailFrom, RcptTo};
pub use crate::xclient::{Told, Xclient};
pub use conversation::Conversation;
pub use refusals::Refusal;

use crate::{Domain, Reply};

/// What one session may do and how much of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// Our name in the greeting, in the reply to EHLO and behind `<postmaster>`.
    pub hostname: String,
    /// Whether and when the channel is encrypted.
    pub tls: TlsRule,
    /// SASL mechanisms advertised once AUTH is allowed, best first, in upper case.
    pub mechanisms: Vec<String>,
    /// Whether a peer may or must log in.
    pub auth: AuthRule,
    /// True for mail from our own users (RFC 6409). A space after `MAIL FROM:` and `RCPT TO:` is
    /// then taken, because many submitters send it; elsewhere it is refused (RFC 5321 §3.3).
    pub submission: bool,
    /// Whether the peer may say for whom it speaks.
    pub xclient: XclientRule,
    /// LMTP is spoken instead of SMTP: LHLO greets, and each recipient has a reply of its own behind
    /// the message (RFC 2033 §4.1, §4.2).
    pub lmtp: bool,
    /// The domain of addresses that are given without one, as programs on this machine do. Elsewhere
    /// they are refused.
    pub origin: Option<Domain>,
    /// The largest message in octets, as SIZE says (RFC 1870).
    pub max_size: u64,
    /// The most recipients one transaction takes; more get 452 (RFC 5321 §4.5.3.1.10).
    pub max_recipients: usize,
    /// The most replies 5xx since the last message that was taken. One more closes with 421.
    pub max_errors: u32,
    /// The most commands since the last message that was taken that bring no mail forward (NOOP,
    /// RSET, EHLO, AUTH, empty BDAT chunks, anything refused with 4xx …). One more closes with 421.
    pub max_commands: u32,
    /// The extensions that are not always there.
    pub offers: Offers,
    /// The most messages of one session that are taken. MAIL for one more closes with 421.
    pub max_messages: u32,
    /// The most recipients that one session may have accepted, in all its transactions; more get
    /// 452 as if the transaction were full.
    pub max_session_recipients: usize,
    /// What is refused though it could be understood.
    pub strict: Strictness,
}

/// What to do about speech that breaks the rules without being unclear. Line ends other than CRLF
/// and NUL are not among it: these are always refused.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Strictness {
    /// Lines of a message over [`MAX_TEXT_LINE`](crate::data::MAX_TEXT_LINE) octets.
    pub long_lines: LongLines,
    /// Speech before our reply where that must be awaited.
    pub out_of_turn: OutOfTurn,
}

impl Strictness {
    /// Takes everything that can be understood.
    pub const TOLERANT: Strictness =
        Strictness { long_lines: LongLines::Take, out_of_turn: OutOfTurn::Take };
}

/// What becomes of lines over 998 octets in a message (RFC 5321 §4.5.3.1.6).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LongLines {
    /// The message is refused: 554 5.6.0.
    #[default]
    Refuse,
    /// They are broken by CRLF and a space. This changes the message.
    Fold,
    /// They are taken as they are.
    Take,
}

/// What becomes of octets that are here before a reply of ours that their sender had to await: the
/// greeting (RFC 5321 §3.1), those to EHLO, HELO, STARTTLS, AUTH and DATA (RFC 2920 §3.1), and any
/// reply before PIPELINING was offered. Behind STARTTLS they are never obeyed (RFC 3207 §4.2).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OutOfTurn {
    /// 554 5.5.1 and the end: who does not listen cannot be told, and may be another's echo.
    #[default]
    Refuse,
    /// They are taken as if they had come in time.
    Take,
}

/// Extensions that a listener may offer. Without an offer their parameters are unknown: 555 5.5.4.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Offers {
    /// `RET`, `ENVID`, `NOTIFY` and `ORCPT` (RFC 3461).
    pub dsn: bool,
    /// `BODY=BINARYMIME`, for messages that come by BDAT (RFC 3030 §3).
    pub binary_mime: bool,
    /// `REQUIRETLS`, where the channel is encrypted (RFC 8689 §2).
    pub require_tls: bool,
    /// `BY` (RFC 2852), with the least time in seconds in which mail can come back.
    pub deliver_by: Option<u32>,
    /// `HOLDFOR` and `HOLDUNTIL` (RFC 4865).
    pub future_release: Option<FutureRelease>,
    /// `MT-PRIORITY` by the policy `MIXER`: urgent from 1, non-urgent from -4 down (RFC 6710).
    pub mt_priority: bool,
    /// LIMITS (RFC 9422): `MAILMAX` is [`Rules::max_messages`], `RCPTMAX` the smaller of
    /// [`Rules::max_recipients`] and [`Rules::max_session_recipients`].
    pub limits: bool,
}

/// How long a message may be held at most (RFC 4865 §3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FutureRelease {
    /// Seconds from now.
    pub interval: u64,
    /// The latest moment, in seconds since 1970.
    pub until: i64,
}

/// Encryption of the channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsRule {
    /// The channel is in clear text and stays so.
    Off,
    /// STARTTLS is there for peers that want it (RFC 3207).
    Offered,
    /// Nothing of weight may be said before STARTTLS: 530 5.7.0.
    Required,
    /// The channel is encrypted: by implicit TLS (RFC 8314 §3.3) or after the upgrade.
    Active,
}

/// Authentication of the peer (RFC 4954). AUTH is offered and taken on an encrypted channel only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthRule {
    /// There is no AUTH.
    Off,
    /// A peer may log in.
    Offered,
    /// No MAIL before AUTH: 530 5.7.0.
    Required,
}

/// XCLIENT, for peers that are trusted to speak for others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum XclientRule {
    /// There is no XCLIENT.
    Off,
    /// All attributes but LOGIN.
    Offered,
    /// LOGIN too: the peer says who is logged in, and is believed.
    WithLogin,
}

/// What the conversation wants now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Nothing can be done without more bytes: send what [`Conversation::take_output`] has, then
    /// read. Also given while a question is open; then an answer is wanted, not bytes.
    NeedInput,
    /// Policy is asked. The conversation goes on with [`Conversation::answer`].
    Ask(Question),
    /// Octets of the message, dots removed, lines ended by CRLF; at most 64 KiB.
    Chunk(Bytes),
    /// The chunks since the last [`Question::Data`] are to be thrown away. Each body that was
    /// allowed ends either with this, once, or with [`Question::Commit`].
    Discard,
    /// Send the output, do the TLS handshake, then call [`Conversation::upgraded`].
    Upgrade,
    /// Send the output and close the connection.
    Close,
}

/// A question to policy, about speech that is legal.
#[derive(Clone, PartialEq, Eq)]
pub enum Question {
    /// A peer has connected. A 220 is sent as it is, another 2xx as our default greeting; anything
    /// else refuses every command but QUIT (RFC 5321 §3.1), or closes when it is a 421.
    Connect,
    /// EHLO or LHLO, or HELO when `esmtp` is false. The text of a 2xx is not used.
    Helo {
        /// The name given: printable ASCII, otherwise not checked.
        name: String,
        /// True for EHLO and LHLO.
        esmtp: bool,
    },
    /// AUTH with a mechanism that is offered (RFC 4954 §4). Only [`Answer::Authenticated`] admits.
    Auth {
        /// In upper case.
        mechanism: String,
        /// The initial response, decoded; `=` is an empty one.
        initial: Option<Vec<u8>>,
    },
    /// The decoded response to a [`Answer::Challenge`].
    AuthResponse(Vec<u8>),
    /// XCLIENT. [`Answer::Introduced`] begins the session anew, with [`Question::Connect`].
    Xclient(Xclient),
    /// MAIL.
    Sender(MailFrom),
    /// RCPT: at least one, and all that are at hand in a pipeline. [`Answer::Recipients`] has one
    /// reply for each; one [`Answer::Reply`] is taken for all.
    Recipients(Vec<RcptTo>),
    /// DATA or the first BDAT: may the body come? A refusal ends the transaction.
    Data,
    /// The message is whole; a 2xx must mean that it is kept. Its reply is sent as it is. In LMTP it
    /// may be [`Answer::Recipients`]: one reply for each recipient that was taken, in order; one
    /// [`Answer::Reply`] is said to all of them.
    Commit {
        /// Octets of all chunks together.
        size: u64,
        /// True when an octet was over 127, whatever BODY promised.
        eight_bit: bool,
    },
}

/// Names the question and nothing secret: responses to AUTH carry passwords.
impl fmt::Debug for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Question::Connect => f.write_str("Connect"),
            Question::Helo { name, esmtp } => {
                f.debug_struct("Helo").field("name", name).field("esmtp", esmtp).finish()
            }
            Question::Auth { mechanism, .. } => {
                f.debug_struct("Auth").field("mechanism", mechanism).finish_non_exhaustive()
            }
            Question::AuthResponse(_) => f.write_str("AuthResponse(..)"),
            Question::Xclient(told) => f.debug_tuple("Xclient").field(told).finish(),
            Question::Sender(from) => f.debug_tuple("Sender").field(from).finish(),
            Question::Recipients(all) => f.debug_tuple("Recipients").field(all).finish(),
            Question::Data => f.write_str("Data"),
            Question::Commit { size, eight_bit } => {
                f.debug_struct("Commit").field("size", size).field("eight_bit", eight_bit).finish()
            }
        }
    }
}

/// What policy says. An answer that does not fit its question closes with 421.
#[derive(Clone, PartialEq, Eq)]
pub enum Answer {
    /// 2xx: go on. 4xx, 5xx: refused with this reply. 421: said, then closed.
    Reply(Reply),
    /// One reply for each of [`Question::Recipients`], or in LMTP of those behind
    /// [`Question::Commit`], in order.
    Recipients(Vec<Reply>),
    /// To AUTH: the next challenge, not yet encoded.
    Challenge(Vec<u8>),
    /// To AUTH: the peer is who it says.
    Authenticated,
    /// To XCLIENT: the peer speaks for somebody else from now on. EHLO, AUTH and what it said of
    /// itself are forgotten.
    Introduced {
        /// It may do so again: whoever it speaks for is such a peer too.
        again: bool,
        /// That somebody is logged in.
        authenticated: bool,
        /// The SASL mechanisms from now on, where they are others: what is bound to the channel is
        /// the peer's and not that of whom it speaks for.
        mechanisms: Option<Vec<String>>,
    },
    /// This reply, then close, whatever was asked.
    Disconnect(Reply),
}

/// Without the challenge, for the same reason as [`Question`].
impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Answer::Reply(reply) => f.debug_tuple("Reply").field(reply).finish(),
            Answer::Recipients(all) => f.debug_tuple("Recipients").field(all).finish(),
            Answer::Challenge(_) => f.write_str("Challenge(..)"),
            Answer::Authenticated => f.write_str("Authenticated"),
            Answer::Introduced { again, authenticated, mechanisms } => f
                .debug_struct("Introduced")
                .field("again", again)
                .field("authenticated", authenticated)
                .field("mechanisms", mechanisms)
                .finish(),
            Answer::Disconnect(reply) => f.debug_tuple("Disconnect").field(reply).finish(),
        }
    }
}
