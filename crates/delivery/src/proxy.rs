//! Leaving through a proxy that has the addresses we lack: SOCKS5, or the PROXY protocol towards one
//! that connects where the header says.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long a proxy may take until it takes orders. What follows is about the next hop.
const PATIENCE: Duration = Duration::from_secs(10);

/// A proxy on the way out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proxy {
    /// Where it listens.
    pub at: SocketAddr,
    /// What it wants to be told.
    pub protocol: ProxyProtocol,
}

/// What a proxy wants to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProxyProtocol {
    /// SOCKS5 with the command CONNECT (RFC 1928), and a login where it asks for one (RFC 1929).
    Socks5(Option<SocksLogin>),
    /// A PROXY protocol header of version 2, from our source address to the next hop.
    Header,
}

/// Name and password at a SOCKS5 proxy. The password is not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct SocksLogin {
    user: String,
    password: String,
}

impl SocksLogin {
    /// Nothing when one of them is empty or has more than 255 octets (RFC 1929 §2).
    pub fn new(user: String, password: String) -> Option<SocksLogin> {
        let fits = |text: &str| (1..=255).contains(&text.len());
        (fits(&user) && fits(&password)).then_some(SocksLogin { user, password })
    }
}

impl fmt::Debug for SocksLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SocksLogin").field("user", &self.user).finish_non_exhaustive()
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.protocol {
            ProxyProtocol::Socks5(_) => write!(f, "the SOCKS5 proxy {}", self.at),
            ProxyProtocol::Header => write!(f, "the proxy {}", self.at),
        }
    }
}

/// Why a connection could not even begin to leave: another source may do.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct CannotLeave(pub(crate) String);

impl CannotLeave {
    pub(crate) fn error(text: String) -> io::Error {
        io::Error::other(CannotLeave(text))
    }

    /// True when this is why.
    pub(crate) fn is(error: &io::Error) -> bool {
        error.get_ref().is_some_and(|inner| inner.is::<CannotLeave>())
    }
}

impl Proxy {
    /// A connection to `target` through this proxy; `from` is what a header says.
    ///
    /// # Errors
    /// [`CannotLeave`] when the proxy is to blame; others are about the target.
    pub(crate) async fn dial(&self, target: SocketAddr, from: IpAddr) -> io::Result<TcpStream> {
        let blame = |error: io::Error| CannotLeave::error(format!("{self}: {error}"));
        let silent = |_| {
            CannotLeave::error(format!("{self} does not answer within {}s", PATIENCE.as_secs()))
        };
        let ready = timeout(PATIENCE, self.ready(target, from)).await.map_err(silent)?;
        let mut stream = ready.map_err(blame)?;
        match &self.protocol {
            ProxyProtocol::Header => {}
            ProxyProtocol::Socks5(_) => {
                stream.write_all(&request(target)).await.map_err(blame)?;
                let code = answer(&mut stream).await.map_err(blame)?;
                if let Some(trouble) = trouble(code) {
                    let text = format!("{self}: {trouble}");
                    return Err(match is_about_target(code) {
                        true => io::Error::other(text),
                        false => CannotLeave::error(text),
                    });
                }
            }
        }
        Ok(stream)
    }

    /// A proxy that is there and takes orders.
    async fn ready(&self, target: SocketAddr, from: IpAddr) -> io::Result<TcpStream> {
        let mut stream = TcpStream::connect(self.at).await?;
        match &self.protocol {
            ProxyProtocol::Header => stream.write_all(&header(from, target)).await?,
            ProxyProtocol::Socks5(login) => greet(&mut stream, login.as_ref()).await?,
        }
        Ok(stream)
    }
}

/// Agrees with the proxy on how to log in, and does it (RFC 1928 §3, RFC 1929 §2).
async fn greet(stream: &mut TcpStream, login: Option<&SocksLogin>) -> io::Result<()> {
    let offer: &[u8] = if login.is_some() { &[5, 2, 0, 2] } else { &[5, 1, 0] };
    stream.write_all(offer).await?;
    let mut chosen = [0; 2];
    stream.read_exact(&mut chosen).await?;
    match (chosen, login) {
        ([5, 0], _) => Ok(()),
        ([5, 2], Some(SocksLogin { user, password })) => {
            let mut words = vec![1, user.len() as u8];
            words.extend_from_slice(user.as_bytes());
            words.push(password.len() as u8);
            words.extend_from_slice(password.as_bytes());
            stream.write_all(&words).await?;
            let mut verdict = [0; 2];
            stream.read_exact(&mut verdict).await?;
            match verdict[1] {
                0 => Ok(()),
                _ => Err(io::Error::other("it does not accept our login")),
            }
        }
        ([5, _], None) => Err(io::Error::other("it wants a login, and there is none for it")),
        ([5, _], Some(_)) => Err(io::Error::other("it accepts none of our ways to log in")),
        _ => Err(io::Error::other("it does not speak SOCKS5")),
    }
}

/// CONNECT to an address (RFC 1928 §4).
fn request(target: SocketAddr) -> Vec<u8> {
    let mut request = vec![5, 1, 0];
    match target.ip() {
        IpAddr::V4(ip) => {
            request.push(1);
            request.extend_from_slice(&ip.octets());
        }
        IpAddr::V6(ip) => {
            request.push(4);
            request.extend_from_slice(&ip.octets());
        }
    }
    request.extend_from_slice(&target.port().to_be_bytes());
    request
}

/// The code of the reply, which is read to its end (RFC 1928 §6).
async fn answer(stream: &mut TcpStream) -> io::Result<u8> {
    let mut head = [0; 4];
    stream.read_exact(&mut head).await?;
    if head[0] != 5 {
        return Err(io::Error::other("it does not speak SOCKS5"));
    }
    let address = match head[3] {
        1 => 4,
        4 => 16,
        3 => usize::from(stream.read_u8().await?),
        _ => return Err(io::Error::other("its reply is no SOCKS5")),
    };
    let mut bound = vec![0; address + 2];
    stream.read_exact(&mut bound).await?;
    Ok(head[1])
}

/// What a code says; nothing when it is well.
fn trouble(code: u8) -> Option<&'static str> {
    Some(match code {
        0 => return None,
        1 => "it failed",
        2 => "its rules forbid the connection",
        3 => "the network cannot be reached from there",
        4 => "the host cannot be reached from there",
        5 => "the connection was refused there",
        6 => "the connection took too long",
        7 => "it does not know CONNECT",
        8 => "it does not know addresses of this family",
        _ => "it failed for a reason that RFC 1928 does not name",
    })
}

/// True for codes that say that the proxy tried.
fn is_about_target(code: u8) -> bool {
    (3..=6).contains(&code)
}

/// Version 2 of the PROXY protocol: TCP, from us to the target. The source port is the proxy's choice.
fn header(from: IpAddr, target: SocketAddr) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21".to_vec();
    match (from, target.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            header.extend_from_slice(&[0x11, 0, 12]);
            header.extend_from_slice(&from.octets());
            header.extend_from_slice(&to.octets());
        }
        (from, to) => {
            let wide = |ip: IpAddr| match ip {
                IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
                IpAddr::V6(ip) => ip.octets(),
            };
            header.extend_from_slice(&[0x21, 0, 36]);
            header.extend_from_slice(&wide(from));
            header.extend_from_slice(&wide(to));
        }
    }
    header.extend_from_slice(&[0, 0]);
    header.extend_from_slice(&target.port().to_be_bytes());
    header
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn headers_and_requests_are_as_the_specifications_have_them() {
        let four = header("192.0.2.1".parse().unwrap(), "198.51.100.2:25".parse().unwrap());
        let start: &[u8] = b"\x0d\x0a\x0d\x0a\x00\x0d\x0a\x51\x55\x49\x54\x0a\x21\x11\x00\x0c";
        assert_eq!(four, [start, &[192, 0, 2, 1, 198, 51, 100, 2, 0, 0, 0, 25]].concat());
        let six = header("2001:db8::1".parse().unwrap(), "[2001:db8::2]:25".parse().unwrap());
        assert_eq!((&six[13..16], six.len()), (&[0x21, 0, 36][..], 52));
        assert_eq!(request("192.0.2.1:25".parse().unwrap()), [5, 1, 0, 1, 192, 0, 2, 1, 0, 25]);
        assert_eq!(request("[2001:db8::2]:25".parse().unwrap()).len(), 22);
    }

    /// Dials through a proxy that says these octets whatever it is told.
    async fn through(said: &'static [u8], login: bool) -> io::Result<TcpStream> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(said).await.unwrap();
            let _ = stream.read_to_end(&mut Vec::new()).await;
        });
        let login = login.then(|| SocksLogin::new("u".into(), "secret".into()).unwrap());
        let proxy = Proxy { at, protocol: ProxyProtocol::Socks5(login) };
        proxy.dial("192.0.2.1:25".parse().unwrap(), "192.0.2.9".parse().unwrap()).await
    }

    #[tokio::test]
    async fn a_proxy_that_is_silent_is_to_blame() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let proxy = Proxy { at, protocol: ProxyProtocol::Socks5(None) };
        let (target, from) = ("192.0.2.1:25".parse().unwrap(), "192.0.2.9".parse().unwrap());
        let dial = tokio::spawn(async move { proxy.dial(target, from).await });
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.read_exact(&mut [0; 3]).await.unwrap();
        // It is there and waits: nothing moves but the clock.
        tokio::time::pause();
        let error = dial.await.unwrap().unwrap_err();
        assert!(CannotLeave::is(&error) && error.to_string().contains("within 10s"), "{error}");
    }

    #[tokio::test]
    async fn what_a_proxy_says_is_told_apart_from_what_it_met() {
        let done = b"\x05\x00\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00";
        assert!(through(done, false).await.is_ok());
        let named = b"\x05\x00\x05\x00\x00\x03\x01x\x00\x00";
        assert!(through(named, false).await.is_ok());
        for (said, login, words, blamed) in [
            (&b"\x05\xff"[..], true, "none of our ways to log in", true),
            (b"\x05\xff", false, "wants a login", true),
            (b"\x05\x02\x01\x01", true, "does not accept our login", true),
            (b"\x05\x00\x05\x05\x00\x01\x00\x00\x00\x00\x00\x00", false, "refused there", false),
            (b"\x05\x00\x05\x02\x00\x01\x00\x00\x00\x00\x00\x00", false, "forbid", true),
            (b"HTTP/1.1 400", false, "does not speak SOCKS5", true),
        ] {
            let error = through(said, login).await.unwrap_err();
            assert!(error.to_string().contains(words), "{error}");
            assert_eq!(CannotLeave::is(&error), blamed, "{error}");
        }
        let login = SocksLogin::new("u".into(), "secret".into()).unwrap();
        assert!(!format!("{login:?}").contains("secret"));
        assert_eq!(SocksLogin::new("u".into(), "x".repeat(256)), None);
    }
}
