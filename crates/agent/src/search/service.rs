//! The gRPC service `Search`: validates requests and starts the searches. It decides
//! nothing else.

use std::io;
use std::sync::Arc;

use hutch_wire::limits::{MAX_PATTERN, MAX_SEARCH_MESSAGE};
use hutch_wire::v1 as wire;
use hutch_wire::v1::search_server::SearchServer;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::{Request, Response, Status};

use super::find::Find;
use super::grep::Grep;
use super::slices::{Outputs, stream};
use super::tree::Tree;
use crate::files::place::Home;
use crate::files::request::Wanted;

/// Most concurrent searches. That bounds their memory and leaves most workers to file
/// calls; further searches wait.
const MAX_SEARCHES: usize = 4;

#[derive(Debug)]
pub struct Search {
    home: Arc<Home>,
    searches: Arc<Semaphore>,
}

impl Search {
    /// Creates the service. Relative paths start at the agent's working directory.
    ///
    /// # Errors
    /// If this directory cannot be opened.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            home: Arc::new(Home::current()?),
            searches: Arc::new(Semaphore::new(MAX_SEARCHES)),
        })
    }

    /// Wraps the service for the gRPC server.
    pub fn server(self) -> SearchServer<Self> {
        SearchServer::new(self)
            .max_decoding_message_size(MAX_SEARCH_MESSAGE)
            .max_encoding_message_size(MAX_SEARCH_MESSAGE)
    }

    async fn permit(&self) -> Result<OwnedSemaphorePermit, Status> {
        let permit = Arc::clone(&self.searches).acquire_owned().await;
        permit.map_err(|_| Status::unavailable("the sandbox ends"))
    }
}

fn check(pattern: &str) -> Result<(), Status> {
    let size = pattern.len();
    if size > MAX_PATTERN {
        let text = format!("the pattern has {size} bytes, over {MAX_PATTERN}");
        return Err(Status::invalid_argument(text));
    }
    if pattern.contains('\0') {
        return Err(Status::invalid_argument("the pattern holds a NUL"));
    }
    Ok(())
}

#[tonic::async_trait]
impl wire::search_server::Search for Search {
    type GrepStream = Outputs<wire::SearchOutput>;
    type FindStream = Outputs<wire::SearchOutput>;
    type TreeStream = Outputs<wire::TreeOutput>;

    async fn grep(
        &self,
        request: Request<wire::GrepRequest>,
    ) -> Result<Response<Self::GrepStream>, Status> {
        let wire::GrepRequest {
            pattern,
            path,
            limit,
        } = request.into_inner();
        check(&pattern)?;
        let wanted = Wanted::check(path, "the path")?;
        let what = format!("search {}", wanted.shown());
        let home = Arc::clone(&self.home);
        let begin = move || Ok(Grep::new(&home, &pattern, &wanted, limit));
        let outputs = stream(begin, what, self.permit().await?).await?;
        Ok(Response::new(outputs))
    }

    async fn find(
        &self,
        request: Request<wire::FindRequest>,
    ) -> Result<Response<Self::FindStream>, Status> {
        let wire::FindRequest { name, path, limit } = request.into_inner();
        check(&name)?;
        let wanted = Wanted::check(path, "the path")?;
        let what = format!("search {}", wanted.shown());
        let home = Arc::clone(&self.home);
        let begin = move || Ok(Find::new(&home, &name, &wanted, limit));
        let outputs = stream(begin, what, self.permit().await?).await?;
        Ok(Response::new(outputs))
    }

    async fn tree(
        &self,
        request: Request<wire::TreeRequest>,
    ) -> Result<Response<Self::TreeStream>, Status> {
        let mut request = request.into_inner();
        let wanted = Wanted::check(request.path.take(), "the path")?;
        let what = format!("show the tree of {}", wanted.shown());
        let home = Arc::clone(&self.home);
        let begin = move || Tree::new(&home, &request, &wanted);
        let outputs = stream(begin, what, self.permit().await?).await?;
        Ok(Response::new(outputs))
    }
}
