//! A relay's directory and its configuration file, which a story writes and changes.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::RootCertStore;
use tempfile::TempDir;
use waypost::relay::{Choices, Relay, Sockets};
use waypost_admin::Client;
use waypost_admin::api::Words;
use waypost_config::Settings;
use waypost_harness::authority::Authority;
use waypost_hooks::Hooks;
use waypost_inbound::{BearersFile, UsersFile};
use waypost_mail::{Clock, Fetch, SystemClock};

use crate::{Process, Running};

/// The user that [`Home::users`] makes.
pub const USER: &str = "anna";
/// Her password.
pub const PASSWORD: &str = "correct horse battery";
/// The relay's name, and the name in its first certificate.
pub(crate) const HOSTNAME: &str = "relay.example";

/// The kind of a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// From servers and listed networks.
    Relay,
    /// From users, with STARTTLS.
    Submission,
    /// From users, with TLS from the first byte.
    Submissions,
    /// From servers and listed networks, by LMTP.
    Lmtp,
    /// From programs with a token, by HTTP.
    Http,
    /// The same with TLS.
    Https,
    /// From programs of this machine; see [`Home::local_socket`].
    Local,
}

impl Door {
    /// Those by SMTP over TCP.
    pub const ALL: [Door; 3] = [Door::Relay, Door::Submission, Door::Submissions];

    /// Its name in the configuration; the listener's name is the same.
    pub fn name(self) -> &'static str {
        match self {
            Door::Relay => "relay",
            Door::Submission => "submission",
            Door::Submissions => "submissions",
            Door::Lmtp => "lmtp",
            Door::Local => "local",
            Door::Http => "http",
            Door::Https => "https",
        }
    }
}

/// A relay's home on a real disk; gone when dropped. It can be started any number of times.
///
/// Without further words it has one relay listener, takes mail from anybody to `inside.example`,
/// retries within seconds, asks a DNS server that is not there, and verifies nothing.
#[derive(Debug)]
pub struct Home {
    places: Arc<Places>,
    authority: Authority,
    values: BTreeMap<String, BTreeMap<String, String>>,
    certificates: Vec<String>,
    routes: Vec<String>,
    doors: Vec<Door>,
    door_lines: String,
    listeners: Vec<String>,
    plugins: Vec<String>,
    hooks: Option<Arc<dyn Hooks>>,
    clock: Arc<dyn Clock>,
    fetch: Option<Arc<dyn Fetch>>,
    amendments: Vec<Amendment>,
}

/// A change to the settings that the file gives.
#[derive(Clone)]
struct Amendment(Arc<dyn Fn(&mut Settings) + Send + Sync>);

impl fmt::Debug for Amendment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Amendment")
    }
}

/// Its directories, which stay as long as a relay runs in them.
#[derive(Debug)]
pub(crate) struct Places {
    directory: TempDir,
    /// Elsewhere, because the path of a socket must be short.
    sockets: TempDir,
}

/// What it is like.
impl Home {
    /// See [`Home`].
    #[expect(clippy::new_without_default, reason = "it makes directories")]
    pub fn new() -> Home {
        let home = Home {
            places: Arc::new(Places {
                directory: tempfile::Builder::new().prefix("story-").tempdir_in(disk()).unwrap(),
                sockets: tempfile::tempdir().unwrap(),
            }),
            authority: Authority::new().unwrap(),
            values: BTreeMap::new(),
            certificates: Vec::new(),
            routes: Vec::new(),
            doors: vec![Door::Relay],
            door_lines: String::new(),
            listeners: Vec::new(),
            plugins: Vec::new(),
            hooks: None,
            clock: Arc::new(SystemClock),
            fetch: None,
            amendments: Vec::new(),
        };
        let spool = home.spool().display().to_string();
        let socket = home.socket().display().to_string();
        home.set("", "hostname", &format!("{HOSTNAME:?}"))
            .set("spool", "path", &format!("{spool:?}"))
            .set("spool", "keep-free", "\"1MiB\"")
            .set("spool", "reserve", "\"1MiB\"")
            .set("spool", "cache", "\"8MiB\"")
            .set("admin", "socket", &format!("{socket:?}"))
            .set("relay", "domains", "[\"inside.example\"]")
            .set("queue", "first-retry", "\"100ms\"")
            .set("queue", "max-retry", "\"1s\"")
            .set("dns", "servers", "[\"127.0.0.1:9\"]")
            .set("dns", "timeout", "\"1s\"")
            .set("verify", "mail", "\"none\"")
            .set("delivery", "connect-timeout", "\"2s\"")
    }

    /// Sets a value, as TOML text, in a section; `""` is the top of the file.
    pub fn set(mut self, section: &str, key: &str, toml: &str) -> Home {
        self.values.entry(section.to_owned()).or_default().insert(key.to_owned(), toml.to_owned());
        self
    }

    /// Takes mail to anybody from this machine.
    pub fn trusting(self) -> Home {
        self.set("relay", "networks", "[\"127.0.0.0/8\"]")
    }

    /// Users may submit, as anybody: [`USER`] with every mechanism, both listeners for submission, and
    /// a certificate for the relay's name and address.
    pub fn users(mut self) -> Home {
        self.doors = Door::ALL.to_vec();
        let file = self.users_file().display().to_string();
        self.user(USER, PASSWORD)
            .certificate(&[HOSTNAME, "127.0.0.1"])
            .set("users", "file", &format!("{file:?}"))
            .set("auth", "senders", "\"any\"")
    }

    /// The same with SCRAM-SHA-1 allowed, and a verifier for it.
    pub fn users_of_old_clients(self) -> Home {
        let home = self.users().set("auth", "scram-sha-1", "true");
        let file = UsersFile::load(&home.users_file()).unwrap();
        file.with_sha_1(true).set_password(USER, PASSWORD).unwrap();
        home
    }

    /// One door more.
    pub fn door(mut self, door: Door) -> Home {
        self.doors.push(door);
        self
    }

    /// Makes a token for a user in the tokens file.
    pub fn token(&self, user: &str) -> String {
        BearersFile::load_or_empty(&self.path("tokens")).unwrap().add(user).unwrap()
    }

    /// Names the tokens file in the configuration.
    pub fn tokens(self) -> Home {
        let file = self.path("tokens").display().to_string();
        self.set("http", "tokens", &format!("{file:?}"))
    }

    /// A listener for HTTP at the socket [`Home::local_socket`].
    pub fn http_socket(mut self) -> Home {
        let socket = self.local_socket();
        self.listeners.push(format!("name = \"web\"\nkind = \"http\"\nsocket = {socket:?}\n"));
        self
    }

    /// A listener for LMTP at the socket [`Home::local_socket`].
    pub fn lmtp_socket(mut self) -> Home {
        let socket = self.local_socket();
        self.listeners.push(format!("name = \"lmtp\"\nkind = \"lmtp\"\nsocket = {socket:?}\n"));
        self
    }

    /// One user more in the file.
    pub fn user(self, name: &str, password: &str) -> Home {
        UsersFile::load_or_empty(&self.users_file()).unwrap().add(name, password).unwrap();
        self
    }

    /// One certificate more, signed by the home's authority.
    pub fn certificate(mut self, names: &[&str]) -> Home {
        let (chain, key) = self.authority.pair(names).unwrap();
        let place = |end| self.path(&format!("certificate-{}.{end}", self.certificates.len()));
        fs::write(place("crt"), chain).unwrap();
        fs::write(place("key"), key).unwrap();
        let text = format!("chain = {:?}\nkey = {:?}\n", place("crt"), place("key"));
        self.certificates.push(text);
        self
    }

    /// Lines of TOML in every listener, in place of those before.
    pub fn doors_say(mut self, lines: &str) -> Home {
        lines.clone_into(&mut self.door_lines);
        self
    }

    /// A route for a domain pattern to one address, with TLS if it is offered.
    pub fn route(self, pattern: &str, to: SocketAddr) -> Home {
        let via = format!("[{{ host = \"{}\", port = {} }}]", to.ip(), to.port());
        self.route_as(pattern, &format!("via = {via}\n"))
    }

    /// The same before all other routes.
    pub fn route_first(self, pattern: &str, to: SocketAddr) -> Home {
        let mut home = self.route(pattern, to);
        home.routes.rotate_right(1);
        home
    }

    /// A route for a domain pattern with these lines of TOML.
    pub fn route_as(mut self, pattern: &str, lines: &str) -> Home {
        self.routes.push(format!("domains = [{pattern:?}]\n{lines}\n"));
        self
    }

    /// Forgets all routes.
    pub fn without_routes(mut self) -> Home {
        self.routes.clear();
        self
    }

    /// Asks this DNS server, and speaks to mail exchangers on this port.
    pub fn dns(self, server: SocketAddr, mx_port: u16) -> Home {
        self.set("dns", "servers", &format!("[\"{server}\"]")).set(
            "delivery",
            "mx-port",
            &mx_port.to_string(),
        )
    }

    /// A plugin of this name, whose component is the guest `guest` and lies in a file of this home that
    /// [`Home::put_guest`] can change, with these further lines of TOML.
    pub fn plugin(mut self, name: &str, guest: &str, lines: &str) -> Home {
        self.put_guest(name, guest);
        let file = self.plugin_file(name);
        self.plugins.push(format!("name = {name:?}\nfile = {file:?}\n{lines}\n"));
        self
    }

    /// Forgets all plugins.
    pub fn without_plugins(mut self) -> Home {
        self.plugins.clear();
        self
    }

    /// Puts another component in the place of a plugin's.
    pub fn put_guest(&self, name: &str, guest: &str) {
        let octets = fs::read(guest_file(guest)).unwrap();
        self.put_component(name, &octets);
    }

    /// The same with any octets; at once, as an operator's `mv` does it.
    pub fn put_component(&self, name: &str, octets: &[u8]) {
        let file = self.plugin_file(name);
        let new = file.with_extension("new");
        fs::write(&new, octets).unwrap();
        fs::rename(new, file).unwrap();
    }

    /// The component of a plugin.
    pub fn plugin_file(&self, name: &str) -> PathBuf {
        self.path(&format!("{name}.wasm"))
    }

    /// Who is asked instead of plugins by relays started from now on in this process.
    pub fn hooks(mut self, hooks: Arc<dyn Hooks>) -> Home {
        self.hooks = Some(hooks);
        self
    }

    /// Changes what the file says, for relays started from now on in this process; not for what they
    /// reload.
    pub fn amended(mut self, change: impl Fn(&mut Settings) + Send + Sync + 'static) -> Home {
        self.amendments.push(Amendment(Arc::new(change)));
        self
    }

    /// Who asks the web for relays started from now on in this process.
    pub fn fetch(mut self, fetch: Arc<dyn Fetch>) -> Home {
        self.fetch = Some(fetch);
        self
    }

    /// The clock of relays started from now on in this process.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Home {
        self.clock = clock;
        self
    }
}

/// Where things are.
impl Home {
    /// A file of this home.
    pub fn path(&self, name: &str) -> PathBuf {
        self.places.directory.path().join(name)
    }

    /// The spool's directory.
    pub fn spool(&self) -> PathBuf {
        self.path("spool")
    }

    /// The configuration file.
    pub fn file(&self) -> PathBuf {
        self.path("waypost.toml")
    }

    /// The users file.
    pub fn users_file(&self) -> PathBuf {
        self.path("users")
    }

    /// The certificate of the home's authority, as PEM, in a file.
    pub fn authority_file(&self) -> PathBuf {
        let path = self.path("authority.pem");
        fs::write(&path, self.authority.pem()).unwrap();
        path
    }

    /// The authority that signed the relay's certificates.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// What peers trust.
    pub fn roots(&self) -> RootCertStore {
        self.authority.roots().unwrap()
    }

    /// Asks the relay that runs here.
    pub fn client(&self) -> Client {
        Client::new(&self.socket())
    }

    pub(crate) fn places(&self) -> Arc<Places> {
        self.places.clone()
    }

    /// The socket of [`Door::Local`].
    pub fn local_socket(&self) -> PathBuf {
        self.places.sockets.path().join("submit.sock")
    }

    fn socket(&self) -> PathBuf {
        self.places.sockets.path().join("admin.sock")
    }
}

/// Life in it.
impl Home {
    /// Starts the relay within this process.
    ///
    /// # Panics
    /// When it cannot be started.
    pub async fn start(&self) -> Running {
        self.try_start().await.unwrap_or_else(|why| panic!("the relay did not start: {why}"))
    }

    /// The same, and why it cannot be started.
    pub async fn try_start(&self) -> Result<Running, String> {
        let text = self.write();
        let settings = Settings::parse(&self.file(), &text).map_err(|e| e.to_string())?;
        let mut settings = settings.compiled_by(program());
        self.amendments.iter().for_each(|amendment| (amendment.0)(&mut settings));
        let sockets = Sockets::bind(&settings.startup, Vec::new()).map_err(|e| format!("{e:#}"))?;
        let choices = Choices {
            hooks: self.hooks.clone(),
            clock: self.clock.clone(),
            file: Some(self.file()),
            fetch: self.fetch.clone(),
        };
        let relay =
            Relay::start_with(settings, sockets, choices).await.map_err(|e| format!("{e:#}"))?;
        Ok(Running::new(relay, self.client(), self.roots(), self.places()))
    }

    /// Starts the relay as a process: `program` is `env!("CARGO_BIN_EXE_waypost-in-a-story")`.
    ///
    /// # Panics
    /// When it does not answer.
    pub async fn spawn(&self, program: &str) -> Process {
        self.spawn_with(program, &[]).await
    }

    /// The same with variables in its environment, such as [`STORY_ENDS`](crate::STORY_ENDS).
    ///
    /// # Panics
    /// When it does not answer.
    pub async fn spawn_with(&self, program: &str, variables: &[(&str, &str)]) -> Process {
        self.write();
        Process::spawn(Path::new(program), self, variables).await
    }

    /// Writes the file anew and has the relay that runs here reload it; its answer.
    pub async fn reload(&self) -> Result<String, String> {
        self.write();
        let words: Result<Words, _> = self.client().post("/v1/reload", &()).await;
        words.map(|words| words.message).map_err(|error| error.to_string())
    }

    /// Writes the configuration file and gives its text.
    pub fn write(&self) -> String {
        let mut text = String::new();
        // The top of the file sorts first.
        for (section, values) in &self.values {
            if !section.is_empty() {
                let _ = writeln!(text, "\n[{section}]");
            }
            for (key, value) in values {
                let _ = writeln!(text, "{key} = {value}");
            }
        }
        for door in &self.doors {
            let name = door.name();
            let _ = writeln!(text, "\n[[listener]]\nname = \"{name}\"\nkind = \"{name}\"");
            let _ = match door {
                Door::Local => writeln!(text, "socket = {:?}", self.local_socket()),
                _ => writeln!(text, "address = \"127.0.0.1:0\"\n{}", self.door_lines),
            };
        }
        for listener in &self.listeners {
            let _ = write!(text, "\n[[listener]]\n{listener}");
        }
        for certificate in &self.certificates {
            let _ = write!(text, "\n[[tls.certificate]]\n{certificate}");
        }
        for route in &self.routes {
            let _ = write!(text, "\n[[route]]\n{route}");
        }
        for plugin in &self.plugins {
            let _ = write!(text, "\n[[plugin]]\n{plugin}");
        }
        fs::write(self.file(), &text).unwrap();
        text
    }
}

/// A guest that `cargo xtask guests` built.
///
/// # Panics
/// When it is not there.
pub fn guest_file(name: &str) -> PathBuf {
    let directory = std::env::var_os("WAYPOST_GUESTS").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/guests"),
        PathBuf::from,
    );
    let file = directory.join(format!("{name}.wasm"));
    assert!(file.exists(), "{} is missing: cargo xtask guests", file.display());
    file
}

/// The program that the stories run as a process, next to their own.
fn program() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let profile = test.ancestors().nth(2).expect("tests are in target/<profile>/deps");
    profile.join("waypost-in-a-story")
}

/// `target/tmp`, found from the place of the running test: `/tmp` may be memory.
fn disk() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let target = test.ancestors().nth(3).expect("tests are in target/<profile>/deps");
    let disk = target.join("tmp");
    fs::create_dir_all(&disk).unwrap();
    disk
}
