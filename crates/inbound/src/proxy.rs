//! The PROXY protocol, versions 1 and 2: a proxy in front of us says first whom it speaks for.
//!
//! It is read from listed peers only, and from these it must come. Nobody is asked to resend
//! anything: octets are read as they are known to belong to the header, and not one more.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::timeout;
use waypost_mail::Network;

/// How version 2 begins: no line of text, of SMTP or of version 1 does.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// The shortest header of either version: `PROXY UNKNOWN` with its line end.
const SHORTEST: usize = 15;
/// The longest line of version 1, its end included.
const LONGEST_LINE: usize = 107;
/// Of version 2, what comes before addresses.
const FIXED: usize = 16;
/// The most octets of addresses and TLVs together. Proxies send some hundreds.
const MAX_REST: usize = 4096;

/// From whom a header is wanted, and what others get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyRule {
    /// The proxies. Each connection of theirs must begin with a header.
    pub networks: Vec<Network>,
    /// Whether others may come too, without a header; else they are refused.
    pub others: bool,
    /// How long the header may take.
    pub timeout: Duration,
}

impl ProxyRule {
    /// True when `peer` is a proxy.
    pub fn lists(&self, peer: IpAddr) -> bool {
        self.networks.iter().any(|network| network.contains(peer))
    }
}

/// For whom a connection is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Header {
    /// For the proxy itself, such as a check of our health.
    Local,
    /// For somebody whom the proxy does not know.
    Unknown,
    /// For this client, which connected there.
    Client {
        /// The client's address and port.
        from: SocketAddr,
        /// Where it connected.
        to: SocketAddr,
    },
}

/// Why a header is refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProxyError {
    #[error("there is no PROXY header: is this listener's address in use by others than proxies?")]
    Absent,
    #[error("the PROXY header is malformed: {0}")]
    Malformed(&'static str),
    #[error("the PROXY header has {0} octets of addresses and TLVs, more than {MAX_REST}")]
    TooLong(usize),
    #[error("the PROXY header did not come in time")]
    Late,
    #[error("the proxy hung up within its header: {0}")]
    Lost(io::Error),
}

/// What is known after some octets.
#[derive(Debug, PartialEq, Eq)]
enum Progress {
    /// So many octets more belong to the header for sure.
    Needs(usize),
    /// It is whole.
    Whole(Header),
}

/// Reads a header, and no octet of what follows it.
pub(crate) async fn read(
    stream: &mut (impl AsyncRead + Unpin),
    patience: Duration,
) -> Result<Header, ProxyError> {
    let whole = async {
        let mut octets = Vec::with_capacity(LONGEST_LINE);
        loop {
            match parse(&octets)? {
                Progress::Whole(header) => return Ok(header),
                Progress::Needs(more) => {
                    let known = octets.len();
                    octets.resize(known + more, 0);
                    stream.read_exact(&mut octets[known..]).await.map_err(ProxyError::Lost)?;
                }
            }
        }
    };
    timeout(patience, whole).await.unwrap_or(Err(ProxyError::Late))
}

/// Looks at all octets that came so far.
fn parse(octets: &[u8]) -> Result<Progress, ProxyError> {
    let start = octets.len().min(SIGNATURE.len());
    if octets[..start] == SIGNATURE[..start] && start == SIGNATURE.len() {
        return binary(octets);
    }
    let line = b"PROXY ";
    let start = octets.len().min(line.len());
    let text = octets[..start] == line[..start];
    if octets.len() < SHORTEST && (octets.is_empty() || text) {
        return Ok(Progress::Needs(SHORTEST - octets.len()));
    }
    if text { text_line(octets) } else { Err(ProxyError::Absent) }
}

/// Version 1: one line.
fn text_line(octets: &[u8]) -> Result<Progress, ProxyError> {
    let Some(line) = octets.strip_suffix(b"\r\n") else {
        if octets.contains(&b'\n') {
            return Err(ProxyError::Malformed("a line feed without its carriage return"));
        }
        if octets.len() >= LONGEST_LINE {
            return Err(ProxyError::Malformed("the line is too long"));
        }
        let half = octets.ends_with(b"\r") || octets.len() + 2 > LONGEST_LINE;
        return Ok(Progress::Needs(if half { 1 } else { 2 }));
    };
    if line.iter().any(|octet| !matches!(octet, b' '..=b'~')) {
        return Err(ProxyError::Malformed("the line has octets that no text has"));
    }
    let line = std::str::from_utf8(line).map_err(|_| ProxyError::Malformed("no text"))?;
    let words: Vec<&str> = line.split(' ').collect();
    let header = match words[..] {
        // Whatever else is on the line does not count.
        ["PROXY", "UNKNOWN", ..] => Header::Unknown,
        ["PROXY", family @ ("TCP4" | "TCP6"), from, to, from_port, to_port] => {
            let address = |ip: &str, port: &str| {
                let ip: IpAddr = ip.parse().ok()?;
                let same = ip.is_ipv4() == (family == "TCP4");
                Some(SocketAddr::new(ip, number(port)?)).filter(|_| same)
            };
            match (address(from, from_port), address(to, to_port)) {
                (Some(from), Some(to)) => client(from, to)?,
                _ => return Err(ProxyError::Malformed("these are no addresses and ports")),
            }
        }
        _ => return Err(ProxyError::Malformed("the line has the wrong words")),
    };
    Ok(Progress::Whole(header))
}

/// A port as version 1 has it: no sign, no leading zeros.
fn number(text: &str) -> Option<u16> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    let plain = text == "0" || !text.starts_with('0');
    if digits && plain { text.parse().ok() } else { None }
}

/// Version 2: a fixed part, addresses, TLVs. The TLVs are not looked at: that a proxy says its own
/// channel was encrypted makes ours no safer.
fn binary(octets: &[u8]) -> Result<Progress, ProxyError> {
    let Some((fixed, rest)) = octets.split_at_checked(FIXED) else {
        return Ok(Progress::Needs(FIXED - octets.len()));
    };
    let (version, kind) = (fixed[12], fixed[13]);
    if version >> 4 != 2 {
        return Err(ProxyError::Malformed("it is of no version that there is"));
    }
    let length = usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    if length > MAX_REST {
        return Err(ProxyError::TooLong(length));
    }
    if rest.len() < length {
        return Ok(Progress::Needs(length - rest.len()));
    }
    let header = match (version & 0xf, kind) {
        (0, _) => Header::Local,
        (1, 0x11) => {
            let [a, b, c, d, e, f, g, h, p, q, r, s] = first(rest)?;
            let ip = |octets: [u8; 4]| IpAddr::V4(Ipv4Addr::from(octets));
            client(
                SocketAddr::new(ip([a, b, c, d]), u16::from_be_bytes([p, q])),
                SocketAddr::new(ip([e, f, g, h]), u16::from_be_bytes([r, s])),
            )?
        }
        (1, 0x21) => {
            let from: [u8; 16] = first(rest)?;
            let to: [u8; 16] = first(&rest[16..])?;
            let [p, q, r, s] = first(rest.get(32..).unwrap_or_default())?;
            let ip = |octets: [u8; 16]| IpAddr::V6(Ipv6Addr::from(octets));
            client(
                SocketAddr::new(ip(from), u16::from_be_bytes([p, q])),
                SocketAddr::new(ip(to), u16::from_be_bytes([r, s])),
            )?
        }
        // No family, or Unix sockets: who that is nobody can say in addresses.
        (1, 0x00 | 0x31) => Header::Unknown,
        (1, _) => return Err(ProxyError::Malformed("it is not about TCP")),
        _ => return Err(ProxyError::Malformed("it is no command that there is")),
    };
    Ok(Progress::Whole(header))
}

fn first<const N: usize>(octets: &[u8]) -> Result<[u8; N], ProxyError> {
    let short = ProxyError::Malformed("it is too short for its addresses");
    octets.first_chunk().copied().ok_or(short)
}

/// IPv4 within IPv6 is IPv4. Nobody connects from port 0 or from no address.
fn client(from: SocketAddr, to: SocketAddr) -> Result<Header, ProxyError> {
    let plain = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
    let (from, to) = (plain(from), plain(to));
    if from.ip().is_unspecified() || from.ip().is_multicast() {
        return Err(ProxyError::Malformed("nobody connects from that address"));
    }
    Ok(Header::Client { from, to })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds the octets as the parser asks for them; tells the header and what is left.
    fn fed(mut input: &[u8]) -> Result<(Header, &[u8]), String> {
        let mut octets = Vec::new();
        loop {
            match parse(&octets).map_err(|error| error.to_string())? {
                Progress::Whole(header) => return Ok((header, input)),
                Progress::Needs(0) => panic!("it needs nothing and is not whole"),
                Progress::Needs(more) if more > input.len() => return Err("short".into()),
                Progress::Needs(more) => {
                    octets.extend_from_slice(&input[..more]);
                    input = &input[more..];
                }
            }
        }
    }

    fn client(from: &str, to: &str) -> Header {
        Header::Client { from: from.parse().unwrap(), to: to.parse().unwrap() }
    }

    fn v2(command: u8, kind: u8, rest: &[u8]) -> Vec<u8> {
        let mut octets = SIGNATURE.to_vec();
        octets.extend([command, kind]);
        octets.extend((rest.len() as u16).to_be_bytes());
        octets.extend(rest);
        octets
    }

    const V4: [u8; 12] = [192, 0, 2, 1, 198, 51, 100, 2, 0x12, 0x34, 0, 25];

    #[test]
    fn version_1_is_one_line_and_what_follows_is_not_touched() {
        for (line, header) in [
            (
                "PROXY TCP4 192.0.2.1 198.51.100.2 4660 25\r\n",
                client("192.0.2.1:4660", "198.51.100.2:25"),
            ),
            (
                "PROXY TCP6 2001:db8::1 2001:db8::2 1 465\r\n",
                client("[2001:db8::1]:1", "[2001:db8::2]:465"),
            ),
            ("PROXY TCP6 ::ffff:192.0.2.1 ::1 1 2\r\n", client("192.0.2.1:1", "[::1]:2")),
            ("PROXY UNKNOWN\r\n", Header::Unknown),
            ("PROXY UNKNOWN ffff::1 what ever\r\n", Header::Unknown),
        ] {
            let text = format!("{line}EHLO a\r\n");
            assert_eq!(fed(text.as_bytes()), Ok((header, &b"EHLO a\r\n"[..])), "{line}");
        }
    }

    #[test]
    fn version_1_is_read_strictly() {
        let long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(107));
        for line in [
            "PROXY TCP4 192.0.2.1 198.51.100.2 4660 25\n\n\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 4660\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 4660 25 \r\n",
            "PROXY TCP4  192.0.2.1 198.51.100.2 4660 25\r\n",
            "PROXY TCP4 192.0.2.01 198.51.100.2 4660 25\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 04660 25\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 +4660 25\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 65536 25\r\n",
            "PROXY TCP4 2001:db8::1 2001:db8::2 1 2\r\n",
            "PROXY TCP6 192.0.2.1 198.51.100.2 1 2\r\n",
            "PROXY TCP4 0.0.0.0 198.51.100.2 1 2\r\n",
            "PROXY UDP4 192.0.2.1 198.51.100.2 1 2\r\n",
            "proxy TCP4 192.0.2.1 198.51.100.2 1 2\r\n",
            "PROXY UNKNOWN \u{7}\r\n",
            "EHLO client.example\r\n",
            "\r\n\r\n\0\r\nQUIT\r\n\r\n\r\n",
            &long,
        ] {
            let read = fed(line.as_bytes());
            assert!(read.as_ref().is_err_and(|why| why != "short"), "{line:?}: {read:?}");
        }
    }

    #[test]
    fn version_2_skips_what_proxies_add() {
        let tlvs = [&V4[..], &[0x20, 0, 5, 1, 0, 0, 0, 0]].concat();
        let ip = |last: u8| [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last];
        let v6 = [&ip(1)[..], &ip(2), &[0, 1, 1, 0xd1]].concat();
        for (octets, header) in [
            (v2(0x21, 0x11, &V4), client("192.0.2.1:4660", "198.51.100.2:25")),
            (v2(0x21, 0x11, &tlvs), client("192.0.2.1:4660", "198.51.100.2:25")),
            (v2(0x21, 0x21, &v6), client("[2001:db8::1]:1", "[2001:db8::2]:465")),
            (v2(0x20, 0x00, &[]), Header::Local),
            (v2(0x20, 0x11, &V4), Header::Local),
            (v2(0x21, 0x00, &[9; 30]), Header::Unknown),
            (v2(0x21, 0x31, &[0; 216]), Header::Unknown),
        ] {
            let text = [&octets[..], b"EHLO a\r\n"].concat();
            assert_eq!(fed(&text), Ok((header, &b"EHLO a\r\n"[..])));
        }
    }

    #[test]
    fn version_2_is_read_strictly() {
        for octets in [
            v2(0x31, 0x11, &V4),
            v2(0x22, 0x11, &V4),
            v2(0x21, 0x12, &V4),
            v2(0x21, 0x11, &V4[..11]),
            v2(0x21, 0x21, &V4),
            v2(0x21, 0x21, &[1; 35]),
            v2(0x21, 0x21, &[1; 10]),
            v2(0x21, 0x11, &[0; 12]),
            v2(0x21, 0x11, &[1; MAX_REST + 1]),
        ] {
            let read = fed(&octets);
            assert!(read.as_ref().is_err_and(|why| why != "short"), "{read:?}");
        }
        let start = v2(0x21, 0x11, &V4);
        for end in 0..start.len() {
            assert_eq!(fed(&start[..end]), Err("short".into()), "{end}");
        }
    }

    /// However many octets it is asked about, it answers and never asks for more than there may be.
    #[test]
    fn octets_of_any_kind_do_no_harm() {
        use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
        let mut random = StdRng::seed_from_u64(7);
        for _ in 0..20_000 {
            let mut octets = match random.random_range(0..3) {
                0 => v2(0x21, 0x21, &[1; 36]),
                1 => b"PROXY TCP4 192.0.2.1 198.51.100.2 4660 25\r\n".to_vec(),
                _ => vec![0; random.random_range(0..200)],
            };
            for _ in 0..random.random_range(0..4) {
                if !octets.is_empty() {
                    let at = random.random_range(0..octets.len());
                    octets[at] = random.random();
                }
            }
            octets.truncate(random.random_range(0..=octets.len()));
            if let Ok(Progress::Needs(more)) = parse(&octets) {
                assert!((1..=MAX_REST).contains(&more));
            }
        }
    }
}
