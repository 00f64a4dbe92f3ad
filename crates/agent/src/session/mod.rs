//! Sessions: values that commands find and leave, one command at a time each.
//!
//! A session is not a process. Every command of it has a fresh shell that
//! restores the value (`text`), runs the command, and dumps the new value as it
//! exits; `store` has the values on disk, `line` the order of the commands,
//! `shell` the shells, `run` a command from its turn to its end, `ready`
//! the shells that are there before it. Where there is
//! no shell there are no sessions.

mod declared;
mod dump;
mod line;
mod open;
mod ready;
mod run;
mod shell;
mod store;
mod text;
mod value;

use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use hutch_wire::limits::{DEFAULT_SESSION, MAX_SESSION_ID, MAX_SESSIONS};
use rustix::fs::Mode;
use tokio::time::Instant;
use tonic::Status;

use crate::execution::{Starter, WITHHELD};
use crate::lock::Lock;
use declared::Baseline;
use line::Line;
use ready::Ready;
use shell::Waiting;
use store::Store;
use value::{Kind, Value};

/// Largest value that is kept in memory, too.
const SMALL: usize = 16 << 10;

/// All sessions of the sandbox.
#[derive(Debug)]
pub struct Sessions {
    starter: Arc<Starter>,
    /// None where nothing can be written anywhere.
    store: Option<Store>,
    /// The agent's own directory.
    home: Vec<u8>,
    mark: String,
    baseline: Arc<Baseline>,
    number: AtomicU64,
    ready: Ready,
    known: Lock<HashMap<String, Arc<Session>>>,
}

/// One session.
#[derive(Debug)]
struct Session {
    id: String,
    line: Arc<Line>,
    state: Lock<State>,
}

#[derive(Debug)]
struct State {
    cwd: Vec<u8>,
    used: Instant,
    /// Who stands for the session outside.
    owner: String,
    /// Checksum of the value on disk; none before there is one.
    written: Option<u64>,
    /// That value, where it is small: the volume may be slow.
    value: Option<Value>,
    /// The next command's shell.
    waiting: Option<Waiting>,
}

impl Session {
    fn new(id: &str, cwd: Vec<u8>) -> Arc<Self> {
        Arc::new(Self {
            id: id.to_owned(),
            line: Arc::default(),
            state: Lock::new(State {
                cwd,
                used: Instant::now(),
                owner: String::new(),
                written: None,
                value: None,
                waiting: None,
            }),
        })
    }

    fn touch(&self) {
        self.state.lock().used = Instant::now();
    }
}

impl Sessions {
    /// The sessions whose values are under `state`, and `default`. `mark` is
    /// random.
    pub fn load(starter: Arc<Starter>, state: &Path, mark: &str) -> Self {
        let home = std::env::current_dir().unwrap_or_else(|_| "/".into());
        let home = home.as_os_str().as_bytes().to_vec();
        let store = Store::open(state, mark);
        let mut known = HashMap::new();
        let stored = store.as_ref().map(Store::all).unwrap_or_default();
        for (id, value) in stored.into_iter().take(MAX_SESSIONS) {
            let session = Session::new(&id, value.cwd.clone());
            {
                let mut state = session.state.lock();
                state.written = Some(value::checksum(&value.encode(&id)));
                state.owner = store
                    .as_ref()
                    .map(|store| store.owner(&id))
                    .unwrap_or_default();
            }
            known.insert(id, session);
        }
        known
            .entry(DEFAULT_SESSION.to_owned())
            .or_insert_with(|| Session::new(DEFAULT_SESSION, home.clone()));
        let environment = starter.environment.without(&WITHHELD);
        Self {
            baseline: Arc::new(Baseline::new(&environment, mask())),
            starter,
            store,
            home,
            mark: mark.to_owned(),
            number: AtomicU64::new(0),
            ready: Ready::default(),
            known: Lock::new(known),
        }
    }

    /// Whether there can be sessions at all: their folder, and the kind of
    /// their values.
    fn able(&self) -> Result<(&Store, Kind), Status> {
        let kind = shell::kind(&self.starter).ok_or_else(shell::no_shell)?;
        let store = self.store.as_ref().ok_or_else(|| {
            Status::failed_precondition("sessions need a folder that can be written, or /dev/shm")
        })?;
        Ok((store, kind))
    }

    /// The session of that id, made where there is none; and whether it was.
    fn find_or_make(&self, id: &str) -> Result<(Arc<Session>, bool), Status> {
        check_id(id)?;
        let mut known = self.known.lock();
        if let Some(session) = known.get(id) {
            return Ok((Arc::clone(session), false));
        }
        if known.len() >= MAX_SESSIONS {
            return Err(Status::resource_exhausted(format!(
                "there are {MAX_SESSIONS} sessions already"
            )));
        }
        let session = Session::new(id, self.home.clone());
        known.insert(id.to_owned(), Arc::clone(&session));
        Ok((session, true))
    }

    /// What the session's next shell restores, and whether the value that
    /// should be on disk was lost.
    fn value(&self, session: &Session) -> Result<(Value, bool), Status> {
        let (store, kind) = self.able()?;
        let (cwd, expected) = {
            let state = session.state.lock();
            if let Some(value) = &state.value {
                return Ok((value.clone().suited(kind), false));
            }
            (state.cwd.clone(), state.written.is_some())
        };
        if expected {
            if let Some(value) = store.read(&session.id) {
                return Ok((value.suited(kind), false));
            }
            session.state.lock().written = None;
        }
        Ok((Value::new(kind, cwd), expected))
    }

    /// Keeps a value, on disk if it is another than the one there.
    fn keep(&self, session: &Session, value: &Value) -> Result<(), Status> {
        let (store, _) = self.able()?;
        if value.cwd.len() > hutch_wire::limits::MAX_PATH {
            let text = "the session's directory has a path that is too long to go back to";
            return Err(Status::resource_exhausted(text));
        }
        let encoded = value.encode(&session.id);
        if encoded.len() > hutch_wire::limits::MAX_SESSION_VALUE {
            return Err(Status::resource_exhausted(format!(
                "the session's variables and functions take {} bytes, over {}",
                encoded.len(),
                hutch_wire::limits::MAX_SESSION_VALUE
            )));
        }
        let sum = Some(value::checksum(&encoded));
        let same = session.state.lock().written == sum;
        if !same || !store.has(&session.id, encoded.len()) {
            store.write(&session.id, &encoded).map_err(|problem| {
                Status::resource_exhausted(format!("the session's value was not kept: {problem}"))
            })?;
        }
        let mut state = session.state.lock();
        state.written = sum;
        state.cwd.clone_from(&value.cwd);
        state.value = (encoded.len() <= SMALL).then(|| value.clone());
        Ok(())
    }

    fn number(&self) -> u64 {
        self.number.fetch_add(1, Relaxed)
    }
}

/// The agent's mask of modes, which shells begin with.
fn mask() -> u32 {
    let mask = rustix::process::umask(Mode::empty());
    rustix::process::umask(mask);
    mask.bits()
}

fn check_id(id: &str) -> Result<(), Status> {
    if (1..=MAX_SESSION_ID).contains(&id.len()) {
        return Ok(());
    }
    Err(Status::invalid_argument(format!(
        "a session's id has 1 to {MAX_SESSION_ID} bytes"
    )))
}
