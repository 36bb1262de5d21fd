//! The arguments of the commands a peer may send, read strictly (RFC 5321 §4.1).
//!
//! What cannot be read is answered with a reply at once; these functions know nothing of order.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::server::Offers;
use crate::terms::{DeliverBy, Hold, Notify, OriginalRecipient, Priority, Return, Submitter};
use crate::{AddressError, BodyType, Domain, Mailbox, Reply, ReversePath, parameters};

/// What `MAIL FROM` said (RFC 5321 §4.1.1.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailFrom {
    /// Where bounces go.
    pub path: ReversePath,
    /// The size in octets that was declared, which may be wrong (RFC 1870 §6.1).
    pub size: Option<u64>,
    /// What kind of body was promised.
    pub body: BodyType,
    /// Whether addresses and header fields may be internationalized (RFC 6531 §3.4).
    pub smtputf8: bool,
    /// Who first submitted it, as the peer claims (RFC 4954 §5).
    pub submitter: Option<Submitter>,
    /// How much of it a notice of failure returns (RFC 3461 §4.3).
    pub ret: Option<Return>,
    /// The sender's own name for this transaction, decoded (RFC 3461 §4.4).
    pub envid: Option<String>,
    /// It must not go on without verified TLS (RFC 8689 §2).
    pub require_tls: bool,
    /// By when it must be delivered (RFC 2852 §4).
    pub deliver_by: Option<DeliverBy>,
    /// Until when it is to be held (RFC 4865 §5).
    pub hold: Option<Hold>,
    /// How urgent it is (RFC 6710 §5).
    pub priority: Option<Priority>,
}

impl MailFrom {
    /// MAIL without parameters.
    pub fn new(path: ReversePath) -> MailFrom {
        MailFrom {
            path,
            size: None,
            body: BodyType::default(),
            smtputf8: false,
            submitter: None,
            ret: None,
            envid: None,
            require_tls: false,
            deliver_by: None,
            hold: None,
            priority: None,
        }
    }

    /// Reads parameters, such as `RET=FULL`, as MAIL on an encrypted channel has them: for doors at
    /// which nobody says MAIL.
    ///
    /// # Errors
    /// The reply that MAIL would get.
    pub fn read_parameters(&mut self, words: &str, offers: &Offers) -> Result<(), Reply> {
        parameters::read_mail(words, self, Dialect::of_no_session(offers))
    }
}

/// What `RCPT TO` said (RFC 5321 §4.1.1.3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RcptTo {
    /// The recipient. `<postmaster>` without a domain is postmaster at our own host name.
    pub mailbox: Mailbox,
    /// True for `<postmaster>` without a domain, which must be taken (RFC 5321 §4.5.1).
    pub postmaster: bool,
    /// Which notices are wanted (RFC 3461 §4.1).
    pub notify: Notify,
    /// The address that the sender first wrote to (RFC 3461 §4.2).
    pub original: Option<OriginalRecipient>,
}

impl RcptTo {
    /// RCPT without parameters.
    pub fn new(mailbox: Mailbox) -> RcptTo {
        RcptTo { mailbox, postmaster: false, notify: Notify::Unsaid, original: None }
    }

    /// As [`MailFrom::read_parameters`].
    ///
    /// # Errors
    /// The reply that RCPT would get.
    pub fn read_parameters(&mut self, words: &str, offers: &Offers) -> Result<(), Reply> {
        parameters::read_rcpt(words, self, Dialect::of_no_session(offers))
    }
}

/// What the session agreed on, as far as arguments depend on it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Dialect<'a> {
    /// Greeted with EHLO: parameters are allowed.
    pub(crate) esmtp: bool,
    /// AUTH is on offer or done: `MAIL … AUTH=` is allowed.
    pub(crate) auth: bool,
    /// A space after the colon is taken. RFC 5321 §3.3 forbids it; many submitters do it.
    pub(crate) lenient: bool,
    /// The channel is encrypted.
    pub(crate) encrypted: bool,
    /// The extensions on offer.
    pub(crate) offers: &'a Offers,
    /// Completes an address without a domain.
    pub(crate) origin: Option<&'a Domain>,
}

impl<'a> Dialect<'a> {
    /// Where everything on offer may be used, but the word of others.
    fn of_no_session(offers: &'a Offers) -> Dialect<'a> {
        Dialect { esmtp: true, auth: false, lenient: false, encrypted: true, offers, origin: None }
    }

    fn mailbox(self, path: &str) -> Option<Mailbox> {
        let path = strip_route(path)?;
        match (Mailbox::parse(path), self.origin) {
            (Err(AddressError::NoDomain), Some(origin)) => {
                Mailbox::parse(&format!("{path}@{origin}")).ok()
            }
            (whole, _) => whole.ok(),
        }
    }
}

/// Reads the name given with HELO or EHLO. Names that are wrong but harmless are the business of
/// policy; one with spaces, controls or over 255 octets is refused.
pub(crate) fn parse_name(args: &str) -> Result<String, Reply> {
    let legal = (1..=255).contains(&args.len()) && args.bytes().all(|b| b.is_ascii_graphic());
    if legal { Ok(args.to_owned()) } else { Err(Reply::BAD_ARGUMENTS) }
}

/// Reads `FROM:<path> parameters`.
pub(crate) fn parse_mail(args: &str, dialect: Dialect<'_>) -> Result<MailFrom, Reply> {
    let (path, params) = split_path(args, "FROM:", dialect.lenient, Reply::BAD_SENDER_SYNTAX)?;
    let reverse = if path.is_empty() {
        ReversePath::Null
    } else {
        ReversePath::Mailbox(dialect.mailbox(path).ok_or(Reply::BAD_SENDER_SYNTAX)?)
    };
    let mut from = MailFrom::new(reverse);
    parameters::read_mail(params, &mut from, dialect)?;
    if !path.is_ascii() && !from.smtputf8 {
        return Err(Reply::NEEDS_SMTPUTF8);
    }
    Ok(from)
}

/// Reads `TO:<path>`. `postmaster` is the mailbox that `<postmaster>` stands for.
pub(crate) fn parse_rcpt(
    args: &str,
    dialect: Dialect<'_>,
    smtputf8: bool,
    postmaster: Option<&Mailbox>,
) -> Result<RcptTo, Reply> {
    let (path, params) = split_path(args, "TO:", dialect.lenient, Reply::BAD_RECIPIENT_SYNTAX)?;
    let mut rcpt = match postmaster {
        Some(mailbox) if path.eq_ignore_ascii_case("postmaster") => {
            RcptTo { postmaster: true, ..RcptTo::new(mailbox.clone()) }
        }
        _ => RcptTo::new(dialect.mailbox(path).ok_or(Reply::BAD_RECIPIENT_SYNTAX)?),
    };
    parameters::read_rcpt(params, &mut rcpt, dialect)?;
    if !path.is_ascii() && !smtputf8 {
        return Err(Reply::RECIPIENT_NEEDS_SMTPUTF8);
    }
    Ok(rcpt)
}

/// Reads what VRFY asks about: a name or an address, in brackets or not, and the parameter SMTPUTF8
/// (RFC 5321 §4.1.1.6, RFC 6531 §3.7.4.2).
pub(crate) fn parse_vrfy(args: &str, esmtp: bool) -> Result<(), Reply> {
    let (text, smtputf8) = match args.rsplit_once(' ') {
        Some((text, word)) if word.eq_ignore_ascii_case("SMTPUTF8") => (text, true),
        _ => (args, false),
    };
    if smtputf8 && !esmtp {
        return Err(Reply::UNKNOWN_PARAMETER);
    }
    let inner = text.strip_prefix('<').and_then(|text| text.strip_suffix('>')).unwrap_or(text);
    let is_address = strip_route(inner).is_some_and(|path| Mailbox::parse(path).is_ok());
    let is_name = || Mailbox::parse(&format!("{inner}@name.invalid")).is_ok();
    match is_address || is_name() {
        true if inner.is_ascii() || smtputf8 => Ok(()),
        true => Err(Reply::RECIPIENT_NEEDS_SMTPUTF8),
        false => Err(Reply::BAD_ARGUMENTS),
    }
}

/// Reads `mechanism [initial-response]` (RFC 4954 §4); the mechanism comes in upper case.
pub(crate) fn parse_auth(args: &str) -> Result<(String, Option<Vec<u8>>), Reply> {
    let (mechanism, initial) = match args.split_once(' ') {
        Some((mechanism, initial)) => (mechanism, Some(initial)),
        None => (args, None),
    };
    let initial = match initial {
        None => None,
        Some("=") => Some(Vec::new()),
        Some("") => return Err(Reply::BAD_ARGUMENTS),
        Some(text) => Some(decode_base64(text)?),
    };
    Ok((mechanism.to_ascii_uppercase(), initial))
}

/// Reads base64 with its padding (RFC 4648 §4).
pub(crate) fn decode_base64(text: &str) -> Result<Vec<u8>, Reply> {
    STANDARD.decode(text).map_err(|_| Reply::BAD_BASE64)
}

/// Reads `size [LAST]` (RFC 3030 §2). Without a size nobody knows where the next command begins.
pub(crate) fn parse_bdat(args: &str) -> Option<(u64, bool)> {
    let mut words = args.split(' ');
    let size = parse_number(words.next()?)?;
    let last = match words.next() {
        None => false,
        Some(word) if word.eq_ignore_ascii_case("LAST") => true,
        Some(_) => return None,
    };
    words.next().is_none().then_some((size, last))
}

/// A string as RFC 5321 §4.1.2 has it: `keyword:` in any case, the path inside `<>`, parameters.
fn split_path<'a>(
    args: &'a str,
    keyword: &str,
    lenient: bool,
    refusal: Reply,
) -> Result<(&'a str, &'a str), Reply> {
    let (head, rest) = args.split_at_checked(keyword.len()).ok_or(Reply::BAD_ARGUMENTS)?;
    if !head.eq_ignore_ascii_case(keyword) {
        return Err(Reply::BAD_ARGUMENTS);
    }
    let rest = if lenient { rest.trim_start_matches(' ') } else { rest };
    let inner = rest.strip_prefix('<').ok_or(refusal.clone())?;
    let end = closing_bracket(inner).ok_or(refusal.clone())?;
    let params = &inner[end + 1..];
    if !params.is_empty() && !params.starts_with(' ') {
        return Err(refusal);
    }
    Ok((&inner[..end], params.trim()))
}

/// Where the path ends: the first `>` outside a quoted string.
fn closing_bracket(text: &str) -> Option<usize> {
    let (mut quoted, mut escaped) = (false, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'>' if !quoted => return Some(at),
            _ => {}
        }
    }
    None
}

/// Takes `@one,@two:` off the front: source routes are read and ignored (RFC 5321 §3.6.1, §4.1.1.3).
fn strip_route(path: &str) -> Option<&str> {
    if !path.starts_with('@') {
        return Some(path);
    }
    let mut rest = path;
    loop {
        let hop = rest.strip_prefix('@')?;
        let literal = if hop.starts_with('[') { hop.find(']')? } else { 0 };
        let end = literal + hop[literal..].find([',', ':'])?;
        Domain::parse(&hop[..end]).ok()?;
        rest = &hop[end + 1..];
        if hop[end..].starts_with(':') {
            return Some(rest);
        }
    }
}

/// At most 20 digits (RFC 1870 §4) that fit.
pub(crate) fn parse_number(text: &str) -> Option<u64> {
    let digits = (1..=20).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    if digits { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: Offers = Offers {
        dsn: false,
        binary_mime: false,
        require_tls: false,
        deliver_by: None,
        future_release: None,
        mt_priority: false,
        limits: false,
    };
    const ESMTP: Dialect<'_> = Dialect {
        esmtp: true,
        auth: true,
        lenient: false,
        encrypted: false,
        offers: &NONE,
        origin: None,
    };

    fn sender(args: &str) -> String {
        match parse_mail(args, ESMTP) {
            Ok(from) => from.path.to_string(),
            Err(reply) => reply.code.get().to_string(),
        }
    }

    fn recipient(args: &str) -> String {
        match parse_rcpt(args, ESMTP, false, None) {
            Ok(to) => to.mailbox.to_string(),
            Err(reply) => reply.code.get().to_string(),
        }
    }

    #[test]
    fn paths_are_read_strictly() {
        assert_eq!(sender("FROM:<a@b>"), "a@b");
        assert_eq!(sender("from:<>"), "");
        assert_eq!(sender("FROM:<\"a>b\"@c>"), "\"a>b\"@c");
        assert_eq!(sender(r#"FROM:<"a\">b"@c>"#), r#""a\">b"@c"#);
        assert_eq!(sender("FROM:<@x,@[IPv6:::1]:a@b>"), "a@b");
        for text in ["FROM: <a@b>", "FROM:a@b", "FROM:<a@b", "FROM:<a@b>SIZE=1", "FROM:<@x:>"] {
            assert_eq!(sender(text), "501", "{text}");
        }
        assert_eq!(recipient("TO:<a@b>"), "a@b");
        for text in ["TO:<>", "FROM:<a@b>", "TO:<postmaster>", "TO:<a@b> <c@d>x", "TO", ""] {
            assert!(recipient(text).starts_with('5'), "{text}");
        }
        assert_eq!(recipient("TO:<a@b> NOTIFY=NEVER"), "555");
    }

    #[test]
    fn a_space_after_the_colon_is_for_submitters() {
        let lenient = Dialect { lenient: true, ..ESMTP };
        assert!(parse_mail("FROM: <a@b>", lenient).is_ok());
        assert!(parse_rcpt("TO:  <a@b>", lenient, false, None).is_ok());
    }

    #[test]
    fn an_address_without_domain_is_completed_where_that_is_wanted() {
        let origin = Domain::parse("here.example").unwrap();
        let local = Dialect { origin: Some(&origin), ..ESMTP };
        let to = |args| parse_rcpt(args, local, false, None).map(|to| to.mailbox.to_string());
        assert_eq!(to("TO:<root>").as_deref(), Ok("root@here.example"));
        assert_eq!(to("TO:<a@b>").as_deref(), Ok("a@b"));
        assert!(to("TO:<>").is_err() && to("TO:<a b>").is_err() && to("TO:<a@>").is_err());
        let from = parse_mail("FROM:<www-data>", local).unwrap();
        assert_eq!(from.path.to_string(), "www-data@here.example");
        assert_eq!(parse_mail("FROM:<>", local).unwrap().path, ReversePath::Null);
    }

    #[test]
    fn parameters_are_known_legal_and_single() {
        let from = parse_mail("FROM:<a@b> size=12 BODY=8bitmime SMTPUTF8 AUTH=<>", ESMTP).unwrap();
        assert_eq!((from.size, from.body, from.smtputf8), (Some(12), BodyType::EightBitMime, true));
        for (params, code) in [
            ("SIZE=1 SIZE=1", "501"),
            ("SIZE", "501"),
            ("SIZE=", "501"),
            ("SIZE=-1", "501"),
            ("SIZE=99999999999999999999", "501"),
            ("BODY=7BIT BODY=7BIT", "501"),
            ("BODY=BINARYMIME", "504"),
            ("SMTPUTF8=1", "501"),
            ("SMTPUTF8 SMTPUTF8", "501"),
            ("AUTH=a+2", "501"),
            ("AUTH=", "501"),
            ("RET=FULL", "555"),
            ("=", "555"),
        ] {
            assert_eq!(sender(&format!("FROM:<a@b> {params}")), code, "{params}");
        }
        assert_eq!(sender("FROM:<a@b> AUTH=e+3Dmc2@example.org"), "a@b");
    }

    #[test]
    fn bdat_needs_a_size_that_fits() {
        assert_eq!(parse_bdat("10"), Some((10, false)));
        assert_eq!(parse_bdat("0 last"), Some((0, true)));
        for text in
            ["", "LAST", "1 LAST x", "1 FIRST", "-1", "+1", "1  LAST", "18446744073709551616"]
        {
            assert_eq!(parse_bdat(text), None, "{text}");
        }
    }
}
