//! Agents with sessions and files in memory. Every command exits with 0.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::{BoxFuture, ready};

use hutch_core::agent::AgentError;
use hutch_core::exec::{ExecOutcome, ExecRequest, SessionOutcome};
use hutch_core::files::{FileKind, FilePath};
use hutch_core::interfaces::{
    Activity, Commands, Files, NewSession, PodRef, Search, SessionState, Sessions,
};
use hutch_core::search::{SearchLimits, SearchOutput, Tree, TreeLimits};
use hutch_core::sync::Lock;

#[derive(Default)]
pub struct FakeAgents(Lock<State>);

#[derive(Default)]
struct State {
    faults: VecDeque<AgentError>,
    delay: Duration,
    activity: Option<Activity>,
    /// By UID of the pod, then by ID.
    sessions: BTreeMap<String, BTreeMap<String, SessionState>>,
    files: BTreeMap<String, Bytes>,
    execs: Vec<(PodRef, ExecRequest)>,
    opened: Vec<NewSession>,
    searches: Vec<(String, FilePath, SearchLimits)>,
    calls: usize,
}

/// The outcome of a command that printed nothing.
pub fn exited(exit_code: i32) -> ExecOutcome {
    outcome(exit_code, "", "")
}

/// The outcome of a command that printed this.
pub fn outcome(exit_code: i32, stdout: &str, stderr: &str) -> ExecOutcome {
    ExecOutcome {
        exit_code,
        timed_out: false,
        truncated: false,
        stdout: stdout.to_owned().into(),
        stderr: stderr.to_owned().into(),
        duration: Duration::from_millis(1),
        session: SessionOutcome::default(),
    }
}

impl FakeAgents {
    /// Lets one more call fail. Calls fail in the order in which their faults were added.
    pub fn fail_next(&self, fault: AgentError) {
        self.0.lock().faults.push_back(fault);
    }

    /// Lets every call take that long.
    pub fn set_delay(&self, delay: Duration) {
        self.0.lock().delay = delay;
    }

    pub fn set_activity(&self, running: u32, background: u32) {
        self.0.lock().activity = Some(Activity {
            running,
            background,
            idle: Duration::ZERO,
        });
    }

    /// Adds a session to a pod.
    pub fn put_session(&self, pod: &PodRef, id: &str, owner: Option<&str>) {
        let session = SessionState {
            id: id.to_owned(),
            cwd: "/work".into(),
            idle: Duration::ZERO,
            owner: owner.map(str::to_owned),
        };
        let mut state = self.0.lock();
        let of_pod = state.sessions.entry(pod.uid.clone()).or_default();
        of_pod.insert(id.to_owned(), session);
    }

    pub fn remove_session(&self, pod: &PodRef, id: &str) {
        if let Some(of_pod) = self.0.lock().sessions.get_mut(&pod.uid) {
            of_pod.remove(id);
        }
    }

    pub fn put_file(&self, path: &str, content: &str) {
        let content = content.to_owned().into();
        self.0.lock().files.insert(path.to_owned(), content);
    }

    pub fn file(&self, path: &str) -> Option<String> {
        let content = self.0.lock().files.get(path).cloned()?;
        String::from_utf8(content.to_vec()).ok()
    }

    /// The commands that were handed over.
    pub fn execs(&self) -> Vec<(PodRef, ExecRequest)> {
        self.0.lock().execs.clone()
    }

    /// The sessions that were requested to be opened.
    pub fn opened(&self) -> Vec<NewSession> {
        self.0.lock().opened.clone()
    }

    pub fn searches(&self) -> Vec<(String, FilePath, SearchLimits)> {
        self.0.lock().searches.clone()
    }

    /// The number of all calls, those that failed included.
    pub fn calls(&self) -> usize {
        self.0.lock().calls
    }

    /// Makes a call: a fault if one is queued, or the answer of `call`.
    fn call<T: Send + 'static>(
        &self,
        call: impl FnOnce(&mut State) -> Result<T, AgentError>,
    ) -> BoxFuture<'static, Result<T, AgentError>> {
        let mut state = self.0.lock();
        state.calls += 1;
        let answer = match state.faults.pop_front() {
            Some(fault) => Err(fault),
            None => call(&mut state),
        };
        let delay = state.delay;
        async move {
            if !delay.is_zero() {
                tokio::time::sleep(delay).await;
            }
            answer
        }
        .boxed()
    }

    fn searched(&self, kind: &str, pattern: &str, path: &FilePath, limits: SearchLimits) {
        let search = (format!("{kind} {pattern}"), path.clone(), limits);
        self.0.lock().searches.push(search);
    }
}

/// The path in the fake's file system.
fn absolute(path: &FilePath) -> String {
    if path.path.starts_with('/') {
        return path.path.clone();
    }
    let base = String::from_utf8_lossy(&path.base);
    let base = if base.is_empty() { "/work" } else { &*base };
    format!("{base}/{}", path.path)
}

fn missing(path: &str) -> AgentError {
    AgentError::NotFound(format!("{path}: No such file or directory"))
}

impl Commands for FakeAgents {
    fn exec<'a>(
        &'a self,
        pod: &'a PodRef,
        request: ExecRequest,
    ) -> BoxFuture<'a, Result<ExecOutcome, AgentError>> {
        self.call(|state| {
            let mut outcome = exited(0);
            if let Some(id) = &request.session {
                let of_pod = state.sessions.entry(pod.uid.clone()).or_default();
                outcome.session.created = !of_pod.contains_key(id);
                of_pod.entry(id.clone()).or_insert_with(|| SessionState {
                    id: id.clone(),
                    cwd: "/work".into(),
                    idle: Duration::ZERO,
                    owner: None,
                });
            }
            state.execs.push((pod.clone(), request));
            Ok(outcome)
        })
    }

    fn activity<'a>(&'a self, _: &'a PodRef) -> BoxFuture<'a, Option<Activity>> {
        ready(self.0.lock().activity).boxed()
    }
}

impl Sessions for FakeAgents {
    fn open<'a>(
        &'a self,
        pod: &'a PodRef,
        session: NewSession,
    ) -> BoxFuture<'a, Result<(), AgentError>> {
        self.call(|state| {
            state.opened.push(session.clone());
            let of_pod = state.sessions.entry(pod.uid.clone()).or_default();
            if of_pod.contains_key(&session.id) && session.owner.is_none() {
                return Err(AgentError::Exists(session.id));
            }
            let new = SessionState {
                id: session.id.clone(),
                cwd: session.cwd.unwrap_or_else(|| "/work".to_owned()).into(),
                idle: Duration::ZERO,
                owner: session.owner,
            };
            of_pod.insert(session.id, new);
            Ok(())
        })
    }

    fn close<'a>(
        &'a self,
        pod: &'a PodRef,
        id: &'a str,
        _: Option<&'a str>,
    ) -> BoxFuture<'a, Result<(), AgentError>> {
        self.call(|state| {
            let of_pod = state.sessions.entry(pod.uid.clone()).or_default();
            let closed = of_pod.remove(id);
            closed.map(drop).ok_or(AgentError::NotFound(id.to_owned()))
        })
    }

    fn set_variables<'a>(
        &'a self,
        pod: &'a PodRef,
        id: &'a str,
        _: BTreeMap<String, String>,
    ) -> BoxFuture<'a, Result<bool, AgentError>> {
        self.call(|state| {
            let of_pod = state.sessions.get(&pod.uid);
            Ok(!of_pod.is_some_and(|of_pod| of_pod.contains_key(id)))
        })
    }

    fn list<'a>(&'a self, pod: &'a PodRef) -> BoxFuture<'a, Result<Vec<SessionState>, AgentError>> {
        self.call(|state| {
            let of_pod = state.sessions.get(&pod.uid).into_iter();
            Ok(of_pod.flat_map(BTreeMap::values).cloned().collect())
        })
    }

    fn state<'a>(
        &'a self,
        pod: &'a PodRef,
        id: &'a str,
    ) -> BoxFuture<'a, Result<Option<SessionState>, AgentError>> {
        self.call(|state| {
            let of_pod = state.sessions.get(&pod.uid);
            Ok(of_pod.and_then(|of_pod| of_pod.get(id)).cloned())
        })
    }
}

impl Files for FakeAgents {
    fn read<'a>(
        &'a self,
        _: &'a PodRef,
        path: &'a FilePath,
        limit: u64,
    ) -> BoxFuture<'a, Result<Bytes, AgentError>> {
        self.call(|state| {
            let path = absolute(path);
            let content = state.files.get(&path).cloned().ok_or(missing(&path))?;
            if content.len() as u64 > limit {
                return Err(AgentError::Full(format!("{path} is too large")));
            }
            Ok(content)
        })
    }

    fn write<'a>(
        &'a self,
        _: &'a PodRef,
        path: &'a FilePath,
        content: Bytes,
    ) -> BoxFuture<'a, Result<(), AgentError>> {
        self.call(|state| {
            state.files.insert(absolute(path), content);
            Ok(())
        })
    }

    fn make_directory<'a>(
        &'a self,
        _: &'a PodRef,
        path: &'a FilePath,
        _: bool,
    ) -> BoxFuture<'a, Result<(), AgentError>> {
        self.call(|state| {
            let path = absolute(path) + "/";
            state.files.insert(path, Bytes::new());
            Ok(())
        })
    }

    fn rename<'a>(
        &'a self,
        _: &'a PodRef,
        from: &'a FilePath,
        to: &'a FilePath,
    ) -> BoxFuture<'a, Result<(), AgentError>> {
        self.call(|state| {
            let from = absolute(from);
            let content = state.files.remove(&from).ok_or(missing(&from))?;
            state.files.insert(absolute(to), content);
            Ok(())
        })
    }

    fn delete<'a>(
        &'a self,
        _: &'a PodRef,
        path: &'a FilePath,
    ) -> BoxFuture<'a, Result<(), AgentError>> {
        self.call(|state| {
            let path = absolute(path);
            let deleted = state.files.remove(&path);
            deleted.map(drop).ok_or(missing(&path))
        })
    }

    fn stat<'a>(
        &'a self,
        _: &'a PodRef,
        path: &'a FilePath,
    ) -> BoxFuture<'a, Result<FileKind, AgentError>> {
        self.call(|state| {
            let there = state.files.contains_key(&absolute(path));
            Ok(if there {
                FileKind::File
            } else {
                FileKind::Missing
            })
        })
    }

    fn list_directory<'a>(
        &'a self,
        _: &'a PodRef,
        path: &'a FilePath,
    ) -> BoxFuture<'a, Result<Vec<Bytes>, AgentError>> {
        self.call(|state| {
            let directory = absolute(path) + "/";
            let all = state.files.keys().rev();
            let names = all.filter_map(|file| file.strip_prefix(&directory));
            Ok(names.map(|name| name.to_owned().into()).collect())
        })
    }
}

impl Search for FakeAgents {
    fn grep<'a>(
        &'a self,
        _: &'a PodRef,
        pattern: &'a str,
        path: &'a FilePath,
        limits: SearchLimits,
    ) -> BoxFuture<'a, Result<SearchOutput, AgentError>> {
        self.searched("grep", pattern, path, limits);
        self.call(|_| Ok(SearchOutput::default()))
    }

    fn glob<'a>(
        &'a self,
        _: &'a PodRef,
        name: &'a str,
        path: &'a FilePath,
        limits: SearchLimits,
    ) -> BoxFuture<'a, Result<SearchOutput, AgentError>> {
        self.searched("glob", name, path, limits);
        self.call(|_| Ok(SearchOutput::default()))
    }

    fn tree<'a>(
        &'a self,
        _: &'a PodRef,
        _: &'a FilePath,
        _: TreeLimits,
    ) -> BoxFuture<'a, Result<Tree, AgentError>> {
        self.call(|_| Ok(Tree::default()))
    }
}
