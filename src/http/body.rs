//! Request bodies as both contracts see them: a JSON object, or as good as an
//! empty one.

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::http::StatusCode;
use serde_json::{Map, Value};

/// The fields of a request body.
#[derive(Debug, Default)]
pub struct Fields(Map<String, Value>);

impl Fields {
    /// The body as an object; anything that is not one counts as empty.
    ///
    /// # Errors
    /// With the status to answer, when the body is too large or broke off.
    pub fn read(body: Result<Bytes, BytesRejection>) -> Result<Self, StatusCode> {
        let bytes = body.map_err(|rejection| rejection.status())?;
        match serde_json::from_slice(&bytes) {
            Ok(Value::Object(fields)) => Ok(Self(fields)),
            _ => Ok(Self::default()),
        }
    }

    /// The field, unless it is missing or null.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    /// The fields of an object in a field; empty where there is none.
    pub fn object(&self, name: &str) -> Self {
        match self.get(name) {
            Some(Value::Object(fields)) => Self(fields.clone()),
            _ => Self::default(),
        }
    }

    /// A string that names a command or a path: trimmed, and `None` where it is
    /// blank or no string.
    pub fn name(&self, name: &str) -> Option<&str> {
        let text = self.get(name)?.as_str()?.trim();
        (!text.is_empty()).then_some(text)
    }
}
