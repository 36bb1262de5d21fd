//! Who may come in: users, tokens, and who is shut out.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{ConfigArgs, OutputArgs};

/// The users who may log in.
#[derive(Debug, Subcommand)]
pub enum UserCommand {
    /// Add a user; the password is read from the terminal or standard input
    Add(UserArgs),
    /// Give a user another password
    Passwd(UserArgs),
    /// Say what a user may send as, besides its own name; without patterns, as nothing else
    SendAs(SendAsArgs),
    /// List the users and the mechanisms each can log in with
    List(UserListArgs),
    /// Remove a user
    Remove(UserNameArgs),
}

/// Bans.
#[derive(Debug, Subcommand)]
pub enum BanCommand {
    /// List the addresses that are shut out
    List(OutputArgs),
    /// Let addresses in again
    Lift(LiftArgs),
}

/// Whom to let in again.
#[derive(Debug, Clone, Args)]
pub struct LiftArgs {
    /// An address, or a network such as 192.0.2.0/24
    pub network: Option<String>,
    /// Everybody
    #[arg(long)]
    pub all: bool,
    /// The configuration
    #[command(flatten)]
    pub config: ConfigArgs,
}

/// What a user may send as.
#[derive(Debug, Clone, Args)]
pub struct SendAsArgs {
    /// The user's name
    pub name: String,
    /// "alice@example.org", "app-*@example.org", "@example.org", "@*.example.org", "*" or "<>"
    pub patterns: Vec<waypost_inbound::SenderPattern>,
    /// The users file
    #[command(flatten)]
    pub file: UsersFileArgs,
}

/// Tokens that submit by HTTP.
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Make a token and print it; only its hash is kept
    Add(TokenArgs),
    /// List who has tokens, and how many
    List(TokensFileArgs),
    /// Take all tokens of a user away
    Remove(TokenArgs),
}

/// Whose token.
#[derive(Debug, Clone, Args)]
pub struct TokenArgs {
    /// The user that the token stands for
    pub name: String,
    /// The tokens file
    #[command(flatten)]
    pub file: TokensFileArgs,
}

/// Which tokens file.
#[derive(Debug, Clone, Args)]
pub struct TokensFileArgs {
    /// The configuration file that names the tokens file
    #[command(flatten)]
    pub config: ConfigArgs,
    /// The tokens file itself, instead of the one in the configuration
    #[arg(long, value_name = "FILE")]
    pub tokens: Option<PathBuf>,
}

/// Which users file.
#[derive(Debug, Clone, Args)]
pub struct UsersFileArgs {
    /// The configuration file that names the users file
    #[command(flatten)]
    pub config: ConfigArgs,
    /// The users file itself, instead of the one in the configuration
    #[arg(long, value_name = "FILE")]
    pub users: Option<PathBuf>,
}

/// One user, whose password is asked for.
#[derive(Debug, Clone, Args)]
pub struct UserArgs {
    /// The user's name
    pub name: String,
    /// Let the user log in by SCRAM-SHA-1 too, for old clients; wants `auth.scram-sha-1 = true`
    #[arg(long)]
    pub scram_sha_1: bool,
    /// Let the user send as this too, besides its own name: "alice@example.org", "@example.org", "*",
    /// "<>" for the null sender; may be given several times
    #[arg(long, value_name = "PATTERN")]
    pub send_as: Vec<waypost_inbound::SenderPattern>,
    /// The users file
    #[command(flatten)]
    pub file: UsersFileArgs,
}

/// Listing users.
#[derive(Debug, Clone, Args)]
pub struct UserListArgs {
    /// The users file
    #[command(flatten)]
    pub file: UsersFileArgs,
    /// Answer in JSON
    #[arg(long)]
    pub json: bool,
}

/// One user.
#[derive(Debug, Clone, Args)]
pub struct UserNameArgs {
    /// The user's name
    pub name: String,
    /// The users file
    #[command(flatten)]
    pub file: UsersFileArgs,
}
