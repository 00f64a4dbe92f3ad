//! `/file/grep` and `/file/glob`, compared with the real `grep -r` and `find` of the same
//! sandbox.

use serde_json::{Value, json};

use crate::project_files::{NAMES, unbroken};
use crate::support::World;
use crate::support::backend::Backend;

/// Creates the directories and files that are searched. Two of them are special: one has
/// bytes that are not text, the other has a NUL.
const MAKE: &str = r#"
import json, os
names = json.load(open('/tmp/names.json'))
for name in names:
    os.makedirs('/sandbox/' + name + '/sub')
    for file in names + ['.hidden', 'plain.py', 'ab.txt']:
        with open('/sandbox/' + name + '/sub/' + file, 'w') as out:
            out.write('x\n' + file + '\nneedle in ' + name + '\nlast')
open('/sandbox/bytes', 'wb').write(b'\xff needle\n\xfe\n')
open('/sandbox/nul', 'wb').write(b'a\0needle\n')
open('/sandbox/empty', 'wb')
"#;

/// Runs the real program for every pattern and every path.
const REAL: &str = r#"
import json, subprocess, sys
def run(kind, pattern, path):
    argv = ['grep', '-r', '-e', pattern, '--', path]
    if kind == 'glob':
        argv = ['find', path, '-name', pattern]
    done = subprocess.run(argv, cwd='/sandbox', stdin=subprocess.DEVNULL, capture_output=True)
    return [done.stdout.decode(errors='replace'), done.stderr.decode(errors='replace'), done.returncode]
print(json.dumps([run(*case) for case in json.load(open('/tmp/cases.json'))]))
"#;

/// Regular expressions, and texts that look like options or code.
const EXPRESSIONS: &[&str] = &[
    "needle",
    "no such thing",
    "it's",
    "\"quoted\"",
    "$(touch broken)",
    "`touch broken`",
    "'; touch broken; '",
    "$HOME",
    "\\$HOME",
    "-rf",
    "--help",
    "--",
    "-e",
    "-f/etc/passwd",
    "one\nlast",
    "\n",
    ".",
    "^x$",
    "^needle.*$",
    "n\\(ee\\|oo\\)d",
    "a*b",
    "*",
    "[[:upper:]]",
    "e\\{2\\}",
    "(",
    "用户",
    "\\<in\\>",
];

/// Patterns that grep refuses.
const NO_EXPRESSIONS: &[&str] = &["[", "\\(", "a\\{1", "[[:nothing:]]"];

/// Shell patterns, and texts that look like options or code.
const GLOBS: &[&str] = &[
    "*.py",
    "*",
    "nothing*",
    "it's",
    "it?s*",
    "\"quoted\"",
    "$(touch broken)",
    "`touch broken`",
    "-delete",
    "-exec",
    "-rf",
    "--help",
    "(",
    "!",
    "[ab]*",
    "[!a-z]*",
    "\\*",
    "[a",
    "one\ntwo",
    "one*two",
    ".*",
    "??",
    "用*",
    "back\\\\slash",
    "sub/*",
    "/",
];

async fn prepared(world: &World) -> (crate::support::Hutch, Backend) {
    let (hutch, backend) = world.with_backend("c", &[]).await;
    backend
        .write("/tmp/names.json", &json!(NAMES).to_string())
        .await
        .ok();
    backend.python(MAKE).await;
    (hutch, backend)
}

/// The answers of the real program to each case.
async fn real(backend: &Backend, cases: &[(&str, String, String)]) -> Vec<Value> {
    backend
        .write("/tmp/cases.json", &json!(cases).to_string())
        .await
        .ok();
    serde_json::from_str(&backend.python(REAL).await).unwrap()
}

/// The lines, sorted: the order of a directory's entries is that of the file system.
fn sorted(text: &Value) -> Vec<&str> {
    let mut lines: Vec<_> = text.as_str().unwrap().split('\n').collect();
    lines.sort_unstable();
    lines
}

/// Searches for each pattern below each path, and compares.
async fn same(backend: &Backend, kind: &'static str, patterns: &[&str], paths: &[String]) {
    let mut cases = Vec::new();
    for pattern in patterns {
        cases.extend(
            paths
                .iter()
                .map(|path| (kind, (*pattern).to_owned(), path.clone())),
        );
    }
    let real = real(backend, &cases).await;
    for ((_, pattern, path), real) in cases.iter().zip(&real) {
        let fields = json!({"pattern": pattern, "path": path});
        let body = backend.call(&format!("/file/{kind}"), fields).await.ok();
        let what = format!("{kind} {pattern:?} {path:?}: {body:#} and really {real:#}");
        assert_eq!(body["exit_code"], real[2], "{what}");
        assert_eq!(sorted(&body["stdout"]), sorted(&real[0]), "{what}");
        let quiet = real[1] == "";
        assert_eq!(body["stderr"] == "", quiet, "{what}");
    }
    unbroken(backend).await;
}

fn directories() -> Vec<String> {
    let names = ["it's", "$(touch broken)", "-rf", "one\ntwo", "[a"];
    let below = names.iter().map(|name| format!("/sandbox/{name}"));
    let few = ["/sandbox", "/sandbox/bytes", "/no/such/folder"];
    few.iter()
        .map(|&path| path.to_owned())
        .chain(below)
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn grep_answers_as_gnu_grep_for_every_pattern() {
    let world = World::new("grep").await;
    let (_hutch, backend) = prepared(&world).await;
    same(&backend, "grep", EXPRESSIONS, &["/sandbox".to_owned()]).await;
    same(
        &backend,
        "grep",
        &["needle", "-e", "nothing"],
        &directories(),
    )
    .await;
    same(
        &backend,
        "grep",
        NO_EXPRESSIONS,
        &["/sandbox/it's".to_owned()],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn glob_answers_as_gnu_find_for_every_pattern() {
    let world = World::new("glob").await;
    let (_hutch, backend) = prepared(&world).await;
    same(&backend, "glob", GLOBS, &["/sandbox".to_owned()]).await;
    same(
        &backend,
        "glob",
        &["*.py", "-delete", "nothing"],
        &directories(),
    )
    .await;
    let left = backend.stdout("find /sandbox -name plain.py | wc -l").await;
    assert!(
        left.trim().parse::<usize>().unwrap() >= NAMES.len(),
        "{left}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_search_begins_at_the_working_directory_and_a_path_is_never_an_option() {
    let world = World::new("begins").await;
    let (_hutch, backend) = prepared(&world).await;
    // One line for each file of that directory. One of their names has two lines.
    let lines = NAMES.len() + 3 + 1;
    for path in [json!(null), json!(""), json!("."), json!("/sandbox")] {
        let fields = json!({"pattern": "needle in it's", "path": path});
        let body = backend.call("/file/grep", fields).await.ok();
        let found = body["stdout"].as_str().unwrap().lines().count();
        assert_eq!(
            (found, &body["exit_code"]),
            (lines, &json!(0)),
            "{path}: {body:#}"
        );
        let fields = json!({"pattern": "plain.py", "path": path});
        let body = backend.call("/file/glob", fields).await.ok();
        let stdout = body["stdout"].as_str().unwrap();
        let found = stdout
            .lines()
            .filter(|line| line.ends_with("/plain.py"))
            .count();
        assert_eq!(
            (found, &body["exit_code"]),
            (NAMES.len(), &json!(0)),
            "{path}: {body:#}"
        );
    }
    for name in NAMES {
        let fields = json!({"pattern": "needle", "path": name});
        let body = backend.call("/file/grep", fields).await.ok();
        assert_eq!(body["exit_code"], 0, "{name:?}: {body:#}");
        let fields = json!({"pattern": "plain.py", "path": name});
        let body = backend.call("/file/glob", fields).await.ok();
        let stdout = body["stdout"].as_str().unwrap();
        assert!(stdout.ends_with("/sub/plain.py\n"), "{name:?}: {body:#}");
        assert_eq!(body["exit_code"], 0, "{name:?}: {body:#}");
    }
    for kind in ["grep", "glob"] {
        let fields = json!({"pattern": "a\0b"});
        let text = backend
            .call(&format!("/file/{kind}"), fields)
            .await
            .fails(400);
        assert!(text.to_lowercase().contains("nul"), "{text}");
    }
    unbroken(&backend).await;
}
