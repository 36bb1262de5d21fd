//! `waypost demo`: a relay between a client and a sink, all on this machine, and each message's way
//! through them, told stage by stage.

mod journey;
mod stage;
mod words;

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep, timeout};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry};
use waypost_admin::api::{ListRequest, Page};
use waypost_inbound::ListenerKind;
use waypost_mail::{Clock, SystemClock};
use waypost_smtp::{Mailbox, ReversePath};

use crate::args::{DemoArgs, SendTls};
use crate::demo::journey::{Journey, Records};
use crate::demo::stage::Stage;
use crate::send::{compose, letter, said};
use crate::sink::Arrival;
use crate::submit::{Client, Report, Target, submit};
use crate::telemetry::{Journal, Record};

/// How long one message may take until all of it is settled.
const PATIENCE: Duration = Duration::from_secs(30);

/// Sends messages through a relay to a sink, and tells how they fare; then waits for others'.
///
/// # Errors
/// When a message does not fare as it should.
pub async fn demo(args: &DemoArgs) -> Result<()> {
    let records = listen_to_the_log();
    let stage = Stage::build().await?;
    print!("{}", words::opening(&stage));
    let mut show = Show { stage, records, is_over: false };
    let played = tokio::select! {
        played = show.play(args.messages, args.once) => played,
        interrupted = interrupted() => interrupted.and_then(|()| show.leave()),
    };
    let leftover = show.stage.close().await;
    played.and(leftover)
}

/// Waits until somebody ends the demonstration.
async fn interrupted() -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => println!(),
    }
    Ok(())
}

/// The relay tells what it does in its log. In a process that has a log already the demonstration
/// works too, and tells less.
fn listen_to_the_log() -> Records {
    let (hand, records) = tokio::sync::mpsc::unbounded_channel();
    let journal = Journal::new(move |record: &Record| {
        // Nobody listens any more once the demonstration ends.
        let _ = hand.send((Instant::now(), record.clone()));
    });
    let log = Registry::default().with(EnvFilter::new("warn,waypost=debug")).with(journal);
    let _ = log.try_init();
    Records::new(records)
}

/// A message, and what should become of it.
struct Scene {
    title: &'static str,
    door: ListenerKind,
    recipients: &'static [&'static str],
    /// How many of them the sink takes.
    taken: usize,
    /// The sender gets a notice.
    notice: bool,
}

const SCENES: [Scene; 3] = [
    Scene {
        title: "a user submits by STARTTLS and a login, to an alias of two",
        door: ListenerKind::Submission,
        recipients: &["team@customer.example"],
        taken: 2,
        notice: false,
    },
    Scene {
        title: "a user submits by TLS from the first byte; one recipient's server is busy at first",
        door: ListenerKind::Submissions,
        recipients: &["ben@customer.example", "busy@partner.example"],
        taken: 2,
        notice: false,
    },
    Scene {
        title: "a program on this machine relays without a login; one recipient does not exist",
        door: ListenerKind::Relay,
        recipients: &["clara@customer.example", "nobody@partner.example"],
        taken: 1,
        notice: true,
    },
];

struct Show {
    stage: Stage,
    records: Records,
    /// All messages of ours went the way they should.
    is_over: bool,
}

impl Show {
    fn leave(&self) -> Result<()> {
        ensure!(self.is_over, "interrupted before the last message was through");
        Ok(())
    }

    async fn play(&mut self, messages: usize, once: bool) -> Result<()> {
        for (number, scene) in (1..=messages).zip(SCENES.iter().cycle()) {
            println!("Message {number} of {messages}: {}", scene.title);
            let message = self.message(scene, number).await?;
            let outcome = self.deliver(scene, &message).await;
            println!();
            outcome?;
        }
        println!("{}", words::closing(messages));
        self.is_over = true;
        if once {
            return Ok(());
        }
        print!("{}", words::invitation(&self.stage));
        self.watch().await
    }

    async fn message(&self, scene: &Scene, number: usize) -> Result<Vec<u8>> {
        let sender = ReversePath::Mailbox(Mailbox::parse(stage::SENDER)?);
        let subject = format!("Message {number} of the demonstration");
        let text = "A message on its way through Waypost.\r\n";
        compose(&sender, &mailboxes(scene)?, &subject, text, SystemClock.now())
    }

    /// One message from the client to the sink. What is known is printed even when it went wrong.
    async fn deliver(&mut self, scene: &Scene, message: &[u8]) -> Result<()> {
        let mut journey = Journey::begin();
        let sender = ReversePath::Mailbox(Mailbox::parse(stage::SENDER)?);
        let letter = letter(sender, mailboxes(scene)?, message);
        let client = self.client(scene.door)?;
        let report = submit(&client, letter, message).await?;
        journey.submitted(&client, &report);
        let settled = timeout(PATIENCE, self.settle(scene, &mut journey)).await;
        // What the relay has to tell comes a moment after the queue is empty.
        sleep(Duration::from_millis(50)).await;
        journey.relayed(self.records.take());
        print!("{journey}");
        check(&report)?;
        match settled {
            Ok(settled) => settled,
            Err(_) => bail!("the message is not where it should be after {PATIENCE:?}"),
        }
    }

    /// Waits until the sink has what it should have, and the queue is empty.
    async fn settle(&mut self, scene: &Scene, journey: &mut Journey) -> Result<()> {
        let (mut taken, mut notice, mut asked) = (0, false, false);
        while taken < scene.taken || notice != scene.notice {
            let arrival = tokio::select! {
                arrival = self.stage.sink.arrivals.recv() => arrival,
                // By then all that needs no second attempt has arrived.
                () = sleep(Duration::from_millis(300)), if !asked => {
                    asked = true;
                    let all = ListRequest::default();
                    let list: Page = self.stage.ask().post("/v1/queue/list", &all).await?;
                    journey.asked(&list);
                    continue;
                }
            };
            let Some(arrival) = arrival else { bail!("the sink is gone") };
            match arrival.sender {
                ReversePath::Null => notice = true,
                ReversePath::Mailbox(_) => taken += arrival.recipients.len(),
            }
            ensure!(arrival.tls.is_some(), "a message reached the sink in clear text");
            journey.arrived(&arrival);
        }
        while !self.stage.is_queue_empty() {
            sleep(Duration::from_millis(5)).await;
        }
        ensure!(taken == scene.taken && notice == scene.notice, "more arrived than was sent");
        Ok(())
    }

    fn client(&self, door: ListenerKind) -> Result<Client> {
        let address = self.stage.door(door)?;
        Ok(Client {
            target: Target { host: address.ip().to_string(), port: address.port() },
            tls: SendTls::Verify,
            implicit_tls: door == ListenerKind::Submissions,
            authorities: self.stage.authorities.clone(),
            credentials: match door {
                ListenerKind::Relay => None,
                _ => Some(self.stage.credentials.clone()),
            },
        })
    }

    /// Prints what comes, for ever.
    async fn watch(&mut self) -> Result<()> {
        self.records.take();
        loop {
            tokio::select! {
                Some(arrival) = self.stage.sink.arrivals.recv() => print_arrival(&arrival),
                Some((_, record)) = self.records.next() => {
                    if let Some(line) = words::of_record(&record) {
                        println!("{}  {line}", time_of_day());
                    }
                }
                else => bail!("the sink is gone"),
            }
        }
    }
}

/// In UTC, as the log has it.
fn time_of_day() -> String {
    let now = SystemClock.now().to_string();
    now.get(11..23).unwrap_or(&now).to_owned()
}

fn mailboxes(scene: &Scene) -> Result<Vec<Mailbox>> {
    Ok(scene.recipients.iter().map(|text| Mailbox::parse(text)).collect::<Result<_, _>>()?)
}

fn check(report: &Report) -> Result<()> {
    if let Some(trouble) = &report.trouble {
        bail!("the relay did not take the message: {trouble}");
    }
    let refused = report
        .recipients
        .iter()
        .find(|(_, result)| result.as_ref().is_none_or(|result| !result.reply.is_positive()));
    match refused {
        Some((recipient, result)) => bail!("<{recipient}>: {}", said(result.as_ref())),
        None => Ok(()),
    }
}

fn print_arrival(arrival: &Arrival) {
    println!("{}  {}", time_of_day(), words::of_arrival(arrival));
    for field in words::trace(arrival) {
        for line in words::wrap(&field) {
            println!("    {line}");
        }
    }
}
