//! `/diagnostic` and `/lsp/diagnostics`: the findings of the image's checkers.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use serde_json::{Value, json};

use super::answer;
use super::call::Call;
use hutch_service::{Diagnosis, Finding, Service, ServiceError};

/// `POST /diagnostic`: all findings in one list.
pub async fn flat(State(service): State<Arc<Service>>, call: Call) -> Response {
    match find(&service, &call).await {
        Ok((found, _)) => {
            answer::ok(json!({"diagnostics": with_files(&found.files, &found.others)}))
        }
        Err(response) => response,
    }
}

/// `POST /lsp/diagnostics`: findings by file, in the format of the Language Server
/// Protocol.
pub async fn lsp(State(service): State<Arc<Service>>, call: Call) -> Response {
    let (found, of_project) = match find(&service, &call).await {
        Ok(found) => found,
        Err(response) => return response,
    };
    let of_file = |(path, findings): &(String, Vec<Finding>)| {
        let findings: Vec<_> = findings.iter().map(diagnostic).collect();
        json!({"file_path": path, "diagnostics": findings})
    };
    let files: Vec<_> = found.files.iter().map(of_file).collect();
    // A client that asked about one file gets its findings only under `file_diagnostics`.
    let listed: &[_] = if of_project { &found.files } else { &[] };
    let project = with_files(listed, &found.others);
    answer::ok(json!({"file_diagnostics": files, "project_diagnostics": project}))
}

/// The findings, and true if the request asks about the whole project.
async fn find(service: &Service, call: &Call) -> Result<(Diagnosis, bool), Response> {
    let Some(conversation) = call.conversation() else {
        return Err(answer::error(400, "session_id is required"));
    };
    let file = call.text("file_path");
    if file.is_some_and(|file| file.contains('\0')) {
        return Err(answer::error(400, "file_path contains a NUL"));
    }
    let place = service.projects.conversation(conversation).await;
    let toolchains = &service.toolchains;
    let failed = |error: ServiceError| answer::failure(&error);
    let files = match file {
        Some(file) => vec![file.to_owned()],
        None => toolchains.sources(&place).await.map_err(failed)?,
    };
    let found = toolchains.diagnose(&place, &files).await.map_err(failed)?;
    Ok((found, file.is_none()))
}

/// Findings as one list, each with its file.
fn with_files(files: &[(String, Vec<Finding>)], others: &[Finding]) -> Vec<Value> {
    let with_file = |path: &str, finding: &Finding| {
        let mut diagnostic = diagnostic(finding);
        diagnostic["file_path"] = path.into();
        diagnostic
    };
    files
        .iter()
        .flat_map(|(path, findings)| findings.iter().map(move |finding| with_file(path, finding)))
        .chain(others.iter().map(|it| with_file(&it.path, it)))
        .collect()
}

/// A `Diagnostic` of the Language Server Protocol.
fn diagnostic(finding: &Finding) -> Value {
    let at = |character: u32| json!({"line": finding.line, "character": character});
    let mut diagnostic = json!({
        "range": {"start": at(finding.column), "end": at(finding.end)},
        "severity": finding.severity,
        "source": finding.source,
        "message": finding.message,
    });
    if let Some(code) = &finding.code {
        diagnostic["code"] = code.clone().into();
    }
    diagnostic
}
