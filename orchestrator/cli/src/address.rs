//! Whether an address that somebody else named is one that the public reaches: a server does
//! not fetch from its own network for whoever may only invoke an endpoint.

use std::net::IpAddr;

/// That `uri` is https:// or http:// at an address of the public.
///
/// # Errors
/// Why not, in words.
pub async fn is_public(uri: &str) -> Result<(), String> {
    let refused = |why: &str| format!("`{uri}`: {why}");
    let rest = uri
        .strip_prefix("https://")
        .or_else(|| uri.strip_prefix("http://"));
    let Some(rest) = rest else {
        return Err(refused(
            "only https:// and http:// are fetched for this caller",
        ));
    };
    let port = if uri.starts_with("https") { 443 } else { 80 };
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if host.contains('@') {
        return Err(refused("an address with a user in it is not fetched"));
    }
    let with_port = if host.trim_start_matches('[').contains("]:")
        || (!host.starts_with('[') && host.contains(':'))
    {
        host.to_owned()
    } else {
        format!("{host}:{port}")
    };
    let found = tokio::net::lookup_host(with_port).await;
    let found: Vec<IpAddr> = match found {
        Ok(found) => found.map(|address| address.ip()).collect(),
        Err(_) => return Err(refused("there is no such host")),
    };
    if !found.is_empty() && found.iter().all(|address| is_global(*address)) {
        Ok(())
    } else {
        Err(refused("its address is not one of the public"))
    }
}

/// Whether `address` is routed in public (after RFC 6890).
fn is_global(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            !(v4.is_private()
                || v4.is_loopback()
                || v4.is_link_local()
                || v4.is_broadcast()
                || v4.is_documentation()
                || v4.is_multicast()
                || a == 0
                || a >= 240
                || (a == 100 && (64..128).contains(&b))
                || (a == 192 && b == 0 && c == 0)
                || (a == 198 && (b == 18 || b == 19)))
        }
        IpAddr::V6(v6) => {
            if let Some(v4) = v6.to_ipv4() {
                return is_global(IpAddr::V4(v4));
            }
            // 2000::/3 alone is given out; of it, not what is for documents, tunnels and translation.
            let [first, second, ..] = v6.segments();
            first & 0xe000 == 0x2000
                && first != 0x2002
                && !(first == 0x2001 && (second < 0x200 || second == 0xdb8))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{is_global, is_public};

    #[test]
    fn what_is_not_public_is_known() {
        for inner in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "0.0.0.0",
            "100.64.0.1",
            "::1",
            "fd00::1",
            "fe80::1",
            "::ffff:10.0.0.1",
            "64:ff9b::a00:1",
            "2001:db8::1",
            "224.0.0.1",
            "255.255.255.255",
        ] {
            assert!(!is_global(inner.parse().unwrap()), "{inner}");
        }
        for outer in ["1.1.1.1", "93.184.216.34", "2606:4700::1111"] {
            assert!(is_global(outer.parse().unwrap()), "{outer}");
        }
    }

    #[tokio::test]
    async fn addresses_are_read_as_they_are_fetched() {
        for refused in [
            "http://127.0.0.1:80/x",
            "http://localhost/x",
            "http://[::1]/x",
            "file:///etc/passwd",
            "s3://bucket/key",
            "http://1.1.1.1@127.0.0.1/",
            "http://2130706433/",
            "https:///x",
        ] {
            is_public(refused).await.unwrap_err();
        }
        is_public("https://1.1.1.1/a?b#c").await.unwrap();
    }
}
