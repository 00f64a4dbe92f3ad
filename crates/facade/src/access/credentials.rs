//! The credential that a request presents: a bearer token, or the user information
//! of its URL, which HTTP libraries send as Basic (RFC 7617). Existing clients can
//! be given nothing but a URL, so a key may stand as user name or as password.

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use hutch_core::access::Key;

/// The one credential of a request; none where there is none that can be read, or
/// more than one.
pub fn presented(headers: &HeaderMap) -> Option<String> {
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

/// The key among user name and password, else the password, else the user name.
fn user_information(encoded: &str) -> Option<String> {
    let decoded = STANDARD.decode(encoded).ok()?;
    let decoded = String::from_utf8(decoded).ok()?;
    let (user, password) = decoded.split_once(':')?;
    let user_counts = Key::parse(user).is_some() && Key::parse(password).is_none();
    Some(if user_counts || password.is_empty() {
        user.to_owned()
    } else {
        password.to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use hutch_core::access::RANDOM;

    fn of(values: &[&str]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, value.parse().unwrap());
        }
        presented(&headers)
    }

    fn basic(text: &str) -> String {
        format!("Basic {}", STANDARD.encode(text))
    }

    #[test]
    fn a_credential_is_a_bearer_token_or_user_information() {
        let key = Key::of(&[7; RANDOM]);
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
    fn what_cannot_be_read_is_no_credential() {
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
