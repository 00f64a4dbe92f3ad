//! The clients of both contracts with the facade that the chart installs. It has two
//! replicas behind a Service and accepts a key only. The clients are the programs that
//! know nothing but a contract, the Python package, and those tests of this directory that
//! use a facade as a client does.

use std::process::Command;

use serde_json::json;

use super::{golang, python};
use crate::support::World;
use crate::support::chart::{Release, run};
use crate::support::hutch::{INSTALLED_NAMESPACE, INSTALLED_URL};

/// The tests of the contracts: parts of their names.
const CONTRACTS: [&str; 11] = [
    "commands::",
    "facade::",
    "file_bytes::",
    "files::",
    "hostile::nothing_that",
    "project_diagnostics::",
    "project_execute::",
    "project_search::",
    "routes::",
    "sessions::",
    "tenant_lifecycle::",
];

/// Those of them that need a Hutch process of their own.
const OTHERS: [&str; 17] = [
    "a_command_outlives_its_facade",
    "an_ambiguous_head",
    "a_mount_into_a_sandbox_that_cannot_have_it",
    "a_request_without_a_sandbox_id",
    "a_sandbox_takes_at_most_six_writes",
    "a_session_is_named_in_each_way",
    "an_idle_channel_is_closed",
    "an_image_that_cannot_be_pulled",
    "code_past_its_timeout",
    // Each replica has its own lock.
    "edits_of_one_file",
    "fifty_creates_of_one_id",
    "health_and_probes",
    "one_conversation_past_the_limit",
    "one_sandbox_past_the_limit",
    "requests_in_progress_are_answered",
    "two_hundred_megabytes",
    "an_answer_past_a_limit",
];

/// Runs those tests of this program, one after another, with the Hutch at `url`. Returns
/// how many have passed.
fn tests(url: &str, namespace: &str) -> usize {
    let mut tests = Command::new(std::env::current_exe().unwrap());
    tests.arg("--test-threads=1").args(CONTRACTS);
    tests.args(OTHERS.iter().flat_map(|other| ["--skip", *other]));
    tests.env(INSTALLED_URL, url);
    tests.env(INSTALLED_NAMESPACE, namespace);
    let output = run(tests, "").unwrap_or_else(|output| panic!("{output}"));
    let passed = output.split("test result: ok. ").nth(1);
    let passed = passed.and_then(|output| output.split(' ').next()?.parse().ok());
    passed.unwrap_or_else(|| panic!("{output}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_client_works_with_the_installed_facade_and_a_key() {
    let world = World::new("clients").await;
    let tenant = json!({"namespace": world.namespace, "size": "large", "sandboxes": 100});
    let values = json!({
        "tenants": [tenant],
        "facade": {"extraArgs": [golang::IMAGES.join("=")]},
    });
    let release = Release::install(&world, values).await;
    let more = "--scope tenant,project --rate 10000 --concurrency 1000";
    let more: Vec<_> = more.split(' ').collect();
    let url = release.keyed_url_with(&more).await;
    golang::contract(&url.replace(":8787", ":8888"));
    python::contract(&url);
    python::package(&url);
    let passed = tests(&url, &world.namespace);
    assert!(passed > 50, "only {passed} tests were run");
}
