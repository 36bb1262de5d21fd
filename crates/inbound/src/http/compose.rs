//! A message in JSON, made into one of RFC 5322.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mail_builder::MessageBuilder;
use mail_builder::headers::address::Address;
use mail_builder::headers::content_type::ContentType;
use mail_builder::headers::date::Date;
use mail_builder::headers::raw::Raw;
use mail_builder::headers::text::Text;
use mail_builder::mime::MimePart;
use serde::Deserialize;
use waypost_mail::{AddressList, Timestamp};

use super::answer::Problem;
use super::envelope::Envelope;
use super::wishes::{DeliverBy, Notify, OwnWishes, Ret, Wishes};

/// Fields that are made from others, or are not a submitter's to write.
const RESERVED: [&str; 14] = [
    "from",
    "to",
    "cc",
    "bcc",
    "reply-to",
    "subject",
    "mime-version",
    "received",
    "return-path",
    "sender",
    "resent-bcc",
    "dkim-signature",
    "authentication-results",
    "delivered-to",
];
/// Most of a message's own fields.
const MAX_FIELDS: usize = 100;
/// Most parts and attachments.
const MAX_PARTS: usize = 100;

/// The whole of a request.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Letter {
    from: Party,
    /// The envelope sender, where bounces go; that of `from` unless told, empty for none.
    sender: Option<String>,
    #[serde(default)]
    to: Many,
    #[serde(default)]
    cc: Many,
    #[serde(default)]
    bcc: Many,
    #[serde(default)]
    reply_to: Many,
    #[serde(default)]
    subject: String,
    text: Option<String>,
    html: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// Further forms of the same text, such as `text/calendar`.
    #[serde(default)]
    parts: Vec<Part>,
    #[serde(default)]
    attachments: Vec<Attachment>,
    // What is asked for beyond that, see `Wishes`.
    ret: Option<Ret>,
    envid: Option<String>,
    #[serde(default)]
    require_tls: bool,
    priority: Option<i8>,
    hold_for: Option<u64>,
    hold_until: Option<String>,
    deliver_by: Option<DeliverBy>,
    notify: Option<Notify>,
}

/// `"a@b.example"`, `"Name <a@b.example>"`, or both apart.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum Party {
    Text(String),
    Apart(Apart),
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Apart {
    email: String,
    name: Option<String>,
    /// Of recipients alone.
    notify: Option<Notify>,
    /// Of recipients alone.
    orcpt: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(untagged)]
enum Many {
    #[default]
    None,
    One(Party),
    Several(Vec<Party>),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Part {
    content_type: String,
    /// Text, in UTF-8.
    content: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Attachment {
    filename: String,
    content_type: Option<String>,
    /// In base64.
    content: String,
    /// What HTML shows it by, as `cid:…`.
    content_id: Option<String>,
}

/// What a message made here is told of its moment.
#[derive(Debug, Clone)]
pub(super) struct Moment {
    pub(super) now: Timestamp,
    /// For a message that has none: what stands in Message-ID, without its brackets.
    pub(super) message_id: String,
}

impl Letter {
    /// # Errors
    /// When it is no JSON, or not what is known here: 400 or 422.
    pub(super) fn parse(json: &[u8]) -> Result<Letter, Problem> {
        serde_json::from_slice(json).map_err(|error| match error.classify() {
            serde_json::error::Category::Data => {
                Problem::wrong(format!("this is no message: {error}"))
            }
            _ => Problem::new(
                axum::http::StatusCode::BAD_REQUEST,
                format!("this is no JSON: {error}"),
            ),
        })
    }

    /// Its envelope and its octets.
    ///
    /// # Errors
    /// When an address, a field or a part cannot be used.
    pub(super) fn compose(self, moment: &Moment) -> Result<(Envelope, Vec<u8>), Problem> {
        let wishes = self.wishes();
        let from = self.from.apart()?.no_recipient()?;
        let [to, cc, bcc, reply_to] = [self.to, self.cc, self.bcc, self.reply_to].map(Many::apart);
        let (to, cc, bcc, reply_to) = (to?, cc?, bcc?, reply_to?);
        let named = to.iter().chain(&cc).chain(&bcc);
        let (named, own): (Vec<String>, Vec<OwnWishes>) = named.map(Apart::named).unzip();
        let sender = self.sender.unwrap_or_else(|| from.email.clone());
        let envelope = Envelope { wishes, own, ..Envelope::new(&sender, &named)? };
        for party in &reply_to {
            party.clone().no_recipient()?;
        }
        let mut builder = MessageBuilder::new().from(from.address());
        for (name, parties) in [("To", to), ("Cc", cc), ("Reply-To", reply_to)] {
            if !parties.is_empty() {
                let all = Address::new_list(parties.iter().map(Apart::address).collect());
                builder = builder.header(name, all);
            }
        }
        builder = builder.subject(plain(self.subject, "subject")?);
        builder = fields(builder, self.headers, moment)?;
        let forms = forms(self.text, self.html, self.parts)?;
        let message = builder.body(whole(forms, self.attachments)?).write_to_vec();
        // Writing to memory does not fail.
        message
            .map(|message| (envelope, message))
            .map_err(|error| Problem::wrong(error.to_string()))
    }

    fn wishes(&self) -> Wishes {
        Wishes {
            ret: self.ret,
            envid: self.envid.clone(),
            require_tls: self.require_tls,
            priority: self.priority,
            hold_for: self.hold_for,
            hold_until: self.hold_until.clone(),
            deliver_by: self.deliver_by,
            notify: self.notify.clone(),
        }
    }
}

/// Those of the submitter; Date and Message-ID are made where they are missing.
fn fields<'x>(
    mut builder: MessageBuilder<'x>,
    given: BTreeMap<String, String>,
    moment: &Moment,
) -> Result<MessageBuilder<'x>, Problem> {
    if given.len() > MAX_FIELDS {
        return Err(Problem::wrong(format!("'headers' has more than {MAX_FIELDS} fields")));
    }
    let has = |name: &str| given.keys().any(|key| key.eq_ignore_ascii_case(name));
    if !has("Date") {
        let seconds = i64::try_from(moment.now.0 / 1000).unwrap_or_default();
        builder = builder.date(Date::new(seconds));
    }
    if !has("Message-ID") {
        builder = builder.message_id(moment.message_id.clone());
    }
    for (name, value) in given {
        let low = name.to_ascii_lowercase();
        let legal = (1..=100).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_graphic() && b != b':');
        if !legal || RESERVED.contains(&low.as_str()) || low.starts_with("content-") {
            return Err(Problem::wrong(format!("'headers' cannot have a field '{name}'")));
        }
        let value = plain(value, "headers")?;
        builder = match low.as_str() {
            // Structured: as they are.
            "date" => builder.header("Date", Raw::new(value)),
            "message-id" => builder.header("Message-ID", Raw::new(value)),
            _ if value.is_ascii() => builder.header(name, Raw::new(value)),
            _ => builder.header(name, Text::new(value)),
        };
    }
    Ok(builder)
}

/// The forms of the text, plainest first (RFC 2046 §5.1.4).
fn forms(
    text: Option<String>,
    html: Option<String>,
    parts: Vec<Part>,
) -> Result<Vec<MimePart<'static>>, Problem> {
    if parts.len() > MAX_PARTS {
        return Err(Problem::wrong(format!("there are more than {MAX_PARTS} parts")));
    }
    let mut forms = Vec::new();
    forms.extend(text.map(|text| MimePart::new("text/plain", text)));
    forms.extend(html.map(|html| MimePart::new("text/html", html)));
    for part in parts {
        let kind = media_type(&part.content_type)?;
        if !kind.is_text() {
            let detail =
                format!("a part cannot be '{}': attach what is no text", part.content_type);
            return Err(Problem::wrong(detail));
        }
        let kind = match kind.attributes.iter().any(|(name, _)| name == "charset") {
            true => kind,
            false => kind.attribute("charset", "utf-8"),
        };
        forms.push(MimePart::new(kind, part.content));
    }
    if forms.is_empty() {
        forms.push(MimePart::new("text/plain", String::new()));
    }
    Ok(forms)
}

/// One body: what HTML shows beside its forms, attachments behind them (RFC 2387, RFC 2046 §5.1.3).
fn whole(
    mut forms: Vec<MimePart<'static>>,
    attachments: Vec<Attachment>,
) -> Result<MimePart<'static>, Problem> {
    if attachments.len() > MAX_PARTS {
        return Err(Problem::wrong(format!("there are more than {MAX_PARTS} attachments")));
    }
    let text = match forms.len() {
        1 => forms.remove(0),
        _ => MimePart::new("multipart/alternative", forms),
    };
    let (mut shown, mut attached) = (vec![text], Vec::new());
    for attachment in attachments {
        let is_shown = attachment.content_id.is_some();
        let part = attachment.part()?;
        if is_shown { shown.push(part) } else { attached.push(part) }
    }
    let text = match shown.len() {
        1 => shown.remove(0),
        _ => MimePart::new("multipart/related", shown),
    };
    if attached.is_empty() {
        return Ok(text);
    }
    attached.insert(0, text);
    Ok(MimePart::new("multipart/mixed", attached))
}

impl Attachment {
    fn part(self) -> Result<MimePart<'static>, Problem> {
        let kind = media_type(self.content_type.as_deref().unwrap_or("application/octet-stream"))?;
        let filename = plain(self.filename, "filename")?;
        let content: String = self.content.chars().filter(|c| !c.is_ascii_whitespace()).collect();
        let content = STANDARD.decode(content).map_err(|_| {
            Problem::wrong(format!("the content of attachment '{filename}' is no base64"))
        })?;
        let part = MimePart::new(kind, content);
        match self.content_id {
            None => Ok(part.attachment(filename)),
            Some(id) => {
                let id = plain(id, "content_id")?;
                let shown = ContentType::new("inline").attribute("filename", filename);
                Ok(part.header("Content-Disposition", shown).cid(id))
            }
        }
    }
}

/// `type/subtype; name=value`.
fn media_type(text: &str) -> Result<ContentType<'static>, Problem> {
    let wrong = || Problem::wrong(format!("'{text}' is no media type"));
    let token = |text: &str| {
        !text.is_empty()
            && text.bytes().all(|b| b.is_ascii_graphic() && !b"()<>@,;:\\\"/[]?=".contains(&b))
    };
    let mut words = text.split(';').map(str::trim);
    let essence = words.next().unwrap_or_default();
    let (kind, subkind) = essence.split_once('/').ok_or_else(wrong)?;
    if !token(kind) || !token(subkind) || kind.eq_ignore_ascii_case("multipart") {
        return Err(wrong());
    }
    let mut whole = ContentType::new(essence.to_ascii_lowercase());
    for word in words {
        let (name, value) = word.split_once('=').ok_or_else(wrong)?;
        let value = value.strip_prefix('"').and_then(|v| v.strip_suffix('"')).unwrap_or(value);
        if !token(name) || value.chars().any(|c| c.is_control() || c == '"') {
            return Err(wrong());
        }
        whole = whole.attribute(name.to_ascii_lowercase(), value.to_owned());
    }
    Ok(whole)
}

impl Party {
    fn apart(self) -> Result<Apart, Problem> {
        let apart = match self {
            Party::Apart(apart) => apart,
            Party::Text(text) => {
                let places = AddressList::find(&text);
                let ([place], []) = (places.found.as_slice(), places.broken.as_slice()) else {
                    return Err(Problem::wrong(format!("'{text}' is not one mail address")));
                };
                let email = text[place.clone()].to_owned();
                let name = text[..place.start].trim().trim_end_matches('<').trim();
                let name = name.trim_matches('"').replace("\\\"", "\"").replace("\\\\", "\\");
                Apart { email, name: (!name.is_empty()).then_some(name), notify: None, orcpt: None }
            }
        };
        let Apart { email, name, notify, orcpt } = apart;
        let name = name.map(|name| plain(name, "name")).transpose()?;
        Ok(Apart { email: plain(email, "email")?, name, notify, orcpt })
    }
}

impl Apart {
    /// The address and what is asked for about it.
    fn named(&self) -> (String, OwnWishes) {
        let (notify, orcpt) = (self.notify.clone(), self.orcpt.clone());
        (self.email.clone(), OwnWishes { notify, orcpt })
    }

    fn no_recipient(self) -> Result<Apart, Problem> {
        match (&self.notify, &self.orcpt) {
            (None, None) => Ok(self),
            _ => Err(Problem::wrong("'notify' and 'orcpt' are for recipients")),
        }
    }

    fn address(&self) -> Address<'static> {
        Address::new_address(self.name.clone(), self.email.clone())
    }
}

impl Many {
    fn apart(self) -> Result<Vec<Apart>, Problem> {
        match self {
            Many::None => Ok(Vec::new()),
            Many::One(party) => Ok(vec![party.apart()?]),
            Many::Several(all) => all.into_iter().map(Party::apart).collect(),
        }
    }
}

/// What stands in a field says nothing beyond it.
fn plain(text: String, what: &str) -> Result<String, Problem> {
    match text.chars().any(char::is_control) {
        true => Err(Problem::wrong(format!("'{what}' has a control character in it"))),
        false => Ok(text),
    }
}

#[cfg(test)]
mod tests {
    use mail_parser::{MessageParser, MimeHeaders as _};
    use serde_json::json;

    use super::*;

    fn composed(value: serde_json::Value) -> Result<(Envelope, String), Problem> {
        let moment = Moment { now: Timestamp(0), message_id: "1@here.example".to_owned() };
        let (envelope, message) = Letter::parse(value.to_string().as_bytes())?.compose(&moment)?;
        Ok((envelope, String::from_utf8(message).unwrap()))
    }

    #[test]
    fn a_small_message_is_small() {
        let (envelope, text) = composed(json!({
            "from": "Anna B. <a@b.example>", "to": "c@d.example", "subject": "Grüße", "text": "Hello\n"
        }))
        .unwrap();
        assert_eq!(envelope.sender.to_string(), "a@b.example");
        let message = MessageParser::new().parse(&text).unwrap();
        assert_eq!(message.subject(), Some("Grüße"));
        assert_eq!(message.from().unwrap().first().unwrap().name(), Some("Anna B."));
        assert_eq!(message.message_id(), Some("1@here.example"));
        assert_eq!(message.body_text(0).unwrap().trim(), "Hello");
        assert!(
            text.contains("Date: Thu, 1 Jan 1970 00:00:00 +0000\r\n") && text.is_ascii(),
            "{text}"
        );
    }

    #[test]
    fn a_large_one_has_all_its_parts() {
        let (envelope, text) = composed(json!({
            "from": {"email": "a@b.example", "name": "A"}, "sender": "",
            "to": ["c@d.example", {"email": "e@f.example"}], "cc": "g@h.example",
            "bcc": ["secret@i.example"], "reply_to": "r@b.example", "subject": "s",
            "text": "plain", "html": "<img src=cid:logo>",
            "headers": {"X-Order": "4711", "In-Reply-To": "<x@y.example>", "X-Wide": "ä"},
            "parts": [{"content_type": "text/calendar; method=REQUEST", "content": "BEGIN:VCALENDAR"}],
            "attachments": [
                {"filename": "l.png", "content_type": "image/png", "content": "AAEC", "content_id": "logo"},
                {"filename": "ä.pdf", "content": "JVBE\nRg=="}
            ]
        }))
        .unwrap();
        assert_eq!(envelope.sender.to_string(), "");
        let to: Vec<_> = envelope.recipients.iter().map(ToString::to_string).collect();
        assert_eq!(to, ["c@d.example", "e@f.example", "g@h.example", "secret@i.example"]);
        assert!(!text.contains("secret"), "{text}");
        let message = MessageParser::new().parse(&text).unwrap();
        assert!(message.attachment_count() >= 2, "{text}");
        let names: Vec<_> =
            message.attachments().filter_map(|part| part.attachment_name()).collect();
        assert!(names.contains(&"ä.pdf") && names.contains(&"l.png"), "{names:?}");
        for wanted in [
            "X-Order: 4711\r\n",
            "In-Reply-To: <x@y.example>\r\n",
            "Content-ID: <logo>\r\n",
            "multipart/mixed",
            "multipart/related",
            "multipart/alternative",
            "method=\"REQUEST\"",
        ] {
            assert!(text.contains(wanted), "{wanted}: {text}");
        }
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let with = |key: &str, value: serde_json::Value| {
            let mut letter = json!({"from": "a@b.example", "to": "c@d.example", "text": "x"});
            letter[key] = value;
            composed(letter).map(|_| ()).map_err(|problem| problem.status.as_u16())
        };
        assert_eq!(with("text", json!("y")), Ok(()));
        for (key, value) in [
            ("to", json!([])),
            ("to", json!("a@b.example, c@d.example")),
            ("from", json!("nobody")),
            ("sender", json!("x")),
            ("subject", json!("a\r\nBcc: victim@x.example")),
            ("from", json!({"email": "a@b.example", "name": "x\ny"})),
            ("headers", json!({"Bcc": "x@y.example"})),
            ("headers", json!({"Content-Type": "text/html"})),
            ("headers", json!({"X:y": "z"})),
            ("headers", json!({"X-A": "b\r\nc"})),
            ("parts", json!([{"content_type": "image/png", "content": ""}])),
            ("parts", json!([{"content_type": "multipart/mixed", "content": ""}])),
            ("attachments", json!([{"filename": "a", "content": "!"}])),
            ("attachments", json!([{"filename": "a\n", "content": ""}])),
            ("wishes", json!(1)),
        ] {
            assert_eq!(with(key, value.clone()), Err(422), "{key}: {value}");
        }
        assert_eq!(Letter::parse(b"{").unwrap_err().status.as_u16(), 400);
    }
}
