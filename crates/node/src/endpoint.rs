//! Where a mounter may send requests. It runs in the node's network, and whoever
//! writes a Sandbox names the endpoint: what only a node can reach and nobody keeps
//! buckets at, the cloud's metadata above all, is refused. A name is looked up here
//! and once more by the mounter, so one that changes in between is not caught.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use http::Uri;

use super::Error;

/// Azure's and Alibaba's metadata, which are not link-local.
const METADATA: [Ipv4Addr; 2] = [
    Ipv4Addr::new(168, 63, 129, 16),
    Ipv4Addr::new(100, 100, 100, 200),
];
/// Amazon's over IPv6.
const METADATA_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x254);

/// Whether requests may go to that URL.
///
/// # Errors
/// [`Error::Unreachable`] for an address that no bucket is at. One that cannot be
/// looked up passes: the mounter says so better.
pub async fn check(endpoint: &str) -> Result<(), Error> {
    let uri: Option<Uri> = endpoint.parse().ok();
    let Some(host) = uri.as_ref().and_then(Uri::host) else {
        return Ok(());
    };
    let host = host.trim_matches(['[', ']']);
    let Ok(mut found) = tokio::net::lookup_host((host, 0)).await else {
        return Ok(());
    };
    match found.any(|address| of_the_node(address.ip())) {
        true => Err(Error::Unreachable(format!(
            "{endpoint} is at an address that is never asked for buckets"
        ))),
        false => Ok(()),
    }
}

fn of_the_node(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_unspecified() || METADATA.contains(&v4),
        IpAddr::V6(v6) => v6.is_unicast_link_local() || v6.is_unspecified() || v6 == METADATA_V6,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn metadata_and_link_local_addresses_are_never_asked() {
        for bad in [
            "http://169.254.169.254/latest",
            "https://169.254.1.1:443",
            "http://168.63.129.16",
            "http://100.100.100.200",
            "http://[fe80::1]:80",
            "http://[fd00:ec2::254]",
            "http://[::ffff:169.254.169.254]",
            "http://0.0.0.0:9000",
        ] {
            assert!(check(bad).await.is_err(), "{bad}");
        }
        for good in [
            "http://127.0.0.1:9000",
            "https://10.1.2.3",
            "http://[fd00::1]:9000",
        ] {
            assert!(check(good).await.is_ok(), "{good}");
        }
    }
}
