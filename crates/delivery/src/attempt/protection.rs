//! How a message's own wishes about TLS change its way (RFC 8689).

use std::borrow::Cow;

use waypost_mail::{NextHop, Route, Terms, TlsLevel, Why};

/// The route with the TLS level that the message wants: verified for one that requires TLS
/// (RFC 8689 §4.2.1). One that would rather arrive in clear text sets aside what the recipient's side asks
/// for (RFC 8689 §4.3), and not what the operator wrote: anybody can put that into a message.
pub(super) fn wanted<'a>(route: &'a Route, terms: &Terms) -> Cow<'a, Route> {
    if !terms.require_tls || route.tls == TlsLevel::Verify {
        return Cow::Borrowed(route);
    }
    Cow::Owned(Route { tls: TlsLevel::Verify, ..route.clone() })
}

/// A host without verified TLS will not do for a message that requires it, today or tomorrow: the
/// sender learns at once. Unless what would vouch for it cannot be asked now.
pub(super) fn judged(why: Why, terms: &Terms, doubt: Option<&str>) -> Why {
    match why {
        Why::TlsRequired { hop, error } if terms.require_tls => match doubt {
            None => Why::RequireTls { hop, error },
            Some(doubt) => Why::TlsRequired { hop, error: format!("{error}; {doubt}") },
        },
        why => why,
    }
}

/// RFC 8689 §4.2.1: where TLS is required, the name that a certificate must carry comes from the
/// configuration or from DNS with DNSSEC, or is the address itself. Of this hop nobody vouches for it; while
/// there is doubt about that, the message waits.
pub(super) fn untrusted(hop: &NextHop, doubt: Option<&str>) -> Why {
    if let Some(doubt) = doubt {
        return Why::DnsFailed(format!(
            "the message requires TLS on all its way, and it is not known now who vouches for the mail exchangers of {hop}: {doubt}"
        ));
    }
    let error = "its mail exchangers are not secured by DNSSEC".to_owned();
    Why::RequireTls { hop: hop.to_string(), error }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_raises_what_its_way_asks_for_and_never_lowers_it() {
        use TlsLevel::{Encrypt, Never, Opportunistic, Verify};
        let strict = Terms { require_tls: true, ..Terms::default() };
        let lax = Terms { tls_optional: true, ..Terms::default() };
        let hop = NextHop::Host { host: "mx.example".into(), port: 25, implicit_tls: false };
        for tls in [Never, Opportunistic, Encrypt, Verify] {
            let route = Route::new(hop.clone(), tls);
            assert_eq!(wanted(&route, &Terms::default()).tls, tls);
            assert_eq!(wanted(&route, &lax).tls, tls);
            assert_eq!(wanted(&route, &strict).tls, Verify);
        }
    }
}
