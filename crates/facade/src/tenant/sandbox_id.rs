//! The header `x-sandbox-id`.

use axum::extract::FromRequestParts;
use axum::http::HeaderMap;
use axum::http::request::Parts;
use axum::response::Response;

use super::envelope::Data;

const MAX_SANDBOX_ID_BYTES: usize = 4096;

/// The sandbox ID as the client sent it.
///
/// It may be any text. Bytes that are not UTF-8 are read as Latin-1, in which HTTP
/// libraries encode header values.
pub struct SandboxId(pub String);

impl SandboxId {
    /// Reads the ID from the headers.
    ///
    /// # Errors
    /// The text for the client if the header is missing, repeated or too long.
    pub fn of(headers: &HeaderMap) -> Result<Self, String> {
        let mut values = headers.get_all("x-sandbox-id").iter();
        let bytes = values.next().map_or(&b""[..], |value| value.as_bytes());
        if bytes.trim_ascii().is_empty() {
            return Err("Missing sandbox id. Provide x-sandbox-id header".to_owned());
        }
        if values.next().is_some() {
            return Err("More than one x-sandbox-id header".to_owned());
        }
        if bytes.len() > MAX_SANDBOX_ID_BYTES {
            return Err(format!(
                "The sandbox id is longer than {MAX_SANDBOX_ID_BYTES} bytes"
            ));
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
