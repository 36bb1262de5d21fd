//! How much is asked of next hops, in plain language.

use std::fmt::Write as _;

use waypost_queue::Rate;

use crate::Settings;
use crate::units::show_span;

/// What destinations get, and which providers have limits of their own.
pub(super) fn flow(settings: &Settings) -> String {
    let (queue, delivery) = (&settings.startup.queue, &settings.startup.delivery);
    let (first, most) = (queue.first_per_destination, queue.per_destination);
    let mut text = format!(
        "How much at once\n  each destination, or all that share its exchangers: {} to {most} attempts{}{}{}",
        first.min(most),
        rate(queue.rate_per_destination, "attempts"),
        rate(delivery.allowance.connection_rate, "connections"),
        if delivery.allowance.chunking { "" } else { "; by DATA" },
    );
    for provider in delivery.providers.iter() {
        let (limits, allowance) = (provider.limits, provider.allowance);
        let _ = write!(
            text,
            "\n  {}: {} to {}, {} messages a connection{}{}{}",
            provider.name,
            limits.first.min(limits.at_once),
            limits.at_once,
            allowance.messages_per_connection,
            rate(limits.rate, "attempts"),
            rate(allowance.connection_rate, "connections"),
            if allowance.chunking { "" } else { "; by DATA" },
        );
    }
    if let Some(pack) = &settings.startup.provider_pack {
        let (file, version, source) = (pack.file.display(), &pack.version, &pack.source);
        let _ = write!(text, "\n  providers of {file}: version {version} ({source})");
    }
    text
}

fn rate(rate: Option<Rate>, what: &str) -> String {
    rate.map_or(String::new(), |rate| format!("; {} {what} in {}", rate.count, show_span(rate.per)))
}
