//! Networks as operators list them.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

/// Addresses that begin with the same bits: `192.0.2.0/24`, `2001:db8::/32`, or a single address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

/// What is not a network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// It cannot be read.
    #[error("'{0}' is no network: write \"192.0.2.0/24\", \"2001:db8::/32\" or one address")]
    Syntax(String),
    /// There are bits behind the prefix, so it is unclear which network is meant.
    #[error("'{0}' has bits set behind its prefix; the network is {1}")]
    HostBits(String, Network),
}

impl Network {
    /// The addresses that begin with the same `prefix` bits as this one, an IPv4-mapped one as IPv4.
    pub fn around(address: IpAddr, prefix: u8) -> Network {
        let address = address.to_canonical();
        let prefix = prefix.min(if address.is_ipv4() { 32 } else { 128 });
        Network { address: masked(address, prefix), prefix }
    }

    /// The lowest address.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// How many bits are the same. 0 means every address of the family.
    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// True for so many public addresses that relaying for them is relaying for anybody: wider than
    /// a /8 of IPv4, or than a /16 of IPv6 that is not for private use (RFC 4193, RFC 4291 §2.5.6).
    pub fn is_the_internet(&self) -> bool {
        match self.address {
            IpAddr::V4(_) => self.prefix < 8,
            IpAddr::V6(ip) if self.prefix >= 7 && ip.is_unique_local() => false,
            IpAddr::V6(ip) if self.prefix >= 10 && ip.is_unicast_link_local() => false,
            IpAddr::V6(_) => self.prefix < 16,
        }
    }

    /// True when `address` is one of them. An IPv4-mapped IPv6 address is the IPv4 address.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.address.is_ipv4() && masked(address, self.prefix) == self.address
    }
}

impl FromStr for Network {
    type Err = NetworkError;
    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let syntax = || NetworkError::Syntax(text.to_owned());
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| syntax())?;
        if address.to_canonical() != address {
            return Err(syntax());
        }
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.map_or(Ok(bits), str::parse).map_err(|_| syntax())?;
        if prefix > bits {
            return Err(syntax());
        }
        let network = Network { address: masked(address, prefix), prefix };
        if network.address != address {
            return Err(NetworkError::HostBits(text.to_owned(), network));
        }
        Ok(network)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// `address` with only its first `prefix` bits.
pub fn masked(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(ip) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0);
            IpAddr::V4((u32::from(ip) & mask).into())
        }
        IpAddr::V6(ip) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix.min(128))).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from(u128::from(ip) & mask))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(network: &str, address: &str) -> bool {
        network.parse::<Network>().unwrap().contains(address.parse().unwrap())
    }

    #[test]
    fn networks_hold_their_addresses() {
        assert!(holds("192.0.2.0/24", "192.0.2.255") && !holds("192.0.2.0/24", "192.0.3.0"));
        assert!(holds("192.0.2.0/24", "::ffff:192.0.2.1"));
        assert!(holds("192.0.2.7", "192.0.2.7") && !holds("192.0.2.7", "192.0.2.6"));
        assert!(holds("0.0.0.0/0", "203.0.113.9") && !holds("0.0.0.0/0", "::1"));
        assert!(
            holds("2001:db8::/33", "2001:db8::5") && !holds("2001:db8::/33", "2001:db8:8000::")
        );
        assert!(holds("::/0", "2001:db8::") && !holds("::/0", "192.0.2.1"));
    }

    #[test]
    fn sloppy_networks_are_refused() {
        for bad in ["", "/", "192.0.2.0/33", "192.0.2/24", "::/129", "::ffff:1.2.3.4", "a/8"] {
            assert!(matches!(bad.parse::<Network>(), Err(NetworkError::Syntax(_))), "{bad}");
        }
        let error = "192.0.2.7/24".parse::<Network>().unwrap_err().to_string();
        assert!(error.ends_with("the network is 192.0.2.0/24"), "{error}");
    }

    #[test]
    fn the_internet_in_pieces_is_the_internet() {
        let wide = |network: &str| network.parse::<Network>().unwrap().is_the_internet();
        for network in ["0.0.0.0/0", "0.0.0.0/1", "128.0.0.0/1", "::/0", "2000::/3", "f000::/4"] {
            assert!(wide(network), "{network}");
        }
        for network in ["10.0.0.0/8", "2001:db8::/32", "fc00::/7", "fe80::/10", "::1"] {
            assert!(!wide(network), "{network}");
        }
    }
}
