//! The calls into a sandbox that toolchains need.

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;

use super::Work;
use crate::toolchains::Runner;
use crate::{Place, ServiceError};
use hutch_core::exec::{ExecOutcome, ExecRequest};
use hutch_core::search::Tree;

impl Runner for Work {
    fn exec<'a>(
        &'a self,
        place: &'a Place,
        request: ExecRequest,
    ) -> BoxFuture<'a, Result<ExecOutcome, ServiceError>> {
        self.exec(&place.target, request).boxed()
    }

    fn read<'a>(
        &'a self,
        place: &'a Place,
        path: &'a str,
        limit: u64,
    ) -> BoxFuture<'a, Result<Bytes, ServiceError>> {
        let path = place.path(path);
        self.read_within(&place.target, path, limit).boxed()
    }

    fn write<'a>(
        &'a self,
        place: &'a Place,
        path: &'a str,
        content: Bytes,
    ) -> BoxFuture<'a, Result<(), ServiceError>> {
        let path = place.path(path);
        let write = async move { self.write_file(&place.target, path, &content).await };
        write.boxed()
    }

    fn delete<'a>(
        &'a self,
        place: &'a Place,
        path: &'a str,
    ) -> BoxFuture<'a, Result<(), ServiceError>> {
        self.delete_file(&place.target, place.path(path)).boxed()
    }

    fn exists<'a>(
        &'a self,
        place: &'a Place,
        path: &'a str,
    ) -> BoxFuture<'a, Result<bool, ServiceError>> {
        self.path_exists(&place.target, place.path(path)).boxed()
    }

    fn names<'a>(&'a self, place: &'a Place) -> BoxFuture<'a, Result<Tree, ServiceError>> {
        self.names(place).boxed()
    }
}
