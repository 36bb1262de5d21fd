//! The command line.

mod logins;
mod policy;
mod suppress;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use waypost_mail::MessageId;
use waypost_queue::Field;

pub use logins::{
    BanCommand, LiftArgs, SendAsArgs, TokenArgs, TokenCommand, TokensFileArgs, UserArgs,
    UserCommand, UserListArgs, UserNameArgs, UsersFileArgs,
};
pub use policy::{
    CheckPluginArgs, DkimCommand, ExplainArgs, KeyAlgorithm, KeyNameArgs, PluginCommand,
    ReloadPluginArgs,
};

pub use suppress::{
    SuppressAddArgs, SuppressCommand, SuppressImportArgs, SuppressListArgs, SuppressRemoveArgs,
    SuppressShowArgs,
};

/// A programmable relay proxy for mail.
#[derive(Debug, Parser)]
#[command(name = "waypost", version, about, disable_help_subcommand = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the relay in the foreground until it is told to stop
    Run(ConfigArgs),
    /// Read the configuration, report every mistake, and say who may relay and where mail goes
    Check(ConfigArgs),
    /// Start a relay with a sink behind it on this machine, send mail through it, and show its way
    Demo(DemoArgs),
    /// Submit a message to a server by SMTP
    Send(SendArgs),
    /// Hand in a message as sendmail does: -t, -i, -f, -F, -N, -R, -V, -v, -C, -bm, -bs and recipients
    #[command(disable_help_flag = true)]
    Sendmail {
        /// As sendmail has them
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<std::ffi::OsString>,
    },
    /// Ask a server what it offers
    #[command(subcommand)]
    Probe(ProbeCommand),
    /// How the running relay fares
    Status(OutputArgs),
    /// The whole story of a message, waiting or past: who brought it, what plugins decided, every attempt with its
    /// dialogue and what TLS proved, and what it waits for now
    Why(WhyArgs),
    /// Look at the queue and change what waits in it
    #[command(subcommand)]
    Queue(QueueCommand),
    /// Look at the spool of a relay that does not run, mend it, take its messages out or put messages in
    #[command(subcommand)]
    Spool(SpoolCommand),
    /// The plugins: what they are, how they fare, which are in force
    #[command(subcommand)]
    Plugin(PluginCommand),
    /// Which plugins would be asked about a message, and why the others would not
    Explain(ExplainArgs),
    /// Keys for DKIM signatures and the DNS records that publish them
    #[command(subcommand)]
    Dkim(DkimCommand),
    /// The users who may log in to submit mail
    #[command(subcommand)]
    User(UserCommand),
    /// Who is shut out after failed logins
    #[command(subcommand)]
    Ban(BanCommand),
    /// Tokens that submit by HTTP
    #[command(subcommand)]
    Token(TokenCommand),
    /// Who gets no more mail
    #[command(subcommand)]
    Suppress(SuppressCommand),
    /// Have the running relay read its configuration again
    Reload(ConfigArgs),
    /// Have the running relay finish what is under way and end
    Drain(ConfigArgs),
}

/// Which configuration.
#[derive(Debug, Clone, Args)]
pub struct ConfigArgs {
    /// The configuration file
    #[arg(
        short,
        long,
        value_name = "FILE",
        env = "WAYPOST_CONFIG",
        default_value = "/etc/waypost/waypost.toml"
    )]
    pub config: PathBuf,
}

/// Which configuration, and in which form to answer.
#[derive(Debug, Clone, Args)]
pub struct OutputArgs {
    /// The configuration.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Answer in JSON
    #[arg(long)]
    pub json: bool,
}

/// Which message's story.
#[derive(Debug, Clone, Args)]
pub struct WhyArgs {
    /// The id of the message, as in "250 ... queued as ID"
    pub id: String,
    /// Output and configuration
    #[command(flatten)]
    pub output: OutputArgs,
}

/// What the demonstration does.
#[derive(Debug, Clone, Args)]
pub struct DemoArgs {
    /// How many messages to send before waiting for yours
    #[arg(long, default_value_t = 3)]
    pub messages: usize,
    /// End when those are delivered, instead of waiting for yours
    #[arg(long)]
    pub once: bool,
}

/// What to submit, and where.
#[derive(Debug, Clone, Args)]
pub struct SendArgs {
    /// The server, host:port; TLS from the first byte on port 465, STARTTLS where offered elsewhere
    #[arg(long, value_name = "HOST:PORT")]
    pub server: String,
    /// The envelope sender; empty for the null sender
    #[arg(long)]
    pub from: String,
    /// A recipient; may be given several times
    #[arg(long, required = true)]
    pub to: Vec<String>,
    /// The subject of a message made here
    #[arg(long, default_value = "Test from waypost send")]
    pub subject: String,
    /// The text of a message made here
    #[arg(long, default_value = "This is a test.")]
    pub text: String,
    /// Send this file as it is, header and body, instead of making a message; "-" reads standard input
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Log in as this user; the password comes from --password-file or WAYPOST_PASSWORD
    #[arg(long)]
    pub user: Option<String>,
    /// The file that holds the password
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<PathBuf>,
    /// Whether and how to encrypt
    #[arg(long, value_enum, default_value_t = SendTls::Verify)]
    pub tls: SendTls,
    /// Trust the certificates in this PEM file besides the system's
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
}

/// How `waypost send` encrypts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SendTls {
    /// Never
    Never,
    /// Encrypt, whatever the certificate
    Encrypt,
    /// Encrypt to a server that proves its name where TLS is offered
    Verify,
}

/// Asking servers.
#[derive(Debug, Subcommand)]
pub enum ProbeCommand {
    /// What a mail server offers: extensions, versions of TLS, certificates, and whether they prove its
    /// name. Exit code 0: they do; 1: no connection or no SMTP; 3: no TLS; 4: they do not
    Tls(ProbeTlsArgs),
    /// What would happen with mail to a domain and why: MX, DNSSEC, TLSA, MTA-STS, hosts in order, TLS,
    /// limits. Exit code 0: it would leave; 3: it would bounce; 4: it would wait
    Route(ProbeRouteArgs),
    /// What a reply of a next hop means, by which rule, and what would follow
    Reply(ProbeReplyArgs),
}

/// Which domain, by which configuration.
#[derive(Debug, Clone, Args)]
pub struct ProbeRouteArgs {
    /// The recipient's domain
    pub domain: String,
    /// The configuration; without such a file the usual settings count
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Port of mail exchangers, if not that of the configuration
    #[arg(long, value_name = "PORT")]
    pub mx_port: Option<u16>,
    /// Answer in JSON
    #[arg(long)]
    pub json: bool,
}

/// Which reply.
#[derive(Debug, Clone, Args)]
pub struct ProbeReplyArgs {
    /// The reply, as "550 5.1.1 No such user"; one for each line of it
    #[arg(required = true)]
    pub reply: Vec<String>,
    /// Name of the host that says it: it tells the provider
    #[arg(long, value_name = "HOST", default_value = "")]
    pub mx: String,
    /// In answer to what: greeting, ehlo, auth (a login, about which no rule is asked), mail, rcpt, data or eod
    #[arg(long, default_value = "rcpt")]
    pub phase: String,
    /// The configuration whose rules count; the rules that come with the program when there is none
    #[arg(short, long, value_name = "FILE", env = "WAYPOST_CONFIG")]
    pub config: Option<PathBuf>,
    /// Answer in JSON
    #[arg(long)]
    pub json: bool,
}

/// Which server, and what it should be.
#[derive(Debug, Clone, Args)]
pub struct ProbeTlsArgs {
    /// The server, HOST or HOST:PORT; the port is 25 unless given. TLS from the first byte on 465
    pub server: String,
    /// The name that the certificate must prove, if not HOST
    #[arg(long)]
    pub name: Option<String>,
    /// TLS from the first byte on any port
    #[arg(long, conflicts_with = "starttls")]
    pub implicit_tls: bool,
    /// STARTTLS on port 465 too
    #[arg(long)]
    pub starttls: bool,
    /// Trust the certificates in this PEM file besides the system's
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// How long each answer may take, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..=600))]
    pub timeout: u64,
    /// Answer in JSON
    #[arg(long)]
    pub json: bool,
}

/// Looking at the queue and changing it.
#[derive(Debug, Subcommand)]
pub enum QueueCommand {
    /// List messages
    List {
        /// Which messages
        #[command(flatten)]
        which: SelectorArgs,
        /// At most so many
        #[arg(long, default_value_t = 1000)]
        limit: usize,
        /// Go on behind this message
        #[arg(long, value_name = "ID")]
        after: Option<MessageId>,
        /// Output and configuration
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Add up what waits: for whom, how old, and why
    Summary {
        /// Which recipients
        #[command(flatten)]
        which: SelectorArgs,
        /// By what: destination, domain, tenant, sender, reply, age and every other key of selectors
        #[arg(long, value_name = "KEY", default_value = "destination")]
        by: Field,
        /// At most so many groups
        #[arg(long, default_value_t = 50)]
        limit: usize,
        /// Output and configuration
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Show one message whole
    Show {
        /// Its id
        id: String,
        /// Output and configuration
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Keep messages from being delivered until they are released
    Hold(ChangeArgs),
    /// Let held messages go
    Release(ChangeArgs),
    /// Try messages now
    #[command(visible_alias = "requeue")]
    Retry(ChangeArgs),
    /// Send messages another way
    Reroute {
        /// Where to: mx, mx:DOMAIN, a name of [policy.hops], or HOST:PORT
        #[arg(long, value_name = "WAY")]
        to: String,
        /// Whom
        #[command(flatten)]
        change: ChangeArgs,
    },
    /// Give messages up and tell their senders
    Bounce(ChangeArgs),
    /// Treat messages as if their time were over: they bounce
    Expire(ChangeArgs),
    /// Give messages more time before they bounce
    Extend {
        /// How much more: 12h, 2d
        #[arg(long, value_name = "TIME", value_parser = waypost_config::parse_span)]
        by: Duration,
        /// Whom
        #[command(flatten)]
        change: ChangeArgs,
    },
    /// Remove messages without telling anybody
    Delete(ChangeArgs),
}

/// Which recipients.
#[derive(Debug, Clone, Args)]
pub struct SelectorArgs {
    /// Ids of messages, or conditions such as domain:example.net 'age>2h' state:held, joined by and, or,
    /// not and brackets; see docs/selectors.md
    #[arg(value_name = "SELECTOR")]
    pub selector: Vec<String>,
}

/// Whom to change.
#[derive(Debug, Clone, Args)]
pub struct ChangeArgs {
    /// Which recipients
    #[command(flatten)]
    pub which: SelectorArgs,
    /// All messages
    #[arg(long, conflicts_with = "selector")]
    pub all: bool,
    /// Change nothing, count who would be changed
    #[arg(long)]
    pub dry_run: bool,
    /// Why; kept with held messages and told to the senders of bounced ones
    #[arg(long, default_value = "")]
    pub reason: String,
    /// Output and configuration
    #[command(flatten)]
    pub output: OutputArgs,
}

/// The spool of a relay that does not run.
#[derive(Debug, Subcommand)]
pub enum SpoolCommand {
    /// Read everything, change nothing, and report every problem with its place; ends with 1 if there is one
    Check(SpoolCheckArgs),
    /// Hold what is damaged, make the index anew, and move damaged segments aside; nothing is deleted
    Repair(RepairArgs),
    /// Write messages into a directory: a line of JSON for each in messages.jsonl, and its octets in a file
    Export(ExportArgs),
    /// Put messages that were exported into the spool; those that are or were there are left out
    Import(ImportArgs),
}

/// How to report what is wrong with a spool.
#[derive(Debug, Clone, Args)]
pub struct SpoolCheckArgs {
    /// The configuration.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// One line of JSON for each problem
    #[arg(long)]
    pub json: bool,
}

/// How to repair a spool.
#[derive(Debug, Clone, Args)]
pub struct RepairArgs {
    /// The configuration.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Say what is wrong and what would be done, and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Make the index anew even when nothing is wrong
    #[arg(long)]
    pub index: bool,
}

/// What to export.
#[derive(Debug, Clone, Args)]
pub struct ExportArgs {
    /// Ids of messages; without one, all
    pub ids: Vec<MessageId>,
    /// The directory, in which there must be no archive yet
    #[arg(long, value_name = "DIR")]
    pub to: PathBuf,
    /// The configuration.
    #[command(flatten)]
    pub config: ConfigArgs,
}

/// What to import.
#[derive(Debug, Clone, Args)]
pub struct ImportArgs {
    /// The directory that `waypost spool export` wrote
    pub from: PathBuf,
    /// Give the messages ids of this spool instead of their own
    #[arg(long)]
    pub new_ids: bool,
    /// The configuration.
    #[command(flatten)]
    pub config: ConfigArgs,
}
