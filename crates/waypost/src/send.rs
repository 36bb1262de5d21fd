//! `waypost send`: submits one message and prints what the server said about each recipient.

use std::fs;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, bail};
use mail_builder::MessageBuilder;
use mail_builder::headers::address::Address;
use mail_builder::headers::date::Date;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use waypost_delivery::ClientTls;
use waypost_mail::{Clock, SystemClock, Timestamp};
use waypost_smtp::client::{Addressee, Credentials, Letter, RecipientResult};
use waypost_smtp::{BodyType, Mailbox, ReversePath};

use crate::args::{SendArgs, SendTls};
use crate::submit::{Client, Report, Target, submit};
use crate::table::plain;

/// The environment variable with the password, where there is no `--password-file`.
const PASSWORD: &str = "WAYPOST_PASSWORD";
/// The largest message read, in octets.
const MAX_MESSAGE: u64 = 256 << 20;

/// Submits the message.
///
/// # Errors
/// When anything is wrong with the arguments, there is no session, or a recipient was not taken.
pub async fn send(args: &SendArgs) -> Result<()> {
    let target = Target::parse(&args.server)?;
    let sender = match args.from.as_str() {
        "" | "<>" => ReversePath::Null,
        text => ReversePath::Mailbox(mailbox(text)?),
    };
    let recipients = args.to.iter().map(|text| mailbox(text)).collect::<Result<Vec<_>>>()?;
    let message = match &args.file {
        Some(path) => canonical(&read(path)?),
        None => {
            let now = SystemClock.now();
            compose(&sender, &recipients, &args.subject, &args.text, now)?
        }
    };
    let client = Client {
        implicit_tls: target.port == 465 && args.tls != SendTls::Never,
        target,
        tls: args.tls,
        authorities: authorities(args.ca_file.as_deref())?,
        credentials: credentials(args)?,
    };
    let report = submit(&client, letter(sender, recipients, &message), &message).await?;
    print(&report);
    if let Some(trouble) = &report.trouble {
        bail!("{trouble}");
    }
    match report.refused() {
        0 => Ok(()),
        refused => bail!("{refused} of {} recipients not taken", report.recipients.len()),
    }
}

fn print(report: &Report) {
    let tls =
        report.tls.map_or("in clear text".to_owned(), |(version, _)| format!("TLS {version}"));
    let login = report.mechanism.as_ref().map_or(String::new(), |m| format!(", login by {m}"));
    println!("{}: {tls}{login}, {} ms", report.address, report.done.as_millis());
    for (recipient, result) in &report.recipients {
        println!("<{recipient}>: {}", said(result.as_ref()));
    }
}

/// The server's words, on one line.
pub(crate) fn said(result: Option<&RecipientResult>) -> String {
    match result {
        None => "no answer".to_owned(),
        Some(result) if result.reply.is_positive() => plain(&result.reply.to_string()),
        Some(result) => format!("{} (to {})", plain(&result.reply.to_string()), result.phase),
    }
}

fn mailbox(text: &str) -> Result<Mailbox> {
    let bare = text.strip_prefix('<').and_then(|rest| rest.strip_suffix('>')).unwrap_or(text);
    Mailbox::parse(bare).with_context(|| format!("'{text}' is no mail address"))
}

/// The envelope of `message`, with what its octets need of the server.
pub(crate) fn letter(sender: ReversePath, recipients: Vec<Mailbox>, message: &[u8]) -> Letter {
    let header = message.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or(message.len());
    let (header, body) = message.split_at(header);
    let smtputf8 = !header.is_ascii();
    let eight_bit = smtputf8 || !body.is_ascii();
    let body = if eight_bit { BodyType::EightBitMime } else { BodyType::SevenBit };
    let recipients = recipients.into_iter().map(Addressee::from).collect();
    Letter { body, smtputf8, ..Letter::new(sender, recipients, message.len() as u64) }
}

/// A whole message with what RFC 5322 §3.6 wants. Text and subject that are not ASCII are encoded,
/// so that every server takes them.
pub(crate) fn compose(
    sender: &ReversePath,
    recipients: &[Mailbox],
    subject: &str,
    text: &str,
    now: Timestamp,
) -> Result<Vec<u8>> {
    let from = sender.mailbox().map_or("postmaster@localhost".to_owned(), Mailbox::to_string);
    let domain = from.rsplit_once('@').map_or("localhost", |(_, domain)| domain);
    let id = format!("{:032x}@{domain}", rand::random::<u128>());
    let to = |recipient: &Mailbox| Address::new_address(None::<String>, recipient.to_string());
    let message = MessageBuilder::new()
        .date(Date::new((now.0 / 1000).try_into()?))
        .message_id(id)
        .from(Address::new_address(None::<String>, from.as_str()))
        .to(Address::new_list(recipients.iter().map(to).collect()))
        .subject(subject)
        .text_body(text)
        .write_to_vec()
        .context("cannot write the message")?;
    Ok(canonical(&message))
}

/// The message with CRLF at the end of each line, the last one too.
fn canonical(message: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(message.len() + message.len() / 32 + 2);
    let mut before = 0;
    for &octet in message {
        if before == b'\r' && octet != b'\n' {
            out.push(b'\n');
        }
        if octet == b'\n' && before != b'\r' {
            out.push(b'\r');
        }
        out.push(octet);
        before = octet;
    }
    match before {
        b'\n' => {}
        b'\r' => out.push(b'\n'),
        _ => out.extend_from_slice(b"\r\n"),
    }
    out
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let mut message = Vec::new();
    let shown = path.display();
    let read = if path == Path::new("-") {
        std::io::stdin().lock().take(MAX_MESSAGE + 1).read_to_end(&mut message)
    } else {
        fs::File::open(path).and_then(|file| file.take(MAX_MESSAGE + 1).read_to_end(&mut message))
    };
    read.with_context(|| format!("cannot read the message from {shown}"))?;
    if message.len() as u64 > MAX_MESSAGE {
        bail!("the message in {shown} has more than {} MiB", MAX_MESSAGE >> 20);
    }
    Ok(message)
}

fn credentials(args: &SendArgs) -> Result<Option<Credentials>> {
    let Some(user) = &args.user else {
        if args.password_file.is_some() {
            bail!("--password-file is given without --user");
        }
        return Ok(None);
    };
    let password = match &args.password_file {
        Some(path) => {
            let text = fs::read_to_string(path)
                .with_context(|| format!("cannot read the password from {}", path.display()))?;
            text.lines().next().unwrap_or_default().to_owned()
        }
        None => std::env::var(PASSWORD).with_context(|| {
            format!("--user needs a password: give --password-file, or set {PASSWORD}")
        })?,
    };
    Ok(Some(Credentials::new(user, password)?))
}

/// The system's authorities, and those of a PEM file besides.
pub(crate) fn authorities(ca_file: Option<&Path>) -> Result<ClientTls> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = ca_file {
        let shown = path.display();
        let own =
            CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        let own = own.with_context(|| format!("cannot read the certificates in {shown}"))?;
        if roots.add_parsable_certificates(own).0 == 0 {
            bail!("{shown} has no certificate that can be used");
        }
    }
    Ok(ClientTls::new(roots)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(message: &[u8]) -> String {
        String::from_utf8(message.to_vec()).unwrap()
    }

    #[test]
    fn a_message_made_here_is_plain_ascii_and_whole() {
        let sender = ReversePath::Mailbox(Mailbox::parse("a@example.org").unwrap());
        let to = [Mailbox::parse("b@example.net").unwrap()];
        let message =
            compose(&sender, &to, "Grüße", "Schöne Grüße\n.\n", Timestamp(1_700_000_000_000))
                .unwrap();
        let shown = text(&message);
        assert!(message.is_ascii(), "{shown}");
        assert!(shown.contains("Date: Tue, 14 Nov 2023 22:13:20 +0000\r\n"), "{shown}");
        for field in
            ["From: ", "To: ", "Message-ID: <", "Subject: =?utf-8?", "MIME-Version: 1.0\r\n"]
        {
            assert!(shown.to_lowercase().contains(&field.to_lowercase()), "{field}: {shown}");
        }
        assert!(shown.contains("@example.org>\r\n"), "{shown}");
        let letter = letter(sender, to.to_vec(), &message);
        assert_eq!((letter.body, letter.smtputf8), (BodyType::SevenBit, false));
    }

    #[test]
    fn lines_of_a_file_end_with_crlf() {
        for (file, wire) in [
            ("a\nb\n", "a\r\nb\r\n"),
            ("a\r\nb", "a\r\nb\r\n"),
            ("a\rb\r", "a\r\nb\r\n"),
            ("\n\n", "\r\n\r\n"),
        ] {
            assert_eq!(text(&canonical(file.as_bytes())), wire, "{file:?}");
        }
    }

    #[test]
    fn what_the_octets_need_is_declared() {
        let needs = |message: &str| {
            let letter = letter(ReversePath::Null, vec![], message.as_bytes());
            (letter.body, letter.smtputf8)
        };
        assert_eq!(needs("A: b\r\n\r\nhello\r\n"), (BodyType::SevenBit, false));
        assert_eq!(needs("A: b\r\n\r\ngrün\r\n"), (BodyType::EightBitMime, false));
        assert_eq!(needs("A: grün\r\n\r\nhello\r\n"), (BodyType::EightBitMime, true));
    }
}
