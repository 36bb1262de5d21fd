//! The rules that read replies: TOML files of their own, with providers and rules, read and linted.

use std::ops::Range;
use std::path::Path;
use std::str::FromStr;

use toml::de::DeTable;
use waypost_mail::rulebook::{
    CodePattern, MAX_RULES, Of, Provider, Rule, Sample, StatusPattern, When, Wording, faults,
};
use waypost_mail::{Category, Disposition, Rulebook, Scope};
use waypost_smtp::{Phase, Reply};

use crate::mistake::{Mistakes, Notes};
use crate::names::Name;
use crate::section::{At, Item, Section};
use crate::units::Span;

/// The rules that come with the program, in order: particular ones first.
const BUILT_IN: [(&str, &str); 2] = [
    ("replies/providers.toml", include_str!("../replies/providers.toml")),
    ("replies/everybody.toml", include_str!("../replies/everybody.toml")),
];
const NAME: &str = "a word of a-z, 0-9, '.', '_' and '-'";
const HOST: &str = "write ends of host names: [\".example.net\"], or whole names";
const CODE: &str = "write codes of refusals: [\"421\", \"45x\", \"5xx\"]";
const STATUS: &str = "write enhanced status codes: [\"5.1.1\", \"4.7.*\", \"*.7.28\"]";
const PHASE: &str = "one of: greeting, ehlo, mail, rcpt, data, body, eod (the end of data)";
const TEXT: &str =
    "write regular expressions; texts are compared in lower case, see docs/replies.md";
const SAMPLES: &str =
    "samples = [\"550 5.1.1 No such user\", { reply = \"…\", phase = \"eod\", host = \"…\" }]";
const WAIT: &str = "write a number and a unit: 30s, 5m, 2h";

/// The rules that come with the program.
///
/// # Errors
/// Their mistakes; a test of this crate says that there are none.
pub fn built_in() -> Result<Rulebook, Mistakes> {
    let mut book = Rulebook::default();
    for (name, source) in BUILT_IN {
        let mut notes = Notes::new(Path::new(name), source);
        let read = written(source, book.providers(), &mut notes);
        match read {
            Some(read) if notes.is_empty() => book = read.book().behind(book),
            _ => return Err(notes.into_mistakes()),
        }
    }
    Ok(book)
}

/// The rules of a file in front of `behind`. Its mistakes are in `notes`, which are of that file.
pub(crate) fn read(source: &str, behind: Rulebook, notes: &mut Notes<'_>) -> Option<Rulebook> {
    let read = written(source, behind.providers(), notes)?;
    if notes.is_empty() {
        read.lint(behind.providers(), notes);
    }
    notes.is_empty().then(|| behind.behind(read.book()))
}

/// A file as it is written.
struct Written {
    providers: Vec<Provider>,
    rules: Vec<WrittenRule>,
}

/// A rule, and where what it says is written.
struct WrittenRule {
    rule: Rule,
    name: Range<usize>,
    samples: Vec<Range<usize>>,
    codes: Vec<Range<usize>>,
    statuses: Vec<Range<usize>>,
    texts: Vec<Range<usize>>,
}

impl Written {
    fn book(self) -> Rulebook {
        Rulebook::new(self.providers, self.rules.into_iter().map(|rule| rule.rule).collect())
    }

    fn lint(&self, known: &[Provider], notes: &mut Notes<'_>) {
        let providers: Vec<Provider> = self.providers.iter().chain(known).cloned().collect();
        let rules: Vec<Rule> = self.rules.iter().map(|rule| rule.rule.clone()).collect();
        for fault in faults(&providers, &rules) {
            let rule = &self.rules[fault.rule];
            let at = match fault.of {
                Of::Rule => None,
                Of::Sample(number) => rule.samples.get(number),
                Of::Code(number) => rule.codes.get(number),
                Of::Status(number) => rule.statuses.get(number),
                Of::Text(number) => rule.texts.get(number),
            };
            notes.add(at.unwrap_or(&rule.name), fault.message, "");
        }
    }
}

fn written(source: &str, known: &[Provider], notes: &mut Notes<'_>) -> Option<Written> {
    let (table, errors) = DeTable::parse_recoverable(source);
    for error in &errors {
        notes.add(&error.span().unwrap_or(0..0), error.message().to_owned(), "");
    }
    if !errors.is_empty() {
        return None;
    }
    let mut top = Section::new("", table.span(), table.into_inner());
    let mut providers = Vec::new();
    for section in top.sections("provider", notes) {
        providers.extend(provider(section, &providers, notes));
    }
    let all: Vec<Provider> = providers.iter().chain(known).cloned().collect();
    let rules = top.sections("rule", notes).into_iter();
    let rules: Vec<WrittenRule> = rules.filter_map(|r| rule(r, &all, notes)).collect();
    if rules.len() > MAX_RULES {
        notes.add_to_file(format!("there are more than {MAX_RULES} rules"), "");
    }
    top.end(notes);
    Some(Written { providers, rules })
}

/// A provider, of whose hosts none may be of one before it: they would never be its own.
fn provider(
    mut section: Section<'_>,
    before: &[Provider],
    notes: &mut Notes<'_>,
) -> Option<Provider> {
    let name = section.parsed::<Name>("name", NAME, notes);
    let name = section.required("name", name, "name = \"example\"", notes);
    let hosts = section.list::<HostEnd>("hosts", HOST, notes);
    let hosts = section.required("hosts", hosts, HOST, notes);
    section.end(notes);
    let hosts = hosts?.value;
    for host in &hosts {
        if let Some(taken) = before.iter().find(|other| other.hosts.contains(&host.value.0)) {
            let message = format!("'{}' is provider '{}' already", host.value.0, taken.name);
            notes.add(&host.at, message, "a host has one provider");
        }
    }
    let hosts = hosts.into_iter().map(|host| host.value.0).collect();
    Some(Provider { name: name?.value.0, hosts })
}

fn rule(
    mut section: Section<'_>,
    providers: &[Provider],
    notes: &mut Notes<'_>,
) -> Option<WrittenRule> {
    let name = section.parsed::<Name>("name", NAME, notes);
    let name = section.required("name", name, "name = \"example-full\"", notes);
    let providers_named = each::<Name>(&mut section, "providers", NAME, notes);
    let (codes, code_places) = placed::<CodePattern>(&mut section, "codes", CODE, notes);
    let (statuses, status_places) =
        placed::<StatusPattern>(&mut section, "statuses", STATUS, notes);
    let phases = each::<Spoken>(&mut section, "phases", PHASE, notes);
    let (texts, text_places) = placed::<Wording>(&mut section, "texts", TEXT, notes);
    let when = When {
        providers: providers_named.into_iter().map(|name| name.0).collect(),
        codes,
        statuses,
        phases: phases.into_iter().map(|phase| phase.0).collect(),
        texts,
    };
    let category = section.parsed::<Category>("category", "of what kind it is", notes);
    let category = section.required("category", category, "category = \"full\"", notes);
    let disposition = section.parsed::<Disposition>("disposition", "for how long", notes);
    let scope = section.parsed::<Scope>("scope", "whom it is about", notes);
    let wait = section.parsed::<Span>("wait", WAIT, notes);
    let after = each::<Name>(&mut section, "after", NAME, notes);
    let samples = samples(&mut section, &when, providers, notes);
    section.end(notes);
    let name = name?;
    Some(WrittenRule {
        rule: Rule {
            name: name.value.0,
            when,
            disposition: disposition.map(|d| d.value),
            scope: scope.map(|s| s.value),
            category: category?.value,
            wait: wait.map(|w| w.value.0),
            after: after.into_iter().map(|name| name.0).collect(),
            samples: samples.iter().map(|sample| sample.value.clone()).collect(),
        },
        name: name.at,
        samples: samples.into_iter().map(|sample| sample.at).collect(),
        codes: code_places,
        statuses: status_places,
        texts: text_places,
    })
}

fn each<T: FromStr>(
    section: &mut Section<'_>,
    key: &str,
    hint: &str,
    notes: &mut Notes<'_>,
) -> Vec<T>
where
    T::Err: std::fmt::Display,
{
    placed(section, key, hint, notes).0
}

/// What a list holds, and where.
fn placed<T: FromStr>(
    section: &mut Section<'_>,
    key: &str,
    hint: &str,
    notes: &mut Notes<'_>,
) -> (Vec<T>, Vec<Range<usize>>)
where
    T::Err: std::fmt::Display,
{
    let list = section.list::<T>(key, hint, notes);
    let items = list.into_iter().flat_map(|list| list.value);
    items.map(|item| (item.value, item.at)).unzip()
}

/// What a sample leaves open is as the rule has it.
fn samples(
    section: &mut Section<'_>,
    when: &When,
    providers: &[Provider],
    notes: &mut Notes<'_>,
) -> Vec<At<Sample>> {
    let phase = when.phases.first().copied().unwrap_or(Phase::Rcpt);
    let own = |provider: &&Provider| when.providers.first().is_some_and(|p| *p == provider.name);
    let host = providers.iter().find(own).and_then(|provider| provider.hosts.first());
    let host = host.map_or_else(String::new, |end| match end.strip_prefix('.') {
        Some(_) => format!("mx{end}"),
        None => end.clone(),
    });
    let items = section.strings_and_sections("samples", notes);
    let items = items.map_or_else(Vec::new, |items| items.value);
    let sample = |item| match item {
        Item::Text(text) => {
            let reply = reply(text, notes)?;
            Some(reply.map(|reply| Sample { reply, phase, host: host.clone() }))
        }
        Item::Table(mut table) => {
            let text = table.string("reply", notes);
            let text = table.required("reply", text, SAMPLES, notes);
            let phase = table.parsed::<Spoken>("phase", PHASE, notes).map_or(phase, |p| p.value.0);
            let given = table.string("host", notes).map(|host| host.value.to_ascii_lowercase());
            table.end(notes);
            let host = given.unwrap_or_else(|| host.clone());
            Some(reply(text?, notes)?.map(|reply| Sample { reply, phase, host }))
        }
    };
    items.into_iter().filter_map(sample).collect()
}

fn reply(text: At<String>, notes: &mut Notes<'_>) -> Option<At<Reply>> {
    match text.value.parse::<Reply>() {
        Ok(reply) if (400..600).contains(&reply.code.get()) => Some(text.map(|_| reply)),
        Ok(reply) => {
            notes.add(&text.at, format!("the sample '{reply}' refuses nothing"), SAMPLES);
            None
        }
        Err(error) => {
            notes.add(&text.at, format!("the sample is no reply: {error}"), SAMPLES);
            None
        }
    }
}

/// A phase by its word, of those in which rules are asked.
struct Spoken(Phase);

impl FromStr for Spoken {
    type Err = String;
    fn from_str(text: &str) -> Result<Spoken, String> {
        match phase(text) {
            Some(Phase::Auth | Phase::StartTls | Phase::Connect) => Err(format!(
                "no rule is asked in the phase '{text}': a refused login waits until the \
                 configuration is mended, and TLS that is refused is the route's matter"
            )),
            Some(phase) => Ok(Spoken(phase)),
            None => Err(format!("'{text}' is no phase")),
        }
    }
}

/// A phase by its word.
pub fn phase(word: &str) -> Option<Phase> {
    Some(match word {
        "connect" => Phase::Connect,
        "greeting" => Phase::Greeting,
        "ehlo" => Phase::Ehlo,
        "starttls" => Phase::StartTls,
        "auth" => Phase::Auth,
        "mail" => Phase::Mail,
        "rcpt" => Phase::Rcpt,
        "data" => Phase::Data,
        "body" => Phase::Body,
        "eod" => Phase::Eod,
        _ => return None,
    })
}

/// `.example.net`, or a whole name.
struct HostEnd(String);

impl FromStr for HostEnd {
    type Err = String;
    fn from_str(text: &str) -> Result<HostEnd, String> {
        let label = |label: &str| {
            !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        };
        let name = text.strip_prefix('.').unwrap_or(text);
        let legal = name.contains('.') && name.split('.').all(label);
        let refuse = || format!("'{text}' is no end of a host name");
        legal.then(|| HostEnd(text.to_ascii_lowercase())).ok_or_else(refuse)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lint(source: &str) -> Vec<String> {
        let mut notes = Notes::new(Path::new("rules.toml"), source);
        read(source, Rulebook::default(), &mut notes);
        notes.into_mistakes().to_string().lines().map(str::to_owned).collect()
    }

    #[test]
    fn the_rules_that_come_with_the_program_are_faultless() {
        for (name, source) in BUILT_IN {
            let mut notes = Notes::new(Path::new(name), source);
            let behind = Rulebook::new(built_in().unwrap().providers().to_vec(), Vec::new());
            read(source, behind, &mut notes);
            assert!(notes.is_empty(), "{}", notes.into_mistakes());
        }
    }

    #[test]
    fn there_are_many_samples_and_each_means_what_its_rule_says() {
        let book = built_in().unwrap();
        let samples =
            book.rules().iter().flat_map(|rule| rule.samples.iter().map(move |s| (rule, s)));
        let mut count = 0;
        for (rule, Sample { reply, phase, host }) in samples {
            let found = book.read(&waypost_mail::rulebook::Said { reply, phase: *phase, host });
            assert_eq!(found.rule.map(|r| &r.name), Some(&rule.name), "{reply}");
            assert_eq!(found.diagnosis, rule.says(reply));
            count += 1;
        }
        assert!(count >= 100, "{count} samples");
    }

    /// What a server says of senders, of our address or of a content keeps nobody else's mail from the
    /// recipient, however it words that.
    #[test]
    fn only_what_is_said_of_the_recipient_condemns_him() {
        let book = built_in().unwrap();
        let condemns = |text: &str, phase| {
            let reply: Reply = text.parse().unwrap();
            let said = waypost_mail::rulebook::Said { reply: &reply, phase, host: "mx.example" };
            book.read(&said).diagnosis.condemns_recipient()
        };
        for text in [
            "550 5.1.1 No such user",
            "550 User unknown",
            "550 5.1.1 <bob@example.net>: Recipient address rejected: User unknown",
            "553 5.3.0 <bob@example.net>... No such user here",
            "550 5.2.1 This mailbox is disabled",
            "556 5.1.10 Domain takes no mail",
        ] {
            assert!(condemns(text, Phase::Rcpt), "{text}");
        }
        for text in [
            "550 no",
            "550 5.1.0 Address rejected",
            "551 not here",
            "553 not here",
            "521 go away",
            "552 5.2.2 Mailbox full",
            "550 5.7.13 no",
            "550 5.7.1 Message rejected as spam",
            "550 Sender verify failed",
            "550 Sender's domain does not exist",
            "550 The sending domain does not exist",
            "550 MAIL FROM domain does not exist",
            "550 HELO name does not exist",
            "550 From address unknown",
            "550 Your account has been disabled",
            "554 Relay access denied",
            "554 Blocked using zen.spamhaus.org",
            "550 SPF record not found for sender",
            "550 5.7.1 Recipient address rejected: unknown sender",
            "554 5.7.1 <bob@example.net>: Recipient address rejected: Access denied",
            "450 4.1.1 User unknown",
        ] {
            for phase in [Phase::Rcpt, Phase::Eod] {
                assert!(!condemns(text, phase), "{text} to {phase}");
            }
        }
    }

    #[test]
    fn mistakes_are_told_by_line() {
        let source = r#"
[[rule]]
name = "quota"
category = "full"
texts = ["quota"]
samples = ["552 5.2.2 Quota exceeded", "250 fine"]

[[rule]]
name = "blind"
phases = ["auth"]
category = "ful"
codes = ["2xx"]
texts = ["("]
samples = []

[[rule]]
name = "loud"
category = "full"
texts = ["Quota"]
samples = ["552 Quota"]

[[provider]]
name = "big"
hosts = [".big.example"]

[[provider]]
name = "large"
hosts = [".large.example", ".BIG.example"]
"#;
        let lines = lint(source).join("\n");
        for expected in [
            "rules.toml:6:40: the sample '250 fine' refuses nothing",
            "rules.toml:10:11: 'rule.phases': no rule is asked in the phase 'auth'",
            "rules.toml:11:12: 'rule.category': 'ful' is none of:",
            "rules.toml:12:10: 'rule.codes': '2xx' is no code of a refusal",
            "rules.toml:13:10: 'rule.texts': '(' is no pattern",
            "rules.toml:19:10: 'rule.texts': 'Quota' can never match",
            "rules.toml:28:28: '.big.example' is provider 'big' already",
        ] {
            assert!(lines.contains(expected), "{expected} is not in\n{lines}");
        }
    }

    #[test]
    fn rules_that_are_of_no_use_are_told_by_line() {
        let source = r#"
[[rule]]
name = "quota"
category = "full"
texts = ["quota"]
samples = ["552 5.2.2 Quota exceeded"]

[[rule]]
name = "octets"
category = "too-big"
codes = ["552"]
texts = ["quota"]
samples = ["552 quota of octets"]

[[rule]]
name = "typo"
category = "busy"
codes = ["421", "450"]
texts = ["too busy", "no spcae"]
samples = ["421 too busy"]

[[rule]]
name = "capital"
category = "too-big"
texts = ["8 octets"]
samples = [{ reply = "552 Octets", phase = "eod" }]
"#;
        let lines = lint(source).join("\n");
        for expected in [
            "rules.toml:9:8: rule 'octets' can never match: rule 'quota' before it",
            "rules.toml:18:17: rule 'typo': '450' is in none of its samples",
            "rules.toml:19:22: rule 'typo': 'no spcae' is in none of its samples",
            "rules.toml:26:22: rule 'capital' does not match its sample; the text that patterns see is 'octets'",
        ] {
            assert!(lines.contains(expected), "{expected} is not in\n{lines}");
        }
    }
}
