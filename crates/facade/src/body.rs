//! Request bodies and queries as both contracts see them. A body is a JSON
//! object, or as good as an empty one.

use serde_json::{Map, Value};

/// The fields of a request body.
#[derive(Debug, Default)]
pub struct Fields(Map<String, Value>);

impl Fields {
    /// The body as an object; anything that is not one counts as empty.
    pub fn read(body: &[u8]) -> Self {
        match serde_json::from_slice(body) {
            Ok(Value::Object(fields)) => Self(fields),
            _ => Self::default(),
        }
    }

    /// Whether there is no field.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The field, unless it is missing or null.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    /// Takes the field out, whose value may be large.
    pub fn take(&mut self, name: &str) -> Option<Value> {
        self.0.remove(name)
    }

    /// The fields of an object in a field; empty where there is none.
    pub fn object(&self, name: &str) -> Self {
        match self.get(name) {
            Some(Value::Object(fields)) => Self(fields.clone()),
            _ => Self::default(),
        }
    }

    /// The fields as they came, but one.
    pub fn without(&self, name: &str) -> Map<String, Value> {
        let mut fields = self.0.clone();
        fields.remove(name);
        fields
    }

    /// A string that names a command or a path: trimmed, and `None` where it is
    /// blank or no string.
    pub fn name(&self, name: &str) -> Option<&str> {
        trimmed(self.get(name)?.as_str()?)
    }
}

/// The parameters of a request's query.
#[derive(Debug, Default)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// The parameters in the part of the URL after `?`.
    pub fn read(query: &str) -> Self {
        let pairs = form_urlencoded::parse(query.as_bytes());
        Self(pairs.into_owned().collect())
    }

    /// The first parameter of that name, as [`Fields::name`] reads it.
    pub fn name(&self, name: &str) -> Option<&str> {
        trimmed(self.text(name)?)
    }

    /// The first parameter of that name, as it is; none where it is empty.
    pub fn text(&self, name: &str) -> Option<&str> {
        let (_, value) = self.0.iter().find(|(other, _)| other == name)?;
        (!value.is_empty()).then_some(value)
    }
}

fn trimmed(text: &str) -> Option<&str> {
    let text = text.trim();
    (!text.is_empty()).then_some(text)
}
