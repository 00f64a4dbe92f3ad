//! The gRPC service `Files`: validates requests, runs the work on the workers and turns
//! errors into statuses. It decides nothing else.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use hutch_wire::limits::MAX_FILE_MESSAGE;
use hutch_wire::v1 as wire;
use hutch_wire::v1::files_server::FilesServer;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::{Request, Response, Status, Streaming};

use super::error::FileError;
use super::place::Home;
use super::request::Wanted;
use super::worker::work;
use super::{change, look, read, write};

/// Longest time in which a client neither reads nor writes during a call. The memory
/// that it uses is limited and other calls may wait for it.
pub const CLIENT_STALL_TIMEOUT: Duration = Duration::from_secs(60);
/// Most concurrent streams, which bounds their memory; further calls wait.
const MAX_STREAMS: usize = 64;

#[derive(Debug)]
pub struct Files {
    home: Arc<Home>,
    streams: Arc<Semaphore>,
}

impl Files {
    /// Creates the service. Relative paths start at the agent's working directory.
    ///
    /// # Errors
    /// If this directory cannot be opened.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            home: Arc::new(Home::current()?),
            streams: Arc::new(Semaphore::new(MAX_STREAMS)),
        })
    }

    /// Wraps the service for the gRPC server.
    pub fn server(self) -> FilesServer<Self> {
        FilesServer::new(self)
            .max_decoding_message_size(MAX_FILE_MESSAGE)
            .max_encoding_message_size(MAX_FILE_MESSAGE)
    }

    async fn permit(&self) -> Result<OwnedSemaphorePermit, Status> {
        let permit = Arc::clone(&self.streams).acquire_owned().await;
        permit.map_err(|_| Status::unavailable("the sandbox ends"))
    }

    async fn at<T: Send + 'static>(
        &self,
        verb: &str,
        path: Option<wire::Path>,
        job: impl FnOnce(&Home, &Wanted) -> Result<T, FileError> + Send + 'static,
    ) -> Result<Response<T>, Status> {
        let wanted = Wanted::check(path, "the path")?;
        let what = format!("{verb} {}", wanted.shown());
        let home = Arc::clone(&self.home);
        let done = work(move || job(&home, &wanted)).await;
        done.map(Response::new)
            .map_err(|trouble| trouble.status(&what))
    }
}

#[tonic::async_trait]
impl wire::files_server::Files for Files {
    type ReadFileStream = read::Outputs;
    type ListStream = look::Outputs;

    async fn read_file(
        &self,
        request: Request<wire::ReadRequest>,
    ) -> Result<Response<read::Outputs>, Status> {
        let permit = self.permit().await?;
        let outputs = read::stream(&self.home, request.into_inner(), permit).await?;
        Ok(Response::new(outputs))
    }

    async fn write_file(
        &self,
        request: Request<Streaming<wire::WriteInput>>,
    ) -> Result<Response<wire::WriteReply>, Status> {
        let _permit = self.permit().await?;
        let reply = write::write(&self.home, request.into_inner()).await?;
        Ok(Response::new(reply))
    }

    async fn make_folder(
        &self,
        request: Request<wire::MakeFolderRequest>,
    ) -> Result<Response<wire::MakeFolderReply>, Status> {
        let wire::MakeFolderRequest { path, recursive } = request.into_inner();
        self.at("make the directory", path, move |home, wanted| {
            let created = change::make_directory(home, wanted, recursive)?;
            Ok(wire::MakeFolderReply { created })
        })
        .await
    }

    async fn rename(
        &self,
        request: Request<wire::RenameRequest>,
    ) -> Result<Response<wire::RenameReply>, Status> {
        let wire::RenameRequest { from, to } = request.into_inner();
        let from = Wanted::check(from, "the old path")?;
        let to = Wanted::check(to, "the new path")?;
        let what = format!("rename {} to {}", from.shown(), to.shown());
        let home = Arc::clone(&self.home);
        work(move || change::rename(&home, &from, &to))
            .await
            .map(|()| Response::new(wire::RenameReply {}))
            .map_err(|trouble| trouble.status(&what))
    }

    async fn delete(
        &self,
        request: Request<wire::DeleteRequest>,
    ) -> Result<Response<wire::DeleteReply>, Status> {
        self.at("delete", request.into_inner().path, |home, wanted| {
            change::delete(home, wanted)?;
            Ok(wire::DeleteReply {})
        })
        .await
    }

    async fn stat(
        &self,
        request: Request<wire::StatRequest>,
    ) -> Result<Response<wire::StatReply>, Status> {
        self.at("look at", request.into_inner().path, look::stat)
            .await
    }

    async fn list(
        &self,
        request: Request<wire::ListRequest>,
    ) -> Result<Response<look::Outputs>, Status> {
        let permit = self.permit().await?;
        let outputs = look::list(&self.home, request.into_inner(), permit).await?;
        Ok(Response::new(outputs))
    }
}
