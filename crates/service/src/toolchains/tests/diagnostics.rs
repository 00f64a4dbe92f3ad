//! The checkers of an image.

use std::time::Duration;

use tokio::time::Instant;

use crate::fakes::{exited, outcome, seconds_since};
use crate::toolchains::Toolchains;
use crate::toolchains::fake::FakeRunner;
use crate::{Diagnosis, Finding, MAX_FILES, Place};
use hutch_core::search::{Tree, TreeEntry, TreeKind};

const NO_TIME: Duration = Duration::ZERO;

async fn diagnose(toolchains: &Toolchains, files: &[&str]) -> Diagnosis {
    let files: Vec<_> = files.iter().map(|file| (*file).to_owned()).collect();
    let place = Place::at("/work");
    toolchains.diagnose(&place, &files).await.unwrap()
}

fn messages(findings: &[Finding]) -> Vec<&str> {
    findings.iter().map(|it| it.message.as_str()).collect()
}

#[tokio::test(start_paused = true)]
async fn findings_are_listed_by_the_file_of_the_request() {
    let (runner, toolchains) = FakeRunner::new();
    let rows = "[\"./a.py\", 0, 4, 5, 1, \"pyflakes\", \"in a\"]\n[\"./b.py\", 2, 0, 1, 2, \"pyflakes\", \"in b\"]\n";
    runner.install("python3", outcome(0, rows, ""), NO_TIME);
    let found = diagnose(&toolchains, &["a.py", "/work/b.py", "c.txt"]).await;
    let files: Vec<_> = found.files.iter().map(|(file, _)| file.as_str()).collect();
    assert_eq!(files, ["a.py", "/work/b.py", "c.txt"]);
    assert_eq!(messages(&found.files[0].1), ["in a"]);
    assert_eq!(messages(&found.files[1].1), ["in b"]);
    assert!(found.files[2].1.is_empty() && found.others.is_empty());
    assert_eq!(runner.execs().len(), 1, "one run checks all Python files");
}

#[tokio::test(start_paused = true)]
async fn a_file_that_does_not_exist_has_no_findings_and_runs_nothing() {
    let (runner, toolchains) = FakeRunner::new();
    let found = diagnose(&toolchains, &["a.py"]).await;
    assert_eq!(found.files, [("a.py".to_owned(), Vec::new())]);
    assert!(runner.execs().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_missing_checker_is_no_finding() {
    let (runner, toolchains) = FakeRunner::new();
    runner.put_file("a.py", "");
    let found = diagnose(&toolchains, &["a.py"]).await;
    assert_eq!(runner.execs().len(), 1);
    assert!(found.files[0].1.is_empty() && found.others.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_checker_that_does_not_end_is_reported_as_information() {
    let (runner, toolchains) = FakeRunner::new();
    runner.put_file("a.sh", "");
    runner.install("bash", exited(0), Duration::from_secs(999));
    let begin = Instant::now();
    let found = diagnose(&toolchains, &["a.sh"]).await;
    assert_eq!(seconds_since(begin), 30);
    assert_eq!(messages(&found.others), ["it did not end within 30 s"]);
    assert_eq!(found.others[0].severity, 3);
    assert_eq!(found.others[0].path, "a.sh");
}

#[tokio::test(start_paused = true)]
async fn all_checkers_together_end_after_60_s() {
    let (runner, toolchains) = FakeRunner::new();
    runner.install("bash", exited(0), Duration::from_secs(999));
    let files = ["a.sh", "b.sh", "c.sh", "d.sh", "e.sh"];
    let begin = Instant::now();
    let found = diagnose(&toolchains, &files).await;
    assert_eq!(seconds_since(begin), 60);
    let remarks = messages(&found.others);
    assert_eq!(remarks.len(), 5);
    assert_eq!(remarks[4], "not checked: the other checks took too long");
    assert_eq!(runner.execs().len(), 4, "two at a time for 30 s");
}

#[tokio::test(start_paused = true)]
async fn a_checker_that_fails_is_reported_with_its_first_line() {
    let (runner, toolchains) = FakeRunner::new();
    runner.put_file("a.js", "");
    let stderr = "\n  node: bad option  \nmore\n";
    runner.install("node", outcome(9, "", stderr), NO_TIME);
    let found = diagnose(&toolchains, &["a.js"]).await;
    assert_eq!(
        messages(&found.others),
        ["it ended with 9: node: bad option"]
    );
}

#[tokio::test(start_paused = true)]
async fn a_finding_that_two_runs_report_is_listed_once() {
    let (runner, toolchains) = FakeRunner::new();
    runner.put_file("/work/go.mod", "");
    runner.put_file("a.go", "");
    let vet = "a.go:1:1: undefined: x\n";
    runner.install("go", outcome(1, vet, vet), NO_TIME);
    let found = diagnose(&toolchains, &["a.go"]).await;
    assert_eq!(messages(&found.files[0].1), ["undefined: x"]);
}

#[tokio::test(start_paused = true)]
async fn columns_of_go_are_converted_with_the_source() {
    let (runner, toolchains) = FakeRunner::new();
    runner.put_file("a.go", "");
    runner.put_file("/work/a.go", "package a\nvar ü = x\n");
    runner.install("go", outcome(1, "", "./a.go:2:10: undefined: x\n"), NO_TIME);
    let found = diagnose(&toolchains, &["a.go"]).await;
    let finding = &found.files[0].1[0];
    assert_eq!((finding.line, finding.column, finding.end), (1, 8, 9));
}

#[tokio::test(start_paused = true)]
async fn a_package_of_a_module_is_checked_as_a_whole() {
    let (runner, toolchains) = FakeRunner::new();
    runner.put_file("/work/go.mod", "");
    diagnose(&toolchains, &["sub/a.go", "sub/b.go", "/other/c.go"]).await;
    let execs = runner.execs();
    let lines: Vec<_> = runner.command_lines();
    assert_eq!(lines, ["go vet -json ./c.go", "go vet -json ."]);
    assert_eq!(execs[0].cwd.as_deref(), Some("/other"));
    assert_eq!(execs[1].cwd.as_deref(), Some("/work/sub"));
}

#[tokio::test(start_paused = true)]
async fn every_project_of_a_tsconfig_is_checked() {
    let (runner, toolchains) = FakeRunner::new();
    let config = r#"{"files": [], "references": [{"path": "app"}]}"#;
    runner.put_file("/work/tsconfig.json", config);
    diagnose(&toolchains, &["src/a.ts", "b.ts"]).await;
    let options = "tsc --noEmit --pretty false -p";
    assert_eq!(
        runner.command_lines(),
        [
            format!("{options} tsconfig.json"),
            format!("{options} ./app")
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn findings_in_other_files_are_relative_to_the_working_directory() {
    let (runner, toolchains) = FakeRunner::new();
    runner.put_file("/work/tsconfig.json", "{}");
    runner.put_file("a.ts", "");
    let tsc = "lib/b.ts(1,1): error TS1: in b\n/x/c.ts(1,1): error TS1: in c\n";
    runner.install("tsc", outcome(2, tsc, ""), NO_TIME);
    let found = diagnose(&toolchains, &["a.ts"]).await;
    let paths: Vec<_> = found.others.iter().map(|it| it.path.as_str()).collect();
    assert_eq!(paths, ["lib/b.ts", "/x/c.ts"]);
}

#[tokio::test(start_paused = true)]
async fn files_after_the_first_50_are_not_checked() {
    let (runner, toolchains) = FakeRunner::new();
    let files: Vec<_> = (0..=MAX_FILES)
        .map(|number| format!("{number}.sh"))
        .collect();
    let names: Vec<_> = files.iter().map(String::as_str).collect();
    let found = diagnose(&toolchains, &names).await;
    assert_eq!((found.files.len(), runner.execs().len()), (50, 50));
}

#[tokio::test(start_paused = true)]
async fn the_sources_of_a_project_are_its_files_with_a_checker() {
    let (runner, toolchains) = FakeRunner::new();
    let entry = |depth, name: &'static str, kind| TreeEntry {
        depth,
        name: name.into(),
        kind,
        content: None,
    };
    let entries = vec![
        entry(0, "", TreeKind::Directory),
        entry(1, "a.py", TreeKind::File),
        entry(1, "lib", TreeKind::Directory),
        entry(2, "deep", TreeKind::Directory),
        entry(3, "b.go", TreeKind::File),
        entry(2, "c.ts", TreeKind::File),
        entry(2, "notes.txt", TreeKind::File),
        entry(1, "d.sh", TreeKind::Link),
        entry(1, "e.js", TreeKind::File),
    ];
    runner.set_tree(Tree {
        entries,
        truncated: false,
    });
    let sources = toolchains.sources(&Place::at("/work")).await.unwrap();
    assert_eq!(sources, ["a.py", "lib/deep/b.go", "lib/c.ts", "e.js"]);
    runner.set_tree(Tree {
        entries: vec![entry(1, "a.py", TreeKind::File); 60],
        truncated: false,
    });
    let sources = toolchains.sources(&Place::at("/work")).await.unwrap();
    assert_eq!(sources.len(), MAX_FILES);
}
