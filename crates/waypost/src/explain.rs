//! `waypost explain`: which plugins would run for a message, and why the others would not.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, Result};
use waypost_admin::Client;
use waypost_admin::api::{ExplainRequest, StageExplained};
use waypost_mail::{Facts, HeaderBlock, Protocol, Recipient, SessionId, TlsFacts};
use waypost_plugin::explain::Case;
use waypost_smtp::ReversePath;

use crate::args::ExplainArgs;

/// Asks the running relay and prints the answer.
///
/// # Errors
/// When no relay runs, or the question makes no sense.
pub async fn explain(args: &ExplainArgs) -> Result<()> {
    let places = waypost_config::places(&args.output.config.config)?;
    let header = match &args.message {
        Some(file) => {
            let text = std::fs::read(file)
                .with_context(|| format!("cannot read the message {}", file.display()))?;
            let end = waypost_mail::header::header_len(&text).unwrap_or(text.len());
            Some((String::from_utf8_lossy(&text[..end]).into_owned(), text.len() as u64))
        }
        None => None,
    };
    let request = ExplainRequest {
        client: args.client.clone(),
        listener: args.listener.clone(),
        helo: args.helo.clone(),
        identity: args.user.clone(),
        tls: args.tls,
        from: args.from.clone(),
        to: args.to.clone(),
        size: args.size.or(header.as_ref().map(|(_, size)| *size)),
        header: header.map(|(header, _)| header),
    };
    let client = Client::new(&places.socket);
    let stages: Vec<StageExplained> = client.post("/v1/policy/explain", &request).await?;
    if args.output.json {
        println!("{}", serde_json::to_string_pretty(&stages)?);
        return Ok(());
    }
    if stages.iter().all(|stage| stage.plugins.is_empty()) {
        println!("no plugins are configured");
    }
    for stage in &stages {
        if let Some(text) = stage_for_people(stage) {
            print!("{text}");
        }
    }
    Ok(())
}

/// A stage at which nobody answers is left out.
fn stage_for_people(stage: &StageExplained) -> Option<String> {
    let no_hook =
        |why: &Option<String>| why.as_ref().is_some_and(|why| why.starts_with("it has no "));
    if stage.plugins.iter().all(|plugin| no_hook(&plugin.why_not)) {
        return None;
    }
    let mut text = format!("{}\n", stage.stage);
    for plugin in stage.plugins.iter().filter(|plugin| !no_hook(&plugin.why_not)) {
        text += &match &plugin.why_not {
            None => format!("  {}: is asked\n", plugin.name),
            Some(why) => format!("  {}: is not asked: {why}\n", plugin.name),
        };
    }
    let without: BTreeSet<&str> = stage
        .plugins
        .iter()
        .filter(|plugin| no_hook(&plugin.why_not))
        .map(|plugin| plugin.name.as_str())
        .collect();
    if !without.is_empty() {
        let names: Vec<&str> = without.into_iter().collect();
        text += &format!("  without a hook here: {}\n", names.join(", "));
    }
    Some(text)
}

/// The message that a request speaks of.
///
/// # Errors
/// What makes no sense in it.
pub(crate) fn case(request: ExplainRequest) -> Result<Case, String> {
    let client = request.client.parse::<SocketAddr>().or_else(|_| {
        let ip: Result<IpAddr, _> = request.client.parse();
        ip.map(|ip| SocketAddr::new(ip, 0))
    });
    let client = client.map_err(|_| format!("{:?} is no address of a client", request.client))?;
    let sender = match request.from.as_str() {
        "" | "<>" => ReversePath::Null,
        text => {
            ReversePath::Mailbox(text.parse().map_err(|e| format!("the sender {text:?}: {e}"))?)
        }
    };
    let recipient = |(id, text): (usize, &String)| {
        let mailbox = text.parse().map_err(|error| format!("the recipient {text:?}: {error}"))?;
        Ok(Recipient::new(id as u32, mailbox))
    };
    let recipients: Result<Vec<Recipient>, String> =
        request.to.iter().enumerate().map(recipient).collect();
    let tls = request.tls.then(|| TlsFacts {
        version: "1.3".to_owned(),
        cipher: "unknown".to_owned(),
        sni: None,
        certificate: None,
    });
    let session = Facts {
        listener: request.listener,
        client,
        helo: request.helo,
        protocol: Protocol::Esmtp,
        tls,
        may_relay: request.identity.is_some(),
        identity: request.identity,
        ..Facts::internal(SessionId(0))
    };
    let header = request.header.map(|text| HeaderBlock::parse(text.into_bytes().into()));
    Ok(Case { session, sender, recipients: recipients?, size: request.size, header })
}
