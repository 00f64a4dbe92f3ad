//! A client of the project API. Bodies name a conversation. A success is 200 with `status:
//! ok`. Everything else is a failure with a text.

use std::fmt::Write;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use reqwest::Method;
use serde_json::{Value, json};

use super::{Hutch, World};

/// Less than the real client waits, and more than any request of the tests takes.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(90);

/// A client for one conversation.
#[derive(Clone)]
pub struct Backend {
    http: reqwest::Client,
    url: String,
    conversation: String,
}

/// An answer: HTTP status and body.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub body: Value,
}

impl Reply {
    /// The body of a success.
    pub fn ok(self) -> Value {
        assert_eq!(
            (self.status, &self.body["status"]),
            (200, &json!("ok")),
            "{:#}",
            self.body
        );
        assert!(self.body.get("error").is_none(), "{:#}", self.body);
        self.body
    }

    /// The text of a failure with that status.
    pub fn fails(self, status: u16) -> String {
        assert_eq!(self.status, status, "{:#}", self.body);
        assert!(self.body.get("status").is_none(), "{:#}", self.body);
        let text = self.body["error"].as_str().unwrap_or_default();
        assert!(!text.trim().is_empty(), "{:#}", self.body);
        text.to_owned()
    }
}

impl Backend {
    /// A client of the facade at `url`.
    pub fn new(url: &str, conversation: &str) -> Self {
        let http = reqwest::Client::builder()
            .timeout(REQUEST_TIMEOUT)
            .build()
            .unwrap();
        Self {
            http,
            url: url.to_owned(),
            conversation: conversation.to_owned(),
        }
    }

    /// The same client for another conversation.
    pub fn about(&self, conversation: &str) -> Self {
        Self {
            conversation: conversation.to_owned(),
            ..self.clone()
        }
    }

    /// The URL of a path.
    pub fn address(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    /// Sends any request with any body. The answer has to be JSON.
    pub async fn send(&self, method: Method, path: &str, body: impl Into<reqwest::Body>) -> Reply {
        let what = format!("{method} {path}");
        let request = self.http.request(method, self.address(path));
        let request = request
            .header("content-type", "application/json")
            .body(body);
        let response = request
            .send()
            .await
            .unwrap_or_else(|error| panic!("{what}: {error:?}"));
        let status = response.status().as_u16();
        let text = response
            .text()
            .await
            .unwrap_or_else(|error| panic!("{what}: {error:?}"));
        let body = serde_json::from_str(&text)
            .unwrap_or_else(|error| panic!("{what} answered {status} {text:?}: {error}"));
        Reply { status, body }
    }

    /// POST of a JSON body without changes.
    pub async fn post(&self, path: &str, body: Value) -> Reply {
        self.send(Method::POST, path, body.to_string()).await
    }

    /// POST of these fields and the conversation.
    pub async fn call(&self, path: &str, mut fields: Value) -> Reply {
        fields["session_id"] = self.conversation.clone().into();
        self.post(path, fields).await
    }

    /// GET with that query.
    pub async fn get(&self, path: &str, query: &[(&str, &str)]) -> Reply {
        let query = form_urlencoded::Serializer::new(String::new())
            .extend_pairs(query)
            .finish();
        let mark = if query.is_empty() { "" } else { "?" };
        self.send(Method::GET, &format!("{path}{mark}{query}"), "")
            .await
    }

    /// DELETE of a path.
    pub async fn delete(&self, path: &str) -> Reply {
        self.send(Method::DELETE, path, "").await
    }

    /// `DELETE /session/<id>` of the conversation: the message.
    pub async fn end(&self) -> String {
        let path = format!("/session/{}", percent_encoded(&self.conversation));
        let body = self.delete(&path).await.ok();
        body["message"].as_str().unwrap().to_owned()
    }

    /// The result of bash code, whatever its exit code.
    pub async fn run(&self, command: &str) -> Value {
        self.call("/execute", json!({"command": command}))
            .await
            .ok()
    }

    /// The result of code in that language, whatever its exit code.
    pub async fn run_in(&self, language: &str, command: &str) -> Value {
        let fields = json!({"command": command, "language": language});
        self.call("/execute", fields).await.ok()
    }

    /// The stdout of bash code that succeeds.
    pub async fn stdout(&self, command: &str) -> String {
        succeeded(command, &self.run(command).await)
    }

    /// The stdout of Python code that succeeds.
    pub async fn python(&self, code: &str) -> String {
        succeeded(code, &self.run_in("python", code).await)
    }

    /// `POST /file/write` of a text.
    pub async fn write(&self, path: &str, content: &str) -> Reply {
        let fields = json!({"file_path": path, "content": content});
        self.call("/file/write", fields).await
    }

    /// `POST /file/read`.
    pub async fn read(&self, path: &str) -> Reply {
        self.call("/file/read", json!({"file_path": path})).await
    }

    /// The content of an existing file.
    pub async fn text(&self, path: &str) -> String {
        let body = self.read(path).await.ok();
        body["content"].as_str().unwrap().to_owned()
    }

    /// Ids in `/sessions`, in order.
    pub async fn sessions(&self) -> Vec<String> {
        let body = self.get("/sessions", &[]).await;
        assert_eq!(body.status, 200, "{body:#?}");
        let mut ids: Vec<String> = serde_json::from_value(body.body["sessions"].clone()).unwrap();
        assert_eq!(body.body["count"], ids.len(), "{body:#?}");
        ids.sort();
        ids
    }
}

impl World {
    /// Starts `hutch run` in this namespace, and a client for that conversation.
    pub async fn with_backend(&self, conversation: &str, arguments: &[&str]) -> (Hutch, Backend) {
        let hutch = self.facade(arguments).await;
        let backend = Backend::new(&hutch.url().await, conversation);
        (hutch, backend)
    }

    /// The same with sandboxes that have Node.js, Go, Ruby, tsc and pyflakes.
    pub async fn with_languages(&self, conversation: &str) -> (Hutch, Backend) {
        let image = tokio::task::block_in_place(|| self.environment.languages());
        let arguments = ["--default-image", image];
        self.with_backend(conversation, &arguments).await
    }

    /// The pods of this namespace that are not being deleted.
    pub async fn live_pods(&self) -> Vec<Pod> {
        let mut pods = self
            .pods()
            .list(&ListParams::default())
            .await
            .unwrap()
            .items;
        pods.retain(|pod| pod.metadata.deletion_timestamp.is_none());
        pods
    }

    /// The number of sandboxes.
    pub async fn count(&self) -> usize {
        let all = self.sandboxes().list(&ListParams::default()).await;
        all.unwrap().items.len()
    }
}

/// Encodes any text as one part of a URL's path.
pub fn percent_encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() {
            encoded.push(char::from(byte));
        } else {
            write!(encoded, "%{byte:02X}").unwrap();
        }
        encoded
    })
}

fn succeeded(code: &str, result: &Value) -> String {
    assert_eq!(result["exit_code"], 0, "{code}: {result:#}");
    result["stdout"].as_str().unwrap().to_owned()
}
