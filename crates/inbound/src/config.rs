//! What the doors are told.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use waypost_mail::{DomainPattern, Network, Timestamp};
use waypost_smtp::server::{
    AuthRule, FutureRelease, Offers, Rules, Strictness, TlsRule, XclientRule,
};
use waypost_smtp::{Domain, Mailbox, Priority};

use crate::manner::Manner;
use crate::mechanism::Mechanism;
use crate::tls::{self, Certificates, Secured, TlsPolicy};
use crate::{
    Bearers, CertificateLogins, FailureRules, ProxyRule, Rate, RelayRule, SenderRules,
    TokenSettings, Users,
};

/// One place where peers may connect. Fixed until the program restarts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerConfig {
    /// Its name in logs, metrics and facts.
    pub name: String,
    /// What is spoken there.
    pub kind: ListenerKind,
}

/// What is spoken at a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ListenerKind {
    /// Mail from other servers and from listed networks, port 25. STARTTLS and, behind it, AUTH are
    /// offered when there are certificates and users.
    Relay,
    /// Mail from users, port 587: STARTTLS, then AUTH, then mail (RFC 6409).
    Submission,
    /// Mail from users, port 465: TLS from the first octet, then AUTH (RFC 8314 §3.3).
    Submissions,
    /// As [`ListenerKind::Relay`] by LMTP: each recipient has a reply of its own behind the message
    /// (RFC 2033).
    Lmtp,
    /// Mail from programs with a token, a message in each HTTP request; in clear text, so on this
    /// machine alone.
    Http,
    /// The same with TLS from the first octet.
    Https,
    /// Mail from programs on this machine by SMTP over a Unix socket, without TLS and AUTH: the system
    /// says which user they belong to.
    Local,
}

/// Where a listener is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// An address and port.
    Tcp(SocketAddr),
    /// A Unix socket. Who may write to it may use it, and the system says who that is.
    Unix {
        /// Its path.
        path: PathBuf,
        /// Its permissions, such as 0o666.
        mode: u32,
    },
}

impl Place {
    /// The address and port, if it is one.
    pub fn tcp(&self) -> Option<SocketAddr> {
        match self {
            Place::Tcp(address) => Some(*address),
            Place::Unix { .. } => None,
        }
    }

    /// Peers are known by the user they run as.
    pub fn is_local(&self) -> bool {
        matches!(self, Place::Unix { .. })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Tcp(address) => address.fmt(f),
            Place::Unix { path, .. } => path.display().fmt(f),
        }
    }
}

impl ListenerKind {
    /// True for mail from our own users, which is completed.
    pub fn is_submission(self) -> bool {
        !matches!(self, ListenerKind::Relay | ListenerKind::Lmtp)
    }

    /// True where HTTP is spoken.
    pub fn is_http(self) -> bool {
        matches!(self, ListenerKind::Http | ListenerKind::Https)
    }

    /// True where a peer must encrypt and then log in.
    pub fn wants_login(self) -> bool {
        matches!(self, ListenerKind::Submission | ListenerKind::Submissions)
    }
}

impl fmt::Display for ListenerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ListenerKind::Relay => "relay",
            ListenerKind::Submission => "submission",
            ListenerKind::Submissions => "submissions",
            ListenerKind::Lmtp => "lmtp",
            ListenerKind::Local => "local",
            ListenerKind::Http => "http",
            ListenerKind::Https => "https",
        })
    }
}

/// Everything that a reload may change. Sessions keep what they began with.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Our name in greetings.
    pub hostname: String,
    /// Who may relay.
    pub relay: RelayRule,
    /// How much of everything.
    pub limits: Limits,
    /// What is refused though it could be understood.
    pub strict: Strictness,
    /// Who may log in. Where nobody can, submission listeners take no mail.
    pub users: Users,
    /// How they log in.
    pub auth: AuthSettings,
    /// Our side of TLS. Without certificates there is none.
    pub tls: Option<Certificates>,
    /// How often the files of certificates are looked at.
    pub look_at_files: Duration,
    /// How long session tickets are sealed with the same key, at most 6 hours.
    pub ticket_rotation: Duration,
    /// What is special at single listeners, by their names.
    pub doors: HashMap<String, DoorRules>,
    /// Who gets mail for `<postmaster>`; absent means postmaster at our own name.
    pub postmaster: Option<Mailbox>,
    /// Completes addresses that programs on this machine give without a domain; absent means our own
    /// name.
    pub origin: Option<Domain>,
    /// The HTTP doors.
    pub http: HttpSettings,
}

/// What the HTTP doors are told besides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpSettings {
    /// Who may submit.
    pub tokens: Bearers,
    /// Requests at once.
    pub max_requests: usize,
    /// Octets of a message in JSON: it is held in memory.
    pub max_json_size: u64,
    /// For the whole body of a request.
    pub body_timeout: Duration,
    /// How long idempotency keys are kept.
    pub key_lifetime: Duration,
}

impl Default for HttpSettings {
    fn default() -> HttpSettings {
        HttpSettings {
            tokens: Bearers::default(),
            max_requests: 64,
            max_json_size: 16 * 1024 * 1024,
            body_timeout: Duration::from_secs(600),
            key_lifetime: Duration::from_secs(24 * 3600),
        }
    }
}

/// What is special at one listener.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DoorRules {
    /// What it asks of TLS.
    pub tls: TlsPolicy,
    /// Proxies in front of it that say for whom they speak before anything else.
    pub proxy: Option<ProxyRule>,
    /// Peers that may say by XCLIENT for whom they speak.
    pub xclient: XclientPeers,
    /// How urgent mail may be.
    pub priority: PriorityRule,
}

/// Who may say how urgent mail is (RFC 6710 §4.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PriorityRule {
    /// MT-PRIORITY is offered, and fields of messages count (RFC 6758); absent, where mail is submitted.
    pub offered: Option<bool>,
    /// The most that those may ask for who may relay. For all others it is 0, or this when it is less.
    pub highest: Priority,
}

impl Default for PriorityRule {
    fn default() -> PriorityRule {
        PriorityRule { offered: None, highest: Priority::URGENT }
    }
}

/// Peers that may use XCLIENT. They are believed: the client they name has the rights of its address.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct XclientPeers {
    /// Their addresses. Empty: nobody.
    pub networks: Vec<Network>,
    /// They may say too who is logged in.
    pub login: bool,
}

impl XclientPeers {
    /// What a peer at this address may do, if it is known.
    pub(crate) fn rule(&self, peer: Option<IpAddr>) -> XclientRule {
        let lists = |peer| self.networks.iter().any(|network| network.contains(peer));
        match peer {
            Some(peer) if lists(peer) && self.login => XclientRule::WithLogin,
            Some(peer) if lists(peer) => XclientRule::Offered,
            _ => XclientRule::Off,
        }
    }
}

/// Why settings do not serve the listeners there are.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// Submission is encrypted, always.
    #[error("listener '{0}' takes submissions and needs a certificate: set one, or remove it")]
    NoCertificate(String),
    /// What a listener asks of TLS cannot be had.
    #[error("listener '{0}' cannot speak TLS as it is told: {1}")]
    TlsPolicy(String, String),
    /// The host name cannot stand in a greeting.
    #[error("'{0}' is no host name: write one like \"mail.example.org\"")]
    HostName(String),
    /// Anybody could send to anybody.
    #[error("relaying is allowed {0}: this would be an open relay")]
    OpenRelay(String),
}

impl Settings {
    /// Settings for `hostname` with usual limits: nobody may relay, nobody may log in.
    pub fn new(hostname: impl Into<String>) -> Settings {
        Settings {
            hostname: hostname.into(),
            relay: RelayRule::default(),
            limits: Limits::default(),
            strict: Strictness::default(),
            users: Users::new([]),
            auth: AuthSettings::default(),
            tls: None,
            look_at_files: Duration::from_secs(30),
            ticket_rotation: tls::TICKET_ROTATION,
            doors: HashMap::new(),
            postmaster: None,
            origin: None,
            http: HttpSettings::default(),
        }
    }

    /// Everything that is wrong with these settings for `listeners`.
    pub fn mistakes(&self, listeners: &[ListenerConfig]) -> Vec<SettingsError> {
        let mut mistakes = Vec::new();
        if !matches!(Domain::parse(&self.hostname), Ok(Domain::Name(_))) {
            mistakes.push(SettingsError::HostName(self.hostname.clone()));
        }
        for network in self.relay.networks.iter().filter(|network| network.is_the_internet()) {
            mistakes.push(SettingsError::OpenRelay(format!("from most of the world ({network})")));
        }
        if self.relay.domains.contains(&DomainPattern::Any) {
            mistakes.push(SettingsError::OpenRelay("to every domain (*)".to_owned()));
        }
        let encrypts = |kind: ListenerKind| kind.wants_login() || kind == ListenerKind::Https;
        for listener in listeners.iter().filter(|listener| encrypts(listener.kind)) {
            if self.tls.is_none() {
                mistakes.push(SettingsError::NoCertificate(listener.name.clone()));
            }
        }
        for listener in listeners {
            let Some(DoorRules { tls: policy, .. }) = self.door(&listener.name) else { continue };
            let asks = policy.clients != tls::ClientRule::None;
            let bare = (asks && self.tls.is_none())
                .then(|| "it asks for certificates and has none itself".to_owned());
            if let Some(mistake) = policy.mistake().or(bare) {
                mistakes.push(SettingsError::TlsPolicy(listener.name.clone(), mistake));
            }
        }
        mistakes
    }

    /// What is special at the listener of this name, if anything.
    pub(crate) fn door(&self, listener: &str) -> Option<&DoorRules> {
        self.doors.get(listener)
    }

    /// The rules of a conversation with a peer, if its address is known, at a listener, where
    /// `channel` is encrypted already; `known` when the system says who the peer is, as it does at
    /// Unix sockets.
    pub(crate) fn rules(
        &self,
        listener: &ListenerConfig,
        peer: Option<IpAddr>,
        channel: Option<&Secured>,
        known: bool,
    ) -> Rules {
        let kind = listener.kind;
        let door = self.door(&listener.name);
        let certificate = door.is_some_and(|door| door.tls.clients.is_required());
        let tls = match (kind, &self.tls) {
            _ if known => TlsRule::Off,
            (ListenerKind::Submissions, _) => TlsRule::Active,
            (ListenerKind::Submission, _) => TlsRule::Required,
            // Who must show a certificate must not go on without TLS instead.
            (ListenerKind::Relay | ListenerKind::Lmtp, _) if certificate => TlsRule::Required,
            (ListenerKind::Relay | ListenerKind::Lmtp, Some(_)) => TlsRule::Offered,
            (ListenerKind::Relay | ListenerKind::Lmtp, None) => TlsRule::Off,
            (ListenerKind::Local | ListenerKind::Http | ListenerKind::Https, _) => TlsRule::Off,
        };
        let auth = match kind {
            _ if kind.wants_login() => AuthRule::Required,
            _ if tls == TlsRule::Off || !self.lets_log_in() => AuthRule::Off,
            _ => AuthRule::Offered,
        };
        Rules {
            hostname: self.hostname.clone(),
            tls,
            auth,
            mechanisms: channel.map_or_else(Vec::new, |channel| self.mechanisms(channel)),
            submission: kind.is_submission(),
            xclient: door.map_or(XclientRule::Off, |door| door.xclient.rule(peer)),
            lmtp: kind == ListenerKind::Lmtp,
            origin: Manner(kind).origin(self),
            max_size: self.limits.max_message_size,
            max_recipients: self.limits.max_recipients,
            max_errors: self.limits.max_errors,
            max_commands: self.limits.max_commands,
            offers: Offers::default(),
            max_messages: self.limits.max_messages_per_session,
            max_session_recipients: self.limits.max_recipients_per_session,
            strict: Manner(kind).strictness(self),
        }
    }

    /// The extensions of a listener for a session that begins at `now`.
    pub(crate) fn offers(&self, listener: &ListenerConfig, now: Timestamp) -> Offers {
        let interval = self.limits.max_hold.as_secs();
        let until = (now.0 / 1000).saturating_add(interval);
        let until = i64::try_from(until).unwrap_or(i64::MAX);
        // RFC 4865 §1: mail is held where it is submitted.
        let holds = listener.kind.is_submission() && interval > 0;
        Offers {
            dsn: true,
            binary_mime: true,
            require_tls: true,
            deliver_by: Some(0),
            future_release: holds.then_some(FutureRelease { interval, until }),
            mt_priority: self.highest_priority(&listener.name, listener.kind).is_some(),
            limits: true,
        }
    }

    /// The most urgent that mail by this listener may be, where it may say so at all.
    pub(crate) fn highest_priority(&self, listener: &str, kind: ListenerKind) -> Option<Priority> {
        let usual = PriorityRule::default();
        let rule = self.door(listener).map_or(&usual, |door| &door.priority);
        // RFC 6710 §4.1: others are trusted by agreement alone.
        rule.offered.unwrap_or_else(|| kind.is_submission()).then_some(rule.highest)
    }

    pub(crate) fn origin(&self) -> Option<Domain> {
        self.origin.clone().or_else(|| Domain::parse(&self.hostname).ok())
    }

    /// Who gets mail for postmaster, and for other roles that are always there.
    pub(crate) fn who_is_postmaster(&self) -> Option<Mailbox> {
        let own = || Mailbox::new("postmaster", Domain::parse(&self.hostname).ok()?).ok();
        self.postmaster.clone().or_else(own)
    }

    /// True when there is somebody, or somebody to ask, who could log in.
    pub fn lets_log_in(&self) -> bool {
        let AuthSettings { policy, tokens, certificates, .. } = &self.auth;
        !self.users.is_empty() || *policy || tokens.is_some() || !certificates.is_empty()
    }

    /// True for peers that are never shut out.
    pub(crate) fn is_trusted(&self, peer: IpAddr) -> bool {
        self.relay.lists(peer)
            || self.auth.failures.never_ban.iter().any(|network| network.contains(peer))
    }

    /// The mechanisms to advertise on this channel.
    pub(crate) fn mechanisms(&self, channel: &Secured) -> Vec<String> {
        let offered = Mechanism::offered(self, channel).into_iter();
        offered.map(|mechanism| mechanism.name().to_owned()).collect()
    }
}

/// How users log in.
#[derive(Debug, Clone, Default)]
pub struct AuthSettings {
    /// SCRAM-SHA-1 is offered to users who hold a verifier for it.
    pub scram_sha_1: bool,
    /// Policy is asked about passwords, so PLAIN and LOGIN are offered whatever users hold.
    pub policy: bool,
    /// Tokens are taken, and these vouch for them.
    pub tokens: Option<TokenSettings>,
    /// Who logs in by a client's certificate.
    pub certificates: CertificateLogins,
    /// Who may send as whom.
    pub senders: SenderRules,
    /// What failed logins lead to.
    pub failures: FailureRules,
}

/// How much strangers may take of us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Sessions at once.
    pub max_sessions: usize,
    /// Sessions at once from one address, as [`Prefixes`] has it, unless it is in `relay.networks`.
    pub max_sessions_per_address: usize,
    /// Sessions at once from one network, with the same exception.
    pub max_sessions_per_network: usize,
    /// New sessions from one address, with the same exception.
    pub session_rate_per_address: Option<Rate>,
    /// New sessions from one network, with the same exception.
    pub session_rate_per_network: Option<Rate>,
    /// What counts as one address and one network.
    pub prefixes: Prefixes,
    /// Messages of one user who logged in. All rates must be kept.
    pub message_rates_per_user: Vec<Rate>,
    /// Messages from one address where nobody logged in, unless it is in `relay.networks`.
    pub message_rates_per_address: Vec<Rate>,
    /// Octets of one message.
    pub max_message_size: u64,
    /// Recipients of one message.
    pub max_recipients: usize,
    /// Recipients that are taken in one session, in all its messages.
    pub max_recipients_per_session: usize,
    /// Messages that are taken in one session.
    pub max_messages_per_session: u32,
    /// Replies 5xx since the last message.
    pub max_errors: u32,
    /// Commands without use since the last message.
    pub max_commands: u32,
    /// Octets of memory the program may use; absent, nine tenths of what the machine, or its control
    /// group, has. Over it new mail is put off.
    pub max_memory: Option<u64>,
    /// From our reply to the end of the next command (RFC 5321 §4.5.3.2.7), and how long a peer may
    /// take to read what we say.
    pub command_timeout: Duration,
    /// Between two pieces of a message.
    pub data_timeout: Duration,
    /// For the TLS handshake.
    pub handshake_timeout: Duration,
    /// From the first octet to the last of a session.
    pub session_lifetime: Duration,
    /// Octets a second that a message must bring, over any stretch of `data_timeout`; 0 for none.
    pub minimum_rate: u64,
    /// How long we keep silent before the greeting, to see who does not wait for it. Peers in
    /// `relay.networks` are spared.
    pub greet_pause: Duration,
    /// The longest that policy can delay a reply.
    pub max_delay: Duration,
    /// The longest that a submitter can have a message held; zero takes the offer back.
    pub max_hold: Duration,
}

/// How many bits of an address count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prefixes {
    /// Of IPv4, for a network.
    pub v4_network: u8,
    /// Of IPv6, for what counts as one address: one customer has a whole /64, or more.
    pub v6_address: u8,
    /// Of IPv6, for a network.
    pub v6_network: u8,
}

impl Default for Prefixes {
    fn default() -> Prefixes {
        Prefixes { v4_network: 24, v6_address: 64, v6_network: 48 }
    }
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            max_sessions: 2000,
            max_sessions_per_address: 100,
            max_sessions_per_network: 400,
            session_rate_per_address: None,
            session_rate_per_network: None,
            prefixes: Prefixes::default(),
            message_rates_per_user: Vec::new(),
            message_rates_per_address: Vec::new(),
            max_message_size: 50 * 1024 * 1024,
            max_recipients: 1000,
            max_recipients_per_session: 100_000,
            max_messages_per_session: 1000,
            max_errors: 20,
            max_commands: 100,
            max_memory: None,
            command_timeout: Duration::from_secs(300),
            data_timeout: Duration::from_secs(180),
            handshake_timeout: Duration::from_secs(60),
            session_lifetime: Duration::from_secs(4 * 3600),
            minimum_rate: 100,
            greet_pause: Duration::ZERO,
            max_delay: Duration::from_secs(60),
            max_hold: Duration::from_secs(7 * 86_400),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listener(kind: ListenerKind) -> ListenerConfig {
        ListenerConfig { name: kind.to_string(), kind }
    }

    #[test]
    fn every_mistake_is_told_at_once() {
        let mut settings = Settings::new("not a name");
        settings.relay.networks.push("0.0.0.0/0".parse().unwrap());
        settings.relay.domains.push(DomainPattern::Any);
        let listeners = [ListenerKind::Relay, ListenerKind::Submission, ListenerKind::Submissions]
            .map(listener);
        assert_eq!(settings.mistakes(&listeners).len(), 3 + 2);
        assert_eq!(Settings::new("mx.example.org").mistakes(&listeners[..1]), []);
    }

    #[test]
    fn a_relay_without_certificate_offers_neither_tls_nor_auth() {
        let settings = Settings::new("mx.example.org");
        for kind in [ListenerKind::Relay, ListenerKind::Lmtp, ListenerKind::Local] {
            let rules = settings.rules(&listener(kind), None, None, false);
            assert_eq!((rules.tls, rules.auth), (TlsRule::Off, AuthRule::Off), "{kind}");
        }
    }

    #[test]
    fn submitters_may_have_mail_held_as_long_as_the_limit_says() {
        let mut settings = Settings::new("mx.example.org");
        let offered = |settings: &Settings, kind| {
            settings.offers(&listener(kind), Timestamp(5_000)).future_release
        };
        settings.limits.max_hold = Duration::from_secs(90);
        let most = Some(FutureRelease { interval: 90, until: 95 });
        assert_eq!(offered(&settings, ListenerKind::Submissions), most);
        assert_eq!(offered(&settings, ListenerKind::Relay), None);
        settings.limits.max_hold = Duration::ZERO;
        assert_eq!(offered(&settings, ListenerKind::Submissions), None);
    }

    #[test]
    fn submitters_say_how_urgent_mail_is_and_others_where_that_is_agreed() {
        let mut settings = Settings::new("mx.example.org");
        let offered =
            |settings: &Settings, kind| settings.offers(&listener(kind), Timestamp(0)).mt_priority;
        for (kind, usual) in [
            (ListenerKind::Relay, false),
            (ListenerKind::Lmtp, false),
            (ListenerKind::Submission, true),
            (ListenerKind::Submissions, true),
            (ListenerKind::Local, true),
        ] {
            assert_eq!(offered(&settings, kind), usual, "{kind}");
            let priority = PriorityRule { offered: Some(!usual), ..PriorityRule::default() };
            let rules = DoorRules { priority, ..DoorRules::default() };
            settings.doors.insert(kind.to_string(), rules);
            assert_eq!(offered(&settings, kind), !usual, "{kind}");
        }
    }
}
