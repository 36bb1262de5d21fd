//! Plugins, and the keys they have messages signed with.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::{ConfigArgs, OutputArgs};

/// The plugins.
#[derive(Debug, Subcommand)]
pub enum PluginCommand {
    /// Look at a component: exports, imports, wanted grants, size, and what keeps it from running here
    Check(CheckPluginArgs),
    /// Write the four plugins that come with this program (rewrite, route, sign, retry) into a directory
    Unpack {
        /// The directory; it is made
        directory: PathBuf,
    },
    /// The plugins in force and the generations that are kept
    List(OutputArgs),
    /// How one plugin fares, stage by stage
    Show {
        /// Its name in the configuration
        name: String,
        /// Output and configuration
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Read the plugins' part of the configuration again and put it in force
    Reload(ReloadPluginArgs),
    /// Put the generation before the current one in force again, or end a trial
    Rollback {
        /// The generation, as `waypost plugin list` numbers it
        generation: Option<u64>,
        /// Output and configuration
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Who put which plugins in force, and what came of it
    Log {
        /// The last so many lines
        #[arg(long, default_value_t = 50)]
        limit: usize,
        /// Output and configuration
        #[command(flatten)]
        output: OutputArgs,
    },
    /// What a running relay starts to compile a component
    #[command(hide = true)]
    Compile {
        /// The component
        from: PathBuf,
        /// Where its code goes
        to: PathBuf,
    },
}

/// Which component to look at.
#[derive(Debug, Clone, Args)]
pub struct CheckPluginArgs {
    /// The component (.wasm)
    pub file: PathBuf,
    /// Its own configuration, a file with a JSON object
    #[arg(long, value_name = "FILE", conflicts_with = "name")]
    pub plugin_config: Option<PathBuf>,
    /// Take its configuration from this plugin of the relay's configuration
    #[arg(long)]
    pub name: Option<String>,
    /// The relay's configuration
    #[command(flatten)]
    pub config: ConfigArgs,
}

/// How other plugins come into force.
#[derive(Debug, Clone, Args)]
pub struct ReloadPluginArgs {
    /// On trial first, for this percentage of the transactions; rolled back by itself when it fares worse
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(1..=100))]
    pub canary: Option<u8>,
    /// How long the trial lasts, in seconds
    #[arg(long = "for", value_name = "SECONDS", default_value_t = 600)]
    pub seconds: u64,
    /// Output and configuration
    #[command(flatten)]
    pub output: OutputArgs,
}

/// The message that is wondered about.
#[derive(Debug, Clone, Args)]
pub struct ExplainArgs {
    /// Address of the client
    #[arg(long)]
    pub client: String,
    /// The listener it comes by
    #[arg(long, default_value = "")]
    pub listener: String,
    /// What it says in EHLO
    #[arg(long)]
    pub helo: Option<String>,
    /// Who is logged in
    #[arg(long)]
    pub user: Option<String>,
    /// The connection is encrypted
    #[arg(long)]
    pub tls: bool,
    /// The envelope sender; empty for the null sender
    #[arg(long)]
    pub from: String,
    /// A recipient; may be given several times
    #[arg(long, required = true)]
    pub to: Vec<String>,
    /// Octets of the message
    #[arg(long)]
    pub size: Option<u64>,
    /// A file with the message, whose header and size count
    #[arg(long, value_name = "FILE")]
    pub message: Option<PathBuf>,
    /// Output and configuration
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Keys for DKIM.
#[derive(Debug, Subcommand)]
pub enum DkimCommand {
    /// Make a key, and print the DNS record that publishes it
    Keygen {
        /// Whose key
        #[command(flatten)]
        name: KeyNameArgs,
        /// Which kind
        #[arg(long, value_enum, default_value_t = KeyAlgorithm::Rsa2048)]
        algorithm: KeyAlgorithm,
        /// Where the private key goes; a file that is there is not overwritten
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Print the DNS record of a key that is there
    Record {
        /// Whose key
        #[command(flatten)]
        name: KeyNameArgs,
        /// The private key
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
    },
}

/// Where a key is published.
#[derive(Debug, Clone, Args)]
pub struct KeyNameArgs {
    /// The signing domain, d=
    #[arg(long)]
    pub domain: String,
    /// The selector, s=
    #[arg(long)]
    pub selector: String,
}

/// Which kind of key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum KeyAlgorithm {
    /// RSA, 2048 bits: what every verifier takes
    #[value(name = "rsa-2048")]
    Rsa2048,
    /// RSA, 3072 bits
    #[value(name = "rsa-3072")]
    Rsa3072,
    /// RSA, 4096 bits
    #[value(name = "rsa-4096")]
    Rsa4096,
    /// Ed25519 (RFC 8463); beside an RSA signature, since not every verifier knows it
    Ed25519,
}
