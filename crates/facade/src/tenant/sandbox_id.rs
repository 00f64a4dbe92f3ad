//! The header that names a request's sandbox.

use axum::extract::FromRequestParts;
use axum::http::HeaderMap;
use axum::http::request::Parts;
use axum::response::Response;

use super::envelope::Data;

/// Longest id, in bytes.
const LONGEST: usize = 4096;

/// The id in `x-sandbox-id`, as the client wrote it.
///
/// Clients send any text: UTF-8 bytes are read as such, others as Latin-1,
/// which is what HTTP libraries make of such text.
pub struct SandboxId(pub String);

impl SandboxId {
    /// The id in these headers.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn of(headers: &HeaderMap) -> Result<Self, String> {
        let mut values = headers.get_all("x-sandbox-id").iter();
        let bytes = values.next().map_or(&b""[..], |value| value.as_bytes());
        if bytes.trim_ascii().is_empty() {
            return Err("Missing sandbox id. Provide x-sandbox-id header".to_owned());
        }
        if values.next().is_some() {
            return Err("More than one x-sandbox-id header".to_owned());
        }
        if bytes.len() > LONGEST {
            return Err(format!("The sandbox id is longer than {LONGEST} bytes"));
        }
        Ok(Self(match std::str::from_utf8(bytes) {
            Ok(text) => text.to_owned(),
            Err(_) => bytes.iter().map(|byte| char::from(*byte)).collect(),
        }))
    }
}

impl<S: Sync> FromRequestParts<S> for SandboxId {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Response> {
        Self::of(&parts.headers).map_err(|text| Data::default().fail(400, &text))
    }
}
