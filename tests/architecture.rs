//! The import rule: which module may name which other, read from the sources.
//! An edge that is not in the table fails with its file and line.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

/// Module, what it may import of ours, and of the outside what it may not.
const TABLE: &[(&str, &[&str], &[&str])] = &[
    ("crd", &[], &["hutch_wire", "axum::", "tonic::", "sqlx::"]),
    (
        "domain",
        &["crd"],
        &["kube::", "hutch_wire", "axum::", "tonic::", "sqlx::"],
    ),
    (
        "cluster",
        &["crd", "domain"],
        &["hutch_wire", "axum::", "tonic::", "sqlx::"],
    ),
    (
        "controllers",
        &["crd", "domain", "cluster", "telemetry"],
        &["axum::", "tonic::", "sqlx::"],
    ),
    (
        "link",
        &["domain", "cluster::client", "telemetry"],
        &["axum::", "sqlx::"],
    ),
    ("node", &["crd", "domain", "cluster"], &["axum::", "sqlx::"]),
    (
        "db",
        &["crd", "domain", "telemetry"],
        &["kube::", "axum::", "tonic::"],
    ),
    (
        "service",
        &["crd", "domain", "telemetry"],
        &["kube::", "hutch_wire", "axum::", "tonic::", "sqlx::"],
    ),
    (
        "http",
        &["service", "domain", "telemetry"],
        &["kube::", "k8s_openapi", "hutch_wire", "tonic::", "sqlx::"],
    ),
    ("telemetry", &[], &["kube::", "axum::", "tonic::", "sqlx::"]),
    (
        "settings",
        &["crd", "domain", "telemetry"],
        &["kube::", "axum::", "tonic::", "sqlx::"],
    ),
    (
        "cli",
        &["domain", "settings"],
        &["kube::", "axum::", "tonic::", "sqlx::"],
    ),
    (
        "runtime",
        &[
            "cli",
            "settings",
            "telemetry",
            "crd",
            "domain",
            "cluster",
            "controllers",
            "link",
            "node",
            "db",
            "service",
            "http",
        ],
        &[],
    ),
];

/// Of `controllers`, only the shape of pods knows where the agent's files lie.
const KNOWS_WIRE: &str = "controllers/sandbox/desired/";

/// Parts of a controller that are functions of their arguments.
const PURE: &[&str] = &[
    "plan.rs",
    "status.rs",
    "mounts.rs",
    "volumes.rs",
    "desired/",
];
const IMPURE: &[&str] = &[
    "async ",
    ".await",
    "::now()",
    "kube::Client",
    "kube::Api",
    "std::env",
    "std::fs",
    "tokio::",
];

#[test]
fn modules_import_only_what_the_table_allows() {
    let mut offences = Vec::new();
    for source in sources() {
        let module = source.module();
        let Some((_, allowed, banned)) = TABLE.iter().find(|(name, ..)| *name == module) else {
            offences.push(format!(
                "{}: module `{module}` is not in the table",
                source.path
            ));
            continue;
        };
        for (line, path) in source.paths() {
            let own = path == module || path.starts_with(&format!("{module}::"));
            let listed = allowed.iter().any(|a| {
                path == *a
                    || path.starts_with(&format!("{a}::"))
                    || a.starts_with(&format!("{path}::{{"))
            });
            if !own && !listed {
                offences.push(format!(
                    "{}:{line}: `{module}` imports `crate::{path}`",
                    source.path
                ));
            }
        }
        for (line, text) in source.lines() {
            for outside in *banned {
                if text.contains(outside) {
                    offences.push(format!(
                        "{}:{line}: `{module}` uses `{outside}`",
                        source.path
                    ));
                }
            }
            if module == "controllers"
                && text.contains("hutch_wire")
                && !source.path.starts_with(KNOWS_WIRE)
            {
                offences.push(format!(
                    "{}:{line}: only {KNOWS_WIRE} may use `hutch_wire`",
                    source.path
                ));
            }
        }
    }
    assert!(offences.is_empty(), "\n{}\n", offences.join("\n"));
}

#[test]
fn plan_status_and_desired_are_functions_of_their_arguments() {
    let mut offences = Vec::new();
    let mut seen = 0;
    for source in sources() {
        let inside = source.path.strip_prefix("controllers/sandbox/");
        if !inside.is_some_and(|path| PURE.iter().any(|pure| path.starts_with(pure))) {
            continue;
        }
        seen += 1;
        for (line, text) in source.lines() {
            for impure in IMPURE {
                if text.contains(impure) {
                    offences.push(format!("{}:{line}: `{impure}`", source.path));
                }
            }
        }
    }
    assert!(seen >= PURE.len(), "the pure parts were not found");
    assert!(offences.is_empty(), "\n{}\n", offences.join("\n"));
}

#[test]
fn only_main_calls_the_runtime() {
    for source in sources() {
        let calls = source.paths().any(|(_, path)| path.starts_with("runtime"));
        assert!(!calls || source.module() == "runtime", "{}", source.path);
    }
}

#[test]
fn an_edge_outside_the_table_is_seen() {
    let source = Source {
        path: "http/x.rs".into(),
        text: "//! hutch_db\nuse crate::{\n    service::Service,\n    cluster::apply,\n};\nfn f() { hutch_link::open() }\n".into(),
    };
    let paths: Vec<_> = source.paths().map(|(_, path)| path).collect();
    assert_eq!(paths, ["service::Service", "cluster::apply", "link::open"]);
}

/// A file below `src`, without its tests.
struct Source {
    path: String,
    text: String,
}

impl Source {
    /// The first folder or file name of its path.
    fn module(&self) -> &str {
        let first = self.path.split('/').next().unwrap_or_default();
        first.strip_suffix(".rs").unwrap_or(first)
    }

    /// Its lines of code, numbered from 1, up to a tests module at the end.
    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text
            .lines()
            .enumerate()
            .map(|(i, line)| (i + 1, line.trim()))
            .take_while(|(_, line)| *line != "#[cfg(test)]")
            .filter(|(_, line)| !line.starts_with("//"))
    }

    /// What follows `crate::` anywhere in the code, groups taken apart.
    fn paths(&self) -> impl Iterator<Item = (usize, String)> {
        let mut found = Vec::new();
        let mut group = None;
        for (line, text) in self.lines() {
            if let Some(depth) = group.as_mut() {
                if *depth == 1 {
                    for item in text.split(',').map(str::trim) {
                        let end = item.find(|c: char| !is_path(c)).unwrap_or(item.len());
                        if end > 0 {
                            found.push((line, item[..end].trim_end_matches(':').to_owned()));
                        }
                    }
                }
                *depth += text.matches('{').count();
                *depth -= text.matches('}').count().min(*depth);
                if *depth == 0 {
                    group = None;
                }
                continue;
            }
            for (at, _) in text.match_indices("crate::") {
                let rest = &text[at + "crate::".len()..];
                if rest.starts_with('{') && !rest.contains('}') {
                    group = Some(1);
                    continue;
                }
                for item in rest.trim_start_matches('{').split(',') {
                    let item = item.trim();
                    let end = item.find(|c: char| !is_path(c)).unwrap_or(item.len());
                    found.push((line, item[..end].trim_end_matches(':').to_owned()));
                    if !rest.starts_with('{') {
                        break;
                    }
                }
            }
        }
        found.into_iter()
    }
}

const fn is_path(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == ':'
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    collect(&root, &root, &mut found);
    assert!(found.len() > 20, "the sources were not found");
    found
}

fn collect(root: &Path, folder: &Path, found: &mut Vec<Source>) {
    let mut entries: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    entries.sort();
    for path in entries {
        let name = path
            .strip_prefix(root)
            .unwrap()
            .to_string_lossy()
            .into_owned();
        let tests = name.ends_with("tests.rs");
        if path.is_dir() {
            collect(root, &path, found);
        } else if name.ends_with(".rs") && !tests && name != "lib.rs" && name != "main.rs" {
            found.push(Source {
                path: name,
                text: fs::read_to_string(&path).unwrap(),
            });
        }
    }
}
