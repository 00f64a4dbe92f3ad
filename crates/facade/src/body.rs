//! Request bodies and queries of both contracts. A body that is not a JSON object
//! counts as an empty one.

use serde_json::{Map, Value};

/// The fields of a request body, or of an object in it.
#[derive(Debug, Default)]
pub struct Fields(Map<String, Value>);

impl Fields {
    /// Parses a body. The result is empty if the body is not a JSON object.
    pub fn read(body: &[u8]) -> Self {
        match serde_json::from_slice(body) {
            Ok(Value::Object(fields)) => Self(fields),
            _ => Self::default(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value of a field; `None` if it is missing or null.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    /// Removes a field and returns its value without a copy, as it may be large.
    pub fn take(&mut self, name: &str) -> Option<Value> {
        self.0.remove(name)
    }

    /// The fields of the object in a field; empty if the field is no object.
    pub fn object(&self, name: &str) -> Self {
        match self.get(name) {
            Some(Value::Object(fields)) => Self(fields.clone()),
            _ => Self::default(),
        }
    }

    /// All fields but one, unchanged.
    pub fn without(&self, name: &str) -> Map<String, Value> {
        let mut fields = self.0.clone();
        fields.remove(name);
        fields
    }

    /// A string that names a command or a path. It is trimmed; `None` if it is blank or
    /// no string.
    pub fn name(&self, name: &str) -> Option<&str> {
        trimmed(self.get(name)?.as_str()?)
    }
}

/// The parameters of a request's query, decoded.
#[derive(Debug, Default)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Parses the part of the URL after `?`.
    pub fn read(query: &str) -> Self {
        let pairs = form_urlencoded::parse(query.as_bytes());
        Self(pairs.into_owned().collect())
    }

    /// The first parameter with this name, trimmed; `None` if it is blank.
    pub fn name(&self, name: &str) -> Option<&str> {
        trimmed(self.text(name)?)
    }

    /// The first parameter with this name, not trimmed; `None` if it is empty.
    pub fn text(&self, name: &str) -> Option<&str> {
        let (_, value) = self.0.iter().find(|(other, _)| other == name)?;
        (!value.is_empty()).then_some(value)
    }
}

fn trimmed(text: &str) -> Option<&str> {
    let text = text.trim();
    (!text.is_empty()).then_some(text)
}
