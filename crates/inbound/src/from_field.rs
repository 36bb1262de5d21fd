//! Who a message says it is from (RFC 5322 §3.6.2).

use mail_parser::parsers::MessageStream;
use mail_parser::{Addr, HeaderValue};
use waypost_mail::HeaderBlock;
use waypost_smtp::Mailbox;

/// The addresses in the one From field there is. Nothing when there is none or more than one, when it
/// names nobody, or when one of the names in it goes with no address that can be read.
pub(crate) fn authors(header: &HeaderBlock) -> Option<Vec<Mailbox>> {
    let mut fields = header.views().filter(|field| field.name.eq_ignore_ascii_case("From"));
    let (field, None) = (fields.next()?, fields.next()) else { return None };
    let HeaderValue::Address(addresses) = MessageStream::new(field.value).parse_address() else {
        return None;
    };
    let mailbox = |addr: &Addr<'_>| Mailbox::parse(addr.address.as_deref()?).ok();
    let authors: Option<Vec<Mailbox>> = addresses.iter().map(mailbox).collect();
    authors.filter(|authors| !authors.is_empty())
}
