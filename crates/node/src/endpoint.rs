//! Refuses endpoints that a mounter must not contact. A mounter runs in the node's network,
//! and the author of a Sandbox chooses the endpoint. So addresses are refused that only a
//! node can reach and that hold no buckets, above all the cloud's metadata service. The name
//! is resolved here and again by the mounter. A DNS answer that changes in between is not
//! caught.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use http::Uri;

use super::Error;

/// The metadata services of Azure and Alibaba. They are not link-local.
const METADATA: [Ipv4Addr; 2] = [
    Ipv4Addr::new(168, 63, 129, 16),
    Ipv4Addr::new(100, 100, 100, 200),
];
/// Amazon's metadata service over IPv6.
const METADATA_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x254);

/// Checks that a mounter may send requests to this URL.
///
/// # Errors
/// [`Error::Unreachable`] for a refused address. A name that cannot be resolved passes,
/// because the mounter reports that error better.
pub async fn check(endpoint: &str) -> Result<(), Error> {
    let uri: Option<Uri> = endpoint.parse().ok();
    let Some(host) = uri.as_ref().and_then(Uri::host) else {
        return Ok(());
    };
    let host = host.trim_matches(['[', ']']);
    let Ok(mut found) = tokio::net::lookup_host((host, 0)).await else {
        return Ok(());
    };
    if found.any(|address| is_refused(address.ip())) {
        return Err(Error::Unreachable(format!(
            "{endpoint} has an address that is refused, because it holds no buckets"
        )));
    }
    Ok(())
}

fn is_refused(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_unspecified() || METADATA.contains(&v4),
        IpAddr::V6(v6) => v6.is_unicast_link_local() || v6.is_unspecified() || v6 == METADATA_V6,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn metadata_and_link_local_addresses_are_refused() {
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
