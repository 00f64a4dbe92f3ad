//! The SQL statements. They name each column that they need and no other, because
//! the backend's tables may have more columns, or lack some.

use std::collections::HashMap;

use futures::FutureExt;
use futures::future::BoxFuture;
use sqlx::postgres::PgRow;
use sqlx::{Error, Row};

use super::Database;
use super::error::classify;
use hutch_core::interfaces::{DatabaseError, DatabaseState, Project, Projects};

/// `workdir_path` has no table prefix on purpose: if `projects` lacks the column,
/// the name resolves to that of `missing`, which is NULL.
const PROJECT: &str = "SELECT found.id, found.container_name, found.workdir_path \
     FROM (SELECT NULL::text AS workdir_path) AS missing, LATERAL \
     (SELECT p.id, p.container_name, workdir_path FROM projects AS p WHERE p.id = $1) AS found";
const OF_SESSION: &str = "SELECT found.id, found.container_name, found.workdir_path \
     FROM (SELECT NULL::text AS workdir_path) AS missing, LATERAL \
     (SELECT p.id, p.container_name, workdir_path FROM projects AS p \
     WHERE p.id = (SELECT s.project_id FROM sessions AS s WHERE s.id = $1)) AS found";
const CONTAINER: &str = "SELECT p.container_name FROM projects AS p WHERE p.id = $1";
/// A compare-and-set: it does not overwrite a change by another writer.
/// `updated_at` comes from the server's clock, which all writers share.
const REPLACE: &str = "UPDATE projects SET container_name = $3, \
     updated_at = (extract(epoch FROM clock_timestamp()) * 1000)::bigint \
     WHERE id = $1 AND container_name IS NOT DISTINCT FROM $2 RETURNING id";
const ALL_NAMED: &str =
    "SELECT p.id, p.container_name FROM projects AS p WHERE p.container_name <> ''";

impl Database {
    /// The `container_name` of a project's row. The outer `None` means that there
    /// is no such row, the inner one that the column is NULL.
    pub(super) async fn container(
        &self,
        project: &str,
    ) -> Result<Option<Option<String>>, DatabaseError> {
        let row = self.row(CONTAINER, project).await?;
        read(row.map(|row| row.try_get("container_name")).transpose())
    }

    /// Sets `container_name` if it still is `seen`. Returns false if it is not, or
    /// if there is no such row.
    pub(super) async fn replace(
        &self,
        project: &str,
        seen: Option<&str>,
        name: Option<&str>,
    ) -> Result<bool, DatabaseError> {
        let rows = self.rows(REPLACE, &[Some(project), seen, name]).await?;
        Ok(!rows.is_empty())
    }

    /// The `container_name` by project id, of all projects that have one.
    pub(super) async fn named(&self) -> Result<HashMap<String, String>, DatabaseError> {
        let rows = self.rows(ALL_NAMED, &[]).await?;
        let pairs = rows
            .iter()
            .map(|row| Ok((row.try_get("id")?, row.try_get("container_name")?)));
        read(pairs.collect())
    }

    async fn project(
        &self,
        statement: &'static str,
        id: &str,
    ) -> Result<Option<Project>, DatabaseError> {
        let row = self.row(statement, id).await?;
        read(row.as_ref().map(project).transpose())
    }

    async fn row(&self, statement: &'static str, id: &str) -> Result<Option<PgRow>, DatabaseError> {
        // A text of PostgreSQL contains no NUL, so no row has such an id.
        if id.contains('\0') {
            return Ok(None);
        }
        Ok(self.rows(statement, &[Some(id)]).await?.pop())
    }
}

impl Projects for Database {
    fn state(&self) -> DatabaseState {
        self.circuit.state()
    }

    fn of_session<'a>(
        &'a self,
        session: &'a str,
    ) -> BoxFuture<'a, Result<Option<Project>, DatabaseError>> {
        self.project(OF_SESSION, session).boxed()
    }

    fn get<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<Project>, DatabaseError>> {
        self.project(PROJECT, id).boxed()
    }
}

fn project(row: &PgRow) -> Result<Project, Error> {
    let text = |column: &str| {
        let text: Option<String> = row.try_get(column)?;
        Ok::<_, Error>(text.filter(|text| !text.is_empty()))
    };
    Ok(Project {
        id: row.try_get("id")?,
        container_name: text("container_name")?,
        workdir_path: text("workdir_path")?,
    })
}

fn read<T>(result: Result<T, Error>) -> Result<T, DatabaseError> {
    result.map_err(|error| classify(&error))
}
