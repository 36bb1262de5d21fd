//! What operators ask of the program as a whole.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use tokio::sync::watch;
use tracing::{info, warn};
use waypost_admin::Control;
use waypost_admin::api::{
    Ban, ExplainRequest, Generation, LiftBans, ListSuppressions, Listener, MAX_SUPPRESSIONS,
    Overview, Plugin, PluginExplained, PluginStage, PolicyReload, PolicyView, ShowSuppressions,
    StageExplained, SuppressionPage, Unsuppress, Verdict,
};
use waypost_config::{Reload, Settings};
use waypost_delivery::Delivery;
use waypost_hooks::{Hop, Way};
use waypost_inbound::Server;
use waypost_intake::{Intake, SuppressionSettings, Suppressions};
use waypost_mail::network::NetworkError;
use waypost_mail::suppression::Owner;
use waypost_mail::{LedgerError, MessageId, Route, Rulebook, Suppression, Timestamp};
use waypost_plugin::{Change, GenerationInfo, Policy, PolicyConfig, Shown, ShownStage, lines};
use waypost_queue::{Queue, Selected};
use waypost_smtp::{Domain, ReversePath};

/// Entries of the suppression list in an answer to who does not say how many.
const USUAL_PAGE: usize = 1000;

/// Handles on the rooms of a running relay.
#[derive(Debug)]
pub struct Controls {
    pub(crate) hostname: String,
    pub(crate) started: Timestamp,
    pub(crate) file: Option<PathBuf>,
    pub(crate) queue: Arc<Queue>,
    pub(crate) intake: Arc<Intake>,
    pub(crate) server: Arc<Server>,
    pub(crate) bans: Arc<waypost_inbound::Bans>,
    pub(crate) delivery: Arc<Delivery>,
    pub(crate) registry: Registry,
    pub(crate) stop: watch::Sender<bool>,
    pub(crate) policy: Arc<Policy>,
    /// What the policy in force was made from.
    pub(crate) policy_config: Mutex<PolicyConfig>,
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
    pub async fn reload_file(&self, who: &str) -> Result<String, String> {
        let Some(file) = self.file.clone() else {
            return Err("this relay was started without a configuration file".to_owned());
        };
        let reload = load(file).await?;
        // The policy first: it is what can still turn out not to work.
        self.put_policy(reload.policy, Change::by(who)).await?;
        self.intake.set_keys(reload.keys);
        self.server.reload(reload.inbound).map_err(|error| error.to_string())?;
        self.delivery.set_credentials(reload.credentials);
        self.delivery.set_certificates(reload.certificates);
        self.put_rules(reload.replies, reload.suppression);
        self.intake.set_routing(reload.routing);
        self.intake.set_verification(reload.verification);
        Ok("reloaded: who may relay, users, certificates, limits, routes, rules of replies, what feeds the suppression list, keys, plugins and what is verified are in force; \
            everything else takes a restart"
            .to_owned())
    }
}

impl Controls {
    /// As [`Controls::reload_file`], and says in the log what came of it.
    ///
    /// # Errors
    /// Every mistake; the running settings stay.
    pub async fn reload_told(&self, who: &str) -> Result<String, String> {
        let reloaded = self.reload_file(who).await;
        match &reloaded {
            Ok(message) => info!("{message}"),
            Err(mistakes) => warn!("not reloaded, the running settings stay: {mistakes}"),
        }
        reloaded
    }

    /// Reads the plugins' part of the configuration again and puts it in force.
    ///
    /// # Errors
    /// Every mistake; the running policy stays.
    pub async fn reload_policy(&self, change: Change) -> Result<GenerationInfo, String> {
        let (config, keys) = match self.file.clone() {
            Some(file) => {
                let reload = load(file).await?;
                (reload.policy, Some(reload.keys))
            }
            None => (self.policy_config().clone(), None),
        };
        let info = self.put_policy(config, change).await?;
        if let Some(keys) = keys {
            self.intake.set_keys(keys);
        }
        Ok(info)
    }

    fn put_rules(&self, rulebook: Arc<Rulebook>, suppression: SuppressionSettings) {
        if let Some(returns) = self.intake.returns() {
            returns.set_rulebook(rulebook.clone());
        }
        self.delivery.set_rulebook(rulebook);
        if let Some(list) = self.intake.suppressions() {
            list.set(suppression);
        }
    }

    fn suppressions(&self) -> Result<&Suppressions, String> {
        let list = self.intake.suppressions().map(|list| &**list);
        list.ok_or_else(|| "this relay has no suppression list".to_owned())
    }

    async fn put_policy(
        &self,
        config: PolicyConfig,
        change: Change,
    ) -> Result<GenerationInfo, String> {
        let info = self.policy.reload(&config, change).await.map_err(|errors| lines(&errors))?;
        *self.policy_config() = config;
        Ok(info)
    }

    /// The plugins.
    pub fn policy(&self) -> &Arc<Policy> {
        &self.policy
    }

    /// The components of the plugins in force.
    pub(crate) fn plugin_files(&self) -> Vec<PathBuf> {
        self.policy_config().plugins.iter().map(|plugin| plugin.file.clone()).collect()
    }

    fn policy_config(&self) -> MutexGuard<'_, PolicyConfig> {
        self.policy_config.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn load(file: PathBuf) -> Result<Reload, String> {
    let loaded = tokio::task::spawn_blocking(move || Settings::load(&file)).await;
    let settings = loaded.map_err(|failure| failure.to_string())?;
    Ok(settings.map_err(|mistakes| mistakes.to_string())?.reload)
}

#[async_trait]
impl Control for Controls {
    fn overview(&self) -> Overview {
        let sessions = |name: &str| self.server.metrics().open_sessions(name);
        let door =
            |(config, place): (waypost_inbound::ListenerConfig, waypost_inbound::Place)| Listener {
                sessions: sessions(&config.name),
                name: config.name,
                kind: config.kind.to_string(),
                address: place.to_string(),
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
        self.reload_told("operator").await
    }

    async fn drain(&self) {
        self.begin_to_drain();
    }

    async fn bounce(&self, whom: Selected, reason: String) -> Result<Verdict, String> {
        let reason = if reason.is_empty() { "given up".to_owned() } else { reason };
        let bounced = self.delivery.bounce(whom, &reason).await;
        bounced.map(Verdict::from).map_err(|error| error.to_string())
    }

    async fn expire(&self, whom: Selected) -> Result<Verdict, String> {
        let expired = self.delivery.expire(whom).await;
        expired.map(Verdict::from).map_err(|error| error.to_string())
    }

    fn way(&self, to: &str, message: MessageId, domain: &Domain) -> Result<Route, String> {
        let named = Way { hops: vec![Hop::Named(to.to_owned())], ..Way::default() };
        if let Ok(route) = self.intake.lower(&named, domain, message) {
            return Ok(route);
        }
        let way = Way { hops: hops(to)?, ..Way::default() };
        self.intake.lower(&way, domain, message).map_err(|error| error.to_string())
    }

    fn policy(&self) -> PolicyView {
        PolicyView {
            generations: self.policy.generations().into_iter().map(generation).collect(),
            plugins: self.policy.plugins().into_iter().map(plugin).collect(),
        }
    }

    async fn reload_policy(&self, request: PolicyReload) -> Result<Generation, String> {
        let how_long = Duration::from_secs(request.canary_seconds.unwrap_or(600));
        let change = Change {
            who: "operator".to_owned(),
            canary: request.canary_percent.map(|percent| (percent, how_long)),
            insist: true,
        };
        Controls::reload_policy(self, change).await.map(generation)
    }

    async fn rollback_policy(&self, id: Option<u64>) -> Result<Generation, String> {
        self.policy.rollback(id, "operator").await.map(generation)
    }

    fn explain(&self, request: ExplainRequest) -> Result<Vec<StageExplained>, String> {
        let case = crate::explain::case(request)?;
        let stage = |explained: waypost_plugin::explain::Explained| StageExplained {
            stage: explained.stage.to_string(),
            plugins: explained
                .plugins
                .into_iter()
                .map(|(name, why_not)| PluginExplained { name, why_not })
                .collect(),
        };
        Ok(self.policy.explain(&case).into_iter().map(stage).collect())
    }

    fn bans(&self) -> Vec<Ban> {
        let ban = |ban: waypost_inbound::Ban| Ban {
            network: ban.network.to_string(),
            since: ban.since,
            until: ban.until,
        };
        self.bans.list().into_iter().map(ban).collect()
    }

    async fn lift_bans(&self, request: LiftBans) -> Result<usize, String> {
        let networks = match (&request.network, request.all) {
            (Some(network), false) => {
                vec![network.parse().map_err(|e: NetworkError| e.to_string())?]
            }
            (None, true) => self.bans.list().into_iter().map(|ban| ban.network).collect(),
            _ => return Err("say which address or network, or all of them".to_owned()),
        };
        let mut lifted = 0;
        for network in networks {
            lifted += self.bans.lift(network).await.map_err(|error| error.to_string())?;
        }
        Ok(lifted)
    }

    async fn suppressed(&self, request: ListSuppressions) -> Result<SuppressionPage, String> {
        let limit = request.limit.unwrap_or(USUAL_PAGE).min(MAX_SUPPRESSIONS);
        let page = self.suppressions()?.list(request.after.as_deref(), limit).await;
        let page = page.map_err(|error| error.to_string())?;
        Ok(SuppressionPage { entries: page.entries, next: page.next })
    }

    async fn suppressed_for(&self, request: ShowSuppressions) -> Result<Vec<Suppression>, String> {
        let ShowSuppressions { target, sender, user } = request;
        let list = self.suppressions()?;
        let told = |error: LedgerError| error.to_string();
        let mut entries = list.of(&target).await.map_err(told)?;
        if let Some(domain) = target.of_domain() {
            entries.extend(list.of(&domain).await.map_err(told)?);
        }
        if sender.is_some() || user.is_some() {
            let sender = sender.map_or(ReversePath::Null, ReversePath::Mailbox);
            let owners = Owner::of(&sender, user.as_deref());
            entries.retain(|entry| owners.contains(&entry.owner));
        }
        Ok(entries)
    }

    async fn suppress(&self, entries: Vec<Suppression>) -> Result<usize, String> {
        let count = entries.len();
        for entry in entries {
            self.suppressions()?.add(entry).await.map_err(|error| error.to_string())?;
        }
        Ok(count)
    }

    async fn unsuppress(&self, request: Unsuppress) -> Result<usize, String> {
        let mut removed = 0;
        for target in &request.targets {
            let list = self.suppressions()?;
            let gone = list.remove(target, request.owner.as_ref()).await;
            removed += gone.map_err(|error| error.to_string())?;
        }
        Ok(removed)
    }

    fn metrics(&self) -> String {
        let mut text = String::new();
        match encode(&mut text, &self.registry) {
            Ok(()) => text,
            Err(error) => format!("# the counters cannot be shown: {error}\n"),
        }
    }
}

/// Hops as an operator writes them. None stands for the exchangers of the recipient's own domain.
fn hops(to: &str) -> Result<Vec<Hop>, String> {
    let unknown =
        || format!("'{to}' is no way to go: mx, mx:DOMAIN, a name of [policy.hops], or HOST:PORT");
    if to == "mx" {
        return Ok(Vec::new());
    }
    if let Some(domain) = to.strip_prefix("mx:") {
        return Domain::parse(domain).map(|domain| vec![Hop::Mx(domain)]).map_err(|_| unknown());
    }
    let (host, port) = to.rsplit_once(':').ok_or_else(unknown)?;
    let host = host.trim_matches(['[', ']']);
    let is_host =
        host.parse::<IpAddr>().is_ok() || matches!(Domain::parse(host), Ok(Domain::Name(_)));
    let port = port.parse::<u16>().ok().filter(|port| *port > 0 && is_host).ok_or_else(unknown)?;
    Ok(vec![Hop::Host { host: host.to_owned(), port, implicit_tls: false }])
}

fn generation(info: GenerationInfo) -> Generation {
    let GenerationInfo { id, state, since, who, plugins } = info;
    Generation { id, state, since, who, plugins }
}

fn plugin(shown: Shown) -> Plugin {
    let stage = |stage: ShownStage| PluginStage {
        stage: stage.stage,
        calls: stage.calls,
        failed: stage.failed,
        refused: stage.refused,
        later: stage.later,
        taken: stage.taken,
        median_us: stage.median_us,
        p99_us: stage.p99_us,
        open_since: stage.open_since,
    };
    Plugin {
        name: shown.name,
        file: shown.file,
        digest: shown.digest,
        says: shown.says,
        mode: shown.mode,
        generation: shown.generation,
        memory: shown.memory,
        stages: shown.stages.into_iter().map(stage).collect(),
        last_fault: shown.last_fault,
    }
}
