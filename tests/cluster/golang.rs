//! A backend in Go that knows the project contract and nothing else.

use std::process::Command;

use crate::support::World;

const BACKEND: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cluster/backend");

/// Runs `go` in that directory. Returns its output, also if it fails.
fn go(arguments: &[&str]) -> Result<String, String> {
    let mut command = Command::new("go");
    command
        .args(arguments)
        .current_dir(BACKEND)
        .env("GOFLAGS", "-mod=mod")
        .env("GOPROXY", "off")
        .env("GOTOOLCHAIN", "local");
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

/// Lets the backend use every route of the service at `url`, which has no conversations
/// yet.
pub fn contract(url: &str) {
    if let Err(printed) = go(&["version"]) {
        panic!("this test needs Go in the path: https://go.dev/dl\n{printed}");
    }
    let printed = go(&["run", ".", url]);
    let printed = printed.unwrap_or_else(|printed| panic!("the backend:\n{printed}"));
    assert!(printed.ends_with("fine\n"), "{printed}");
}

/// The image that `/projects/create` uses for Python projects. The cluster has it.
pub const IMAGES: [&str; 2] = ["--project-image", "python=python:3.11-slim"];

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_in_go_uses_every_route_of_the_project_contract() {
    let world = World::new("golang").await;
    let (_hutch, backend) = world.with_backend("unused", &IMAGES).await;
    contract(&backend.address(""));
}
