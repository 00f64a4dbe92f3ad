//! Python clients: one that knows only the contract, and the package of Hutch.

use std::process::Command;

use crate::bucket_mounts::prepared;
use crate::support::World;

const PACKAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/clients/python");
const CLIENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cluster/client.py");

/// Runs Debian's `python3` with those arguments and that service. Returns its output, also
/// if it fails.
fn python(service: &str, arguments: &[&str]) -> Result<String, String> {
    python_with(service, &[], arguments)
}

/// The same with further variables.
fn python_with(
    service: &str,
    variables: &[(&str, &str)],
    arguments: &[&str],
) -> Result<String, String> {
    let mut command = Command::new("/usr/bin/python3");
    command.args(arguments).env("HUTCH_BASE_URL", service);
    command.env("PYTHONPATH", format!("{PACKAGE}/src"));
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    command.envs(variables.iter().copied());
    let run = || command.output();
    let output = tokio::task::block_in_place(run).map_err(|error| error.to_string())?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let printed = text(&output.stdout) + &text(&output.stderr);
    output
        .status
        .success()
        .then(|| printed.clone())
        .ok_or(printed)
}

/// Runs the client that knows only the contract with the service at `url`.
pub fn contract(url: &str) {
    needs("requests");
    for part in ["begin", "go-on"] {
        let printed = python(url, &[CLIENT, url, "user_42/Alice", part]);
        let printed = printed.unwrap_or_else(|printed| panic!("client.py {part}:\n{printed}"));
        assert!(printed.ends_with("fine\n"), "{printed}");
    }
}

/// Runs the package's live tests and its examples with the service at `url`.
pub fn package(url: &str) {
    needs("httpx");
    unittest(url, "live");
    let readme = include_str!("../../clients/python/README.md");
    let examples = readme.split("```");
    let examples = examples.filter_map(|part| part.strip_prefix("python\n"));
    let examples: Vec<_> = examples.collect();
    let ends = ["\nyou in /tmp\n42\n", "['0', '1', '2']\n"];
    assert_eq!(examples.len(), ends.len());
    for (example, end) in examples.iter().zip(ends) {
        let printed = python(url, &["-c", example]);
        assert!(
            printed.as_ref().is_ok_and(|it| it.ends_with(end)),
            "{printed:?}"
        );
    }
    let example = format!("{PACKAGE}/examples/quickstart.py");
    let printed = python(url, &[&example]);
    assert!(
        printed
            .as_ref()
            .is_ok_and(|printed| printed.ends_with("/workspace/project\nhello\n")),
        "{printed:?}"
    );
}

/// Runs the Python tests of one directory.
fn unittest(url: &str, directory: &str) {
    let tests = format!("{PACKAGE}/tests/{directory}");
    let output = python(url, &["-m", "unittest", "discover", &tests]);
    let output = output.unwrap_or_else(|output| panic!("{output}"));
    assert!(output.contains("\nOK"), "{output}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_python_unit_tests_pass() {
    needs("httpx");
    unittest("", "unit");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_python_client_finds_its_session_again_in_another_process() {
    let world = World::new("python").await;
    let (_hutch, tenant) = world.with_tenant("unused", &[]).await;
    contract(&tenant.address(""));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_live_tests_of_the_python_package_pass() {
    let world = World::new("package").await;
    let (_hutch, tenant) = world.with_tenant("unused", &[]).await;
    package(&tenant.address(""));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_package_mounts_a_bucket_that_outlives_the_sandbox() {
    needs("httpx");
    let (_world, s3, _node, _hutch, tenant) = prepared("example").await;
    let variables = [
        ("BUCKET", "data"),
        ("ENDPOINT", &s3.url()),
        ("AWS_ACCESS_KEY_ID", &s3.access_key),
        ("AWS_SECRET_ACCESS_KEY", &s3.secret_key),
    ];
    let example = format!("{PACKAGE}/examples/mount_persistence.py");
    let printed = python_with(&tenant.address(""), &variables, &[&example]);
    let written = "written by a sandbox that is gone\n";
    assert!(
        printed.as_ref().is_ok_and(|printed| printed == written),
        "{printed:?}"
    );
}

fn needs(package: &str) {
    let found = python("", &["-c", &format!("import {package}")]);
    if let Err(printed) = found {
        panic!("this test needs a package: apt-get install python3-{package}\n{printed}");
    }
}
