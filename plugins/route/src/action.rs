//! What a rule decides, made ready when the plugin begins.

use waypost_sdk::prelude::*;

use crate::config::{Failure, HopEntry, Hops, Rule};
use crate::template::{Facts, Template};

/// What to do with recipients that match.
#[derive(Debug)]
pub(crate) enum Action {
    Route(Way),
    Hold(String),
    Fail(PermanentReply),
    Proceed,
}

/// A route with templates.
#[derive(Debug)]
pub(crate) struct Way {
    hops: Vec<HopTemplate>,
    lane: Option<Template>,
    source: Option<Template>,
    tls: TlsPolicy,
    delay_ms: Option<u64>,
}

#[derive(Debug)]
enum HopTemplate {
    Mx(Template),
    Host { host: Template, port: u16, implicit_tls: bool },
    Named(Template),
}

/// A key, below the rule, and what is wrong with it.
pub(crate) type Wrong = (String, String);

impl Action {
    pub(crate) fn of(rule: &Rule) -> Result<Action, Wrong> {
        let routes = rule.to.is_some()
            || rule.lane.is_some()
            || rule.source.is_some()
            || rule.tls.is_some()
            || rule.delay.is_some();
        match (routes, &rule.hold, &rule.fail, rule.proceed) {
            (true, None, None, false) => Way::of(rule).map(Action::Route),
            (false, Some(why), None, false) if why.is_empty() => {
                Err(("hold".into(), "say why, for the operator who finds it".into()))
            }
            (false, Some(why), None, false) => Ok(Action::Hold(why.clone())),
            (false, None, Some(failure), false) => reply(failure).map(Action::Fail),
            (false, None, None, true) => Ok(Action::Proceed),
            (false, None, None, false) => Err((
                "to".into(),
                "the rule decides nothing; say `to`, `lane`, `source`, `tls`, `delay`, `hold`, \
                 `fail` or `proceed`"
                    .into(),
            )),
            (_, hold, fail, _) => Err((
                if fail.is_some() {
                    "fail"
                } else if hold.is_some() {
                    "hold"
                } else {
                    "proceed"
                }
                .into(),
                "a rule routes, holds, fails or proceeds, and only one of these".into(),
            )),
        }
    }

    /// The decision about one recipient, and in words what it is.
    pub(crate) fn decide(&self, facts: Facts<'_>) -> (RouteDecision, &'static str, String) {
        match self {
            Action::Route(way) => {
                let route = way.fill(facts);
                let words = in_words(&route);
                (RouteDecision::Route(route), "routed", words)
            }
            Action::Hold(why) => (RouteDecision::Hold(why.clone()), "held", why.clone()),
            Action::Fail(reply) => {
                (RouteDecision::Fail(reply.clone()), "failed", reply.text.clone())
            }
            Action::Proceed => {
                (RouteDecision::Proceed, "left", "left to the configured routes".to_owned())
            }
        }
    }
}

impl Way {
    fn of(rule: &Rule) -> Result<Way, Wrong> {
        let has_table = rule.recipient_table.is_some();
        let template = |key: &str, text: &Option<String>| {
            let read = |text: &String| {
                let template = Template::parse(text, has_table, false)?;
                if template.is_name() { Ok(template) } else { Err(no_name(text)) }
            };
            text.as_ref().map(read).transpose().map_err(|wrong| (key.to_owned(), wrong))
        };
        let hops =
            rule.to.as_ref().map_or(Ok(Vec::new()), |hops| hop_templates(hops, has_table))?;
        Ok(Way {
            hops,
            lane: template("lane", &rule.lane)?,
            source: template("source", &rule.source)?,
            tls: rule.tls.map_or(TlsPolicy::Automatic, TlsPolicy::from),
            delay_ms: rule.delay.map(|delay| delay.ms()),
        })
    }

    fn fill(&self, facts: Facts<'_>) -> Route {
        let hop = |hop: &HopTemplate| match hop {
            HopTemplate::Mx(domain) => Hop::Mx(domain.fill(facts)),
            HopTemplate::Host { host, port, implicit_tls } => Hop::Host(HostPort {
                host: host.fill(facts),
                port: *port,
                implicit_tls: *implicit_tls,
            }),
            HopTemplate::Named(name) => Hop::Named(name.fill_name(facts)),
        };
        Route {
            hops: self.hops.iter().map(hop).collect(),
            lane: self.lane.as_ref().map(|lane| lane.fill_name(facts)),
            source: self.source.as_ref().map(|source| source.fill_name(facts)),
            tls: self.tls,
            // Not from now: the hook may be asked again about the same recipient.
            not_before_ms: self.delay_ms.map(|ms| facts.message.received_ms.saturating_add(ms)),
        }
    }
}

fn hop_templates(hops: &Hops, has_table: bool) -> Result<Vec<HopTemplate>, Wrong> {
    if hops.list.is_empty() {
        return Err((
            "to".into(),
            "no next hop; leave `to` out for the recipient's own exchangers".into(),
        ));
    }
    let hop = |(at, entry): (usize, &HopEntry)| {
        let place = if hops.single { "to".to_owned() } else { format!("to[{at}]") };
        hop_template(entry, has_table).map_err(|(key, wrong)| match key {
            "" => (place, wrong),
            key => (format!("{place}.{key}"), wrong),
        })
    };
    hops.list.iter().enumerate().map(hop).collect()
}

fn hop_template(entry: &HopEntry, has_table: bool) -> Result<HopTemplate, (&'static str, String)> {
    let template = |key: &'static str, text: &str, is_name: fn(&str) -> bool| {
        let template = Template::parse(text, has_table, true).map_err(|wrong| (key, wrong))?;
        match template.plain() {
            Some(plain) if !is_name(plain) => Err((key, format!("`{plain}` is not one"))),
            _ => Ok(template),
        }
    };
    let lonely = |key| (key, "only a `host` has one".to_owned());
    match (&entry.mx, &entry.host, &entry.named) {
        (None, Some(host), None) => {
            let implicit_tls = entry.implicit_tls;
            let port = entry.port.unwrap_or(if implicit_tls { 465 } else { 25 });
            if port == 0 {
                return Err(("port", "there is no port 0".into()));
            }
            Ok(HopTemplate::Host { host: template("host", host, is_host)?, port, implicit_tls })
        }
        _ if entry.port.is_some() => Err(lonely("port")),
        _ if entry.implicit_tls => Err(lonely("implicit-tls")),
        (Some(domain), None, None) => Ok(HopTemplate::Mx(template("mx", domain, is_host)?)),
        (None, None, Some(name)) => {
            let template = template("named", name, |_| true)?;
            match template.is_name() {
                true => Ok(HopTemplate::Named(template)),
                false => Err(("named", no_name(name))),
            }
        }
        _ => Err(("", "a next hop is exactly one of `mx`, `host` and `named`".into())),
    }
}

fn no_name(text: &str) -> String {
    format!("`{text}` is no name; names are of a-z, 0-9, `.`, `_` and `-`")
}

/// A host name, or an address in text form.
fn is_host(text: &str) -> bool {
    text.parse::<std::net::IpAddr>().is_ok() || Mailbox::parse(&format!("x@{text}")).is_ok()
}

fn reply(failure: &Failure) -> Result<PermanentReply, Wrong> {
    let code = failure.code.map_or(Some(PermanentCode::R550), PermanentCode::from_number);
    let code = code.ok_or_else(|| {
        let code = failure.code.unwrap_or(0);
        ("fail.code".to_owned(), format!("{code} cannot be used; 550, 551, 553, 554 and 556 can"))
    })?;
    if failure.text.trim().is_empty() {
        return Err(("fail.text".into(), "say why, for the sender".into()));
    }
    let reply = reject(&failure.text).code(code);
    let Some(status) = &failure.status else { return Ok(reply) };
    let parts: Vec<Option<u16>> = status.split('.').map(|part| part.parse().ok()).collect();
    match parts[..] {
        [Some(5), Some(subject @ 0..=999), Some(detail @ 0..=999)] => {
            Ok(reply.status(subject, detail))
        }
        _ => Err(("fail.status".into(), format!("`{status}` is none; write `5.1.2` (RFC 3463)"))),
    }
}

fn in_words(route: &Route) -> String {
    let hop = |hop: &Hop| match hop {
        Hop::Mx(domain) => format!("the exchangers of {domain}"),
        Hop::Host(HostPort { host, port, .. }) => format!("{host}:{port}"),
        Hop::Named(name) => format!("the hop {name}"),
    };
    let mut words = match route.hops.as_slice() {
        [] => "the recipient's exchangers".to_owned(),
        hops => hops.iter().map(hop).collect::<Vec<_>>().join(", "),
    };
    if let Some(lane) = &route.lane {
        words.push_str(&format!(" in lane {lane}"));
    }
    if let Some(source) = &route.source {
        words.push_str(&format!(" from {source}"));
    }
    words
}
