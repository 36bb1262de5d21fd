//! Connection, greeting, login and sender: somebody waits for one reply.

use std::borrow::Cow;

use waypost_hooks::{
    AuthDecision, Credentials, Fault, Refusal, SenderAnswer, SenderChange, SessionAnswer,
    Transaction, Verdict,
};
use waypost_mail::Facts;
use waypost_smtp::{PermanentReply, Reply, ReversePath, TransientReply};

use super::{Asked, Turn};
use crate::about::About;
use crate::bindings::waypost::policy::types as wit;
use crate::decision::Word;
use crate::question::{OnAuth, OnConnect, OnHelo, OnSender, Question};
use crate::tally::Verdict as Weight;
use crate::when::Known;
use crate::{OnError, Stage, told};

impl Turn<'_> {
    pub(crate) async fn connect(self, facts: &Facts) -> Result<SessionAnswer, Fault> {
        let question = |call, session, _| OnConnect { call, session };
        self.session(Stage::Connect, facts, None, question).await.map(|(answer, _)| answer)
    }

    pub(crate) async fn helo(self, facts: &Facts) -> Result<SessionAnswer, Fault> {
        let question = |call, session, _| OnHelo { call, session };
        self.session(Stage::Helo, facts, None, question).await.map(|(answer, _)| answer)
    }

    pub(crate) async fn sender(self, transaction: &Transaction<'_>) -> Result<SenderAnswer, Fault> {
        let question = |call, session, envelope: Option<wit::Envelope>| OnSender {
            call,
            session,
            envelope: envelope.unwrap_or_else(|| told::envelope(None, transaction)),
        };
        self.session(Stage::Sender, transaction.session, Some(transaction), question).await
    }

    async fn session<Q>(
        self,
        stage: Stage,
        facts: &Facts,
        transaction: Option<&Transaction<'_>>,
        question: impl Fn(wit::CallInfo, wit::Session, Option<wit::Envelope>) -> Q + Send,
    ) -> Result<SenderAnswer, Fault>
    where
        Q: Question<Answer = wit::SessionOutcome> + 'static,
    {
        let mut together = Together::new(facts, transaction);
        for plugin in self.generation.at(stage) {
            if !plugin.config.when.holds(&together.known(transaction)) {
                continue;
            }
            let session = told::session(&together.facts);
            let envelope = transaction.map(|transaction| {
                told::envelope(None, &Transaction { sender: &together.sender, ..*transaction })
            });
            let question = Box::new(question(self.info(plugin, stage), session, envelope));
            let asked = self
                .ask(plugin, About::Session(facts.session), question, None, |ear, said| {
                    let spoken = ear.session(said)?;
                    let word = word(&spoken.answer.0, &spoken.answer.1);
                    Ok((spoken, word))
                })
                .await;
            match asked {
                Asked::Nothing => {}
                Asked::Answer(spoken) => {
                    together.add(spoken.answer);
                    if spoken.last {
                        break;
                    }
                }
                Asked::Failed(fault, remedy) => {
                    together.answer.verdict = remedied(remedy).ok_or(fault)?;
                    break;
                }
            }
        }
        Ok((together.answer, together.change))
    }

    pub(crate) async fn auth(
        self,
        facts: &Facts,
        credentials: &Credentials,
    ) -> Result<AuthDecision, Fault> {
        for plugin in self.asked(Stage::Auth, Known::session(facts)) {
            let question = Box::new(OnAuth {
                call: self.info(plugin, Stage::Auth),
                session: told::session(facts),
                credentials: told::credentials(credentials),
            });
            let asked = self
                .ask(plugin, About::Session(facts.session), question, None, |ear, said| {
                    let decision = ear.auth(said)?;
                    let word = auth_word(&decision);
                    Ok((decision, word))
                })
                .await;
            match asked {
                Asked::Nothing | Asked::Answer(AuthDecision::Proceed) => {}
                Asked::Answer(decision) => return Ok(decision),
                Asked::Failed(fault, OnError::Usual) => return Err(fault),
                // Who cannot be checked is nobody: the configured users are not asked either.
                Asked::Failed(..) => {
                    return Ok(AuthDecision::Deny(Refusal::Reject(reject(Reply::BAD_CREDENTIALS))));
                }
            }
        }
        Ok(AuthDecision::Proceed)
    }
}

/// What the answers so far come to, and the session and sender as the next plugin sees them.
struct Together<'a> {
    facts: Cow<'a, Facts>,
    sender: Cow<'a, ReversePath>,
    answer: SessionAnswer,
    change: SenderChange,
}

impl<'a> Together<'a> {
    fn new(facts: &'a Facts, transaction: Option<&Transaction<'a>>) -> Together<'a> {
        Together {
            facts: Cow::Borrowed(facts),
            sender: transaction.map_or(Cow::Owned(ReversePath::Null), |t| Cow::Borrowed(t.sender)),
            answer: SessionAnswer::default(),
            change: SenderChange::Keep,
        }
    }

    fn known<'b>(&'b self, transaction: Option<&'b Transaction<'_>>) -> Known<'b> {
        Known {
            sender: transaction.map(|_| &*self.sender),
            size: transaction.and_then(|transaction| transaction.declared_size),
            ..Known::session(&self.facts)
        }
    }

    fn add(&mut self, (answer, change): (SessionAnswer, SenderChange)) {
        for attr in &answer.meta {
            attr.clone().set(&mut self.facts.to_mut().meta);
        }
        if let SenderChange::To(path) = &change {
            self.sender = Cow::Owned(path.clone());
            self.change = change;
        }
        self.answer.verdict = answer.verdict;
        self.answer.delay = self.answer.delay.saturating_add(answer.delay);
        self.answer.meta.extend(answer.meta);
        self.answer.reasons.extend(answer.reasons);
    }
}

/// What a failed plugin's `on-error` comes to where somebody waits for a reply; nothing where the fault
/// itself is the answer.
pub(super) fn remedied(remedy: OnError) -> Option<Verdict> {
    match remedy {
        OnError::Closed => Some(Verdict::Refuse(Refusal::Reject(reject(Reply::REFUSED_BY_POLICY)))),
        OnError::Disconnect => {
            let reply = TransientReply::new(Reply::fixed(421, (4, 3, 0), "Local error, closing"));
            reply.map(|reply| Verdict::Disconnect(Refusal::Tempfail(reply)))
        }
        OnError::Usual | OnError::Open | OnError::Quarantine => None,
    }
}

/// A constant 5xx as what it is.
fn reject(reply: Reply) -> PermanentReply {
    PermanentReply::new(reply).unwrap_or_else(|| unreachable!("the constant is a 5xx"))
}

/// A refusal in words, and its weight.
pub(super) fn refused(verdict: &Verdict) -> (String, Option<Weight>) {
    let (refusal, close) = match verdict {
        Verdict::Proceed => return (String::new(), None),
        Verdict::Refuse(refusal) => (refusal, ""),
        Verdict::Disconnect(refusal) => (refusal, ", and close"),
    };
    let weight = match refusal {
        Refusal::Tempfail(_) => Weight::Later,
        Refusal::Reject(_) => Weight::Refused,
    };
    (format!("{}{close}", refusal.reply()), Some(weight))
}

fn word(answer: &SessionAnswer, change: &SenderChange) -> Word {
    let (verdict, weight) = refused(&answer.verdict);
    let mut edits: Vec<String> =
        answer.meta.iter().map(|attr| format!("set {}={}", attr.name, attr.value)).collect();
    if !answer.delay.is_zero() {
        edits.push(format!("wait {:?}", answer.delay));
    }
    if let SenderChange::To(path) = change {
        edits.push(format!("sender {path}"));
    }
    Word { verdict, edits, reasons: answer.reasons.clone(), weight }
}

fn auth_word(decision: &AuthDecision) -> Word {
    let (verdict, weight) = match decision {
        AuthDecision::Proceed => (String::new(), None),
        AuthDecision::Allow(identity) => (format!("allow {identity}"), None),
        AuthDecision::Deny(refusal) => refused(&Verdict::Refuse(refusal.clone())),
    };
    Word { verdict, weight, ..Word::default() }
}
