//! The parts that are compiled from Go: Kubernetes from a module in `kubernetes/`, two small
//! tools from `tools/`, and containerd, runc, an S3 server and Helm from their own modules.
//! The library contains the sources of `kubernetes/` and `tools/`, so that a binary can
//! build them on any machine. Their text is part of the cache key: a change, also of a
//! comment, builds the part again.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::cache::home;
use super::{Cache, digest, unpack};
use crate::progress::{Progress, Task};
use crate::shell;
use crate::versions::{CONTAINERD, HELM, KUBERNETES, RUNC, VERSITYGW};

const KUBERNETES_SOURCES: [(&str, &str); 4] = [
    ("go.mod", include_str!("../../kubernetes/go.mod")),
    ("go.sum", include_str!("../../kubernetes/go.sum")),
    ("main.go", include_str!("../../kubernetes/main.go")),
    ("volumes.go", include_str!("../../kubernetes/volumes.go")),
];
const TOOL_SOURCES: [(&str, &str); 3] = [
    ("go.mod", include_str!("../../tools/go.mod")),
    ("pause/main.go", include_str!("../../tools/pause/main.go")),
    (
        "supervise/main.go",
        include_str!("../../tools/supervise/main.go"),
    ),
];
const STRIPPED: &str = "-ldflags=-s -w";

fn hash(sources: &[(&str, &str)]) -> String {
    digest(
        &sources
            .iter()
            .flat_map(|(name, content)| [*name, *content])
            .collect::<Vec<_>>(),
    )
}

/// The directory with the one binary `kubernetes`.
pub(super) fn kubernetes(cache: &Cache, progress: &Progress) -> Result<PathBuf> {
    cache.part(
        "kubernetes",
        KUBERNETES,
        &hash(&KUBERNETES_SOURCES),
        |directory| {
            let task = progress
                .task("Kubernetes from its Go module (7 minutes the first time on two cores)");
            let source = tempdir(directory, "source")?;
            unpack(&source, &KUBERNETES_SOURCES)?;
            let version =
                format!("-ldflags=-s -w -X k8s.io/component-base/version.gitVersion={KUBERNETES}");
            let mut list = go(&source)?;
            let packages =
                shell::output(list.env("CGO_ENABLED", "0").args(["list", "-deps", "."]))?
                    .lines()
                    .count();
            let mut build = go(&source)?;
            build
                .env("CGO_ENABLED", "0")
                .args(["build", "-v", "-trimpath", &version, "-o"]);
            watch(
                build.arg(directory.join("kubernetes")).arg("."),
                packages as u64,
                &task,
            )?;
            std::fs::remove_dir_all(&source)?;
            task.done();
            Ok(())
        },
    )
}

/// The directory with `containerd`, `containerd-shim-runc-v2` and `ctr`.
pub(super) fn containerd(cache: &Cache, progress: &Progress) -> Result<PathBuf> {
    cache.part(
        "containerd",
        CONTAINERD,
        &digest(&[STRIPPED]),
        |directory| {
            let task = progress.task("containerd (2 minutes the first time)");
            let mut install = go(directory)?;
            install
                .env("CGO_ENABLED", "0")
                .env("GOBIN", directory)
                .args(["install", "-v", "-trimpath", STRIPPED]);
            for command in ["containerd", "containerd-shim-runc-v2", "ctr"] {
                install.arg(format!(
                    "github.com/containerd/containerd/v2/cmd/{command}@{CONTAINERD}"
                ));
            }
            watch(&mut install, 0, &task)?;
            task.done();
            Ok(())
        },
    )
}

/// The directory with `runc`. It needs C for its namespaces and seccomp.
pub(super) fn runc(cache: &Cache, progress: &Progress) -> Result<PathBuf> {
    cache.part("runc", RUNC, &digest(&[STRIPPED, "seccomp"]), |directory| {
        let task = progress.task("runc");
        let mut install = go(directory)?;
        install.env("CGO_ENABLED", "1").env("GOBIN", directory);
        install.args(["install", "-v", "-trimpath", "-tags", "seccomp", STRIPPED]);
        watch(
            install.arg(format!("github.com/opencontainers/runc@{RUNC}")),
            0,
            &task,
        )?;
        task.done();
        Ok(())
    })
}

/// The directory with `versitygw`.
pub(super) fn versitygw(cache: &Cache, progress: &Progress) -> Result<PathBuf> {
    cache.part("versitygw", VERSITYGW, &digest(&[STRIPPED]), |directory| {
        let task = progress.task("versitygw, an S3 server (2 minutes the first time)");
        let module = format!("github.com/versity/versitygw/cmd/versitygw@{VERSITYGW}");
        install(directory, &module, task)
    })
}

/// The directory with `helm`.
pub(super) fn helm(cache: &Cache, progress: &Progress) -> Result<PathBuf> {
    cache.part("helm", HELM, &digest(&[STRIPPED]), |directory| {
        let task = progress.task("Helm (4 minutes the first time)");
        install(directory, &format!("helm.sh/helm/v4/cmd/helm@{HELM}"), task)
    })
}

/// Builds a program that needs no C.
fn install(directory: &Path, module: &str, task: Task) -> Result<()> {
    let mut install = go(directory)?;
    install.env("CGO_ENABLED", "0").env("GOBIN", directory);
    install.args(["install", "-v", "-trimpath", STRIPPED]);
    watch(install.arg(module), 0, &task)?;
    task.done();
    Ok(())
}

/// The directory with `supervise` and `pause`.
pub(super) fn tools(cache: &Cache, progress: &Progress) -> Result<PathBuf> {
    cache.part("tools", "1", &hash(&TOOL_SOURCES), |directory| {
        let task = progress.task("supervisor and pause");
        let source = tempdir(directory, "source")?;
        unpack(&source, &TOOL_SOURCES)?;
        let mut build = go(&source)?;
        build
            .env("CGO_ENABLED", "0")
            .args(["build", "-v", "-trimpath", STRIPPED, "-o"]);
        watch(build.arg(directory).arg("./..."), 0, &task)?;
        std::fs::remove_dir_all(&source)?;
        task.done();
        Ok(())
    })
}

fn tempdir(directory: &Path, name: &str) -> Result<PathBuf> {
    let path = directory.join(name);
    std::fs::create_dir_all(&path)?;
    Ok(path)
}

fn go(directory: &Path) -> Result<Command> {
    let usual = Path::new("/usr/local/go/bin/go");
    let program = if shell::is_on_path("go") {
        Path::new("go")
    } else {
        usual
    };
    if program == usual && !usual.is_file() {
        bail!(
            "no Go compiler: install Go 1.26 or newer (https://go.dev/dl) and put it on PATH, \
             or set HUTCH_KUBECONFIG to use a cluster of your own"
        );
    }
    // The build ends with its caller.
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "TERM", "--"]).arg(program);
    // Go needs a home directory for its caches.
    command
        .current_dir(directory)
        .env("HOME", home())
        .env("GOWORK", "off");
    Ok(command)
}

/// Runs a verbose Go build: it writes one line for each package it compiles.
fn watch(command: &mut Command, packages: u64, task: &Task) -> Result<()> {
    let mut child = command
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot run go")?;
    let lines = child.stderr.take().context("go has no standard error")?;
    let mut said = String::new();
    let mut compiled = 0;
    for line in BufReader::new(lines).lines() {
        let line = line?;
        compiled += u64::from(!line.contains(' '));
        match packages {
            0 => task.still(&format!("{compiled} packages compiled")),
            total => task.at(compiled, total),
        }
        said.push_str(&line);
        said.push('\n');
    }
    let status = child.wait()?;
    if !status.success() {
        bail!("go ended with {status}:\n{}", shell::last_lines(&said, 20));
    }
    Ok(())
}
