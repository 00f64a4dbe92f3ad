//! `/diagnostic` and `/lsp/diagnostics` with the checkers of the image, which are those of
//! Python and bash.

use serde_json::{Value, json};

use crate::support::World;
use crate::support::backend::Backend;

const GOOD_PYTHON: &str = "x = 1\nprint(x)\n";
/// The mistake is in the second line, at the seventh character.
const BAD_PYTHON: &str = "x = 1\ndef f(:\n    pass\n";
const GOOD_SHELL: &str = "if true; then\n  echo \"$(date)\"\nfi\n";
/// The mistake is in the third line.
const BAD_SHELL: &str = "echo one\necho two\nfi\n";

async fn lsp(backend: &Backend, fields: Value) -> Value {
    let body = backend.call("/lsp/diagnostics", fields).await.ok();
    for list in ["file_diagnostics", "project_diagnostics"] {
        assert!(body[list].is_array(), "{body:#}");
    }
    for file in body["file_diagnostics"].as_array().unwrap() {
        for found in file["diagnostics"].as_array().unwrap() {
            well_formed(found);
        }
    }
    body
}

/// A diagnostic as the Language Server Protocol has it.
fn well_formed(found: &Value) {
    let number = |end: &str, part: &str| found["range"][end][part].as_u64().unwrap();
    let at = |end: &str| (number(end, "line"), number(end, "character"));
    assert!(at("start") <= at("end"), "{found:#}");
    let severity = found["severity"].as_u64().unwrap();
    assert!((1..=4).contains(&severity), "{found:#}");
    for field in ["source", "message"] {
        let text = found[field].as_str().unwrap_or_default();
        assert!(!text.is_empty(), "{field}: {found:#}");
    }
}

/// The first lines of the findings, by file.
fn lines(body: &Value) -> Vec<(String, Vec<u64>)> {
    let line = |found: &Value| found["range"]["start"]["line"].as_u64().unwrap();
    let of_file = |file: &Value| {
        let found = file["diagnostics"].as_array().unwrap();
        let path = file["file_path"].as_str().unwrap().to_owned();
        (path, found.iter().map(line).collect())
    };
    let files = body["file_diagnostics"].as_array().unwrap();
    files.iter().map(of_file).collect()
}

/// The lines of the findings in the file at `path`.
fn in_file(body: &Value, path: &str) -> Vec<u64> {
    let bare = path.trim_start_matches("/sandbox/");
    let all = lines(body);
    let same =
        |reported: &String| reported == path || reported.trim_start_matches("/sandbox/") == bare;
    let found: Vec<_> = all.iter().filter(|file| same(&file.0)).collect();
    assert!(found.len() <= 1, "{path}: {all:?}");
    found.first().map(|file| file.1.clone()).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mistake_has_its_range_in_its_file_with_lines_from_0() {
    let world = World::new("mistakes").await;
    let (_hutch, backend) = world.with_backend("c", &[]).await;
    for (path, content, line) in [
        ("bad.py", BAD_PYTHON, 1),
        ("/sandbox/a/bad.py", BAD_PYTHON, 1),
        ("/tmp/bad.py", BAD_PYTHON, 1),
        ("bad.sh", BAD_SHELL, 2),
        ("/tmp/bad.sh", BAD_SHELL, 2),
        ("-c.py", BAD_PYTHON, 1),
        ("-c.sh", BAD_SHELL, 2),
        ("it's $(touch broken) \"x\".py", BAD_PYTHON, 1),
        ("it's $(touch broken) \"x\".sh", BAD_SHELL, 2),
    ] {
        backend.write(path, content).await.ok();
        let fields = json!({"file_path": path});
        let body = lsp(&backend, fields.clone()).await;
        let found = in_file(&body, path);
        assert!(found.contains(&line), "{path}: {body:#}");
        assert_eq!(lines(&body).len(), 1, "{path}: {body:#}");
        let first = &body["file_diagnostics"][0]["diagnostics"][0];
        assert_eq!(
            first["severity"], 1,
            "a mistake in syntax is an error: {body:#}"
        );

        let body = backend.call("/diagnostic", fields).await.ok();
        assert!(
            !body["diagnostics"].as_array().unwrap().is_empty(),
            "{path}: {body:#}"
        );
    }
    let body = lsp(&backend, json!({"file_path": "bad.py"})).await;
    let start = &body["file_diagnostics"][0]["diagnostics"][0]["range"]["start"];
    assert_eq!(*start, json!({"line": 1, "character": 6}));
    assert_eq!(
        backend.run("find / /sandbox /tmp -xdev -name broken").await["stdout"],
        ""
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_mistake_or_without_a_checker_the_list_is_empty() {
    let world = World::new("nothing").await;
    let (_hutch, backend) = world.with_backend("c", &[]).await;
    // The image has neither node nor tsc nor go.
    for (path, content) in [
        ("good.py", GOOD_PYTHON),
        ("good.sh", GOOD_SHELL),
        ("empty.py", ""),
        ("bad.js", "let a = = 1\n"),
        ("bad.ts", "let a: = 1\n"),
        ("bad.go", "package main\nfunc {\n"),
        ("notes.txt", "def f(:\n"),
        ("no-suffix", "def f(:\n"),
    ] {
        backend.write(path, content).await.ok();
        let fields = json!({"file_path": path});
        let body = lsp(&backend, fields.clone()).await;
        assert_eq!(in_file(&body, path), [0; 0], "{path}: {body:#}");
        assert_eq!(body["project_diagnostics"], json!([]), "{path}: {body:#}");
        let body = backend.call("/diagnostic", fields).await.ok();
        assert_eq!(body["diagnostics"], json!([]), "{path}");
    }
    // Code is checked, never run.
    let code = "import os\nos.system('touch /tmp/ran')\n";
    backend.write("runs.py", code).await.ok();
    backend.write("runs.sh", "touch /tmp/ran\n").await.ok();
    for path in ["runs.py", "runs.sh"] {
        lsp(&backend, json!({"file_path": path})).await;
    }
    assert_eq!(backend.run("test -e /tmp/ran").await["exit_code"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_file_the_projects_sources_are_checked() {
    let world = World::new("sources").await;
    let (_hutch, backend) = world.with_backend("c", &[]).await;
    let body = lsp(&backend, json!({})).await;
    assert_eq!(lines(&body), []);
    let body = backend.call("/diagnostic", json!({})).await.ok();
    assert_eq!(body["diagnostics"], json!([]));

    for (path, content) in [
        ("app/bad.py", BAD_PYTHON),
        ("app/good.py", GOOD_PYTHON),
        ("bad.sh", BAD_SHELL),
        ("app/notes.txt", BAD_PYTHON),
        ("node_modules/x/theirs.py", BAD_PYTHON),
    ] {
        backend.write(path, content).await.ok();
    }
    for fields in [
        json!({}),
        json!({"file_path": ""}),
        json!({"file_path": null}),
    ] {
        let body = lsp(&backend, fields).await;
        let mut wrong = lines(&body);
        wrong.retain(|file| !file.1.is_empty());
        assert_eq!(wrong.len(), 2, "{body:#}");
        assert!(in_file(&body, "app/bad.py").contains(&1), "{body:#}");
        assert!(in_file(&body, "bad.sh").contains(&2), "{body:#}");
    }
    let body = backend.call("/diagnostic", json!({})).await.ok();
    assert!(
        body["diagnostics"].as_array().unwrap().len() >= 2,
        "{body:#}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn at_most_fifty_sources_are_checked_at_once() {
    let world = World::new("fifty-files").await;
    let (_hutch, backend) = world.with_backend("c", &[]).await;
    let code = format!(
        "for i in range(70):\n    open(f'/sandbox/{{i:02}}.py', 'w').write({BAD_PYTHON:?})"
    );
    backend.python(&code).await;
    let body = lsp(&backend, json!({})).await;
    let all = lines(&body);
    assert_eq!(all.len(), 50, "{all:?}");
    assert!(all.iter().all(|file| file.1.contains(&1)), "{all:?}");
}
