//! A whole, checked configuration.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::de::DeTable;
use waypost_identity::Keyring;
use waypost_inbound::{ListenerConfig, Place};
use waypost_mail::Rulebook;
use waypost_plugin::{Compiler, HostConfig, PolicyConfig};
use waypost_smtp::Domain;
use waypost_smtp::client::Credentials;

use crate::file::{self, File};
use crate::mistake::{Mistakes, Notes};
use crate::section::Section;
use crate::{check, lower, open_relay};

/// Everything the program is told.
#[derive(Debug)]
pub struct Settings {
    /// What only a restart changes.
    pub startup: Startup,
    /// What a reload changes too.
    pub reload: Reload,
}

/// What only a restart changes.
#[derive(Debug)]
pub struct Startup {
    /// The doors, and where.
    pub doors: Vec<Door>,
    /// Where operators ask.
    pub places: Places,
    /// HTTP for operators over TCP.
    pub admin_tcp: Option<SocketAddr>,
    /// What is logged, and how.
    pub log: LogSettings,
    /// Who to become once ports are bound.
    pub process: Process,
    /// The spool.
    pub spool: waypost_spool::Config,
    /// The queue.
    pub queue: waypost_queue::Config,
    /// Intake.
    pub intake: waypost_intake::Config,
    /// Questions to the DNS.
    pub dns: waypost_dns::Config,
    /// Delivery.
    pub delivery: waypost_delivery::Config,
    /// Where limits of providers were read beside the configuration.
    pub provider_pack: Option<PackSettings>,
    /// Reports about TLS, if they are sent.
    pub tls_reports: Option<waypost_delivery::ReportsConfig>,
    /// What is kept of what happened to messages, if anything.
    pub history: Option<waypost_history::Config>,
    /// Where plugins are compiled and their audit log is.
    pub policy: HostConfig,
    /// Read the plugins again when one of their files changes.
    pub watch_plugins: bool,
    /// Where the key for the salts of unknown users is kept.
    pub login_secret: PathBuf,
    /// Where mail comes back to.
    pub bounces: Option<Bounces>,
}

/// What a reload changes too.
#[derive(Debug)]
pub struct Reload {
    /// The doors' rules: relaying, limits, users, certificates.
    pub inbound: waypost_inbound::Settings,
    /// Where mail goes.
    pub routing: waypost_intake::Routing,
    /// Logins at next hops, by the names that routes use.
    pub credentials: HashMap<String, Credentials>,
    /// Certificates shown to next hops, by the names that routes use.
    pub certificates: waypost_delivery::Certificates,
    /// Rules that read replies.
    pub replies: Arc<Rulebook>,
    /// What feeds the suppression list.
    pub suppression: waypost_intake::SuppressionSettings,
    /// Keys for signatures, by the names that policy uses.
    pub keys: Keyring,
    /// What is verified on the way in.
    pub verification: waypost_intake::Verification,
    /// The plugins and what they may reach.
    pub policy: PolicyConfig,
}

/// Where mail comes back to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bounces {
    /// The domain.
    pub domain: Domain,
    /// The file of the secret under which its addresses are made; it is made when there is none.
    pub secret: PathBuf,
    /// Days for which an address is good.
    pub days: u64,
    /// Local parts that complaints come to.
    pub feedback: Vec<String>,
    /// What is no complaint goes on to the sender.
    pub forward: bool,
}

/// One door and where it is.
#[derive(Debug, Clone)]
pub struct Door {
    /// Name and kind.
    pub config: ListenerConfig,
    /// Where it is.
    pub place: Place,
}

/// What the command line needs to reach a running program or its spool.
#[derive(Debug, Clone, PartialEq)]
pub struct Places {
    /// The socket for operators.
    pub socket: PathBuf,
    /// The spool's directory.
    pub spool: PathBuf,
    /// Where it is kept what happened to messages, if it is.
    pub history: Option<PathBuf>,
    /// The users file.
    pub users: Option<PathBuf>,
    /// What classes and tenants the queue has.
    pub queue: waypost_queue::Config,
    /// The tokens file.
    pub tokens: Option<PathBuf>,
    /// The socket where programs of this machine hand in mail.
    pub local: Option<PathBuf>,
}

/// A file of providers' limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackSettings {
    /// The file.
    pub file: PathBuf,
    /// Which version of it.
    pub version: String,
    /// Where its limits come from, for a person.
    pub source: String,
}

/// What is logged, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSettings {
    /// `error`, `warn`, `info`, `debug` or `trace`.
    pub level: String,
    /// As JSON, one object a line.
    pub json: bool,
}

/// Who to become once ports are bound.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Process {
    /// User name.
    pub user: Option<String>,
    /// Group name; the user's own group when absent.
    pub group: Option<String>,
}

impl Settings {
    /// Plugins are compiled by this program, unless the file names another. It must know
    /// `plugin compile`; without one they are compiled within the process.
    #[must_use]
    pub fn compiled_by(mut self, program: impl Into<PathBuf>) -> Settings {
        if self.startup.policy.compiler == Compiler::Here {
            self.startup.policy.compiler = Compiler::Child(program.into());
        }
        self
    }

    /// Reads the file and everything it names.
    ///
    /// # Errors
    /// Every mistake there is.
    pub fn load(path: &Path) -> Result<Settings, Mistakes> {
        Settings::parse(path, &read(path)?)
    }

    /// The same from text; `path` is for messages.
    ///
    /// # Errors
    /// Every mistake there is.
    pub fn parse(path: &Path, source: &str) -> Result<Settings, Mistakes> {
        let mut notes = Notes::new(path, source);
        let settings = model(source, &mut notes).and_then(|file| {
            check::check(&file, &mut notes);
            open_relay::check(&file, &mut notes);
            lower::lower(&file, &mut notes)
        });
        match settings {
            Some(settings) if notes.is_empty() => Ok(settings),
            _ => Err(notes.into_mistakes()),
        }
    }
}

/// The places a configuration names, whatever else is wrong with it: an operator must be able to
/// look at the queue while the file is being mended.
///
/// # Errors
/// Every mistake, when the places cannot be made out.
pub fn places(path: &Path) -> Result<Places, Mistakes> {
    let source = read(path)?;
    let mut notes = Notes::new(path, &source);
    match model(&source, &mut notes) {
        Some(file) => Ok(lower::places(&file)),
        None => Err(notes.into_mistakes()),
    }
}

/// The rules that read replies as a configuration has them, whatever else is wrong with it.
///
/// # Errors
/// Every mistake, when the rules cannot be made out.
pub fn rulebook(path: &Path) -> Result<Arc<Rulebook>, Mistakes> {
    let source = read(path)?;
    let mut notes = Notes::new(path, &source);
    let book = model(&source, &mut notes).and_then(|file| lower::replies(&file, &mut notes));
    book.ok_or_else(|| notes.into_mistakes())
}

fn read(path: &Path) -> Result<String, Mistakes> {
    std::fs::read_to_string(path).map_err(|error| {
        let mut notes = Notes::new(path, "");
        let hint = "name the configuration file with --config FILE";
        notes.add_to_file(format!("cannot read the configuration: {error}"), hint);
        notes.into_mistakes()
    })
}

fn model(source: &str, notes: &mut Notes<'_>) -> Option<File> {
    let (table, errors) = DeTable::parse_recoverable(source);
    for error in &errors {
        notes.add(&error.span().unwrap_or(0..0), error.message().to_owned(), "");
    }
    if !errors.is_empty() {
        // What a syntax error hides would be reported as missing, though it is there.
        return None;
    }
    file::read(Section::new("", table.span(), table.into_inner()), notes)
}
