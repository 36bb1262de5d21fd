//! `waypost probe reply`: what a reply means, by which rule, and what would follow.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, anyhow};
use serde::Serialize;
use waypost_config::replies;
use waypost_delivery::consequence;
use waypost_mail::rulebook::{Said, normal};
use waypost_mail::{Rulebook, Why, dsn};
use waypost_smtp::{Phase, Reply};

use crate::args::ProbeReplyArgs;

/// Where a configuration is looked for that nobody named.
const USUAL: &str = "/etc/waypost/waypost.toml";

/// What was found out about a reply.
#[derive(Debug, Serialize)]
pub struct Reading {
    /// The reply in one line.
    pub reply: String,
    /// What patterns see of its text.
    pub text: String,
    /// The provider, where the host's name tells one.
    pub provider: Option<String>,
    /// It refuses a login, about which no rule is asked.
    pub is_login: bool,
    /// The rule that decides; none when the numbers do, or at a login.
    pub rule: Option<String>,
    /// For how long.
    pub disposition: &'static str,
    /// Whom it is about.
    pub scope: &'static str,
    /// Of what kind.
    pub category: &'static str,
    /// The enhanced status that a notice has.
    pub status: String,
    /// What follows.
    pub follows: String,
    /// What the sender is told to do when the message bounces.
    pub advice: &'static str,
}

/// Reads the reply and prints what it means.
///
/// # Errors
/// When it is no reply, or the configuration's rules cannot be read.
pub fn reply(args: &ProbeReplyArgs) -> Result<()> {
    let reading = read(args)?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&reading)?);
    } else {
        print!("{}", for_people(&reading));
    }
    Ok(())
}

/// What a reply means.
///
/// # Errors
/// As [`reply`].
pub fn read(args: &ProbeReplyArgs) -> Result<Reading> {
    let phase = replies::phase(&args.phase).ok_or_else(|| {
        anyhow!("'{}' is no phase: greeting, ehlo, auth, mail, rcpt, data, eod", args.phase)
    })?;
    if phase == Phase::StartTls {
        return Err(anyhow!(
            "no rule is asked about a refused STARTTLS: there is no TLS then, and `waypost probe \
             route` says what follows for a domain"
        ));
    }
    let reply: Reply = args.reply.join("\n").parse()?;
    if !(400..600).contains(&reply.code.get()) {
        return Err(anyhow!("'{reply}' refuses nothing: it means success"));
    }
    let book = rulebook(args.config.as_deref())?;
    let mut found = book.read(&Said { reply: &reply, phase, host: &args.mx });
    let is_login = phase == Phase::Auth;
    if is_login {
        let why = Why::AuthFailed { hop: args.mx.clone(), error: reply.to_string() };
        (found.rule, found.diagnosis) = (None, why.diagnosis());
    }
    let diagnosis = found.diagnosis;
    let wait = found.rule.and_then(|rule| rule.wait);
    Ok(Reading {
        is_login,
        text: normal(&reply.text),
        provider: found.provider.map(str::to_owned),
        rule: found.rule.map(|rule| rule.name.clone()),
        disposition: diagnosis.disposition.word(),
        scope: diagnosis.scope.word(),
        category: diagnosis.category.word(),
        status: diagnosis.status_of(&reply).to_string(),
        follows: consequence(diagnosis, wait),
        advice: dsn::advice(diagnosis),
        reply: reply.to_string(),
    })
}

fn rulebook(config: Option<&Path>) -> Result<Arc<Rulebook>> {
    let usual = Path::new(USUAL);
    match config.or_else(|| usual.exists().then_some(usual)) {
        Some(path) => Ok(waypost_config::rulebook(path)?),
        None => Ok(Arc::new(replies::built_in()?)),
    }
}

fn for_people(reading: &Reading) -> String {
    let Reading { disposition, scope, category, .. } = reading;
    let rule = match &reading.rule {
        Some(rule) => rule,
        None if reading.is_login => "none is asked about a refused login",
        None => "none fits, its numbers decide",
    };
    let provider = reading.provider.as_deref().unwrap_or("unknown");
    let lines = [
        ("reply", reading.reply.as_str()),
        ("patterns see", &reading.text),
        ("provider", provider),
        ("rule", rule),
        ("means", &format!("{disposition}, about the {scope}: {category}")),
        ("status", &reading.status),
        ("follows", &reading.follows),
        ("advice", reading.advice),
    ];
    lines.iter().map(|(what, text)| format!("{what:<13}{text}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(reply: &str, mx: &str) -> ProbeReplyArgs {
        ProbeReplyArgs {
            reply: vec![reply.to_owned()],
            mx: mx.to_owned(),
            phase: "rcpt".to_owned(),
            config: None,
            json: false,
        }
    }

    #[test]
    fn a_reply_is_explained() {
        let reading = read(&args("550 5.7.1 Greylisted, try again in 300 seconds", "")).unwrap();
        assert_eq!(reading.rule.as_deref(), Some("greylisted"));
        assert_eq!((reading.disposition, reading.status.as_str()), ("transient", "4.7.1"));
        let text = for_people(&reading);
        assert!(text.contains("transient, about the recipient: greylisted"), "{text}");
        let reading = read(&args("550 5.1.1 x", "mx1.nowhere.example")).unwrap();
        assert_eq!((reading.rule, reading.provider), (None, None));
        assert!(reading.follows.starts_with("it bounces"), "{}", reading.follows);
        assert!(read(&args("250 ok", "")).is_err());
        assert!(read(&args("hello", "")).is_err());
        let login = |reply: &str| {
            let args = ProbeReplyArgs { phase: "auth".into(), ..args(reply, "smtp.example") };
            for_people(&read(&args).unwrap())
        };
        for reply in ["535 5.7.8 Bad password", "454 4.7.0 slow down, rate limit"] {
            let text = login(reply);
            assert!(text.contains("none is asked about a refused login"), "{text}");
            assert!(text.contains("local-fault, about the relay: auth-needed"), "{text}");
            assert!(text.contains("the log has an error for the operator"), "{text}");
        }
        let starttls = ProbeReplyArgs { phase: "starttls".into(), ..args("454 x", "") };
        assert!(read(&starttls).unwrap_err().to_string().contains("no TLS"));
        let wrong = ProbeReplyArgs { phase: "quit".into(), ..args("550 x", "") };
        assert!(read(&wrong).is_err());
    }
}
