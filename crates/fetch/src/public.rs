//! Which addresses belong to the public internet.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// IPv4 networks that are not public or not one host's (RFC 6890 and IANA's registry of
/// special-purpose addresses): network, length of its prefix.
const NOT_PUBLIC_V4: [([u8; 4], u32); 16] = [
    ([0, 0, 0, 0], 8),        // this network
    ([10, 0, 0, 0], 8),       // private, RFC 1918
    ([100, 64, 0, 0], 10),    // carrier-grade NAT, RFC 6598
    ([127, 0, 0, 0], 8),      // loopback
    ([168, 63, 129, 16], 32), // public by number, but the host of a virtual machine answers
    ([169, 254, 0, 0], 16),   // link-local, and metadata of clouds, RFC 3927
    ([172, 16, 0, 0], 12),    // private, RFC 1918
    ([192, 0, 0, 0], 24),     // protocol assignments
    ([192, 0, 2, 0], 24),     // documentation, RFC 5737
    ([192, 88, 99, 0], 24),   // relays of 6to4, RFC 7526
    ([192, 168, 0, 0], 16),   // private, RFC 1918
    ([198, 18, 0, 0], 15),    // benchmarks, RFC 2544
    ([198, 51, 100, 0], 24),  // documentation, RFC 5737
    ([203, 0, 113, 0], 24),   // documentation, RFC 5737
    ([224, 0, 0, 0], 4),      // multicast
    ([240, 0, 0, 0], 4),      // reserved, and broadcast
];

/// IPv6 networks inside 2000::/3 that are not public; outside of it nothing is (RFC 4291 §2.4).
const NOT_PUBLIC_V6: [(Ipv6Addr, u32); 3] = [
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23), // protocol assignments, Teredo among them
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32), // documentation, RFC 3849
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20), // documentation, RFC 9637
];

/// True when the address is one host's on the public internet: not private, loopback, link-local,
/// multicast, reserved or the like. An IPv6 address that stands for an IPv4 address (mapped, NAT64
/// by the well-known prefix, 6to4) is as public as that one. A NAT64 prefix of the operator's own
/// network cannot be told from other addresses.
pub fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => match embedded(ip) {
            Some(ip) => is_public_v4(ip),
            None => is_public_v6(ip),
        },
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let within = |(network, length): &([u8; 4], u32)| {
        (ip.to_bits() ^ u32::from_be_bytes(*network)) >> (32 - length) == 0
    };
    !NOT_PUBLIC_V4.iter().any(within)
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    let within = |(network, length): &(Ipv6Addr, u32)| {
        (ip.to_bits() ^ network.to_bits()) >> (128 - length) == 0
    };
    ip.segments()[0] & 0xe000 == 0x2000 && !NOT_PUBLIC_V6.iter().any(within)
}

/// The IPv4 address to which packets for this one go in the end.
fn embedded(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let from = |high: u16, low: u16| Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low));
    match ip.segments() {
        // Mapped (RFC 4291 §2.5.5.2).
        [0, 0, 0, 0, 0, 0xffff, high, low] => Some(from(high, low)),
        // NAT64 (RFC 6052 §2.1).
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => Some(from(high, low)),
        // 6to4 (RFC 3056 §2).
        [0x2002, high, low, ..] => Some(from(high, low)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn public(text: &str) -> bool {
        is_public(text.parse().unwrap())
    }

    #[test]
    fn the_public_internet_is_public() {
        for ip in
            ["1.1.1.1", "8.8.8.8", "100.63.255.255", "100.128.0.0", "172.15.0.1", "172.32.0.1"]
        {
            assert!(public(ip), "{ip}");
        }
        for ip in
            ["11.0.0.0", "128.0.0.1", "169.253.0.1", "192.0.1.1", "198.20.0.0", "223.255.255.255"]
        {
            assert!(public(ip), "{ip}");
        }
        for ip in ["2606:4700::1111", "2a00:1450::1", "2001:4860::1", "2001:200::1", "3ffe::1"] {
            assert!(public(ip), "{ip}");
        }
        for ip in ["::ffff:8.8.8.8", "64:ff9b::8.8.8.8", "2002:808:808::1"] {
            assert!(public(ip), "{ip}");
        }
    }

    #[test]
    fn nothing_else_is() {
        for ip in
            ["0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "100.64.0.1", "100.127.255.255"]
        {
            assert!(!public(ip), "{ip}");
        }
        for ip in ["127.0.0.1", "127.255.255.254", "169.254.169.254", "168.63.129.16", "172.16.0.1"]
        {
            assert!(!public(ip), "{ip}");
        }
        for ip in ["172.31.255.255", "192.0.0.192", "192.0.2.1", "192.88.99.1", "192.168.1.1"] {
            assert!(!public(ip), "{ip}");
        }
        for ip in ["198.18.0.1", "198.19.255.255", "198.51.100.1", "203.0.113.1", "224.0.0.1"] {
            assert!(!public(ip), "{ip}");
        }
        for ip in ["239.255.255.250", "240.0.0.1", "255.255.255.255"] {
            assert!(!public(ip), "{ip}");
        }
        for ip in
            ["::", "::1", "fe80::1", "febf::1", "fec0::1", "fc00::1", "fd00:ec2::254", "ff02::1"]
        {
            assert!(!public(ip), "{ip}");
        }
        for ip in
            ["2001:db8::1", "3fff::1", "2001::1", "2001:10::1", "2001:2::1", "100::1", "5f00::1"]
        {
            assert!(!public(ip), "{ip}");
        }
    }

    #[test]
    fn ipv4_in_other_clothes_is_not_either() {
        for ip in ["::ffff:127.0.0.1", "::ffff:169.254.169.254", "::ffff:10.0.0.1", "::127.0.0.1"] {
            assert!(!public(ip), "{ip}");
        }
        for ip in ["64:ff9b::127.0.0.1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::8.8.8.8"] {
            assert!(!public(ip), "{ip}");
        }
        for ip in ["2002:7f00:1::", "2002:a9fe:a9fe::1", "2002:c0a8:101::1"] {
            assert!(!public(ip), "{ip}");
        }
    }
}
