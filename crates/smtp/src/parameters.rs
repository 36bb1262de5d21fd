//! The parameters of MAIL and RCPT, in two tables: who they belong to, and how their values are read.
//!
//! One that is not on offer, or not known, gets 555; one whose value is wrong, that comes twice or
//! contradicts another gets 501; a value that is legal but not served gets 504.

use crate::command::{Dialect, MailFrom, RcptTo, parse_number};
use crate::server::Offers;
use crate::terms::{
    ByMode, DeliverBy, Hold, Notify, OriginalRecipient, Priority, Return, parse_moment,
    parse_utf8_xtext, parse_xtext,
};
use crate::{BodyType, Mailbox, Reply, ReversePath};

/// Most octets of the value of `ENVID=` (RFC 3461 §4.4).
const MAX_ENVID: usize = 100;
/// Most octets of the value of `ORCPT=` (RFC 3461 §4.2).
const MAX_ORCPT: usize = 500;

/// One parameter: its keyword, whether it is on offer, and what its value makes of a command.
struct Parameter<C> {
    keyword: &'static str,
    offered: fn(&Dialect<'_>) -> bool,
    set: fn(&mut C, Option<&str>, &Offers) -> Result<(), Reply>,
}

const MAIL: [Parameter<MailFrom>; 11] = [
    Parameter {
        keyword: "SIZE",
        offered: |_| true,
        set: |mail, value, _| {
            mail.size = Some(value.and_then(parse_number).ok_or(Reply::BAD_ARGUMENTS)?);
            Ok(())
        },
    },
    Parameter {
        keyword: "BODY",
        offered: |_| true,
        set: |mail, value, offers| {
            mail.body = parse_body(value.ok_or(Reply::BAD_ARGUMENTS)?, offers)?;
            Ok(())
        },
    },
    Parameter {
        keyword: "SMTPUTF8",
        offered: |_| true,
        set: |mail, value, _| {
            mail.smtputf8 = true;
            bare(value)
        },
    },
    Parameter {
        keyword: "AUTH",
        offered: |dialect| dialect.auth,
        set: |mail, value, _| {
            let submitter = value.and_then(parse_submitter);
            mail.submitter = Some(submitter.ok_or(Reply::BAD_ARGUMENTS)?);
            Ok(())
        },
    },
    Parameter {
        keyword: "RET",
        offered: |dialect| dialect.offers.dsn,
        set: |mail, value, _| {
            let value = value.unwrap_or_default();
            let all = [Return::Full, Return::Headers];
            let named = all.into_iter().find(|one| value.eq_ignore_ascii_case(&one.to_string()));
            mail.ret = Some(named.ok_or(Reply::BAD_ARGUMENTS)?);
            Ok(())
        },
    },
    Parameter {
        keyword: "ENVID",
        offered: |dialect| dialect.offers.dsn,
        set: |mail, value, _| {
            let value = value.filter(|value| (1..=MAX_ENVID).contains(&value.len()));
            mail.envid = Some(value.and_then(parse_xtext).ok_or(Reply::BAD_ARGUMENTS)?);
            Ok(())
        },
    },
    Parameter {
        keyword: "REQUIRETLS",
        offered: |dialect| dialect.offers.require_tls && dialect.encrypted,
        set: |mail, value, _| {
            mail.require_tls = true;
            bare(value)
        },
    },
    Parameter {
        keyword: "BY",
        offered: |dialect| dialect.offers.deliver_by.is_some(),
        set: |mail, value, offers| {
            let by = value.and_then(parse_by).ok_or(Reply::BAD_ARGUMENTS)?;
            // RFC 2852 §4: nothing can come back for being late that is late already.
            let least = i64::from(offers.deliver_by.unwrap_or_default().max(1));
            if by.mode == ByMode::Return && by.seconds < least {
                return Err(Reply::DELIVER_BY_TOO_SOON);
            }
            mail.deliver_by = Some(by);
            Ok(())
        },
    },
    Parameter {
        keyword: "HOLDFOR",
        offered: |dialect| dialect.offers.future_release.is_some(),
        set: |mail, value, offers| {
            let value = value.filter(|value| value.len() <= 9);
            let seconds = value.and_then(parse_number).ok_or(Reply::BAD_ARGUMENTS)?;
            let most = offers.future_release.map_or(0, |most| most.interval);
            hold(mail, Hold::For(seconds), seconds <= most)
        },
    },
    Parameter {
        keyword: "HOLDUNTIL",
        offered: |dialect| dialect.offers.future_release.is_some(),
        set: |mail, value, offers| {
            let moment = value.and_then(parse_moment).ok_or(Reply::BAD_ARGUMENTS)?;
            let latest = offers.future_release.map_or(0, |most| most.until);
            hold(mail, Hold::Until(moment), moment <= latest)
        },
    },
    Parameter {
        keyword: "MT-PRIORITY",
        offered: |dialect| dialect.offers.mt_priority,
        set: |mail, value, _| {
            let priority = value.and_then(Priority::parse);
            mail.priority = Some(priority.ok_or(Reply::BAD_ARGUMENTS)?);
            Ok(())
        },
    },
];

const RCPT: [Parameter<RcptTo>; 2] = [
    Parameter {
        keyword: "NOTIFY",
        offered: |dialect| dialect.offers.dsn,
        set: |rcpt, value, _| {
            rcpt.notify = value.and_then(parse_notify).ok_or(Reply::BAD_ARGUMENTS)?;
            Ok(())
        },
    },
    Parameter {
        keyword: "ORCPT",
        offered: |dialect| dialect.offers.dsn,
        set: |rcpt, value, _| {
            rcpt.original = Some(value.and_then(parse_orcpt).ok_or(Reply::BAD_ARGUMENTS)?);
            Ok(())
        },
    },
];

/// Reads the parameters of MAIL into `mail`.
pub(crate) fn read_mail(
    words: &str,
    mail: &mut MailFrom,
    dialect: Dialect<'_>,
) -> Result<(), Reply> {
    read(&MAIL, words, mail, dialect)
}

/// Reads the parameters of RCPT into `rcpt`.
pub(crate) fn read_rcpt(words: &str, rcpt: &mut RcptTo, dialect: Dialect<'_>) -> Result<(), Reply> {
    read(&RCPT, words, rcpt, dialect)
}

/// The keywords of MAIL's parameters that are on offer, for HELP.
pub(crate) fn of_mail(dialect: Dialect<'_>) -> String {
    offered(&MAIL, dialect)
}

/// The keywords of RCPT's parameters that are on offer.
pub(crate) fn of_rcpt(dialect: Dialect<'_>) -> String {
    offered(&RCPT, dialect)
}

fn offered<C>(table: &[Parameter<C>], dialect: Dialect<'_>) -> String {
    let offered = table.iter().filter(|one| dialect.esmtp && (one.offered)(&dialect));
    offered.map(|one| one.keyword).collect::<Vec<_>>().join(" ")
}

fn read<C>(
    table: &[Parameter<C>],
    words: &str,
    command: &mut C,
    dialect: Dialect<'_>,
) -> Result<(), Reply> {
    let mut seen = 0u32;
    for word in words.split_ascii_whitespace() {
        let (keyword, value) = match word.split_once('=') {
            Some((keyword, value)) => (keyword, Some(value)),
            None => (word, None),
        };
        let known = table.iter().position(|one| one.keyword.eq_ignore_ascii_case(keyword));
        let offered = known.filter(|at| dialect.esmtp && (table[*at].offered)(&dialect));
        let at = offered.ok_or(Reply::UNKNOWN_PARAMETER)?;
        if seen & 1 << at != 0 {
            return Err(Reply::BAD_ARGUMENTS);
        }
        seen |= 1 << at;
        (table[at].set)(command, value, dialect.offers)?;
    }
    Ok(())
}

fn bare(value: Option<&str>) -> Result<(), Reply> {
    if value.is_none() { Ok(()) } else { Err(Reply::BAD_ARGUMENTS) }
}

/// RFC 6152 §3, RFC 3030 §3.
fn parse_body(value: &str, offers: &Offers) -> Result<BodyType, Reply> {
    let is = |name: &str| value.eq_ignore_ascii_case(name);
    if is("7BIT") {
        return Ok(BodyType::SevenBit);
    }
    if is("8BITMIME") {
        return Ok(BodyType::EightBitMime);
    }
    if is("BINARYMIME") && offers.binary_mime {
        return Ok(BodyType::BinaryMime);
    }
    Err(Reply::PARAMETER_NOT_IMPLEMENTED)
}

/// `<>` or the xtext of an address (RFC 4954 §5).
fn parse_submitter(value: &str) -> Option<ReversePath> {
    if value == "<>" {
        return Some(ReversePath::Null);
    }
    let text = parse_xtext(value).filter(|text| !text.is_empty())?;
    // A legal value that is no address says nothing that we could pass on.
    Some(Mailbox::parse(&text).map_or(ReversePath::Null, ReversePath::Mailbox))
}

/// `seconds;(N|R)[T]` (RFC 2852 §4).
fn parse_by(value: &str) -> Option<DeliverBy> {
    let (time, rest) = value.split_once(';')?;
    let (digits, sign) = match time.strip_prefix('-') {
        Some(digits) => (digits, -1),
        None => (time.strip_prefix('+').unwrap_or(time), 1),
    };
    let legal = (1..=9).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
    let seconds = sign * digits.parse::<i64>().ok().filter(|_| legal)?;
    let (mode, trace) = match rest.to_ascii_uppercase().as_str() {
        "R" => (ByMode::Return, false),
        "N" => (ByMode::Notify, false),
        "RT" => (ByMode::Return, true),
        "NT" => (ByMode::Notify, true),
        _ => return None,
    };
    Some(DeliverBy { seconds, mode, trace })
}

/// RFC 4865 §5: one of the two, within what was promised.
fn hold(mail: &mut MailFrom, hold: Hold, promised: bool) -> Result<(), Reply> {
    if mail.hold.replace(hold).is_some() {
        return Err(Reply::BAD_ARGUMENTS);
    }
    if promised { Ok(()) } else { Err(Reply::HOLD_TOO_LONG) }
}

/// `NEVER`, or a list of events (RFC 3461 §4.1).
fn parse_notify(value: &str) -> Option<Notify> {
    if value.eq_ignore_ascii_case("NEVER") {
        return Some(Notify::Never);
    }
    let (mut success, mut failure, mut delay) = (false, false, false);
    for event in value.split(',') {
        let wanted = match event.to_ascii_uppercase().as_str() {
            "SUCCESS" => &mut success,
            "FAILURE" => &mut failure,
            "DELAY" => &mut delay,
            _ => return None,
        };
        *wanted = true;
    }
    Some(Notify::Of { success, failure, delay })
}

/// `type;xtext` (RFC 3461 §4.2, RFC 6533 §3).
fn parse_orcpt(value: &str) -> Option<OriginalRecipient> {
    let (kind, address) = value.split_once(';').filter(|_| value.len() <= MAX_ORCPT)?;
    let atom = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    if kind.is_empty() || !kind.bytes().all(atom) {
        return None;
    }
    let address = match kind.eq_ignore_ascii_case("utf-8") {
        true => parse_utf8_xtext(address)?,
        false => parse_xtext(address)?,
    };
    (!address.is_empty()).then(|| OriginalRecipient { kind: kind.to_owned(), address })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{parse_mail, parse_rcpt};
    use crate::server::FutureRelease;

    const ALL: Offers = Offers {
        dsn: true,
        binary_mime: true,
        require_tls: true,
        deliver_by: Some(60),
        future_release: Some(FutureRelease { interval: 3600, until: 10_000 }),
        mt_priority: true,
        limits: false,
    };

    fn esmtp(offers: &Offers) -> Dialect<'_> {
        Dialect { esmtp: true, auth: true, lenient: false, encrypted: true, offers, origin: None }
    }

    fn mail(params: &str) -> Result<MailFrom, u16> {
        let args = format!("FROM:<a@b> {params}");
        parse_mail(&args, esmtp(&ALL)).map_err(|reply| reply.code.get())
    }

    fn rcpt(params: &str) -> Result<RcptTo, u16> {
        let args = format!("TO:<a@b> {params}");
        parse_rcpt(&args, esmtp(&ALL), false, None).map_err(|reply| reply.code.get())
    }

    #[test]
    fn values_of_mail_are_typed() {
        let from = mail(
            "ret=hdrs ENVID=QQ+2B1 REQUIRETLS BY=120;rt HOLDFOR=60 MT-PRIORITY=-3 BODY=BINARYMIME",
        )
        .unwrap();
        assert_eq!((from.ret, from.envid.as_deref()), (Some(Return::Headers), Some("QQ+1")));
        assert_eq!((from.require_tls, from.body), (true, BodyType::BinaryMime));
        let by = DeliverBy { seconds: 120, mode: ByMode::Return, trace: true };
        assert_eq!((from.deliver_by, from.hold), (Some(by), Some(Hold::For(60))));
        assert_eq!(from.priority.map(Priority::get), Some(-3));
        let until = mail("HOLDUNTIL=1970-01-01T02:00:00Z").unwrap();
        assert_eq!(until.hold, Some(Hold::Until(7200)));
        let late = mail("BY=-5;N").unwrap().deliver_by.unwrap();
        assert_eq!((late.seconds, late.mode, late.trace), (-5, ByMode::Notify, false));
    }

    #[test]
    fn auth_is_an_address_or_says_nothing() {
        let submitter = |params| mail(params).unwrap().submitter.unwrap().to_string();
        assert_eq!(submitter("AUTH=e+2Bmc2@example.org"), "e+mc2@example.org");
        assert_eq!(submitter("AUTH=<>"), "");
        assert_eq!(submitter("AUTH=somebody"), "");
    }

    #[test]
    fn each_mistake_has_its_code() {
        let long = format!("ENVID={}", "x".repeat(101));
        for (params, code) in [
            ("RET", 501),
            ("RET=SOME", 501),
            ("RET=FULL RET=FULL", 501),
            ("ENVID=", 501),
            ("ENVID=a=b", 501),
            (&long, 501),
            ("REQUIRETLS=yes", 501),
            ("BY=0;R", 501),
            ("BY=59;R", 501),
            ("BY=;N", 501),
            ("BY=1234567890;N", 501),
            ("BY=60", 501),
            ("BY=60;X", 501),
            ("HOLDFOR=3601", 501),
            ("HOLDFOR=-1", 501),
            ("HOLDUNTIL=1970-01-01T02:46:41Z", 501),
            ("HOLDUNTIL=tomorrow", 501),
            ("HOLDFOR=1 HOLDUNTIL=1970-01-01T00:00:01Z", 501),
            ("MT-PRIORITY=10", 501),
            ("MT-PRIORITY=+1", 501),
            ("BODY=OTHER", 504),
            ("NOTIFY=NEVER", 555),
            ("X=1", 555),
        ] {
            assert_eq!(mail(params).unwrap_err(), code, "{params}");
        }
        let long = format!("ORCPT=rfc822;{}", "x".repeat(500));
        for (params, code) in [
            ("NOTIFY", 501),
            ("NOTIFY=", 501),
            ("NOTIFY=NEVER,SUCCESS", 501),
            ("NOTIFY=FAILURE,", 501),
            ("ORCPT=a@b", 501),
            ("ORCPT=rfc822;", 501),
            ("ORCPT=;a@b", 501),
            ("ORCPT=rfc822;a+b", 501),
            (&long, 501),
            ("NOTIFY=DELAY NOTIFY=DELAY", 501),
            ("RET=FULL", 555),
        ] {
            assert_eq!(rcpt(params).unwrap_err(), code, "{params}");
        }
    }

    #[test]
    fn values_of_rcpt_are_typed() {
        let to = rcpt("NOTIFY=success,DELAY ORCPT=rfc822;a+2Bb@c.example").unwrap();
        assert_eq!(to.notify, Notify::Of { success: true, failure: false, delay: true });
        assert_eq!(to.original.unwrap().to_string(), "rfc822; a+b@c.example");
        assert_eq!(rcpt("notify=never").unwrap().notify, Notify::Never);
        let to = rcpt("ORCPT=utf-8;gr\\x{FC}n@c.example").unwrap();
        assert_eq!(to.original.unwrap().address, "grün@c.example");
    }

    #[test]
    fn what_is_not_on_offer_is_not_known() {
        let none = Offers::default();
        for params in [
            "RET=FULL",
            "ENVID=x",
            "REQUIRETLS",
            "BY=90;R",
            "HOLDFOR=1",
            "MT-PRIORITY=1",
            "HOLDUNTIL=1970-01-01T00:00:01Z",
        ] {
            let args = format!("FROM:<a@b> {params}");
            let refused = parse_mail(&args, esmtp(&none)).unwrap_err();
            assert_eq!(refused, Reply::UNKNOWN_PARAMETER, "{params}");
        }
        let clear = Dialect { encrypted: false, ..esmtp(&ALL) };
        let refused = parse_mail("FROM:<a@b> REQUIRETLS", clear).unwrap_err();
        assert_eq!(refused, Reply::UNKNOWN_PARAMETER);
        let refused = parse_mail("FROM:<a@b> BODY=BINARYMIME", esmtp(&none)).unwrap_err();
        assert_eq!(refused, Reply::PARAMETER_NOT_IMPLEMENTED);
    }
}
