//! A report for people.

use std::fmt::Write as _;

use super::{Report, Shown, Version};
use crate::table::plain;

/// The whole report, line by line. Nothing that a server says steers the terminal.
pub(super) fn describe(report: &Report) -> String {
    let mut text = String::new();
    let how = if report.implicit_tls { ", TLS from the first byte" } else { "" };
    line(&mut text, "server", &format!("{} at {}{how}", report.server, report.address));
    line(&mut text, "banner", report.banner.as_deref().unwrap_or("none"));
    if !report.implicit_tls {
        line(&mut text, "before TLS", &report.extensions_before.join(", "));
    }
    if let Some(tls) = &report.tls {
        let group = tls.key_exchange.as_deref().unwrap_or("unknown key exchange");
        line(&mut text, "TLS", &format!("{}, {}, {group}", tls.version, tls.cipher));
        line(&mut text, "behind TLS", &report.extensions_after.join(", "));
        line(&mut text, "client", &asked(tls.client_certificate.as_deref()));
    }
    for version in &report.versions {
        line(&mut text, &format!("TLS {}", version.version), &tried(version));
    }
    for (place, shown) in report.chain.iter().enumerate() {
        certificate(&mut text, place + 1, shown);
    }
    if report.tls.is_some() {
        let verdict = match &report.why_not {
            None => format!("the certificate proves {}", report.name),
            Some(why) => format!("the certificate does not prove {}: {why}", report.name),
        };
        line(&mut text, "verdict", &verdict);
    }
    if let Some(trouble) = &report.trouble {
        line(&mut text, "trouble", trouble);
    }
    text
}

fn line(text: &mut String, what: &str, value: &str) {
    let _ = writeln!(text, "{what:<12} {}", plain(value));
}

fn asked(authorities: Option<&[String]>) -> String {
    match authorities {
        None => "is not asked for a certificate".to_owned(),
        Some([]) => "is asked for a certificate".to_owned(),
        Some(names) => format!("is asked for a certificate of {}", names.join("; ")),
    }
}

fn tried(version: &Version) -> String {
    if !version.spoken {
        return format!(
            "is not spoken: {}",
            version.why_not.as_deref().unwrap_or("no reason given")
        );
    }
    let cipher = version.cipher.as_deref().unwrap_or("unknown");
    let mut text = format!("is spoken: {cipher}");
    if let Some(group) = &version.key_exchange {
        text += &format!(", {group}");
    }
    text += match version.resumed {
        Some(true) => "; sessions are resumed",
        Some(false) => "; sessions are not resumed",
        None => "; the second connection failed",
    };
    text += match version.exporter {
        Some(false) => "; no extended master secret, so keys are not exported",
        _ => "; keys can be exported",
    };
    text
}

fn certificate(text: &mut String, number: usize, shown: &Shown) {
    if let Some(fault) = &shown.fault {
        return line(text, &format!("cert {number}"), &format!("cannot be read: {fault}"));
    }
    line(text, &format!("cert {number}"), &shown.subject);
    line(text, "  issuer", &shown.issuer);
    if !shown.names.is_empty() {
        line(text, "  names", &shown.names.join(", "));
    }
    line(text, "  valid", &format!("{} to {}", shown.not_before, shown.not_after));
    line(text, "  key", &format!("{}, signed with {}", shown.key, shown.signature));
    line(text, "  sha256", &shown.fingerprint);
}
