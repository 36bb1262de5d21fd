//! The words of `waypost suppress`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use waypost_mail::suppression::{Ground, Owner, Target};
use waypost_smtp::Mailbox;

use super::{ConfigArgs, OutputArgs};

/// The suppression list.
#[derive(Debug, Subcommand)]
pub enum SuppressCommand {
    /// List who gets no more mail, from whom, why and until when
    List(SuppressListArgs),
    /// Show the entries about one address and its domain, or those that stop one sender's mail
    Show(SuppressShowArgs),
    /// Put addresses or domains on the list
    Add(SuppressAddArgs),
    /// Take addresses or domains off the list
    Remove(SuppressRemoveArgs),
    /// Write the list to standard output, a line of JSON for each entry
    Export(ConfigArgs),
    /// Read entries: lines of JSON as export writes them, or an address or domain a line
    Import(SuppressImportArgs),
}

/// What to list.
#[derive(Debug, Clone, Args)]
pub struct SuppressListArgs {
    /// Only addresses and domains with this in them
    pub containing: Option<String>,
    /// At most so many
    #[arg(long, default_value_t = 1000)]
    pub limit: usize,
    /// Output and configuration
    #[command(flatten)]
    pub output: OutputArgs,
}

/// About whom.
#[derive(Debug, Clone, Args)]
pub struct SuppressShowArgs {
    /// An address, bob@example.net, or a domain, @example.net
    pub target: Target,
    /// Only what stops mail of this envelope sender
    #[arg(long, value_name = "SENDER")]
    pub from: Option<Mailbox>,
    /// Only what stops mail of who is logged in by this name
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,
    /// Output and configuration
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Whom to put on the list.
#[derive(Debug, Clone, Args)]
pub struct SuppressAddArgs {
    /// Addresses, bob@example.net, or domains, @example.net
    #[arg(required = true)]
    pub targets: Vec<Target>,
    /// Whose mail stops: everybody, @example.org, alice@example.org, or user:NAME
    #[arg(long = "for", value_name = "WHOM", default_value = "everybody")]
    pub owner: Owner,
    /// Why: bad-address, inactive, complaint or manual
    #[arg(long, default_value = "manual")]
    pub ground: Ground,
    /// For so many days; for good otherwise
    #[arg(long)]
    pub days: Option<u32>,
    /// What to remember
    #[arg(long, default_value = "")]
    pub note: String,
    /// The configuration
    #[command(flatten)]
    pub config: ConfigArgs,
}

/// Whom to take off the list.
#[derive(Debug, Clone, Args)]
pub struct SuppressRemoveArgs {
    /// Addresses, bob@example.net, or domains, @example.net
    #[arg(required = true)]
    pub targets: Vec<Target>,
    /// Only the entry for the mail of this one
    #[arg(long = "for", value_name = "WHOM")]
    pub owner: Option<Owner>,
    /// The configuration
    #[command(flatten)]
    pub config: ConfigArgs,
}

/// What to read.
#[derive(Debug, Clone, Args)]
pub struct SuppressImportArgs {
    /// The file; "-" reads standard input
    pub file: PathBuf,
    /// Whose mail stops, where a line does not say: everybody, @example.org, alice@example.org, user:NAME
    #[arg(long = "for", value_name = "WHOM", default_value = "everybody")]
    pub owner: Owner,
    /// The configuration
    #[command(flatten)]
    pub config: ConfigArgs,
}
