//! The `Received` field (RFC 5321 §4.4, RFC 3848, RFC 6531 §3.7.3).

use std::net::{IpAddr, SocketAddr};

use waypost_mail::{Envelope, Facts, Protocol, Timestamp, header};
use waypost_smtp::Priority;

/// The field for a message that came in by `facts` at `now`. It names the recipient only when there
/// is one, and never the user who logged in.
pub(crate) fn received(
    hostname: &str,
    facts: &Facts,
    envelope: &Envelope,
    now: Timestamp,
) -> Vec<u8> {
    let mut value = String::new();
    if !matches!(facts.protocol, Protocol::Internal | Protocol::Local) {
        let literal = literal(facts.client);
        let helo = facts.helo.as_deref().map_or_else(|| literal.clone(), printable);
        let name = facts.client_name.as_deref().map(|name| printable(name) + " ");
        value += &format!("from {helo} ({}{literal}) ", name.unwrap_or_default());
        if let Some(tls) = &facts.tls {
            value += &format!("(using TLSv{} with cipher {}) ", tls.version, tls.cipher);
        }
    }
    value += &format!("by {hostname} (Waypost) with {} id {}", with(facts, envelope), envelope.id);
    if let [only] = envelope.recipients() {
        value += &format!(" for <{}>", only.mailbox);
    }
    // RFC 6710 §4.1, §7
    let priority = envelope.terms.priority;
    if priority != Priority::default() {
        value += &format!(" PRIORITY {priority}");
    }
    value += &format!("; {}", now.rfc5322());
    header::field("Received", &value)
}

/// The protocol keyword, from the IANA registry of mail transmission types.
fn with(facts: &Facts, envelope: &Envelope) -> String {
    let (base, utf8) = match facts.protocol {
        Protocol::Internal | Protocol::Local => return "local".to_owned(),
        Protocol::Http if facts.tls.is_some() => return "HTTPS".to_owned(),
        Protocol::Http => return "HTTP".to_owned(),
        Protocol::Smtp => return "SMTP".to_owned(),
        Protocol::Esmtp => ("ESMTP", "UTF8SMTP"),
        Protocol::Lmtp => ("LMTP", "UTF8LMTP"),
    };
    let base = if envelope.smtputf8 { utf8 } else { base };
    let tls = if facts.tls.is_some() { "S" } else { "" };
    let auth = if facts.identity.is_some() { "A" } else { "" };
    format!("{base}{tls}{auth}")
}

fn literal(client: SocketAddr) -> String {
    match client.ip() {
        IpAddr::V4(ip) => format!("[{ip}]"),
        IpAddr::V6(ip) => format!("[IPv6:{ip}]"),
    }
}

/// A HELO name as it may stand in a field: what could end a comment or begin a quoted string goes.
fn printable(helo: &str) -> String {
    helo.chars()
        .take(255)
        .map(|c| if c.is_ascii_graphic() && !"()\"\\;<>".contains(c) { c } else { '?' })
        .collect()
}

#[cfg(test)]
mod tests {
    use waypost_mail::{MessageId, Recipient, SessionId, TlsFacts};
    use waypost_smtp::ReversePath;

    use super::*;

    fn envelope(recipients: usize) -> Envelope {
        let recipient = |id| Recipient::new(id, "rcpt@example.org".parse().unwrap());
        let recipients = (0..recipients as u32).map(recipient).collect();
        Envelope::new(MessageId(1), ReversePath::Null, recipients).unwrap()
    }

    fn facts() -> Facts {
        Facts {
            client: "192.0.2.7:4000".parse().unwrap(),
            helo: Some("client(\u{7}).example".into()),
            protocol: Protocol::Esmtp,
            identity: Some("alice".into()),
            tls: Some(TlsFacts {
                version: "1.3".into(),
                cipher: "TLS13_AES_256_GCM_SHA384".into(),
                sni: None,
                certificate: None,
            }),
            ..Facts::internal(SessionId(1))
        }
    }

    #[test]
    fn says_all_but_the_user() {
        let field = String::from_utf8(received("r.example", &facts(), &envelope(1), Timestamp(0)));
        let field = field.unwrap().replace("\r\n ", " ");
        assert_eq!(
            field,
            "Received: from client???.example ([192.0.2.7]) (using TLSv1.3 with cipher \
             TLS13_AES_256_GCM_SHA384) by r.example (Waypost) with ESMTPSA id 0000000000001 \
             for <rcpt@example.org>; Thu, 1 Jan 1970 00:00:00 +0000\r\n"
        );
    }

    #[test]
    fn a_name_that_a_trusted_peer_told_is_written_down() {
        let facts = Facts { client_name: Some("mx.client.example".into()), ..facts() };
        let field = received("r.example", &facts, &envelope(1), Timestamp(0));
        let field = String::from_utf8(field).unwrap().replace("\r\n ", " ");
        assert!(field.contains("(mx.client.example [192.0.2.7])"), "{field}");
    }

    #[test]
    fn each_door_is_told_by_its_name() {
        let with = |protocol, change: fn(&mut Facts)| {
            let mut facts = Facts { protocol, ..facts() };
            change(&mut facts);
            let field = received("r.example", &facts, &envelope(1), Timestamp(0));
            String::from_utf8(field).unwrap().replace("\r\n ", " ")
        };
        let lmtp = with(Protocol::Lmtp, |facts| facts.identity = None);
        assert!(lmtp.contains(" with LMTPS id "), "{lmtp}");
        let local = with(Protocol::Local, |facts| facts.tls = None);
        assert!(local.starts_with("Received: by r.example (Waypost) with local id "), "{local}");
        let http = with(Protocol::Http, |facts| facts.helo = None);
        assert!(http.starts_with("Received: from [192.0.2.7] ([192.0.2.7]) "), "{http}");
        assert!(http.contains(" with HTTPS id "), "{http}");
    }

    #[test]
    fn urgency_is_written_down_where_it_is_not_the_usual() {
        let mut envelope = envelope(2);
        envelope.terms.priority = Priority::parse("-3").unwrap();
        let field = received("r.example", &facts(), &envelope, Timestamp(0));
        let field = String::from_utf8(field).unwrap().replace("\r\n ", " ");
        assert!(field.contains(" id 0000000000001 PRIORITY -3; Thu"), "{field}");
    }

    #[test]
    fn several_recipients_are_not_told_to_each_other() {
        let field = received("r.example", &facts(), &envelope(2), Timestamp(0));
        assert!(!String::from_utf8(field).unwrap().contains("rcpt@"));
    }
}
