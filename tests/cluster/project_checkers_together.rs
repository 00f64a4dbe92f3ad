//! `/lsp/diagnostics` for files that belong together, in projects with their own
//! configuration and several languages, and with broken checkers.

use serde_json::{Value, json};

use crate::project_attach::{create, hutch, known, name, runs, theirs};
use crate::project_checkers::{diagnostic, found, lsp, write};
use crate::support::World;
use crate::support::environment::agent_binary;
use crate::support::postgres::Postgres;

const CONFIG: &str = r#"{
  // Comments are usual here.
  "compilerOptions": {"strict": true, "target": "es2020", "module": "esnext", "moduleResolution": "node"},
}"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_project_of_several_languages_is_checked_as_a_whole() {
    let world = World::new("several").await;
    let (_hutch, backend) = world.with_languages("c").await;
    let sources = [
        ("back/go.mod", "module example.com/back\n\ngo 1.19\n"),
        (
            "back/main.go",
            "package main\n\nfunc main() { helped(x) }\n",
        ),
        ("back/help.go", "package main\n\nfunc helped(int) {}\n"),
        ("front/tsconfig.json", CONFIG),
        ("front/src/a.ts", "export function f(a) { return a }\n"),
        ("front/src/b.ts", "import { f } from './a';\nf(1);\n"),
        ("scripts/a.py", "print(x)\n"),
        ("scripts/b.js", "let a = = 1\n"),
        ("scripts/c.sh", "fi\n"),
        ("scripts/good.py", "print(1)\n"),
    ];
    write(&backend, &sources).await;
    let body = lsp(&backend, json!({})).await;
    let first = |file: &Value| {
        let path = file["file_path"].as_str().unwrap().to_owned();
        (path, file["diagnostics"][0]["message"].clone())
    };
    let files = body["file_diagnostics"].as_array().unwrap();
    let mut wrong: Vec<_> = files.iter().map(first).collect();
    wrong.sort_by(|one, other| one.0.cmp(&other.0));
    let wanted = [
        ("back/help.go", json!(null)),
        ("back/main.go", json!("undeclared name: x")),
        (
            "front/src/a.ts",
            json!("Parameter 'a' implicitly has an 'any' type."),
        ),
        ("front/src/b.ts", json!(null)),
        ("scripts/a.py", json!("undefined name 'x'")),
        ("scripts/b.js", json!("SyntaxError: Unexpected token '='")),
        (
            "scripts/c.sh",
            json!("syntax error near unexpected token `fi'"),
        ),
        ("scripts/good.py", json!(null)),
    ];
    let wanted = wanted.map(|(path, message)| (path.to_owned(), message));
    assert_eq!(wrong, wanted, "{body:#}");
    let project = body["project_diagnostics"].as_array().unwrap();
    assert_eq!(project.len(), 6, "bash says two things: {body:#}");
    assert!(
        project.iter().all(|it| it["file_path"].is_string()),
        "{body:#}"
    );
    assert_eq!(
        backend
            .stdout("find . -newer front/src/b.ts -type f | grep -v scripts; true")
            .await,
        ""
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_go_file_is_checked_with_its_module_if_it_has_one() {
    let world = World::new("modules").await;
    let (_hutch, backend) = world.with_languages("c").await;
    let main =
        "package main\n\nimport \"example.com/m/sub\"\n\nfunc main() { println(sub.X, other) }\n";
    write(
        &backend,
        &[
            ("m/main.go", main),
            ("m/other.go", "package main\n\nvar other = 1\n"),
            ("m/sub/sub.go", "package sub\n\nvar X = 1\n"),
            ("m/sub/sub_test.go", "package sub\n\nimport \"testing\"\n\nfunc TestX(t *testing.T) { t.Errorf(\"%d\", \"\") }\n"),
        ],
    )
    .await;
    let without = found(&backend, "m/main.go").await;
    let output = without[0]["message"].as_str().unwrap();
    assert!(
        output.contains("no required module provides package"),
        "{output}"
    );
    assert_eq!(
        without[0]["range"]["start"],
        json!({"line": 2, "character": 7})
    );

    backend
        .write("m/go.mod", "module example.com/m\n\ngo 1.19\n")
        .await
        .ok();
    for path in ["m/main.go", "m/other.go", "m/sub/sub.go"] {
        let body = lsp(&backend, json!({"file_path": path})).await;
        assert_eq!(
            body["file_diagnostics"][0]["diagnostics"],
            json!([]),
            "{body:#}"
        );
    }
    let test = found(&backend, "m/sub/sub_test.go").await;
    assert_eq!(test[0]["code"], "printf", "{test:#}");
    assert_eq!(test.as_array().unwrap().len(), 1, "once: {test:#}");

    // A file that it needs is broken. The finding is reported for that file.
    backend
        .write("m/sub/sub.go", "package sub\n\nvar X = y\n")
        .await
        .ok();
    let body = lsp(&backend, json!({"file_path": "m/main.go"})).await;
    assert_eq!(
        body["file_diagnostics"][0]["diagnostics"],
        json!([]),
        "{body:#}"
    );
    let other = &body["project_diagnostics"][0];
    assert_eq!(
        (&other["file_path"], &other["severity"]),
        (&json!("m/sub/sub.go"), &json!(1))
    );
    assert_eq!(other["message"], "undefined: y");

    backend
        .write("m/go.mod", "module example.com/m\n\nnonsense\n")
        .await
        .ok();
    let body = lsp(&backend, json!({"file_path": "m/main.go"})).await;
    let other = &body["project_diagnostics"][0];
    assert_eq!(other["file_path"], "m/go.mod", "{body:#}");
    assert_eq!(other["range"]["start"]["line"], 2, "{body:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_typescript_file_is_checked_with_its_configuration() {
    let world = World::new("configured").await;
    let (_hutch, backend) = world.with_languages("c").await;
    let loose = "export const f = (a) => a;\n";
    write(
        &backend,
        &[
            ("loose/a.ts", loose),
            ("strict/tsconfig.json", CONFIG),
            ("strict/deep/er/a.ts", loose),
            (
                "solution/tsconfig.json",
                r#"{"files": [], "references": [{"path": "./app.json"}]}"#,
            ),
            (
                "solution/app.json",
                r#"{"compilerOptions": {"strict": true}, "include": ["app"]}"#,
            ),
            ("solution/app/a.ts", loose),
            (
                "broken/tsconfig.json",
                r#"{"compilerOptions": {"strct": true}}"#,
            ),
            ("broken/a.ts", "export const x: string = 1;\n"),
        ],
    )
    .await;
    assert_eq!(found(&backend, "loose/a.ts").await, json!([]));
    let strict = json!([diagnostic(
        (0, 18, 19),
        1,
        "tsc",
        "Parameter 'a' implicitly has an 'any' type.",
        Some("TS7006")
    )]);
    assert_eq!(found(&backend, "strict/deep/er/a.ts").await, strict);
    assert_eq!(found(&backend, "solution/app/a.ts").await, strict);
    let body = lsp(&backend, json!({"file_path": "broken/a.ts"})).await;
    let other = &body["project_diagnostics"][0];
    assert_eq!(other["file_path"], "broken/tsconfig.json", "{body:#}");
    assert_eq!(other["code"], "TS5025", "{body:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_a_project_never_replace_a_checkers_own_modules() {
    let world = World::new("shadows").await;
    let (_hutch, backend) = world.with_languages("c").await;
    let touch = "open('/tmp/ran', 'w')\nraise SystemExit(3)\n";
    for name in [
        "ast",
        "json",
        "io",
        "tokenize",
        "pyflakes",
        "encodings",
        "sitecustomize",
    ] {
        backend.write(&format!("{name}.py"), touch).await.ok();
    }
    backend.write("a.py", "print(x)\n").await.ok();
    assert_eq!(
        found(&backend, "a.py").await[0]["message"],
        "undefined name 'x'"
    );
    assert_eq!(backend.run("test -e /tmp/ran").await["exit_code"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checker_that_hangs_floods_or_fails_is_reported_and_does_not_stop_the_others() {
    let world = World::new("bad-checkers").await;
    let (_hutch, backend) = world.with_languages("c").await;
    write(
        &backend,
        &[
            ("a.py", "print(x)\n"),
            ("a.ts", "export {}\n"),
            ("a.js", "let a = = 1\n"),
            ("a.go", "package main\n"),
            (
                "/usr/local/bin/node",
                "#!/bin/sh\necho begins >&2\nsleep 600 & wait\n",
            ),
            (
                "/usr/local/bin/tsc",
                "#!/bin/sh\nexec yes 'a.ts(1,1): error TS1: it floods'\n",
            ),
            (
                "/usr/local/bin/go",
                "#!/bin/sh\necho 'no room' >&2; kill -9 $$\n",
            ),
        ],
    )
    .await;
    backend.stdout("chmod +x /usr/local/bin/*").await;
    let body = lsp(&backend, json!({})).await;
    let of = |path: &str| {
        let files = body["file_diagnostics"].as_array().unwrap();
        let file = files.iter().find(|file| file["file_path"] == path);
        file.unwrap()["diagnostics"].as_array().unwrap().clone()
    };
    assert_eq!(of("a.py")[0]["message"], "undefined name 'x'");
    assert!(of("a.js").is_empty() && of("a.go").is_empty());
    assert!(
        (1..=1000).contains(&of("a.ts").len()),
        "{}",
        of("a.ts").len()
    );
    let project = body["project_diagnostics"].as_array().unwrap();
    let remark = |path: &str| {
        let mine = |it: &&Value| it["file_path"] == path && it["severity"] == 3;
        project.iter().find(mine).unwrap()["message"].clone()
    };
    let late = "it did not end within 30 s";
    assert_eq!((remark("a.js"), remark("a.ts")), (json!(late), json!(late)));
    assert_eq!(remark("a.go"), "it ended with 137: no room");
    let running =
        "cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -oE 'sleep 60[0]|yes a[.]ts'; true";
    assert_eq!(backend.stdout(running).await, "", "nothing of it goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn in_an_attached_pod_files_are_found_below_its_directory() {
    let world = World::new("their-checkers").await;
    let image = tokio::task::block_in_place(|| world.environment.languages());
    let postgres = Postgres::start().await;
    postgres.project("P").await;
    name(&postgres, "P", "theirs").await;
    create(&world, theirs("theirs", image, json!({}))).await;
    runs(&world, "theirs").await;
    let (_hutch, backend) = hutch(&world, &postgres, &agent_binary(), "s-P").await;
    known(&backend, "theirs").await;
    let print = "import \"fmt\"\n\nfunc f() { fmt.Printf(\"%d\", \"\") }\n";
    let sources = [
        ("a.py", "print(x)\n".to_owned()),
        ("b.js", "let a = = 1\n".to_owned()),
        ("c/tsconfig.json", CONFIG.to_owned()),
        ("c/d/a.ts", "export const f = (a) => a;\n".to_owned()),
        ("e/a.go", format!("package e\n\n{print}")),
        ("m/go.mod", "module m\n".to_owned()),
        ("m/n/a.go", format!("package n\n\n{print}")),
    ];
    for (path, content) in &sources {
        backend.write(path, content).await.ok();
    }
    let checked = ["a.py", "b.js", "c/d/a.ts", "e/a.go", "m/n/a.go"];
    for path in checked {
        let found = found(&backend, path).await;
        assert_eq!(found.as_array().unwrap().len(), 1, "{path}: {found:#}");
    }
    let body = lsp(&backend, json!({})).await;
    let files = body["file_diagnostics"].as_array().unwrap();
    let one = |file: &&Value| file["diagnostics"].as_array().unwrap().len() == 1;
    assert_eq!(files.iter().filter(one).count(), checked.len(), "{body:#}");
    let project = body["project_diagnostics"].as_array().unwrap();
    assert_eq!(project.len(), checked.len(), "{body:#}");
}
