//! Settings in force, and what was made of them.

use std::collections::HashMap;
use std::sync::Arc;

use tracing::warn;
use waypost_mail::Fetch;

use crate::server::ServerError;
use crate::tls::DoorTls;
use crate::token::Tokens;
use crate::{ListenerConfig, Logins, Settings, SettingsError};

/// Settings in force, and what was made of them.
#[derive(Debug)]
pub(crate) struct Current {
    pub(crate) settings: Settings,
    pub(crate) logins: Logins,
    pub(crate) tokens: Option<Tokens>,
    /// By the names of listeners; empty without certificates.
    tls: HashMap<String, Arc<DoorTls>>,
}

impl Current {
    /// Settings that come into force in place of `before`.
    pub(crate) fn new(
        settings: Settings,
        logins: Logins,
        fetch: &Arc<dyn Fetch>,
        listeners: &[ListenerConfig],
        before: Option<&Current>,
    ) -> Result<Current, ServerError> {
        let mistakes = settings.mistakes(listeners);
        if !mistakes.is_empty() {
            return Err(ServerError::Settings(mistakes));
        }
        warn_of_no_users(&settings, listeners);
        let mut tls = HashMap::new();
        for name in listeners.iter().map(|listener| &listener.name) {
            let Some(certificates) = &settings.tls else { break };
            let policy = settings.door(name).map(|door| door.tls.clone()).unwrap_or_default();
            let old = before.and_then(|before| before.tls.get(name)).map(AsRef::as_ref);
            let made = DoorTls::new(certificates, &policy, settings.ticket_rotation, old);
            let failed = |mistake| SettingsError::TlsPolicy(name.clone(), mistake);
            let made = made.map_err(|mistake| ServerError::Settings(vec![failed(mistake)]))?;
            tls.insert(name.clone(), Arc::new(made));
        }
        let tokens = settings.auth.tokens.as_ref();
        let tokens = tokens.map(|tokens| Tokens::new(tokens, fetch.clone()));
        Ok(Current { settings, logins, tokens, tls })
    }

    /// TLS at the listener of this name, when there are certificates.
    pub(crate) fn tls(&self, listener: &str) -> Option<Arc<DoorTls>> {
        self.tls.get(listener).cloned()
    }
}

fn warn_of_no_users(settings: &Settings, listeners: &[ListenerConfig]) {
    let submission = listeners.iter().find(|listener| listener.kind.wants_login());
    if let Some(listener) = submission.filter(|_| !settings.lets_log_in()) {
        warn!(listener = listener.name, "nobody can log in, so no mail is taken here: add a user");
    }
}
