//! What the demonstration needs: certificates, a user, a configuration, a sink, and the relay.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use tempfile::TempDir;
use waypost_config::Settings;
use waypost_delivery::ClientTls;
use waypost_identity::keygen::{self, Algorithm};
use waypost_inbound::{ListenerKind, UsersFile, tls};
use waypost_smtp::client::Credentials;
use waypost_smtp::{Mailbox, Reply};

use crate::relay::{Relay, THIS_PROGRAM};
use crate::send::authorities;
use crate::sink::Sink;

/// Who sends, and gets notices.
pub(super) const SENDER: &str = "demo@demo.example";
/// Who logs in.
pub(super) const USER: &str = "demo";

/// Everything, up and running.
pub(super) struct Stage {
    pub(super) config: PathBuf,
    pub(super) ca: PathBuf,
    pub(super) password: String,
    pub(super) credentials: Credentials,
    pub(super) authorities: ClientTls,
    pub(super) sink: Sink,
    relay: Relay,
    admin: waypost_admin::Client,
    dir: TempDir,
}

impl Stage {
    /// Makes it all in a new directory that only this user can read.
    pub(super) async fn build() -> Result<Stage> {
        let dir = tempfile::Builder::new()
            .prefix("waypost-demo-")
            .permissions(fs::Permissions::from_mode(0o700))
            .tempdir();
        let dir = dir.context("no place for temporary files")?;
        let path = |name: &str| dir.path().join(name);
        let (config, ca) = (path("waypost.toml"), path("ca.pem"));
        let authority = Authority::new()?;
        fs::write(&ca, &authority.pem)?;
        let relay_pair = authority.issue(dir.path(), "relay")?;
        let sink_pair = authority.issue(dir.path(), "sink")?;
        let sink_tls = tls::server_config(&[sink_pair]).map_err(|errors| {
            let text: Vec<String> = errors.iter().map(ToString::to_string).collect();
            anyhow::anyhow!(text.join("; "))
        })?;
        let sink = Sink::start(sink_tls, Moods::default()).await?;

        let password = format!("{:020x}", rand::random::<u128>() >> 48);
        let mut users = UsersFile::load_or_empty(&path("users"))?;
        users.add(USER, &password)?;
        users.set_send_as(USER, vec!["@demo.example".parse()?])?;
        write_keys(dir.path())?;
        crate::guests::unpack(&path("plugins"))?;
        fs::write(&config, configuration(dir.path(), &relay_pair, sink.address))?;
        let settings = Settings::load(&config)?.compiled_by(THIS_PROGRAM);
        let socket = settings.startup.places.socket.clone();
        let relay = Relay::start(settings, &config).await?;
        Ok(Stage {
            credentials: Credentials::new(USER, password.clone())?,
            authorities: authorities(Some(&ca))?,
            config,
            ca,
            password,
            sink,
            relay,
            admin: waypost_admin::Client::new(&socket),
            dir,
        })
    }

    /// Where the listener of this kind is.
    pub(super) fn door(&self, kind: ListenerKind) -> Result<SocketAddr> {
        let doors = self.relay.addresses();
        let door = doors.into_iter().find(|(config, _)| config.kind == kind);
        let address = door.and_then(|(_, place)| place.tcp());
        address.with_context(|| format!("the relay has no {kind} listener"))
    }

    /// The directory of it all.
    pub(super) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Asks the relay as an operator does.
    pub(super) fn ask(&self) -> &waypost_admin::Client {
        &self.admin
    }

    /// Every recipient of every message is settled.
    pub(super) fn is_queue_empty(&self) -> bool {
        let status = self.relay.queue().status();
        status.waiting + status.leased + status.held == 0
    }

    /// Ends the relay and removes the directory.
    pub(super) async fn close(self) -> Result<()> {
        self.relay.drain().await;
        let shown = self.dir.path().display().to_string();
        self.dir.close().with_context(|| format!("cannot remove {shown}"))
    }
}

/// What the sink says: `nobody` does not exist anywhere, and `busy` takes every second try.
#[derive(Debug, Default)]
struct Moods {
    busy_takes: AtomicBool,
}

impl crate::sink::Judge for Moods {
    fn judge(&self, recipient: &Mailbox) -> Reply {
        match recipient.local() {
            "nobody" => Reply::MAILBOX_UNAVAILABLE,
            "busy" if !self.busy_takes.fetch_xor(true, Ordering::Relaxed) => {
                Reply::fixed(450, (4, 2, 1), "Mailbox busy, try again later")
            }
            _ => Reply::RECIPIENT_OK,
        }
    }
}

/// A certification authority for this one demonstration.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Result<Authority> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "Waypost demonstration");
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate()?;
        let pem = params.self_signed(&key)?.pem();
        Ok(Authority { pem, issuer: Issuer::new(params, key) })
    }

    /// A certificate for this machine's loopback, in two files.
    fn issue(&self, dir: &Path, name: &str) -> Result<waypost_inbound::KeyPair> {
        let names = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name.push(DnType::CommonName, format!("{name}.demo.example"));
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        let pair = waypost_inbound::KeyPair {
            certificate: dir.join(format!("{name}.pem")),
            key: dir.join(format!("{name}.key")),
        };
        fs::write(&pair.certificate, certificate.pem())?;
        fs::write(&pair.key, key.serialize_pem())?;
        Ok(pair)
    }
}

/// Keys to sign with, and a secret.
fn write_keys(dir: &Path) -> Result<()> {
    for (name, algorithm) in [("rsa", Algorithm::Rsa2048), ("ed25519", Algorithm::Ed25519)] {
        let key = keygen::generate(algorithm)?;
        private(&dir.join(format!("{name}.pem")), key.private_pem())?;
    }
    Ok(())
}

fn private(path: &Path, text: &str) -> Result<()> {
    let mut options = fs::OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(path)?;
    Ok(std::io::Write::write_all(&mut file, text.as_bytes())?)
}

fn configuration(dir: &Path, pair: &waypost_inbound::KeyPair, sink: SocketAddr) -> String {
    // As TOML wants strings; a path that is no UTF-8 would show itself at the next step.
    let quoted = |path: &Path| format!("{:?}", path.display().to_string());
    let inside = |name: &str| quoted(&dir.join(name));
    let listeners: String = ["relay", "submission", "submissions"]
        .map(|kind| {
            let address = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
            format!("[[listener]]\nname = {kind:?}\nkind = {kind:?}\naddress = \"{address}\"\n\n")
        })
        .concat();
    format!(
        r#"# Made by `waypost demo`, and gone when it ends.
hostname = "relay.demo.example"

[spool]
path = {spool}
keep-free = "16 MiB"
reserve = "1 MiB"

[admin]
socket = {socket}

{listeners}[tls]
ca-file = {ca}

[[tls.certificate]]
chain = {chain}
key = {key}

[users]
file = {users}

# Who may relay without a login: programs on this machine.
[relay]
networks = ["127.0.0.0/8"]

# All mail goes to the sink, encrypted, and only if its certificate is right.
[[route]]
domains = ["*"]
via = [{{ host = "{host}", port = {port} }}]
tls = "verify"

# So short for the demonstration only.
[queue]
first-retry = "1s"
max-retry = "2s"

[keys.rsa]
file = {rsa}
[keys.ed25519]
file = {ed25519}

# The four plugins that come with Waypost; see plugins/ for all they can do.
[[plugin]]
name = "rewrite"
file = {rewrite}
[plugin.grants.edit]
add = ["X-*"]
body = true
recipients = true
[plugin.config.aliases]
map = {{ "team@customer.example" = ["anna@customer.example", "ben@customer.example"] }}
[[plugin.config.fields]]
add = "X-Submitted"
value = "{{identity}} by {{listener}}"
[[plugin.config.footers]]
name = "demonstration"
text = "-- \\nSent through the demonstration of Waypost"

[[plugin]]
name = "sign"
file = {sign}
[plugin.grants]
sign = ["rsa", "ed25519"]
[[plugin.config.rules]]
name = "our mail, twice"
from = ["demo.example"]
signatures = [{{ selector = "rsa", key = "rsa" }}, {{ selector = "ed", key = "ed25519" }}]

[[plugin]]
name = "route"
file = {route}
[[plugin.config.rules]]
name = "partners have a lane of their own"
recipient = ["partner.example"]
to = {{ host = "{host}", port = {port} }}
lane = "partners"
tls = "verify"

[[plugin]]
name = "retry"
file = {retry}
[plugin.config]
jitter = 0
[[plugin.config.rules]]
id = "the partner is busy"
kind = "system"
when = {{ domain = ["partner.example"], class = 4, text = ["busy"] }}
then = {{ wait = "1s" }}
samples = ["450 4.2.1 Mailbox busy, try again later"]
"#,
        spool = inside("spool"),
        socket = inside("admin.sock"),
        ca = inside("ca.pem"),
        chain = quoted(&pair.certificate),
        key = quoted(&pair.key),
        users = inside("users"),
        rsa = inside("rsa.pem"),
        ed25519 = inside("ed25519.pem"),
        rewrite = inside("plugins/rewrite.wasm"),
        sign = inside("plugins/sign.wasm"),
        route = inside("plugins/route.wasm"),
        retry = inside("plugins/retry.wasm"),
        host = sink.ip(),
        port = sink.port(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busy_takes_every_second_try() {
        let moods = Moods::default();
        let says = |text: &str| {
            use crate::sink::Judge;
            moods.judge(&Mailbox::parse(text).unwrap()).code.get()
        };
        let codes = ["busy@a.example", "a@a.example", "busy@a.example", "busy@a.example"].map(says);
        assert_eq!(codes, [450, 250, 250, 450]);
        assert_eq!(says("nobody@a.example"), 550);
    }
}
