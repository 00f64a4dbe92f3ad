//! A sandbox for toolchains: files in memory, and programs that a test defines.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::{BoxFuture, ready};

use super::{Runner, Toolchains};
use crate::fakes::outcome;
use crate::{Limits, Place, ServiceError};
use hutch_core::agent::AgentError;
use hutch_core::exec::{ExecOutcome, ExecRequest, Program};
use hutch_core::search::Tree;
use hutch_core::sync::Lock;

/// The timeout of code that names none.
pub const EXECUTE_TIMEOUT: Duration = Duration::from_secs(120);

#[derive(Default)]
pub struct FakeRunner(Lock<State>);

#[derive(Default)]
struct State {
    /// The outcome of a program, and how long it runs, by its first argument.
    programs: BTreeMap<String, (ExecOutcome, Duration)>,
    files: BTreeMap<String, Bytes>,
    tree: Tree,
    execs: Vec<ExecRequest>,
    deleted: Vec<String>,
}

impl FakeRunner {
    /// A sandbox without any program, and toolchains that use it.
    pub fn new() -> (Arc<Self>, Toolchains) {
        let runner = Arc::new(Self::default());
        let limits = Limits {
            max_output: 1000,
            max_file: 1000,
        };
        let toolchains = Toolchains::new(runner.clone(), limits, EXECUTE_TIMEOUT);
        (runner, toolchains)
    }

    /// Installs a program that has this outcome after `time`. Like the agent, the sandbox
    /// ends it at its timeout.
    pub fn install(&self, program: &str, outcome: ExecOutcome, time: Duration) {
        let mut state = self.0.lock();
        state.programs.insert(program.to_owned(), (outcome, time));
    }

    pub fn put_file(&self, path: &str, content: &str) {
        let content = content.to_owned().into();
        self.0.lock().files.insert(path.to_owned(), content);
    }

    pub fn set_tree(&self, tree: Tree) {
        self.0.lock().tree = tree;
    }

    /// The paths of the files that exist.
    pub fn files(&self) -> Vec<String> {
        self.0.lock().files.keys().cloned().collect()
    }

    pub fn deleted(&self) -> Vec<String> {
        self.0.lock().deleted.clone()
    }

    pub fn execs(&self) -> Vec<ExecRequest> {
        self.0.lock().execs.clone()
    }

    /// The command lines so far. A script is one word.
    pub fn command_lines(&self) -> Vec<String> {
        let line = |request: &ExecRequest| match &request.program {
            Program::Argv(argv) => argv.join(" "),
            Program::Script(script) => String::from_utf8_lossy(script).into_owned(),
        };
        self.0.lock().execs.iter().map(line).collect()
    }
}

impl Runner for FakeRunner {
    fn exec<'a>(
        &'a self,
        _: &'a Place,
        request: ExecRequest,
    ) -> BoxFuture<'a, Result<ExecOutcome, ServiceError>> {
        let mut state = self.0.lock();
        let program = match &request.program {
            Program::Argv(argv) if argv[0].starts_with("/tmp/") => "built",
            Program::Argv(argv) => argv[0].as_str(),
            Program::Script(_) => "bash",
        };
        let missing = format!("{program}: command not found\n");
        let missing = || (outcome(127, "", &missing), Duration::ZERO);
        let (outcome, time) = state.programs.get(program).cloned().unwrap_or_else(missing);
        let timeout = request.timeout.unwrap_or(Duration::MAX);
        state.execs.push(request);
        async move {
            tokio::time::sleep(time.min(timeout)).await;
            if time < timeout {
                return Ok(outcome);
            }
            Ok(ExecOutcome {
                exit_code: 124,
                timed_out: true,
                ..outcome
            })
        }
        .boxed()
    }

    fn read<'a>(
        &'a self,
        _: &'a Place,
        path: &'a str,
        limit: u64,
    ) -> BoxFuture<'a, Result<Bytes, ServiceError>> {
        let content = self.0.lock().files.get(path).cloned();
        let content = content.filter(|it| it.len() as u64 <= limit);
        let missing = AgentError::NotFound(path.to_owned());
        ready(content.ok_or(missing.into())).boxed()
    }

    fn write<'a>(
        &'a self,
        _: &'a Place,
        path: &'a str,
        content: Bytes,
    ) -> BoxFuture<'a, Result<(), ServiceError>> {
        self.0.lock().files.insert(path.to_owned(), content);
        ready(Ok(())).boxed()
    }

    fn delete<'a>(
        &'a self,
        _: &'a Place,
        path: &'a str,
    ) -> BoxFuture<'a, Result<(), ServiceError>> {
        let mut state = self.0.lock();
        state.files.remove(path);
        state.deleted.push(path.to_owned());
        ready(Ok(())).boxed()
    }

    fn exists<'a>(
        &'a self,
        _: &'a Place,
        path: &'a str,
    ) -> BoxFuture<'a, Result<bool, ServiceError>> {
        let exists = self.0.lock().files.contains_key(path);
        ready(Ok(exists)).boxed()
    }

    fn names<'a>(&'a self, _: &'a Place) -> BoxFuture<'a, Result<Tree, ServiceError>> {
        ready(Ok(self.0.lock().tree.clone())).boxed()
    }
}
