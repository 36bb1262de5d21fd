//! What operators ask of the program as a whole.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use tokio::sync::watch;
use tracing::{info, warn};
use waypost_admin::Control;
use waypost_admin::api::{Listener, Overview, Verdict};
use waypost_config::Settings;
use waypost_delivery::Delivery;
use waypost_inbound::Server;
use waypost_intake::Intake;
use waypost_mail::{MessageId, Timestamp};
use waypost_queue::Queue;

/// Handles on the rooms of a running relay.
#[derive(Debug)]
pub struct Controls {
    pub(crate) hostname: String,
    pub(crate) started: Timestamp,
    pub(crate) file: Option<PathBuf>,
    pub(crate) queue: Arc<Queue>,
    pub(crate) intake: Arc<Intake>,
    pub(crate) server: Arc<Server>,
    pub(crate) delivery: Arc<Delivery>,
    pub(crate) registry: Registry,
    pub(crate) stop: watch::Sender<bool>,
}

impl Controls {
    /// Tells every part to come to an end.
    pub fn begin_to_drain(&self) {
        if !self.stop.send_replace(true) {
            info!("draining: no more mail is taken");
        }
    }

    /// Reads the configuration again and puts in force what can change while mail flows.
    ///
    /// # Errors
    /// Every mistake; the running settings stay.
    pub async fn reload_file(&self) -> Result<String, String> {
        let Some(file) = self.file.clone() else {
            return Err("this relay was started without a configuration file".to_owned());
        };
        let loaded = tokio::task::spawn_blocking(move || Settings::load(&file)).await;
        let settings = loaded.map_err(|failure| failure.to_string())?;
        let reload = settings.map_err(|mistakes| mistakes.to_string())?.reload;
        self.server.reload(reload.inbound).map_err(|error| error.to_string())?;
        self.delivery.set_credentials(reload.credentials);
        self.intake.set_routing(reload.routing);
        self.intake.set_keys(reload.keys);
        Ok("reloaded: who may relay, users, certificates, limits and routes are in force; \
            everything else takes a restart"
            .to_owned())
    }
}

#[async_trait]
impl Control for Controls {
    fn overview(&self) -> Overview {
        let sessions = |name: &str| self.server.metrics().open_sessions(name);
        let door =
            |(config, address): (waypost_inbound::ListenerConfig, std::net::SocketAddr)| Listener {
                sessions: sessions(&config.name),
                name: config.name,
                kind: config.kind.to_string(),
                address: address.to_string(),
            };
        Overview {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            hostname: self.hostname.clone(),
            pid: std::process::id(),
            started: self.started,
            draining: *self.stop.borrow(),
            listeners: self.server.addresses().into_iter().map(door).collect(),
            queue: self.queue.status(),
        }
    }

    async fn reload(&self) -> Result<String, String> {
        let reloaded = self.reload_file().await;
        match &reloaded {
            Ok(message) => info!("{message}"),
            Err(mistakes) => warn!("not reloaded, the running settings stay: {mistakes}"),
        }
        reloaded
    }

    async fn drain(&self) {
        self.begin_to_drain();
    }

    async fn bounce(&self, id: MessageId, reason: String) -> Result<Verdict, String> {
        let reason = if reason.is_empty() { "given up".to_owned() } else { reason };
        let bounced = self.delivery.bounce(id, &reason).await.map_err(|e| e.to_string())?;
        Ok(Verdict { changed: bounced, in_flight: 0 })
    }

    fn metrics(&self) -> String {
        let mut text = String::new();
        match encode(&mut text, &self.registry) {
            Ok(()) => text,
            Err(error) => format!("# the counters cannot be shown: {error}\n"),
        }
    }
}
