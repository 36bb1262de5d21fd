//! A mail store in Python that speaks LMTP and nothing else answers for each recipient.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use waypost_harness::upstream::Upstream;
use waypost_mail::RecipientState;
use waypost_scenarios::{Door, Home, eventually};

/// One line for each message: who has it. Who is called `full` has no room for it.
const SCRIPT: &str = r#"
import socketserver, sys
class Store(socketserver.StreamRequestHandler):
    def say(self, line):
        self.wfile.write(line.encode() + b"\r\n")
    def handle(self):
        self.say("220 store.example LMTP")
        taken = []
        for line in iter(self.rfile.readline, b""):
            line = line.strip().decode()
            verb = line[:4].upper()
            if verb == "LHLO":
                self.say("250-store.example\r\n250-PIPELINING\r\n250 8BITMIME")
            elif verb == "RCPT" and "nobody@" in line:
                self.say("550 5.1.1 nobody of that name")
            elif verb == "RCPT":
                taken.append(line[9:-1])
                self.say("250 2.1.5 ok")
            elif verb == "DATA" and not taken:
                self.say("503 5.5.1 nobody to give it to")
            elif verb == "DATA":
                self.say("354 go on")
                while self.rfile.readline() != b".\r\n":
                    pass
                for to in taken:
                    self.say("452 4.2.2 full" if to.startswith("full@") else "250 2.0.0 stored")
                print(*taken, flush=True)
                taken = []
            elif verb in ("MAIL", "RSET"):
                self.say("250 2.1.0 ok")
            elif verb == "QUIT":
                self.say("221 2.0.0 bye")
                return
            else:
                self.say("500 5.5.1 this is LMTP")
class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
with Server(("127.0.0.1", 0), Store) as server:
    print(server.server_address[1], flush=True)
    server.serve_forever()
"#;

struct Store {
    child: Child,
    said: BufReader<std::process::ChildStdout>,
    port: u16,
}

impl Store {
    fn open() -> Store {
        let mut command = Command::new("/usr/bin/python3");
        let mut child = command.args(["-c", SCRIPT]).stdout(Stdio::piped()).spawn().unwrap();
        let mut said = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        said.read_line(&mut line).unwrap();
        Store { child, said, port: line.trim().parse().unwrap() }
    }

    fn stored(&mut self) -> String {
        let mut line = String::new();
        self.said.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Nobody behind a mail store tells more: what it took is in the mailbox.
#[tokio::test]
async fn who_asked_is_told_that_it_is_in_the_mailbox() {
    let (store, senders) = (Store::open(), Upstream::new());
    let via = format!("via = [{{ host = \"127.0.0.1\", port = {}, lmtp = true }}]", store.port);
    let home = Home::new().trusting().route("sender.example", senders.listen().await.unwrap());
    let relay = home.route_as("*", &via).start().await;
    let mut peer = relay.peer(Door::Relay).await;
    peer.hello().await;
    peer.expect("MAIL FROM:<a@sender.example>", "250").await;
    peer.expect("RCPT TO:<bob@store.example> NOTIFY=SUCCESS", "250").await;
    peer.expect("RCPT TO:<eve@store.example>", "250").await;
    peer.expect("DATA", "354").await;
    peer.expect("Subject: hi\r\n\r\nText\r\n.", "250").await;
    eventually("the notice", || !senders.mails().is_empty()).await;
    let notice = senders.mails().remove(0).content;
    for part in [
        "Subject: Your message was delivered\r\n",
        "Final-Recipient: rfc822; bob@store.example\r\nAction: delivered\r\nStatus: 2.0.0\r\n",
    ] {
        assert!(notice.contains(part), "{part} is not in\n{notice}");
    }
    assert!(!notice.contains("eve@"), "nobody asked about her");
    relay.stop().await;
}

#[tokio::test]
async fn each_recipient_has_its_own_fate() {
    let mut store = Store::open();
    let via = format!("via = [{{ host = \"127.0.0.1\", port = {}, lmtp = true }}]", store.port);
    let home = Home::new().trusting().route_as("*", &via).set("queue", "first-retry", "\"1h\"");
    let relay = home.set("queue", "max-retry", "\"1h\"").start().await;
    let mut peer = relay.peer(Door::Relay).await;
    peer.hello().await;
    let to =
        ["bob@store.example", "full@store.example", "nobody@store.example", "eve@store.example"];
    let id = peer.deliver("a@sender.example", &to, "Subject: hi\r\n\r\n.dot\r\n").await;
    let entry = || relay.queue().show(id.parse().unwrap()).unwrap();
    eventually("one that waits", || {
        let states = entry().recipients.into_iter().map(|recipient| recipient.state);
        states.filter(RecipientState::is_done).count() == 3
    })
    .await;
    let stored = tokio::task::spawn_blocking(move || (store.stored(), store)).await.unwrap();
    assert_eq!(stored.0, "bob@store.example full@store.example eve@store.example");
    match &entry().recipients[1].state {
        RecipientState::Waiting { last: Some(why), .. } => {
            assert_eq!(why.reply().unwrap().to_string(), "452 4.2.2 full");
            assert!(why.hop().unwrap().contains("127.0.0.1"), "{why}");
        }
        other => panic!("{other:?}"),
    }
    relay.stop().await;
}
