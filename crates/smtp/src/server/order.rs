//! The rules of order, in one table. The checks, HELP, and the reply to EHLO are read from it.

use super::session::{Session, Transaction};
use super::{AuthRule, Rules, TlsRule, XclientRule};
use crate::command::Dialect;
use crate::{Reply, parameters, terms, xclient};

/// A command word we know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Helo,
    Ehlo,
    Lhlo,
    Mail,
    Rcpt,
    Data,
    Bdat,
    Rset,
    Noop,
    Vrfy,
    Expn,
    Help,
    StartTls,
    Auth,
    Xclient,
    Quit,
}

/// In which state of the session a command is in order (RFC 5321 §4.1.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum When {
    /// At any time.
    Always,
    /// At any time but in a transaction.
    Idle,
    /// After HELO or EHLO, outside a transaction.
    Greeted,
    /// After EHLO, outside a transaction.
    Extended,
    /// In a transaction, before its body.
    Envelope,
    /// In a transaction.
    Transaction,
}

/// Whether a command takes an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Args {
    No,
    Maybe,
    Yes,
}

/// What becomes of bytes that came behind a command before its reply (RFC 2920 §3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Behind {
    /// They are commands. So are those behind VRFY and NOOP: RFC 2920 wants these last in a group,
    /// but they change nothing, and to answer what follows in turn harms nobody.
    Commands,
    /// They are commands, but should have awaited the reply.
    Reply,
    /// They are a body, which should have awaited the reply. When there is to be none the connection is closed, because what was meant
    /// as content must not be obeyed.
    Body,
    /// They are lost: the session ends or begins anew behind this command.
    Nothing,
}

/// One command and its rules.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) verb: Verb,
    pub(super) word: &'static str,
    pub(super) when: When,
    pub(super) args: Args,
    /// In order before STARTTLS where TLS is required (RFC 3207 §4).
    pub(super) before_tls: bool,
    /// In order before AUTH where it is required (RFC 4954 §6).
    pub(super) before_auth: bool,
    pub(super) behind: Behind,
    /// Counts against [`Rules::max_commands`] even when it succeeds.
    pub(super) idle: bool,
    /// What EHLO says of it, where it is an extension.
    pub(super) keyword: Option<&'static str>,
    /// What HELP says of it: how it is written, and what it does.
    pub(super) usage: &'static str,
}

/// A command that is in order at any time, takes no argument and counts against its limit.
const PLAIN: Order = Order {
    verb: Verb::Noop,
    word: "NOOP",
    when: When::Always,
    args: Args::No,
    before_tls: true,
    before_auth: true,
    behind: Behind::Commands,
    idle: true,
    keyword: None,
    usage: "NOOP [anything]\nDoes nothing.",
};

/// A command that brings mail forward.
const MAIL: Order = Order {
    verb: Verb::Mail,
    word: "MAIL",
    when: When::Greeted,
    args: Args::Yes,
    before_tls: false,
    idle: false,
    usage: "MAIL FROM:<address> [parameters]\nBegins a message; bounces go to the address.",
    ..PLAIN
};

pub(super) const TABLE: [Order; 16] = [
    Order {
        verb: Verb::Ehlo,
        word: "EHLO",
        args: Args::Yes,
        behind: Behind::Reply,
        usage: "EHLO your-name\nGreets; the reply tells the extensions there are.",
        ..PLAIN
    },
    Order {
        verb: Verb::Helo,
        word: "HELO",
        args: Args::Yes,
        behind: Behind::Reply,
        usage: "HELO your-name\nGreets, without extensions.",
        ..PLAIN
    },
    Order {
        verb: Verb::Lhlo,
        word: "LHLO",
        args: Args::Yes,
        behind: Behind::Reply,
        usage: "LHLO your-name\nGreets; the reply tells the extensions there are.",
        ..PLAIN
    },
    Order { before_auth: false, ..MAIL },
    Order {
        verb: Verb::Rcpt,
        word: "RCPT",
        when: When::Envelope,
        usage: "RCPT TO:<address> [parameters]\nAdds a recipient.",
        ..MAIL
    },
    Order {
        verb: Verb::Data,
        word: "DATA",
        when: When::Envelope,
        args: Args::No,
        behind: Behind::Body,
        usage: "DATA\nThe message follows once we say so, and ends with a dot on a line of its own.",
        ..MAIL
    },
    Order {
        verb: Verb::Bdat,
        word: "BDAT",
        when: When::Transaction,
        keyword: Some("CHUNKING"),
        usage: "BDAT octets [LAST]\nSo many octets of the message follow at once.",
        ..MAIL
    },
    Order {
        verb: Verb::Rset,
        word: "RSET",
        usage: "RSET\nDrops the message that was begun.",
        ..PLAIN
    },
    Order { args: Args::Maybe, ..PLAIN },
    Order {
        verb: Verb::Vrfy,
        word: "VRFY",
        args: Args::Yes,
        before_tls: false,
        usage: "VRFY address [SMTPUTF8]\nNobody is told who has a mailbox: send mail and see.",
        ..PLAIN
    },
    Order { verb: Verb::Expn, word: "EXPN", args: Args::Maybe, ..PLAIN },
    Order {
        verb: Verb::StartTls,
        word: "STARTTLS",
        when: When::Extended,
        behind: Behind::Nothing,
        keyword: Some("STARTTLS"),
        usage: "STARTTLS\nEncrypts the connection; greet again behind it.",
        ..PLAIN
    },
    Order {
        verb: Verb::Auth,
        word: "AUTH",
        when: When::Extended,
        args: Args::Yes,
        before_tls: false,
        behind: Behind::Reply,
        keyword: Some("AUTH"),
        usage: "AUTH mechanism [initial-response]\nLogs in, on an encrypted connection.",
        ..PLAIN
    },
    Order {
        verb: Verb::Xclient,
        word: "XCLIENT",
        when: When::Idle,
        args: Args::Yes,
        keyword: Some("XCLIENT"),
        usage: "XCLIENT name=value ...\nSays for whom you speak.",
        ..PLAIN
    },
    // Behind the extensions that matter: there are clients that overlook the last line.
    Order {
        verb: Verb::Help,
        word: "HELP",
        args: Args::Maybe,
        keyword: Some("HELP"),
        usage: "HELP [command]\nTells the commands, or how one is written.",
        ..PLAIN
    },
    Order {
        verb: Verb::Quit,
        word: "QUIT",
        behind: Behind::Nothing,
        usage: "QUIT\nEnds the session.",
        ..PLAIN
    },
];

impl Order {
    /// The rules of the command that a line begins with, and its argument without the white space
    /// at its end (RFC 5321 §4.1.1).
    pub(super) fn of(line: &str) -> Option<(&'static Order, &str)> {
        let line = line.trim_end_matches([' ', '\t']);
        let (word, args) = line.split_once(' ').unwrap_or((line, ""));
        let order = TABLE.iter().find(|order| order.word.eq_ignore_ascii_case(word))?;
        Some((order, args))
    }

    /// True when whoever sends this must hear our reply before it says more.
    pub(super) fn must_be_last(&self, session: &Session) -> bool {
        match (self.verb, self.behind) {
            // Nobody waits for the reply to a farewell.
            (Verb::Quit, _) => false,
            (_, Behind::Commands) => !session.esmtp,
            (_, Behind::Reply | Behind::Body | Behind::Nothing) => true,
        }
    }

    /// The first beat: is this command in order now?
    pub(super) fn check(
        &self,
        args: &str,
        rules: &Rules,
        session: &Session,
        transaction: Option<&Transaction>,
    ) -> Result<(), Reply> {
        if session.refused && self.verb != Verb::Quit {
            return Err(Reply::BAD_SEQUENCE);
        }
        if !self.exists(rules) {
            return Err(match self.verb {
                // RFC 2033 §4.1: a greeting in the other protocol gets 500.
                Verb::Ehlo | Verb::Helo | Verb::Lhlo => Reply::COMMAND_UNKNOWN,
                _ => Reply::NOT_IMPLEMENTED,
            });
        }
        if rules.tls == TlsRule::Required && !self.before_tls {
            return Err(Reply::STARTTLS_FIRST);
        }
        if !self.in_time(session, transaction) {
            return Err(Reply::BAD_SEQUENCE);
        }
        let unauthenticated = rules.auth == AuthRule::Required && !session.authenticated;
        if unauthenticated && !self.before_auth {
            return Err(Reply::AUTH_REQUIRED);
        }
        match self.args {
            Args::No if !args.is_empty() => Err(Reply::BAD_ARGUMENTS),
            Args::Yes if args.is_empty() => Err(Reply::BAD_ARGUMENTS),
            _ => Ok(()),
        }
    }

    /// Whether this command is on offer now: such commands are in EHLO and HELP.
    fn is_offered(&self, rules: &Rules, session: &Session) -> bool {
        match self.verb {
            Verb::StartTls => matches!(rules.tls, TlsRule::Offered | TlsRule::Required),
            Verb::Auth => offers_auth(rules) && !session.authenticated,
            _ => self.exists(rules),
        }
    }

    /// Whether this listener knows the command at all.
    fn exists(&self, rules: &Rules) -> bool {
        match self.verb {
            Verb::Expn => false,
            Verb::Ehlo | Verb::Helo => !rules.lmtp,
            Verb::Lhlo => rules.lmtp,
            Verb::StartTls => rules.tls != TlsRule::Off,
            Verb::Auth => rules.auth != AuthRule::Off,
            Verb::Xclient => rules.xclient != XclientRule::Off,
            _ => true,
        }
    }

    fn in_time(&self, session: &Session, transaction: Option<&Transaction>) -> bool {
        match self.when {
            When::Always => true,
            When::Idle => transaction.is_none(),
            When::Greeted => session.greeted && transaction.is_none(),
            When::Extended => session.esmtp && transaction.is_none(),
            When::Envelope => transaction.is_some_and(|t| t.body.is_none()),
            When::Transaction => transaction.is_some(),
        }
    }
}

/// AUTH is on offer: the channel is encrypted and there is a mechanism.
pub(super) fn offers_auth(rules: &Rules) -> bool {
    let encrypted = rules.tls == TlsRule::Active;
    encrypted && rules.auth != AuthRule::Off && !rules.mechanisms.is_empty()
}

/// The reply to EHLO: what is advertised is obeyed (RFC 5321 §4.1.1.1).
pub(super) fn extensions(rules: &Rules, session: &Session) -> Reply {
    let mut lines = vec![
        rules.hostname.clone(),
        "PIPELINING".to_owned(),
        format!("SIZE {}", rules.max_size),
        "8BITMIME".to_owned(),
        "SMTPUTF8".to_owned(),
        "ENHANCEDSTATUSCODES".to_owned(),
    ];
    lines.extend(offers(rules));
    for order in TABLE.iter().filter(|order| order.is_offered(rules, session)) {
        match order.keyword {
            Some("AUTH") => lines.push(format!("AUTH {}", rules.mechanisms.join(" "))),
            Some("XCLIENT") => {
                lines.push(xclient::keyword(rules.xclient == XclientRule::WithLogin));
            }
            Some(keyword) => lines.push(keyword.to_owned()),
            None => {}
        }
    }
    Reply::plain(250, "").with_text(lines.join("\n"))
}

/// The extensions without a command of their own, as far as this listener offers them.
fn offers(rules: &Rules) -> Vec<String> {
    let offers = &rules.offers;
    let plain = [
        (offers.dsn, "DSN"),
        (offers.binary_mime, "BINARYMIME"),
        // RFC 6710 §9.2: three levels, which are what the default policy has.
        (offers.mt_priority, "MT-PRIORITY MIXER"),
        // RFC 8689 §2: only once the channel is encrypted.
        (offers.require_tls && rules.tls == TlsRule::Active, "REQUIRETLS"),
    ];
    let plain = plain.into_iter().filter(|(offered, _)| *offered);
    let mut lines: Vec<String> = plain.map(|(_, keyword)| keyword.to_owned()).collect();
    // RFC 2852 §2
    lines.extend(offers.deliver_by.map(|least| match least {
        0 | 1 => "DELIVERBY".to_owned(),
        least => format!("DELIVERBY {least}"),
    }));
    // RFC 4865 §3
    lines.extend(
        offers
            .future_release
            .map(|most| format!("FUTURERELEASE {} {}", most.interval, terms::moment(most.until))),
    );
    if offers.limits {
        lines.push(format!("LIMITS{}", limits(rules)));
    }
    lines
}

/// What one session and one message of it may have at most, as far as there is a limit (RFC 9422 §4).
/// Nothing here depends on the domains of recipients, so no RCPTDOMAINMAX is told.
fn limits(rules: &Rules) -> String {
    let mails = Some(rules.max_messages).filter(|most| *most < u32::MAX);
    let mails = mails.map(|most| format!(" MAILMAX={most}")).unwrap_or_default();
    format!("{mails} RCPTMAX={}", rules.max_recipients.min(rules.max_session_recipients))
}

/// The reply to HELP (RFC 5321 §4.1.1.8): all commands, or how one is written, with the parameters that
/// are on offer now.
pub(super) fn help(topic: &str, rules: &Rules, session: &Session, dialect: Dialect<'_>) -> Reply {
    let told = |text: String| Reply::fixed(214, (2, 0, 0), "").with_text(text);
    if topic.is_empty() {
        let offered = TABLE.iter().filter(|order| order.is_offered(rules, session));
        let words: Vec<_> = offered.map(|order| order.word).collect();
        return told(format!("Commands: {}\nHELP command tells more.", words.join(" ")));
    }
    let about = |order: &&Order| order.word.eq_ignore_ascii_case(topic) && order.exists(rules);
    let Some(order) = TABLE.iter().find(about) else { return Reply::NO_SUCH_HELP };
    let parameters = match order.verb {
        Verb::Mail => parameters::of_mail(dialect),
        Verb::Rcpt => parameters::of_rcpt(dialect),
        Verb::Auth => rules.mechanisms.join(" "),
        _ => String::new(),
    };
    let name = if order.verb == Verb::Auth { "Mechanisms" } else { "Parameters" };
    match parameters.as_str() {
        "" => told(order.usage.to_owned()),
        all => told(format!("{}\n{name}: {all}", order.usage)),
    }
}
