//! A next hop that does as its script says.
//!
//! It is our own [`Conversation`] and so speaks SMTP as it should, except where the script has
//! something else: another reply, silence, or a closed connection.

use std::future::pending;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use waypost_smtp::server::{
    Answer, AuthRule, Conversation, Offers, Question, Rules, Step, Strictness, TlsRule, XclientRule,
};
use waypost_smtp::{Phase, Reply, ReplyParser};

/// What it does instead of what it should.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// Says this: whole lines without the last CRLF, `450 4.2.1 busy`.
    Say(String),
    /// Closes the connection without a word. At [`Phase::Eod`] the message was taken.
    Drop,
    /// Says nothing more, and keeps the connection.
    Hang,
    /// The same; at [`Phase::Eod`] the message was taken.
    Withhold,
    /// At [`Phase::StartTls`]: says 220, answers the handshake with something else, and closes.
    Garble,
}

/// A message that was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mail {
    /// MAIL FROM, without angle brackets.
    pub from: String,
    /// RCPT TO of those that were taken.
    pub to: Vec<String>,
    /// The message, dots removed.
    pub content: String,
    /// It came over TLS.
    pub tls: bool,
    /// Who was logged in.
    pub user: Option<String>,
}

/// A scripted server. Clones share everything.
#[derive(Debug, Clone)]
pub struct Upstream {
    setup: Setup,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Clone)]
struct Setup {
    tls: Option<Arc<ServerConfig>>,
    implicit_tls: bool,
    login: Option<(String, String)>,
    without: Vec<&'static str>,
    offers: Vec<&'static str>,
    extensions: Offers,
    max_size: u64,
    messages_per_connection: usize,
}

#[derive(Debug, Default)]
struct State {
    script: Vec<Line>,
    mails: Vec<Mail>,
    connections: usize,
    /// So many connections, the first ones, hear nothing more.
    forsaken: usize,
    heard: String,
}

#[derive(Debug)]
struct Line {
    phase: Phase,
    recipient: Option<String>,
    act: Act,
    times: usize,
}

impl Default for Upstream {
    fn default() -> Upstream {
        let setup = Setup {
            tls: None,
            implicit_tls: false,
            login: None,
            without: Vec::new(),
            offers: Vec::new(),
            extensions: Offers::default(),
            max_size: 100 << 20,
            messages_per_connection: usize::MAX,
        };
        Upstream { setup, state: Arc::default() }
    }
}

/// How it is set up.
impl Upstream {
    /// One that takes everything, in clear text.
    pub fn new() -> Upstream {
        Upstream::default()
    }

    /// Offers STARTTLS and can do it.
    pub fn with_tls(mut self, config: Arc<ServerConfig>) -> Upstream {
        self.setup.tls = Some(config);
        self
    }

    /// TLS from the first byte; to be used with [`Upstream::with_tls`].
    pub fn implicit_tls(mut self) -> Upstream {
        self.setup.implicit_tls = true;
        self
    }

    /// Takes mail only from this user, by AUTH PLAIN over TLS.
    pub fn with_login(mut self, user: &str, password: &str) -> Upstream {
        self.setup.login = Some((user.to_owned(), password.to_owned()));
        self
    }

    /// Does not offer this extension, such as `8BITMIME`.
    pub fn without(mut self, keyword: &'static str) -> Upstream {
        self.setup.without.push(keyword);
        self
    }

    /// Offers what it cannot do: STARTTLS without TLS is answered with 5xx.
    pub fn pretending(mut self, keyword: &'static str) -> Upstream {
        self.setup.offers.push(keyword);
        self
    }

    /// Offers these extensions and takes their parameters.
    pub fn offering(mut self, extensions: Offers) -> Upstream {
        self.setup.extensions = extensions;
        self
    }

    /// Takes messages of at most so many octets.
    pub fn max_size(mut self, octets: u64) -> Upstream {
        self.setup.max_size = octets;
        self
    }

    /// Closes the connection without a word after so many messages.
    pub fn messages_per_connection(mut self, messages: usize) -> Upstream {
        self.setup.messages_per_connection = messages;
        self
    }

    /// Answers the next BDAT so, and takes no octet of it. Scripts for [`Phase::Data`] are about DATA: with
    /// one CHUNKING is not offered.
    pub fn once_at_bdat(self, reply: &str) -> Upstream {
        self.put(Phase::Data, None, Act::Say(reply.to_owned()), 1)
    }

    /// From now on does this whenever the phase comes.
    pub fn on(self, phase: Phase, act: Act) -> Upstream {
        self.add(phase, None, act, usize::MAX)
    }

    /// Does this the next time the phase comes.
    pub fn once(self, phase: Phase, act: Act) -> Upstream {
        self.add(phase, None, act, 1)
    }

    /// Answers RCPT for this address so.
    pub fn refusing(self, recipient: &str, reply: &str) -> Upstream {
        let act = Act::Say(reply.to_owned());
        self.add(Phase::Rcpt, Some(recipient.to_owned()), act, usize::MAX)
    }

    /// Answers the next RCPT for this address so.
    pub fn refusing_once(self, recipient: &str, reply: &str) -> Upstream {
        let act = Act::Say(reply.to_owned());
        self.add(Phase::Rcpt, Some(recipient.to_owned()), act, 1)
    }

    /// Forgets the script: from now on takes everything.
    pub fn relent(&self) {
        self.state().script.clear();
    }

    /// Who has connected so far gets no answer any more, whatever it has said already.
    pub fn forsake(&self) {
        let mut state = self.state();
        state.forsaken = state.connections;
    }

    fn add(self, phase: Phase, recipient: Option<String>, act: Act, times: usize) -> Upstream {
        let upstream = if phase == Phase::Data { self.without("CHUNKING") } else { self };
        upstream.put(phase, recipient, act, times)
    }

    fn put(self, phase: Phase, recipient: Option<String>, act: Act, times: usize) -> Upstream {
        self.state().script.push(Line { phase, recipient, act, times });
        self
    }
}

/// What it has seen.
impl Upstream {
    /// The messages it took, in order.
    pub fn mails(&self) -> Vec<Mail> {
        self.state().mails.clone()
    }

    /// Connections made to it so far.
    pub fn connections(&self) -> usize {
        self.state().connections
    }

    /// All that clients said, TLS removed.
    pub fn heard(&self) -> String {
        self.state().heard.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How it is reached.
impl Upstream {
    /// Serves connections to a port of loopback until the runtime ends.
    ///
    /// # Errors
    /// When the system has no port.
    pub async fn listen(&self) -> std::io::Result<SocketAddr> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        self.attend(listener);
        Ok(address)
    }

    /// The same with a listener that is there already.
    pub fn attend(&self, listener: TcpListener) {
        let upstream = self.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(upstream.clone().serve(stream));
            }
        });
    }

    /// Serves one connection to its end.
    pub async fn serve<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(self, stream: S) {
        let number = {
            let mut state = self.state();
            state.connections += 1;
            state.connections
        };
        let mut visit = Visit::new(self, number, Box::new(stream));
        if visit.upstream.setup.implicit_tls && visit.encrypt().await.is_none() {
            return;
        }
        while visit.proceed().await.is_some() {}
    }
}

trait Pipe: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Pipe for T {}

/// One connection. Its steps give nothing when the connection is to be closed.
struct Visit {
    upstream: Upstream,
    /// Of its connection, from 1 on.
    number: usize,
    stream: Option<Box<dyn Pipe>>,
    conversation: Conversation,
    mail: Mail,
    messages: usize,
    greeting: bool,
}

impl Visit {
    fn new(upstream: Upstream, number: usize, stream: Box<dyn Pipe>) -> Visit {
        let Setup { tls, implicit_tls, login, extensions, max_size, .. } = &upstream.setup;
        let rules = Rules {
            hostname: "upstream.example".to_owned(),
            tls: match tls {
                _ if *implicit_tls => TlsRule::Active,
                Some(_) => TlsRule::Offered,
                None => TlsRule::Off,
            },
            mechanisms: vec!["PLAIN".to_owned()],
            auth: if login.is_some() { AuthRule::Required } else { AuthRule::Off },
            submission: false,
            xclient: XclientRule::Off,
            lmtp: false,
            origin: None,
            max_size: *max_size,
            max_recipients: 1000,
            max_errors: 1000,
            max_commands: 1000,
            offers: extensions.clone(),
            max_messages: u32::MAX,
            max_session_recipients: usize::MAX,
            strict: Strictness::TOLERANT,
        };
        let mail = Mail {
            from: String::new(),
            to: vec![],
            content: String::new(),
            tls: false,
            user: None,
        };
        Visit {
            conversation: Conversation::new(rules),
            stream: Some(stream),
            upstream,
            number,
            mail,
            messages: 0,
            greeting: false,
        }
    }

    async fn proceed(&mut self) -> Option<()> {
        match self.conversation.step() {
            Step::NeedInput => self.read().await,
            Step::Ask(question) => {
                let answer = self.answer(question).await?;
                self.conversation.answer(answer);
                Some(())
            }
            Step::Chunk(text) => {
                self.mail.content.push_str(&String::from_utf8_lossy(&text));
                Some(())
            }
            Step::Discard => {
                self.mail.content.clear();
                Some(())
            }
            Step::Upgrade => self.starttls().await,
            Step::Close => {
                self.flush().await;
                None
            }
        }
    }

    async fn read(&mut self) -> Option<()> {
        self.flush().await?;
        if self.messages >= self.upstream.setup.messages_per_connection {
            return None;
        }
        let mut buffer = vec![0; 16 * 1024];
        let count = self.stream.as_mut()?.read(&mut buffer).await.ok().filter(|n| *n > 0)?;
        let heard = String::from_utf8_lossy(&buffer[..count]).into_owned();
        self.upstream.state().heard.push_str(&heard);
        if self.conversation.in_data() {
            match self.act(Phase::Body, None) {
                None => {}
                Some(Act::Say(text)) => {
                    self.write(format!("{text}\r\n").as_bytes()).await;
                    return None;
                }
                Some(Act::Hang) => return pending().await,
                Some(_) => return None,
            }
        }
        self.conversation.push(&buffer[..count]);
        Some(())
    }

    async fn flush(&mut self) -> Option<()> {
        let mut output = self.conversation.take_output();
        if std::mem::take(&mut self.greeting) {
            output = self.offered(&output);
        }
        self.write(&output).await
    }

    async fn write(&mut self, output: &[u8]) -> Option<()> {
        let stream = self.stream.as_mut()?;
        stream.write_all(output).await.ok()?;
        stream.flush().await.ok()
    }

    /// The reply to EHLO with what the setup adds and removes.
    fn offered(&self, output: &[u8]) -> Vec<u8> {
        let Setup { without, offers, .. } = &self.upstream.setup;
        let text = String::from_utf8_lossy(output).into_owned();
        let keyword = |line: &str| line[4..].split(' ').next().map(str::to_owned);
        let kept = |line: &&str| without.iter().all(|w| keyword(line).as_deref() != Some(w));
        let mut lines: Vec<String> = text.lines().filter(kept).map(str::to_owned).collect();
        if lines.is_empty() || lines.iter().any(|line| !line.starts_with("250")) {
            return output.to_vec();
        }
        lines.extend(offers.iter().map(|offer| format!("250-{offer}")));
        let last = lines.len() - 1;
        for (place, line) in lines.iter_mut().enumerate() {
            line.replace_range(3..4, if place == last { " " } else { "-" });
            line.push_str("\r\n");
        }
        lines.concat().into_bytes()
    }

    async fn starttls(&mut self) -> Option<()> {
        match self.act(Phase::StartTls, None) {
            None => {}
            Some(Act::Hang | Act::Withhold) => return pending().await,
            Some(Act::Drop) => return None,
            Some(Act::Say(text)) => {
                self.write(format!("{text}\r\n").as_bytes()).await;
                return None;
            }
            Some(Act::Garble) => {
                self.flush().await?;
                let _ = self.stream.as_mut()?.read(&mut [0; 1024]).await;
                self.write(b"500 what is this?\r\n").await;
                return None;
            }
        }
        self.flush().await?;
        self.encrypt().await?;
        self.conversation.upgraded(vec!["PLAIN".to_owned()]);
        Some(())
    }

    async fn encrypt(&mut self) -> Option<()> {
        let config = self.upstream.setup.tls.clone()?;
        let stream = TlsAcceptor::from(config).accept(self.stream.take()?).await.ok()?;
        self.stream = Some(Box::new(stream));
        self.mail.tls = true;
        Some(())
    }

    async fn answer(&mut self, question: Question) -> Option<Answer> {
        let (phase, usual) = self.usual(&question);
        if let Question::Recipients(all) = &question {
            let all: Vec<String> = all.iter().map(|rcpt| rcpt.mailbox.to_string()).collect();
            return self.recipients(all).await;
        }
        match self.act(phase, None) {
            None => {}
            Some(Act::Say(text)) => return Some(Answer::Reply(reply(&text))),
            Some(act @ (Act::Hang | Act::Withhold)) => {
                if phase == Phase::Eod && act == Act::Withhold {
                    self.keep();
                }
                self.flush().await;
                return pending().await;
            }
            Some(_) => {
                if phase == Phase::Eod {
                    self.keep();
                }
                self.flush().await;
                return None;
            }
        }
        if phase == Phase::Eod {
            self.keep();
        }
        Some(usual)
    }

    /// What it says when the script says nothing.
    fn usual(&mut self, question: &Question) -> (Phase, Answer) {
        match question {
            Question::Connect => (Phase::Greeting, Answer::Reply(Reply::plain(220, "ready"))),
            Question::Helo { esmtp, .. } => {
                self.greeting = *esmtp;
                (Phase::Ehlo, Answer::Reply(Reply::OK))
            }
            Question::Auth { initial, .. } => (Phase::Auth, self.login(initial.as_deref())),
            Question::AuthResponse(response) => {
                let response = response.clone();
                (Phase::Auth, self.login(Some(&response)))
            }
            Question::Sender(from) => {
                self.mail.from = from.path.to_string();
                self.mail.to.clear();
                self.mail.content.clear();
                (Phase::Mail, Answer::Reply(Reply::SENDER_OK))
            }
            Question::Recipients(_) => (Phase::Rcpt, Answer::Reply(Reply::RECIPIENT_OK)),
            // It is not offered, so it is not asked.
            Question::Xclient(_) => (Phase::Ehlo, Answer::Reply(Reply::NOT_IMPLEMENTED)),
            Question::Data => (Phase::Data, Answer::Reply(Reply::OK)),
            Question::Commit { .. } => (Phase::Eod, Answer::Reply(Reply::OK.with_text("taken"))),
        }
    }

    async fn recipients(&mut self, all: Vec<String>) -> Option<Answer> {
        let mut replies = Vec::new();
        for recipient in all {
            match self.act(Phase::Rcpt, Some(&recipient)) {
                None => {
                    self.mail.to.push(recipient);
                    replies.push(Reply::RECIPIENT_OK);
                }
                Some(Act::Say(text)) => replies.push(reply(&text)),
                Some(Act::Hang) => {
                    self.flush().await;
                    return pending().await;
                }
                Some(_) => {
                    self.flush().await;
                    return None;
                }
            }
        }
        Some(Answer::Recipients(replies))
    }

    fn login(&mut self, response: Option<&[u8]>) -> Answer {
        let Some(response) = response else { return Answer::Challenge(Vec::new()) };
        let Some((user, password)) = &self.upstream.setup.login else {
            return Answer::Reply(Reply::BAD_CREDENTIALS);
        };
        if response == format!("\0{user}\0{password}").as_bytes() {
            self.mail.user = Some(user.clone());
            Answer::Authenticated
        } else {
            Answer::Reply(Reply::BAD_CREDENTIALS)
        }
    }

    fn keep(&mut self) {
        self.messages += 1;
        self.upstream.state().mails.push(self.mail.clone());
    }

    /// What the script has for this place, used up if it is for once.
    fn act(&self, phase: Phase, recipient: Option<&str>) -> Option<Act> {
        let mut state = self.upstream.state();
        if self.number <= state.forsaken {
            return Some(Act::Hang);
        }
        let line = state.script.iter_mut().find(|line| {
            let for_it = line.recipient.is_none() || line.recipient.as_deref() == recipient;
            line.phase == phase && line.times > 0 && for_it
        })?;
        if line.times != usize::MAX {
            line.times -= 1;
        }
        Some(line.act.clone())
    }
}

/// A reply from the text of a script; a script that is wrong shows as a 451 that says so.
fn reply(text: &str) -> Reply {
    let mut parser = ReplyParser::new();
    parser.push(format!("{text}\r\n").as_bytes());
    match parser.pull() {
        Ok(Some(reply)) => reply,
        _ => Reply::LOCAL_ERROR.with_text(format!("the script has no reply here: {text}")),
    }
}
