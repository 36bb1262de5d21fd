//! How much strangers may take, and what they must keep to.

use std::ops::Range;
use std::time::Duration;

use waypost_inbound::Rate;
use waypost_smtp::server::{LongLines, OutOfTurn};

use super::{OCTETS, SPAN, count, octets, one_of, span};
use crate::mistake::Notes;
use crate::section::Section;
use crate::units::{Octets, Often, Span};

const OFTEN: &str = "write a number and a time: 100/1h, 1000/1d";

/// The longest that a peer is kept waiting for the greeting: clients wait five minutes for it
/// (RFC 5321 §4.5.3.2.1), people do not.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub(crate) struct Limits {
    pub(crate) message_size: Option<u64>,
    pub(crate) recipients: Option<usize>,
    pub(crate) recipients_per_session: Option<usize>,
    pub(crate) messages_per_session: Option<u32>,
    pub(crate) sessions: Option<usize>,
    pub(crate) sessions_per_address: Option<usize>,
    pub(crate) sessions_per_network: Option<usize>,
    pub(crate) session_rate_per_address: Option<Rate>,
    pub(crate) session_rate_per_network: Option<Rate>,
    pub(crate) network_prefix_v4: Option<u8>,
    pub(crate) network_prefix_v6: Option<u8>,
    pub(crate) address_prefix_v6: Option<u8>,
    pub(crate) messages_per_user: Vec<Rate>,
    pub(crate) messages_per_address: Vec<Rate>,
    pub(crate) memory: Option<u64>,
    pub(crate) body_memory: Option<u64>,
    pub(crate) errors: Option<u32>,
    pub(crate) commands: Option<u32>,
    pub(crate) command_timeout: Option<Duration>,
    pub(crate) data_timeout: Option<Duration>,
    pub(crate) handshake_timeout: Option<Duration>,
    pub(crate) session_time: Option<Duration>,
    pub(crate) minimum_rate: Option<u64>,
    pub(crate) hops: Option<usize>,
    pub(crate) hold: Option<Duration>,
    pub(crate) header_fields: Option<usize>,
}

#[derive(Debug, Default)]
pub(crate) struct Strict {
    pub(crate) long_lines: Option<LongLines>,
    pub(crate) out_of_turn: Option<OutOfTurn>,
    pub(crate) greet_pause: Option<Duration>,
}

pub(super) fn limits(section: Option<Section<'_>>, notes: &mut Notes<'_>) -> Limits {
    let Some(mut section) = section else { return Limits::default() };
    let limits = Limits {
        message_size: message_size(&mut section, notes),
        recipients: count(&mut section, "recipients", notes),
        recipients_per_session: count(&mut section, "recipients-per-session", notes),
        messages_per_session: count(&mut section, "messages-per-session", notes),
        sessions: count(&mut section, "sessions", notes),
        sessions_per_address: count(&mut section, "sessions-per-address", notes),
        sessions_per_network: count(&mut section, "sessions-per-network", notes),
        session_rate_per_address: rate(&mut section, "session-rate-per-address", notes),
        session_rate_per_network: rate(&mut section, "session-rate-per-network", notes),
        network_prefix_v4: prefix(&mut section, "network-prefix-v4", 8..33, notes),
        network_prefix_v6: prefix(&mut section, "network-prefix-v6", 16..129, notes),
        address_prefix_v6: prefix(&mut section, "address-prefix-v6", 32..129, notes),
        messages_per_user: rates(&mut section, "messages-per-user", notes),
        messages_per_address: rates(&mut section, "messages-per-address", notes),
        memory: octets(&mut section, "memory", notes),
        body_memory: octets(&mut section, "body-memory", notes),
        errors: count(&mut section, "errors", notes),
        commands: count(&mut section, "commands", notes),
        command_timeout: span(&mut section, "command-timeout", notes),
        data_timeout: span(&mut section, "data-timeout", notes),
        handshake_timeout: span(&mut section, "handshake-timeout", notes),
        session_time: span(&mut section, "session-time", notes),
        minimum_rate: octets(&mut section, "minimum-rate", notes),
        hops: count(&mut section, "hops", notes),
        // Zero has a meaning here.
        hold: section.parsed::<Span>("hold", SPAN, notes).map(|span| span.value.0),
        header_fields: count(&mut section, "header-fields", notes),
    };
    section.end(notes);
    limits
}

pub(super) fn strict(section: Option<Section<'_>>, notes: &mut Notes<'_>) -> Strict {
    let Some(mut section) = section else { return Strict::default() };
    let long_lines = one_of(&mut section, "long-lines", &["refuse", "fold", "take"], notes);
    let out_of_turn = one_of(&mut section, "out-of-turn", &["refuse", "take"], notes);
    let strict = Strict {
        long_lines: long_lines.map(|word| match word.as_str() {
            "fold" => LongLines::Fold,
            "take" => LongLines::Take,
            _ => LongLines::Refuse,
        }),
        out_of_turn: out_of_turn.map(|word| match word.as_str() {
            "take" => OutOfTurn::Take,
            _ => OutOfTurn::Refuse,
        }),
        greet_pause: greet_pause(&mut section, notes),
    };
    section.end(notes);
    strict
}

fn rate(section: &mut Section<'_>, key: &str, notes: &mut Notes<'_>) -> Option<Rate> {
    let Often(count, per) = section.parsed(key, OFTEN, notes)?.value;
    Some(Rate { count, per })
}

fn rates(section: &mut Section<'_>, key: &str, notes: &mut Notes<'_>) -> Vec<Rate> {
    let list = section.list::<Often>(key, OFTEN, notes).map_or_else(Vec::new, |list| list.value);
    list.into_iter().map(|often| Rate { count: often.value.0, per: often.value.1 }).collect()
}

fn prefix(
    section: &mut Section<'_>,
    key: &str,
    legal: Range<u64>,
    notes: &mut Notes<'_>,
) -> Option<u8> {
    section.integer(key, legal, notes).and_then(|bits| u8::try_from(bits.value).ok())
}

/// Zero is no pause.
fn greet_pause(section: &mut Section<'_>, notes: &mut Notes<'_>) -> Option<Duration> {
    let pause = section.parsed::<Span>("greet-pause", SPAN, notes)?;
    if pause.value.0 > LONGEST_PAUSE {
        let message = "'strictness.greet-pause' cannot be more than 60s";
        notes.add(&pause.at, message, "5s tells those apart that do not wait");
        return None;
    }
    Some(pause.value.0)
}

/// RFC 5321 §4.5.3.1.7: a message of 64 KiB must be taken. 0 in SIZE would mean "no limit".
fn message_size(section: &mut Section<'_>, notes: &mut Notes<'_>) -> Option<u64> {
    let size = section.parsed::<Octets>("message-size", OCTETS, notes)?;
    if size.value.0 < 64 * 1024 {
        let message = "'limits.message-size' cannot be less than 64KiB";
        notes.add(&size.at, message, "RFC 5321 §4.5.3.1.7 asks every server for that much");
        return None;
    }
    Some(size.value.0)
}
