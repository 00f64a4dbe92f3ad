//! `/diagnostic` and `/lsp/diagnostics`: what the image's checkers find.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use serde_json::{Value, json};

use super::answer;
use super::call::Call;
use hutch_service::{Diagnosis, Finding, Service, ServiceError};

/// `POST /diagnostic`: one list.
pub async fn flat(State(service): State<Arc<Service>>, call: Call) -> Response {
    match find(&service, &call).await {
        Ok((found, _)) => answer::ok(json!({"diagnostics": project(&found, true)})),
        Err(answer) => answer,
    }
}

/// `POST /lsp/diagnostics`: by file, in the terms of the Language Server Protocol.
pub async fn lsp(State(service): State<Arc<Service>>, call: Call) -> Response {
    let (found, whole) = match find(&service, &call).await {
        Ok(found) => found,
        Err(answer) => return answer,
    };
    let of_file = |(path, findings): &(String, Vec<Finding>)| {
        let findings: Vec<_> = findings.iter().map(diagnostic).collect();
        json!({"file_path": path, "diagnostics": findings})
    };
    let files: Vec<_> = found.files.iter().map(of_file).collect();
    let project = project(&found, whole);
    answer::ok(json!({"file_diagnostics": files, "project_diagnostics": project}))
}

/// What was found, and whether it is of the whole project.
async fn find(service: &Service, call: &Call) -> Result<(Diagnosis, bool), Response> {
    let Some(conversation) = call.conversation() else {
        return Err(answer::error(400, "session_id is required"));
    };
    let file = call.text("file_path");
    if file.is_some_and(|file| file.contains('\0')) {
        return Err(answer::error(400, "file_path contains a NUL"));
    }
    let place = service.conversation(conversation).await;
    let failed = |error: ServiceError| answer::failure(&error);
    let files = match file {
        Some(file) => vec![file.to_owned()],
        None => service.sources(&place).await.map_err(failed)?,
    };
    let found = service.diagnose(&place, &files).await.map_err(failed)?;
    Ok((found, file.is_none()))
}

/// Findings, each with its file: those of the files that were asked about only
/// where they are wanted.
fn project(found: &Diagnosis, whole: bool) -> Vec<Value> {
    let with_file = |path: &str, finding: &Finding| {
        let mut diagnostic = diagnostic(finding);
        diagnostic["file_path"] = path.into();
        diagnostic
    };
    let asked = found.files.iter().filter(|_| whole);
    asked
        .flat_map(|(path, findings)| findings.iter().map(move |finding| with_file(path, finding)))
        .chain(found.others.iter().map(|it| with_file(&it.path, it)))
        .collect()
}

/// A finding as the Language Server Protocol has it.
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
