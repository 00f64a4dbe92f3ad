//! The credential of a request: a bearer token, or the user information of its URL,
//! which HTTP libraries send as Basic (RFC 7617). Existing clients have no setting but a
//! URL, so an API key may be its user name or its password.

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use hutch_core::access::ApiKey;

/// The credential of a request; `None` if it is missing or cannot be parsed, or if there
/// is more than one.
pub fn credential_from_headers(headers: &HeaderMap) -> Option<String> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = values.next()?.to_str().ok()?;
    if values.next().is_some() {
        return None;
    }
    let (scheme, rest) = value.trim().split_once(' ')?;
    let credential = match scheme.to_ascii_lowercase().as_str() {
        "bearer" => rest.trim().to_owned(),
        "basic" => user_information(rest.trim())?,
        _ => return None,
    };
    (!credential.is_empty()).then_some(credential)
}

/// The user name if it alone is an API key, or if the password is empty; otherwise the
/// password.
fn user_information(encoded: &str) -> Option<String> {
    let decoded = STANDARD.decode(encoded).ok()?;
    let decoded = String::from_utf8(decoded).ok()?;
    let (user, password) = decoded.split_once(':')?;
    let is_user = ApiKey::parse(user).is_some() && ApiKey::parse(password).is_none();
    Some(if is_user || password.is_empty() {
        user.to_owned()
    } else {
        password.to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use hutch_core::access::RANDOM_BYTES;

    fn of(values: &[&str]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, value.parse().unwrap());
        }
        credential_from_headers(&headers)
    }

    fn basic(text: &str) -> String {
        format!("Basic {}", STANDARD.encode(text))
    }

    #[test]
    fn a_credential_is_a_bearer_token_or_user_information() {
        let key = ApiKey::from_random(&[7; RANDOM_BYTES]);
        let key = key.reveal();
        let same = Some(key.to_owned());
        assert_eq!(of(&[&format!("Bearer {key}")]), same);
        assert_eq!(of(&[&format!("bearer   {key} ")]), same);
        assert_eq!(of(&[&basic(&format!("tenant:{key}"))]), same);
        assert_eq!(of(&[&basic(&format!("{key}:"))]), same);
        assert_eq!(of(&[&basic(&format!("{key}:x"))]), same);
        assert_eq!(of(&[&basic(&format!(":{key}"))]), same);
        assert_eq!(of(&[&basic("any:a.b.c")]), Some("a.b.c".to_owned()));
        assert_eq!(of(&[&basic("a:b:c")]), Some("b:c".to_owned()));
    }

    #[test]
    fn malformed_headers_have_no_credential() {
        for none in ["", "Bearer", "Bearer ", "Basic", "Basic !", "Digest x", "x"] {
            assert_eq!(of(&[none]), None, "{none}");
        }
        assert_eq!(of(&[]), None);
        assert_eq!(of(&["Bearer a", "Bearer a"]), None);
        assert_eq!(of(&[&basic("no colon")]), None);
        assert_eq!(of(&[&basic(":")]), None);
        assert_eq!(of(&["Basic /w=="]), None);
    }
}
