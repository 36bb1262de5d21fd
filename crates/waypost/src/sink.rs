//! A server that takes mail and hands it over: the upstream of the demonstration and of tests.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use rustls::{ProtocolVersion, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsAcceptor;
use waypost_delivery::Stream;
use waypost_smtp::server::{
    Answer, AuthRule, Conversation, Offers, Question, Rules, Step, Strictness, TlsRule, XclientRule,
};
use waypost_smtp::{Mailbox, Reply, ReversePath};

/// Largest message taken, in octets.
const MAX_SIZE: u64 = 64 << 20;
/// Sessions at once; more wait.
const MAX_SESSIONS: usize = 64;
/// Messages handed over and not yet looked at; more wait.
const MAX_WAITING: usize = 256;
/// How long a peer may say nothing.
const IDLE: Duration = Duration::from_secs(300);

/// A message that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrival {
    /// When it was whole.
    pub at: Instant,
    /// Where bounces go.
    pub sender: ReversePath,
    /// For whom.
    pub recipients: Vec<Mailbox>,
    /// Header and body.
    pub message: Vec<u8>,
    /// Version of TLS, absent in clear text.
    pub tls: Option<&'static str>,
}

/// What the sink says to a recipient.
pub trait Judge: Send + Sync + 'static {
    /// A positive reply takes it.
    fn judge(&self, recipient: &Mailbox) -> Reply;
}

impl<F: Fn(&Mailbox) -> Reply + Send + Sync + 'static> Judge for F {
    fn judge(&self, recipient: &Mailbox) -> Reply {
        self(recipient)
    }
}

/// A running sink; it ends when this is dropped.
#[derive(Debug)]
pub struct Sink {
    /// Where it listens, on loopback.
    pub address: SocketAddr,
    /// What comes.
    pub arrivals: mpsc::Receiver<Arrival>,
    task: JoinHandle<()>,
}

impl Sink {
    /// Listens on a free port of 127.0.0.1. STARTTLS is offered with `tls`.
    ///
    /// # Errors
    /// When no port can be had.
    pub async fn start(tls: Arc<ServerConfig>, judge: impl Judge) -> Result<Sink> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("the sink has no port")?;
        let address = listener.local_addr()?;
        let (hand, arrivals) = mpsc::channel(MAX_WAITING);
        let house = Arc::new(House { tls: TlsAcceptor::from(tls), judge: Box::new(judge), hand });
        Ok(Sink { address, arrivals, task: tokio::spawn(listen(listener, house)) })
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What sessions share.
struct House {
    tls: TlsAcceptor,
    judge: Box<dyn Judge>,
    hand: mpsc::Sender<Arrival>,
}

async fn listen(listener: TcpListener, house: Arc<House>) {
    let places = Arc::new(Semaphore::new(MAX_SESSIONS));
    // Sessions end with the sink.
    let mut sessions = tokio::task::JoinSet::new();
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        while sessions.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((socket, _)) => {
                let house = house.clone();
                sessions.spawn(async move {
                    // A peer that breaks off has lost nothing that was taken.
                    let _ = Session::new(house, socket).run().await;
                    drop(place);
                });
            }
            // No sockets left, most likely: some will end.
            Err(_) => sleep(Duration::from_millis(100)).await,
        }
    }
}

struct Session {
    house: Arc<House>,
    stream: Box<dyn Stream>,
    conversation: Conversation,
    tls: Option<&'static str>,
    sender: ReversePath,
    recipients: Vec<Mailbox>,
    message: Vec<u8>,
}

impl Session {
    fn new(house: Arc<House>, socket: TcpStream) -> Session {
        Session {
            house,
            stream: Box::new(socket),
            conversation: Conversation::new(Rules {
                hostname: "sink.invalid".to_owned(),
                tls: TlsRule::Offered,
                mechanisms: Vec::new(),
                auth: AuthRule::Off,
                submission: false,
                xclient: XclientRule::Off,
                lmtp: false,
                origin: None,
                max_size: MAX_SIZE,
                max_recipients: 1000,
                max_errors: 1000,
                max_commands: 1000,
                offers: Offers::default(),
                max_messages: u32::MAX,
                max_session_recipients: usize::MAX,
                strict: Strictness::TOLERANT,
            }),
            tls: None,
            sender: ReversePath::Null,
            recipients: Vec::new(),
            message: Vec::new(),
        }
    }

    async fn run(&mut self) -> io::Result<()> {
        let mut buffer = vec![0; 16 * 1024];
        loop {
            match self.conversation.step() {
                Step::NeedInput => {
                    self.write().await?;
                    match timeout(IDLE, self.stream.read(&mut buffer)).await?? {
                        0 => return Ok(()),
                        count => self.conversation.push(&buffer[..count]),
                    }
                }
                Step::Ask(question) => {
                    let answer = self.answer(question).await;
                    self.conversation.answer(answer);
                }
                Step::Chunk(chunk) => self.message.extend_from_slice(&chunk),
                Step::Discard => self.message.clear(),
                Step::Upgrade => self.upgrade().await?,
                Step::Close => {
                    self.write().await?;
                    return self.stream.shutdown().await;
                }
            }
        }
    }

    async fn answer(&mut self, question: Question) -> Answer {
        match question {
            Question::Sender(from) => {
                self.sender = from.path;
                self.recipients.clear();
                self.message.clear();
                Answer::Reply(Reply::SENDER_OK)
            }
            Question::Recipients(all) => {
                let judge = |recipient: &Mailbox| self.house.judge.judge(recipient);
                let replies: Vec<Reply> = all.iter().map(|rcpt| judge(&rcpt.mailbox)).collect();
                let both = all.into_iter().zip(&replies);
                let taken = both.filter(|(_, reply)| reply.is_positive());
                self.recipients.extend(taken.map(|(rcpt, _)| rcpt.mailbox));
                Answer::Recipients(replies)
            }
            Question::Commit { .. } => self.hand_over().await,
            _ => Answer::Reply(Reply::OK),
        }
    }

    async fn hand_over(&mut self) -> Answer {
        let arrival = Arrival {
            at: Instant::now(),
            sender: self.sender.clone(),
            recipients: std::mem::take(&mut self.recipients),
            message: std::mem::take(&mut self.message),
            tls: self.tls,
        };
        match self.house.hand.send(arrival).await {
            Ok(()) => Answer::Reply(Reply::OK.with_text("Taken by the sink")),
            Err(_) => Answer::Disconnect(Reply::SHUTTING_DOWN),
        }
    }

    async fn upgrade(&mut self) -> io::Result<()> {
        self.write().await?;
        let plain = std::mem::replace(&mut self.stream, Box::new(tokio::io::empty()));
        let stream = timeout(IDLE, self.house.tls.accept(plain)).await??;
        self.tls = match stream.get_ref().1.protocol_version() {
            Some(ProtocolVersion::TLSv1_3) => Some("1.3"),
            _ => Some("1.2"),
        };
        self.stream = Box::new(stream);
        self.conversation.upgraded(Vec::new());
        Ok(())
    }

    async fn write(&mut self) -> io::Result<()> {
        let output = self.conversation.take_output();
        timeout(IDLE, async {
            self.stream.write_all(&output).await?;
            self.stream.flush().await
        })
        .await?
    }
}
