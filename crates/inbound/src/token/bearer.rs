//! What is said in OAUTHBEARER (RFC 7628 §3) and XOAUTH2, which came before it.

use serde_json::json;

/// Longest token taken, in octets; a line of AUTH has room for little more.
const MAX_TOKEN: usize = 8 * 1024;

/// The two forms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BearerKind {
    /// OAUTHBEARER.
    Standard,
    /// XOAUTH2.
    Older,
}

/// A token and whom the peer says it is.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Bearer {
    pub(crate) claimed: Option<String>,
    pub(crate) token: String,
}

/// Never shows the token.
impl std::fmt::Debug for Bearer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bearer").field("claimed", &self.claimed).finish_non_exhaustive()
    }
}

impl Bearer {
    /// Reads the client's message. Nothing when it is none.
    pub(crate) fn parse(kind: BearerKind, message: &[u8]) -> Option<Bearer> {
        let text = std::str::from_utf8(message).ok()?;
        let body = text.strip_suffix("\x01\x01")?;
        let (mut claimed, mut pairs) = (None, body.split('\x01'));
        if kind == BearerKind::Standard {
            claimed = authzid(pairs.next()?)?;
        }
        let mut token = None;
        for pair in pairs {
            let (key, value) = pair.split_once('=')?;
            match key {
                "user" if kind == BearerKind::Older => claimed = Some(value.to_owned()),
                "auth" if token.is_none() => token = Some(bearer(value)?),
                "auth" => return None,
                _ => {}
            }
        }
        Some(Bearer { claimed: claimed.filter(|name| !name.is_empty()), token: token? })
    }
}

/// The challenge that says why a token is refused (RFC 7628 §3.2.2).
pub(crate) fn refusal(kind: BearerKind, status: &str, scope: &str) -> Vec<u8> {
    let mut said = match kind {
        BearerKind::Standard => json!({ "status": status }),
        BearerKind::Older => json!({ "status": "401", "schemes": "bearer" }),
    };
    if let (false, Some(said)) = (scope.is_empty(), said.as_object_mut()) {
        said.insert("scope".to_owned(), scope.into());
    }
    said.to_string().into_bytes()
}

/// `gs2-header`, whose channel binding flag is not used (RFC 7628 §3.1).
fn authzid(header: &str) -> Option<Option<String>> {
    let rest = header.strip_prefix("n,").or_else(|| header.strip_prefix("y,"))?;
    let name = rest.strip_suffix(',')?;
    match name {
        "" => Some(None),
        name => {
            let name = name.strip_prefix("a=")?;
            // RFC 5802 §5.1 escapes two characters.
            (!name.contains(',')).then(|| Some(name.replace("=2C", ",").replace("=3D", "=")))
        }
    }
}

/// The token behind `Bearer` (RFC 6750 §2.1).
fn bearer(value: &str) -> Option<String> {
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim_start_matches(' ');
    let legal = |b: u8| b.is_ascii_alphanumeric() || b"-._~+/=".contains(&b);
    let good = scheme.eq_ignore_ascii_case("Bearer")
        && (1..=MAX_TOKEN).contains(&token.len())
        && token.bytes().all(legal);
    good.then(|| token.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(kind: BearerKind, message: &str) -> Option<(Option<String>, String)> {
        let bearer = Bearer::parse(kind, message.replace('^', "\x01").as_bytes())?;
        Some((bearer.claimed, bearer.token))
    }

    #[test]
    fn both_forms_are_read() {
        // RFC 7628 §4.1.
        let message = "n,a=user@example.com,^host=server.example.com^port=143^\
                       auth=Bearer vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==^^";
        let (user, token) = parsed(BearerKind::Standard, message).unwrap();
        assert_eq!(user.as_deref(), Some("user@example.com"));
        assert_eq!(token, "vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==");
        let older = parsed(BearerKind::Older, "user=u@example.com^auth=Bearer ya29.x^^").unwrap();
        assert_eq!(older, (Some("u@example.com".into()), "ya29.x".into()));
        assert_eq!(parsed(BearerKind::Standard, "n,,^auth=bearer  x^^").unwrap().0, None);
        let escaped = parsed(BearerKind::Standard, "y,a=a=2Cb=3D,^auth=Bearer x^^").unwrap();
        assert_eq!(escaped.0.as_deref(), Some("a,b="));
    }

    #[test]
    fn other_messages_are_none() {
        for bad in [
            "",
            "^",
            "^^",
            "n,,^^",
            "n,,^auth=Bearer x^",
            "n,,^auth=Basic x^^",
            "n,,^auth=Bearer ^^",
            "n,,^auth=Bearer a b^^",
            "n,,^auth=Bearer a^auth=Bearer b^^",
            "p=tls-exporter,,^auth=Bearer x^^",
            "n,a=u^auth=Bearer x^^",
            "auth=Bearer x^^",
        ] {
            assert_eq!(parsed(BearerKind::Standard, bad), None, "{bad}");
        }
    }

    #[test]
    fn why_a_token_is_refused_is_said_in_json() {
        let standard = refusal(BearerKind::Standard, "invalid_token", "mail send");
        assert_eq!(standard, br#"{"scope":"mail send","status":"invalid_token"}"#);
        let older = refusal(BearerKind::Older, "invalid_token", "");
        assert_eq!(older, br#"{"schemes":"bearer","status":"401"}"#);
    }
}
