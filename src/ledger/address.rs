//! Addresses of callers that have no name.

use std::{
    collections::HashMap,
    fmt,
    hash::{BuildHasher as _, RandomState},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// The addresses that one caller is taken to have: an IPv4 address, or the first half of an IPv6 address, since providers
/// hand out the second half to one customer (RFC 6177).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AddressBlock {
    /// One address.
    V4(Ipv4Addr),
    /// A /64.
    V6([u8; 8]),
}

impl AddressBlock {
    /// The networks that it is in, the widest first and itself last. Whoever has one address of a /24 of IPv4 may have all of it,
    /// and providers hand out a /56 or a /48 of IPv6 to one customer.
    fn networks(self) -> [Self; 3] {
        match self {
            Self::V4(address) => {
                let [a, b, c, _] = address.octets();
                [Self::V4([a, b, c, 0].into()), self, self]
            }
            Self::V6(first_half) => {
                let first = |count| {
                    let octet = |at: usize| if at < count { first_half[at] } else { 0 };
                    Self::V6(std::array::from_fn(octet))
                };
                [first(6), first(7), self]
            }
        }
    }

    /// The widest network that it is in: what one customer of a provider may have.
    pub fn network(self) -> Self {
        self.networks()[0]
    }

    /// Which block gives one back of `all` that blocks have, so that `newcomer` can have one: the one that has most, in the network
    /// that has most; of equals, any one. So who has none yet finds room, however many addresses somebody else has in one network; and
    /// who comes from more networks than there are places drives out others only as often as their own. It is the newcomer itself only
    /// if nobody has more.
    pub fn gives_way(all: impl Iterator<Item = Self>, newcomer: Self) -> Self {
        let mut left: Vec<_> = all.chain([newcomer]).map(Self::networks).collect();
        let own = newcomer.networks();
        // Another order each time, which nobody can know.
        let lot = RandomState::new();
        for width in 0..own.len() {
            let mut counts = HashMap::<Self, usize>::new();
            for networks in &left {
                *counts.entry(networks[width]).or_default() += 1;
            }
            // With the newcomer among them, those that are equal by now had more before.
            let most = left.iter().map(|networks| networks[width]);
            let most =
                most.max_by_key(|network| (counts[network], *network != own[width], lot.hash_one(network)));
            left.retain(|networks| Some(networks[width]) == most);
        }
        left.first().map_or(newcomer, |[.., block]| *block)
    }
}

impl From<IpAddr> for AddressBlock {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address),
            IpAddr::V6(address) => Self::V6(first_half(address)),
        }
    }
}

impl fmt::Display for AddressBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V4(address) => address.fmt(f),
            Self::V6(first_half) => {
                let mut octets = [0; 16];
                octets[..8].copy_from_slice(first_half);
                write!(f, "{}/64", Ipv6Addr::from(octets))
            }
        }
    }
}

fn first_half(address: Ipv6Addr) -> [u8; 8] {
    address.octets().first_chunk().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_one_customer_are_one_block() {
        let block = |text: &str| AddressBlock::from(text.parse::<IpAddr>().unwrap());
        assert_eq!(block("2001:db8:1:2::1"), block("2001:db8:1:2:ffff::2"));
        assert_ne!(block("2001:db8:1:2::1"), block("2001:db8:1:3::1"));
        assert_eq!(block("::ffff:192.0.2.1"), block("192.0.2.1"));
        assert_ne!(block("192.0.2.1"), block("192.0.2.2"));
        assert_eq!(block("::ffff:192.0.2.1").to_string(), "192.0.2.1");
        assert_eq!(block("2001:db8:1:2::1").to_string(), "2001:db8:1:2::/64");
    }

    #[test]
    fn the_network_that_has_most_gives_way_and_in_it_the_block_that_has_most() {
        let block = |text: &str| AddressBlock::from(text.parse::<IpAddr>().unwrap());
        let gives_way = |all: &[&str], newcomer| {
            AddressBlock::gives_way(all.iter().map(|text| block(text)), block(newcomer)).to_string()
        };
        let modest = ["192.0.2.1", "198.51.100.1", "198.51.100.1"];
        assert_eq!(gives_way(&modest, "203.0.113.1"), "198.51.100.1");
        assert_eq!(gives_way(&modest[..1], "203.0.113.1"), "192.0.2.1", "who has none yet finds room");
        assert_eq!(gives_way(&[], "203.0.113.1"), "203.0.113.1");
        assert_eq!(gives_way(&["192.0.2.1", "203.0.113.1"], "203.0.113.1"), "203.0.113.1");
        // Many blocks, but one home; and one block of it that has more than the others.
        let home: Vec<_> = (0..9).map(|part| format!("2001:db8:1:10{part}::1")).collect();
        let home = home.iter().map(String::as_str).chain(["2001:db8:1:105::2"]).chain(modest);
        assert_eq!(gives_way(&home.collect::<Vec<_>>(), "203.0.113.1"), "2001:db8:1:105::/64");
        // Of equals, it is not the same each time.
        let equal = ["192.0.2.1", "198.51.100.1"];
        let all: std::collections::BTreeSet<_> = (0..200).map(|_| gives_way(&equal, "203.0.113.1")).collect();
        assert_eq!(all.into_iter().collect::<Vec<_>>(), equal);
        let of_v4 = ["203.0.113.7", "203.0.113.8", "192.0.2.1", "198.51.100.1", "2001:db8::1"];
        assert!(gives_way(&of_v4, "192.0.2.9").starts_with("203.0.113."));
        assert_eq!(gives_way(&of_v4, "203.0.113.9").rsplit_once('.').unwrap().0, "203.0.113", "its own");
    }
}
