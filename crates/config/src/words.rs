//! What a configuration does, in plain language: who may relay, which plugins are asked, and
//! where mail goes.

mod auth;
mod flow;
mod policy;
mod verify;

use std::fmt::Write as _;

use waypost_inbound::tls::ClientRule;
use waypost_inbound::{DoorRules, ListenerKind};
use waypost_intake::{Hosts, RouteRule, Share, Via};
use waypost_mail::{NextHop, TlsLevel};
use waypost_queue::Doubt;

use crate::units::{show_octets, show_span};
use crate::{Reload, Settings};

/// The whole configuration in a few sentences.
pub fn describe(settings: &Settings) -> String {
    let mut text = String::new();
    for part in [
        doors(settings),
        relaying(&settings.reload),
        verify::verification(settings),
        auth::logins(&settings.reload),
        policy::policy(&settings.reload),
        routes(&settings.reload),
        keeping(settings),
        replies(&settings.reload),
        flow::flow(settings),
        classes(&settings.startup.queue),
    ] {
        if !part.is_empty() {
            let _ = writeln!(text, "{part}");
        }
    }
    text
}

fn doors(settings: &Settings) -> String {
    let mut text = "Mail comes in\n".to_owned();
    for door in &settings.startup.doors {
        let encrypted = settings.reload.inbound.tls.is_some();
        let name = &door.config.name;
        let rules = settings.reload.inbound.doors.get(name);
        let how = match door.config.kind {
            ListenerKind::Relay if rules.is_some_and(|rules| rules.tls.clients.is_required()) => {
                "relay; STARTTLS is required"
            }
            ListenerKind::Relay if encrypted => "relay; TLS by STARTTLS when the peer wants it",
            ListenerKind::Relay => "relay; without TLS, as there is no certificate",
            ListenerKind::Submission => "submission; STARTTLS, then a login, are required",
            ListenerKind::Submissions => "submission; TLS from the first byte, a login is required",
            ListenerKind::Lmtp if door.place.is_local() => {
                "LMTP; who may write to the socket may send to anybody"
            }
            ListenerKind::Lmtp if encrypted => "LMTP; TLS by STARTTLS when the peer wants it",
            ListenerKind::Lmtp => "LMTP; without TLS, as there is no certificate",
            ListenerKind::Http if door.place.is_local() => {
                "HTTP; who may write to the socket may submit"
            }
            ListenerKind::Http => "HTTP; a token is required",
            ListenerKind::Https => "HTTP with TLS from the first byte; a token is required",
            ListenerKind::Local => "programs of this machine, as the users they run as",
        };
        let _ = writeln!(text, "  on {} ({name}): {how}{}", door.place, asked(rules));
        text += &speaking(rules);
    }
    text
}

/// What a listener wants to know of its clients.
fn asked(rules: Option<&DoorRules>) -> &'static str {
    match rules.map(|rules| &rules.tls.clients) {
        None | Some(ClientRule::None) => "",
        Some(ClientRule::Ask(_)) => "; clients are asked for a certificate",
        Some(ClientRule::Require(_)) => "; clients must prove who they are by a certificate",
    }
}

/// Who may say for whom it speaks.
fn speaking(rules: Option<&DoorRules>) -> String {
    let mut text = String::new();
    if let Some(proxy) = rules.and_then(|rules| rules.proxy.as_ref()) {
        let others = if proxy.others { "come without" } else { "are refused" };
        let networks = join(&proxy.networks);
        let _ = writeln!(
            text,
            "    {networks} must say by the PROXY protocol for whom they speak; others {others}"
        );
    }
    if let Some(peers) =
        rules.map(|rules| &rules.xclient).filter(|peers| !peers.networks.is_empty())
    {
        let login = if peers.login { ", and who is logged in" } else { "" };
        let networks = join(&peers.networks);
        let _ = writeln!(text, "    {networks} may say by XCLIENT for whom they speak{login}");
    }
    text
}

fn relaying(reload: &Reload) -> String {
    let mut text = "Who may relay\n".to_owned();
    let rule = &reload.inbound.relay;
    let others = reload.inbound.users.is_empty() && reload.inbound.lets_log_in();
    if others && reload.inbound.tls.is_some() {
        let _ = writeln!(text, "  whoever is logged in: to anybody");
    }
    let users = reload.inbound.users.len();
    if users > 0 && reload.inbound.tls.is_some() {
        let _ = writeln!(text, "  {}, once logged in: to anybody", counted(users));
    }
    if !rule.networks.is_empty() {
        let _ = writeln!(text, "  peers in {}: to anybody", join(&rule.networks));
    }
    if !rule.certificates.is_empty() {
        let _ = writeln!(
            text,
            "  clients whose certificate is {}: to anybody",
            join(&rule.certificates)
        );
    }
    if !rule.domains.is_empty() {
        let _ = writeln!(text, "  everybody else: only to {}", join(&rule.domains));
    } else {
        let _ = writeln!(text, "  everybody else: nobody but postmaster");
    }
    for line in policy::widening(reload) {
        let _ = writeln!(text, "  {line}");
    }
    text
}

fn routes(reload: &Reload) -> String {
    let mut text = "Where mail goes\n".to_owned();
    for rule in &reload.routing.rules {
        let _ = writeln!(text, "  {}: {}", join(&rule.domains), way(rule));
    }
    let covered = reload.routing.rules.iter().flat_map(|rule| &rule.domains);
    if !covered.into_iter().any(|p| *p == waypost_mail::DomainPattern::Any) {
        let _ = writeln!(text, "  every other domain: its mail exchangers (MX), TLS where offered");
    }
    text
}

fn way(rule: &RouteRule) -> String {
    let mut text = match &rule.via {
        Via::Mx => "the domain's own mail exchangers (MX)".to_owned(),
        Via::Hosts(hosts) => shared(hosts),
        Via::Fail(reply) => return format!("refused: {}", reply.reply()),
        Via::Discard => return "taken and thrown away".to_owned(),
    };
    text += match rule.tls {
        TlsLevel::Never => ", never with TLS",
        TlsLevel::Opportunistic => ", TLS where offered",
        TlsLevel::Encrypt => ", only with TLS",
        TlsLevel::Verify => ", only with TLS and a certificate that proves the name",
    };
    if rule.credentials.is_some() {
        text += ", after logging in";
    }
    if rule.cut_through {
        text += "; its reply is what the submitter hears (cut-through)";
    }
    text
}

/// Who has the same priority is named with its weight.
fn shared(hosts: &Hosts) -> String {
    let mut shares: Vec<&Share> = hosts.shares().iter().collect();
    shares.sort_by_key(|share| share.priority);
    let group = |group: &[&Share]| match group {
        [only] => host(&only.hop),
        several => {
            let part = |share: &&Share| format!("{} ×{}", host(&share.hop), share.weight);
            several.iter().map(part).collect::<Vec<_>>().join(" or ")
        }
    };
    let groups = shares.chunk_by(|a, b| a.priority == b.priority);
    groups.map(group).collect::<Vec<_>>().join(", else ")
}

fn host(hop: &NextHop) -> String {
    match hop {
        NextHop::Host { implicit_tls: true, .. } => format!("{hop} (TLS from the first byte)"),
        hop => hop.to_string(),
    }
}

fn keeping(settings: &Settings) -> String {
    let startup = &settings.startup;
    let history = match &startup.history {
        Some(history) => format!(
            "what happened to them, for {} and in {} at most",
            show_span(history.age),
            show_octets(history.size)
        ),
        None => "nothing of what happened to them".to_owned(),
    };
    format!(
        "What is kept\n  messages of up to {} in {}\n  tried for {}, then given up and the sender is told\n  {history}",
        show_octets(settings.reload.inbound.limits.max_message_size),
        startup.places.spool.display(),
        show_span(startup.intake.lifetime),
    )
}

fn replies(reload: &Reload) -> String {
    let book = &reload.replies;
    let (rules, providers) = (book.rules().len(), book.providers().len());
    format!("How replies are read\n  by {rules} rules, with {providers} providers")
}

fn classes(queue: &waypost_queue::Config) -> String {
    let mut text = String::new();
    for (place, class) in queue.classes.iter().enumerate() {
        let title = if place == 0 { "Which mail is treated in another way\n" } else { "" };
        let whose = match &class.matches {
            Some(matches) => matches.to_string(),
            None if class.name == waypost_queue::DEFAULT_CLASS => "all other mail".to_owned(),
            None => "what plugins put in it".to_owned(),
        };
        let _ = write!(
            text,
            "{title}  {}: {whose}; tried for {}, first again after {}; weight {}",
            class.name,
            show_span(class.lifetime),
            show_span(class.retry.shortest()),
            class.weight
        );
        if let Some(rate) = class.rate {
            let _ = write!(text, "; at most {} attempts in {}", rate.count, show_span(rate.per));
        }
        if !class.windows.is_empty() {
            text += "; only at certain times";
        }
        text += match class.doubt {
            Doubt::Retry => "",
            Doubt::Bounce => "; not sent again when it may have arrived",
            Doubt::Deliver => "; taken as delivered when it may have arrived",
        };
        text.push('\n');
    }
    text
}

fn counted(users: usize) -> String {
    if users == 1 { "1 user".to_owned() } else { format!("{users} users") }
}

fn join<T: ToString>(items: &[T]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
