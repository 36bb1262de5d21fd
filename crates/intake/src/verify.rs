//! Who vouches for a message that comes in, and what follows: facts for policy, one field
//! (RFC 8601), and what the configuration wants done with what fails.

use std::collections::HashMap;

use tracing::{info, warn};
use waypost_identity::verify::{
    Arrival, AuthResult, Checks, DmarcPolicy, Findings, Limits, Peer, Verifier,
};
use waypost_identity::{Keyring, SealError, SealRequest, results};
use waypost_mail::{Envelope, Facts, Protocol, Timestamp};
use waypost_smtp::Reply;

use crate::content::Content;

/// RFC 7372 §3.2, §3.3 and RFC 7489 §9: what is said of mail that fails.
const SPF_FAILS: Reply =
    Reply::fixed(550, (5, 7, 23), "The sender's domain does not let this server send (SPF)");
const IPREV_FAILS: Reply =
    Reply::fixed(550, (5, 7, 25), "Your address and your name do not point at each other");
const DMARC_FAILS: Reply =
    Reply::fixed(550, (5, 7, 26), "The author's domain does not vouch for this message (DMARC)");

/// What is verified, and what follows. The default verifies the mail of strangers and lets it pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verification {
    /// Who says so in `Authentication-Results`: this relay's name, or that of its domain.
    pub id: String,
    /// Whose mail is verified where the listener says nothing of its own.
    pub mail: Whose,
    /// The same for single listeners, by their names.
    pub listeners: HashMap<String, Whose>,
    /// Which checks are made.
    pub checks: Checks,
    /// How far a message is followed.
    pub limits: Limits,
    /// What is done with what fails.
    pub on_fail: OnFail,
    /// Who seals what was verified (RFC 8617); nobody unless somebody asks for it.
    pub seal: Option<SealRequest>,
}

impl Verification {
    /// The default, in the name of `id`.
    pub fn by(id: impl Into<String>) -> Verification {
        Verification {
            id: id.into(),
            mail: Whose::Strangers,
            listeners: HashMap::new(),
            checks: Checks::ALL,
            limits: Limits::default(),
            on_fail: OnFail::default(),
            seal: None,
        }
    }

    /// True when this peer's mail is verified. Our own notices never are.
    fn concerns(&self, facts: &Facts) -> bool {
        let whose = self.listeners.get(&facts.listener).unwrap_or(&self.mail);
        facts.protocol != Protocol::Internal && whose.includes(facts)
    }
}

/// Whose mail is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// Nobody's.
    Nobodys,
    /// Of who may not send to anybody: neither logged in nor in a listed network.
    Strangers,
    /// Everybody's.
    Everybodys,
}

impl Whose {
    fn includes(self, facts: &Facts) -> bool {
        match self {
            Whose::Nobodys => false,
            Whose::Strangers => !facts.may_relay,
            Whose::Everybodys => true,
        }
    }
}

/// What is done with mail that fails a check. A temporary error is no failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OnFail {
    /// DMARC, as far as the author's domain wants something done.
    pub dmarc: Action,
    /// SPF says `fail`; `softfail` is none.
    pub spf: Action,
    /// The peer has no name, or it does not point back.
    pub iprev: Action,
    /// Whose mail something is done with.
    pub mail: Whose,
}

impl Default for OnFail {
    fn default() -> OnFail {
        OnFail {
            dmarc: Action::Nothing,
            spf: Action::Nothing,
            iprev: Action::Nothing,
            mail: Whose::Strangers,
        }
    }
}

/// What is done with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Action {
    /// It is told, and goes on.
    #[default]
    Nothing,
    /// It is taken and held until an operator decides.
    Hold,
    /// It is refused.
    Refuse,
}

/// What one check wants done, and in which words.
type Cause = (Action, Reply, &'static str);

/// What follows from all of them.
#[derive(Debug, PartialEq, Eq)]
enum Consequence {
    None,
    Held(&'static str),
    Refused(Reply),
}

impl OnFail {
    /// The strictest of what follows from the findings.
    fn follows(&self, findings: &Findings) -> Consequence {
        let causes = [self.of_dmarc(findings), self.of_spf(findings), self.of_iprev(findings)];
        let strictest = causes.into_iter().flatten().rev().max_by_key(|(action, ..)| *action);
        match strictest {
            Some((Action::Refuse, reply, _)) => Consequence::Refused(reply),
            Some((Action::Hold, _, reason)) => Consequence::Held(reason),
            Some((Action::Nothing, ..)) | None => Consequence::None,
        }
    }

    /// No more than the domain asks for.
    fn of_dmarc(&self, findings: &Findings) -> Option<Cause> {
        let dmarc = findings.dmarc.as_ref()?;
        if !matches!(dmarc.result, AuthResult::Fail | AuthResult::PermError) {
            return None;
        }
        let most = match dmarc.policy {
            DmarcPolicy::None => Action::Nothing,
            DmarcPolicy::Quarantine => Action::Hold,
            DmarcPolicy::Reject => Action::Refuse,
        };
        Some((
            self.dmarc.min(most),
            DMARC_FAILS,
            "the author's domain does not vouch for it (DMARC)",
        ))
    }

    fn of_spf(&self, findings: &Findings) -> Option<Cause> {
        let spf = findings.spf.as_ref()?;
        let reason = "the sender's domain does not let its server send (SPF)";
        (spf.result == AuthResult::Fail).then_some((self.spf, SPF_FAILS, reason))
    }

    fn of_iprev(&self, findings: &Findings) -> Option<Cause> {
        let iprev = findings.iprev.as_ref()?;
        let fails = matches!(iprev.result, AuthResult::Fail | AuthResult::PermError);
        fails.then_some((
            self.iprev,
            IPREV_FAILS,
            "its server's address and name do not match (iprev)",
        ))
    }
}

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Verified {
    /// What was found; absent where nothing was looked for.
    pub(crate) findings: Option<Findings>,
    /// Why the message is held, if it is.
    pub(crate) hold: Option<String>,
}

impl Verified {
    /// Puts an ARC set on top of a message that is as it will leave, where that is asked for and the
    /// message was verified. A message that cannot be sealed goes on without.
    ///
    /// # Errors
    /// When the body cannot be read.
    pub(crate) async fn seal(
        &self,
        verification: &Verification,
        keys: Keyring,
        content: &mut Content,
        now: Timestamp,
    ) -> Result<(), Reply> {
        let (Some(findings), Some(request)) = (&self.findings, &verification.seal) else {
            return Ok(());
        };
        let body = content.body_hash().await?;
        let (findings, request) = (findings.clone(), request.clone());
        let (id, header) = (verification.id.clone(), content.text.header.clone());
        let sealed = tokio::task::spawn_blocking(move || {
            keys.seal(&request, &id, &findings, &header, &body, now)
        });
        match sealed.await.map_err(|_| Reply::LOCAL_ERROR)? {
            Ok(Some(set)) => content.put_on_top(&set),
            Ok(None) => {}
            Err(error) => not_sealed(&error),
        }
        Ok(())
    }
}

fn not_sealed(error: &SealError) {
    warn!(%error, "a message goes on without an ARC seal");
}

/// Looks at a message as it came in: tells what was found to policy (metadata of the envelope) and to
/// the next hops (a field on top), and takes away what claims to be such a field of ours.
///
/// # Errors
/// The reply, when the message is refused for what was found, or its body cannot be read.
pub(crate) async fn verify(
    verifier: Option<&Verifier>,
    verification: &Verification,
    facts: &Facts,
    envelope: &mut Envelope,
    content: &mut Content,
    now: Timestamp,
) -> Result<Verified, Reply> {
    let verifier = verifier.filter(|_| verification.concerns(facts));
    let Some(verifier) = verifier else {
        if !is_trusted(facts) {
            take_claims_away(verification, envelope, content);
        }
        return Ok(Verified::default());
    };
    let helo = facts.helo.as_deref();
    let arrival = Arrival {
        header: &content.text.header,
        body: &content.text.body,
        peer: helo.filter(|_| is_by_smtp(facts)).map(|helo| Peer { ip: facts.client.ip(), helo }),
        sender: &envelope.sender,
        now,
    };
    let findings = verifier.verify(&arrival, verification.checks, verification.limits).await;
    let findings = findings.map_err(|error| {
        warn!(message = %envelope.id, %error, "a body that is verified cannot be read; check the disk");
        Reply::LOCAL_ERROR
    })?;
    take_claims_away(verification, envelope, content);
    content.put_on_top(&results::field(&verification.id, &findings));
    for fact in findings.facts() {
        fact.set(&mut envelope.meta);
    }
    told(envelope, &findings);
    let consequence = match verification.on_fail.mail.includes(facts) {
        true => verification.on_fail.follows(&findings),
        false => Consequence::None,
    };
    let hold = match consequence {
        Consequence::Refused(reply) => return Err(reply),
        Consequence::Held(reason) => Some(reason.to_owned()),
        Consequence::None => None,
    };
    Ok(Verified { findings: Some(findings), hold })
}

/// A listed network's servers may have written a field in our domain's name; a user, a program or a
/// stranger may not (RFC 8601 §5).
fn is_trusted(facts: &Facts) -> bool {
    facts.protocol == Protocol::Internal || (facts.may_relay && facts.identity.is_none())
}

/// Other doors know no server that hands on mail.
fn is_by_smtp(facts: &Facts) -> bool {
    matches!(facts.protocol, Protocol::Smtp | Protocol::Esmtp | Protocol::Lmtp)
}

fn take_claims_away(verification: &Verification, envelope: &Envelope, content: &mut Content) {
    let mut count = 0;
    content.edit(|header| {
        let (left, taken) = results::without_claims(header, &verification.id);
        count = taken;
        left
    });
    if count > 0 {
        info!(message = %envelope.id, count, "Authentication-Results in our name are taken away");
    }
}

fn told(envelope: &Envelope, findings: &Findings) {
    let word = |result: Option<AuthResult>| result.map_or("-", AuthResult::word);
    info!(
        message = %envelope.id,
        spf = word(findings.spf.as_ref().map(|finding| finding.result)),
        dkim = word(findings.dkim_result()),
        dmarc = word(findings.dmarc.as_ref().map(|finding| finding.result)),
        arc = word(findings.arc.as_ref().map(|finding| finding.result)),
        iprev = word(findings.iprev.as_ref().map(|finding| finding.result)),
        "message verified"
    );
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use waypost_identity::verify::{DmarcFinding, IprevFinding, SpfFinding};
    use waypost_mail::{HeaderBlock, MessageId, Recipient, SessionId};
    use waypost_smtp::ReversePath;

    use super::*;

    fn facts(protocol: Protocol, may_relay: bool, identity: Option<&str>) -> Facts {
        let identity = identity.map(str::to_owned);
        Facts { protocol, may_relay, identity, ..Facts::internal(SessionId(1)) }
    }

    #[test]
    fn strangers_are_those_who_may_not_send_to_anybody() {
        let stranger = facts(Protocol::Esmtp, false, None);
        let user = facts(Protocol::Esmtp, true, Some("anna"));
        let notice = Facts::internal(SessionId(1));
        let mut verification = Verification::by("relay.example");
        let concerned = |verification: &Verification| {
            [&stranger, &user, &notice].map(|facts| verification.concerns(facts))
        };
        assert_eq!(concerned(&verification), [true, false, false]);
        verification.mail = Whose::Everybodys;
        assert_eq!(concerned(&verification), [true, true, false]);
        verification.listeners.insert("internal".to_owned(), Whose::Nobodys);
        assert_eq!(concerned(&verification), [false, false, false]);
    }

    fn failing(policy: DmarcPolicy) -> Findings {
        Findings {
            spf: Some(SpfFinding {
                result: AuthResult::Fail,
                by_helo: false,
                domain: "a.example".to_owned(),
                reason: None,
            }),
            dmarc: Some(DmarcFinding {
                result: AuthResult::Fail,
                domain: "a.example".to_owned(),
                policy,
                reason: None,
            }),
            iprev: Some(IprevFinding {
                result: AuthResult::PermError,
                ip: "192.0.2.1".parse().unwrap(),
                name: None,
            }),
            ..Findings::default()
        }
    }

    #[test]
    fn the_strictest_counts_and_a_domain_gets_no_more_than_it_asks_for() {
        use Action::{Hold, Nothing, Refuse};
        let follows = |dmarc, spf, iprev, policy| {
            let on_fail = OnFail { dmarc, spf, iprev, ..OnFail::default() };
            match on_fail.follows(&failing(policy)) {
                Consequence::None => "goes on".to_owned(),
                Consequence::Held(reason) => reason.to_owned(),
                Consequence::Refused(reply) => reply.to_string(),
            }
        };
        let is = |said: String, start: &str| assert!(said.contains(start), "{said}: {start}");
        is(follows(Nothing, Nothing, Nothing, DmarcPolicy::Reject), "goes on");
        is(follows(Refuse, Nothing, Nothing, DmarcPolicy::None), "goes on");
        is(follows(Refuse, Nothing, Nothing, DmarcPolicy::Quarantine), "(DMARC)");
        is(follows(Refuse, Refuse, Refuse, DmarcPolicy::Reject), "550 5.7.26");
        is(follows(Hold, Refuse, Nothing, DmarcPolicy::Reject), "550 5.7.23");
        is(follows(Nothing, Nothing, Refuse, DmarcPolicy::None), "550 5.7.25");
        is(follows(Nothing, Nothing, Hold, DmarcPolicy::None), "(iprev)");
    }

    #[test]
    fn what_is_not_known_now_is_no_failure() {
        let refuse = OnFail {
            dmarc: Action::Refuse,
            spf: Action::Refuse,
            iprev: Action::Refuse,
            ..OnFail::default()
        };
        let mut findings = failing(DmarcPolicy::Reject);
        for finding in [
            &mut findings.spf.as_mut().unwrap().result,
            &mut findings.dmarc.as_mut().unwrap().result,
            &mut findings.iprev.as_mut().unwrap().result,
        ] {
            *finding = AuthResult::TempError;
        }
        assert_eq!(refuse.follows(&findings), Consequence::None);
    }

    #[tokio::test]
    async fn a_forged_field_of_ours_is_left_only_by_servers_of_ours() {
        let text = "Authentication-Results: relay.example; dmarc=pass\r\nFrom: a@b.example\r\n";
        let left = async |facts: Facts| {
            let header = HeaderBlock::parse(Bytes::from_static(text.as_bytes()));
            let mut content = Content::new(header, Bytes::new());
            let recipient = Recipient::new(0, "r@b.example".parse().unwrap());
            let mut envelope =
                Envelope::new(MessageId(1), ReversePath::Null, vec![recipient]).unwrap();
            let verification = Verification::by("relay.example");
            let now = Timestamp(0);
            let verified =
                verify(None, &verification, &facts, &mut envelope, &mut content, now).await;
            assert!(verified.unwrap().findings.is_none());
            content.text.header.count_named("Authentication-Results") == 1
        };
        assert!(!left(facts(Protocol::Esmtp, false, None)).await);
        assert!(!left(facts(Protocol::Esmtp, true, Some("anna"))).await);
        assert!(!left(facts(Protocol::Local, true, Some("root"))).await);
        assert!(left(facts(Protocol::Esmtp, true, None)).await);
        assert!(left(Facts::internal(SessionId(1))).await);
    }
}
