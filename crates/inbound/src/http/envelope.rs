//! Who sends to whom, as a request says it beside a message of RFC 5322: in the query
//! (`?from=a@b.example&to=c@d.example&to=…`), or in the fields `Envelope-From` and `Envelope-To`. What is
//! asked for beyond that is in the query, and for all recipients alike.

use axum::http::{HeaderMap, Uri};
use waypost_mail::AddressList;
use waypost_smtp::server::{MailFrom, Offers, RcptTo};
use waypost_smtp::{Mailbox, ReversePath};

use super::answer::Problem;
use super::wishes::{OwnWishes, Wishes};

/// An envelope as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Envelope {
    pub(super) sender: ReversePath,
    /// In the order they were named; never empty.
    pub(super) recipients: Vec<Mailbox>,
    pub(super) wishes: Wishes,
    /// What differs by recipient, in the same order; absent for those behind its end.
    pub(super) own: Vec<OwnWishes>,
}

impl Envelope {
    /// # Errors
    /// When an address is none, or there is no sender or no recipient.
    pub(super) fn of(uri: &Uri, headers: &HeaderMap) -> Result<Envelope, Problem> {
        let (mut from, mut to, wishes) = in_query(uri.query().unwrap_or_default())?;
        if from.is_none() && to.is_empty() {
            (from, to) = in_fields(headers)?;
        }
        let sender = from.ok_or_else(|| {
            Problem::wrong("the envelope has no sender: ?from=… or Envelope-From; '<>' for none")
        })?;
        Ok(Envelope { wishes, ..Envelope::new(&sender, &to)? })
    }

    /// # Errors
    /// As [`Envelope::of`].
    pub(super) fn new(sender: &str, to: &[String]) -> Result<Envelope, Problem> {
        let sender = match sender {
            "" | "<>" => ReversePath::Null,
            text => ReversePath::Mailbox(mailbox(text)?),
        };
        let recipients = to.iter().map(|text| mailbox(text)).collect::<Result<Vec<_>, _>>()?;
        if recipients.is_empty() {
            return Err(Problem::wrong("the envelope has no recipient: ?to=… or Envelope-To"));
        }
        Ok(Envelope { sender, recipients, wishes: Wishes::default(), own: Vec::new() })
    }

    /// MAIL and RCPT as they would say the same.
    ///
    /// # Errors
    /// When a wish is none, or is not granted here.
    pub(super) fn commands(&self, offers: &Offers) -> Result<(MailFrom, Vec<RcptTo>), Problem> {
        let mail = self.wishes.mail(&self.sender, offers)?;
        let own = self.own.iter().map(Some).chain(std::iter::repeat(None));
        let rcpt = |(mailbox, own): (&Mailbox, Option<&OwnWishes>)| match own {
            Some(own) => own.rcpt(mailbox, &self.wishes, offers),
            None => OwnWishes::default().rcpt(mailbox, &self.wishes, offers),
        };
        let all = self.recipients.iter().zip(own).map(rcpt).collect::<Result<_, _>>()?;
        Ok((mail, all))
    }
}

fn in_query(query: &str) -> Result<(Option<String>, Vec<String>, Wishes), Problem> {
    let (mut from, mut to, mut wishes) = (None, Vec::new(), Wishes::default());
    for (key, value) in url::form_urlencoded::parse(query.as_bytes()) {
        match key.as_ref() {
            "from" if from.is_some() => {
                return Err(Problem::bad("'from' is there twice"));
            }
            "from" => from = Some(value.into_owned()),
            "to" => to.push(value.into_owned()),
            other => wishes.read(other, &value)?,
        }
    }
    Ok((from, to, wishes))
}

fn in_fields(headers: &HeaderMap) -> Result<(Option<String>, Vec<String>), Problem> {
    let text = |value: &axum::http::HeaderValue| {
        let text = std::str::from_utf8(value.as_bytes()).map(str::to_owned);
        text.map_err(|_| Problem::bad("an Envelope field is not in UTF-8"))
    };
    let from = headers.get("envelope-from").map(text).transpose()?;
    let mut to = Vec::new();
    for value in headers.get_all("envelope-to") {
        let value = text(value)?;
        let all = AddressList::find(&value);
        to.extend(all.found.into_iter().chain(all.broken).map(|place| value[place].to_owned()));
    }
    Ok((from, to))
}

fn mailbox(text: &str) -> Result<Mailbox, Problem> {
    let bare = text.strip_prefix('<').and_then(|rest| rest.strip_suffix('>')).unwrap_or(text);
    Mailbox::parse(bare).map_err(|_| Problem::wrong(format!("'{text}' is no mail address")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(query: &str) -> Result<Envelope, Problem> {
        let uri = format!("/v1/messages?{query}").parse().unwrap();
        Envelope::of(&uri, &HeaderMap::new())
    }

    #[test]
    fn the_query_or_fields_say_who() {
        let asked = query("from=%3C%3E&to=c@d.example&notify=never&ret=full").unwrap();
        assert_eq!(asked.wishes.line(), "RET=FULL NOTIFY=NEVER");
        let envelope = query("from=a%2Bx%40b.example&to=c%40d.example&to=e@f.example").unwrap();
        assert_eq!(envelope.sender.to_string(), "a+x@b.example");
        assert_eq!(envelope.recipients.len(), 2);
        assert_eq!(query("from=%3C%3E&to=c@d.example").unwrap().sender, ReversePath::Null);
        let mut headers = HeaderMap::new();
        headers.insert("envelope-from", "a@b.example".parse().unwrap());
        headers.append("envelope-to", "c@d.example, <e@f.example>".parse().unwrap());
        headers.append("envelope-to", "g@h.example".parse().unwrap());
        let envelope = Envelope::of(&"/v1/messages".parse().unwrap(), &headers).unwrap();
        assert_eq!(envelope.recipients.len(), 3);
    }

    #[test]
    fn what_is_missing_or_wrong_is_told() {
        for (text, status) in [
            ("to=c@d.example", 422),
            ("from=a@b.example", 422),
            ("from=a&to=c@d.example", 422),
            ("from=a@b.example&to=c", 422),
            ("from=a@b.example&from=a@b.example&to=c@d.example", 400),
            ("from=a@b.example&to=c@d.example&cc=e@f.example", 400),
        ] {
            assert_eq!(query(text).unwrap_err().status.as_u16(), status, "{text}");
        }
    }
}
