//! What single keys cannot show: keys that do not fit together.

mod bounces;
mod policy;
pub(crate) mod provider;
mod queue;
mod verify;

use std::collections::HashMap;

use nix::unistd::{Group, User};
use waypost_inbound::ListenerKind;
use waypost_mail::{DomainPattern, TlsLevel};

use crate::file::{Auth, File, Hop, Issuer, Via};
use crate::mistake::Notes;
use crate::section::nearest;

/// Notes what does not fit together.
pub(crate) fn check(file: &File, notes: &mut Notes<'_>) {
    listeners(file, notes);
    submission(file, notes);
    http(file, notes);
    client_certificates(file, notes);
    nobody(file, notes);
    routes(file, notes);
    admin(file, notes);
    process(file, notes);
    failures(file, notes);
    oauth(file, notes);
    policy::check(file, notes);
    queue::check(&file.queue, notes);
    provider::check(&file.providers, notes);
    verify::check(file, notes);
    bounces::check(file, notes);
}

/// A signature alone proves only that the issuer made the token, for anybody.
fn oauth(file: &File, notes: &mut Notes<'_>) {
    let Some(oauth) = &file.auth.oauth else { return };
    let signed = !matches!(oauth.issuer, Issuer::Introspection { .. });
    if signed && (oauth.made_by.is_none() || oauth.audience.is_empty()) {
        let message = "'auth.oauth' takes signed tokens and does not say who made them for whom";
        let hint =
            "issuer = \"https://id.example\" and audience = [\"waypost\"], as the tokens have them";
        notes.add(&oauth.at, message, hint);
    }
}

fn failures(file: &File, notes: &mut Notes<'_>) {
    let failures = &file.auth.failures;
    let Some(max) = &failures.max_delay else { return };
    if failures.delay.is_some_and(|delay| delay > max.value) {
        notes.add(&max.at, "'auth.failures.max-delay' is shorter than 'auth.failures.delay'", "");
    }
    // RFC 5321 §4.5.3.2: a peer waits 5 minutes for most replies, and some wait less.
    if max.value > std::time::Duration::from_secs(120) {
        let hint = "more than 2m, and clients give up before they are answered";
        notes.add(&max.at, "'auth.failures.max-delay' is too long", hint);
    }
}

fn listeners(file: &File, notes: &mut Notes<'_>) {
    let mut names: HashMap<&str, ()> = HashMap::new();
    let mut places: HashMap<String, ()> = HashMap::new();
    for listener in &file.listeners {
        if names.insert(&listener.name.value, ()).is_some() {
            let message = format!("two listeners are called '{}'", listener.name.value);
            notes.add(&listener.name.at, message, "give each a name of its own");
        }
        let place = &listener.place.value;
        let any_port = place.tcp().is_some_and(|address| address.port() == 0);
        if !any_port && places.insert(place.to_string(), ()).is_some() {
            let message = format!("two listeners are at {place}");
            notes.add(&listener.place.at, message, "give each an address or port of its own");
        }
        if listener.kind == ListenerKind::Lmtp && place.tcp().is_some_and(|at| at.port() == 25) {
            let message = "LMTP is not spoken on port 25 (RFC 2033 §5)";
            notes.add(&listener.place.at, message, "port 24, or a Unix socket");
        }
    }
}

fn submission(file: &File, notes: &mut Notes<'_>) {
    for listener in file.listeners.iter().filter(|l| l.kind.wants_login()) {
        let name = &listener.name.value;
        if file.tls.certificates.is_empty() {
            notes.add(
                &listener.place.at,
                format!("listener '{name}' takes submissions, which need TLS, and there is no certificate"),
                "[[tls.certificate]] with chain = \"…/fullchain.pem\" and key = \"…/privkey.pem\"",
            );
        }
        if !file.lets_log_in() {
            notes.add(
                &listener.place.at,
                format!("listener '{name}' takes submissions, and nobody could log in"),
                "[users] with file = \"/etc/waypost/users\", then: waypost user add NAME; or [auth.oauth], \
                 [[auth.certificate]], or a plugin that is granted auth",
            );
        }
    }
}

/// A token is a password: it does not go over a network in clear text.
fn http(file: &File, notes: &mut Notes<'_>) {
    for listener in file.listeners.iter().filter(|listener| listener.kind.is_http()) {
        let (name, place) = (&listener.name.value, &listener.place);
        let address = place.value.tcp();
        if listener.kind == ListenerKind::Http
            && address.is_some_and(|address| !address.ip().is_loopback())
        {
            let message = format!("listener '{name}' would take tokens in clear text");
            let hint =
                "kind = \"https\", or a loopback address or a socket behind a proxy with TLS";
            notes.add(&place.at, message, hint);
        }
        if listener.kind == ListenerKind::Https && file.tls.certificates.is_empty() {
            let message = format!("listener '{name}' needs TLS, and there is no certificate");
            let hint =
                "[[tls.certificate]] with chain = \"…/fullchain.pem\" and key = \"…/privkey.pem\"";
            notes.add(&place.at, message, hint);
        }
        if address.is_some() && file.http.tokens.is_none() {
            let message = format!("listener '{name}' takes messages by token, and nobody has one");
            let hint = "[http] with tokens = \"/etc/waypost/tokens\", then: waypost token add NAME";
            notes.add(&place.at, message, hint);
        }
    }
}

fn client_certificates(file: &File, notes: &mut Notes<'_>) {
    let asking = file.listeners.iter().filter_map(|listener| listener.door.clients.as_ref());
    let asking: Vec<_> = asking.collect();
    if let (true, Some(clients)) = (file.tls.certificates.is_empty(), asking.first()) {
        let message = "clients can show a certificate only where there is TLS, and there is no [[tls.certificate]]";
        notes.add(&clients.at, message, "[[tls.certificate]] with chain = \"…\" and key = \"…\"");
    }
    let owned = file.auth.certificates.first().map(|owner| &owner.certificate.at);
    let owned = owned.or(file.auth.certificate_address.as_ref().filter(|a| a.value).map(|a| &a.at));
    if let (true, Some(at)) = (asking.is_empty(), owned) {
        let message = "nobody can log in by certificate: no listener asks for one";
        let hint = "client-certificates = { mode = \"ask\", ca-file = \"…\" } in a [[listener]]";
        notes.add(at, message, hint);
    }
    if let (true, Some(rule)) = (asking.is_empty(), file.admitted.first()) {
        let message = "'relay.certificates' admits nobody: no listener asks for a certificate";
        let hint = "client-certificates = { mode = \"ask\", ca-file = \"…\" } in a [[listener]]";
        notes.add(&rule.at, message, hint);
    }
}

/// A relay that nobody may use is a mistake too.
fn nobody(file: &File, notes: &mut Notes<'_>) {
    let users_can_log_in = file.lets_log_in() && !file.tls.certificates.is_empty();
    let strangers = file.networks.is_empty() && file.domains.is_empty();
    let known = file.http.tokens.is_some()
        || file.listeners.iter().any(|listener| listener.place.value.is_local());
    if strangers && file.admitted.is_empty() && !users_can_log_in && !known {
        notes.add_to_file(
            "nobody may relay: there are no networks, no recipient domains and no users",
            "[relay] with networks = [\"192.0.2.0/24\"] or domains = [\"example.org\"]",
        );
    }
}

fn routes(file: &File, notes: &mut Notes<'_>) {
    let mut covered: Vec<&DomainPattern> = Vec::new();
    for route in &file.routes {
        for domain in &route.domains {
            if let Some(wider) = covered.iter().find(|wider| covers(wider, &domain.value)) {
                let message = format!("this route for {} can never be taken", domain.value);
                let hint = format!("an earlier route for {wider} takes its mail; move this one up");
                notes.add(&domain.at, message, &hint);
            }
            covered.push(&domain.value);
        }
        if let Some(auth) = &route.auth {
            let message = match route.via {
                Via::Mx => Some("a route by MX cannot log in: its hosts are others' servers"),
                Via::Fail(_) | Via::Discard => Some("a route to nowhere has nothing to log in at"),
                Via::Hosts(_) => None,
            };
            if let Some(message) = message {
                let hint = "remove auth, or name the host with via = [{ host = \"…\" }]";
                notes.add(&auth.at, message, hint);
            }
            login(auth, route.tls, notes);
        }
        if let Via::Hosts(hops) = &route.via {
            lmtp(hops, notes);
        }
        if let Some(pool) = &route.source {
            let known: Vec<&str> =
                file.policy.sources.iter().map(|(name, _)| name.value.0.as_str()).collect();
            let name = pool.value.0.as_str();
            if !known.contains(&name) {
                let hint = nearest(&known, name)
                    .unwrap_or_else(|| format!("[policy.sources.{name}] with addresses = […]"));
                notes.add(&pool.at, format!("there is no pool of sources '{name}'"), &hint);
            }
        }
    }
}

fn lmtp(hops: &[Hop], notes: &mut Notes<'_>) {
    for hop in hops.iter().filter(|hop| hop.lmtp) {
        if hop.port == Some(25) {
            let hint = "LMTP servers usually listen on port 24";
            notes.add(&hop.at, "LMTP must not be spoken on port 25 (RFC 2033 §5)", hint);
        }
        if hop.implicit_tls {
            let hint = "remove implicit-tls; tls = \"encrypt\" asks for STARTTLS";
            notes.add(&hop.at, "LMTP has no port with TLS from the first byte", hint);
        }
    }
}

/// A password never goes out in clear text.
fn login(auth: &Auth, tls: TlsLevel, notes: &mut Notes<'_>) {
    if matches!(tls, TlsLevel::Never | TlsLevel::Opportunistic) {
        let hint = "tls = \"verify\" (or \"encrypt\", when its certificate cannot be verified)";
        notes.add(&auth.at, "a password would be sent to a host that may lack TLS", hint);
    }
}

/// True when `wide` has every domain that `narrow` has.
fn covers(wide: &DomainPattern, narrow: &DomainPattern) -> bool {
    let below = |name: &str, parent: &str| {
        name.strip_suffix(parent).is_some_and(|front| front.ends_with('.'))
    };
    match (wide, narrow) {
        (DomainPattern::Any, _) => true,
        (DomainPattern::Exactly(a), DomainPattern::Exactly(b)) => a == b,
        (DomainPattern::Below(parent), DomainPattern::Exactly(name)) => below(name, parent),
        (DomainPattern::Below(a), DomainPattern::Below(b)) => a == b || below(b, a),
        _ => false,
    }
}

fn process(file: &File, notes: &mut Notes<'_>) {
    if let Some(user) = &file.process.user
        && !matches!(User::from_name(&user.value), Ok(Some(_)))
    {
        let hint = "make it: useradd --system --shell /usr/sbin/nologin waypost";
        notes.add(&user.at, format!("there is no user '{}' on this machine", user.value), hint);
    }
    if let Some(group) = &file.process.group
        && !matches!(Group::from_name(&group.value), Ok(Some(_)))
    {
        let message = format!("there is no group '{}' on this machine", group.value);
        notes.add(&group.at, message, "make it: groupadd --system waypost");
    }
}

fn admin(file: &File, notes: &mut Notes<'_>) {
    if let Some(listen) = &file.admin.listen
        && !listen.value.ip().is_loopback()
    {
        notes.add(
            &listen.at,
            "operators' HTTP has no login and must not be reachable from other machines",
            "use a loopback address such as 127.0.0.1:9025, or the Unix socket alone",
        );
    }
}
