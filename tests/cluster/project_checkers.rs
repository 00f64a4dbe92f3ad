//! `/lsp/diagnostics` with the checkers that need more than the usual image:
//! pyflakes, `go vet`, `tsc` and `node --check`.

use serde_json::{Value, json};

use crate::support::World;
use crate::support::backend::Backend;

pub async fn lsp(backend: &Backend, fields: Value) -> Value {
    backend.call("/lsp/diagnostics", fields).await.ok()
}

/// The findings in one file. The answer must have none in other files.
pub async fn found(backend: &Backend, path: &str) -> Value {
    let body = lsp(backend, json!({"file_path": path})).await;
    let files = body["file_diagnostics"].as_array().unwrap();
    assert_eq!(files.len(), 1, "{body:#}");
    assert_eq!(files[0]["file_path"], path);
    assert_eq!(body["project_diagnostics"], json!([]), "{path}");
    files[0]["diagnostics"].clone()
}

/// A diagnostic on one line.
pub fn diagnostic(
    (line, from, to): (u32, u32, u32),
    severity: u8,
    source: &str,
    message: &str,
    code: Option<&str>,
) -> Value {
    let at = |character: u32| json!({"line": line, "character": character});
    let mut diagnostic = json!({
        "range": {"start": at(from), "end": at(to)},
        "severity": severity, "source": source, "message": message,
    });
    if let Some(code) = code {
        diagnostic["code"] = code.into();
    }
    diagnostic
}

pub async fn write(backend: &Backend, files: &[(&str, &str)]) {
    for (path, content) in files {
        backend.write(path, content).await.ok();
    }
}

/// A finding that a checker has to report. The range is a line and its first and last
/// column.
struct Finding {
    range: (u32, u32, u32),
    severity: u8,
    checker: &'static str,
    message: &'static str,
    code: Option<&'static str>,
}

const fn finding(
    range: (u32, u32, u32),
    severity: u8,
    checker: &'static str,
    message: &'static str,
    code: Option<&'static str>,
) -> Finding {
    Finding {
        range,
        severity,
        checker,
        message,
        code,
    }
}

/// Sources with a mistake, and the findings in each. Columns count UTF-16 units: the face
/// has two of them, and é has one.
const MISTAKES: &[(&str, &str, &[Finding])] = &[
    (
        "a.py",
        "import os\nx = '😀é'; y = z\n",
        &[
            finding((0, 0, 1), 2, "pyflakes", "'os' imported but unused", None),
            finding((1, 15, 16), 1, "pyflakes", "undefined name 'z'", None),
        ],
    ),
    (
        "b.py",
        "x = '😀é'; y = = 1\n",
        &[finding((0, 15, 16), 1, "python", "invalid syntax", None)],
    ),
    (
        "undefined.go",
        "package main\n\nfunc main() {\n\t_ = \"😀é\"; x()\n}\n",
        &[finding(
            (3, 12, 13),
            1,
            "go vet",
            "undeclared name: x",
            None,
        )],
    ),
    (
        "syntax/a.go",
        "package main\n\nfunc {\n",
        &[finding(
            (2, 5, 6),
            1,
            "go vet",
            "expected 'IDENT', found '{'",
            None,
        )],
    ),
    (
        "doubtful/a.go",
        "package main\n\nimport \"fmt\"\n\nfunc main() {\n\té := 1; fmt.Printf(\"%s\", é)\n}\n",
        &[finding(
            (5, 9, 10),
            2,
            "go vet",
            "fmt.Printf format %s has arg é of wrong type int",
            Some("printf"),
        )],
    ),
    (
        "a.ts",
        "const a = '😀é', b: string = 1;\nconst c: { d: { e: number } } = { d: { e: '' } };\n",
        &[
            finding(
                (0, 17, 18),
                1,
                "tsc",
                "Type 'number' is not assignable to type 'string'.",
                Some("TS2322"),
            ),
            finding(
                (1, 39, 40),
                1,
                "tsc",
                "Type 'string' is not assignable to type 'number'.",
                Some("TS2322"),
            ),
        ],
    ),
    (
        "b.tsx",
        "const a = <div>;\n",
        &[
            finding(
                (0, 11, 12),
                1,
                "tsc",
                "JSX element 'div' has no corresponding closing tag.",
                Some("TS17008"),
            ),
            finding((1, 0, 1), 1, "tsc", "'</' expected.", Some("TS1005")),
        ],
    ),
    (
        "a.js",
        "const a = '😀é';\n\tlet b = = 1\n",
        &[finding(
            (1, 9, 10),
            1,
            "node",
            "SyntaxError: Unexpected token '='",
            None,
        )],
    ),
    (
        "b.mjs",
        "import x from 'y';\nlet z = '😀' 1;\n",
        &[finding(
            (1, 13, 14),
            1,
            "node",
            "SyntaxError: Unexpected number",
            None,
        )],
    ),
    (
        "c.js",
        "import x from 'y';\n",
        &[finding(
            (0, 0, 6),
            1,
            "node",
            "SyntaxError: Cannot use import statement outside a module",
            None,
        )],
    ),
    (
        "d.cjs",
        "f(\n",
        &[finding(
            (1, 0, 1),
            1,
            "node",
            "SyntaxError: Unexpected end of input",
            None,
        )],
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn every_checker_reports_range_severity_source_and_text_of_a_mistake() {
    let world = World::new("checkers").await;
    let (_hutch, backend) = world.with_languages("c").await;
    for (path, content, findings) in MISTAKES {
        let wanted = findings.iter().map(|found| {
            diagnostic(
                found.range,
                found.severity,
                found.checker,
                found.message,
                found.code,
            )
        });
        check_source(&backend, path, content, &wanted.collect()).await;
    }
}

/// Checks a source in the working directory, and alone in another directory.
async fn check_source(backend: &Backend, path: &str, content: &str, wanted: &Value) {
    backend.write(path, content).await.ok();
    assert_eq!(found(backend, path).await, *wanted, "{path}");
    let body = backend
        .call("/diagnostic", json!({"file_path": path}))
        .await
        .ok();
    let count = |list: &Value| list.as_array().unwrap().len();
    assert_eq!(count(&body["diagnostics"]), count(wanted), "{path}");
    let absolute = format!("/tmp/it's $(id) {}", path.replace('/', "-"));
    backend.write(&absolute, content).await.ok();
    assert_eq!(found(backend, &absolute).await, *wanted, "{absolute}");
    backend.stdout("rm -rf /tmp/*").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_checker_accepts_a_correct_source() {
    let world = World::new("content").await;
    let (_hutch, backend) = world.with_languages("c").await;
    let sources = [
        ("good.py", "import os\nprint(os.name)\n"),
        (
            "good.go",
            "package main\n\nimport \"fmt\"\n\nfunc main() { fmt.Println(1) }\n",
        ),
        (
            "good.ts",
            "export const m = new Map([[1, 'a']]);\nexport const x = await Promise.all([...m.values()]);\n\
             for await (const y of x) console.log(y, import.meta.url);\n",
        ),
        (
            "good.tsx",
            "declare const React: any;\nexport default (x: any) => x;\n",
        ),
        ("good.js", "async function f() { return (await 1) ?? 2 }\n"),
        (
            "good.mjs",
            "import fs from 'fs';\nawait fs.promises.stat('/');\n",
        ),
        ("good.sh", "if true; then echo; fi\n"),
        ("empty.py", ""),
        ("empty.ts", ""),
        ("empty.js", ""),
        ("notes.txt", "let a = = 1\n"),
    ];
    write(&backend, &sources).await;
    for (path, _) in sources {
        assert_eq!(found(&backend, path).await, json!([]), "{path}");
    }
    for path in [
        "nothing.py",
        "nothing.go",
        "nothing.ts",
        "nothing.js",
        "no/thing.go",
    ] {
        assert_eq!(found(&backend, path).await, json!([]), "{path}");
    }
    let body = lsp(&backend, json!({})).await;
    assert_eq!(body["project_diagnostics"], json!([]), "{body:#}");
    let files = body["file_diagnostics"].as_array().unwrap();
    assert_eq!(
        files.len(),
        sources.len() - 1,
        "all sources except the notes"
    );
}
