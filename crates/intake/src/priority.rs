//! How urgent a message is by its field MT-Priority, which carries that through hosts that do not know
//! the extension (RFC 6758).

use waypost_smtp::Priority;

use crate::content::Content;

const FIELD: &str = "MT-Priority";

/// Takes all such fields away: whoever gets the message next would believe them, and is told by us
/// (RFC 6758 §3.3). What there was to read, if it was one field and legal.
pub(crate) fn take(content: &mut Content) -> Option<Priority> {
    let header = &content.text.header;
    let said = match header.count_named(FIELD) {
        0 => return None,
        1 => header.first(FIELD).and_then(|value| parse(&value)),
        _ => None,
    };
    content.edit(|block| block.without(FIELD));
    said
}

/// The value in its comments (RFC 6758 §4).
fn parse(value: &str) -> Option<Priority> {
    let (mut depth, mut escaped) = (0usize, false);
    let mut words = String::new();
    for character in value.chars() {
        match character {
            _ if escaped => escaped = false,
            '\\' if depth > 0 => escaped = true,
            '(' => depth += 1,
            ')' => depth = depth.checked_sub(1)?,
            _ if depth == 0 => words.push(character),
            _ => {}
        }
    }
    Priority::parse(words.trim()).filter(|_| depth == 0)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use waypost_mail::Body;

    use super::*;

    async fn taken(text: &'static str) -> (Option<i8>, String) {
        let body = Body::Memory(Bytes::from_static(text.as_bytes()));
        let mut content = Content::read(body).await.unwrap();
        let said = take(&mut content).map(Priority::get);
        (said, String::from_utf8(content.text.header.as_bytes().to_vec()).unwrap())
    }

    #[tokio::test]
    async fn the_field_is_read_and_goes() {
        let (said, header) = taken("From: a@b\r\nMT-Priority: -3\r\nTo: c@d\r\n\r\n").await;
        assert_eq!((said, header.as_str()), (Some(-3), "From: a@b\r\nTo: c@d\r\n"));
        for (text, wanted) in [
            ("mt-priority:  4 (ultra)\r\n\r\n", Some(4)),
            ("MT-Priority: (a (nested \\) one))\r\n 0\r\n\r\n", Some(0)),
            ("MT-Priority: 10\r\n\r\n", None),
            ("MT-Priority: +1\r\n\r\n", None),
            ("MT-Priority: 4 (open\r\n\r\n", None),
            ("MT-Priority: 4)\r\n\r\n", None),
            ("MT-Priority: 4\r\nMT-Priority: 4\r\n\r\n", None),
        ] {
            assert_eq!(taken(text).await, (wanted, String::new()), "{text}");
        }
        let other = "X-Priority: 1\r\nImportance: high\r\n";
        let (said, header) = taken("X-Priority: 1\r\nImportance: high\r\n\r\n").await;
        assert_eq!(
            (said, header.as_str()),
            (None, other),
            "RFC 6758 §3.1: they mean something else"
        );
    }
}
