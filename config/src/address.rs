//! Listener addresses: an IP address and a port, with an error that says so.
//!
//! Names are refused on purpose: `localhost` may resolve to several addresses, and a listener is on exactly one.

use serde::de::{self, Visitor};
use serde::{Deserializer, Serializer};
use std::fmt;
use std::net::SocketAddr;

/// For `#[serde(with = "address")]`.
pub(crate) fn serialize<S: Serializer>(address: &SocketAddr, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(address)
}

/// For `#[serde(with = "address")]`.
pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    deserializer.deserialize_str(AddressVisitor)
}

/// The same for a listener that may be missing: `#[serde(with = "address::optional")]`.
pub(crate) mod optional {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use std::net::SocketAddr;

    pub(crate) fn serialize<S: Serializer>(address: &Option<SocketAddr>, serializer: S) -> Result<S::Ok, S::Error> {
        address.serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SocketAddr>, D::Error> {
        #[derive(Deserialize)]
        struct Address(#[serde(with = "super")] SocketAddr);

        let address = Option::<Address>::deserialize(deserializer)?;
        Ok(address.map(|Address(address)| address))
    }
}

struct AddressVisitor;

impl Visitor<'_> for AddressVisitor {
    type Value = SocketAddr;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an IP address and a port")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<SocketAddr, E> {
        text.parse().map_err(|_| {
            E::custom(format!("{text:?} is not an IP address with a port (0.0.0.0 and [::] mean every interface)"))
        })
    }
}
