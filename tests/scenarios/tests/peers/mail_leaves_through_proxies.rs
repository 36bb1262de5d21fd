//! A pool's addresses belong to proxies of others: microsocks by SOCKS5, haproxy by the PROXY protocol.
//! The next hop sees where they connect from.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use waypost_harness::upstream::Upstream;
use waypost_scenarios::{Door, Home, Running, eventually};

/// A program that ends with its story.
struct Proxy {
    child: Child,
    port: u16,
}

impl Proxy {
    async fn start(package: &str, command: &mut Command, port: u16) -> Proxy {
        let silent = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let missing = format!("{package} is not there. As root: apt-get install {package}");
        let child = silent.spawn().expect(&missing);
        let proxy = Proxy { child, port };
        while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        proxy
    }

    /// Leaves from 127.0.0.4, for who logs in.
    async fn socks() -> Proxy {
        let port = free_port();
        let mut command = Command::new("microsocks");
        command.args(["-i", "127.0.0.1", "-p", &port.to_string(), "-b", "127.0.0.4"]);
        Proxy::start("microsocks", command.args(["-u", "relay", "-P", "s3cret"]), port).await
    }

    /// Connects where the header says, from 127.0.0.6.
    async fn haproxy(home: &Home) -> Proxy {
        let port = free_port();
        let file = home.path("haproxy.cfg");
        let text = format!(
            "defaults\n mode tcp\n timeout connect 5s\n timeout client 60s\n timeout server 60s\n\
             listen out\n bind 127.0.0.1:{port} accept-proxy\n server next 0.0.0.0 source 127.0.0.6\n"
        );
        fs::write(&file, text).unwrap();
        let mut command = Command::new("/usr/sbin/haproxy");
        Proxy::start("haproxy", command.arg("-db").arg("-f").arg(file), port).await
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port that nobody has.
fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// An upstream that notes where connections come from.
async fn noting(upstream: &Upstream) -> (SocketAddr, Arc<Mutex<Vec<IpAddr>>>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let (address, seen) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(Vec::new())));
    let (upstream, noted) = (upstream.clone(), seen.clone());
    tokio::spawn(async move {
        while let Ok((stream, peer)) = listener.accept().await {
            noted.lock().unwrap().push(peer.ip());
            tokio::spawn(upstream.clone().serve(stream));
        }
    });
    (address, seen)
}

/// Mail for everybody goes to this address from the one that this line of TOML has.
fn leaving(home: Home, to: SocketAddr, source: &str) -> Home {
    let via = format!("[{{ host = \"{}\", port = {} }}]", to.ip(), to.port());
    home.route_as("*", &format!("via = {via}\nsource = \"out\"")).set(
        "policy.sources.out",
        "addresses",
        &format!("[{source}]"),
    )
}

/// A file with the password at the SOCKS5 proxy.
fn password(home: &Home, text: &str) -> String {
    let file = home.path("socks.password");
    fs::write(&file, text).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    format!("{file:?}")
}

async fn send(relay: &Running) {
    let mut peer = relay.peer(Door::Relay).await;
    peer.hello().await;
    peer.deliver("a@sender.example", &["b@dest.example"], "Subject: x\r\n\r\ny\r\n").await;
}

#[tokio::test]
async fn by_socks_after_a_login() {
    let (upstream, proxy, home) = (Upstream::new(), Proxy::socks().await, Home::new().trusting());
    let (to, seen) = noting(&upstream).await;
    let source = format!(
        "{{ address = \"127.0.0.4\", ehlo = \"out.relay.example\", proxy = \"socks5://127.0.0.1:{}\", \
         auth = {{ user = \"relay\", password-file = {} }} }}",
        proxy.port,
        password(&home, "s3cret")
    );
    let relay = leaving(home, to, &source).start().await;
    send(&relay).await;
    relay.empty().await;
    assert_eq!(*seen.lock().unwrap(), ["127.0.0.4".parse::<IpAddr>().unwrap()]);
    assert_eq!(upstream.mails().len(), 1);
    assert!(upstream.heard().contains("EHLO out.relay.example"));
    relay.stop().await;
}

/// It is never sent another way, and the destination is not blamed.
#[tokio::test]
async fn a_wrong_login_lets_mail_wait() {
    let (upstream, proxy, home) = (Upstream::new(), Proxy::socks().await, Home::new().trusting());
    let (to, seen) = noting(&upstream).await;
    let source = format!(
        "{{ address = \"127.0.0.4\", proxy = \"socks5://127.0.0.1:{}\", \
         auth = {{ user = \"relay\", password-file = {} }} }}",
        proxy.port,
        password(&home, "wrong")
    );
    let relay = leaving(home, to, &source).start().await;
    send(&relay).await;
    let said = || relay.queued().into_iter().find_map(|message| message.why);
    eventually("a reason", || said().is_some()).await;
    let said = said().unwrap();
    assert!(said.contains("the SOCKS5 proxy 127.0.0.1:") && said.contains("our login"), "{said}");
    assert!(!said.contains("wrong") && seen.lock().unwrap().is_empty());
    assert!(relay.queue().status().destinations.iter().all(|d| d.resting_until.is_none()));
    relay.stop().await;
}

#[tokio::test]
async fn by_haproxy_which_reads_where_to() {
    let (upstream, home) = (Upstream::new(), Home::new().trusting());
    let (to, seen) = noting(&upstream).await;
    let proxy = Proxy::haproxy(&home).await;
    let source =
        format!("{{ address = \"127.0.0.6\", proxy = \"proxy://127.0.0.1:{}\" }}", proxy.port);
    let relay = leaving(home, to, &source).start().await;
    send(&relay).await;
    relay.empty().await;
    assert_eq!(*seen.lock().unwrap(), ["127.0.0.6".parse::<IpAddr>().unwrap()]);
    assert_eq!(upstream.mails().len(), 1);
    relay.stop().await;
}
