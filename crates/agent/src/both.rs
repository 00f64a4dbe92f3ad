//! Two gRPC services on one channel, told apart by the path of a request.
//! tonic's own router would bring a whole web framework into every sandbox.

use std::convert::Infallible;
use std::task::{Context, Poll};

use hutch_wire::v1::files_server;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service, http};

/// The files' service, and the one for all else.
#[derive(Debug, Clone)]
pub struct Both<F, A> {
    /// Gets the requests of the files' service.
    pub files: F,
    /// Gets all others, and refuses what it does not know.
    pub agent: A,
}

type Answer = BoxFuture<http::Response<Body>, Infallible>;

impl<F, A, B> Service<http::Request<B>> for Both<F, A>
where
    F: Service<http::Request<B>, Error = Infallible, Future = Answer>,
    A: Service<
            http::Request<B>,
            Response = http::Response<Body>,
            Error = Infallible,
            Future = Answer,
        >,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // Generated services are always ready.
        self.agent.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<B>) -> Answer {
        let service = request.uri().path().strip_prefix('/');
        let method = service.and_then(|path| path.strip_prefix(files_server::SERVICE_NAME));
        if method.is_some_and(|method| method.starts_with('/')) {
            self.files.call(request)
        } else {
            self.agent.call(request)
        }
    }
}
