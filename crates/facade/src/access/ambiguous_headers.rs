//! Headers that two readers can understand in two ways. A proxy in front of the facade
//! could see another request, or another sandbox, than the facade does.

use axum::http::HeaderMap;
use axum::http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};

/// Why `headers` are ambiguous, if they are.
pub fn ambiguous_headers(headers: &HeaderMap) -> Option<&'static str> {
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
