//! Who may log in, and send as whom then.

use std::fmt::Write as _;

use waypost_inbound::token::TokenIssuer;

use super::counted;
use crate::Reload;
use crate::units::show_span;

/// Nothing where nobody may.
pub(super) fn logins(reload: &Reload) -> String {
    let inbound = &reload.inbound;
    if inbound.tls.is_none() || !inbound.lets_log_in() {
        return String::new();
    }
    let auth = &inbound.auth;
    let mut text = "Who may log in\n".to_owned();
    let mut line = |what: String| {
        let _ = writeln!(text, "  {what}");
    };
    if !inbound.users.is_empty() {
        line(format!("{} of the users file", counted(inbound.users.len())));
    }
    if auth.policy {
        line("whom a plugin lets in by name and password".to_owned());
    }
    if let Some(tokens) = &auth.tokens {
        line(match &tokens.issuer {
            TokenIssuer::Introspection { url, .. } => format!("whose token {url} knows"),
            TokenIssuer::Keys { .. } => "whose token is signed by a key of a file".to_owned(),
            TokenIssuer::PublishedKeys { url, .. } => {
                format!("whose token is signed by a key published at {url}")
            }
        });
    }
    if !auth.certificates.is_empty() {
        line("whose client certificate is somebody's".to_owned());
    }
    let senders = &auth.senders;
    line(match senders.free {
        true => "they may send as anybody".to_owned(),
        false => "they send as their own address and as what they were given".to_owned(),
    });
    if senders.from_field && !senders.free {
        line("the From field is held to that too".to_owned());
    }
    let failures = &auth.failures;
    line(match failures.ban_after {
        0 => "failed logins shut nobody out".to_owned(),
        count => format!(
            "{count} failed logins within {} shut an address out for {}",
            show_span(failures.window),
            show_span(failures.ban)
        ),
    });
    text
}
