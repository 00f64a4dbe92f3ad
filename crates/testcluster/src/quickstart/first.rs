//! The first sandbox, created and used over REST like any client does.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use serde_json::{Value, json};
use ureq::Agent;

use super::operator::Operator;
use crate::progress::Task;

/// The first sandbox's ID.
pub(super) const ID: &str = "first";
/// The command that runs in it.
pub(super) const COMMAND: &str = "python3 -c 'print(2+2)'";
/// How long the sandbox may take to become ready. The first image pull can be slow.
const READY_TIMEOUT: Duration = Duration::from_secs(240);

/// A client for services on this machine, so it uses no proxy.
pub(super) fn client() -> Agent {
    Agent::config_builder()
        .timeout_global(Some(Duration::from_secs(60)))
        .http_status_as_error(false)
        .proxy(None)
        .build()
        .into()
}

/// Creates the sandbox if it does not exist, and returns the output of the command.
pub(super) fn ask(operator: &Operator, task: &Task) -> Result<String> {
    create(operator, task)?;
    let (status, answer) = post(operator, "/exec", &json!({"command": COMMAND}))?;
    let result = &answer["data"]["result"];
    if status != 200 || result["exitCode"] != 0 {
        bail!("`{COMMAND}` was answered with {status}: {answer}");
    }
    Ok(result["stdout"].as_str().unwrap_or_default().to_owned())
}

/// The facade answers within 25 s, also if the sandbox is not ready. Then this asks again.
fn create(operator: &Operator, task: &Task) -> Result<()> {
    let deadline = Instant::now() + READY_TIMEOUT;
    loop {
        let (status, answer) = post(operator, "/lifecycle", &json!({"options": null}))?;
        if status == 200 {
            return Ok(());
        }
        let why = answer["message"].as_str().unwrap_or_default().to_owned();
        if !why.contains("is not ready after") || Instant::now() > deadline {
            bail!("POST /lifecycle was answered with {status}: {why}");
        }
        task.still(&why);
    }
}

fn post(operator: &Operator, path: &str, body: &Value) -> Result<(u16, Value)> {
    let url = format!("{}{path}", operator.url());
    let mut answer = client()
        .post(url)
        .header("x-sandbox-id", ID)
        .send_json(body)?;
    Ok((answer.status().as_u16(), answer.body_mut().read_json()?))
}
