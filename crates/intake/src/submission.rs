//! What a submission server completes and takes away (RFC 6409 §8).

use waypost_mail::{IdSource, Timestamp, addresses, header};
use waypost_smtp::Domain;

use crate::content::Content;

/// Adds Date and Message-ID where they are missing, removes Bcc and Return-Path.
pub(crate) fn complete(content: &mut Content, hostname: &str, now: Timestamp, ids: &IdSource) {
    // RFC 5322 §3.6.3: blind copies are told to nobody.
    for secret in ["Bcc", "Resent-Bcc", "Return-Path"] {
        content.edit(|block| block.without(secret));
    }
    let mut missing = Vec::new();
    if content.text.header.count_named("Date") == 0 {
        missing.extend(header::field("Date", &now.rfc5322()));
    }
    if content.text.header.count_named("Message-ID") == 0 {
        missing.extend(header::field("Message-ID", &format!("<{}@{hostname}>", ids.message())));
    }
    if !missing.is_empty() {
        content.put_on_top(&missing);
    }
}

/// Gives a domain to addresses in fields that have none, as programs on this machine write them
/// (RFC 6409 §8.2).
pub(crate) fn qualify(content: &mut Content, origin: &Domain) {
    const FIELDS: [&str; 9] = [
        "From",
        "Sender",
        "Reply-To",
        "To",
        "Cc",
        "Resent-From",
        "Resent-Sender",
        "Resent-To",
        "Resent-Cc",
    ];
    let origin = origin.to_string();
    let changed: Vec<(u32, Vec<u8>)> = content
        .text
        .header
        .views()
        .filter(|field| FIELDS.iter().any(|name| name.eq_ignore_ascii_case(field.name)))
        .filter_map(|field| {
            let whole = addresses::complete(&field.unfolded(), &origin)?;
            Some((field.id, header::field(field.name, &whole)))
        })
        .collect();
    for (id, field) in changed {
        content.edit(|block| block.with_changed(id, &field));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use waypost_mail::{Body, ManualClock};

    use super::*;

    async fn completed(text: &'static str) -> String {
        let mut content =
            Content::read(Body::Memory(Bytes::from_static(text.as_bytes()))).await.unwrap();
        let ids = IdSource::above(0, Arc::new(ManualClock::at(Timestamp(0))));
        complete(&mut content, "relay.example", Timestamp(0), &ids);
        String::from_utf8(content.text.header.as_bytes().to_vec()).unwrap()
    }

    #[tokio::test]
    async fn what_is_missing_is_added_and_secrets_go() {
        let header =
            completed("Bcc: a@b.example,\r\n c@d.example\r\nReturn-Path: <x@y>\r\nTo: t\r\n\r\n")
                .await;
        assert!(!header.contains("c@d.example") && !header.contains("Return-Path"), "{header}");
        assert!(header.contains("Date: Thu, 1 Jan 1970 00:00:00 +0000\r\n"), "{header}");
        assert!(header.contains("Message-ID: <") && header.contains("@relay.example>\r\n"));
        assert!(header.ends_with("To: t\r\n"));
    }

    #[tokio::test]
    async fn addresses_get_their_domain() {
        let text = "From: root (Cron Daemon)\r\nTo: a@b.example,\r\n root\r\nSubject: root\r\n\r\n";
        let body = Body::Memory(Bytes::from_static(text.as_bytes()));
        let mut content = Content::read(body).await.unwrap();
        qualify(&mut content, &Domain::parse("here.example").unwrap());
        let header = String::from_utf8(content.text.header.as_bytes().to_vec()).unwrap();
        let wanted = "From: root@here.example (Cron Daemon)\r\nTo: a@b.example, root@here.example\r\n\
                      Subject: root\r\n";
        assert_eq!(header, wanted);
    }

    #[tokio::test]
    async fn what_is_there_stays() {
        let whole = "Date: x\r\nMessage-ID: <y@z>\r\n";
        assert_eq!(completed("Date: x\r\nMessage-ID: <y@z>\r\n\r\n").await, whole);
    }
}
