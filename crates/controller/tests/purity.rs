//! The deciding parts of a controller are pure functions: no client, no clock, no
//! waiting. Cargo cannot enforce this, so this test reads the sources.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

/// Pure files and directories below `src`.
const PURE: &[&str] = &[
    "sandbox/plan",
    "sandbox/status",
    "sandbox/mounts.rs",
    "sandbox/volumes.rs",
    "sandbox/outdated.rs",
    "sandbox/nudge.rs",
    "sandbox/problem.rs",
    "sandbox/diagnosis.rs",
    "sandbox/desired",
    "session/status.rs",
];

/// Words that only impure code contains.
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
fn deciding_modules_are_pure() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut offences = Vec::new();
    for pure in PURE {
        let files = sources(&source.join(pure));
        assert!(!files.is_empty(), "{pure} is not there");
        for file in files {
            let text = fs::read_to_string(&file).unwrap();
            let name = file.strip_prefix(&source).unwrap().display();
            offences.extend(impure(&text).map(|(line, word)| format!("{name}:{line}: `{word}`")));
        }
    }
    assert!(offences.is_empty(), "\n{}\n", offences.join("\n"));
}

#[test]
fn code_after_a_fixtures_module_is_checked_too() {
    let text = "#[cfg(test)]\nmod fixtures;\n// tokio::\nfn f() {\n    Timestamp::now()\n}\n\
                #[cfg(test)]\nmod tests {\n    tokio::spawn()\n}\n";
    assert_eq!(impure(text).collect::<Vec<_>>(), [(5, "::now()")]);
}

/// Lines of code with an impure word, numbered from 1. An inline test module is the
/// last item of a file, so the code ends there; `mod fixtures;` does not end it.
fn impure(text: &str) -> impl Iterator<Item = (usize, &'static str)> {
    let lines: Vec<_> = text.lines().map(str::trim).collect();
    let tests = (1..lines.len()).find(|&i| {
        lines[i - 1] == "#[cfg(test)]" && lines[i].starts_with("mod ") && lines[i].ends_with('{')
    });
    let end = tests.unwrap_or(lines.len());
    let mut found = Vec::new();
    for (number, line) in lines[..end].iter().enumerate() {
        if !line.starts_with("//") {
            let words = IMPURE.iter().filter(|word| line.contains(**word));
            found.extend(words.map(|word| (number + 1, *word)));
        }
    }
    found.into_iter()
}

/// The Rust files at or below a path, except test files.
fn sources(path: &Path) -> Vec<PathBuf> {
    if path.is_dir() {
        let entries = fs::read_dir(path).unwrap();
        return entries
            .flat_map(|entry| sources(&entry.unwrap().path()))
            .collect();
    }
    let tests = path.to_string_lossy().ends_with("_tests.rs");
    let is_code = path.extension().is_some_and(|kind| kind == "rs") && !tests;
    if is_code && path.is_file() {
        vec![path.to_owned()]
    } else {
        Vec::new()
    }
}
