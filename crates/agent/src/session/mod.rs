//! Sessions: shell state that outlives a command. Each session runs one command at a
//! time.
//!
//! A session is not a process. Each command gets a fresh shell that restores the value
//! (`text`), runs the command and dumps the new value when it exits (`dump`, read by
//! `declared`). `store` has the values on disk, `queue` orders the commands, `shell`
//! prepares shells, `ready` keeps prepared ones, `run` runs one command, `open` has the
//! calls without a command. An image without a shell has no sessions.

mod declared;
mod dump;
mod open;
mod queue;
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
use queue::Queue;
use ready::Ready;
use shell::PreparedShell;
use store::Store;
use value::{Kind, Value};

/// Largest value that is also kept in memory.
const MAX_CACHED_VALUE_BYTES: usize = 16 << 10;

/// All sessions of the sandbox.
#[derive(Debug)]
pub struct Sessions {
    starter: Arc<Starter>,
    /// `None` if no directory is writable.
    store: Option<Store>,
    /// The agent's working directory.
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
    queue: Arc<Queue>,
    state: Lock<State>,
}

#[derive(Debug)]
struct State {
    cwd: Vec<u8>,
    used: Instant,
    /// The external object that owns the session, such as the UID of a resource.
    owner: String,
    /// Checksum of the value on disk; `None` if there is none.
    written: Option<u64>,
    /// A cache of that value if it is small: the volume may be slow.
    value: Option<Value>,
    /// The prepared shell of the next command.
    waiting: Option<PreparedShell>,
}

impl Session {
    fn new(id: &str, cwd: Vec<u8>) -> Arc<Self> {
        Arc::new(Self {
            id: id.to_owned(),
            queue: Arc::default(),
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
    /// Loads the sessions whose values are under `state`, and `default`. `mark` is
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

    /// Checks that sessions are possible. Returns the store and the kind of values.
    ///
    /// # Errors
    /// FAILED_PRECONDITION without a shell or a writable directory.
    fn able(&self) -> Result<(&Store, Kind), Status> {
        let kind = shell::kind(&self.starter).ok_or_else(shell::no_shell)?;
        let store = self.store.as_ref().ok_or_else(|| {
            Status::failed_precondition(
                "sessions need a directory that can be written, or /dev/shm",
            )
        })?;
        Ok((store, kind))
    }

    /// Finds or creates the session; the flag is true if it is new.
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

    /// Returns the value that the session's next shell restores. The flag is true if
    /// the stored value was lost.
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

    /// Saves a value; it is written to disk only if it has changed.
    fn save(&self, session: &Session, value: &Value) -> Result<(), Status> {
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
        state.value = (encoded.len() <= MAX_CACHED_VALUE_BYTES).then(|| value.clone());
        Ok(())
    }

    fn number(&self) -> u64 {
        self.number.fetch_add(1, Relaxed)
    }
}

/// The agent's umask, with which shells start.
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
