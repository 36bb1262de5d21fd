//! Limits and strictness of the doors.

use waypost_inbound::{Limits, Prefixes, Settings};

use crate::file::File;

/// Sets what the file says; the rest stays usual.
pub(super) fn lower(file: &File, settings: &mut Settings) {
    let (given, usual) = (&file.limits, settings.limits.clone());
    settings.limits = Limits {
        max_message_size: given.message_size.unwrap_or(usual.max_message_size),
        max_recipients: given.recipients.unwrap_or(usual.max_recipients),
        max_recipients_per_session: given
            .recipients_per_session
            .unwrap_or(usual.max_recipients_per_session),
        max_messages_per_session: given
            .messages_per_session
            .unwrap_or(usual.max_messages_per_session),
        max_sessions: given.sessions.unwrap_or(usual.max_sessions),
        max_sessions_per_address: given
            .sessions_per_address
            .unwrap_or(usual.max_sessions_per_address),
        max_sessions_per_network: given
            .sessions_per_network
            .unwrap_or(usual.max_sessions_per_network),
        session_rate_per_address: given.session_rate_per_address,
        session_rate_per_network: given.session_rate_per_network,
        prefixes: Prefixes {
            v4_network: given.network_prefix_v4.unwrap_or(usual.prefixes.v4_network),
            v6_address: given.address_prefix_v6.unwrap_or(usual.prefixes.v6_address),
            v6_network: given.network_prefix_v6.unwrap_or(usual.prefixes.v6_network),
        },
        message_rates_per_user: given.messages_per_user.clone(),
        message_rates_per_address: given.messages_per_address.clone(),
        max_memory: given.memory,
        max_hold: given.hold.unwrap_or(usual.max_hold),
        max_errors: given.errors.unwrap_or(usual.max_errors),
        max_commands: given.commands.unwrap_or(usual.max_commands),
        command_timeout: given.command_timeout.unwrap_or(usual.command_timeout),
        data_timeout: given.data_timeout.unwrap_or(usual.data_timeout),
        handshake_timeout: given.handshake_timeout.unwrap_or(usual.handshake_timeout),
        session_lifetime: given.session_time.unwrap_or(usual.session_lifetime),
        minimum_rate: given.minimum_rate.unwrap_or(usual.minimum_rate),
        greet_pause: file.strict.greet_pause.unwrap_or(usual.greet_pause),
        ..usual
    };
    let strict = &mut settings.strict;
    strict.long_lines = file.strict.long_lines.unwrap_or(strict.long_lines);
    strict.out_of_turn = file.strict.out_of_turn.unwrap_or(strict.out_of_turn);
}
