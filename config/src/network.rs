//! Networks: an IP address and how many of its bits belong to all of them, as in `10.0.0.0/8` and `2001:db8::/32`.

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use thiserror::Error;

/// A network of IPv4 or of IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Network {
    /// Its first address: all bits beyond the prefix are 0, and it is no IPv4 address in the clothes of IPv6.
    first: IpAddr,
    prefix: u32,
}

/// Why a text is no network.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NetworkError {
    /// Not an address, or not a number behind the slash.
    #[error("{0:?} is not a network: write an address and a prefix, such as 10.0.0.0/8 or 2001:db8::/32")]
    Malformed(String),
    /// More bits than an address has.
    #[error("{text:?} is not a network: its addresses have {bits} bits")]
    PrefixTooLong {
        /// As it was written.
        text: String,
        /// 32 or 128.
        bits: u32,
    },
    /// There are bits beyond the prefix, so one of the two is mistyped.
    #[error("{text:?} is not a network: its address has bits beyond the prefix, write {network}")]
    BitsBeyondPrefix {
        /// As it was written.
        text: String,
        /// What was most likely meant.
        network: Network,
    },
    /// An IPv4 network written as one of IPv6: clients are told apart by what they speak.
    #[error("{0:?} is not a network of IPv6: write it as one of IPv4")]
    Mapped(String),
}

impl Network {
    /// Whether the address is one of the network's. An IPv4 address that came over a socket of IPv6 is one of IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.first.is_ipv4() && self.bits_of_network(address) == bits(self.first)
    }

    /// Whether every address of its kind is in it.
    pub(crate) fn is_everything(&self) -> bool {
        self.prefix == 0
    }

    fn bits_of_network(&self, address: IpAddr) -> u128 {
        bits(address) & u128::MAX.checked_shl(width(address) - self.prefix).unwrap_or(0)
    }
}

/// How many bits an address has.
fn width(address: IpAddr) -> u32 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

fn address(bits: u128, like: IpAddr) -> IpAddr {
    match like {
        // Its upper bits are those of an IPv4 address, which has no more.
        IpAddr::V4(_) => IpAddr::V4((bits as u32).into()),
        IpAddr::V6(_) => IpAddr::V6(bits.into()),
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let malformed = || NetworkError::Malformed(text.to_owned());
        let (written, prefix) = match text.split_once('/') {
            Some((written, prefix)) => (written, Some(prefix)),
            None => (text, None),
        };
        let written: IpAddr = written.parse().map_err(|_| malformed())?;
        let prefix = match prefix {
            // `+8` would be a number too.
            Some(prefix) if !prefix.bytes().all(|byte| byte.is_ascii_digit()) => return Err(malformed()),
            Some(prefix) => prefix.parse().map_err(|_| malformed())?,
            // A single address.
            None => width(written),
        };
        if prefix > width(written) {
            return Err(NetworkError::PrefixTooLong { text: text.to_owned(), bits: width(written) });
        }
        if written != written.to_canonical() {
            return Err(NetworkError::Mapped(text.to_owned()));
        }
        let mut network = Self { first: written, prefix };
        network.first = address(network.bits_of_network(written), written);
        if network.first != written {
            return Err(NetworkError::BitsBeyondPrefix { text: text.to_owned(), network });
        }
        Ok(network)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.first, self.prefix)
    }
}

impl Serialize for Network {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(NetworkVisitor)
    }
}

struct NetworkVisitor;

impl Visitor<'_> for NetworkVisitor {
    type Value = Network;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a network such as 10.0.0.0/8")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Network, E> {
        text.parse().map_err(E::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    fn contains(network: &str, address: &str) -> bool {
        network.parse::<Network>().unwrap().contains(address.parse().unwrap())
    }

    #[test]
    fn addresses_are_in_their_networks() {
        for (network, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.0"),
            ("10.1.2.0/23", "10.1.3.255", "10.1.4.0"),
            ("192.0.2.7", "192.0.2.7", "192.0.2.6"),
            ("0.0.0.0/0", "203.0.113.9", "::1"),
            ("::/0", "2001:db8::1", "10.0.0.1"),
            ("2001:db8::/32", "2001:db8:ffff::1", "2001:db9::"),
            ("fe80::1", "fe80::1", "fe80::2"),
            ("10.0.0.0/8", "::ffff:10.1.2.3", "::ffff:11.1.2.3"),
        ] {
            assert!(contains(network, inside), "{inside} is in {network}");
            assert!(!contains(network, outside), "{outside} is not in {network}");
        }
        assert!(!contains("::/0", "::ffff:10.1.2.3"), "that client speaks IPv4");
    }

    #[test]
    fn the_texts_say_what_to_change() {
        let error = |text: &str| text.parse::<Network>().unwrap_err().to_string();
        for text in
            ["", "10.0.0.0/", "10.0.0.0/x", "10.0.0.0/+8", "10/8", "host/8", "10.0.0.0/8/8", "10.0.0.0/99999999999"]
        {
            assert_eq!(
                error(text),
                format!(
                    "{text:?} is not a network: write an address and a prefix, such as 10.0.0.0/8 or 2001:db8::/32"
                )
            );
        }
        assert_eq!(error("10.0.0.0/33"), "\"10.0.0.0/33\" is not a network: its addresses have 32 bits");
        assert_eq!(error("::/129"), "\"::/129\" is not a network: its addresses have 128 bits");
        assert_eq!(
            error("10.1.2.3/8"),
            "\"10.1.2.3/8\" is not a network: its address has bits beyond the prefix, write 10.0.0.0/8"
        );
        assert_eq!(
            error("::ffff:10.0.0.0/104"),
            "\"::ffff:10.0.0.0/104\" is not a network of IPv6: write it as one of IPv4"
        );
    }

    proptest! {
        #[test]
        fn an_address_is_in_the_networks_around_it_and_in_no_other(
            v4: u32,
            v6: u128,
            bit in 0u32..128,
            prefix in 0u32..=128,
        ) {
            for address in [IpAddr::V4(Ipv4Addr::from(v4)), IpAddr::V6(Ipv6Addr::from(v6))] {
                let (width, address) = (width(address), address.to_canonical());
                prop_assume!(width == self::width(address));
                let (prefix, bit) = (prefix % (width + 1), bit % width);
                let mut network = Network { first: address, prefix };
                network.first = self::address(network.bits_of_network(address), address);
                prop_assert!(network.contains(address));
                let other = self::address(bits(address) ^ (1 << bit), address);
                prop_assume!(other == other.to_canonical());
                prop_assert_eq!(network.contains(other), bit < width - prefix);
                let shown = network.to_string();
                prop_assert_eq!(shown.parse::<Network>(), Ok(network), "{}", shown);
            }
        }

        #[test]
        fn no_text_makes_it_panic(text in ".{0,40}") {
            let _ = text.parse::<Network>();
        }
    }
}
