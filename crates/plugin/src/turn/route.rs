//! Which way recipients go: the first plugin that decides about one wins.

use std::collections::HashSet;

use waypost_hooks::{Fault, FaultKind, Hop, RouteDecision, RouteGroup, RouteView, Way};
use waypost_mail::{Recipient, Text};

use super::{Asked, Turn};
use crate::about::About;
use crate::bindings::waypost::policy::types as wit;
use crate::decision::Word;
use crate::heard::Ear;
use crate::question::OnRoute;
use crate::tally::Verdict as Weight;
use crate::when::Known;
use crate::{Stage, told};

impl Turn<'_> {
    pub(crate) async fn route(self, view: &RouteView<'_>) -> Result<Vec<RouteGroup>, Fault> {
        let mut groups: Vec<RouteGroup> = Vec::new();
        if self.generation.is_silent(Stage::Route) {
            return Ok(groups);
        }
        let text = view.text.text().await.map_err(unreadable)?;
        let mut open: Vec<Recipient> = view.recipients.to_vec();
        for plugin in self.generation.at(Stage::Route) {
            let known = known(view, &open, &text);
            if open.is_empty() || !plugin.config.when.holds(&known) {
                continue;
            }
            let now = RouteView { recipients: &open, ..*view };
            let question = Box::new(OnRoute {
                call: self.info(plugin, Stage::Route),
                message: told::routed(&now, &text, plugin.wanted_headers()),
            });
            let ids: HashSet<u32> = open.iter().map(|recipient| recipient.id).collect();
            let asked = self
                .ask(
                    plugin,
                    About::Message(view.id),
                    question,
                    Some(text.clone()),
                    move |ear, said| read(ear, said, ids),
                )
                .await;
            match asked {
                Asked::Nothing => {}
                Asked::Answer(decided) => {
                    let named: HashSet<u32> =
                        decided.iter().flat_map(|group| group.recipients.iter().copied()).collect();
                    open.retain(|recipient| !named.contains(&recipient.id));
                    groups.extend(decided);
                }
                // Who is decided already is asked about again, with the others.
                Asked::Failed(fault, _) => return Err(fault),
            }
        }
        Ok(groups)
    }
}

fn known<'a>(view: &'a RouteView<'_>, open: &'a [Recipient], text: &'a Text) -> Known<'a> {
    Known {
        session: view.session,
        sender: Some(view.sender),
        recipients: Some(open),
        size: Some(view.size),
        header: Some(&text.header),
        meta: view.meta,
    }
}

/// The message cannot be read now: that is the host's fault.
pub(super) fn unreadable(error: std::io::Error) -> Fault {
    Fault {
        who: "the host".to_owned(),
        kind: FaultKind::Host,
        text: format!("the message cannot be read for policy: {error}"),
    }
}

fn read(
    ear: Ear<'_>,
    said: Vec<wit::RouteGroup>,
    mut open: HashSet<u32>,
) -> Result<(Vec<RouteGroup>, Word), String> {
    for id in said.iter().flat_map(|group| &group.recipients) {
        if !open.remove(id) {
            return Err(format!("it routes the recipient {id} twice or unasked"));
        }
    }
    let groups = ear.route(said)?;
    let mut word = Word::default();
    for group in &groups {
        let (text, weight) = spoken(&group.decision);
        word.edits.push(format!("{}: {text}", ids(&group.recipients)));
        word.weight = weight.or(word.weight);
        word.reasons.extend(group.reasons.iter().cloned());
    }
    Ok((groups, word))
}

pub(super) fn ids(ids: &[u32]) -> String {
    let text: Vec<String> = ids.iter().map(ToString::to_string).collect();
    format!("recipients {}", text.join(", "))
}

fn spoken(decision: &RouteDecision) -> (String, Option<Weight>) {
    match decision {
        RouteDecision::Route(way) => (way_in_words(way), None),
        RouteDecision::Fail(reply) => (reply.reply().to_string(), Some(Weight::Refused)),
        RouteDecision::Hold(text) => (format!("hold: {text}"), Some(Weight::Taken)),
    }
}

pub(super) fn way_in_words(way: &Way) -> String {
    let hop = |hop: &Hop| match hop {
        Hop::Mx(domain) => format!("MX of {domain}"),
        Hop::Host { host, port, .. } => format!("{host}:{port}"),
        Hop::Named(name) => name.clone(),
    };
    let mut text = match way.hops.as_slice() {
        [] => "by MX".to_owned(),
        hops => format!("by {}", hops.iter().map(hop).collect::<Vec<_>>().join(", ")),
    };
    if let Some(lane) = &way.lane {
        text += &format!(", lane {lane}");
    }
    if let Some(source) = &way.source {
        text += &format!(", from pool {source}");
    }
    if let Some(tls) = way.tls {
        text += &format!(", TLS {tls:?}").to_lowercase();
    }
    if let Some(moment) = way.not_before {
        text += &format!(", not before {moment}");
    }
    text
}
