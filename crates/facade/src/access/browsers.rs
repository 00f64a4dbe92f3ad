//! Requests that a web page makes a browser send. No client of ours is a page of
//! another site: such a request would act with the credentials that the browser
//! remembers, or on a facade that asks for none.

use axum::http::HeaderMap;
use axum::http::header::{HOST, ORIGIN};
use axum::http::uri::Authority;

/// What a browser says of where a request comes from
/// (<https://www.w3.org/TR/fetch-metadata/#sec-fetch-site-header>).
const SITE: &str = "sec-fetch-site";

/// Why a request is taken for a page's; `None` where it is not. A facade that lets
/// everybody in (`open`) has to be called by a name of this machine, too: a name of
/// somebody else's may lead here as well.
pub fn foreign(headers: &HeaderMap, open: bool) -> Option<&'static str> {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let host = headers.get(HOST).map(|value| value.to_str().unwrap_or("?"));
    if open && host.is_some_and(|host| !is_local(host)) {
        return Some("without authentication only localhost and loopback addresses are served");
    }
    let elsewhere = match (text(SITE), headers.get(ORIGIN)) {
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

    fn told(headers: &[(&'static str, &str)], open: bool) -> bool {
        let headers = headers.iter().map(|(name, value)| {
            let name = axum::http::HeaderName::from_static(name);
            (name, value.parse().unwrap())
        });
        foreign(&headers.collect(), open).is_some()
    }

    #[test]
    fn programs_and_pages_of_the_facades_own_are_served() {
        for headers in [
            &[][..],
            &[("host", "sandboxes.example.com")],
            &[("host", "a:8787"), ("origin", "https://a:8787")],
            &[("host", "a"), ("sec-fetch-site", "same-origin")],
            &[("host", "a"), ("sec-fetch-site", "none")],
        ] {
            assert!(!told(headers, false), "{headers:?}");
        }
    }

    #[test]
    fn pages_of_other_sites_are_not() {
        for headers in [
            &[("host", "a"), ("sec-fetch-site", "cross-site")][..],
            &[("host", "a"), ("sec-fetch-site", "same-site")],
            &[("host", "a"), ("origin", "https://b")],
            &[("host", "a"), ("origin", "null")],
        ] {
            assert!(told(headers, false), "{headers:?}");
        }
    }

    #[test]
    fn an_open_facade_is_called_by_a_name_of_this_machine() {
        for host in ["localhost:8787", "LOCALHOST", "127.0.0.1:1", "[::1]:8787"] {
            assert!(!told(&[("host", host)], true), "{host}");
        }
        assert!(!told(&[], true));
        for host in [
            "rebound.example.com",
            "localhost.example.com",
            "10.0.0.1",
            "@",
        ] {
            assert!(told(&[("host", host)], true), "{host}");
        }
    }
}
