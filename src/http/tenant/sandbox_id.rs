//! The header that names a request's sandbox.

use axum::extract::FromRequestParts;
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

impl<S: Sync> FromRequestParts<S> for SandboxId {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Response> {
        let mut values = parts.headers.get_all("x-sandbox-id").iter();
        let bytes = values.next().map_or(&b""[..], |value| value.as_bytes());
        if bytes.trim_ascii().is_empty() {
            return Err(
                Data::default().fail(400, "Missing sandbox id. Provide x-sandbox-id header")
            );
        }
        if values.next().is_some() {
            return Err(Data::default().fail(400, "More than one x-sandbox-id header"));
        }
        if bytes.len() > LONGEST {
            let text = format!("The sandbox id is longer than {LONGEST} bytes");
            return Err(Data::default().fail(400, &text));
        }
        Ok(Self(match std::str::from_utf8(bytes) {
            Ok(text) => text.to_owned(),
            Err(_) => bytes.iter().map(|byte| char::from(*byte)).collect(),
        }))
    }
}
