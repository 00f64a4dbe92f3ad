//! API keys as an administrator creates them, and a client that presents them.

use std::process::Command;

use reqwest::header::HeaderMap;
use serde_json::Value;

use super::World;
use super::world::{eventually, http};

/// The answer to a request.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Value,
}

impl World {
    /// Runs `hutch keys` for the Secret of this namespace. Returns its standard output or
    /// its error.
    pub fn hutch_keys(&self, arguments: &[&str]) -> Result<String, String> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hutch"));
        command.args(["keys", "--operator-namespace", &self.namespace]);
        command.args(arguments);
        command.env("KUBECONFIG", &self.environment.kubeconfig);
        let output = command.output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        match output.status.success() {
            true => Ok(text(&output.stdout)),
            false => Err(text(&output.stderr)),
        }
    }

    /// Creates a key of that tenant.
    pub fn key(&self, tenant: &str, namespace: &str, more: &[&str]) -> String {
        let create = ["create", tenant, "--namespace", namespace];
        let made = self.hutch_keys(&[&create, more].concat());
        made.unwrap().trim_end().to_owned()
    }

    /// Creates a key, and waits until the facade at `url` knows it.
    pub async fn live_key(&self, url: &str, tenant: &str, ns: &str, more: &[&str]) -> String {
        let key = self.key(tenant, ns, more);
        eventually("the key is known", async || {
            (knock_with(url, &key).await != 401).then_some(())
        })
        .await;
        key
    }

    /// Creates a key for both contracts, for the tenant `acme`.
    pub async fn live_key_to_all(&self, url: &str) -> String {
        let scopes = ["--scope", "tenant,project"];
        self.live_key(url, "acme", &self.namespace, &scopes).await
    }
}

/// The public part of a key.
pub fn id(key: &str) -> &str {
    key.split('_').nth(1).unwrap()
}

/// The secret part of a key.
pub fn secret(key: &str) -> &str {
    key.split('_').nth(2).unwrap()
}

/// The URL with that user information.
pub fn with_user(url: &str, user: &str) -> String {
    url.replacen("://", &format!("://{user}@"), 1)
}

/// GET with these headers.
pub async fn get(url: &str, headers: &[(&str, &str)]) -> Reply {
    let mut request = http().get(url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = request.send().await.unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let body = response.json().await.unwrap();
    Reply {
        status,
        headers,
        body,
    }
}

/// GET of a path of the tenant contract that needs no sandbox.
pub async fn knock(url: &str, headers: &[(&str, &str)]) -> Reply {
    let named = [&[("x-sandbox-id", "any")], headers].concat();
    get(&format!("{url}/nowhere"), &named).await
}

/// The same with a bearer token. Returns the status.
pub async fn knock_with(url: &str, token: &str) -> u16 {
    let bearer = format!("Bearer {token}");
    knock(url, &[("authorization", &bearer)]).await.status
}
