//! Code in the languages of an image.

use std::time::Duration;

use crate::fakes::{exited, outcome};
use crate::toolchains::Toolchains;
use crate::toolchains::fake::{EXECUTE_TIMEOUT, FakeRunner};
use crate::{LanguageError, Place};
use hutch_core::exec::ExecOutcome;

const NO_TIME: Duration = Duration::ZERO;

async fn run(
    toolchains: &Toolchains,
    language: &str,
    code: &str,
) -> Result<ExecOutcome, LanguageError> {
    let place = Place::at("/work");
    toolchains
        .run_code(&place, language, code, None, None)
        .await
}

#[tokio::test(start_paused = true)]
async fn code_is_one_argument_of_its_interpreter() {
    let (runner, toolchains) = FakeRunner::new();
    for program in ["python3", "node", "sh"] {
        runner.install(program, outcome(0, "out", ""), NO_TIME);
    }
    let code = "print('x'); exit 1";
    for language in ["Python", "js", "sh"] {
        let outcome = run(&toolchains, language, code).await.unwrap();
        assert_eq!(outcome.stdout, "out");
    }
    assert_eq!(
        runner.command_lines(),
        [
            format!("python3 -c {code}"),
            format!("node --eval={code}"),
            format!("sh -c -- {code}"),
        ]
    );
    assert!(runner.files().is_empty());
}

#[tokio::test(start_paused = true)]
async fn code_for_the_shell_is_a_script_of_the_agent() {
    let (runner, toolchains) = FakeRunner::new();
    runner.install("bash", exited(3), NO_TIME);
    let outcome = run(&toolchains, "shell", "exit 3").await.unwrap();
    assert_eq!(outcome.exit_code, 3);
    assert_eq!(runner.command_lines(), ["exit 3"]);
}

#[tokio::test(start_paused = true)]
async fn long_code_is_run_from_a_file_that_is_deleted() {
    let (runner, toolchains) = FakeRunner::new();
    runner.install("python3", exited(0), NO_TIME);
    let code = "#".repeat(101 << 10);
    run(&toolchains, "python", &code).await.unwrap();
    let line = &runner.command_lines()[0];
    let file = line.strip_prefix("python3 ").unwrap();
    assert!(file.starts_with("/tmp/hutch-") && file.ends_with(".py"));
    assert_eq!(runner.deleted(), [file]);
    assert!(runner.files().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_compiled_language_is_built_run_and_cleaned_up() {
    let (runner, toolchains) = FakeRunner::new();
    runner.install("go", exited(0), NO_TIME);
    runner.install("built", exited(42), NO_TIME);
    let outcome = run(&toolchains, "golang", "package main").await.unwrap();
    assert_eq!(outcome.exit_code, 42);
    let lines = runner.command_lines();
    assert!(lines[0].starts_with("go build -buildmode=exe -ldflags=-s -w -o /tmp/hutch-"));
    assert!(lines[0].ends_with(&format!("{} {}.go", lines[1], lines[1])));
    assert_eq!(
        runner.deleted(),
        [format!("{}.go", lines[1]), lines[1].clone()]
    );
}

#[tokio::test(start_paused = true)]
async fn code_that_does_not_compile_is_not_run() {
    let (runner, toolchains) = FakeRunner::new();
    runner.install("go", outcome(1, "", "syntax error"), NO_TIME);
    let outcome = run(&toolchains, "go", "no").await.unwrap();
    assert_eq!(outcome.stderr, "syntax error");
    assert_eq!(runner.execs().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_timeout_includes_the_time_to_compile() {
    let (runner, toolchains) = FakeRunner::new();
    runner.install("go", exited(0), Duration::from_secs(8));
    runner.install("built", exited(0), Duration::from_secs(8));
    let timeout = Some(Duration::from_secs(10));
    let place = Place::at("/work");
    let run = toolchains.run_code(&place, "go", "", None, timeout);
    assert!(run.await.unwrap().timed_out);
    let timeouts: Vec<_> = runner.execs().iter().map(|it| it.timeout).collect();
    assert_eq!(
        timeouts,
        [10, 2].map(|seconds| Some(Duration::from_secs(seconds)))
    );
}

#[tokio::test(start_paused = true)]
async fn code_without_a_timeout_has_that_of_the_settings() {
    let (runner, toolchains) = FakeRunner::new();
    runner.install("bash", exited(0), NO_TIME);
    run(&toolchains, "bash", "true").await.unwrap();
    let request = &runner.execs()[0];
    assert_eq!(request.timeout, Some(EXECUTE_TIMEOUT));
    assert_eq!(request.output_limit, 1000);
    assert_eq!(request.cwd, None, "it starts in the working directory");
}

#[tokio::test(start_paused = true)]
async fn code_runs_in_the_directory_of_the_request() {
    let (runner, toolchains) = FakeRunner::new();
    runner.install("bash", exited(0), NO_TIME);
    let place = Place::at("/work");
    for directory in ["src", "/etc"] {
        let run = toolchains.run_code(&place, "bash", "", Some(directory), None);
        run.await.unwrap();
    }
    let directories: Vec<_> = runner
        .execs()
        .into_iter()
        .map(|it| it.cwd.unwrap())
        .collect();
    assert_eq!(directories, ["/work/src", "/etc"]);
}

#[tokio::test(start_paused = true)]
async fn an_unknown_language_is_refused_with_those_of_the_image() {
    let (runner, toolchains) = FakeRunner::new();
    runner.install("bash", outcome(0, "sh\nruby\n", ""), NO_TIME);
    let error = run(&toolchains, "Cobol", "").await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "language \"Cobol\" is not supported here; supported are bash, sh, ruby"
    );
}

#[tokio::test(start_paused = true)]
async fn a_language_without_its_interpreter_is_refused() {
    let (runner, toolchains) = FakeRunner::new();
    runner.install("bash", outcome(0, "sh\n", ""), NO_TIME);
    let error = run(&toolchains, "python", "").await.unwrap_err();
    assert!(matches!(error, LanguageError::Unsupported(..)), "{error}");
}

#[tokio::test(start_paused = true)]
async fn code_that_exits_with_127_itself_is_an_outcome() {
    let (runner, toolchains) = FakeRunner::new();
    runner.install("python3", outcome(127, "", "x: not found\n"), NO_TIME);
    let outcome = run(&toolchains, "python", "").await.unwrap();
    assert_eq!(outcome.exit_code, 127);
}
