//! Where this relay itself answers, by address and by name: mail must not be sent there.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};

/// Where our own listeners can be reached.
#[derive(Debug, Clone, Default)]
pub struct OwnAddresses {
    exact: HashSet<SocketAddr>,
    /// Ports of listeners bound to a wildcard address.
    everywhere: HashSet<u16>,
    interfaces: HashSet<IpAddr>,
    /// Ports of all listeners.
    ports: HashSet<u16>,
    /// What this relay is called, in lower case.
    names: HashSet<String>,
}

impl OwnAddresses {
    /// From the addresses the listeners are bound to, and the addresses of this machine's
    /// interfaces, which count where a listener is bound to `0.0.0.0` or `[::]`. Loopback
    /// addresses need not be among them.
    pub fn new(
        listeners: impl IntoIterator<Item = SocketAddr>,
        interfaces: impl IntoIterator<Item = IpAddr>,
    ) -> OwnAddresses {
        let mut own = OwnAddresses {
            interfaces: interfaces.into_iter().map(|ip| ip.to_canonical()).collect(),
            ..OwnAddresses::default()
        };
        for listener in listeners {
            own.ports.insert(listener.port());
            if listener.ip().is_unspecified() {
                own.everywhere.insert(listener.port());
            } else {
                own.exact.insert(canonical(listener));
            }
        }
        own
    }

    /// The same relay, which is also called so.
    #[must_use]
    pub fn named(mut self, name: &str) -> OwnAddresses {
        self.names.insert(name.trim_end_matches('.').to_ascii_lowercase());
        self
    }

    /// True when the mail exchanger of this name is this relay, whatever its address is: behind address
    /// translation nobody sees the addresses that others see (RFC 5321 §5.1). Where no listener has the
    /// port of mail exchangers, somebody else of the same name answers there.
    pub fn is_called(&self, exchanger: &str, mx_port: u16) -> bool {
        self.ports.contains(&mx_port)
            && self.names.contains(&exchanger.trim_end_matches('.').to_ascii_lowercase())
    }

    /// True when a connection to `address` would end at one of our own listeners.
    pub fn contains(&self, address: SocketAddr) -> bool {
        let address = canonical(address);
        let here = || address.ip().is_loopback() || self.interfaces.contains(&address.ip());
        self.exact.contains(&address) || self.everywhere.contains(&address.port()) && here()
    }
}

/// An IPv4 address is the same in its IPv6 clothes; scope and flow do not matter.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_and_port_decide() {
        let own = OwnAddresses::new(
            ["192.0.2.1:25", "0.0.0.0:2525"].map(|a| a.parse().unwrap()),
            ["192.0.2.1", "2001:db8::1"].map(|a| a.parse().unwrap()),
        );
        let contains = |text: &str| own.contains(text.parse().unwrap());
        assert!(contains("192.0.2.1:25"));
        assert!(contains("[::ffff:192.0.2.1]:25"));
        assert!(!contains("192.0.2.1:26"));
        assert!(!contains("127.0.0.1:25"));
        assert!(contains("127.0.0.9:2525"));
        assert!(contains("[2001:db8::1]:2525"));
        assert!(!contains("192.0.2.2:2525"));
    }

    #[test]
    fn a_name_counts_where_we_listen_as_an_exchanger_does() {
        let own = OwnAddresses::new(["10.0.0.1:25".parse().unwrap()], []).named("MX.example.");
        assert!(own.is_called("mx.example", 25) && own.is_called("Mx.Example.", 25));
        assert!(!own.is_called("mx2.example", 25));
        assert!(!own.is_called("mx.example", 2525), "that is somebody else");
    }
}
