//! The client that a balancer forwards for: `X-Forwarded-For`, and PROXY protocol version 2 (HAProxy, `doc/proxy-protocol.txt`,
//! section 2.2). Either counts only from an address of `proxy.trustedProxies`.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use http::HeaderMap;
use ipnet::IpNet;
use tokio::{io::AsyncReadExt as _, net::TcpStream};

/// First bytes of a PROXY header. No TLS handshake and no HTTP request begins like that.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Most bytes behind the fixed part: addresses and whatever a balancer adds.
const MOST_BYTES: u16 = 4096;

/// Whether `address` is a balancer's.
pub fn is_trusted(trusted: &[IpNet], address: IpAddr) -> bool {
    // Most gateways trust none, and then every request asks.
    !trusted.is_empty() && {
        let address = address.to_canonical();
        trusted.iter().any(|network| network.contains(&address))
    }
}

/// The client that a trusted balancer forwards for: of the addresses in `X-Forwarded-For`, the last that is no trusted
/// balancer's itself. What is before it is the client's own claim.
pub fn forwarded_for(headers: &HeaderMap, trusted: &[IpNet]) -> Option<IpAddr> {
    let fields: Vec<_> = headers.get_all("x-forwarded-for").iter().collect();
    let mut client = None;
    for entry in fields.iter().rev().flat_map(|field| field.as_bytes().rsplit(|byte| *byte == b',')) {
        // What cannot be read hides everything before it.
        let Some(address) = address(entry) else { break };
        client = Some(address);
        if !is_trusted(trusted, address) {
            break;
        }
    }
    client
}

/// An address, with or without a port.
fn address(entry: &[u8]) -> Option<IpAddr> {
    let entry = std::str::from_utf8(entry).ok()?.trim();
    let in_brackets = entry.strip_prefix('[').and_then(|entry| entry.strip_suffix(']'));
    let address = in_brackets.unwrap_or(entry).parse::<IpAddr>();
    address
        .or_else(|_| entry.parse::<SocketAddr>().map(|socket| socket.ip()))
        .ok()
        .map(|ip| ip.to_canonical())
}

/// Reads the PROXY header that opens a connection of a trusted balancer, if there is one. Returns the client's address,
/// unless the balancer speaks for itself.
pub async fn proxy_header(stream: &mut TcpStream) -> io::Result<Option<SocketAddr>> {
    let mut first = [0];
    stream.peek(&mut first).await?;
    if first[0] != SIGNATURE[0] {
        return Ok(None);
    }
    let mut fixed = [0; 16];
    stream.read_exact(&mut fixed).await?;
    let length = u16::from_be_bytes([fixed[14], fixed[15]]);
    if fixed[..12] != SIGNATURE || length > MOST_BYTES {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut rest = vec![0; length.into()];
    stream.read_exact(&mut rest).await?;
    client(fixed[12], fixed[13], &rest)
}

/// The client's address in a header whose version and command, family and protocol, and addresses these are.
fn client(command: u8, family: u8, addresses: &[u8]) -> io::Result<Option<SocketAddr>> {
    let invalid = || io::Error::from(io::ErrorKind::InvalidData);
    let port = |at: usize| Some(u16::from_be_bytes(*addresses.get(at..)?.first_chunk()?));
    match (command, family) {
        // LOCAL: the balancer itself, for a health check.
        (0x20, _) => Ok(None),
        (0x21, 0x11) => {
            let source: [u8; 4] = *addresses.first_chunk().ok_or_else(invalid)?;
            Ok(Some((Ipv4Addr::from(source), port(8).ok_or_else(invalid)?).into()))
        }
        (0x21, 0x21) => {
            let source: [u8; 16] = *addresses.first_chunk().ok_or_else(invalid)?;
            let source = IpAddr::from(Ipv6Addr::from(source)).to_canonical();
            Ok(Some((source, port(32).ok_or_else(invalid)?).into()))
        }
        // UNSPEC, UDP, Unix: nothing that names a client.
        (0x21, _) => Ok(None),
        _ => Err(invalid()),
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn networks() -> Vec<IpNet> {
        vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()]
    }

    fn forwarded(fields: &[&str]) -> Option<String> {
        let name = HeaderName::from_static("x-forwarded-for");
        let headers =
            fields.iter().map(|field| (name.clone(), HeaderValue::from_str(field).unwrap())).collect();
        forwarded_for(&headers, &networks()).map(|address| address.to_string())
    }

    #[test]
    fn the_client_is_the_last_address_that_no_balancer_has() {
        for (fields, client) in [
            (&["192.0.2.1"][..], Some("192.0.2.1")),
            (&["203.0.113.9, 192.0.2.1"], Some("192.0.2.1")),
            (&["192.0.2.1, 10.1.2.3 ,fd00::7"], Some("192.0.2.1")),
            (&["192.0.2.1", "10.1.2.3"], Some("192.0.2.1")),
            (&["192.0.2.1:4711"], Some("192.0.2.1")),
            (&["[2001:db8::1]:4711"], Some("2001:db8::1")),
            (&["[2001:db8::1]"], Some("2001:db8::1")),
            (&["::ffff:192.0.2.1"], Some("192.0.2.1")),
            (&["10.1.2.3"], Some("10.1.2.3")),
            (&["192.0.2.1, unknown, 10.1.2.3"], Some("10.1.2.3")),
            (&["unknown"], None),
            (&[""], None),
            (&[], None),
        ] {
            assert_eq!(forwarded(fields).as_deref(), client, "{fields:?}");
        }
    }

    #[test]
    fn a_network_contains_addresses_in_either_form() {
        assert!(is_trusted(&networks(), "10.9.9.9".parse().unwrap()));
        assert!(is_trusted(&networks(), "::ffff:10.9.9.9".parse().unwrap()));
        assert!(!is_trusted(&networks(), "11.9.9.9".parse().unwrap()));
        assert!(!is_trusted(&[], "10.9.9.9".parse().unwrap()));
    }

    #[test]
    fn a_proxy_header_names_the_client_or_nobody() {
        let v4 = [192, 0, 2, 1, 10, 0, 0, 1, 0x12, 0x67, 0x01, 0xbb];
        assert_eq!(client(0x21, 0x11, &v4).unwrap().unwrap().to_string(), "192.0.2.1:4711");
        let mut v6 = [0; 36];
        (v6[0], v6[1], v6[15]) = (0x20, 0x01, 7);
        (v6[32], v6[33]) = (0x12, 0x67);
        assert_eq!(client(0x21, 0x21, &v6).unwrap().unwrap().to_string(), "[2001::7]:4711");
        assert_eq!(client(0x20, 0x00, &[]).unwrap(), None);
        assert_eq!(client(0x21, 0x31, &[0; 216]).unwrap(), None);
        assert!(client(0x21, 0x11, &v4[..9]).is_err() && client(0x21, 0x21, &v6[..33]).is_err());
        assert!(client(0x11, 0x11, &v4).is_err(), "another version");
        assert!(client(0x22, 0x11, &v4).is_err(), "another command");
    }
}
