//! The doors' side of TLS, and what is special at single listeners.

use std::path::PathBuf;
use std::time::Duration;

use waypost_inbound::tls::{
    Certificates, ClientRule, TlsPolicy, TlsVersion, VoucherFiles, Vouchers,
};
use waypost_inbound::{DoorRules, KeyPair, PriorityRule, ProxyRule, Settings, XclientPeers};
use waypost_smtp::Priority;

use crate::file::{Clients, Door, File, Xclient};
use crate::mistake::Notes;
use crate::section::At;

/// A proxy sends its header with its first packet.
const PROXY_TIMEOUT: Duration = Duration::from_secs(5);

/// Sets all of it; nothing when something named in the file cannot be used.
pub(super) fn tls(file: &File, settings: &mut Settings, notes: &mut Notes<'_>) -> Option<()> {
    settings.look_at_files = file.tls.look_at_files.unwrap_or(settings.look_at_files);
    settings.ticket_rotation = file.tls.ticket_rotation.unwrap_or(settings.ticket_rotation);
    if !file.tls.certificates.is_empty() {
        settings.tls = Some(certificates(file, notes)?);
    }
    for listener in &file.listeners {
        let rules = rules(&listener.door, notes)?;
        settings.doors.insert(listener.name.value.clone(), rules);
    }
    Some(())
}

fn certificates(file: &File, notes: &mut Notes<'_>) -> Option<Certificates> {
    let pairs = file.tls.certificates.iter().map(|pair| KeyPair {
        certificate: pair.certificate.value.clone(),
        key: pair.key.value.clone(),
    });
    let pairs: Vec<KeyPair> = pairs.collect();
    let at = file.tls.certificates.first().map_or(0..0, |pair| pair.certificate.at.clone());
    match Certificates::load(&pairs) {
        Ok(certificates) => Some(certificates),
        Err(errors) => {
            errors.iter().for_each(|error| notes.add(&at, error.to_string(), ""));
            None
        }
    }
}

fn rules(door: &Door, notes: &mut Notes<'_>) -> Option<DoorRules> {
    let policy = TlsPolicy {
        oldest: if door.only_tls13 { TlsVersion::V1_3 } else { TlsVersion::V1_2 },
        extended_master_secret: door.extended_master_secret,
        ciphers: door.ciphers.iter().map(|name| name.value.clone()).collect(),
        clients: match &door.clients {
            None => ClientRule::None,
            Some(clients) if clients.required => ClientRule::Require(vouchers(clients, notes)?),
            Some(clients) => ClientRule::Ask(vouchers(clients, notes)?),
        },
    };
    let Some(mistake) = policy.mistake() else {
        let (proxy, xclient, priority) = (proxy(door), xclient(door), priority(door));
        return Some(DoorRules { tls: policy, proxy, xclient, priority });
    };
    let clients = door.clients.as_ref().map(|clients| &clients.at);
    let place = door.ciphers.first().map(|name| &name.at).or(clients).or(door.tls.as_ref());
    notes.add(place.unwrap_or(&(0..0)), mistake, "");
    None
}

fn proxy(door: &Door) -> Option<ProxyRule> {
    let given = door.proxy.as_ref()?;
    Some(ProxyRule {
        networks: given.networks.iter().map(|network| network.value).collect(),
        others: given.others,
        timeout: given.timeout.unwrap_or(PROXY_TIMEOUT),
    })
}

fn priority(door: &Door) -> PriorityRule {
    let usual = PriorityRule::default();
    let highest = door.priority.highest.and_then(Priority::new);
    PriorityRule { offered: door.priority.offer, highest: highest.unwrap_or(usual.highest) }
}

fn xclient(door: &Door) -> XclientPeers {
    let peers = |given: &Xclient| XclientPeers {
        networks: given.networks.iter().map(|network| network.value).collect(),
        login: given.login,
    };
    door.xclient.as_ref().map(peers).unwrap_or_default()
}

fn vouchers(clients: &Clients, notes: &mut Notes<'_>) -> Option<Vouchers> {
    let fingerprints: Vec<_> = clients.fingerprints.iter().map(|print| print.value).collect();
    if clients.authorities.is_none() && fingerprints.is_empty() {
        let hint = "name ca-file, the authorities that sign them, or fingerprints, or both";
        notes.add(&clients.at, "nobody vouches for certificates of clients", hint);
        return None;
    }
    let path = |file: &Option<At<PathBuf>>| file.as_ref().map(|file| file.value.clone());
    let files =
        VoucherFiles { authorities: path(&clients.authorities), revoked: path(&clients.revoked) };
    match Vouchers::read(files, fingerprints) {
        Ok(vouchers) => Some(vouchers),
        Err(error) => {
            let files = [&clients.authorities, &clients.revoked].into_iter().flatten();
            let at = files.clone().find(|file| file.value == error.path).map(|file| &file.at);
            notes.add(at.unwrap_or(&clients.at), error.to_string(), "");
            None
        }
    }
}
