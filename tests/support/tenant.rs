//! A client of the tenant API that behaves like existing ones: a header names the sandbox,
//! bodies are JSON, and requests time out after 30 s.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::world::eventually;

/// A client for one sandbox.
#[derive(Clone)]
pub struct Tenant {
    http: reqwest::Client,
    url: String,
    id: String,
}

/// An answer: HTTP status and body.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub body: Value,
}

impl Answer {
    /// The `data` of an answer with status 200.
    pub fn ok(self) -> Value {
        assert_eq!(
            (self.status, &self.body["code"]),
            (200, &json!(200)),
            "{:#}",
            self.body
        );
        self.body["data"].clone()
    }

    /// The `data` of a failure with that status and any text.
    pub fn refused(self, status: u16) -> Value {
        let message = self.body["message"].as_str().unwrap_or_default().to_owned();
        assert!(!message.is_empty(), "{:#}", self.body);
        self.fails(status, &message)
    }

    /// The `data` of a failure with that status and message.
    pub fn fails(self, status: u16, message: &str) -> Value {
        assert_eq!(self.status, status, "{:#}", self.body);
        assert_eq!(self.body["code"], status, "{:#}", self.body);
        assert_eq!(self.body["message"], message, "{:#}", self.body);
        assert!(self.body["data"]["error"].is_string(), "{:#}", self.body);
        self.body["data"].clone()
    }
}

impl Tenant {
    /// A client of the facade at `url`.
    pub fn new(url: &str, id: &str) -> Self {
        let http = reqwest::Client::builder()
            .timeout(Duration::from_secs(30))
            .build()
            .unwrap();
        Self {
            http,
            url: url.to_owned(),
            id: id.to_owned(),
        }
    }

    /// The same client for another sandbox.
    pub fn about(&self, id: &str) -> Self {
        Self {
            id: id.to_owned(),
            ..self.clone()
        }
    }

    /// The URL of a path.
    pub fn address(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    /// Sends any request with any body.
    pub async fn send(&self, method: Method, path: &str, body: impl Into<reqwest::Body>) -> Answer {
        let response = self
            .http
            .request(method, self.address(path))
            .header(
                "x-sandbox-id",
                reqwest::header::HeaderValue::from_bytes(self.id.as_bytes()).unwrap(),
            )
            .header("content-type", "application/json")
            .body(body)
            .send()
            .await
            .unwrap_or_else(|error| panic!("{path}: {error:?}"));
        let kind = response.headers()["content-type"]
            .to_str()
            .unwrap()
            .to_owned();
        assert!(
            kind.starts_with("application/json"),
            "{path} answered {kind}"
        );
        let status = response.status().as_u16();
        let body = response
            .json()
            .await
            .unwrap_or_else(|error| panic!("{path}: {error:?}"));
        Answer { status, body }
    }

    /// POST of a JSON body.
    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.send(Method::POST, path, body.to_string()).await
    }

    /// `POST /lifecycle` without options.
    pub async fn create(&self) -> Answer {
        self.post("/lifecycle", json!({})).await
    }

    /// `DELETE /lifecycle`.
    pub async fn destroy(&self) -> Answer {
        self.send(Method::DELETE, "/lifecycle", "").await
    }

    /// The result of a command that was run, whatever its exit code.
    pub async fn run(&self, command: &str) -> Value {
        let answer = self.post("/exec", json!({"command": command})).await;
        assert_eq!(answer.status, 200, "{command}: {:#}", answer.body);
        answer.body["data"]["result"].clone()
    }

    /// The stdout of a command that succeeds.
    pub async fn stdout(&self, command: &str) -> String {
        let result = self.run(command).await;
        assert_eq!(result["exitCode"], 0, "{command}: {result:#}");
        result["stdout"].as_str().unwrap().to_owned()
    }

    /// GET with that query.
    pub async fn get(&self, path: &str, query: &[(&str, &str)]) -> Answer {
        self.send(Method::GET, &with_query(path, query), "").await
    }

    /// DELETE with that query.
    pub async fn delete(&self, path: &str, query: &[(&str, &str)]) -> Answer {
        self.send(Method::DELETE, &with_query(path, query), "")
            .await
    }

    /// `POST /session` of that id.
    pub async fn open(&self, session: &str) -> Answer {
        self.post("/session", json!({"id": session})).await
    }

    /// `DELETE /session` of that id.
    pub async fn close(&self, session: &str) -> Answer {
        self.delete("/session", &[("session_id", session)]).await
    }

    /// Ids of the sessions, in order.
    pub async fn sessions(&self) -> Vec<String> {
        let data = self.get("/api/session/list", &[]).await.ok();
        let mut ids: Vec<String> = serde_json::from_value(data).unwrap();
        ids.sort();
        ids
    }

    /// The answer to a command of a session.
    pub async fn exec_in(&self, session: &str, command: &str) -> Answer {
        let body = json!({"sessionId": session, "command": command});
        self.post("/session/exec", body).await
    }

    /// The result of a command of a session, whatever its exit code.
    pub async fn run_in(&self, session: &str, command: &str) -> Value {
        let answer = self.exec_in(session, command).await;
        assert_eq!(answer.status, 200, "{command}: {:#}", answer.body);
        answer.body["data"]["result"].clone()
    }

    /// The stdout of a command of a session that succeeds.
    pub async fn stdout_in(&self, session: &str, command: &str) -> String {
        let result = self.run_in(session, command).await;
        assert_eq!(result["exitCode"], 0, "{command}: {result:#}");
        result["stdout"].as_str().unwrap().to_owned()
    }

    /// Begins a command of a session. It runs when this returns. Before anything else, it
    /// creates `mark` (an absolute path).
    pub async fn begin_in(&self, session: &str, mark: &str, command: &str) -> JoinHandle<Answer> {
        let (tenant, session) = (self.clone(), session.to_owned());
        let command = format!("touch {mark}; {command}");
        let answer = tokio::spawn(async move { tenant.exec_in(&session, &command).await });
        self.until_exists(mark).await;
        answer
    }

    /// `POST /files/write` of a text.
    pub async fn write(&self, path: &str, content: &str) -> Answer {
        let body = json!({"path": path, "content": content});
        self.post("/files/write", body).await
    }

    /// The content of a file that is text.
    pub async fn text(&self, path: &str) -> String {
        let data = self.get("/files/read", &[("path", path)]).await.ok();
        assert_eq!(data["encoding"], "utf-8", "{path}");
        data["content"].as_str().unwrap().to_owned()
    }

    /// The answer of `/files/exists`.
    pub async fn exists(&self, path: &str) -> bool {
        let data = self.get("/files/exists", &[("path", path)]).await.ok();
        data["exists"].as_bool().unwrap()
    }

    /// Waits until the path exists.
    pub async fn until_exists(&self, path: &str) {
        let what = format!("{path} exists");
        eventually(&what, async || self.exists(path).await.then_some(())).await;
    }
}

/// A path with a query.
fn with_query(path: &str, query: &[(&str, &str)]) -> String {
    if query.is_empty() {
        return path.to_owned();
    }
    let query = form_urlencoded::Serializer::new(String::new())
        .extend_pairs(query)
        .finish();
    format!("{path}?{query}")
}
