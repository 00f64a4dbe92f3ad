//! Tests of the program `hutch-node`: its dependencies and its command line.

#![allow(clippy::unwrap_used)]

use std::process::{Command, Output};

/// Packages that a privileged program must not contain, and the part of Hutch that depends
/// on each.
const ABSENT: &[(&str, &str)] = &[
    ("axum", "the REST facade"),
    ("sqlx", "the database client"),
    ("opentelemetry", "the exporter of traces"),
    ("tokio-tungstenite", "the channels to agents"),
    ("hutch-facade", "the REST facade"),
    ("hutch-service", "the use cases of the REST facade"),
    ("hutch-store", "the API keys"),
    ("hutch-controller", "the controllers"),
    ("hutch-link", "the channels to agents"),
    ("hutch-db", "the database client"),
];

#[test]
fn the_privileged_program_contains_only_packages_for_mounting() {
    let mut tree = Command::new(env!("CARGO"));
    tree.args(["tree", "--offline", "--package", "hutch-node"]);
    tree.args(["--edges", "normal", "--prefix", "none", "--format", "{p}"]);
    let output = tree
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let tree = String::from_utf8(output.stdout).unwrap();
    let packages: Vec<_> = tree
        .lines()
        .filter_map(|line| line.split(' ').next())
        .collect();
    assert!(packages.contains(&"hutch-kube"), "{tree}");
    for (package, part) in ABSENT {
        assert!(
            !packages.contains(package),
            "{package} comes in with {part}"
        );
    }
}

#[test]
fn help_names_the_options_and_bad_values_are_refused() {
    let help = run(&["--help"]);
    let text = String::from_utf8(help.stdout).unwrap();
    assert!(
        help.status.success() && text.contains("--kubelet-dir"),
        "{text}"
    );
    let refused = run(&["--ops-listen", "nowhere"]);
    assert_eq!(refused.status.code(), Some(2));
    let text = String::from_utf8(refused.stderr).unwrap();
    assert!(text.contains("--ops-listen"), "{text}");
}

fn run(arguments: &[&str]) -> Output {
    let mut program = Command::new(env!("CARGO_BIN_EXE_hutch-node"));
    program.args(arguments).env_clear().output().unwrap()
}
