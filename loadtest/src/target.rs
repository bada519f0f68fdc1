//! Owns the address under load: which registries are accepted, and what is said to them in every request.
//!
//! Only loopback addresses are accepted, so that a typing error never puts somebody else's registry under load.

use std::net::{SocketAddr, ToSocketAddrs};

use anyhow::{Context, Result, bail, ensure};

/// A registry on this machine, reached by plain HTTP.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    addresses: Vec<SocketAddr>,
    authority: String,
    authorization: Option<String>,
}

impl Target {
    /// Reads `http://HOST[:PORT]`, where HOST is a loopback address or `localhost`, and `NAME:PASSWORD` for Basic.
    pub(crate) fn parse(url: &str, user: Option<&str>) -> Result<Self> {
        let Some(rest) = url.strip_prefix("http://") else {
            bail!("{url:?} must begin with http://: the load test speaks plain HTTP only");
        };
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        ensure!(
            !authority.is_empty() && !authority.contains(['/', '?', '#', '@']),
            "{url:?} must be http://HOST[:PORT] and nothing more (a name and password go into --user)"
        );
        let addresses = loopback_addresses(authority).with_context(|| format!("the target {url:?} is refused"))?;
        let authorization = user.map(basic_authorization).transpose()?;
        Ok(Self { addresses, authority: authority.to_owned(), authorization })
    }

    /// Where to connect, in the order to try.
    pub(crate) fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// `HOST[:PORT]` as it was given: the `Host` header.
    pub(crate) fn authority(&self) -> &str {
        &self.authority
    }

    /// The value of the `Authorization` header, if a user was given.
    pub(crate) fn authorization(&self) -> Option<&str> {
        self.authorization.as_deref()
    }

    /// Cuts a `Location` down to path and query. One that leads to another host is refused.
    pub(crate) fn path_of_location<'a>(&self, location: &'a str) -> Result<&'a str> {
        if location.starts_with('/') && !location.starts_with("//") {
            return Ok(location);
        }
        let path = location.strip_prefix("http://").and_then(|rest| rest.strip_prefix(self.authority.as_str()));
        match path {
            Some(path) if path.starts_with('/') => Ok(path),
            _ => bail!("the location {location:?} leads away from {}: redirects are not followed", self.authority),
        }
    }
}

fn loopback_addresses(authority: &str) -> Result<Vec<SocketAddr>> {
    let has_port = authority.rsplit_once(':').is_some_and(|(host, _)| !host.contains(':') || host.ends_with(']'));
    let with_port = if has_port { authority.to_owned() } else { format!("{authority}:80") };
    let (host, _) = with_port.rsplit_once(':').unwrap_or((&with_port, ""));
    let literal = with_port.parse::<SocketAddr>();
    // No other name is even looked up: a resolver is a network of its own.
    ensure!(
        literal.is_ok() || host == "localhost",
        "give an address such as 127.0.0.1:5000, or localhost with a port: other names are not looked up"
    );
    let addresses = match literal {
        Ok(address) => vec![address],
        Err(_) => with_port.to_socket_addrs().context("localhost with a port number is wanted")?.collect(),
    };
    for address in &addresses {
        ensure!(
            address.ip().is_loopback(),
            "{address} is no loopback address: only 127.0.0.0/8, [::1] and localhost may be put under load"
        );
    }
    ensure!(!addresses.is_empty(), "localhost has no address on this machine: give 127.0.0.1");
    Ok(addresses)
}

fn basic_authorization(user: &str) -> Result<String> {
    ensure!(user.contains(':'), "--user must be NAME:PASSWORD");
    Ok(format!("Basic {}", base64(user.as_bytes())))
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let mut bits = 0u32;
        for position in 0..3 {
            bits = bits << 8 | u32::from(group.get(position).copied().unwrap_or(0));
        }
        for position in 0..4 {
            let sextet = (bits >> (18 - 6 * position)) & 63;
            let padding = position > group.len();
            text.push(if padding { '=' } else { char::from(ALPHABET[sextet as usize]) });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_targets_are_accepted() {
        for url in ["http://127.0.0.1:5000", "http://127.1.2.3:80/", "http://[::1]:5000", "http://localhost:5000"] {
            Target::parse(url, None).unwrap();
        }
        assert_eq!(Target::parse("http://127.0.0.1", None).unwrap().addresses()[0].port(), 80);
        assert_eq!(Target::parse("http://[::1]", None).unwrap().addresses()[0].port(), 80);
    }

    #[test]
    fn every_other_target_is_refused() {
        let refused = [
            "https://127.0.0.1:5000",
            "127.0.0.1:5000",
            "http://",
            "http://10.0.0.1:5000",
            "http://0.0.0.0:5000",
            "http://registry.example:5000",
            "http://127.0.0.1.example:5000",
            "http://u:p@127.0.0.1:5000",
            "http://127.0.0.1:5000/v2/",
            "http://127.0.0.1:99999",
            "http://localhost:port",
        ];
        for url in refused {
            assert!(Target::parse(url, None).is_err(), "{url} was accepted");
        }
        let error = Target::parse("http://192.0.2.7:5000", None).unwrap_err();
        assert!(format!("{error:#}").contains("192.0.2.7:5000 is no loopback address"), "{error:#}");
    }

    #[test]
    fn basic_credentials_are_encoded() {
        for (plain, encoded) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")] {
            assert_eq!(base64(plain.as_bytes()), encoded);
        }
        let target = Target::parse("http://127.0.0.1:5000", Some("Aladdin:open sesame")).unwrap();
        assert_eq!(target.authorization(), Some("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="));
        assert!(Target::parse("http://127.0.0.1:5000", Some("no-password")).is_err());
    }

    #[test]
    fn locations_stay_on_the_target() {
        let target = Target::parse("http://127.0.0.1:5000", None).unwrap();
        assert_eq!(target.path_of_location("/v2/a?x=1").unwrap(), "/v2/a?x=1");
        assert_eq!(target.path_of_location("http://127.0.0.1:5000/v2/a").unwrap(), "/v2/a");
        for elsewhere in ["http://127.0.0.1:50001/a", "//host/a", "https://127.0.0.1:5000/a", "a", ""] {
            assert!(target.path_of_location(elsewhere).is_err(), "{elsewhere} was accepted");
        }
    }
}
