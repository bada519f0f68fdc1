//! Who is at the other end: the peer of the connection, or whom a proxy asks for.
//!
//! Each proxy adds the address that its request came from to the end of a header, so the list is read from its end: an
//! address is believed if the one that told it is a proxy of ours, and the first that is not is the client's. What
//! stands before it anybody may have written, and is not looked at.

use http::{HeaderMap, HeaderName, HeaderValue, header};
use longshore_config::{ClientHeader, Http, Network};
use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The client of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Client {
    peer: SocketAddr,
    /// None: a proxy has not told it in words that are understood.
    address: Option<IpAddr>,
}

impl Client {
    /// Whoever sent these headers from `peer`.
    pub(crate) fn of(peer: SocketAddr, headers: &HeaderMap, settings: &Http) -> Self {
        let is_proxy = |address| settings.proxies.iter().any(|network| network.contains(address));
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        let mut address = Some(peer.ip());
        if !is_proxy(peer.ip()) {
            return Self { peer, address };
        }
        let (name, read): (_, fn(&str) -> Option<IpAddr>) = match settings.client_header {
            ClientHeader::XForwardedFor => (X_FORWARDED_FOR, node),
            ClientHeader::Forwarded => (header::FORWARDED, forwarded_for),
        };
        let mut told = headers.get_all(name).iter().rev().flat_map(from_the_end).map(read);
        // A proxy that tells nobody asks for itself.
        while address.is_some_and(is_proxy)
            && let Some(told) = told.next()
        {
            address = told.map(|address| address.to_canonical());
        }
        Self { peer, address }
    }

    /// Whether it is known to be in one of the networks.
    pub(crate) fn is_in(&self, networks: &[Network]) -> bool {
        self.address.is_some_and(|address| networks.iter().any(|network| network.contains(address)))
    }

    /// The peer of the connection, where that is another one: a proxy.
    pub(crate) fn proxy(&self) -> Option<IpAddr> {
        Some(self.peer.ip()).filter(|peer| Some(*peer) != self.address)
    }
}

/// Its address, with the port if that is known.
impl fmt::Display for Client {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(address) if address == self.peer.ip() => self.peer.fmt(formatter),
            Some(address) => address.fmt(formatter),
            None => formatter.write_str("unknown"),
        }
    }
}

/// The elements of a list, the last first; what is no text is none that is understood.
///
/// A comma in quotes is taken for a border too. Then what is between is no whole element: it is not understood, and
/// nobody is taken for the client by it.
fn from_the_end(line: &HeaderValue) -> impl Iterator<Item = &str> {
    let elements = line.as_bytes().rsplit(|byte| *byte == b',').map(<[u8]>::trim_ascii);
    elements.filter(|element| !element.is_empty()).map(|element| str::from_utf8(element).unwrap_or("unknown"))
}

/// An address as proxies write it: alone, with a port, in brackets.
fn node(text: &str) -> Option<IpAddr> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(address);
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Some(address.ip());
    }
    text.strip_prefix('[')?.strip_suffix(']')?.parse().ok().filter(IpAddr::is_ipv6)
}

/// What one element of `Forwarded` says of the client: `for=192.0.2.60;proto=http`, `For="[2001:db8::1]:4711"`.
fn forwarded_for(element: &str) -> Option<IpAddr> {
    let (mut rest, mut found) = (element, None);
    loop {
        let (name, value) = rest.split_once('=')?;
        let name = name.trim_start();
        let (value, after) = match value.strip_prefix('"') {
            // No address has a quote in it, and so none that is escaped has to be understood.
            Some(quoted) => quoted.split_once('"').filter(|(value, _)| !value.contains('\\'))?,
            None => value.split_at(value.find(|c: char| !is_token(c)).unwrap_or(value.len())),
        };
        let is_pair = !name.is_empty() && name.chars().all(is_token);
        if !is_pair || name.eq_ignore_ascii_case("for") && found.replace(value).is_some() {
            return None;
        }
        match after.trim_start().strip_prefix(';') {
            Some(next) => rest = next,
            None if after.trim().is_empty() => return node(found?),
            None => return None,
        }
    }
}

/// `tchar` of RFC 9110.
fn is_token(character: char) -> bool {
    character.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(character)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PROXY: &str = "10.0.0.7";

    fn settings(header: ClientHeader) -> Http {
        let proxies = ["10.0.0.0/24", "fd00::/64"].map(|network| network.parse().unwrap());
        Http { proxies: proxies.to_vec(), client_header: header, ..Http::default() }
    }

    /// The client of a request from `peer` with these headers.
    fn client(peer: &str, header: ClientHeader, lines: &[(&'static str, &str)]) -> Client {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        Client::of(SocketAddr::new(peer.parse().unwrap(), 4711), &headers, &settings(header))
    }

    fn x_forwarded(peer: &str, lines: &[&str]) -> String {
        let lines: Vec<_> = lines.iter().map(|line| ("x-forwarded-for", *line)).collect();
        client(peer, ClientHeader::XForwardedFor, &lines).to_string()
    }

    fn forwarded(peer: &str, lines: &[&str]) -> String {
        let lines: Vec<_> = lines.iter().map(|line| ("forwarded", *line)).collect();
        client(peer, ClientHeader::Forwarded, &lines).to_string()
    }

    #[test]
    fn who_is_no_proxy_speaks_for_itself() {
        for peer in ["192.0.2.1", "10.0.1.7", "::1"] {
            let shown = SocketAddr::new(peer.parse().unwrap(), 4711).to_string();
            assert_eq!(x_forwarded(peer, &["10.9.9.9"]), shown);
            assert_eq!(forwarded(peer, &["for=10.9.9.9"]), shown);
        }
        let alone = client("192.0.2.1", ClientHeader::XForwardedFor, &[("x-forwarded-for", "10.9.9.9")]);
        assert_eq!(alone.proxy(), None);
        assert!(!alone.is_in(&["10.9.9.0/24".parse().unwrap()]) && alone.is_in(&["192.0.2.0/24".parse().unwrap()]));
    }

    #[test]
    fn the_last_address_that_is_no_proxy_is_the_client() {
        for (lines, expected) in [
            (&["192.0.2.1"][..], "192.0.2.1"),
            (&["192.0.2.1, 10.0.0.9"], "192.0.2.1"),
            (&["6.6.6.6, 192.0.2.1, 10.0.0.9,10.0.0.8"], "192.0.2.1"),
            (&["6.6.6.6", "192.0.2.1", "10.0.0.9"], "192.0.2.1"),
            (&["nonsense, 192.0.2.1"], "192.0.2.1"),
            (&["192.0.2.1, , "], "192.0.2.1"),
            (&["192.0.2.1:80"], "192.0.2.1"),
            (&["2001:db8::1"], "2001:db8::1"),
            (&["[2001:db8::1]"], "2001:db8::1"),
            (&["[2001:db8::1]:80"], "2001:db8::1"),
            (&["::ffff:192.0.2.1"], "192.0.2.1"),
            (&["192.0.2.1, ::ffff:10.0.0.9"], "192.0.2.1"),
            (&["192.0.2.1, fd00::1"], "192.0.2.1"),
            // All of them are proxies: the first asks for itself.
            (&["10.0.0.9, 10.0.0.8"], "10.0.0.9"),
        ] {
            assert_eq!(x_forwarded(PROXY, lines), expected, "{lines:?}");
        }
        assert_eq!(x_forwarded(PROXY, &[]), "10.0.0.7:4711", "a probe of the proxy's own");
        assert_eq!(x_forwarded("::ffff:10.0.0.7", &["192.0.2.1"]), "192.0.2.1", "over a socket of IPv6");
        let told = client(PROXY, ClientHeader::XForwardedFor, &[("x-forwarded-for", "192.0.2.1")]);
        assert_eq!(told.proxy(), PROXY.parse().ok());
    }

    #[test]
    fn what_is_not_understood_is_nobody() {
        for told in ["unknown", "_hidden", "192.0.2.1, x", "192.0.2", "[192.0.2.1]", "192.0.2.1 6.6.6.6", "ä, \u{e9}"]
        {
            assert_eq!(x_forwarded(PROXY, &[told]), "unknown", "{told}");
        }
        assert_eq!(x_forwarded(PROXY, &["192.0.2.1", "\u{e9}"]), "unknown");
        assert_eq!(x_forwarded(PROXY, &["\u{e9}, 192.0.2.1"]), "192.0.2.1");
        let nobody = client(PROXY, ClientHeader::XForwardedFor, &[("x-forwarded-for", "unknown")]);
        assert!(!nobody.is_in(&["0.0.0.0/0".parse().unwrap(), "::/0".parse().unwrap()]), "not even of all networks");
        assert_eq!(nobody.proxy(), PROXY.parse().ok());
    }

    #[test]
    fn forwarded_is_read_as_rfc_7239_has_it() {
        for (lines, expected) in [
            (&["for=192.0.2.60;proto=http;by=203.0.113.43"][..], "192.0.2.60"),
            (&["For=\"[2001:db8:cafe::17]:4711\""], "2001:db8:cafe::17"),
            (&["for=192.0.2.43, for=\"[fd00::1]\""], "192.0.2.43"),
            (&["proto=https ; for=192.0.2.43"], "192.0.2.43"),
            (&["for=\"192.0.2.43:80\";host=\"a.example\""], "192.0.2.43"),
            (&["for=6.6.6.6", "for=192.0.2.43", "for=10.0.0.9"], "192.0.2.43"),
            // Quotes that a client left open do not reach what the proxy adds.
            (&["for=\"6.6.6.6, for=192.0.2.43"], "192.0.2.43"),
        ] {
            assert_eq!(forwarded(PROXY, lines), expected, "{lines:?}");
        }
        for wrong in [
            "for=unknown",
            "for=_gazonk",
            "for=",
            "192.0.2.43",
            "proto=http",
            "for=192.0.2.43;for=6.6.6.6",
            "for=192.0.2.43 6.6.6.6",
            "for=192.0.2.43;",
            "for=\"192.0.2.43",
            "for=\"\\192.0.2.43\"",
            "f r=192.0.2.43",
            "for =192.0.2.43",
            // A client's Host with a comma, in the quotes of a proxy that tells it too.
            "for=192.0.2.43;host=\"x, for=6.6.6.6\"",
            "for=192.0.2.43;host=\"x, for=6.6.6.6;y=\"",
            "for=192.0.2.43;host=\"x\\\", for=\\\"6.6.6.6\"",
        ] {
            assert_eq!(forwarded(PROXY, &[wrong]), "unknown", "{wrong}");
        }
    }

    #[test]
    fn the_other_header_is_not_looked_at() {
        let both = [("x-forwarded-for", "192.0.2.1"), ("forwarded", "for=6.6.6.6")];
        assert_eq!(client(PROXY, ClientHeader::XForwardedFor, &both).to_string(), "192.0.2.1");
        assert_eq!(client(PROXY, ClientHeader::Forwarded, &both).to_string(), "6.6.6.6");
        assert_eq!(client(PROXY, ClientHeader::Forwarded, &both[..1]).to_string(), "10.0.0.7:4711");
    }

    proptest! {
        /// Whatever a client writes, the proxy's word on it stands.
        #[test]
        fn nothing_that_a_client_writes_changes_who_it_is(
            written in prop::collection::vec("[ -~\u{80}-\u{ff}]{0,40}", 0..3),
            same_line: bool,
        ) {
            for (header, name, own) in [
                (ClientHeader::XForwardedFor, "x-forwarded-for", "192.0.2.1"),
                (ClientHeader::Forwarded, "forwarded", "for=192.0.2.1"),
            ] {
                let mut lines: Vec<String> = written.clone();
                match lines.last_mut() {
                    Some(last) if same_line => *last = format!("{last}, {own}"),
                    _ => lines.push(own.to_owned()),
                }
                let lines: Vec<_> = lines.iter().map(|line| (name, line.as_str())).collect();
                prop_assert_eq!(client(PROXY, header, &lines).to_string(), "192.0.2.1");
            }
        }

        #[test]
        fn no_header_makes_it_panic(line in ".{0,60}") {
            if let Ok(value) = HeaderValue::from_bytes(line.as_bytes()) {
                for (header, name) in
                    [(ClientHeader::XForwardedFor, "x-forwarded-for"), (ClientHeader::Forwarded, "forwarded")]
                {
                    let headers = HeaderMap::from_iter([(HeaderName::from_static(name), value.clone())]);
                    let _ = Client::of("10.0.0.7:1".parse().unwrap(), &headers, &settings(header)).to_string();
                }
            }
        }
    }
}
