//! The environment of new processes: the agent's own (which is the container's) plus a
//! command's variables.

use std::collections::HashMap;
use std::ffi::CString;
use std::os::unix::ffi::OsStringExt;

/// The search path if there is no `PATH`.
const DEFAULT_PATH: &[u8] = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Variables in the form of `execve`.
#[derive(Debug, Clone)]
pub struct Environment {
    variables: Vec<CString>,
}

impl Environment {
    /// The agent's own environment. It never changes.
    pub fn of_the_agent() -> Self {
        let variables = std::env::vars_os()
            .filter_map(|(name, value)| {
                let mut variable = name.into_vec();
                variable.push(b'=');
                variable.extend(value.into_vec());
                CString::new(variable).ok()
            })
            .collect();
        Self { variables }
    }

    /// Returns a copy with `more` added or replaced. Variables with a NUL are left out;
    /// the caller has refused them before.
    pub fn with(&self, more: &HashMap<String, String>) -> Self {
        let kept = self.variables.iter().filter(|variable| {
            let name = variable
                .to_bytes()
                .split(|byte| *byte == b'=')
                .next()
                .unwrap_or_default();
            std::str::from_utf8(name).map_or(true, |name| !more.contains_key(name))
        });
        let added = more
            .iter()
            .filter_map(|(name, value)| CString::new(format!("{name}={value}")).ok());
        Self {
            variables: kept.cloned().chain(added).collect(),
        }
    }

    /// Returns a copy without these names.
    pub fn without(&self, names: &[&str]) -> Self {
        let kept = self.variables.iter().filter(|variable| {
            let (name, _) = split(variable.to_bytes());
            !names.iter().any(|other| other.as_bytes() == name)
        });
        Self {
            variables: kept.cloned().collect(),
        }
    }

    /// The names that are valid shell variables.
    pub fn names(&self) -> Vec<&str> {
        let plain = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
        self.variables
            .iter()
            .map(|variable| split(variable.to_bytes()).0)
            .filter(|name| name.iter().all(plain))
            .filter(|name| name.first().is_some_and(|head| !head.is_ascii_digit()))
            .filter_map(|name| std::str::from_utf8(name).ok())
            .collect()
    }

    /// The value of a variable.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.variables
            .iter()
            .map(|variable| split(variable.to_bytes()))
            .find_map(|(other, value)| (other == name.as_bytes()).then_some(value))
    }

    pub fn variables(&self) -> &[CString] {
        &self.variables
    }

    /// `PATH`, or a default if it is not set.
    pub fn path(&self) -> &[u8] {
        self.variables
            .iter()
            .find_map(|variable| variable.to_bytes().strip_prefix(b"PATH="))
            .unwrap_or(DEFAULT_PATH)
    }
}

fn split(variable: &[u8]) -> (&[u8], &[u8]) {
    match variable.iter().position(|byte| *byte == b'=') {
        Some(place) => (&variable[..place], &variable[place + 1..]),
        None => (variable, b""),
    }
}
