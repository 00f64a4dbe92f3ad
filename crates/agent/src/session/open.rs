//! Opening, closing and listing sessions, and setting their variables: the
//! calls that run no command.

use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use hutch_wire::limits::{DEFAULT_SESSION, MAX_SESSIONS};
use hutch_wire::v1;
use tonic::Status;

use super::{Session, Sessions, check_id};
use crate::execution::check_environment;

impl Sessions {
    /// Makes a session.
    ///
    /// # Errors
    /// ALREADY_EXISTS; INVALID_ARGUMENT for what makes no sense;
    /// RESOURCE_EXHAUSTED past a bound; FAILED_PRECONDITION without a shell.
    pub fn open(&self, request: &v1::OpenSessionRequest) -> Result<(), Status> {
        check_id(&request.id)?;
        check_environment(&request.env)?;
        if request.cwd.contains('\0') {
            return Err(Status::invalid_argument("cwd holds a NUL"));
        }
        let (_, kind) = self.able()?;
        let mut known = self.known.lock();
        if known.contains_key(&request.id) {
            return Err(Status::already_exists("there is a session of this id"));
        }
        if known.len() >= MAX_SESSIONS {
            return Err(Status::resource_exhausted(format!(
                "there are {MAX_SESSIONS} sessions already"
            )));
        }
        let home = Path::new(std::ffi::OsStr::from_bytes(&self.home));
        let cwd = home.join(&request.cwd);
        // `join` with nothing leaves a slash at the end.
        let cwd = if request.cwd.is_empty() { home } else { &cwd };
        let session = Session::new(&request.id, cwd.as_os_str().as_bytes().to_vec());
        let mut value = super::Value::new(kind, cwd.as_os_str().as_bytes().to_vec());
        value.export(&request.env);
        self.keep(&session, &value)?;
        known.insert(request.id.clone(), session);
        Ok(())
    }

    /// Ends a session. Its command is killed, and those that wait never begin.
    ///
    /// # Errors
    /// NOT_FOUND.
    pub fn close(&self, id: &str) -> Result<(), Status> {
        let mut known = self.known.lock();
        let session = known
            .remove(id)
            .ok_or_else(|| Status::not_found("there is no session of this id"))?;
        if id == DEFAULT_SESSION {
            known.insert(id.to_owned(), Session::new(id, self.home.clone()));
        }
        drop(known);
        session.line.close();
        let waiting = session.state.lock().waiting.take();
        drop(waiting);
        if let Some(store) = &self.store {
            store.remove(id);
        }
        Ok(())
    }

    /// Sets exported variables when the commands before are done. Returns
    /// whether the session was made for it.
    ///
    /// # Errors
    /// As those of [`Self::open`]; ABORTED when the session is closed meanwhile.
    pub async fn set(&self, id: &str, env: &HashMap<String, String>) -> Result<bool, Status> {
        check_environment(env)?;
        self.able()?;
        let (session, created) = self.find_or_make(id)?;
        let place = session.line.join()?;
        let turn = place.turn().await.filter(|_| !session.line.closed());
        let turn = turn.ok_or_else(|| Status::aborted("the session was closed"))?;
        // It has restored another value.
        let waiting = session.state.lock().waiting.take();
        drop(waiting);
        let (mut value, _) = self.value(&session)?;
        value.export(env);
        self.keep(&session, &value)?;
        session.touch();
        drop(turn);
        Ok(created)
    }

    /// All sessions.
    pub fn list(&self) -> Vec<v1::Session> {
        let known = self.known.lock();
        let mut all: Vec<_> = known.values().map(describe).collect();
        all.sort_by(|one, other| one.id.cmp(&other.id));
        all
    }
}

fn describe(session: &Arc<Session>) -> v1::Session {
    let commands = u32::try_from(session.line.length()).unwrap_or(u32::MAX);
    let state = session.state.lock();
    v1::Session {
        id: session.id.clone(),
        cwd: String::from_utf8_lossy(&state.cwd).into_owned(),
        idle_ms: u64::try_from(state.used.elapsed().as_millis()).unwrap_or(u64::MAX),
        commands,
    }
}
