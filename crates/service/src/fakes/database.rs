//! A database that a test can take away.

use std::collections::BTreeMap;

use futures::FutureExt;
use futures::future::{BoxFuture, ready};
use jiff::Timestamp;

use hutch_core::interfaces::{DatabaseError, DatabaseState, Integration, Project, Projects};
use hutch_core::sync::Lock;

#[derive(Default)]
pub struct FakeDatabase(Lock<State>);

#[derive(Default)]
struct State {
    conversations: BTreeMap<String, Project>,
    fault: Option<(Integration, Timestamp, DatabaseError)>,
    lookups: usize,
}

impl FakeDatabase {
    /// Adds a conversation of a project.
    pub fn put(&self, conversation: &str, project: Project) {
        let mut state = self.0.lock();
        state.conversations.insert(conversation.to_owned(), project);
    }

    /// Takes the database away, since `since`.
    pub fn take_away(&self, integration: Integration, since: Timestamp) {
        let error = DatabaseError::Away("connection refused".to_owned());
        self.0.lock().fault = Some((integration, since, error));
    }

    /// Lets every lookup fail although the database is connected.
    pub fn fail(&self, error: DatabaseError) {
        let fault = (Integration::Connected, Timestamp::UNIX_EPOCH, error);
        self.0.lock().fault = Some(fault);
    }

    pub fn give_back(&self) {
        self.0.lock().fault = None;
    }

    /// The number of lookups of conversations.
    pub fn lookups(&self) -> usize {
        self.0.lock().lookups
    }
}

impl Projects for FakeDatabase {
    fn state(&self) -> DatabaseState {
        let fault = self.0.lock().fault.clone();
        let connected = (Integration::Connected, Timestamp::UNIX_EPOCH);
        let (integration, since) = fault.map_or(connected, |(state, since, _)| (state, since));
        DatabaseState {
            integration,
            since,
            last_error: None,
        }
    }

    fn of_session<'a>(
        &'a self,
        session: &'a str,
    ) -> BoxFuture<'a, Result<Option<Project>, DatabaseError>> {
        let mut state = self.0.lock();
        state.lookups += 1;
        let answer = match &state.fault {
            Some((.., error)) => Err(error.clone()),
            None => Ok(state.conversations.get(session).cloned()),
        };
        ready(answer).boxed()
    }

    fn get<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<Project>, DatabaseError>> {
        let state = self.0.lock();
        let mut all = state.conversations.values();
        let answer = match &state.fault {
            Some((.., error)) => Err(error.clone()),
            None => Ok(all.find(|project| project.id == id).cloned()),
        };
        ready(answer).boxed()
    }
}
