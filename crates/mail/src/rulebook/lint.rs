//! Rules that are of no use, or in each other's way.

use std::collections::HashMap;

use super::{Provider, Rule, Said, Sample, View, When, normal, provider_of};

/// What is wrong with a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Which, by its place.
    pub rule: usize,
    /// With what of it.
    pub of: Of,
    /// What, and what to do.
    pub message: String,
}

/// What of a rule is wrong. Numbers are places in its lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of {
    /// All of it.
    Rule,
    /// One of its samples.
    Sample(usize),
    /// One of its codes.
    Code(usize),
    /// One of its statuses.
    Status(usize),
    /// One of its patterns for texts.
    Text(usize),
}

/// Everything that is wrong with the rules of one book.
///
/// Each rule must fit its samples and be the first that does, and each of its codes, statuses and texts
/// must be in one of them: of a pattern that no sample shows nobody knows what it does. None may fit a sample of a rule before it
/// and say something else, unless that one is about a provider and this one about all, or this one
/// says that it comes after that one.
pub fn faults(providers: &[Provider], rules: &[Rule]) -> Vec<Fault> {
    let lint = Lint { providers, rules, faults: Vec::new() };
    lint.run()
}

struct Lint<'a> {
    providers: &'a [Provider],
    rules: &'a [Rule],
    faults: Vec<Fault>,
}

impl Lint<'_> {
    fn run(mut self) -> Vec<Fault> {
        let mut names: HashMap<&str, usize> = HashMap::new();
        for (at, rule) in self.rules.iter().enumerate() {
            if names.insert(&rule.name, at).is_some() {
                self.add(at, Of::Rule, format!("two rules are called '{}'", rule.name));
            }
            self.alone(at, rule);
            self.among_others(at, rule);
            self.shown(at, rule);
        }
        self.faults
    }

    fn add(&mut self, rule: usize, of: Of, message: String) {
        self.faults.push(Fault { rule, of, message });
    }

    /// What shows without a look at other rules.
    fn alone(&mut self, at: usize, rule: &Rule) {
        let name = &rule.name;
        if rule.when.is_empty() {
            let message = format!("rule '{name}' has no condition and would fit every reply");
            return self.add(at, Of::Rule, message);
        }
        for provider in &rule.when.providers {
            if !self.providers.iter().any(|known| known.name == *provider) {
                let message = format!(
                    "rule '{name}' can never match: there is no provider called '{provider}'"
                );
                self.add(at, Of::Rule, message);
            }
        }
        let earlier = &self.rules[..at];
        let missing = |name: &&String| !earlier.iter().any(|rule| rule.name == **name);
        if let Some(missing) = rule.after.iter().find(missing) {
            let message = format!("rule '{name}' is not after a rule '{missing}'");
            self.add(at, Of::Rule, message);
        }
        if let Some(text) = rule.when.texts.iter().find(|text| text.is_in("")) {
            let message = format!("rule '{name}': the pattern '{}' fits every text", text.source());
            self.add(at, Of::Rule, message);
        }
        if rule.samples.is_empty() {
            let message = format!(
                "rule '{name}' has no sample, so nothing shows that it can ever match: give it a \
                 reply that it is for"
            );
            self.add(at, Of::Rule, message);
        }
    }

    /// Whether each pattern is in a sample of the rule. One without samples, or with one that it does not
    /// fit, was told of already.
    fn shown(&mut self, at: usize, rule: &Rule) {
        let Rule { name, when, samples, .. } = rule;
        if samples.is_empty() || !samples.iter().all(|sample| self.fits(when, sample)) {
            return;
        }
        let normals: Vec<String> = samples.iter().map(|s| normal(&s.reply.text)).collect();
        let replies = || samples.iter().map(|sample| &sample.reply);
        let texts = when.texts.iter().enumerate();
        let texts = texts.filter(|(_, text)| !normals.iter().any(|normal| text.is_in(normal)));
        let texts = texts.map(|(number, text)| (Of::Text(number), text.source().to_owned()));
        let codes = when.codes.iter().enumerate();
        let codes = codes.filter(|(_, code)| !replies().any(|reply| code.fits(reply.code)));
        let codes = codes.map(|(number, code)| (Of::Code(number), code.to_string()));
        let statuses = when.statuses.iter().enumerate();
        let statuses = statuses.filter(|(_, one)| !replies().any(|reply| one.fits(reply.enhanced)));
        let statuses = statuses.map(|(number, status)| (Of::Status(number), status.to_string()));
        for (of, pattern) in codes.chain(statuses).chain(texts).collect::<Vec<_>>() {
            let message = format!(
                "rule '{name}': '{pattern}' is in none of its samples, so nothing shows that it can \
                 ever match: give the rule a reply that has it"
            );
            self.add(at, of, message);
        }
    }

    /// What shows beside the others.
    fn among_others(&mut self, at: usize, rule: &Rule) {
        let name = &rule.name;
        let earlier = self.rules[..at].iter();
        if let Some(wide) = earlier.clone().find(|wide| wide.when.covers(&rule.when)) {
            let message = format!(
                "rule '{name}' can never match: rule '{}' before it fits all its replies",
                wide.name
            );
            return self.add(at, Of::Rule, message);
        }
        for (number, sample) in rule.samples.iter().enumerate() {
            if !self.fits(&rule.when, sample) {
                let text = normal(&sample.reply.text);
                let message = format!(
                    "rule '{name}' does not match its sample; the text that patterns see is '{text}'"
                );
                self.add(at, Of::Sample(number), message);
            } else if let Some(thief) = earlier.clone().find(|r| self.fits(&r.when, sample)) {
                let message = format!(
                    "rule '{}' before it takes this sample from rule '{name}': move it, or make its \
                     condition narrower",
                    thief.name
                );
                self.add(at, Of::Sample(number), message);
            } else if let Some(stranger) = self.stranger(at, rule, sample) {
                let message = format!(
                    "rule '{stranger}' matches this sample of rule '{name}' too, and says something \
                     else: make its condition narrower, or say there that it comes after = [\"{name}\"]"
                );
                self.add(at, Of::Sample(number), message);
            }
        }
    }

    /// A rule behind this one that fits its sample, is no more general, and says something else.
    fn stranger(&self, at: usize, rule: &Rule, sample: &Sample) -> Option<&str> {
        let mut later = self.rules[at + 1..].iter();
        let found = later.find(|other| {
            let general = other.when.providers.is_empty() && !rule.when.providers.is_empty();
            let told = general || other.after.contains(&rule.name);
            !told
                && !rule.when.covers(&other.when)
                && other.says(&sample.reply) != rule.says(&sample.reply)
                && self.fits(&other.when, sample)
        });
        found.map(|other| other.name.as_str())
    }

    fn fits(&self, when: &When, sample: &Sample) -> bool {
        let Sample { reply, phase, host } = sample;
        let said = Said { reply, phase: *phase, host };
        let provider = provider_of(self.providers, host);
        when.holds(&View { said: &said, provider, text: normal(&reply.text) })
    }
}

impl When {
    /// True when this holds wherever `other` does, as far as the conditions alone can show.
    fn covers(&self, other: &When) -> bool {
        let any = |wide: bool, narrow: bool| wide || !narrow;
        let covers_all = any(self.providers.is_empty(), other.providers.is_empty())
            && any(self.codes.is_empty(), other.codes.is_empty())
            && any(self.statuses.is_empty(), other.statuses.is_empty())
            && any(self.phases.is_empty(), other.phases.is_empty())
            && any(self.texts.is_empty(), other.texts.is_empty());
        covers_all
            && other
                .providers
                .iter()
                .all(|p| self.providers.is_empty() || self.providers.contains(p))
            && other.codes.iter().all(|narrow| {
                self.codes.is_empty() || self.codes.iter().any(|wide| wide.covers(*narrow))
            })
            && other.statuses.iter().all(|narrow| {
                self.statuses.is_empty() || self.statuses.iter().any(|wide| wide.covers(*narrow))
            })
            && other.phases.iter().all(|p| self.phases.is_empty() || self.phases.contains(p))
            && other.texts.iter().all(|text| self.texts.is_empty() || self.texts.contains(text))
    }
}

#[cfg(test)]
mod tests {
    use waypost_smtp::Phase;

    use super::*;
    use crate::Category;

    fn rule(name: &str, category: Category, text: &str, samples: &[&str]) -> Rule {
        let sample = |text: &&str| Sample {
            reply: text.parse().unwrap(),
            phase: Phase::Rcpt,
            host: String::new(),
        };
        Rule {
            name: name.to_owned(),
            when: When { texts: vec![text.parse().unwrap()], ..When::default() },
            disposition: None,
            scope: None,
            category,
            wait: None,
            after: Vec::new(),
            samples: samples.iter().map(sample).collect(),
        }
    }

    fn told(rules: &[Rule]) -> Vec<String> {
        let big = Provider { name: "big".into(), hosts: vec![".big.example".into()] };
        faults(&[big], rules).into_iter().map(|fault| fault.message).collect()
    }

    #[test]
    fn good_rules_have_no_faults() {
        let mut particular = rule("big-full", Category::Full, "quota", &[]);
        particular.when.providers = vec!["big".into()];
        let reply = "552 over quota, mailbox full".parse().unwrap();
        let host = "mx.big.example".to_owned();
        particular.samples = vec![Sample { reply, phase: Phase::Rcpt, host }];
        let general = rule("limit", Category::RateLimited, "quota", &["450 quota of messages"]);
        assert_eq!(told(&[particular, general]), Vec::<String>::new());
    }

    #[test]
    fn a_rule_that_cannot_match_is_found() {
        let blind = rule("blind", Category::Full, "over quota", &["552 Quota exceeded"]);
        let [fault] = &told(&[blind])[..] else { panic!() };
        assert!(fault.contains("does not match its sample"), "{fault}");
        assert!(fault.contains("'quota exceeded'"), "{fault}");
        let silent = rule("silent", Category::Full, "quota", &[]);
        assert!(told(&[silent])[0].contains("has no sample"));
        let mut lost = rule("lost", Category::Full, "quota", &["552 quota"]);
        lost.when.providers = vec!["bug".into()];
        assert!(told(&[lost])[0].contains("no provider called 'bug'"));
        let mut all = rule("all", Category::Full, "x*", &["552 quota"]);
        assert!(told(&[all.clone()])[0].contains("fits every text"));
        all.when = When::default();
        assert!(told(&[all])[0].contains("has no condition"));
    }

    #[test]
    fn a_pattern_that_no_sample_shows_is_found() {
        let mut rule = rule("full", Category::Full, "quota", &["552 5.2.2 over quota"]);
        rule.when.texts.push("no spcae".parse().unwrap());
        rule.when.codes = vec!["45x".parse().unwrap(), "552".parse().unwrap()];
        rule.when.statuses = vec!["*.2.2".parse().unwrap(), "4.3.1".parse().unwrap()];
        let found = faults(&[], std::slice::from_ref(&rule));
        let of: Vec<Of> = found.iter().map(|fault| fault.of).collect();
        assert_eq!(of, [Of::Code(0), Of::Status(1), Of::Text(1)]);
        for (fault, pattern) in found.iter().zip(["45x", "4.3.1", "no spcae"]) {
            let text = format!("'{pattern}' is in none of its samples");
            assert!(fault.message.contains(&text), "{}", fault.message);
        }
    }

    #[test]
    fn a_rule_that_another_hides_is_found() {
        let wide = rule("wide", Category::Full, "quota", &["552 quota"]);
        let mut narrow = rule("narrow", Category::TooBig, "quota", &["552 quota of octets"]);
        narrow.when.codes = vec!["552".parse().unwrap()];
        let [fault] = &told(&[wide.clone(), narrow])[..] else { panic!() };
        assert!(fault.contains("'narrow' can never match: rule 'wide'"), "{fault}");
        let other = rule("other", Category::Full, "over", &["552 over quota"]);
        let [fault] = &told(&[wide, other])[..] else { panic!() };
        assert!(fault.contains("'wide' before it takes this sample"), "{fault}");
    }

    #[test]
    fn a_rule_that_takes_foreign_samples_is_found() {
        let first = rule("first", Category::Full, "mailbox.*quota", &["552 mailbox over quota"]);
        let greedy = rule("greedy", Category::TooBig, "quota", &["552 quota of octets"]);
        let [fault] = &told(&[first.clone(), greedy.clone()])[..] else { panic!() };
        assert!(fault.contains("rule 'greedy' matches this sample of rule 'first'"), "{fault}");
        let modest = Rule { after: vec!["first".into()], ..greedy };
        assert_eq!(told(&[first.clone(), modest.clone()]), Vec::<String>::new());
        assert!(told(&[modest, first])[0].contains("is not after a rule 'first'"));
    }
}
