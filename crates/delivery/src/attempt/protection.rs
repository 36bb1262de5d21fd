//! How a message's own wishes about TLS change its way (RFC 8689).

use std::borrow::Cow;

use waypost_mail::{NextHop, Route, Terms, TlsLevel, Why};

/// The route with the TLS level that the message wants: verified for one that requires TLS, less for
/// one that would rather arrive in clear text than not at all. A login is never sent in clear text.
pub(super) fn wanted<'a>(route: &'a Route, terms: &Terms) -> Cow<'a, Route> {
    let level = match route.tls {
        // RFC 8689 §4.2.1
        _ if terms.require_tls => TlsLevel::Verify,
        // RFC 8689 §4.3: what the recipient's side asks for is set aside, not what we offer.
        TlsLevel::Encrypt | TlsLevel::Verify
            if terms.tls_optional && route.credentials.is_none() =>
        {
            TlsLevel::Opportunistic
        }
        level => level,
    };
    if level == route.tls {
        return Cow::Borrowed(route);
    }
    Cow::Owned(Route { tls: level, ..route.clone() })
}

/// A host without verified TLS will not do for a message that requires it, today or tomorrow: the
/// sender learns at once.
pub(super) fn judged(why: Why, terms: &Terms) -> Why {
    match why {
        Why::TlsRequired { hop, error } if terms.require_tls => Why::RequireTls { hop, error },
        why => why,
    }
}

/// RFC 8689 §4.2.1: where TLS is required, the name that a certificate must carry comes from the
/// configuration or from DNS with DNSSEC, or is the address itself. Of this hop nobody vouches for it.
pub(super) fn untrusted(hop: &NextHop) -> Why {
    let error = "its mail exchangers are not secured by DNSSEC".to_owned();
    Why::RequireTls { hop: hop.to_string(), error }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn level(tls: TlsLevel, credentials: bool, terms: &Terms) -> TlsLevel {
        let hop = NextHop::Host { host: "mx.example".into(), port: 25, implicit_tls: false };
        let credentials = credentials.then(|| "login".to_owned());
        wanted(&Route { credentials, ..Route::new(hop, tls) }, terms).tls
    }

    #[test]
    fn a_message_raises_or_lowers_what_its_way_asks_for() {
        use TlsLevel::{Encrypt, Never, Opportunistic, Verify};
        let plain = Terms::default();
        let strict = Terms { require_tls: true, ..Terms::default() };
        let lax = Terms { tls_optional: true, ..Terms::default() };
        for tls in [Never, Opportunistic, Encrypt, Verify] {
            assert_eq!(level(tls, false, &plain), tls);
            assert_eq!(level(tls, false, &strict), Verify);
        }
        assert_eq!(
            [Never, Encrypt, Verify].map(|tls| level(tls, false, &lax)),
            [Never, Opportunistic, Opportunistic]
        );
        assert_eq!(level(Verify, true, &lax), Verify, "a login stays protected");
    }
}
