//! Protection against cross-site requests. A page of another site can make a browser
//! send requests, with the credentials that the browser remembers, or to a facade that
//! needs none. No supported client is such a page, so these requests are refused.

use axum::http::HeaderMap;
use axum::http::header::{HOST, ORIGIN};
use axum::http::uri::Authority;

/// A browser describes the origin of a request in this header
/// (<https://www.w3.org/TR/fetch-metadata/#sec-fetch-site-header>).
const SEC_FETCH_SITE: &str = "sec-fetch-site";

/// Why the request is refused as cross-site; `None` if it is not. An `open` facade, which
/// needs no credential, also refuses host names other than those of this machine: an
/// attacker's name can resolve to this address (DNS rebinding).
pub fn cross_site(headers: &HeaderMap, open: bool) -> Option<&'static str> {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let host = headers.get(HOST).map(|value| value.to_str().unwrap_or("?"));
    if open && host.is_some_and(|host| !is_local(host)) {
        return Some("without authentication only localhost and loopback addresses are served");
    }
    let elsewhere = match (text(SEC_FETCH_SITE), headers.get(ORIGIN)) {
        (Some(site), _) => !matches!(site, "same-origin" | "none"),
        (None, Some(origin)) => {
            let origin = origin.to_str().ok();
            let authority = origin.and_then(|origin| origin.split_once("://"));
            authority.map(|(_, authority)| authority) != host
        }
        (None, None) => false,
    };
    elsewhere.then_some("web pages of other sites are not served")
}

fn is_local(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else {
        return false;
    };
    let name = authority
        .host()
        .trim_start_matches('[')
        .trim_end_matches(']');
    let loopback = |address: std::net::IpAddr| address.is_loopback();
    let named = name.eq_ignore_ascii_case("localhost");
    named || name.parse().is_ok_and(loopback)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(headers: &[(&'static str, &str)], open: bool) -> bool {
        let headers = headers.iter().map(|(name, value)| {
            let name = axum::http::HeaderName::from_static(name);
            (name, value.parse().unwrap())
        });
        cross_site(&headers.collect(), open).is_some()
    }

    #[test]
    fn programs_and_same_origin_pages_are_served() {
        for headers in [
            &[][..],
            &[("host", "sandboxes.example.com")],
            &[("host", "a:8787"), ("origin", "https://a:8787")],
            &[("host", "a"), ("sec-fetch-site", "same-origin")],
            &[("host", "a"), ("sec-fetch-site", "none")],
        ] {
            assert!(!refused(headers, false), "{headers:?}");
        }
    }

    #[test]
    fn pages_of_other_sites_are_refused() {
        for headers in [
            &[("host", "a"), ("sec-fetch-site", "cross-site")][..],
            &[("host", "a"), ("sec-fetch-site", "same-site")],
            &[("host", "a"), ("origin", "https://b")],
            &[("host", "a"), ("origin", "null")],
        ] {
            assert!(refused(headers, false), "{headers:?}");
        }
    }

    #[test]
    fn an_open_facade_serves_only_names_of_this_machine() {
        for host in ["localhost:8787", "LOCALHOST", "127.0.0.1:1", "[::1]:8787"] {
            assert!(!refused(&[("host", host)], true), "{host}");
        }
        assert!(!refused(&[], true));
        for host in [
            "rebound.example.com",
            "localhost.example.com",
            "10.0.0.1",
            "@",
        ] {
            assert!(refused(&[("host", host)], true), "{host}");
        }
    }
}
