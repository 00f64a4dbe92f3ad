//! Routes gRPC requests on one channel to services by request path.
//! It exists because tonic's own router would add a whole web framework to the binary
//! of every sandbox.

use std::convert::Infallible;
use std::task::{Context, Poll};

use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service, http};
use tonic::server::NamedService;

/// One named service and a fallback. The fallback may be another `PathRouter`.
#[derive(Debug, Clone)]
pub struct PathRouter<N, R> {
    /// Handles requests whose path names this service.
    pub named: N,
    /// Handles all other requests; rejects unknown paths.
    pub rest: R,
}

type Answer = BoxFuture<http::Response<Body>, Infallible>;

impl<N, R, B> Service<http::Request<B>> for PathRouter<N, R>
where
    N: NamedService + Service<http::Request<B>, Error = Infallible, Future = Answer>,
    R: Service<
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
        self.rest.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<B>) -> Answer {
        let service = request.uri().path().strip_prefix('/');
        let method = service.and_then(|path| path.strip_prefix(N::NAME));
        if method.is_some_and(|method| method.starts_with('/')) {
            self.named.call(request)
        } else {
            self.rest.call(request)
        }
    }
}
