//! Which addresses are of the public Internet, so that a stranger may have the gateway connect to them.
//!
//! No crate that is kept up has this: `IpAddr::is_global` of the standard library is unstable, and `ip_network` has not been
//! renewed for years. The tables are the special-purpose registries of IANA (RFC 6890, RFC 8190). What they call globally
//! reachable and what is no place for a document all the same is refused too: where in doubt, an address is not global.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};

/// What of IPv4 is not of the public Internet.
const NOT_GLOBAL_V4: [Ipv4Net; 15] = [
    v4([0, 0, 0, 0], 8),       // this network (RFC 791)
    v4([10, 0, 0, 0], 8),      // private (RFC 1918)
    v4([100, 64, 0, 0], 10),   // behind the NAT of a provider (RFC 6598)
    v4([127, 0, 0, 0], 8),     // this machine (RFC 1122)
    v4([169, 254, 0, 0], 16),  // this link (RFC 3927), where clouds have the credentials of a machine
    v4([172, 16, 0, 0], 12),   // private (RFC 1918)
    v4([192, 0, 0, 0], 24),    // protocols (RFC 6890)
    v4([192, 0, 2, 0], 24),    // documentation (RFC 5737)
    v4([192, 88, 99, 0], 24),  // relays of 6to4 (RFC 7526)
    v4([192, 168, 0, 0], 16),  // private (RFC 1918)
    v4([198, 18, 0, 0], 15),   // benchmarks (RFC 2544)
    v4([198, 51, 100, 0], 24), // documentation (RFC 5737)
    v4([203, 0, 113, 0], 24),  // documentation (RFC 5737)
    v4([224, 0, 0, 0], 4),     // multicast (RFC 5771)
    v4([240, 0, 0, 0], 4),     // reserved, and broadcast (RFC 1112, RFC 919)
];

/// What of IPv6 is handed out to the public Internet (RFC 4291 §2.4). Not in it: this machine, this link, unique local
/// addresses (RFC 4193), site-local ones (RFC 3879), multicast, addresses of IPv4 as `::/96` wrote them, segment identifiers
/// (RFC 9602), dummy prefixes, and the NAT64 of a network's own (`64:ff9b:1::/48`, RFC 8215).
const UNICAST_V6: Ipv6Net = v6([0x2000, 0, 0], 3);

/// What of that is none of it.
const NOT_GLOBAL_V6: [Ipv6Net; 4] = [
    v6([0x2001, 0, 0], 23), // protocols (RFC 2928): Teredo (RFC 4380), benchmarks (RFC 5180), ORCHID (RFC 7343)
    v6([0x2001, 0xdb8, 0], 32), // documentation (RFC 3849)
    v6([0x2002, 0, 0], 16), // 6to4 (RFC 3056), which says itself at which address of IPv4 it ends, and is retired (RFC 7526)
    v6([0x3fff, 0, 0], 20), // documentation (RFC 9637)
];

/// IPv4 behind the NAT64 that all networks may have (RFC 6052 §2.1): a machine without IPv4 reaches all of IPv4 so.
const NAT64: Ipv6Net = v6([0x64, 0xff9b, 0], 96);

const fn v4([a, b, c, d]: [u8; 4], length: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), length)
}

const fn v6([a, b, c]: [u16; 3], length: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0), length)
}

/// Whether it is of the public Internet. Of an address that stands for another, the other counts.
pub fn is_global(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => is_global_v4(address),
        IpAddr::V6(address) if NAT64.contains(&address) => {
            let [.., a, b, c, d] = address.octets();
            is_global_v4(Ipv4Addr::new(a, b, c, d))
        }
        IpAddr::V6(address) => {
            UNICAST_V6.contains(&address) && NOT_GLOBAL_V6.iter().all(|net| !net.contains(&address))
        }
    }
}

fn is_global_v4(address: Ipv4Addr) -> bool {
    NOT_GLOBAL_V4.iter().all(|net| !net.contains(&address))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Addresses of each kind that is not of the public Internet, one a line. The stories of documents take them, too.
    const NOT_GLOBAL: &str = include_str!("../../tests/fixtures/not_global.txt");

    #[test]
    fn what_is_not_of_the_public_internet_is_known_however_it_is_written() {
        for text in NOT_GLOBAL.lines() {
            assert!(!is_global(text.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn what_is_just_beside_it_is_global() {
        for text in [
            "1.0.0.0",
            "8.8.8.8",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "160.79.104.10",
            "169.253.255.255",
            "169.255.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.0",
            "192.0.3.0",
            "192.88.98.255",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "::ffff:8.8.8.8",
            "64:ff9b::8.8.8.8",
            "2001:200::1",
            "2001:4860:4860::8888",
            "2001:db7:ffff::1",
            "2001:db9::1",
            "2003::1",
            "2600:1901::1",
            "2a00:1450:4001::1",
            "3ffe:ffff::1",
        ] {
            assert!(is_global(text.parse().unwrap()), "{text}");
        }
    }

    proptest! {
        #[test]
        fn an_address_of_ipv4_is_the_same_in_each_way_to_write_it(bits: u32) {
            let v4 = Ipv4Addr::from(bits);
            let nat64 = Ipv6Addr::from_bits(NAT64.addr().to_bits() | u128::from(bits));
            let found = is_global(v4.into());
            prop_assert_eq!(is_global(v4.to_ipv6_mapped().into()), found);
            prop_assert_eq!(is_global(nat64.into()), found);
            prop_assert!(!is_global(v4.to_ipv6_compatible().into()));
            // What the standard library says of it without being asked whether it is global.
            let is_special = v4.is_private() || v4.is_loopback() || v4.is_link_local() || v4.is_multicast()
                || v4.is_documentation() || v4.is_unspecified() || v4.is_broadcast();
            prop_assert!(!(found && is_special), "{}", v4);
        }
    }
}
