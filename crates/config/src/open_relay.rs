//! Never an open relay by accident: what would let strangers relay anywhere is refused.

use waypost_inbound::ListenerKind;
use waypost_mail::DomainPattern;
use waypost_mail::Network;

use crate::file::File;
use crate::mistake::Notes;
use crate::section::At;

/// Notes every line that makes the configuration an open relay.
pub(crate) fn check(file: &File, notes: &mut Notes<'_>) {
    let takes_strangers = |kind| matches!(kind, ListenerKind::Relay | ListenerKind::Lmtp);
    if !file.listeners.iter().any(|listener| takes_strangers(listener.kind)) {
        return;
    }
    for network in &file.networks {
        check_network(network, notes);
    }
    for domain in &file.domains {
        check_domain(domain, notes);
    }
}

fn check_network(network: &At<Network>, notes: &mut Notes<'_>) {
    if network.value.is_the_internet() {
        notes.add(
            &network.at,
            format!("open relay: {} lets strangers send to anywhere", network.value),
            "list only networks of your own in relay.networks; others can log in on a submission \
             listener",
        );
    }
}

fn check_domain(domain: &At<DomainPattern>, notes: &mut Notes<'_>) {
    let too_wide = match &domain.value {
        DomainPattern::Any => true,
        DomainPattern::Below(parent) => !parent.contains('.'),
        DomainPattern::Exactly(_) => false,
    };
    if too_wide {
        notes.add(
            &domain.at,
            format!(
                "open relay: relay.domains has \"{}\", which anybody may send to",
                domain.value
            ),
            "list only the domains this relay takes mail for; where mail goes next is said in \
             [[route]]",
        );
    }
}
