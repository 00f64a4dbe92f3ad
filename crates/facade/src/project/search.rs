//! `/file/grep`, `/file/glob` and `/file/tree`.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use serde_json::{Value, json};

use super::answer;
use super::call::Call;
use hutch_core::agent::AgentError;
use hutch_core::search::{TreeEntry, TreeKind};
use hutch_service::{SearchKind, Service, ServiceError};

/// `POST /file/grep`.
pub async fn grep(State(service): State<Arc<Service>>, call: Call) -> Response {
    search(&service, &call, SearchKind::Lines).await
}

/// `POST /file/glob`.
pub async fn glob(State(service): State<Arc<Service>>, call: Call) -> Response {
    search(&service, &call, SearchKind::Names).await
}

async fn search(service: &Service, call: &Call, kind: SearchKind) -> Response {
    let Some(conversation) = call.conversation() else {
        return answer::error(400, "session_id is required");
    };
    let Some(pattern) = call.text("pattern") else {
        return answer::error(400, "pattern is required");
    };
    let path = call.text("path");
    if pattern.contains('\0') || path.is_some_and(|path| path.contains('\0')) {
        return answer::error(400, "pattern and path contain no NUL");
    }
    let place = service.projects.conversation(conversation).await;
    match service.work.search(&place, kind, pattern, path).await {
        Ok(output) => answer::ok(json!({
            "stdout": String::from_utf8_lossy(&output.stdout),
            "stderr": String::from_utf8_lossy(&output.stderr),
            "exit_code": output.exit_code,
        })),
        Err(error) => answer::failure(&error),
    }
}

/// `GET /file/tree`.
pub async fn tree(State(service): State<Arc<Service>>, call: Call) -> Response {
    let conversation = call.query.text("session_id");
    let place = match (conversation, call.query.text("project_id")) {
        (Some(conversation), _) => service.projects.conversation(conversation).await,
        (None, Some(project)) => match service.projects.project(project).await {
            Ok(Some(place)) => place,
            Ok(None) => return answer::error(404, &format!("there is no project {project}")),
            Err(error) => return answer::error(503, &error.to_string()),
        },
        (None, None) => return answer::error(400, "session_id or project_id is required"),
    };
    let path = call.query.text("path");
    if path.is_some_and(|path| path.contains('\0')) {
        return answer::error(400, "path contains a NUL");
    }
    match service.work.tree(&place, path).await {
        Ok(tree) => {
            let root = path.unwrap_or(&place.workdir);
            let mut fields = json!({"tree": nested(root, &tree.entries)});
            if tree.truncated {
                fields["truncated"] = json!(true);
            }
            answer::ok(fields)
        }
        Err(ServiceError::Agent(AgentError::NotFound(_))) => {
            let path = path.unwrap_or(&place.workdir);
            answer::error(404, &format!("Path does not exist: {path}"))
        }
        Err(error) => answer::failure(&error),
    }
}

/// Nests the entries as nodes, numbered in walk order.
fn nested(root: &str, entries: &[TreeEntry]) -> Value {
    // The ancestors of the current entry from the root down, as (node, path).
    let mut open: Vec<(Value, String)> = Vec::new();
    for (number, entry) in entries.iter().enumerate() {
        let depth = usize::try_from(entry.depth).unwrap_or(0);
        close(&mut open, depth);
        let (name, path) = match open.last() {
            None => (base_name(root), "/".to_owned()),
            Some((_, parent)) => {
                let name = String::from_utf8_lossy(&entry.name).into_owned();
                let path = format!("{}/{name}", parent.trim_end_matches('/'));
                (name, path)
            }
        };
        let is_directory = entry.kind == TreeKind::Directory;
        let mut node = json!({
            "id": (number + 1).to_string(),
            "name": name,
            "type": if is_directory { "folder" } else { "file" },
            "path": path,
        });
        if is_directory {
            node["children"] = json!([]);
        }
        if let Some(content) = &entry.content {
            node["content"] = content.as_str().into();
        }
        open.push((node, path));
    }
    close(&mut open, 1);
    open.pop().map_or(Value::Null, |(node, _)| node)
}

/// Moves the open nodes from `depth` on into their parents.
fn close(open: &mut Vec<(Value, String)>, depth: usize) {
    while open.len() > depth.max(1) {
        let Some((node, _)) = open.pop() else { return };
        if let Some(children) = open
            .last_mut()
            .and_then(|(parent, _)| parent["children"].as_array_mut())
        {
            children.push(node);
        }
    }
}

fn base_name(path: &str) -> String {
    let path = path.trim_end_matches('/');
    match path.rsplit('/').next() {
        Some("") | None => "/".to_owned(),
        Some(name) => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(depth: u32, name: &str, kind: TreeKind, content: Option<&str>) -> TreeEntry {
        TreeEntry {
            depth,
            name: name.to_owned().into(),
            kind,
            content: content.map(str::to_owned),
        }
    }

    #[test]
    fn a_tree_is_numbered_in_walk_order() {
        let entries = [
            entry(0, "", TreeKind::Directory, None),
            entry(1, "a", TreeKind::Directory, None),
            entry(2, "x.py", TreeKind::File, Some("1\n")),
            entry(1, "b", TreeKind::Directory, None),
            entry(1, "c.txt", TreeKind::Link, None),
        ];
        let tree = nested("/work/space/", &entries);
        assert_eq!(
            tree,
            json!({"id": "1", "name": "space", "type": "folder", "path": "/", "children": [
                {"id": "2", "name": "a", "type": "folder", "path": "/a", "children": [
                    {"id": "3", "name": "x.py", "type": "file", "path": "/a/x.py", "content": "1\n"},
                ]},
                {"id": "4", "name": "b", "type": "folder", "path": "/b", "children": []},
                {"id": "5", "name": "c.txt", "type": "file", "path": "/c.txt"},
            ]})
        );
        let file = nested("x/y.txt", &[entry(0, "", TreeKind::File, Some(""))]);
        assert_eq!(file["name"], "y.txt");
    }
}
