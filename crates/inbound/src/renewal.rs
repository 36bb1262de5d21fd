//! Files that change while the program runs: certificates that are shown, and what vouches for those of
//! clients.

use std::collections::HashSet;
use std::sync::Arc;

use tokio::time::sleep;
use tracing::{error, info};

use crate::Settings;
use crate::server::Server;
use crate::tls::Change;

impl Server {
    /// Files come and go, usually without a word to us.
    pub(crate) async fn look_at_files(self: Arc<Self>) {
        let mut told = HashSet::new();
        loop {
            let before = self.current();
            sleep(before.settings.look_at_files).await;
            self.look_at_certificates().await;
            self.look_at_vouchers(&mut told).await;
        }
    }

    async fn look_at_certificates(&self) {
        let Some(certificates) = self.current().settings.tls.clone() else { return };
        let changes = tokio::task::spawn_blocking(move || certificates.refresh()).await;
        for change in changes.unwrap_or_default() {
            self.house.metrics.certificate(&change);
            match change {
                Change::Renewed(pair) => {
                    info!(certificate = %pair.certificate.display(), "a new certificate is shown from now on");
                }
                Change::Kept(fault) => error!(
                    %fault,
                    "a certificate changed and cannot be used; the one before goes on being shown: put a \
                     whole pair in place"
                ),
            }
        }
    }

    /// Authorities of clients' certificates, and what they revoked. `told` are faults that were told.
    async fn look_at_vouchers(&self, told: &mut HashSet<String>) {
        let before = self.current();
        let settings = before.settings.clone();
        let looked = tokio::task::spawn_blocking(move || renewed(settings)).await;
        let Ok((settings, faults)) = looked else { return };
        for fault in faults.difference(told) {
            error!(
                fault,
                "a file about certificates of clients changed and cannot be used; what it said before holds"
            );
        }
        *told = faults;
        let Some(settings) = settings else { return };
        match self.put_in_force(settings, Some(&before)) {
            Ok(()) => {
                info!("what vouches for certificates of clients changed, and holds from now on")
            }
            Err(fault) => {
                error!(%fault, "what vouches for certificates of clients cannot be put in force")
            }
        }
    }
}

/// The settings with what their files say now, if that is something else, and files that say nothing.
fn renewed(mut settings: Settings) -> (Option<Settings>, HashSet<String>) {
    let (mut changed, mut faults) = (false, HashSet::new());
    for (name, rules) in &mut settings.doors {
        match rules.tls.clients.changed() {
            Ok(None) => {}
            Ok(Some(clients)) => {
                let mut policy = rules.tls.clone();
                policy.clients = clients;
                match policy.mistake() {
                    Some(mistake) => drop(faults.insert(format!("listener '{name}': {mistake}"))),
                    None => (rules.tls, changed) = (policy, true),
                }
            }
            Err(fault) => drop(faults.insert(fault.to_string())),
        }
    }
    (changed.then_some(settings), faults)
}
