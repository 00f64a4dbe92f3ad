//! Opens, closes and lists sessions and sets their variables: the calls that run no
//! command.

use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use hutch_wire::limits::{DEFAULT_SESSION, MAX_OWNER, MAX_SESSIONS};
use hutch_wire::v1;
use tonic::Status;

use super::{Session, Sessions, check_id};
use crate::execution::check_environment;

impl Sessions {
    /// Creates a session. If it exists and the request has an owner, sets the owner
    /// instead.
    ///
    /// # Errors
    /// ALREADY_EXISTS without an owner; NOT_FOUND if it must exist; INVALID_ARGUMENT
    /// for an invalid request; RESOURCE_EXHAUSTED above a limit; FAILED_PRECONDITION
    /// without a shell.
    pub fn open(&self, request: &v1::OpenSessionRequest) -> Result<(), Status> {
        check_id(&request.id)?;
        check_environment(&request.env)?;
        if request.cwd.contains('\0') {
            return Err(Status::invalid_argument("cwd holds a NUL"));
        }
        if request.owner.len() > MAX_OWNER {
            return Err(Status::invalid_argument("the owner's name is too long"));
        }
        let (_, kind) = self.able()?;
        let mut known = self.known.lock();
        if let Some(session) = known.get(&request.id) {
            if request.owner.is_empty() {
                return Err(Status::already_exists("there is a session of this id"));
            }
            return self.own(session, &request.owner);
        }
        if request.existing {
            return Err(Status::not_found("there is no session of this id"));
        }
        if known.len() >= MAX_SESSIONS {
            return Err(Status::resource_exhausted(format!(
                "there are {MAX_SESSIONS} sessions already"
            )));
        }
        let home = Path::new(std::ffi::OsStr::from_bytes(&self.home));
        let cwd = home.join(&request.cwd);
        // `join` with an empty path would append a slash.
        let cwd = if request.cwd.is_empty() { home } else { &cwd };
        let session = Session::new(&request.id, cwd.as_os_str().as_bytes().to_vec());
        let mut value = super::Value::new(kind, cwd.as_os_str().as_bytes().to_vec());
        value.export(&request.env);
        self.save(&session, &value)?;
        self.own(&session, &request.owner)?;
        known.insert(request.id.clone(), session);
        Ok(())
    }

    /// Sets the owner of a session, also on disk.
    fn own(&self, session: &Session, owner: &str) -> Result<(), Status> {
        let mut state = session.state.lock();
        if state.owner != owner {
            let (store, _) = self.able()?;
            store.write_owner(&session.id, owner).map_err(|problem| {
                Status::resource_exhausted(format!("the owner was not kept: {problem}"))
            })?;
            owner.clone_into(&mut state.owner);
        }
        Ok(())
    }

    /// Closes a session; if `owner` is not empty, only if it is the owner. Its command
    /// is killed and waiting ones never begin.
    ///
    /// # Errors
    /// NOT_FOUND.
    pub fn close(&self, id: &str, owner: &str) -> Result<(), Status> {
        let mut known = self.known.lock();
        let theirs =
            |session: &Arc<Session>| owner.is_empty() || session.state.lock().owner == owner;
        let session = match known.get(id) {
            Some(session) if theirs(session) => Arc::clone(session),
            _ => return Err(Status::not_found("there is no session of this id")),
        };
        known.remove(id);
        session.queue.close();
        let waiting = session.state.lock().waiting.take();
        drop(waiting);
        if let Some(store) = &self.store {
            store.remove(id);
        }
        if id == DEFAULT_SESSION {
            let anew = Session::new(id, self.home.clone());
            if owner.is_empty() {
                // The new default session keeps its owner.
                let owner = session.state.lock().owner.clone();
                let _ = self.own(&anew, &owner);
            }
            known.insert(id.to_owned(), anew);
        }
        Ok(())
    }

    /// Sets exported variables after the commands before it. Returns true if the
    /// session was created for it.
    ///
    /// # Errors
    /// As for [`Self::open`]; ABORTED if the session is closed meanwhile.
    pub async fn set(&self, id: &str, env: &HashMap<String, String>) -> Result<bool, Status> {
        check_environment(env)?;
        self.able()?;
        let (session, created) = self.find_or_make(id)?;
        let place = session.queue.join()?;
        let turn = place.turn().await.filter(|_| !session.queue.closed());
        let turn = turn.ok_or_else(|| Status::aborted("the session was closed"))?;
        // This shell has restored the old value.
        let waiting = session.state.lock().waiting.take();
        drop(waiting);
        let (mut value, _) = self.value(&session)?;
        value.export(env);
        self.save(&session, &value)?;
        session.touch();
        drop(turn);
        Ok(created)
    }

    /// Lists all sessions, or the one with this id.
    pub fn list(&self, id: &str) -> Vec<v1::Session> {
        let known = self.known.lock();
        if !id.is_empty() {
            return known.get(id).map(describe).into_iter().collect();
        }
        let mut all: Vec<_> = known.values().map(describe).collect();
        all.sort_by(|one, other| one.id.cmp(&other.id));
        all
    }
}

fn describe(session: &Arc<Session>) -> v1::Session {
    let commands = u32::try_from(session.queue.length()).unwrap_or(u32::MAX);
    let state = session.state.lock();
    v1::Session {
        id: session.id.clone(),
        cwd: state.cwd.clone().into(),
        idle_ms: u64::try_from(state.used.elapsed().as_millis()).unwrap_or(u64::MAX),
        commands,
        owner: state.owner.clone(),
    }
}
