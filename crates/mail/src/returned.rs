//! What comes back: bounces of others, complaints, automatic answers.
//!
//! A [`Returned`] is read from a message that came to an address of ours which only mail of ours can have
//! as its sender. Standard reports (RFC 3464, RFC 6533, RFC 5965) are read field by field; of what older
//! servers write in words, the reply that they quote is looked for. All of it was written by strangers:
//! nothing here proves anything.

use bytes::Bytes;
use mail_parser::{Message, MessageParser, MimeHeaders, PartType};
use waypost_smtp::{Code, Enhanced, Reply};

use crate::HeaderBlock;

/// Octets of a message that are looked at.
pub const MAX_READ: usize = 512 * 1024;
/// Recipients of one report that are read.
const MAX_RECIPIENTS: usize = 100;
/// Characters of words in which a reply is looked for.
const MAX_WORDS: usize = 16 * 1024;
/// Characters of such words that stand for a reply where none is found.
const MAX_GIST: usize = 1024;

/// A message that came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Returned {
    /// A report about deliveries, for each recipient it names.
    Report(Vec<Fate>),
    /// Words about a delivery that failed.
    Words(Fate),
    /// Somebody's complaint, passed on by their provider.
    Complaint(Complaint),
    /// An answer by a program: somebody is on vacation, a ticket was opened.
    AutoReply,
    /// Anything else, such as an answer by a person.
    Other,
}

/// What became of one recipient, as somebody says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Fate {
    /// The recipient, where one is named: the address that was first written to, else the last one.
    pub recipient: Option<String>,
    /// What became of it.
    pub action: Action,
    /// The reply that was given, or what can be made of the report.
    pub reply: Option<Reply>,
    /// The host that gave it.
    pub host: Option<String>,
}

/// What became of a recipient (RFC 3464 §2.3.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Action {
    /// It failed for good.
    #[default]
    Failed,
    /// It takes long.
    Delayed,
    /// It was delivered, passed on or sent to several.
    Done,
}

/// A complaint (RFC 5965).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Complaint {
    /// `abuse`, `fraud`, `virus`, `not-spam` …, in lower case.
    pub kind: String,
    /// The envelope sender of the message it is about, where it is told.
    pub sender: Option<String>,
    /// The recipient, where the provider tells it.
    pub recipient: Option<String>,
}

impl Complaint {
    /// True when the recipient wants no more such mail.
    pub fn is_refusal(&self) -> bool {
        matches!(self.kind.as_str(), "abuse" | "fraud" | "opt-out" | "opt-out-list" | "other")
    }
}

impl Returned {
    /// What a message says; `from_nobody` when its envelope sender is the null path.
    pub fn read(message: &[u8], from_nobody: bool) -> Returned {
        let message = &message[..message.len().min(MAX_READ)];
        let Some(parsed) = MessageParser::default().parse(message) else {
            return Returned::Other;
        };
        if let Some(feedback) = part_of(&parsed, "message", &["feedback-report"]) {
            return Returned::Complaint(complaint(&feedback, &parsed));
        }
        let kinds = ["delivery-status", "global-delivery-status"];
        if let Some(status) = part_of(&parsed, "message", &kinds) {
            let fates = report(&status);
            if !fates.is_empty() {
                return Returned::Report(fates);
            }
        }
        in_words(&parsed, from_nobody)
    }
}

/// The value of a field of ours in the message that came back with this one, wherever it stands.
pub fn quoted_field<'a>(message: &'a [u8], name: &str) -> Option<&'a str> {
    let message = &message[..message.len().min(MAX_READ)];
    let wanted = format!("{name}:");
    let mut lines = message.split(|octet| *octet == b'\n');
    lines.find_map(|line| {
        let line = std::str::from_utf8(line).ok()?.trim();
        // Words quote with marks in front.
        let line = line.trim_start_matches(['>', ' ']);
        let front = line.get(..wanted.len())?;
        front.eq_ignore_ascii_case(&wanted).then(|| line[wanted.len()..].trim())
    })
}

/// The content of the first part of this type, decoded.
fn part_of(message: &Message<'_>, kind: &str, subtypes: &[&str]) -> Option<Vec<u8>> {
    let part = message.parts.iter().find(|part| {
        part.content_type().is_some_and(|found| {
            let subtype = found.subtype().unwrap_or_default();
            found.ctype().eq_ignore_ascii_case(kind)
                && subtypes.iter().any(|wanted| subtype.eq_ignore_ascii_case(wanted))
        })
    })?;
    Some(match &part.body {
        PartType::Text(text) | PartType::Html(text) => text.as_bytes().to_vec(),
        PartType::Binary(octets) | PartType::InlineBinary(octets) => octets.to_vec(),
        PartType::Message(message) => message.raw_message().to_vec(),
        PartType::Multipart(_) => return None,
    })
}

/// RFC 3464 §2.1: groups of fields, the first about the message, the others about one recipient each.
fn report(status: &[u8]) -> Vec<Fate> {
    let groups = groups(status);
    let fates = groups.iter().filter(|group| group.first("action").is_some()).map(fate);
    fates.take(MAX_RECIPIENTS).collect()
}

fn fate(group: &HeaderBlock) -> Fate {
    let field = |name: &str| group.first(name).map(|value| value.trim().to_owned());
    let typed = |name: &str| field(name).map(|value| behind_type(&value).to_owned());
    let status = field("status").and_then(|text| Enhanced::split(&text).map(|(status, _)| status));
    let action = match field("action").unwrap_or_default().to_ascii_lowercase().as_str() {
        "failed" => Action::Failed,
        "delayed" => Action::Delayed,
        _ => Action::Done,
    };
    let diagnostic = typed("diagnostic-code").unwrap_or_default();
    Fate {
        recipient: typed("original-recipient").or_else(|| typed("final-recipient")),
        reply: quoted_reply(&diagnostic).or_else(|| status_reply(status?, &diagnostic)),
        host: typed("remote-mta"),
        action,
    }
}

/// The fields of a complaint, and what the message that came with it adds.
fn complaint(feedback: &[u8], message: &Message<'_>) -> Complaint {
    let fields = groups(feedback);
    let field = |name: &str| {
        let value = fields.iter().find_map(|group| group.first(name))?;
        Some(value.trim().trim_matches(['<', '>']).to_owned())
    };
    let returned = part_of(message, "message", &["rfc822", "global"])
        .or_else(|| part_of(message, "text", &["rfc822-headers"]))
        .or_else(|| part_of(message, "message", &["global-headers"]))
        .unwrap_or_default();
    let path = quoted_field(&returned, "Return-Path");
    Complaint {
        kind: field("feedback-type").unwrap_or_default().to_ascii_lowercase(),
        sender: field("original-mail-from")
            .or_else(|| path.map(|path| path.trim_matches(['<', '>']).to_owned())),
        recipient: field("original-rcpt-to"),
    }
}

/// Groups of fields, divided by empty lines.
fn groups(text: &[u8]) -> Vec<HeaderBlock> {
    let text = String::from_utf8_lossy(text).replace("\r\n", "\n").replace('\r', "\n");
    let mut groups = Vec::new();
    let mut group = String::new();
    for line in text.lines().chain([""]) {
        if !line.trim().is_empty() {
            group.push_str(line);
            group.push_str("\r\n");
        } else if !group.is_empty() {
            groups.push(HeaderBlock::parse(Bytes::from(std::mem::take(&mut group))));
            if groups.len() > MAX_RECIPIENTS {
                break;
            }
        }
    }
    groups
}

/// `rfc822; bob@example.net` and `dns; mx.example.net` without what stands in front.
fn behind_type(value: &str) -> &str {
    value.split_once(';').map_or(value, |(_, rest)| rest).trim().trim_matches(['<', '>'])
}

/// What is not in a standard form: a bounce in words, or something else.
fn in_words(message: &Message<'_>, from_nobody: bool) -> Returned {
    let subject = message.subject().unwrap_or_default().to_lowercase();
    let author = author(message);
    let by_daemon = ["mailer-daemon", "postmaster", "mail-daemon"].contains(&author.as_str());
    let about_delivery = [
        "undeliver",
        "delivery status",
        "delivery fail",
        "delivery has failed",
        "delivery notification",
        "delivery problem",
        "delayed",
        "returned mail",
        "failure notice",
        "mail delivery",
        "could not be delivered",
        "message not delivered",
        "returned to sender",
        "unzustellbar",
    ];
    let told = about_delivery.iter().any(|words| subject.contains(words));
    if !(told && (from_nobody || by_daemon)) {
        let automatic = message
            .header_raw("Auto-Submitted")
            .is_some_and(|value| !value.trim().to_ascii_lowercase().starts_with("no"));
        let vacation = message.header_raw("X-Autoreply").is_some()
            || message.header_raw("X-Auto-Response-Suppress").is_some();
        return match automatic || vacation || from_nobody {
            true => Returned::AutoReply,
            false => Returned::Other,
        };
    }
    let words = message.body_text(0).unwrap_or_default();
    let words = before_the_original(&words);
    let late = ["delayed", "warning", "still being", "will retry", "will be retried"];
    let is_late = |text: &str| late.iter().any(|words| text.contains(words));
    let action = match is_late(&subject) {
        true => Action::Delayed,
        false => Action::Failed,
    };
    let reply = words.lines().find_map(quoted_reply).or_else(|| {
        let gist = words.split_whitespace().collect::<Vec<_>>().join(" ");
        let status = gist.split_whitespace().find_map(|word| {
            let word = word.trim_matches(['(', ')', '#', ':', ',', '[', ']', '.']);
            Enhanced::split(word).map(|(status, _)| status).filter(|status| status.0 > 2)
        });
        let gist = &gist[..gist.floor_char_boundary(MAX_GIST)];
        match status {
            Some(status) => status_reply(status, gist),
            None => Some(Reply::plain(550, "").with_text(gist)),
        }
    });
    Returned::Words(Fate { reply, action, ..Fate::default() })
}

/// The local part of who wrote it, in lower case.
fn author(message: &Message<'_>) -> String {
    let address = message.from().and_then(|from| from.first()).and_then(|first| first.address());
    let local = address.and_then(|address| address.split('@').next());
    local.unwrap_or_default().to_lowercase()
}

/// The words of a bounce, without the message that it returns.
fn before_the_original(words: &str) -> &str {
    let words = &words[..words.floor_char_boundary(MAX_WORDS)];
    let marks = [
        "\n--- Below this line",
        "\n------ This is a copy",
        "\n----- Original message",
        "\n-----Original Message",
        "\nReturn-Path:",
        "\nReceived: ",
        "\nOriginal message headers",
    ];
    let end = marks.iter().filter_map(|mark| words.find(mark)).min();
    &words[..end.unwrap_or(words.len())]
}

/// A reply that a line quotes: `550 5.1.1 …`, `said: 550-5.1.1 …`.
fn quoted_reply(line: &str) -> Option<Reply> {
    let starts = line.match_indices(['4', '5']).map(|(at, _)| at);
    starts
        .filter_map(|at| {
            let before = line[..at].chars().next_back();
            if before.is_some_and(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '/')) {
                return None;
            }
            let (code, rest) = (line.get(at..at + 3)?, line.get(at + 3..)?);
            let code = Code::new(code.parse().ok()?)?;
            let rest = rest.strip_prefix([' ', '-'])?.trim();
            let (enhanced, text) = match Enhanced::split(rest.trim_start_matches('#')) {
                Some((enhanced, text)) if u16::from(enhanced.0) == code.get() / 100 => {
                    (Some(enhanced), text)
                }
                _ => (None, rest),
            };
            let named = enhanced.is_some() || text.chars().any(char::is_alphabetic);
            named.then(|| Reply { code, enhanced, text: "".into() }.with_text(text))
        })
        .next()
}

/// What a status says, as a reply.
fn status_reply(status: Enhanced, text: &str) -> Option<Reply> {
    let code = Code::new(if status.0 == 5 { 550 } else { 450 })?;
    let reply = Reply { code, enhanced: Some(status), text: "".into() };
    (status.0 > 2).then(|| reply.with_text(text))
}

#[cfg(test)]
mod tests;
