//! Heads that two readers could read in two ways: a proxy in front and the facade
//! would not mean the same request, or the same sandbox.

use axum::http::HeaderMap;
use axum::http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};

/// Why a request's head could be read in two ways, if it could.
pub fn ambiguous(headers: &HeaderMap) -> Option<&'static str> {
    let twice = |name: &str| headers.get_all(name).iter().nth(1).is_some();
    if twice(HOST.as_str()) {
        Some("More than one Host header")
    } else if twice("x-sandbox-id") {
        Some("More than one x-sandbox-id header")
    } else if headers.contains_key(CONTENT_LENGTH) && headers.contains_key(TRANSFER_ENCODING) {
        Some("Content-Length and Transfer-Encoding exclude each other")
    } else {
        None
    }
}
