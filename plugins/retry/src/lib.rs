//! The retry brain: reads what servers said, says what it means, and decides when to try again.
//!
//! The rules are data: operators' own first, then those about the provider, then those for everybody
//! (`providers/*.toml`). Each says what a reply means (its [`Kind`]); what to do about a kind is
//! said once for all, and a rule may differ. See README.md.

mod action;
mod config;
mod kind;
mod packs;
mod reply;
mod rule;

use waypost_sdk::prelude::*;

use action::{Action, Curves};
use config::Blocks;
pub use config::Config;
pub use kind::Kind;
use packs::{EVERYBODY, Pack};
use rule::{Rule, Seen};

/// The plugin.
#[derive(Debug)]
pub struct Retry {
    own: Vec<Rule>,
    providers: Vec<Pack>,
    everybody: Vec<Rule>,
    kinds: Vec<(Kind, Action)>,
    curves: Curves,
    jitter: u8,
    blocks: Blocks,
}

impl Plugin for Retry {
    type Config = Config;

    fn new(config: Config) -> Result<Retry, String> {
        let mut curves = action::curves();
        curves.extend(config.curves.clone());
        let mut providers = packs::all()?;
        let names: Vec<String> = providers.iter().map(|pack| pack.name.clone()).collect();
        config.check(&curves, &names)?;
        providers.retain(|pack| !config.without.contains(&pack.name));
        let everybody = providers.iter().position(|pack| pack.name == EVERYBODY);
        let everybody = everybody.map(|at| providers.remove(at).rules).unwrap_or_default();
        let action =
            |kind: Kind| config.kinds.get(&kind).cloned().unwrap_or_else(|| action::usual(kind));
        let retry = Retry {
            kinds: Kind::ALL.into_iter().map(|kind| (kind, action(kind))).collect(),
            own: config.rules,
            providers,
            everybody,
            curves,
            jitter: config.jitter,
            blocks: config.blocks,
        };
        retry.own_complaints().into_iter().next().map_or(Ok(retry), Err)
    }
}

impl SelfTest for Retry {
    fn self_test(&self) -> Vec<String> {
        let everybody = packs::all()
            .unwrap_or_default()
            .into_iter()
            .filter(|pack| pack.name == EVERYBODY && !self.everybody.is_empty());
        let packs: Vec<Pack> = self.providers.iter().cloned().chain(everybody).collect();
        let mut complaints = packs::complaints(&packs);
        complaints.extend(self.own_complaints());
        complaints
    }
}

impl OnAttempt for Retry {
    fn on_attempt(&self, call: &CallInfo, attempt: &Attempt) -> Decision<AttemptOutcome> {
        let mut outcome = AttemptOutcome::as_planned();
        // Most attempts deliver: for them there is nothing to read.
        let failed = |result: &&AttemptResult| {
            matches!(result.disposition.as_str(), "transient" | "permanent")
        };
        let mut pack = None;
        for result in attempt.results.iter().filter(failed) {
            let domain = domain_of(attempt, result);
            let pack = *pack.get_or_insert_with(|| self.provider(attempt, domain));
            let text = result.reply.as_ref().map(|reply| reply::normal(&reply.lines));
            let seen = Seen {
                code: result.reply.as_ref().map_or(0, |reply| reply.code),
                status: result.reply.as_ref().and_then(|reply| reply.enhanced),
                text: text.as_deref().unwrap_or_default(),
                phase: &result.phase,
                category: &result.category,
                provider: pack.map(|pack| pack.name.as_str()),
                lane: &attempt.lane,
                domain,
                attempts: result.attempts,
            };
            let Some((rule, is_own)) = self.rule(&seen, pack) else { continue };
            let action = self.action(rule);
            metrics::count(
                "classified",
                &[Attr::new("kind", rule.kind.word())],
                result.recipients.len() as u64,
            );
            if let Some(slow) = &action.slow {
                let advice = slow.advice(&attempt.lane);
                outcome.advice = vec![match outcome.advice.pop() {
                    Some(other) => strictest(other, advice),
                    None => advice,
                }];
            }
            outcome = outcome.group(self.group(call, attempt, result, rule, action, is_own));
        }
        Ok(outcome)
    }
}

impl Retry {
    fn provider(&self, attempt: &Attempt, domain: &str) -> Option<&Pack> {
        // `name[address]:port`
        let host = attempt.target.as_deref().and_then(|target| target.split(['[', ':']).next());
        self.providers.iter().find(|pack| pack.serves(host, domain))
    }

    /// The first rule that holds, and whether it is the operator's.
    fn rule<'a>(&'a self, seen: &Seen<'_>, pack: Option<&'a Pack>) -> Option<(&'a Rule, bool)> {
        let own = self.own.iter().map(|rule| (rule, true));
        let provider = pack.iter().flat_map(|pack| &pack.rules).map(|rule| (rule, false));
        let everybody = self.everybody.iter().map(|rule| (rule, false));
        own.chain(provider).chain(everybody).find(|(rule, _)| rule.when.holds(seen))
    }

    fn action<'a>(&'a self, rule: &'a Rule) -> &'a Action {
        let usual = || self.kinds.iter().find(|(kind, _)| *kind == rule.kind).map(|(_, a)| a);
        rule.then.as_ref().or_else(usual).unwrap_or(&PROCEED)
    }

    fn group(
        &self,
        call: &CallInfo,
        attempt: &Attempt,
        result: &AttemptResult,
        rule: &Rule,
        action: &Action,
        is_own: bool,
    ) -> AttemptGroup {
        let permanent = result.disposition == "permanent";
        let patient = (is_own && rule.then.is_some())
            || (rule.kind.is_about_the_source() && self.blocks == Blocks::Retry);
        let (decision, words) = if permanent && !patient {
            (AttemptDecision::Proceed, "a refusal for good".to_owned())
        } else {
            self.decide(call, attempt, result, rule, action)
        };
        let code =
            result.reply.as_ref().map(|reply| format!("{} ", reply.code)).unwrap_or_default();
        AttemptGroup::new(result.recipients.clone(), decision)
            .because(rule.kind.word(), format!("{code}at try {}: {words}", result.attempts))
            .by_rule(&rule.id)
    }

    fn decide(
        &self,
        call: &CallInfo,
        attempt: &Attempt,
        result: &AttemptResult,
        rule: &Rule,
        action: &Action,
    ) -> (AttemptDecision, String) {
        if action.gives_up(result.attempts) {
            return (AttemptDecision::Fail(farewell(result, rule)), "given up".to_owned());
        }
        if let Some(why) = &action.hold {
            return (AttemptDecision::Hold(why.clone()), format!("held: {why}"));
        }
        if let Some(reroute) = &action.reroute {
            return (AttemptDecision::Reroute(reroute.route()), "another route".to_owned());
        }
        match action.delay(&self.curves, result.attempts) {
            Some(delay) => {
                let ms = jittered(delay.ms(), self.jitter, call.seed, &attempt.message.id);
                let words = format!("again in {}", in_words(ms));
                (AttemptDecision::RetryAt(call.now_ms.saturating_add(ms)), words)
            }
            None => (AttemptDecision::Proceed, "as planned".to_owned()),
        }
    }

    /// Samples of operators' rules must be caught by the rule they stand at.
    fn own_complaints(&self) -> Vec<String> {
        let order: Vec<&Rule> = self.own.iter().collect();
        let complaint =
            |(rule, sample): (&Rule, &String)| match packs::catch(sample, rule, &order, "") {
                Ok(Some(id)) if id == rule.id => None,
                Ok(caught) => {
                    let by = caught.unwrap_or("no rule");
                    Some(format!("rules: `{}`: its sample `{sample}` is caught by {by}", rule.id))
                }
                Err(wrong) => Some(format!("rules: `{}`: {wrong}", rule.id)),
            };
        let samples = self.own.iter().flat_map(|r| r.samples.iter().map(move |sample| (r, sample)));
        samples.filter_map(complaint).collect()
    }
}

const PROCEED: Action = Action {
    wait: None,
    curve: None,
    hold: None,
    reroute: None,
    give_up: false,
    proceed: true,
    give_up_after: None,
    slow: None,
};

/// One advice about a lane, where two were given.
fn strictest(a: LaneAdvice, b: LaneAdvice) -> LaneAdvice {
    LaneAdvice {
        pause_s: a.pause_s.max(b.pause_s),
        max_concurrent: [a.max_concurrent, b.max_concurrent].into_iter().flatten().min(),
        valid_s: a.valid_s.max(b.valid_s),
        lane: a.lane,
    }
}

/// The domain of the first recipient: those of one group fared alike at one host.
fn domain_of<'a>(attempt: &'a Attempt, result: &AttemptResult) -> &'a str {
    let first = result.recipients.first();
    let recipient = attempt.message.recipients.iter().find(|r| Some(&r.id) == first);
    recipient.map_or("", |recipient| recipient.address.domain.as_str())
}

/// The reply of a bounce after refusals that were meant to be for now.
fn farewell(result: &AttemptResult, rule: &Rule) -> PermanentReply {
    let said = result.reply.as_ref().map(|reply| reply.lines.join("\n")).unwrap_or_default();
    let (subject, detail) = result
        .reply
        .as_ref()
        .and_then(|reply| reply.enhanced)
        .map_or(rule.kind.status(), |(_, subject, detail)| (subject, detail));
    let text = format!("Given up after {} tries, because the answer was:\n{said}", result.attempts);
    reject(text).status(subject, detail)
}

/// The recipients of a message stay together, messages that were refused together do not.
fn jittered(ms: u64, percent: u8, seed: u64, id: &str) -> u64 {
    // FNV-1a, then the finisher of SplitMix64.
    let hash = |hash: u64, octet: u8| (hash ^ u64::from(octet)).wrapping_mul(0x0100_0000_01b3);
    let mut x = id.bytes().fold(seed ^ 0xcbf2_9ce4_8422_2325, hash);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^= x >> 31;
    let width = ms / 100 * u64::from(percent);
    if width == 0 { ms } else { ms - width + x % (2 * width + 1) }
}

/// A time as people say it, never shorter than it is.
fn in_words(ms: u64) -> String {
    match ms.div_ceil(1000) {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds => format!("{} min", seconds.div_ceil(60)),
    }
}

waypost_sdk::export!(Retry: self_test, attempt);

#[cfg(test)]
mod tests;
