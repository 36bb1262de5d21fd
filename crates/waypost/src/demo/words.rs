//! What the demonstration says.

use bytes::Bytes;
use waypost_inbound::ListenerKind;
use waypost_mail::header::{HeaderBlock, header_len};

use super::stage::{SENDER, Stage, USER};
use crate::sink::Arrival;
use crate::table::plain;
use crate::telemetry::Record;

/// Columns of a line, without what stands in front of it.
const WIDTH: usize = 80;

/// What stands where.
pub(super) fn opening(stage: &Stage) -> String {
    let mut text = format!(
        "A relay, and behind it a sink that stands for the next server, both on this machine.\n\
         Configuration, spool, users and certificates are in {}\n\n",
        stage.dir().display()
    );
    for (kind, what) in [
        (ListenerKind::Relay, "STARTTLS offered; mail from this machine needs no login"),
        (ListenerKind::Submission, "STARTTLS, then a login, are required"),
        (ListenerKind::Submissions, "TLS from the first byte; a login is required"),
    ] {
        let address = stage.door(kind).map_or("closed".to_owned(), |address| address.to_string());
        text += &format!("  {:<12} {address:<16} {what}\n", kind.to_string());
    }
    text + &format!(
        "  {:<12} {:<16} reached by TLS with a verified certificate; refuses nobody@…, puts\n  \
         {:<30}off busy@… at first\n\n",
        "sink",
        stage.sink.address.to_string(),
        "",
    )
}

/// All went well.
pub(super) fn closing(messages: usize) -> String {
    match messages {
        0 => "No message was to be sent.".to_owned(),
        1 => "The message went the way it should; the queue is empty.".to_owned(),
        count => format!("All {count} messages went the way they should; the queue is empty."),
    }
}

/// How a person sends mail of their own.
pub(super) fn invitation(stage: &Stage) -> String {
    let door = |kind| stage.door(kind).map_or("-".to_owned(), |address| address.to_string());
    let (relay, submission, submissions) = (
        door(ListenerKind::Relay),
        door(ListenerKind::Submission),
        door(ListenerKind::Submissions),
    );
    let program = std::env::current_exe().map_or("waypost".into(), |p| p.display().to_string());
    let (ca, config, password) = (stage.ca.display(), stage.config.display(), &stage.password);
    let to = "anna@customer.example";
    format!(
        r#"
Send your own, from another terminal; whatever arrives at the sink is shown here:

  swaks --server {submission} --tls --auth-user {USER} --auth-password {password} \
    --from {SENDER} --to {to}

  swaks --server {submissions} --tls-on-connect --auth-user {USER} \
    --auth-password {password} --from {SENDER} --to busy@partner.example

  swaks --server {relay} --from {SENDER} --to nobody@partner.example

  printf 'From: {SENDER}\r\nTo: {to}\r\nSubject: curl\r\n\r\nHello.\r\n' |
    curl --url smtps://{submissions} --cacert {ca} \
      --user {USER}:{password} --mail-from {SENDER} \
      --mail-rcpt {to} --upload-file -

  WAYPOST_PASSWORD={password} {program} send \
    --server {submission} --ca-file {ca} \
    --user {USER} --from {SENDER} --to {to}

Look inside:

  {program} status --config {config}
  {program} queue list --config {config}

Ctrl-C ends the demonstration and removes its files.

"#
    )
}

/// A line of the relay's log in plain language, if it is about a message's way.
pub(super) fn of_record(record: &Record) -> Option<String> {
    let field = |name: &str| record.field(name).unwrap_or_default();
    let (rcpt, hop, id) = (field("rcpt"), field("hop"), field("message"));
    Some(match record.event.as_str() {
        "message accepted" => {
            format!("relay: {id}, {} bytes, is safe in the spool and accepted", field("size"))
        }
        "policy" => policy(record),
        "delivered" => format!("relay: {id} delivered to <{rcpt}> by {hop}: {}", field("reply")),
        "deferred" => {
            format!("relay: {id} waits for <{rcpt}>: {}; again at {}", field("why"), field("retry"))
        }
        "bounced" => format!(
            "relay: {id} cannot be delivered to <{rcpt}>: {}; the sender gets a notice",
            field("why")
        ),
        "login failed" => format!("relay: {} could not log in", field("user")),
        "relaying denied" => format!("relay: <{rcpt}> refused, this peer may not relay"),
        "TLS handshake failed" => format!("relay: a TLS handshake failed: {}", field("error")),
        _ if record.level <= tracing::Level::WARN => format!("relay: {record}"),
        _ => return None,
    })
}

/// What a plugin did, and why.
fn policy(record: &Record) -> String {
    let field = |name: &str| record.field(name).unwrap_or_default();
    let mut text = format!("plugin: {} at {}", field("plugin"), field("stage"));
    let parts = [("verdict", ": "), ("edits", "; "), ("reasons", "; because ")];
    for (name, lead) in parts {
        let value = field(name);
        let is_silence = value.is_empty() || (name == "verdict" && value == "proceed");
        if !is_silence {
            text += &format!("{lead}{value}");
        }
    }
    text
}

/// That a message has arrived.
pub(super) fn of_arrival(arrival: &Arrival) -> String {
    let recipients: Vec<String> = arrival.recipients.iter().map(|r| format!("<{r}>")).collect();
    let tls = arrival.tls.map_or("in clear text".to_owned(), |version| format!("by TLS {version}"));
    let what = match arrival.sender.mailbox() {
        None => "a notice".to_owned(),
        Some(sender) => format!("mail from <{sender}>"),
    };
    let size = arrival.message.len();
    format!("sink: {what} for {} came {tls}, {size} bytes", recipients.join(" "))
}

/// The trace fields of what arrived, and its subject, each on one line.
pub(super) fn trace(arrival: &Arrival) -> Vec<String> {
    let end = header_len(&arrival.message).unwrap_or(arrival.message.len());
    let header = HeaderBlock::parse(Bytes::copy_from_slice(&arrival.message[..end]));
    let shown = ["Received", "X-Submitted", "Subject"];
    let field = |(name, value): (&str, &[u8])| {
        let value = String::from_utf8_lossy(value);
        plain(&format!("{name}:{}", value.trim_end()))
    };
    let is_shown = |name: &str| shown.iter().any(|shown| name.eq_ignore_ascii_case(shown));
    let line = |(name, value): (&str, &[u8])| {
        let signature = name.eq_ignore_ascii_case("DKIM-Signature");
        if signature {
            return Some(format!("DKIM-Signature: {}", signed(&String::from_utf8_lossy(value))));
        }
        is_shown(name).then(|| field((name, value)))
    };
    header.iter().filter_map(line).collect()
}

/// Who signed, and how: the rest of a signature says nothing to people.
fn signed(value: &str) -> String {
    let tags = value.split(';').map(str::trim);
    let shown = tags.filter(|tag| ["a=", "d=", "s="].iter().any(|name| tag.starts_with(name)));
    format!("{} …", shown.collect::<Vec<_>>().join("; "))
}

/// Breaks a text at spaces; lines after the first are indented.
pub(super) fn wrap(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= WIDTH => {
                line.push(' ');
                line.push_str(word);
            }
            Some(_) => lines.push(format!("  {word}")),
            None => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_fields_are_wrapped() {
        let lines = wrap(&format!("Received: from {} by {}", "a".repeat(50), "b".repeat(40)));
        assert_eq!(lines.len(), 2);
        assert!(
            lines[1].starts_with("  bbb") && lines.iter().all(|l| l.len() <= WIDTH),
            "{lines:?}"
        );
    }
}
