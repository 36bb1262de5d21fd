//! Chooses the DKIM signatures of a message (RFC 6376) by the author's domain and by whose mail it is.
//!
//! The keys never come here: the plugin names domain, selector and key, and the relay signs after the
//! last edit of the last plugin. See README.md for what can be configured.

mod author;
mod config;

use std::net::IpAddr;

use waypost_sdk::patterns::DomainPattern;
use waypost_sdk::prelude::*;

use author::NoAuthor;
pub use config::Config;
use config::{OnlyIf, Origin, Otherwise, Rule};

/// The plugin.
#[derive(Debug)]
pub struct Sign {
    config: Config,
    /// The domains of each rule, with what `relaxed` adds.
    domains: Vec<Vec<DomainPattern>>,
}

impl Plugin for Sign {
    type Config = Config;

    fn new(config: Config) -> Result<Sign, String> {
        config.check()?;
        let domains = config.rules.iter().map(Rule::domains).collect();
        Ok(Sign { config, domains })
    }

    fn interest(&self) -> Interest {
        Interest::default().headers(["From", "Sender", "DKIM-Signature"])
    }
}

impl OnMessage for Sign {
    fn on_message(&self, asked: &Asked<'_>, info: &MessageInfo) -> Decision<MessageOutcome> {
        let domain = match author::domain(&info.headers, self.config.several_authors) {
            Ok(domain) => domain,
            Err(why) => return Ok(self.no_author(why)),
        };
        for (rule, domains) in self.config.rules.iter().zip(&self.domains) {
            if !self.matches(rule, domains, &domain, asked) {
                continue;
            }
            if rule.skip {
                return Ok(unsigned("skipped", "a rule says not to sign").by_rule(&rule.name));
            }
            let requests = requests(rule, domains, &domain)?;
            if !requests.is_empty() {
                return Ok(sign(rule, requests, &info.headers));
            }
        }
        Ok(self.otherwise("no-rule", format!("no rule signs for {domain}")))
    }
}

impl SelfTest for Sign {
    fn self_test(&self) -> Vec<String> {
        let tables = self.config.rules.iter().filter_map(|rule| rule.table.as_deref());
        let complaint = |table: &str| {
            let denied = tables::get_domain(table, "self-test.invalid").err()?;
            Some(format!("table `{table}`: {}", denied.in_words()))
        };
        tables.filter_map(complaint).collect()
    }
}

impl Sign {
    fn matches(
        &self,
        rule: &Rule,
        domains: &[DomainPattern],
        author: &str,
        asked: &Asked<'_>,
    ) -> bool {
        let session = asked.session;
        let meta =
            |name: &str| asked.envelope.meta_value(name).or_else(|| session.meta_value(name));
        (domains.is_empty() || domains.iter().any(|pattern| pattern.matches(author)))
            && rule.only_if.as_ref().unwrap_or(&self.config.only_if).allows(session)
            && (rule.identity.is_empty()
                || session
                    .identity
                    .as_deref()
                    .is_some_and(|who| rule.identity.iter().any(|glob| glob.matches(who))))
            && rule.meta.iter().all(|(key, glob)| meta(key).is_some_and(|v| glob.matches(v)))
            && (rule.client.is_empty()
                || session
                    .client_ip
                    .parse::<IpAddr>()
                    .is_ok_and(|ip| rule.client.iter().any(|net| net.contains(ip))))
    }

    fn no_author(&self, why: NoAuthor) -> MessageOutcome {
        match why {
            NoAuthor::Missing => self.otherwise("no-from", "there is no author to sign for"),
            NoAuthor::Ambiguous(why) => self.otherwise("bad-from", why),
            NoAuthor::Several => {
                self.otherwise("several-authors", "there are several authors to sign for")
            }
            NoAuthor::Refused => refused("Say who wrote this: one address in From")
                .because("several-authors", "there are several authors"),
        }
    }

    /// What becomes of a message that no rule signs.
    fn otherwise(&self, code: &str, why: impl Into<String>) -> MessageOutcome {
        match self.config.otherwise {
            Otherwise::Skip => unsigned(code, why),
            Otherwise::Refuse => {
                let text = self.config.refusal.as_deref();
                refused(text.unwrap_or("We do not send mail from this author's domain"))
                    .because(code, why)
            }
        }
    }
}

impl OnlyIf {
    fn allows(&self, session: &Session) -> bool {
        self.0.iter().any(|origin| match origin {
            Origin::Authenticated => session.identity.is_some(),
            Origin::MayRelay => session.may_relay || session.identity.is_some(),
            Origin::Internal => session.listener == "internal",
            Origin::Anybody => true,
        })
    }
}

fn unsigned(code: &str, why: impl Into<String>) -> MessageOutcome {
    MessageOutcome::proceed().because(code, why)
}

fn refused(text: &str) -> MessageOutcome {
    MessageOutcome::refuse(reject(text).status(7, 1))
}

/// Asks for what is not signed yet.
fn sign(rule: &Rule, requests: Vec<SignRequest>, headers: &[Header]) -> MessageOutcome {
    let mut outcome = MessageOutcome::proceed();
    for request in requests {
        let what = format!("{} by {}", request.domain, request.selector);
        if headers.iter().any(|header| is_signature_of(header, &request)) {
            outcome = outcome.because("already-signed", what).by_rule(&rule.name);
        } else {
            outcome = outcome.sign(request).because("signed", what).by_rule(&rule.name);
        }
    }
    outcome
}

/// The signatures that a rule asks for; none when its table knows nothing of the domain.
fn requests(
    rule: &Rule,
    domains: &[DomainPattern],
    author: &str,
) -> Result<Vec<SignRequest>, Undecided> {
    let request = |domain: &str, selector: &str, key: &str| SignRequest {
        headers: rule.headers.clone(),
        oversign: rule.oversign.clone(),
        expire_after_s: rule.expire.map(|span| span.seconds()),
        ..SignRequest::new(domain, selector, key)
    };
    let Some(table) = &rule.table else {
        let own = if rule.relaxed { parent(domains, author) } else { author };
        let ask = |signature: &config::Signature| {
            let domain = signature.domain.as_deref().unwrap_or(own);
            request(domain, &signature.selector, &signature.key)
        };
        return Ok(rule.signatures.iter().map(ask).collect());
    };
    let Some((domain, row)) = tables::get_domain(table, author)? else { return Ok(Vec::new()) };
    if domain != author && !rule.relaxed {
        return Ok(Vec::new());
    }
    let pair = |pair: &str| {
        let (selector, key) =
            pair.split_once(':').filter(|(s, k)| config::is_selector(s) && !k.is_empty())?;
        Some(request(&domain, selector, key))
    };
    let wrong = || format!("table `{table}`, `{domain}`: `{row}` is no list of selector:key");
    let requests: Option<Vec<SignRequest>> = row.split_ascii_whitespace().map(pair).collect();
    Ok(requests.filter(|r| !r.is_empty()).ok_or_else(wrong)?)
}

/// The longest domain of the rule that the author's domain is in.
fn parent<'a>(domains: &'a [DomainPattern], author: &'a str) -> &'a str {
    let within = domains.iter().filter_map(|pattern| match pattern {
        DomainPattern::Exact(domain)
            if author.strip_suffix(&**domain).is_some_and(|s| s.is_empty() || s.ends_with('.')) =>
        {
            Some(&**domain)
        }
        _ => None,
    });
    within.max_by_key(|domain| domain.len()).unwrap_or(author)
}

/// True for a signature of this domain and selector that looks whole. Whether it verifies is for the
/// verifier to say; what is broken or lacks a part is signed again.
fn is_signature_of(header: &Header, request: &SignRequest) -> bool {
    if !header.name.eq_ignore_ascii_case("dkim-signature") {
        return false;
    }
    // RFC 6376 §3.2: tags in any order, blanks around them.
    let tag = |name: &str| {
        header.value.split(';').find_map(|tag| {
            let (tag, value) = tag.split_once('=')?;
            (tag.trim() == name).then(|| value.trim())
        })
    };
    let is = |name: &str, value: &str| tag(name).is_some_and(|v| v.eq_ignore_ascii_case(value));
    let filled = |name: &str| tag(name).is_some_and(|v| !v.is_empty());
    is("d", &request.domain) && is("s", &request.selector) && filled("b") && filled("bh")
}

waypost_sdk::export!(Sign: self_test, message);

#[cfg(test)]
mod tests;
